"""YAML 1.2 text to plain values, with the line of every key. Nothing else of YAML comes through.

Refused, each with its line, and all of them in one look: duplicate keys, merge keys (`<<`), tags, keys that are not
text, several documents, numbers that are not finite, too much depth or size (aliases counted where they are used).
Anchors are copied, never shared. https://yaml.org/spec/1.2.2/
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bloomery.errors import BloomeryError, PlanError, Problems

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]
"""("stages", 0, "gate", 1, "metric"): from the top of the file down."""

_STANDARD = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something stands. Lines and columns count from 1; line 0 is the whole file, or the command line."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Parsed:
    value: Any
    marks: dict[KeyPath, Mark]


def decode(content: bytes, file: str) -> str:
    """Bytes of a file to text; refuses what is not UTF-8 or too large."""
    if len(content) > MAX_BYTES:
        raise PlanError(file, f"{len(content)} bytes", f"at most {MAX_BYTES}", "a plan names data, it does not hold it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise PlanError(f"{file}:{line}", found, "a text file in UTF-8", "save the file with that encoding") from None


def parse(text: str, file: str) -> Parsed:
    """The one document of `text`. Raises Problems with every mistake found, in the order of the file."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise PlanError(file, "too long", f"at most {MAX_BYTES} bytes")
    node = _compose(text, file)
    builder = _Builder(file)
    value = builder.build(node, (), 0) if node is not None else None
    if builder.problems:
        raise Problems(builder.problems)
    return Parsed(value, builder.marks)


def _compose(text: str, file: str) -> Node | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        raise Problems([_syntax(error, text, file)]) from None
    except RecursionError:
        raise Problems([PlanError(file, "nested too deeply", f"at most {MAX_DEPTH} levels")]) from None
    except (YAMLError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise Problems([PlanError(file, f"not YAML: {first}", "YAML 1.2 text")]) from None
    if text.startswith("%") or "\n%YAML" in text:
        raise Problems([PlanError(f"{file}:1", "a YAML directive (%)", "none: plans are YAML 1.2", "remove that line")])
    return node


def _syntax(error: MarkedYAMLError, text: str, file: str) -> BloomeryError:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context).split())
    if mark is None:
        return PlanError(file, f"not YAML: {problem}", "YAML 1.2 text")
    where = str(Mark(file, mark.line + 1, mark.column + 1))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "\\t" in problem:
        return PlanError(where, "a tab in the indentation", "spaces", "let your editor turn tabs into spaces")
    if "found another document" in problem:
        return PlanError(where, "a second document (---)", "one plan in a file")
    if "undefined alias" in problem:
        return PlanError(where, f"not YAML: {problem}", "an anchor (&name) further up")
    context = " ".join(str(error.context or "").split())
    hint = 'inside braces quote operators ("<="), and prose that holds a comma' if "flow" in context else ""
    return PlanError(where, f"not YAML: {problem}", f"YAML 1.2 ({context})" if context else "YAML 1.2", hint)


class _Builder:
    """Turns a composed node graph into values; collects marks and problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[BloomeryError] = []
        self.nodes = 0

    def build(self, node: Node, path: KeyPath, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            if not any(problem.found.startswith("too ") for problem in self.problems):
                what = "too many values" if self.nodes > MAX_NODES else "too many levels"
                limit = f"at most {MAX_NODES} values and {MAX_DEPTH} levels, with aliases written out"
                self.refuse(node, path, what, limit)
            return None
        self.marks.setdefault(path, self.mark(node))
        if isinstance(node, MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            self.tag(node, path, "seq")
            return [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        self.tag(node, path, "map")
        out: dict[str, Any] = {}
        seen: dict[str, Mark] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if str(key_node.tag) == _STANDARD + "merge" or key == "<<":
                self.refuse(key_node, path, "a merge key (<<)", "keys written out", "use an anchor for a whole value")
                continue
            if not isinstance(key_node, ScalarNode) or str(key_node.tag) not in (_STANDARD + "str", "!"):
                shown = key if isinstance(key, str) else "a collection"
                self.refuse(key_node, path, f"the key {shown} is not text", "a name", f'write "{shown}": in quotes')
                continue
            if key in seen:
                self.refuse(key_node, (*path, key), f"'{key}' a second time", f"once; it stands at {seen[key]}")
                continue
            seen[key] = self.marks[(*path, key)] = self.mark(key_node)
            out[key] = self.build(value_node, (*path, key), depth + 1)
        return out

    def scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        tag, text = str(node.tag).removeprefix(_STANDARD), node.value
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return _integer(text)
                case "float":
                    return self.finite(node, path, float(text.replace("_", "")))
                case "str" | "timestamp" | "!":
                    return text
                case _:
                    self.refuse(node, path, f"the tag {node.tag}", "a plain value: a plan holds no objects")
        except ValueError:
            if tag == "float":
                return self.finite(node, path, math.nan)
            self.refuse(node, path, f"'{text[:40]}' is no number", "a number")
        return None

    def finite(self, node: ScalarNode, path: KeyPath, value: float) -> float:
        if not math.isfinite(value):
            self.refuse(node, path, f"{node.value} is not a finite number", "a finite number")
        return value

    def tag(self, node: Node, path: KeyPath, standard: str) -> None:
        if str(node.tag) != _STANDARD + standard:
            self.refuse(node, path, f"the tag {node.tag}", "a plain value: a plan holds no objects")

    def mark(self, node: Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def refuse(self, node: Node, path: KeyPath, found: str, expected: str, hint: str = "") -> None:
        dotted = ".".join(str(part) for part in path)
        where = f"{self.mark(node)}: {dotted}" if dotted else str(self.mark(node))
        self.problems.append(PlanError(where, found, expected, hint))


def _integer(text: str) -> int:
    """YAML 1.2: 0o17 and 0x1f are octal and hexadecimal, 017 is seventeen."""
    digits = text.replace("_", "")
    if digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b"):
        return int(digits, 0)
    return int(digits)
