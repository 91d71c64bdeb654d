"""How sure a member was of what it wrote, and what follows from it.

    confidence = exp(mean of ln p(token)) = the geometric mean of the probabilities of the tokens that it chose,

the end_of_document with which it stopped included, each under the member's own distribution: before temperature, top-k,
top-p, min-p and repetition penalty. It lies between 0 and 1. It is the inverse of the perplexity that the member has
of its own answer, and no probability of being right; members with other tokenizers have other scales, so thresholds
belong to members. A whole answer is judged by all of its tokens; a stream by its first `hold` (or all, if it is
shorter), because what was sent cannot be taken back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["wait", "take", "fall"]


@dataclass(slots=True)
class Confidence:
    """Of one answer so far."""

    tokens: int = 0
    total: float = 0.0
    """Sum of natural log-probabilities."""

    def add(self, logprob: float) -> None:
        self.tokens += 1
        self.total += logprob

    @property
    def value(self) -> float:
        """0 where nothing was chosen yet."""
        return math.exp(self.total / self.tokens) if self.tokens else 0.0

    def verdict(self, threshold: float, *, ended: bool, hold: int | None) -> Verdict:
        """hold: tokens by which a stream is judged; None: a whole answer."""
        if not ended and (hold is None or self.tokens < hold):
            return "wait"
        return "take" if self.value >= threshold else "fall"
