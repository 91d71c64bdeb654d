"""What a plan can say, as frozen models. The grammar is docs/plan.md; this file is its shape, `check` its sense.

It refuses unknown keys everywhere. What stands under a stage's `config`, and under `data`, `suites` and `baselines`
beyond `kind`, belongs to the kind that is named: there the grammar ends, and the kind's own typed settings begin.
The text below each field is its documentation: docs/plan.md and the editor schema are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, StrictBool, StrictInt, Tag

from bloomery.plan.units import Bytes, Count, Money, Quantity, Ratio, Seconds, Share, Tokens

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=64)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Settings = Mapping[str, Any]
Patch = Mapping[str, Any]
"""{dotted path: value}: keys of a stage's config, or `stages.ID.config.KEY` and `stages.ID.seeds` for any stage."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(Frozen):
    """`metric op value`, of whom, relative to whom, over seeds and items."""

    metric: str
    """`SOURCE[/PART...]/QUANTITY`, for example `text/loss`; `*` is any one segment, and each match must pass."""
    op: Literal["<", "<=", ">", ">=", "==", "!="]
    """How the value is compared. Inside braces it is quoted."""
    value: Quantity
    """A number, with or without a unit: `1.02`, `35%`, `600 MiB`."""
    of: str = "candidate"
    """Whose: `candidate`, `control`, `arm:X`; in claims `stage:ID` or `stage:ID@ARM`."""
    relative_to: str | None = None
    """`control`, `baseline:X`, `arm:X`, `stage:ID` (what that stage handed on); `*` is every baseline or other arm."""
    as_: Literal["ratio", "difference"] = Field(default="ratio", alias="as")
    """With `relative_to`: divided by the reference, or minus it."""
    aggregate: Literal["mean", "worst"] = "mean"
    """Over seeds: their mean (paired if relative), or the worst one."""
    confidence: Share | None = None
    """The one-sided bound at this level must clear the value."""
    after: Share | None = None
    """In `stop_if`: the share of the stage after which the condition is looked at."""


class AnyOf(Frozen):
    """At least one of the conditions must pass; their confidence is divided among them."""

    any: tuple[Condition, ...] = Field(min_length=1)
    """The alternatives."""


def _condition_or_any(value: Any) -> str:
    return "any" if isinstance(value, AnyOf) or (isinstance(value, Mapping) and "any" in value) else "condition"


Gate = tuple[
    Annotated[Annotated[Condition, Tag("condition")] | Annotated[AnyOf, Tag("any")], Discriminator(_condition_or_any)],
    ...,
]


class Rule(Frozen):
    """A prescription: when it applies, and either a patch (a retry), or `then: stop`, or `then: go_on`."""

    name: str
    """What it is called in decisions and reports; once in a stage."""
    because: str
    """Why it should help; shown beside what it did."""
    verdict: tuple[Literal["fail", "inconclusive", "missing"], ...] = ("fail", "inconclusive", "missing")
    """The verdicts it answers to."""
    when: Gate = ()
    """All must hold; an empty list always does."""
    set: Patch = Field(default_factory=dict)
    """`{path: value}`: keys of this stage's config, `stages.ID.config.KEY` or `stages.ID.seeds`."""
    from_: Literal["start", "checkpoint"] = Field(default="start", alias="from")
    """Where the next attempt begins: anew, or where the last one ended."""
    max_attempts: StrictInt = Field(default=1, ge=1)
    """How often this rule may be used; more than 1 only from a checkpoint."""
    then: Literal["stop", "go_on"] | None = None
    """Instead of `set`: end the plan, or hand the result on though the gate stays failed."""


class Arm(Frozen):
    """A variant of a stage, or its own control."""

    set: Patch = Field(default_factory=dict)
    """What is different: `{path of this stage's config: value}`."""
    needs: Mapping[str, str] = Field(default_factory=dict)
    """Inputs that are different."""


