"""The stage kinds of this system: `consolidate` wakes a memory, `calibrate` finds its weights, `theory` is the seed's.

    consolidate, holographic/theory   -> model (what predicts), state (what would go on)
    calibrate                         model -> model

Their control is a transformer of as many bytes, trained on as many tokens of the same part: `dense`, in the memory's
place. A network that comes to `calibrate` leaves it as it came: it has no mixture to weigh.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, field_validator

from bloomery.engine.artifact import SEAL
from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.errors import DataError
from bloomery.measure import Emitted, Group, Tally
from bloomery.plan.schema import Frozen
from bloomery.stages import training
from bloomery.systems.holographic import prices
from bloomery.systems.holographic.config import Consolidate as ConsolidateSettings
from bloomery.systems.holographic.config import TheoryRun, Wake

if TYPE_CHECKING:
    from bloomery.systems.holographic.waking import Cadence

LAYERS, HEADS, RATIO = 4, 4, 128
"""Of the control's template, whose width is solved for; RATIO: the width that it bends from."""
LONGEST, ROWS = 512, 8
"""Of the control: tokens of a sequence at most, and sequences of a step."""
HIGHER: tuple[str, ...] = ("retrieval_seen", "compression", "basin_discrimination")
LOWER: tuple[str, ...] = ("store_bytes", "forgotten_share", "context_norm_drift")
MEMORY = (
    "store_bytes", "prototypes", "schemas", "forgotten_share", "compression", "consolidated_share", "sleeps",
    "replayed", "delta_share", "rem_survival", "basin_discrimination", "basin_chance", "entropy", "entropy_counts",
    "prototype_stability", "retrieval_seen", "stability", "consolidation_ratio", "witness_stability", "enstrophy",
    "context_norm_drift", "superposed_one", "superposed_two", "order_swapped", "order_permuted", "order_unrelated",
    "edit_middle", "edit_middle_beyond_phase", "edit_last", "weight_unigram", "weight_cells", "weight_satellites",
    "weight_dictionary", "weight_prior", "weight_working", "entries", "day_bytes", "structure_pairs", "structure_alike",
    "structure_shared", "structure_random", "structure_permuted", "grammar_match", "grammar_words", "grammar_chance",
)  # fmt: skip


