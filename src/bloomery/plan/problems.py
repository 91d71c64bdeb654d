"""Turns pydantic's errors into ours: file and line, key path, what was found, what was expected, the nearest key.

`translate` takes the raw data, its marks and the model. One mistake gives one error: a misspelt required key is not
also a missing one.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bloomery.errors import PlanError, nearest
from bloomery.plan.yaml_text import KeyPath, Mark

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "mapping": "a mapping of keys to values",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
}


def dotted(raw: Any, path: KeyPath) -> str:
    """The key path as `--set` would take it: stages by their id."""
    out: list[str] = []
    node: Any = raw
    for part in path:
        node = descend(node, (part,))
        inside_stages = bool(out) and out[-1] == "stages" and isinstance(part, int)
        stage_id = node.get("id") if inside_stages and isinstance(node, Mapping) else None
        out.append(stage_id if isinstance(stage_id, str) else str(part))
    return ".".join(out)


def mark_of(marks: Mapping[KeyPath, Mark], path: KeyPath) -> Mark | None:
    """The mark of the deepest part of `path` that has one."""
    for length in range(len(path), -1, -1):
        if path[:length] in marks:
            return marks[path[:length]]
    return None


def where(raw: Any, marks: Mapping[KeyPath, Mark], path: KeyPath) -> str:
    """`plan.yaml:12:9: stages.pretrain.gate.0.metric`"""
    mark, name = mark_of(marks, path), dotted(raw, path)
    return ": ".join(part for part in (str(mark) if mark else "", name) if part)


def translate(
    error: ValidationError, model: Any, raw: Any, marks: Mapping[KeyPath, Mark], prefix: KeyPath = ()
) -> list[PlanError]:
    """Our errors for pydantic's. `raw` is the whole plan, `prefix` where the validated part of it stands."""
    node = descend(raw, prefix)
    found = [(_path(node, detail), detail) for detail in error.errors(include_url=False)]
    unknown = {path[:-1]: path for path, detail in found if detail["type"] == "extra_forbidden"}
    out: list[tuple[KeyPath, PlanError]] = []
    for path, detail in found:
        missing = detail["type"] == "missing"
        if missing and path[:-1] in unknown and _near(str(unknown[path[:-1]][-1]), str(path[-1])):
            continue
        if detail["type"] == "too_short" and any(other[: len(path)] == path and other != path for other, _ in found):
            continue  # pydantic counts only the items that were right
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ValidationError):  # a validator that let another model look
            out += [(prefix + path, problem) for problem in translate(cause, None, raw, marks, prefix + path)]
            continue
        at = prefix + (path[:-1] if missing else path)
        out.append((at, _error(detail, path, model, where(raw, marks, at))))
    ordered = sorted(out, key=lambda item: _position(marks, item[0]))
    return list(dict.fromkeys(problem for _, problem in ordered))


def _position(marks: Mapping[KeyPath, Mark], path: KeyPath) -> tuple[int, int]:
    mark = mark_of(marks, path)
    return (mark.line, mark.column) if mark else (0, 0)


def _error(detail: ErrorDetails, path: KeyPath, model: Any, place: str) -> PlanError:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1])
        hint = closest(str(path[-1]), known)
        expected = f"one of: {', '.join(known)}" if known else ""
        return PlanError(place, f"unknown key '{path[-1]}'", expected, hint)
    if kind == "missing":
        return PlanError(place, f"'{path[-1]}' is missing", f"the key '{path[-1]}'")
    if kind == "unit":
        return PlanError(place, detail["msg"], str(context["expected"]))
    if kind == "value_error":
        found, _, hint = str(context.get("error", detail["msg"])).partition("; ")
        return PlanError(place, found, hint=hint)
    value = detail["input"]
    if kind in ("literal_error", "enum"):
        choices = str(context["expected"])
        names = [choice.strip(" '") for choice in choices.replace(" or ", ",").split(",")]
        return PlanError(place, f"found {show(value)}", choices, _choice(value, names))
    if kind == "too_short":
        return PlanError(place, f"found {show(value)}", f"at least {context['min_length']} of them")
    if kind == "string_pattern_mismatch":
        return PlanError(place, f"found {show(value)}", f"a name that matches {context['pattern']}")
    if kind.endswith(("_type", "_parsing", "_from_float")):
        expected = next((text for name, text in _KINDS.items() if kind.startswith(name)), detail["msg"])
        return PlanError(place, f"found {show(value)}", expected)
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return PlanError(place, f"found {show(value)}", message)


def _choice(value: Any, names: list[str]) -> str:
    if not isinstance(value, str):
        return ""
    if value[::-1] in names:
        return f"did you mean '{value[::-1]}'?"
    return closest(value, names) if len(value) > 2 else ""


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` or nothing, for errors that list what is known anyway."""
    hint = nearest(name, known)
    return hint if hint.startswith("did") else ""


def show(value: Any) -> str:
    """A value in a few words, for an error message."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping with the keys " + ", ".join(map(str, value)) if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    text = str(value)
    shortened = text if len(text) <= 60 else text[:57] + "..."
    return f"'{shortened}'" if isinstance(value, str) else shortened


def _path(raw: Any, detail: ErrorDetails) -> KeyPath:
    """pydantic's location without the names of union members, which are no keys of the file."""
    out: list[str | int] = []
    node = raw
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        if _holds(node, part):
            out.append(part)
            node = node[part]
        elif index == last and detail["type"] == "missing":
            out.append(part)
    return tuple(out)


def _holds(node: Any, part: str | int) -> bool:
    if isinstance(node, Mapping):
        return part in node
    return isinstance(node, list | tuple) and isinstance(part, int) and 0 <= part < len(node)


def descend(raw: Any, path: KeyPath) -> Any:
    """What stands at `path`, or None."""
    for part in path:
        raw = raw[part] if _holds(raw, part) else None
    return raw


def _near(one: str, other: str) -> bool:
    return bool(closest(one, [other]))


def _keys(model: Any, path: KeyPath) -> list[str]:
    """The keys that the model at `path` below `model` knows."""
    candidates = _models(model, path)
    names = {field.alias or name for found in candidates for name, field in found.model_fields.items()}
    return sorted(names)


def _models(annotation: Any, path: KeyPath) -> list[type[BaseModel]]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0], path)
    if origin in (Union, types.UnionType):
        return [found for member in get_args(annotation) for found in _models(member, path)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return [annotation]
        for name, field in annotation.model_fields.items():
            if path[0] in (name, field.alias):
                return _models(field.annotation, path[1:])
        return []
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    return _models(arguments[-1], path[1:]) if arguments and path else []
