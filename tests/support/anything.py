"""A catalogue made to measure for one plan: every kind that it names is there, takes any settings, and measures what it
is asked for. For tests of what a plan means, whatever its kinds would do.

What a cell makes is decided by its settings, inputs and seed alone; what is measured of it comes from `measured`, which
a test supplies. `walk` drives the real Runner over a plan, without data, prices, locks or waiting for the disk.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bloomery.engine import cellwork, history
from bloomery.engine.artifact import Artifact
from bloomery.engine.budget import Ledger
from bloomery.engine.events import Event
from bloomery.engine.executing import InTurn
from bloomery.engine.gauge import Gauge
from bloomery.engine.history import History
from bloomery.engine.runner import Outcome, Runner
from bloomery.engine.session import Session
from bloomery.engine.stage import Cost, StageContext, StageResult, SuiteResult
from bloomery.measure import Emitted, Group, Interval, Measurement, Tally
from bloomery.plan import metrics
from bloomery.plan.cast import conditions_of, parse_reference
from bloomery.plan.load import Loaded
from bloomery.plan.schema import Budget, Condition, StageSpec

ANY_SEGMENT = ("a", "b")
"""What stands for `*` in the names of metrics."""

SIZE = Tally({"all": Group(stored=1000, active=1000)})

Measured = Callable[[str, str], float | None]
"""(metric, the folder of the cell or of the judged model) -> its value; None where it is not measured."""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


def every_stage(stages: tuple[StageSpec, ...]) -> Iterator[StageSpec]:
    for stage in stages:
        yield stage
        yield from every_stage(stage.stages)


@dataclass
class Asked:
    """What a plan asks of everybody, read from its conditions and references alone."""

    kinds: dict[str, dict[str, Emitted]] = field(default_factory=dict)
    outputs: dict[str, set[str]] = field(default_factory=dict)
    suites: dict[str, dict[str, Emitted]] = field(default_factory=dict)
    baselines: dict[str, dict[str, Emitted]] = field(default_factory=dict)
    brought: set[str] = field(default_factory=set)
    """Kinds of stages and suites that bring baselines of their own."""

    @staticmethod
    def by(loaded: Loaded) -> Asked:
        plan, asked = loaded.plan, Asked()
        stages = {stage.id: stage for stage in every_stage(plan.stages)}
        for suite in plan.suites.values():
            asked.suites.setdefault(suite.kind, {})
        for stage in stages.values():
            if stage.kind is None:
                continue
            asked.kinds.setdefault(stage.kind, {})
            asked.outputs.setdefault(stage.kind, {"model"})
            for name in (stage.select.lowest, stage.select.highest) if stage.select else ():
                if name:
                    asked.kinds[stage.kind][name] = Emitted("", "lower")
            for condition in asked._conditions(stage):
                asked._take(loaded, stage, condition, stages)
            for variant in (stage, *stage.arms.values(), *([stage.control] if stage.control else [])):
                for text in variant.needs.values():
                    reference = parse_reference(text)
                    source = stages.get(reference.stage) if reference else None
                    if reference and source is not None and source.kind and reference.output not in ("", "passed"):
                        asked.outputs.setdefault(source.kind, {"model"}).add(reference.output)
        for claim in plan.claims:
            for condition in (*conditions_of(claim.gate), *conditions_of(claim.valid_if)):
                reference = parse_reference(condition.of.removeprefix("stage:"))
                if reference is not None and reference.stage in stages:
                    asked._take(loaded, stages[reference.stage], condition, stages)
        return asked

    @staticmethod
    def _conditions(stage: StageSpec) -> Iterator[Condition]:
        yield from conditions_of(stage.gate)
        yield from stage.stop_if
        for rule in stage.on_fail:
            yield from conditions_of(rule.when)

    def _take(self, loaded: Loaded, stage: StageSpec, condition: Condition, stages: Mapping[str, StageSpec]) -> None:
        plan, name = loaded.plan, metrics.base(condition.metric)
        source, better = metrics.source(name), "higher" if ">" in condition.op else "lower"
        names = [name.replace("*", segment) for segment in (ANY_SEGMENT if "*" in name else ("",))]
        party, _, who = (condition.relative_to or "").partition(":")
        suite = plan.suites.get(source)
        if suite is not None:
            inside = [one.split("/", 2)[-1] if suite.through else one.split("/", 1)[1] for one in names]
            self.suites[suite.kind] |= {one: Emitted("", better) for one in inside}
        elif source not in ("tally", "cost", "repeat"):
            kinds = {stage.kind} | ({stages[who].kind} if party == "stage" and who in stages else set())
            for kind in kinds - {None}:
                self.kinds.setdefault(str(kind), {}).update({one: Emitted("", better) for one in names})
            for baseline in plan.baselines.values() if party == "baseline" else ():
                self.baselines.setdefault(baseline.kind, {}).update({one: Emitted("", better) for one in names})
        if party == "baseline" and who not in plan.baselines and (who != "*" or not plan.baselines or suite):
            self.brought.add(suite.kind if suite is not None else str(stage.kind))


def about(value: float) -> Interval | None:
    """So narrow that it decides wherever the value itself would."""
    width = 1e-6 * abs(value)
    return Interval(value - width, value + width, 0.9999) if math.isfinite(value) and width else None


class Kind:
    def __init__(self, name: str, asked: Asked, measured: Measured) -> None:
        self.name, self._emits, self._makes, self._measured = name, asked.kinds[name], asked.outputs[name], measured

    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return self._emits

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {name: name for name in sorted(self._makes | {"state"})}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"*": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        return ("corpus:train",) if "tokens" in config.model_dump() else ()

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return ""

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        return Cost()

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return {"is_the_twin": True}

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        for step in (1, 2):
            for name in self._emits:
                value = self._measured(name, str(ctx.workdir))
                if value is not None and not ctx.should_stop():
                    ctx.measure(name, value, step=step, tokens=step, share=step / 2, interval=about(value))
        inputs = {name: artifact.digest for name, artifact in ctx.inputs.items()}
        before = str(ctx.continue_from)
        made = json.dumps([self.name, config.model_dump(), inputs, ctx.seed, before], sort_keys=True, default=str)
        return StageResult({name: write(ctx.workdir / name, made) for name in self.produces(config)}, {"model": SIZE})


class Suite:
    def __init__(self, name: str, asked: Asked, measured: Measured) -> None:
        self.name, self._emits, self._measured = name, asked.suites[name], measured

    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return self._emits

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        values = {name: self._measured(name, str(model.path)) for name in self._emits}
        return SuiteResult(
            tuple(Measurement(name, value, 100, about(value)) for name, value in values.items() if value is not None)
        )


class Baseline:
    def __init__(self, name: str, asked: Asked, measured: Measured) -> None:
        self.name, self._emits, self._measured = name, asked.baselines.get(name, {}), measured

    def config_model(self) -> type[BaseModel]:
        return Settings

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        for name in self._emits:
            value = self._measured(name, str(ctx.workdir))
            if value is not None:
                ctx.measure(name, value, interval=about(value))
        made = json.dumps([self.name, config.model_dump(), ctx.seed, str(ctx.workdir)], default=str)
        return StageResult({"model": write(ctx.workdir / "model", made)}, {"model": SIZE})


class Anything:
    """`brings`: whether kinds that bring baselines of their own are offered; `check` takes no baseline on trust."""

    def __init__(self, loaded: Loaded, measured: Measured = lambda name, where: 1.0, *, brings: bool = True) -> None:
        asked = Asked.by(loaded)
        without: set[str] = set() if brings else asked.brought
        self._kinds = {name: Kind(name, asked, measured) for name in asked.kinds if name not in without}
        self._suites = {name: Suite(name, asked, measured) for name in asked.suites if name not in without}
        names = {baseline.kind for baseline in loaded.plan.baselines.values()}
        self._baselines = {name: Baseline(name, asked, measured) for name in sorted(names)}
        self._systems = {loaded.plan.system: "any", "dense": "any"}
        self._codecs = sorted({codec for suite in loaded.plan.suites.values() for codec in suite.through})

    def kinds(self) -> Mapping[str, Any]:
        return self._kinds

    def suites(self) -> Mapping[str, Any]:
        return self._suites

    def baselines(self) -> Mapping[str, type[BaseModel]]:
        return dict.fromkeys(self._baselines, Settings)

    def systems(self) -> Mapping[str, str]:
        return self._systems

    def codecs(self) -> list[str]:
        return self._codecs

    def packable_baselines(self) -> list[str]:
        return list(self._baselines)

    def check_data(self, data: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        return {}

    def kind(self, name: str) -> Any:
        return self._kinds[name]

    def suite(self, name: str) -> Any:
        return self._suites[name]

    def baseline(self, name: str) -> Any:
        return self._baselines[name]


class Nothing(Anything):
    """Nothing is installed."""

    def __init__(self) -> None:
        self._kinds, self._suites, self._baselines, self._systems, self._codecs = {}, {}, {}, {}, []


# A run in memory


def write(folder: Path, made: str) -> Path:
    _MADE[folder] = hashlib.sha256(made.encode()).hexdigest()
    return folder


_MADE: dict[Path, str] = {}
_SEALED: dict[Path, Artifact] = {}


class _Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: str, *, sync: bool = True, **facts: Any) -> Event:
        self.events.append({"event": event, "time": "", **facts})
        return self.events[-1]


class _Folder(type(Path())):
    """A folder that is never made."""

    def mkdir(self, *args: Any, **keys: Any) -> None:
        return None

    def iterdir(self) -> Iterator[Any]:
        return iter(())


def _seal(folder: Path, name: str, kind: str, *, parents: tuple[str, ...] = (), tally: Any = None) -> Artifact:
    _SEALED[folder] = Artifact(name, kind, _MADE[folder], folder, parents)
    return _SEALED[folder]


@dataclass
class Walked:
    outcome: Outcome
    events: list[Event]

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]


def walk(loaded: Loaded, catalogue: Anything, patch: Any) -> Walked:
    """Run a plan in memory. `patch`: pytest's monkeypatch."""
    _MADE.clear()
    _SEALED.clear()
    patch.setattr(cellwork, "seal", _seal)
    patch.setattr(history, "unseal", lambda folder: _SEALED[folder])
    patch.setattr(cellwork.shutil, "rmtree", lambda *args, **keys: None)
    log, folder = _Log(), _Folder("run")
    session = Session(
        folder=folder, catalogue=catalogue, log=log, history=History(), ledger=Ledger(Budget()), data=None,
        gauge=Gauge(folder, memory=lambda: 0, size=lambda folder: 0), precision="fp32",
        executor=InTurn(), device="cpu", threads=1, observe=lambda event: None, signalled=lambda: False,
    )  # type: ignore[arg-type]  # fmt: skip
    for name in loaded.plan.inputs:
        session.adopted[name] = Artifact(name, "adopted", name, folder)
    return Walked(Runner(loaded, session).run(), log.events)


def in_memory(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The plan `raw` with one seed, without codecs, and with the baselines that its kinds and suites would bring."""
    plan = json.loads(json.dumps(raw))
    for key in ("data", "fraction", "budget"):
        plan.pop(key, None)
    plan["seeds"] = [0]
    for suite in (plan.get("suites") or {}).values():
        suite.pop("through", None)
    text = json.dumps(plan)
    for name in sorted({part.split('"')[0] for part in text.split("baseline:")[1:]} - {"*"}):
        plan.setdefault("baselines", {}).setdefault(name, {"kind": "any"})
    if "baseline:*" in text:
        plan.setdefault("baselines", {}).setdefault("one", {"kind": "any"})
    return plan
