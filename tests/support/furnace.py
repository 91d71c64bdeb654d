"""A furnace without fire: for tests of the engine, stage kinds, a suite, codecs and a baseline that only count.

`grow` adds to a number, step by step, saving after each; the number decides the loss. All of it is pure and exact, so
that what a run must end with can be said without running it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from bloomery.engine.artifact import Artifact
from bloomery.engine.events import Event, read_events
from bloomery.engine.launch import Launch, launch
from bloomery.engine.runner import Outcome
from bloomery.engine.stage import Cost, PackedSize, StageContext, StageResult, Stopped, SuiteResult
from bloomery.errors import ArtifactError, NonFinite
from bloomery.measure import Emitted, Measurement
from bloomery.plan.load import load
from bloomery.plan.schema import Frozen

TOKENS_A_STEP, FLOPS_A_STEP = 10, 1000.0


def increment(gain: float, seed: int, step: int) -> float:
    return gain * (1 + (7 * seed + 3 * step) % 5)


def grown(gain: float, seed: int, steps: int, start: float = 0.0, first: int = 0) -> float:
    """What `grow` ends with."""
    return start + sum(increment(gain, seed, first + step) for step in range(steps))


def loss_of(value: float) -> float:
    return 100.0 / (1.0 + value)


def hashed(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def value_in(folder: Path) -> float:
    return json.loads((folder / "value.json").read_text())["value"]


def write_value(folder: Path, value: float, **more: Any) -> Path:
    """Whole or not at all: whoever writes it may be killed at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f"{folder.name}.tmp")  # what is left of it belongs to no artifact
    beside.write_text(json.dumps({"value": value, **more}))
    beside.replace(folder / "value.json")
    return folder


class GrowSettings(Frozen):
    gain: float = 1.0
    steps: int = 3
    breaks_at: int | None = None
    """The step at which training cannot go on."""
    reads: bool = True
    waits: float = 0.0
    """Seconds that a step takes in a worker; in turn there is nothing to wait for."""
    lets_fail: str = ""
    """Whose failure must stand in the run's log before this begins, where cells run side by side."""


@dataclass
class Grow:
    ran: list[tuple[str, str, int, int]] = field(default_factory=list)
    """(stage folder, who, seed, first step) of every cell that did any work."""
    told: list[StageContext] = field(default_factory=list)
    """What each of them was handed."""

    def config_model(self) -> type[BaseModel]:
        return GrowSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {"grow/loss": Emitted("", "lower"), "train/non_finite": Emitted("", "lower")}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": False, "state": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, GrowSettings)
        return ("corpus:train",) if config.reads else ()

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return ""

    def cost(self, config: BaseModel, *, system: str, vocab: int) -> Cost:
        assert isinstance(config, GrowSettings)
        return Cost(tokens=TOKENS_A_STEP * config.steps, flops=FLOPS_A_STEP * config.steps, weight_bytes=8.0)

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return {}

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, GrowSettings)
        for step in range(steps_before(ctx) + config.steps):
            yield 100 * ctx.seed + step

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        assert isinstance(config, GrowSettings)
        before = steps_before(ctx)
        value = value_in(ctx.inputs["model"].path) if "model" in ctx.inputs else 0.0
        step = 0
        self.told.append(ctx)
        if ctx.continue_from is not None:
            value = value_in(ctx.continue_from)
        saved = ctx.checkpoint / "value.json"
        if saved.exists():
            known = json.loads(saved.read_text())
            value, step = known["value"], known["step"]
        if config.lets_fail:
            await_failure(ctx.workdir, config.lets_fail)
        self.ran.append((f"{ctx.workdir.parent.parent.name}/{ctx.workdir.parent.name}", ctx.who, ctx.seed, step))
        while step < config.steps:
            if ctx.should_stop():
                raise Stopped
            if step == config.breaks_at:
                raise NonFinite(f"step {step}", "the loss is not a number")
            if in_a_worker():
                time.sleep(config.waits)
            value += increment(config.gain, ctx.seed, before + step)
            step += 1
            write_value(ctx.checkpoint, value, step=step)
            ctx.spend(tokens=TOKENS_A_STEP, flops=FLOPS_A_STEP)
            share = step / config.steps
            ctx.measure("grow/loss", loss_of(value), step=step, tokens=TOKENS_A_STEP * (before + step), share=share)
        write_value(ctx.workdir / "model", value)
        write_value(ctx.workdir / "state", value, steps=before + step)
        outputs = {name: ctx.workdir / name for name in ("model", "state")}
        return StageResult(outputs, hashes={"weights": hashed(value), "optimiser": hashed(value, before + step)})


