"""How likely a model finds a continuation of a context: what every choice between answers rests on.

    full = (context + continuation)[-(window + 1):];  feed full[:-1];  read the last len(continuation) positions

So a context that is too long loses its beginning, never its end (lm-evaluation-harness 0.4, HFLM). An empty context is
for the caller to fill, with end_of_document. Log-probabilities are natural, float32 or better, summed in float64.

Refuses an empty continuation or context, and a continuation that does not fit into the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.errors import DataError
from bloomery.model.interface import LanguageModel, Scorer


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids: what stands there, and what might follow."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one request."""

    logprob: float
    """Natural log-probability of the whole continuation."""
    greedy: bool
    """Whether each of its tokens was the likeliest."""


def fed(request: Request, window: int) -> list[int]:
    """The input tokens, and one target more at the end. Raises DataError for what cannot be scored."""
    wanted = len(request.continuation)
    if not wanted or not request.context or wanted > window:
        raise DataError(
            "a request",
            f"{len(request.context)} context and {wanted} continuation tokens",
            f"at least one of each, and at most {window} of the continuation",
        )
    return list((*request.context, *request.continuation)[-(window + 1) :])


def score(
    scorer: LanguageModel | Scorer, requests: Sequence[Request], *, window: int, device: str = "cpu"
) -> list[Score]:
    """One forward pass for every request: slow and obvious."""
    found: list[Score] = []
    with torch.inference_mode():
        for request in requests:
            tokens = fed(request, window)
            wanted = len(request.continuation)
            logprobs = _logprobs(scorer, torch.tensor([tokens[:-1]], device=device))[0, -wanted:]
            targets = torch.tensor(tokens[-wanted:], device=logprobs.device)
            each = logprobs.gather(1, targets[:, None]).double().sum()
            found.append(Score(float(each), bool((logprobs.argmax(1) == targets).all())))
    return found


def _logprobs(scorer: LanguageModel | Scorer, tokens: Int[Tensor, "1 t"]) -> Float[Tensor, "1 t v"]:
    if not isinstance(scorer, LanguageModel):
        return scorer.logprobs(tokens)
    logits = scorer.eval()(tokens).logits
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
