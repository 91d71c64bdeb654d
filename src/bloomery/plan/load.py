"""From a plan file to a Plan: YAML, `extends`, `set`, `--set`, `fraction`, validation; every value keeps its line.

    loaded = load("quickstart", ["stages.pretrain.config.tokens=300k tok"])

Precedence, weak to strong: the extended plan, this plan (its keys replace whole), its `set`, `--set`, and later the
patches of its own rules (`resolve`). All mistakes are raised at once, as Problems.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bloomery.errors import BloomeryError, PlanError, Problems
from bloomery.plan.canon import digest
from bloomery.plan.find import find_plan
from bloomery.plan.patch import apply_patch, locate_stage, set_path, stage_ids
from bloomery.plan.problems import descend, show, translate, where
from bloomery.plan.schema import Plan
from bloomery.plan.units import UnitError, parse_fraction, scale_tokens
from bloomery.plan.unroll import unroll, with_cycles
from bloomery.plan.yaml_text import KeyPath, Mark, Parsed, decode, parse

__all__ = ["Loaded", "apply_patch", "find_plan", "load", "load_text", "resolve", "stage_ids"]

MAX_EXTENDS = 10


@dataclass(frozen=True)
class Loaded:
    """A plan with all that is known about where its values stand."""

    plan: Plan
    text: str
    """The source of the file itself, as written."""
    source: Path
    raw: Mapping[str, Any]
    """Plain data, resolved: `extends`, `set`, `--set` and `fraction` are applied and gone. Never changed in place."""
    lines: Mapping[KeyPath, Mark] = field(repr=False)
    overrides: tuple[str, ...] = ()
    """The `--set` arguments, as written."""
    extends: tuple[Path, ...] = ()
    """The files it stands on, nearest first."""

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, `--set` included."""
        return digest(self.plan)

    @property
    def exploratory(self) -> bool:
        """Without a hypothesis, or changed by `--set`: nothing that a run of it finds can be confirmed."""
        return self.plan.hypothesis is None or bool(self.overrides)

    def where(self, path: str | KeyPath) -> str:
        """`plan.yaml:12:9: stages.pretrain.kind` for a key path; a dotted one names stages by their id."""
        return where(self.raw, self.lines, self.path(path) if isinstance(path, str) else path)

    def path(self, dotted: str) -> KeyPath:
        """("stages", 0, "kind") for `stages.pretrain.kind`."""
        parts = dotted.split(".") if dotted else []
        if len(parts) >= 2 and parts[0] == "stages" and (found := locate_stage(self.raw, parts[1])) is not None:
            return (*found[0], *_numbers(found[1], parts[2:]))
        return _numbers(self.raw, parts)


def load(source: str | Path, overrides: Sequence[str] = (), *, folders: Iterable[Path] = ()) -> Loaded:
    """Load a plan from a file or by the name of a bundled one. `overrides` are `path=value` with YAML values.

    Raises Problems with every mistake found. `folders` hold the plans that installed systems bring.
    """
    folders = tuple(folders)
    path = find_plan(source, folders)
    return load_text(_read(path), path, overrides, folders=folders)


def load_text(text: str, source: Path, overrides: Sequence[str] = (), *, folders: Iterable[Path] = ()) -> Loaded:
    """Load a plan from its text; `source` is where it stands, for messages and for `extends` by relative path."""
    problems: list[BloomeryError] = []
    draft = _expand(parse(text, str(source)), source, tuple(folders), (source,), problems)
    for override in overrides:
        _override(draft, override, problems)
    _scale(draft, problems)
    problems += _python_names(draft)
    plan: Plan | None = None
    try:
        plan = Plan.model_validate(draft.raw)
    except ValidationError as error:
        problems += translate(error, Plan, draft.raw, draft.marks)
    if problems or plan is None:
        raise Problems(problems)
    return Loaded(plan, text, source, draft.raw, draft.marks, tuple(overrides), draft.extends)