def in_a_worker() -> bool:
    main = sys.modules["__main__"].__spec__
    return main is not None and main.name == "bloomery.engine.worker"


def await_failure(workdir: Path, who: str, seconds: float = 60) -> None:
    log = next(folder / "events.jsonl" for folder in workdir.parents if (folder / "events.jsonl").exists())
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        events = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        in_turn = not any(event.get("provenance", {}).get("workers", 1) > 1 for event in events)
        if in_turn or any(event["event"] == "cell_failed" and event["who"] == who for event in events):
            return
        time.sleep(0.01)


def steps_before(ctx: StageContext) -> int:
    if ctx.continue_from is None:
        return 0
    return json.loads((ctx.continue_from / "value.json").read_text())["steps"]


class Nothing(Frozen):
    pass


class TroubleSettings(GrowSettings):
    how: Literal["killed", "bug", "mistake", "disk", "talks", ""] = ""
    """What goes wrong when step 2 is done, once: the next time it is over."""
    lets_save: str = ""
    """The folder of the cell that must have saved before that."""


@dataclass
class Trouble(Grow):
    """Grows; but something happens to the process, to the code or to the machine."""

    def config_model(self) -> type[BaseModel]:
        return TroubleSettings

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        assert isinstance(config, TroubleSettings)
        done = ctx.workdir.parent / "trouble"
        if config.how and not done.exists():
            beside = ctx.workdir.parent / config.lets_save / "checkpoint" / "value.json" if config.lets_save else None
            ctx.looked = lambda measurement, share: (
                _trouble(config.how, done, beside) if measurement.step == 2 else None
            )
        return super().run(ctx, config)


def _trouble(how: str, done: Path, beside: Path | None) -> None:
    ends = time.monotonic() + 60
    while beside is not None and not beside.exists() and time.monotonic() < ends:
        time.sleep(0.01)
    done.write_text("")
    match how:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "bug":
            raise ZeroDivisionError("what is this")
        case "mistake":
            raise ArtifactError("here", "this", "that", "so")
        case "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
        case _:
            print('{"say":"finished"}')
            os.write(1, b"not of the protocol\n")


class Judge:
    """Trains nothing; hands its model on."""

    def config_model(self) -> type[BaseModel]:
        return Nothing

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        return ()

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return ""

    def cost(self, config: BaseModel, *, system: str, vocab: int) -> Cost:
        return Cost()

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        return StageResult()


@dataclass
class Size:
    """The suite: a loss that falls with the number."""

    judged: list[float] = field(default_factory=list)

    def config_model(self) -> type[BaseModel]:
        return Nothing

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {"loss": Emitted("", "lower")}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        value = value_in(model.path)
        self.judged.append(value)
        return SuiteResult((Measurement("loss", loss_of(value), 5),), (("say", f"{value}"),))


@dataclass
class Rounded:
    """A codec: the number to the nearest multiple of `step`; the coarser, the fewer bytes. It says of halves that it
    packed nothing."""

    step: float = 1.0
    packed: list[float] = field(default_factory=list)

    def pack(self, model: Path, target: Path) -> None:
        value = value_in(model)
        self.packed.append(value)
        write_value(target, self.step * round(value / self.step), step=self.step)

    def unpack(self, folder: Path) -> Mapping[str, Any]:
        return {"value": value_in(folder)}

    def size(self, folder: Path) -> PackedSize:
        return PackedSize(10, 0 if self.step == 0.5 else 10, round(10 / self.step))


@dataclass
class Mean:
    """The baseline: the mean of the tokens that the model has read."""

    read: list[list[int]] = field(default_factory=list)
    packable: bool = True

    def config_model(self) -> type[BaseModel]:
        return Nothing

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        found = list(tokens)
        self.read.append(found)
        return StageResult({"model": write_value(ctx.workdir / "model", sum(found) / len(found))})


