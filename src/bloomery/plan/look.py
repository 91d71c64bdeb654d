"""What all checks share: the plan, its stages in order with their typed settings, and the lists that findings go to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from bloomery.errors import BloomeryError, PlanError, Problems
from bloomery.plan import cast
from bloomery.plan.catalogue import Catalogue
from bloomery.plan.load import Loaded, resolve
from bloomery.plan.problems import mark_of, translate
from bloomery.plan.schema import AnyOf, Condition, Gate, Plan, StageSpec
from bloomery.plan.unroll import MOST_CYCLES
from bloomery.plan.yaml_text import KeyPath


@dataclass(frozen=True, slots=True)
class Note:
    """A finding that stops nothing. `where` as in errors; `what` a sentence."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"\n  hint: {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Placed:
    """A stage where it stands: the loop it is in, or None."""

    spec: StageSpec
    path: KeyPath
    loop: Placed | None = None

    @property
    def id(self) -> str:
        return self.spec.id


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition where it stands. `place` is gate, when, stop_if, claim or valid_if."""

    condition: Condition
    path: KeyPath
    place: str
    alternatives: int = 1
    """How many members the `any` has that it belongs to."""


@dataclass
class Look:
    """One look at a plan. `config` holds each stage's typed settings where its kind is offered and they are right."""

    loaded: Loaded
    catalogue: Catalogue
    stages: list[Placed] = field(default_factory=list)
    config: dict[str, BaseModel] = field(default_factory=dict)
    splits: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    """{data set: its splits}, None where its source is not offered."""
    problems: list[tuple[KeyPath, BloomeryError]] = field(default_factory=list)
    warnings: list[tuple[KeyPath, Note]] = field(default_factory=list)
    not_offered: list[tuple[KeyPath, Note]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        return self.loaded.plan

    @cached_property
    def walked(self) -> Plan:
        """The plan with its loops unrolled; as written where a loop that is a problem of its own forbids it."""
        nested = any(inner.repeat is not None for stage in self.plan.stages for inner in stage.stages)
        endless = any((stage.repeat or 0) > MOST_CYCLES for stage in self.plan.stages)
        return self.plan if nested or endless else resolve(self.loaded)

    @cached_property
    def twins(self) -> frozenset[str]:
        """Ids, as written, of the stages in which the plan's twin runs."""
        if self.plan.control is None:
            return frozenset()
        plan = self.walked
        return frozenset(
            stage.written_id
            for stage in plan.stages
            if stage.control is None and cast.why_control(plan, stage) is not None
        )

    @cached_property
    def controlled(self) -> frozenset[str]:
        """Ids, as written, of the stages in which a control runs: the plan's twin or one of their own."""
        plan = self.walked
        return frozenset(stage.written_id for stage in plan.stages if cast.why_control(plan, stage) is not None)

    def problem(self, path: KeyPath, found: str, expected: str = "", hint: str = "") -> None:
        self.problems.append((path, PlanError(self.loaded.where(path), found, expected, hint)))

    def warn(self, path: KeyPath, what: str, hint: str = "") -> None:
        self.warnings.append((path, Note(self.loaded.where(path), what, hint)))

    def absent(self, path: KeyPath, what: str) -> None:
        self.not_offered.append((path, Note(self.loaded.where(path), what)))

    def position(self, path: KeyPath) -> tuple[str, int, int]:
        mark = mark_of(self.loaded.lines, path)
        return (mark.file, mark.line, mark.column) if mark else ("", 0, 0)

    def offered(self, path: KeyPath, name: str, known: Iterable[str], what: str) -> bool:
        """Whether `name` is offered; else a problem where it is clearly a typo, and a note that it is not offered."""
        names = list(known)
        if name in names:
            return True
        if close := typo(name, names):
            self.problem(path, f"no {what} '{name}'", f"one of: {', '.join(sorted(names))}", f"did you mean '{close}'?")
        else:
            self.absent(path, f"{what} '{name}' is not offered by any installed system")
        return False

    def typed(self, path: KeyPath, model: type[BaseModel], settings: Mapping[str, Any]) -> BaseModel | None:
        """`settings`, which stand at `path`, as the kind's own model; None, and problems, where they are wrong."""
        config, errors = self.tried(model, settings, path)
        self.problems += [(path, error) for error in errors]
        return config

    def tried(
        self, model: type[BaseModel], settings: Mapping[str, Any], path: KeyPath | None = None
    ) -> tuple[BaseModel | None, list[BloomeryError]]:
        """`settings` as the kind's own model, or None and its errors; without a path their places mean nothing."""
        try:
            context = {"system": self.plan.system, "data": self.plan.data}
            return model.model_validate(dict(settings), context=context), []
        except ValidationError as error:
            if path is None:
                return None, list(translate(error, model, settings, {}))
            return None, list(translate(error, model, self.loaded.raw, self.loaded.lines, path))
        except Problems as error:
            found = list(error.problems)
        except BloomeryError as error:
            found = [error]
        place = self.loaded.where(path or ())
        return None, [
            PlanError(place, ": ".join(filter(None, (one.where, one.found))), one.expected, one.hint) for one in found
        ]

    def place_stages(self) -> None:
        self.stages = list(_placed(self.plan.stages, ("stages",), None))

    def stage(self, stage_id: str) -> Placed | None:
        return next((placed for placed in self.stages if placed.id == stage_id), None)

    def visible(self, placed: Placed) -> list[Placed]:
        """The stages that one may name: those before it, outside of other loops; inside a loop the loop itself."""
        before = self.stages[: self.stages.index(placed)]
        return [other for other in before if other.loop is None or other.loop is placed.loop]

    def outputs(self, placed: Placed) -> set[str] | None:
        """What a stage hands on, its inputs among them; None where its kind is not offered or its settings wrong."""
        inputs = set(placed.spec.needs)
        if placed.spec.repeat is not None:
            return inputs
        config = self.config.get(placed.id)
        if config is None or placed.spec.kind is None:
            return None
        return inputs | set(self.catalogue.kinds()[placed.spec.kind].produces(config))

    def has_control(self, placed: Placed) -> bool:
        return placed.spec.control is not None or self.plan.control is not None

    def seeds(self, placed: Placed) -> tuple[int, ...]:
        return placed.spec.seeds if placed.spec.seeds is not None else self.plan.seeds


def asked(placed: Placed) -> Iterator[Asked]:
    """Every condition of a stage: of its gate, its rules and its `stop_if`."""
    yield from _conditions(placed.spec.gate, (*placed.path, "gate"), "gate")
    for index, rule in enumerate(placed.spec.on_fail):
        yield from _conditions(rule.when, (*placed.path, "on_fail", index, "when"), "when")
    yield from _conditions(placed.spec.stop_if, (*placed.path, "stop_if"), "stop_if")


def claimed(plan: Plan) -> Iterator[Asked]:
    """Every condition of a claim."""
    for index, claim in enumerate(plan.claims):
        yield from _conditions(claim.gate, ("claims", index, "gate"), "claim")
        yield from _conditions(claim.valid_if, ("claims", index, "valid_if"), "valid_if")


def _conditions(gate: Gate | tuple[Condition, ...], path: KeyPath, place: str) -> Iterator[Asked]:
    for index, entry in enumerate(gate):
        if isinstance(entry, AnyOf):
            for member, condition in enumerate(entry.any):
                yield Asked(condition, (*path, index, "any", member), place, len(entry.any))
        else:
            yield Asked(entry, (*path, index), place)


def _placed(stages: Iterable[StageSpec], path: KeyPath, loop: Placed | None) -> Iterator[Placed]:
    for index, stage in enumerate(stages):
        here = Placed(stage, (*path, index), loop)
        yield here
        yield from _placed(stage.stages, (*here.path, "stages"), here)


def typo(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` clearly was meant to be; names that differ in a digit are different names."""
    for close in difflib.get_close_matches(name, list(known), n=3, cutoff=0.8):
        if re.findall(r"\d", close) == re.findall(r"\d", name) and close.count("/") == name.count("/"):
            return close
    return None
