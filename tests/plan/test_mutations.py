"""Two hundred edits of the five plans, drawn by chance: each is legal, or refused where it was made or is referred to.

A plan is laid out one value a line, so that the lines of every value are known without reading YAML. A refusal must lie
on the lines of what was edited, or on a value that names it; nothing but a BloomeryError may leave.
"""

import copy
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bloomery.errors import BloomeryError, Problems
from bloomery.plan.check import check
from bloomery.plan.load import load, load_text, resolve
from bloomery.plan.runs import planned_runs
from support.anything import Anything

pytestmark = pytest.mark.slow

PLANS = Path(__file__).resolve().parents[1] / "plans"
NAMES = ("agp", "felix", "harmonic", "holographic", "perspective")

KeyPath = tuple[str | int, ...]
Lines = dict[KeyPath, tuple[int, int]]


def lay_out(value: Any, path: KeyPath = (), indent: int = 0) -> tuple[list[str], Lines]:
    """JSON, which is YAML, with every value on lines of its own: the text, and {path: (first, last)} from 1."""
    text: list[str] = []
    lines: Lines = {}
    if not isinstance(value, dict | list) or not value:
        return [json.dumps(value)], {path: (1, 1)}
    items: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    text.append("{" if isinstance(value, dict) else "[")
    for number, (key, item) in enumerate(items):
        inner, below = lay_out(item, (*path, key), indent + 1)
        first = f"{json.dumps(str(key))}: {inner[0]}" if isinstance(value, dict) else inner[0]
        start = len(text)
        text += [" " * (indent + 1) + first, *inner[1:]]
        text[-1] += "," if number < len(items) - 1 else ""
        lines |= {where: (first + start, last + start) for where, (first, last) in below.items()}
    text.append(" " * indent + ("}" if isinstance(value, dict) else "]"))
    lines[path] = (1, len(text))
    return text, lines


def places(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Every value below the top."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [one for key, item in items for one in ((*path, key), *places(item, (*path, key)))]


def at(plan: Any, path: KeyPath) -> Any:
    for key in path:
        plan = plan[key]
    return plan


WRONG: tuple[Any, ...] = (None, True, -1, 0, -0.5, 3.7, "", "nothing-of-that-name", [], {}, ["x"], {"x": 1}, "5 GiB",
                          "7 min", "-3 tok", "150%", 10**30, "a b", "stage:nobody", "@", "x.y.z",
                          "baseline:*")  # fmt: skip


def mutate(plan: Any, chance: random.Random) -> tuple[str, list[KeyPath], set[str]]:
    """Edit the plan in place. Returns what was done, where, and the words that stood or stand there."""
    path = chance.choice(places(plan))
    parent, key = at(plan, path[:-1]), path[-1]
    words = words_of(key) | words_of(parent[key])
    act = chance.choice(("drop", "rename", "replace", "replace", "swap", "double", "negate", "move", "borrow"))
    if act == "drop":
        del parent[key]
        return act, [path[:-1]], words
    if act == "rename" and isinstance(parent, dict):
        changed = {(f"{name}x" if name == key else name): item for name, item in parent.items()}
        parent.clear()
        parent.update(changed)
        return act, [(*path[:-1], f"{key}x")], words | words_of(f"{key}x")
    if act == "swap":
        other = chance.choice(places(plan))
        if other[: len(path)] != path and path[: len(other)] != other:
            words |= words_of(at(plan, other))
            target = at(plan, other[:-1])
            parent[key], target[other[-1]] = target[other[-1]], parent[key]
            return act, [path, other], words
    if act == "double" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
        return act, [path, (*path[:-1], len(parent) - 1)], words
    if act == "move" and isinstance(parent, list) and len(parent) > 1:
        parent.insert(chance.randrange(len(parent)), parent.pop(key))
        return act, [path[:-1]], words_of(parent)
    if act == "negate" and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = -parent[key]
        return act, [path], words
    new = copy.deepcopy(at(plan, chance.choice(places(plan))) if act == "borrow" else chance.choice(WRONG))
    parent[key] = new
    return "replace", [path], words | words_of(new)


def words_of(value: Any) -> set[str]:
    """Names in a value: of keys and of text."""
    if isinstance(value, dict):
        return {word for key, item in value.items() for word in words_of(key) | words_of(item)}
    if isinstance(value, list):
        return {word for item in value for word in words_of(item)}
    return set(re.findall(r"[\w-]+", str(value)))


def problems_of(text: str, name: str) -> tuple[BloomeryError, ...]:
    """Everything that can be said without running; planning its runs too, where nothing is wrong."""
    try:
        loaded = load_text(text, PLANS / f"{name}.yaml")
    except Problems as error:
        return error.problems
    assert len(loaded.digest) == 64
    found = check(loaded, Anything(load(PLANS / f"{name}.yaml"), brings=False))
    if not found.problems:
        resolve(loaded)
        planned_runs(loaded)
    return found.problems


def line_of(problem: BloomeryError, name: str) -> int:
    match = re.match(rf".*{name}\.yaml:(\d+)", problem.where)
    assert match, f"no line: {problem}"
    return int(match[1])


def innermost(lines: Lines, plan: Any, line: int) -> KeyPath:
    """The mapping on whose lines it lies."""
    around = [path for path, (first, last) in lines.items() if first <= line <= last]
    around = [path for path in around if isinstance(at(plan, path), dict)]
    return min(around, key=lambda path: lines[path][1] - lines[path][0])


def test_what_is_laid_out_is_what_was_meant() -> None:
    raw = {"a": [1, {"b": "x"}], "c": {}}
    text, lines = lay_out(raw)
    assert json.loads("\n".join(text)) == raw
    assert lines[("a", 1, "b")] == (5, 5)
    assert lines[("a", 1)] == (4, 6)
    assert lines[("c",)] == (8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_laid_out_a_plan_is_as_legal_as_it_was(name: str) -> None:
    assert problems_of("\n".join(lay_out(dict(load(PLANS / f"{name}.yaml").raw))[0]), name) == ()


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_an_edit_is_legal_or_refused_where_it_was_made(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, first + 20):
        chance = random.Random(seed)
        name = NAMES[seed % len(NAMES)]
        plan = copy.deepcopy(dict(load(PLANS / f"{name}.yaml").raw))
        done, where, words = mutate(plan, chance)
        text, lines = lay_out(plan)
        problems = problems_of("\n".join(text), name)
        seen["refused" if problems else "legal"] += 1
        edited = [lines[path] for path in where if path in lines]
        around = [lines[path[:-1]][0] for path in where if path[:-1] in lines]
        for problem in problems:
            line = line_of(problem, name)
            if line in around or any(first <= line <= last for first, last in edited):
                continue
            node = innermost(lines, plan, line)
            named = words_of(at(plan, node)) | words_of(list(node))
            assert words & named - COMMON, f"seed {seed}: {done} {where}\n{problem}\n{text[line - 1]}"
    assert seen["refused"]
    assert seen["legal"]


COMMON = {"stages", "config", "gate", "any", "set", "on_fail", "claims", "metric", "op", "value", "of", "name"}
"""Words that stand everywhere, and refer to nothing."""
