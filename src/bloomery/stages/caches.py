"""What a plan says of episodic caches (evaluate/caches.py): a table's own, or those that a suite gives to any model.

Their weights are found on a part of their own, which nothing is fitted on and no suite judges: `tune_on`, or of the set
that is judged the first of its splits dev, val and tune that is not the judged one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from bloomery.plan.schema import Frozen

TUNING_SPLITS = ("dev", "val", "tune")


class Caches(Frozen):
    """What the document itself has said lately, beside what the model knows."""

    windows: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(500, 5000), min_length=1, max_length=3)
    """In tokens: how far back each group of caches looks."""
    longest_history: int = Field(default=3, ge=0, le=6)
    """A window has one cache for each history of 0 to so many tokens."""


class Cacheable(Frozen):
    """Settings of a suite that can give episodic caches to whom it judges."""

    data: str
    """A part of the data: `corpus:val`."""
    caches: bool | Caches = False
    """Judge every model with episodic caches beside it: `true` for two windows of 500 and 5000 tokens. A table that has
    caches of its own keeps those."""
    tune_on: str | None = None
    """The part that the weights of caches are found on; without it the first of the judged set's splits dev, val and
    tune that is not judged."""

    @model_validator(mode="after")
    def _tunes_caches(self) -> Self:
        if self.tune_on is not None and self.caches is False:
            raise ValueError("`tune_on` with nothing to find: caches: true")
        return self

    @property
    def wanted(self) -> Caches | None:
        return self.caches if isinstance(self.caches, Caches) else Caches() if self.caches else None

    def tuned_on(self, splits: Mapping[str, Sequence[str] | None]) -> str | None:
        """The part, of a data set's known splits; None where there is none, or without caches."""
        if self.caches is False or self.tune_on is not None:
            return self.tune_on
        name, _, judged = self.data.partition(":")
        others = [split for split in splits.get(name) or () if split != (judged or "train")]
        return next((f"{name}:{split}" for split in TUNING_SPLITS if split in others), None)