class Select(Frozen):
    """Which metric the best value is chosen by. Exactly one of the two."""

    lowest: str | None = None
    """A metric whose lowest value wins."""
    highest: str | None = None
    """A metric whose highest value wins."""


class Budget(Frozen):
    """Caps. The engine stops at a checkpoint when one is reached."""

    wall: Seconds | None = None
    """Running time: `8 min`."""
    tokens: Tokens | None = None
    """Tokens trained on, all cells together: `30M tok`."""
    flops: Count | None = None
    """Floating-point operations: `1e18`."""
    memory: Bytes | None = None
    """Peak of the process on the host: `4 GiB`. What lies on a GPU is not in it."""
    disk: Bytes | None = None
    """Size of the run folder: `8 GiB`. Prepared data lies beside it."""
    money: Money | None = None
    """`2 USD`. Refused on a device that has no price."""


class Control(Frozen):
    """The dense twin, solved to match the candidate and trained on the same tokens."""

    twin: Literal["dense"] = "dense"
    """The architecture of the twin."""
    match: Literal["stored", "active", "flops", "bytes"] = "stored"
    """What the twin has as much of."""
    tolerance: Share = 0.02
    """How far it may be off."""
    set: Patch = Field(default_factory=dict)
    """What is different in its stages' config: `{optimizer.lr: 0.06}`. Never tokens or data."""


class Cycle(Frozen):
    """The place of a stage of an unrolled loop: cycle `number` (from 1) of `loop`, and its id inside."""

    loop: str
    number: int
    stage: str
    last: bool
    """Whether it is the last stage of its cycle."""


class StageSpec(Frozen):
    """One stage. Its kind does the work; its gate judges it; its rules answer a failed gate."""

    id: Name
    """Its name in references, paths and folders."""
    kind: str | None = None
    """A generic kind (`pretrain`) or `system/kind`."""
    config: Settings = Field(default_factory=dict)
    """The kind's own settings; here the grammar ends."""
    needs: Mapping[str, str] = Field(default_factory=dict)
    """`{input: REF}`: `STAGE`, `STAGE.OUTPUT`, `STAGE@ARM`, `inputs.NAME`; `STAGE.passed` exists only if it passed."""
    arms: Mapping[Name, Arm] = Field(default_factory=dict)
    """Variants of this stage."""
    candidate: str | None = None
    """The arm that is judged and handed on, or `best` by `select`; by default the first."""
    sweep: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    """`{path: [values]}`: every arm and the control find their own best value, on the first seed."""
    select: Select | None = None
    """How the best value, or the best arm, is chosen."""
    control: Arm | None = None
    """This stage with these changes as control, instead of the twin."""
    evaluate: tuple[str, ...] = ()
    """Further suites, for the report; those that a condition names run anyway."""
    gate: Gate = ()
    """All must pass."""
    on_fail: tuple[Rule, ...] = ()
    """Remedies in order: the first that applies and is not used up."""
    stop_if: tuple[Condition, ...] = ()
    """Looked at on each evaluation inside the stage; one that holds ends the attempt as failed."""
    optional: StrictBool = False
    """Failing is not the end but *not promoted*: the inputs are handed on under the same names."""
    repeat: StrictInt | None = Field(default=None, ge=1)
    """At most so many cycles of `stages`."""
    stages: tuple[StageSpec, ...] = ()
    """The stages of a cycle."""
    seeds: tuple[StrictInt, ...] | None = Field(default=None, min_length=1)
    """Replicates of this stage, instead of the plan's."""
    budget: Budget = Budget()
    """Caps of this stage alone."""
    _cycle: Cycle | None = PrivateAttr(default=None)

    @property
    def cycle(self) -> Cycle | None:
        """Where it stands in an unrolled loop. No plan can say it: plan.unroll does."""
        return self._cycle

    @property
    def written_id(self) -> str:
        """Its id as the plan's author wrote it."""
        return self._cycle.stage if self._cycle is not None else self.id

    def in_cycle(self, cycle: Cycle) -> StageSpec:
        copy = self.model_copy()
        copy._cycle = cycle
        return copy


