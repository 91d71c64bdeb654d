"""What `--suite NAME[:OPTIONS]` asks for after a run: a suite of its plan by name, or any installed kind.

OPTIONS is `key=value,key=value` in YAML values, or bare: then it is `tasks` where the kind has such a setting
(`lmeval:mmlu,arc`), else `data` (`perplexity:corpus:test`). `--set KEY=VALUE` goes to every suite that has KEY, `--set
NAME.KEY=VALUE` to one. A kind that needs `data` and is told none judges what the plan's suites judge, else the first
set's test, val or dev part. Refuses a setting that no suite has, and two suites of one name. Pure: no files, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from bloomery.engine.discover import Catalogue
from bloomery.engine.evaluations import settings_of
from bloomery.errors import BloomeryError, PlanError, Problems, nearest
from bloomery.plan.patch import set_path
from bloomery.plan.problems import translate
from bloomery.plan.schema import Plan
from bloomery.plan.yaml_text import parse

HELD_OUT = ("test", "val", "dev")


@dataclass(frozen=True, slots=True)
class Request:
    """A suite to be run. `name` is the source of its metrics."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    config: BaseModel


def requests(
    wanted: Sequence[str],
    changes: Sequence[str],
    plan: Plan | None,
    catalogue: Catalogue,
    parts: Mapping[str, Sequence[str]],
) -> list[Request]:
    """One for each of `wanted`. parts: {data set: its splits}, as prepared. Raises BloomeryError."""
    drafts: dict[str, tuple[str, dict[str, Any]]] = {}
    for text in wanted:
        name, kind, settings = _suite(text, plan, catalogue)
        if name in drafts:
            raise PlanError(f"--suite {text}", f"two suites called '{name}'", "each once")
        drafts[name] = (kind, settings)
    for change in changes:
        _change(change, drafts, catalogue)
    return [_typed(name, kind, settings, plan, catalogue, parts) for name, (kind, settings) in drafts.items()]


def _suite(text: str, plan: Plan | None, catalogue: Catalogue) -> tuple[str, str, dict[str, Any]]:
    """(name, kind, settings) of `NAME[:OPTIONS]`."""
    name, _, options = text.partition(":")
    declared = dict(plan.suites) if plan is not None else {}
    if name in declared:
        kind, settings = declared[name].kind, settings_of(declared[name])
        if declared[name].through:
            raise PlanError(f"--suite {text}", "a suite `through` a codec", "one that judges the model as it is")
    elif name in catalogue.suites():
        kind, settings = name, {}
    else:
        known = [*declared, *catalogue.suites()]
        expected = f"a suite of the plan or an installed kind: {', '.join(sorted(known))}"
        hint = nearest(name, known)
        raise PlanError(f"--suite {text}", f"no suite '{name}'", expected, hint if hint.startswith("did") else "")
    fields = catalogue.suite(kind).config_model().model_fields
    if "=" in options:
        for assignment in options.split(","):
            path, value = _assignment(f"--suite {text}", assignment)
            set_path(settings, path, value)
    elif options and "tasks" in fields:
        settings["tasks"] = [task.strip() for task in options.split(",")]
    elif options and "data" in fields:
        settings["data"] = options
    elif options:
        raise PlanError(f"--suite {text}", f"'{options}' is no setting of {kind}", "KEY=VALUE,KEY=VALUE")
    return name.rpartition("/")[2], kind, settings


def _change(change: str, drafts: Mapping[str, tuple[str, dict[str, Any]]], catalogue: Catalogue) -> None:
    place = f"--set {change}"
    path, value = _assignment(place, change)
    first, _, rest = path.partition(".")
    if first in drafts and rest:
        set_path(drafts[first][1], rest, value)
        return
    having = [
        settings for kind, settings in drafts.values() if first in catalogue.suite(kind).config_model().model_fields
    ]
    if not having:
        known = {key for kind, _ in drafts.values() for key in catalogue.suite(kind).config_model().model_fields}
        raise PlanError(
            place, f"no suite here has a setting '{first}'", ", ".join(sorted(known)), nearest(first, known)
        )
    for settings in having:
        set_path(settings, path, value)


def _assignment(place: str, text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise PlanError(place, f"'{text}' is not an assignment", "KEY=VALUE")
    try:
        return path.strip(), parse(value, place).value
    except Problems as error:
        raise PlanError(place, error.found, error.expected, "quote the value for the shell and for YAML") from None


def _typed(
    name: str,
    kind: str,
    settings: dict[str, Any],
    plan: Plan | None,
    catalogue: Catalogue,
    parts: Mapping[str, Sequence[str]],
) -> Request:
    model = catalogue.suite(kind).config_model()
    needs_data = "data" in model.model_fields and model.model_fields["data"].is_required()
    if needs_data and "data" not in settings and (held_out := _held_out(plan, parts)):
        settings = {**settings, "data": held_out}
    try:
        return Request(name, kind, settings, model.model_validate(settings))
    except ValidationError as error:
        problems: list[BloomeryError] = [
            PlanError(
                f"{name}: {one.where}".rstrip(": "), one.found, one.expected, one.hint or f"--set {name}.KEY=VALUE"
            )
            for one in translate(error, model, settings, {})
        ]
        raise Problems(problems) from None


def _held_out(plan: Plan | None, parts: Mapping[str, Sequence[str]]) -> str:
    for suite in plan.suites.values() if plan is not None else ():
        if suite.data is not None:
            return suite.data
    for name, splits in parts.items():
        for split in HELD_OUT:
            if split in splits:
                return f"{name}:{split}"
    return ""