@dataclass
class Furnace:
    """As engine.discover.Catalogue, with what stands above."""

    grow: Grow = field(default_factory=Grow)
    size: Size = field(default_factory=Size)
    mean: Mean = field(default_factory=Mean)
    coarse: Rounded = field(default_factory=lambda: Rounded(10.0))
    fine: Rounded = field(default_factory=lambda: Rounded(0.5))

    def kinds(self) -> Mapping[str, Any]:
        return {"grow": self.grow, "judge": Judge(), "trouble": Trouble(self.grow.ran)}

    def suites(self) -> Mapping[str, Any]:
        return {"size": self.size}

    def baselines(self) -> Mapping[str, type[BaseModel]]:
        return {"mean": Nothing}

    def packable_baselines(self) -> frozenset[str]:
        return frozenset(("mean",) if self.mean.packable else ())

    def codecs(self) -> Mapping[str, Any]:
        return {"coarse": self.coarse, "fine": self.fine}

    def systems(self) -> Mapping[str, str]:
        return {"dense": "none"}

    def check_data(self, data: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        return {}

    def kind(self, name: str) -> Any:
        return self.kinds()[name]

    def target(self, name: str) -> str:
        return f"support.furnace:{type(self.kind(name)).__name__}"

    def suite(self, name: str) -> Any:
        return self.suites()[name]

    def codec(self, name: str) -> Any:
        return self.codecs()[name]

    def baseline(self, name: str) -> Any:
        return {"mean": self.mean}[name]


def stage(stage_id: str, kind: str = "grow", **keys: Any) -> dict[str, Any]:
    return {"id": stage_id, "kind": kind, **keys}


def below(value: float, metric: str = "size/loss", **keys: Any) -> dict[str, Any]:
    return {"metric": metric, "op": "<", "value": value, **keys}


@dataclass
class Bench:
    """Runs plans in one runs folder, each launch as a new process would: with nothing in memory."""

    root: Path

    def write(self, *stages: dict[str, Any], **keys: Any) -> Path:
        """The plan's file. JSON is YAML."""
        plan = {
            "bloomery": 1, "name": "test/walk", "seeds": [0], "suites": {"size": {"kind": "size"}},
            **keys, "stages": list(stages),
        }  # fmt: skip
        self.root.mkdir(parents=True, exist_ok=True)
        file = self.root / "plan.yaml"
        file.write_text(json.dumps(plan, indent=1))
        return file

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def launch(
        self,
        *,
        overrides: tuple[str, ...] = (),
        observe: Callable[[Event], None] = lambda event: None,
        signalled: Callable[[], bool] = lambda: False,
        furnace: Furnace | None = None,
        device: str = "cpu",
        allow_changed: tuple[str, ...] = (),
        workers: int = 1,
        force: bool = False,
    ) -> Ran:
        """workers: with several, what they did is seen in the events alone."""
        loaded = load(self.root / "plan.yaml", overrides)
        furnace = furnace or Furnace()
        how = Launch(self.runs, device, 1, observe, signalled, allow_changed, workers, force=force)
        outcome = launch(loaded, furnace, how)  # type: ignore[arg-type]
        return Ran(outcome, how.folder(loaded), furnace)


@dataclass
class Ran:
    outcome: Outcome
    folder: Path
    furnace: Furnace

    @property
    def events(self) -> list[Event]:
        return read_events(self.folder / "events.jsonl")

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    def verdicts(self) -> list[tuple[str, int, str]]:
        return [(event["stage"], event["attempt"], event["status"]) for event in self.told("verdict")]

    def decisions(self) -> list[tuple[str, int, str]]:
        return [(event["stage"], event["attempt"], event["action"]) for event in self.told("decision")]

    def hashes(self) -> dict[tuple[str, int, str, int], dict[str, str]]:
        """Of every finished cell; a cell that was run again tells its latest."""
        return {
            (event["stage"], event["attempt"], event["who"], event["seed"]): event["hashes"]
            for event in self.told("cell_finished")
        }

    def value(self, stage_id: str, attempt: int = 1, who: str = "candidate", seed: int = 0) -> float:
        """What a cell ended with, wherever it was taken from."""
        taken = {
            (event["stage"], event["attempt"], event["who"], event["seed"]): event["of"]
            for event in self.told("cell_reused")
        }
        stage_id, attempt, who, seed = taken.get((stage_id, attempt, who, seed), (stage_id, attempt, who, seed))
        return value_in(self.folder / stage_id / str(attempt) / f"{who.replace(':', '-')}-seed{seed}" / "model")
