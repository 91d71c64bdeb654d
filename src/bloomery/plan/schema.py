"""What a plan can say, as frozen models. The grammar is docs/plan.md; this file is its shape, `check` its sense.

It refuses unknown keys everywhere. What stands under a stage's `config`, and under `data`, `suites` and `baselines`
beyond `kind`, belongs to the kind that is named: there the grammar ends, and the kind's own typed settings begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag

from bloomery.plan.units import Bytes, Count, Money, Quantity, Ratio, Seconds, Share, Tokens

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=64)]
Settings = Mapping[str, Any]
Patch = Mapping[str, Any]
"""{dotted path: value}: keys of a stage's config, or `stages.ID.config.KEY` and `stages.ID.seeds` for any stage."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(Frozen):
    """`metric op value`, of whom, relative to whom, over seeds and items."""

    metric: str
    op: Literal["<", "<=", ">", ">=", "==", "!="]
    value: Quantity
    of: str = "candidate"
    relative_to: str | None = None
    as_: Literal["ratio", "difference"] = Field(default="ratio", alias="as")
    aggregate: Literal["mean", "worst"] = "mean"
    confidence: Share | None = None
    """The one-sided bound at this level must clear the value."""
    after: Share | None = None
    """In `stop_if`: the share of the stage after which the condition is looked at."""


class AnyOf(Frozen):
    """At least one of the conditions must pass; their confidence is divided among them."""

    any: tuple[Condition, ...] = Field(min_length=1)


def _condition_or_any(value: Any) -> str:
    return "any" if isinstance(value, AnyOf) or (isinstance(value, Mapping) and "any" in value) else "condition"


Gate = tuple[
    Annotated[Annotated[Condition, Tag("condition")] | Annotated[AnyOf, Tag("any")], Discriminator(_condition_or_any)],
    ...,
]


class Rule(Frozen):
    """A prescription: when it applies, and either a patch (a retry), or `then: stop`, or `then: go_on`."""

    name: str
    because: str
    verdict: tuple[Literal["fail", "inconclusive", "missing"], ...] = ("fail", "inconclusive", "missing")
    when: Gate = ()
    set: Patch = Field(default_factory=dict)
    from_: Literal["start", "checkpoint"] = Field(default="start", alias="from")
    max_attempts: StrictInt = Field(default=1, ge=1)
    """How often this rule may be used; more than 1 only from a checkpoint."""
    then: Literal["stop", "go_on"] | None = None


class Arm(Frozen):
    """A variant of a stage."""

    set: Patch = Field(default_factory=dict)
    needs: Mapping[str, str] = Field(default_factory=dict)


class Select(Frozen):
    """Which metric an arm's best value is chosen by. Exactly one of the two."""

    lowest: str | None = None
    highest: str | None = None


class Budget(Frozen):
    """Caps. The engine stops at a checkpoint when one is reached."""

    wall: Seconds | None = None
    tokens: Tokens | None = None
    flops: Count | None = None
    memory: Bytes | None = None
    disk: Bytes | None = None
    money: Money | None = None


class Control(Frozen):
    """The dense twin, solved to match the candidate and trained on the same tokens."""

    twin: str = "dense"
    match: Literal["stored", "active", "flops", "bytes"] = "stored"
    tolerance: Share = 0.02
    set: Patch = Field(default_factory=dict)


class StageSpec(Frozen):
    id: Name
    kind: str | None = None
    config: Settings = Field(default_factory=dict)
    needs: Mapping[str, str] = Field(default_factory=dict)
    arms: Mapping[str, Arm] = Field(default_factory=dict)
    candidate: str | None = None
    sweep: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    select: Select | None = None
    control: Arm | None = None
    evaluate: tuple[str, ...] = ()
    gate: Gate = ()
    on_fail: tuple[Rule, ...] = ()
    stop_if: tuple[Condition, ...] = ()
    optional: StrictBool = False
    repeat: StrictInt | None = Field(default=None, ge=1)
    stages: tuple[StageSpec, ...] = ()
    seeds: tuple[StrictInt, ...] | None = None
    budget: Budget = Budget()


class Suite(Frozen):
    """An evaluation, declared once. Keys beyond these are the suite kind's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    data: str | None = None
    items: StrictInt | None = Field(default=None, ge=1)
    through: tuple[str, ...] = ()


class Baseline(Frozen):
    """A rival fitted on exactly the tokens that the judged model has seen."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str


class Input(Frozen):
    """A foreign artifact, adopted with its digest: exactly one of file, folder, hub, run."""

    file: str | None = None
    folder: str | None = None
    hub: str | None = None
    run: str | None = None
    digest: str | None = None


class Claim(Frozen):
    id: Name
    says: str
    source: str
    gate: Gate
    valid_if: Gate = ()


class Plan(Frozen):
    """A whole plan, resolved: `extends` and `set` are already applied when this is built by load.py."""

    bloomery: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*(/[a-z0-9_][a-z0-9_-]*)*$", max_length=100)]
    system: str = "dense"
    hypothesis: str | None = None
    variable: str | None = None
    extends: str | None = None
    set: Patch = Field(default_factory=dict)
    fraction: Ratio | None = None
    seeds: tuple[StrictInt, ...] = (0,)
    budget: Budget = Budget()
    control: Control | None = None
    baselines: Mapping[str, Baseline] = Field(default_factory=dict)
    inputs: Mapping[str, Input] = Field(default_factory=dict)
    data: Settings = Field(default_factory=dict)
    suites: Mapping[str, Suite] = Field(default_factory=dict)
    stages: tuple[StageSpec, ...]
    claims: tuple[Claim, ...] = ()

    def stage(self, stage_id: str) -> StageSpec:
        for stage in self.stages:
            if stage.id == stage_id:
                return stage
        raise KeyError(stage_id)
