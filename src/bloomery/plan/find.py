"""Where a plan lies: a file, or a bundled one by name (`quickstart`, `harmonic/quickstart`).

Bundled plans are `systems/*/plans/*.yaml` beside this package, and the folders that installed systems bring. A short
name that two systems use is refused. Neither YAML nor pydantic is imported here: listing plans is instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bloomery.errors import PlanError, nearest

_BUNDLED = Path(__file__).resolve().parent.parent / "systems"
_NAME = re.compile(r"^name:\s*['\"]?([a-z0-9_/-]+)", re.MULTILINE)
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Found:
    """A bundled plan. `name` is its full name, `short` the file's stem, `about` the comment it opens with."""

    name: str
    short: str
    path: Path
    about: str = ""


def bundled_plans(folders: Iterable[Path] = ()) -> list[Found]:
    """Every bundled plan, by name. `folders` are further plan folders, brought by installed systems."""
    files = sorted(_BUNDLED.glob("*/plans/*.yaml"))
    for folder in folders:
        files += sorted(file for file in Path(folder).glob("*.yaml") if file.resolve() not in files)
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        match = _NAME.search(text)
        name = match[1] if match else f"{file.parent.parent.name}/{file.stem}"
        found.setdefault(name, Found(name, file.stem, file, _opening_comment(text)))
    return [found[name] for name in sorted(found)]


def find_plan(name: str | Path, folders: Iterable[Path] = (), *, relative_to: Path | None = None) -> Path:
    """The file of a plan, from a path (below `relative_to`, or the current folder) or a bundled name.

    Raises PlanError with the nearest bundled name, or both places where a name is ambiguous.
    """
    path = Path(name) if relative_to is None else relative_to / name
    if path.is_file():
        return path
    if path.is_dir() and not _is_name(str(name), folders):
        raise PlanError(str(name), "a folder", "a plan file (.yaml) or the name of a bundled plan")
    plans = bundled_plans(folders)
    for plan in plans:
        if plan.name == str(name):
            return plan.path
    short = [plan for plan in plans if plan.short == str(name)]
    if len(short) == 1:
        return short[0].path
    if short:
        known = ", ".join(plan.name for plan in short)
        raise PlanError(str(name), "several bundled plans have this name", "the full name", f"one of: {known}")
    if path.suffix in _SUFFIXES:
        raise PlanError(str(name), "no such file", "a plan file (.yaml) or the name of a bundled plan")
    names = [plan.name for plan in plans] + [plan.short for plan in plans]
    hint = nearest(str(name), names) or "see `bloomery plans`"
    raise PlanError(str(name), "no such plan", "a plan file (.yaml) or the name of a bundled plan", hint)


def _is_name(name: str, folders: Iterable[Path]) -> bool:
    return any(name in (plan.name, plan.short) for plan in bundled_plans(folders))


def _opening_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)
