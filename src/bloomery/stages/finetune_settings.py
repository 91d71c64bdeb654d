"""The settings of finetune beside those of every gradient stage. Typed; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bloomery.plan.schema import Frozen
from bloomery.plan.units import Count, Share
from bloomery.stages.settings import Init, TrainedInitSettings, Training, Validation


class TuningValidation(Validation):
    examples: int = Field(default=40, ge=1)
    """Of a part of prompts and responses: at most this many of each category, evenly spread, in place of `documents`.
    """


class Balance(Frozen):
    """A rule on what is learned, looked at before training begins: a category that breaks it is refused by name."""

    at_most: Share = 0.3
    """The largest share of the examples that a category may have."""
    at_least: Share = 0.03
    """The smallest."""
    examples: int = Field(default=20, ge=1)
    """The fewest examples of a category."""


class Formats(Frozen):
    """Examples of the first part of `data` once more in other forms, read as a part of it."""

    multiple_choice: Count = Field(default=0, ge=0)
    """How many lettered questions, as MMLU asks them."""
    function_body: Count = Field(default=0, ge=0)
    """How many functions to be completed, as HumanEval asks them."""


class Topup(Frozen):
    """Further examples for a category that falls behind, of the first part of `data`. Of a set with `source: gauntlet`
    they are made anew, of its train split; of any other the category's own are read once more."""

    loss_over_mean: float = Field(default=2.0, gt=1)
    """At a look: a category falls behind whose loss is more than this many times the mean of the categories'."""
    below: Share = 0.0
    """At the start, in an attempt `from: checkpoint`: one whose accuracy the attempt before measured below this."""
    add: Count = Field(default=200, ge=1)
    """How many examples it then gets; no more than `balance` allows."""


class Settings(Training):
    """Those of every gradient stage, and these; there is no `model` among them. A name under `data` may be that of an
    input whose examples another stage made."""

    packing: Literal["stream", "documents"] = "documents"
    """documents: whole ones side by side that do not see each other. stream: sequences run across documents."""
    validation: TuningValidation = TuningValidation()  # pyright: ignore[reportIncompatibleVariableOverride]  # frozen
    """Below."""
    freeze: tuple[str, ...] = ()
    """Parameters that stay as they came in: groups (`embedding`, `norm`, ...) or patterns of names (`blocks.0.*`)."""
    init: TrainedInitSettings = Init()
    """What is done to the weights that came in before training begins, where nothing comes in as `state`. random:
    nothing. Others are brought by systems."""
    balance: Balance | None = None
    """Below; without it nothing is asked of categories."""
    formats: Formats = Formats()
    """Below."""
    topup: Topup | None = None
    """Below; without it nothing is added."""