class _Waking(ABC):
    """What both kinds share. `settings`: their own."""

    settings: type[Wake]

    def config_model(self) -> type[BaseModel]:
        return self.settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        better = dict.fromkeys(HIGHER, "higher") | dict.fromkeys(LOWER, "lower")
        memory = {
            f"memory/{name}": Emitted("bytes" if name.endswith("_bytes") else "", better.get(name, ""))
            for name in MEMORY
        }
        return {**training.METRICS, **memory}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Wake)
        return (config.data if ":" in config.data else f"{config.data}:train",)

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Wake)
        return (config.validation_part,)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "a memory is woken from the start: its sleeps would come at other tokens"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        assert isinstance(config, Wake)
        if config.dense is not None:
            from bloomery.stages.pricing import training_cost

            return training_cost(config.dense, config.dense.model, vocab)
        assert isinstance(config, ConsolidateSettings | TheoryRun)
        held = float(config.store.bytes)
        disk = 5 if config.variant == "attractor" else 3  # mapped tables, one of them twice while it moves
        return Cost(
            tokens=config.tokens, seconds=prices.waking(config, config.variant, vocab), weight_bytes=held,
            activation_bytes=held, disk_bytes=disk * held, tally=_of_bytes(config.store.bytes),
        )  # fmt: skip

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        """A dense model that weighs what the memory may: only `match: bytes` and `stored` have a meaning."""
        from bloomery.model.config import DenseConfig
        from bloomery.model.twin import solve

        assert isinstance(config, Wake)
        template = DenseConfig(layers=LAYERS, heads=HEADS, width=RATIO)
        twin = solve(_of_bytes(config.store.bytes), template, vocab, match=match, tolerance=tolerance)
        context = min(config.context, LONGEST, max(2, config.tokens))
        return {
            "dense": {
                "model": {"system": "dense", **twin.model_dump(mode="json")},
                "data": config.data, "tokens": config.tokens, "context": context,
                "batch": max(1, min(ROWS, config.tokens // context)),
                "validation": config.validation.model_dump(mode="json"),
            }
        }  # fmt: skip

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        from bloomery.systems.holographic.waking import tokens_read

        assert isinstance(config, Wake)
        return tokens_read(ctx, config)

    @abstractmethod
    def _cadence(self, config: Wake) -> Cadence:
        """When it sleeps, and when it is looked at."""

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.stages import models
        from bloomery.stages.pretrain import Pretrain
        from bloomery.systems.holographic.waking import wake_up

        assert isinstance(config, ConsolidateSettings | TheoryRun)
        if config.dense is not None:
            return Pretrain().run(ctx, config.dense)
        if isinstance(config, ConsolidateSettings) and config.unheard:
            ctx.note("note", text=f"attractors do not hear {', '.join(config.unheard)}")
        models.use_threads(ctx.threads)
        return wake_up(ctx, config, config.variant, self._cadence(config))


class Consolidate(_Waking):
    """A memory that is written by counting and reorganised in sleep."""

    settings = ConsolidateSettings

    def _cadence(self, config: Wake) -> Cadence:
        from bloomery.systems.holographic.waking import Cadence

        assert isinstance(config, ConsolidateSettings)
        return Cadence(_sleep(config), config.evaluate_every or _share(config))


class Theory(_Waking):
    """holographic/theory: the theory as written, its variants and their control."""

    settings = TheoryRun

    def _cadence(self, config: Wake) -> Cadence:
        from bloomery.systems.holographic.waking import Cadence

        assert isinstance(config, TheoryRun)
        return Cadence(_sleep(config), config.deep_log_every or _share(config), config.generate_every, config.log_every)


def _sleep(config: Wake) -> int | None:
    return None if config.sleep is None else config.sleep.every


def _share(config: Wake) -> int:
    return max(1, round(config.tokens * config.validation.every))


def _of_bytes(size: int) -> Tally:
    return Tally({"memory": Group(size // 4, size // 4, bits=32.0)})


class CalibrateSettings(Frozen):
    data: str
    """The part that weights are found on, which nothing else may see: `corpus:tune`."""
    method: Literal["em"] = "em"
    nested: bool = True
    """Mix inside the back-off, where the variant has one."""
    documents: int | None = Field(default=None, ge=1)
    """At most this many, evenly spread."""

    @field_validator("data")
    @classmethod
    def _was_not_read(cls, part: str) -> str:
        if part.partition(":")[2] in ("", "train"):
            raise ValueError("weights are found on a part that nothing else sees, as corpus:tune")
        return part


class Calibrate:
    def config_model(self) -> type[BaseModel]:
        return CalibrateSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        loss = Emitted("nats_per_token", "lower")
        return {"calibrate/loss_before": loss, "calibrate/loss": loss}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, CalibrateSettings)
        return (config.data if ":" in config.data else f"{config.data}:train",)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "weights are found at once: there is nothing to go on from"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        assert isinstance(config, CalibrateSettings)
        return Cost(tokens=prices.weighed_tokens(config.documents), seconds=prices.weighing(config.documents))

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return {}

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        """The documents that weights were found on: a rival has them too."""
        import torch

        from bloomery.data.mix import Batch

        assert isinstance(config, CalibrateSettings)
        for document in _documents(ctx, config):
            row = torch.from_numpy(document)[None]
            yield Batch(row[:, :-1], row[:, 1:])

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        import numpy as np

        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.stages.scorers import SCORER_CARD
        from bloomery.systems.holographic.variants import card, open_model, save_model

        assert isinstance(config, CalibrateSettings)
        assert ctx.data is not None
        source, target = ctx.inputs["model"], ctx.workdir / "model"
        tokenizer = Prepared.open(ctx.data).tokenizer
        models.check_tokenizer(source.path, tokenizer)
        if not (source.path / SCORER_CARD).is_file():
            shutil.copytree(source.path, target, ignore=shutil.ignore_patterns(SEAL), dirs_exist_ok=True)
            return StageResult({"model": target}, {} if source.tally is None else {"model": source.tally})
        documents = list(_documents(ctx, config))
        scorer = open_model(source.path)

        def loss() -> float:
            return -float(np.concatenate([scorer.document_logprobs(one) for one in documents]).mean())

        count = sum(len(one) - 1 for one in documents)
        ctx.measure("calibrate/loss_before", loss(), n=count, unit="nats_per_token")
        scorer = scorer.fitted(documents, nested=config.nested)
        ctx.measure("calibrate/loss", loss(), n=count, unit="nats_per_token")
        ctx.spend(tokens=count)
        save_model(target, scorer, card(source.path)["variant"], tokenizer)
        return StageResult({"model": target}, {"model": scorer.tally()})


def _documents(ctx: StageContext, config: CalibrateSettings) -> Iterator[Any]:
    """Each after its end_of_document."""
    import numpy as np

    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.perplexity import spread

    assert ctx.data is not None
    part = Prepared.open(ctx.data).part(config.data)
    if not part.documents:
        raise DataError(config.data, "is empty", "documents to find weights on")
    for number in spread(part.documents, config.documents):
        yield np.concatenate(([part.end_of_document], part.document(number))).astype(np.int64)
