"""The settings of memories, as plans write them. Typed; no torch.

The seed's run parameters keep their own names where a plan has no word for them: `max_attractors`, `sleep_every` as
`sleep.every`, `episodic_buffer_size` as `episodes.buffer`, `rem_cycles` as `sleep.rem_cycles`, `max_samples` as
`tokens`, `context_size` as `context`, `noise_std` as `noise`, `vocab_size` as the tokenizer's own (spec, 1.10).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from bloomery.errors import PlanError
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Bytes, Seconds, Tokens
from bloomery.stages.pretrain import Settings as Pretraining
from bloomery.stages.settings import Validation
from bloomery.systems.holographic.budget import least_bytes, vocab_of

Phase = Literal["non_rem", "rem", "replay", "prune", "merge"]
PHASES: tuple[Phase, ...] = ("non_rem", "rem", "replay", "prune", "merge")


VARIANTS = ("attractor", "v4", "prod", "exact_context")


class Store(Frozen):
    bytes: Bytes = Field(default=64 * 2**20, ge=2**16)
    """What the memory may hold, the episodes that wait included: of the model itself, not of the process."""
    when_full: Literal["forget", "stop"] = "forget"
    """stop: nothing more is stored, and what is there goes on predicting."""


class Sleep(Frozen):
    every: Tokens = Field(default=50_000, ge=1)
    """Tokens between two sleeps."""
    rem_cycles: int = Field(default=1, ge=0)
    stages: tuple[Phase, ...] = PHASES
    """What a sleep does, in this order."""
    recombine: Literal["prototypes", "random_matrices"] = "prototypes"
    """random_matrices: what REM tests is drawn instead of recombined, as control."""

    @model_validator(mode="after")
    def _in_order(self) -> Sleep:
        if list(self.stages) != [one for one in PHASES if one in self.stages]:
            raise ValueError(f"stages each once and in this order: {', '.join(PHASES)}")
        return self


class Episodes(Frozen):
    buffer: Tokens = Field(default=2000, ge=1)
    """Episodes that wait for sleep. Grouping them takes time as their square."""
    sampling: Literal["reservoir", "newest"] = "reservoir"
    """reservoir: each token since the last sleep is one with the same chance."""
    room: Tokens = Field(default=5000, ge=1)
    """How many a sleep keeps unasked while prototypes are few: the seed's 5,000. Above it phi-decay forgets, so that a
    buffer of less never forgets."""


class Mechanisms(Frozen):
    """The twelve of the seed, each a switch (spec, 1.8)."""

    salience: bool = True
    novelty: bool = True
    delta_coding: bool = True
    predictive_coding: bool = True
    forgetting: bool = True
    merging: bool = True
    reconsolidation: bool = True
    rehearsal: bool = True
    working_memory: bool = True
    completion: bool = True
    inhibition: bool = True
    replay: bool = True


def _each_once(timescales: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(timescales)) < len(timescales):
        raise ValueError("timescales each once")
    return timescales


Timescales = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_each_once)]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, int) else value


class Looks(Validation):
    split: str = "val"


class Wake(Frozen):
    """What every kind that wakes a memory is told."""

    data: str = "corpus"
    """A part: it is read once, document by document, in an order drawn by the seed."""
    tokens: Tokens = Field(ge=1)
    """How many are read at most: --max-samples."""
    context: int = Field(default=512, ge=1)
    """Tokens of a window: --context-size."""
    store: Store = Store()
    sleep: Sleep | None = Sleep()
    """null: it never sleeps."""
    episodes: Episodes = Episodes()
    consolidate_at: Literal["fixed", "adaptive"] = "fixed"
    """fixed: stability below golden^-2. adaptive: below the median of the episodes that wait."""
    mechanisms: Mechanisms = Mechanisms()
    """Of variants of the theory."""
    noise: float = Field(default=0.3, gt=0)
    """--noise-std, of variants of the theory."""
    validation: Looks = Looks()
    """What is looked at; `every` where nothing else says how often."""
    checkpoint_every: Seconds = 20
    """Changes no result."""
    dense: Pretraining | None = None
    """A transformer that is trained on as many tokens in this memory's place: how the control is said."""

    @property
    def validation_part(self) -> str:
        return f"{self.data.partition(':')[0]}:{self.validation.split}"


def _within(wake: Consolidate | TheoryRun, info: ValidationInfo) -> None:
    """Raises PlanError where the theory cannot keep to its bytes. The context's `data`: the plan's."""
    vocab = vocab_of((info.context or {}).get("data"))
    refuse_too_little(wake.variant, wake.store.bytes, vocab, wake.episodes.buffer)


def refuse_too_little(variant: str, held: int, vocab: int, buffer: int) -> None:
    least = least_bytes(variant, vocab, buffer)
    if held < least:
        waiting = "" if variant == "exact_context" else f" and {buffer:,} episodes that wait"
        raise PlanError(
            "store.bytes", f"{held:,} bytes for {variant} with {vocab:,} tokens{waiting}", f"{least:,} bytes at least",
            "a larger store.bytes" + (", or a smaller episodes.buffer" if waiting else ""),
        )  # fmt: skip


UNHEARD = ("noise", "mechanisms")
"""Of the theory: attractors have no multivectors."""


