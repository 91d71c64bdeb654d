"""From logits to one token, by the rules of one request.

    repetition penalty, then temperature, then top-k, then top-p, then min-p, then a draw

Repetition penalty r (Keskar et al. 2019): logits of tokens that already stand there are divided by r where positive,
multiplied by it elsewhere; the end_of_document that opens every text is no repetition. Temperature 0 takes the
likeliest token and draws nothing. top-k keeps the k likeliest; top-p the smallest set of those whose share of what is
left reaches p (Holtzman et al. 2020); min-p those at least p times as likely as the likeliest (Nguyen et al. 2024).
Of equal tokens the lower id comes first.

Log-probabilities that are reported are the model's own, before penalty, temperature and every limit.

Refuses settings that mean nothing, and logits that are not numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bloomery.errors import TrainingError

SEEDS = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What one request asks for."""

    max_tokens: int = 100
    temperature: float = 0.8
    top_k: int = 0
    """0: all."""
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these, and no part of it is shown."""
    seed: int = 0
    max_whitespace: int | None = 64
    """Characters of white space in a row; None: any."""
    logprobs: int | None = None
    """None: none. k: of every token, and of the k likeliest beside it."""

    def __post_init__(self) -> None:
        """Raises TrainingError for settings that mean nothing."""
        least_whitespace = self.max_whitespace is None or self.max_whitespace >= 1
        if (
            self.max_tokens < 1
            or not 0 <= self.temperature < float("inf")
            or not 0 < self.top_p <= 1
            or self.top_k < 0
            or not 0 <= self.min_p <= 1
            or not 0 < self.repetition_penalty < float("inf")
            or not least_whitespace
        ):
            raise TrainingError(
                "generate",
                f"max_tokens {self.max_tokens}, temperature {self.temperature}, top_k {self.top_k}, "
                f"top_p {self.top_p}, min_p {self.min_p}, repetition_penalty {self.repetition_penalty}, "
                f"max_whitespace {self.max_whitespace}",
                "at least one token, a temperature of 0 or more, a top_k of 0 (all) or more, a top_p of more than 0 "
                "and at most 1, a min_p of 0 to 1, a penalty of more than 0, one character of white space or more",
            )
        if not all(self.stop) or not SEEDS[0] <= self.seed <= SEEDS[1]:
            found = f"stop {list(self.stop)!r}, seed {self.seed}"
            raise TrainingError("generate", found, "stop strings that are not empty, a seed of 64 bits")


def penalise(logits: Float[Tensor, " v"], seen: Bool[Tensor, " v"], penalty: float) -> Float[Tensor, " v"]:
    """Make what is `seen` less likely (penalty > 1) or more (< 1)."""
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, changed, logits)


def choose(
    logits: Float[Tensor, " v"],
    *,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> int:
    """One token id. Equal logits go to the lower id when temperature is 0. Raises TrainingError for NaN."""
    best = logits.max()
    if not torch.isfinite(best):
        raise TrainingError("generate", "the model's logits are not numbers", "finite logits", "it may have diverged")
    if temperature == 0:
        return int(torch.argmax(logits))
    # The largest is subtracted first: divided by a tiny temperature it would be infinite.
    probabilities = torch.softmax((logits.double() - best.double()) / temperature, dim=0)
    probabilities, order = probabilities.sort(descending=True, stable=True)
    if top_k:
        probabilities[top_k:] = 0.0
        probabilities /= probabilities.sum()
    before = probabilities.cumsum(0) - probabilities
    probabilities[before >= top_p] = 0.0
    if min_p:
        probabilities[probabilities < min_p * probabilities[0]] = 0.0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])