def resolve(loaded: Loaded, patches: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> Plan:
    """The plan as it is walked: loops unrolled, then the patches of used rules, each (id of the rule's stage, patch),
    applied in order."""
    raw, cycles = unroll(loaded.raw)
    for stage_id, patch in patches:
        raw = apply_patch(raw, stage_id, patch)
    try:
        return with_cycles(Plan.model_validate(raw), cycles)
    except ValidationError as error:
        raise Problems(translate(error, Plan, raw, loaded.lines)) from None


@dataclass
class _Draft:
    """A plan on its way: plain data, and the mark of every key, which may stand in another file."""

    raw: dict[str, Any]
    marks: dict[KeyPath, Mark]
    extends: tuple[Path, ...] = ()

    def assign(self, path: str, value: Any, marks: Mapping[KeyPath, Mark]) -> None:
        """Set one value; `marks` are those of the value, the empty path its own."""
        target = set_path(self.raw, path, value)
        for old in [known for known in self.marks if known[: len(target)] == target]:
            del self.marks[old]
        self.marks.update({target + below: mark for below, mark in marks.items()})


def _read(path: Path) -> str:
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise PlanError(str(path), f"cannot be read: {error.strerror}", "a plan file") from None


def _expand(
    parsed: Parsed, source: Path, folders: tuple[Path, ...], chain: tuple[Path, ...], problems: list[BloomeryError]
) -> _Draft:
    """Lay this file over the plan that it extends, then apply its `set`."""
    raw, marks = parsed.value, parsed.marks
    if not isinstance(raw, dict):
        found = "an empty file" if raw is None else show(raw)
        raise Problems([PlanError(f"{source}:1", found, "a plan: keys and values, beginning with bloomery: 1")])
    base_name, patch = raw.pop("extends", None), raw.pop("set", None)
    draft = _Draft(raw, marks)
    if base_name is not None:
        base = _base(base_name, marks.get(("extends",), Mark(str(source))), source, folders, chain, problems)
        if base is not None:
            if "name" not in raw or raw["name"] == base.raw.get("name"):
                place = f"{marks.get(('name',), marks[('extends',)])}: name"
                found = f"the name of the plan that it extends, '{base.raw.get('name')}'"
                problems.append(PlanError(place, found, "name: a name of its own; runs and registrations go by it"))
            kept = {path: mark for path, mark in base.marks.items() if not path or path[0] not in raw}
            draft = _Draft({**base.raw, **raw}, {**kept, **marks}, base.extends)
    if patch is not None and not isinstance(patch, dict):
        problems.append(PlanError(f"{marks[('set',)]}: set", f"found {show(patch)}", "{path: value}"))
        patch = None
    for path, value in (patch or {}).items():
        below = {known[2:]: mark for known, mark in marks.items() if known[:2] == ("set", path)}
        _try(draft, path, value, below, problems)
    return draft


def _base(
    name: Any,
    mark: Mark,
    source: Path,
    folders: tuple[Path, ...],
    chain: tuple[Path, ...],
    problems: list[BloomeryError],
) -> _Draft | None:
    place = f"{mark}: extends"
    if not isinstance(name, str):
        problems.append(PlanError(place, f"found {show(name)}", "a plan file, or the name of a bundled plan"))
        return None
    try:
        path = find_plan(name, folders, relative_to=source.parent)
    except PlanError as error:
        problems.append(PlanError(place, f"'{name}': {error.found}", error.expected, error.hint))
        return None
    if path.resolve() in [known.resolve() for known in chain]:
        around = " -> ".join(known.name for known in (*chain, path))
        raise Problems([PlanError(place, f"a circle: {around}", "a plan that does not stand on itself")])
    if len(chain) >= MAX_EXTENDS:
        raise Problems([PlanError(place, f"more than {MAX_EXTENDS} plans on each other", "a shorter chain")])
    draft = _expand(parse(_read(path), str(path)), path, folders, (*chain, path), problems)
    draft.extends = (path, *draft.extends)
    return draft


def _override(draft: _Draft, override: str, problems: list[BloomeryError]) -> None:
    path, equals, text = override.partition("=")
    place = f"--set {override}"
    if not equals or not path.strip():
        problems.append(PlanError(place, "not an assignment", "PATH=VALUE", "for example --set seeds='[0, 1]'"))
        return
    try:
        parsed = parse(text, place)
    except Problems as error:
        first = error.problems[0]
        problems.append(PlanError(place, first.found, first.expected, "quote the value for the shell and for YAML"))
        return
    if path.strip() in ("extends", "set"):
        problems.append(PlanError(place, f"'{path}' cannot be set", "a key of the plan", "write a plan that extends"))
        return
    marks = {below: Mark(place) for below in parsed.marks} or {(): Mark(place)}
    _try(draft, path.strip(), parsed.value, marks, problems)


def _try(draft: _Draft, path: str, value: Any, marks: Mapping[KeyPath, Mark], problems: list[BloomeryError]) -> None:
    try:
        draft.assign(path, copy.deepcopy(value), marks)
    except PlanError as error:
        place = marks.get((), Mark("set"))
        problems.append(PlanError(f"{place}: {path}" if place.line else str(place), *_rest(error)))


def _rest(error: BloomeryError) -> tuple[str, str, str]:
    return error.found, error.expected, error.hint


def _scale(draft: _Draft, problems: list[BloomeryError]) -> None:
    """Multiply every quantity written in `tok` by `fraction`, rules and arms included."""
    written = draft.raw.get("fraction")
    if written is None:
        return
    try:
        fraction = parse_fraction(written)
    except UnitError:
        return  # the schema says so, with its line
    if fraction != 1:
        draft.raw = _scaled(draft.raw, fraction)


def _scaled(value: Any, fraction: Fraction) -> Any:
    if isinstance(value, dict):
        return {key: _scaled(item, fraction) for key, item in value.items()}
    if isinstance(value, list):
        return [_scaled(item, fraction) for item in value]
    return scale_tokens(value, fraction) if isinstance(value, str) else value


def _python_names(draft: _Draft) -> list[BloomeryError]:
    """`as_` and `from_` are the names of `as` and `from` in Python; in a file they are mistakes."""
    out: list[BloomeryError] = []
    for path in draft.marks:
        if path and path[-1] in ("as_", "from_") and "config" not in path and path[0] in ("stages", "claims"):
            key = str(path[-1])
            out.append(PlanError(where(draft.raw, draft.marks, path), f"unknown key '{key}'", f"'{key[:-1]}'"))
    return out


def _numbers(node: Any, parts: list[str]) -> KeyPath:
    out: list[str | int] = []
    for part in parts:
        key: str | int = int(part) if isinstance(node, list) and part.isdigit() else part
        out.append(key)
        node = descend(node, (key,))
    return tuple(out)