class Suite(Frozen):
    """An evaluation, declared once. Keys beyond these are the suite kind's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    """A generic kind (`perplexity`) or `system/kind`."""
    data: str | None = None
    """The part of data it judges on: `corpus:val`."""
    items: StrictInt | None = Field(default=None, ge=1)
    """How many items, per category."""
    through: tuple[str, ...] = ()
    """Codecs that the model is packed with first."""

    @property
    def judged(self) -> Mapping[str, str]:
        """{key: part of data} of all that it judges: `data`, and what a kind with two parts calls them."""
        named = {"data": self.data, **{key: (self.model_extra or {}).get(key) for key in ("block", "allow")}}
        return {key: part for key, part in named.items() if isinstance(part, str)}


class Baseline(Frozen):
    """A rival fitted on exactly the tokens that the judged model has seen. Further keys are its kind's settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    """A generic kind (`ngram`) or `system/kind`."""


class Input(Frozen):
    """A foreign artifact, adopted with its digest: exactly one of file, folder, hub, run."""

    file: str | None = None
    """A file, relative to the plan."""
    folder: str | None = None
    """A folder, relative to the plan."""
    hub: str | None = None
    """A model of the Hugging Face hub."""
    run: str | None = None
    """An output of an earlier run."""
    digest: Digest | None = None
    """sha256 that it must have."""


class Claim(Frozen):
    """A statement that the report answers with supported, refuted or undecided. It decides nothing in the plan."""

    id: Name
    """Its name in the report."""
    says: str
    """The statement, in words."""
    source: str
    """Where it was made."""
    rows: tuple[str, ...] = ()
    """Rows of the claims ledger that it settles: `H-12`."""
    gate: Gate
    """What must pass for it to be supported."""
    valid_if: Gate = ()
    """What must pass for it to be decided at all."""


class Plan(Frozen):
    """A whole plan, resolved: `extends` and `set` are already applied when this is built by load.py."""

    bloomery: Literal[1]
    """The version of this grammar: 1."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*(/[a-z0-9_][a-z0-9_-]*)*$", max_length=100)]
    """Its identity, and its folder under runs/: `harmonic/quickstart`."""
    system: str = "dense"
    """What builds models unless a stage says otherwise."""
    hypothesis: str | None = None
    """What is claimed. A plan without one is exploratory."""
    variable: str | None = None
    """What is varied, everything else equal."""
    extends: str | None = None
    """Another plan, by file or name, as the start: keys given here replace its keys whole."""
    set: Patch = Field(default_factory=dict)
    """`{path: value}`: changes single values of the plan, `stages.ID.config.KEY` among them."""
    fraction: Ratio | None = None
    """Multiplies every quantity written in `tok`: `1/1000` is a rehearsal."""
    seeds: tuple[StrictInt, ...] = Field(default=(0,), min_length=1)
    """Replicates."""
    budget: Budget = Budget()
    """Caps of the whole run."""
    control: Control | None = None
    """The solved twin; it runs wherever a condition says `control`, and in the stages before that one."""
    baselines: Mapping[Name, Baseline] = Field(default_factory=dict)
    """Rivals by name."""
    inputs: Mapping[Name, Input] = Field(default_factory=dict)
    """Foreign artifacts by name."""
    data: Settings = Field(default_factory=dict)
    """`tokenizer`, and data sets by name; `NAME:SPLIT` is a part of one."""
    suites: Mapping[Name, Suite] = Field(default_factory=dict)
    """Evaluations by name."""
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    """What is done, in order."""
    claims: tuple[Claim, ...] = ()
    """What the report answers."""

    def stage(self, stage_id: str) -> StageSpec:
        for stage in self.stages:
            if stage.id == stage_id:
                return stage
        raise KeyError(stage_id)
