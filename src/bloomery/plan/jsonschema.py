"""The grammar for editors (JSON Schema 2020-12) and for readers (the key tables of docs/plan.md), both from schema.py.

The documentation of a key is the text below its field, read from the source on demand: loading a plan pays nothing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bloomery.plan import schema
from bloomery.plan.schema import (
    AnyOf,
    Arm,
    Baseline,
    Budget,
    Claim,
    Condition,
    Control,
    Input,
    Plan,
    Rule,
    Select,
    StageSpec,
    Suite,
)

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The plan", Plan),
    ("A stage (`stages`)", StageSpec),
    ("A condition (`gate`, `when`, `stop_if`)", Condition),
    ("An alternative", AnyOf),
    ("A rule (`on_fail`)", Rule),
    ("The control (`control`)", Control),
    ("A budget (`budget`)", Budget),
    ("A suite (`suites`)", Suite),
    ("A baseline (`baselines`)", Baseline),
    ("An input (`inputs`)", Input),
    ("An arm, or a stage's own control (`arms`, `control`)", Arm),
    ("A selection (`select`)", Select),
    ("A claim (`claims`)", Claim),
)

_UNITS = {name: name.lower() for name in ("Bytes", "Count", "Money", "Quantity", "Ratio", "Seconds", "Share", "Tokens")}


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of a plan file, with units as patterns and every key documented."""
    found = Plan.model_json_schema(by_alias=True)
    definitions = {"Plan": found, **found.get("$defs", {})}
    for _, model in _TABLES:
        properties = definitions.get(model.__name__, {}).get("properties", {})
        for name, text in documentation(model).items():
            key = model.model_fields[name].alias or name
            if key in properties:
                properties[key]["description"] = text
    found["anyOf"] = [{"required": found.pop("required")}, {"required": ["extends", "name"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "Bloomery plan",
        "description": (schema.__doc__ or "").splitlines()[0],
    }


def plan_reference() -> str:
    """The key tables of docs/plan.md, in Markdown."""
    return "\n".join(key_table(title, model) for title, model in _TABLES)


def key_table(title: str, model: type[BaseModel]) -> str:
    """The keys of one model as a Markdown table under a heading."""
    notes = documentation(model)
    lines = [f"### {title}", "", inspect.cleandoc(model.__doc__ or ""), "", "| key | value | default | meaning |"]
    lines.append("|---|---|---|---|")
    for name, field in model.model_fields.items():
        cells = (f"`{field.alias or name}`", _type(model, name, field), _default(field), notes.get(name, ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


@cache
def documentation(model: type[BaseModel]) -> Mapping[str, str]:
    """{field: the text below it in the source}, inherited fields included."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for base in reversed(model.__bases__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= documentation(base)
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text).strip()
            case _:
                pass
    return found


def _type(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """The type in a reader's words; units by their name."""
    written = next((found[name] for found in map(inspect.get_annotations, model.__mro__) if name in found), "")
    for unit, word in _UNITS.items():
        if isinstance(written, str) and written.removesuffix(" | None") == unit:
            return word
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        words = dict.fromkeys(_words(member) for member in arguments if member is not type(None))
        return " or ".join(words)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"AnyOf": "any", "StageSpec": "stage"}.get(annotation.__name__, annotation.__name__.lower())
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = _words(arguments[1])
        return "mapping" if inner == "value" else f"mapping to {inner}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "value"}
    return names.get(annotation, "value")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, (), {}, "") or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping):
        return "`{" + ", ".join(f"{key}: {inner:g}" for key, inner in value.items()) + "}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"