class Consolidate(Wake):
    variant: Literal["attractor", "v4", "prod", "exact_context"] = "attractor"
    timescales: Timescales = (1, 2, 3, 5, 7)
    """Orders of n-grams that the attractors count."""
    prototypes: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, BeforeValidator(_several)] = None
    """Of each clustering of the attractors."""
    evaluate_every: Tokens | None = None
    """Tokens between two looks."""

    @model_validator(mode="after")
    def _is_heard(self, info: ValidationInfo) -> Consolidate:
        """What can only have been meant for another variant is refused; `unheard` is told."""
        if self.variant != "attractor":
            if self.prototypes is not None:
                raise ValueError(f"prototypes are of attractors; {self.variant} makes as many as it finds")
            _within(self, info)
            return self
        if not {1, 2} <= set(self.timescales):
            raise ValueError("timescales of attractors hold 1 and 2: prototypes are made of them")
        if self.store.when_full == "stop":
            raise ValueError("store.when_full: stop is of v4, prod and exact_context; attractors forget")
        fields = type(self).model_fields
        if meant := [name for name in UNHEARD if getattr(self, name) != fields[name].default]:
            raise ValueError(f"{', '.join(meant)}: of v4 and prod; attractors do not hear it; leave it out")
        return self

    @property
    def unheard(self) -> tuple[str, ...]:
        """What is set and changes nothing: attractors have timescales for a context, and dream of the whole day."""
        if self.variant != "attractor":
            return ()
        fields = type(self).model_fields
        found = [
            name for name in ("context", "episodes", "consolidate_at") if getattr(self, name) != fields[name].default
        ]
        if self.sleep is not None and self.sleep.rem_cycles != Sleep().rem_cycles:
            found.append("sleep.rem_cycles")
        return tuple(found)


Decoding = Literal["mixture", "vorticity", "similarity"]
TokensAs = Literal["own", "so4", "svd", "class", "random_matrices"]
Prior = Literal["nearest", "factorised", "decayed"]


OF_MULTIVECTORS = ("tokens_as", "prior", "grace_every")


class TheoryRun(Wake):
    """holographic/theory."""

    variant: Literal["v4", "prod", "exact_context"] = "v4"
    tokens_as: TokensAs = "own"
    """own: v4's, or prod's uniform rotations (so4). svd, class: of what stands beside a token in the text that is read.
    random_matrices: the control of both."""
    prior: Prior = "nearest"
    """factorised: where the margin of the nearest prototypes is below golden^-2, a linear map of the context's scalars
    has a say in where prototypes are looked for; decayed: the same as the theory weighs its samples."""
    grace_every: int | None = Field(default=None, ge=1)
    """Tokens of a window after each of which Grace acts; null: once, at the end."""
    timescales: Timescales = (1, 2, 3)
    max_attractors: int = Field(default=500_000, ge=1)
    keep_every: int = Field(default=3, ge=1)
    log_every: Tokens = 10_000
    """Tokens between two points of the curve."""
    deep_log_every: Tokens | None = None
    """Tokens between two looks, at which everything is measured."""
    generate_every: Tokens | None = None
    """Tokens between two samples."""
    decoding: Decoding = "mixture"
    """vorticity: the seed's scores, of which the largest is taken; similarity: the same without the penalty. Of v4 and
    prod, for what is written: as probabilities neither is meant to predict."""

    @model_validator(mode="after")
    def _decodes(self) -> TheoryRun:
        if self.variant == "exact_context" and self.decoding != "mixture":
            raise ValueError("decoding is of v4 and prod: exact_context has no multivectors")
        fields = type(self).model_fields
        meant = [name for name in OF_MULTIVECTORS if getattr(self, name) != fields[name].default]
        if self.variant == "exact_context" and meant:
            raise ValueError(f"{', '.join(meant)}: of v4 and prod; exact_context has no multivectors; leave it out")
        if self.variant == "v4" and self.tokens_as == "so4":
            raise ValueError("tokens_as: so4 is of prod: v4's multivectors are even, and rotations are not")
        return self

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> TheoryRun:
        _within(self, info)
        return self


class Theory(Frozen):
    """What a memory of the theory as written is built from."""

    variant: Literal["v4", "prod", "exact_context"] = "v4"
    context: int = Field(default=512, ge=1)
    """Tokens of a window, --context-size."""
    noise: float = Field(default=0.3, gt=0)
    """--noise-std."""
    tokens_as: TokensAs = "own"
    """random_matrices: every context is drawn anew, and REM recombines random ones: the control of what is claimed."""
    prior: Prior = "nearest"
    grace_every: int | None = Field(default=None, ge=1)
    timescales: Timescales = (1, 2, 3)
    """Of exact_context: the lengths of the histories that it looks up."""
    store: Store = Store()
    max_attractors: int = Field(default=500_000, ge=1)
    """The most episodes that cells hold."""
    keep_every: int = Field(default=3, ge=1)
    """Of the tokens read, every so many is stored: the batch store of v4."""
    rem_cycles: int = Field(default=1, ge=0)
    recombine: Literal["prototypes", "random_matrices"] = "prototypes"
    buffer: int = Field(default=2000, ge=1)
    room: int = Field(default=5000, ge=1)
    sampling: Literal["reservoir", "newest"] = "reservoir"
    consolidate_at: Literal["fixed", "adaptive"] = "fixed"
    """fixed: stability below golden^-2. adaptive: below the median of the episodes that wait."""
    mechanisms: Mechanisms = Mechanisms()
    decoding: Decoding = "mixture"
