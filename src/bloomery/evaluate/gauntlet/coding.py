"""Code: a function f from its description in steps, over whole numbers, texts or lists. Held out: two cases.

The tuple is what the function computes on fixed inputs: `add 2, then add 3` and `add 5` are one item. The reference is
Python; the outputs that it is judged by come from a second writing of every step, OPERATIONS' own functions, and a test
runs the one against the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bloomery.evaluate.gauntlet.item import Dice, Task, Template, compact
from bloomery.evaluate.gauntlet.program import computes

INPUTS: dict[str, tuple[Any, ...]] = {
    "whole number": (0, 1, 2, 5, 9, 14, 27, -3, -8, 64),
    "text": ("", "a", "Bloom", "green tea", "abcabc", "Zebra Fox", "to be or not"),
    "list of numbers": ([3], [1, 2, 3, 4], [5, -2, 5, 0], [9, 8, 12, 1, 7, 6], [-4, 11, 2]),
}
LETTERS = "abeot"


@dataclass(frozen=True, slots=True)
class Operation:
    """`says` and `writes` name the parameter as {k}; `takes` draws it, or there is none."""

    says: str
    writes: str
    does: Callable[[Any, Any], Any]
    takes: Callable[[Dice], Any] = lambda dice: None
    ends: bool = False
    """Gives another kind of value: nothing comes after it."""


def _small(dice: Dice) -> int:
    return dice.between(2, 12)


def _few(dice: Dice) -> int:
    return dice.between(1, 4)


def _letter(dice: Dice) -> str:
    return dice.pick(LETTERS)


OPERATIONS: dict[str, dict[str, Operation]] = {
    "whole number": {
        "add": Operation("add {k}", "x + {k}", lambda x, k: x + k, _small),
        "subtract": Operation("subtract {k}", "x - {k}", lambda x, k: x - k, _small),
        "multiply": Operation("multiply by {k}", "x * {k}", lambda x, k: x * k, _small),
        "divide": Operation("divide by {k}, rounding down", "x // {k}", lambda x, k: x // k, _small),
        "remainder": Operation("take the remainder of division by {k}", "x % {k}", lambda x, k: x % k, _small),
        "square": Operation("square it", "x * x", lambda x, _: x**2),
        "negate": Operation("change the sign", "-x", lambda x, _: 0 - x),
        "size": Operation("drop the sign", "abs(x)", lambda x, _: x if x >= 0 else -x),
        "at_least": Operation("raise it to at least {k}", "max(x, {k})", lambda x, k: x if x > k else k, _small),
        "at_most": Operation("lower it to at most {k}", "min(x, {k})", lambda x, k: x if x < k else k, _small),
    },
    "text": {
        "upper": Operation("make it upper case", "x.upper()", lambda x, _: "".join(c.upper() for c in x)),
        "lower": Operation("make it lower case", "x.lower()", lambda x, _: "".join(c.lower() for c in x)),
        "reverse": Operation("reverse it", "x[::-1]", lambda x, _: "".join(reversed(x))),
        "first": Operation("keep the first {k} characters", "x[:{k}]", lambda x, k: "".join(list(x)[:k]), _few),
        "drop": Operation("drop the first {k} characters", "x[{k}:]", lambda x, k: "".join(list(x)[k:]), _few),
        "repeat": Operation("repeat it {k} times", "x * {k}", lambda x, k: "".join([x] * k), _small),
        "append": Operation("put {k} after it", "x + '{k}'", lambda x, k: f"{x}{k}", _letter),
        "prepend": Operation("put {k} before it", "'{k}' + x", lambda x, k: f"{k}{x}", _letter),
        "remove": Operation(
            "remove every {k}", "x.replace('{k}', '')", lambda x, k: "".join(c for c in x if c != k), _letter
        ),
        "length": Operation("count its characters", "len(x)", lambda x, _: sum(1 for _ in x), ends=True),
        "count": Operation(
            "count how often {k} occurs", "x.count('{k}')", lambda x, k: sum(c == k for c in x), _letter, ends=True
        ),
    },
    "list of numbers": {
        "sort": Operation("sort it", "sorted(x)", lambda x, _: sorted(x)),
        "descending": Operation("sort it downwards", "sorted(x, reverse=True)", lambda x, _: sorted(x)[::-1]),
        "reverse": Operation("reverse it", "x[::-1]", lambda x, _: list(reversed(x))),
        "first": Operation("keep the first {k}", "x[:{k}]", lambda x, k: [n for i, n in enumerate(x) if i < k], _few),
        "drop": Operation("drop the first {k}", "x[{k}:]", lambda x, k: [n for i, n in enumerate(x) if i >= k], _few),
        "add": Operation("add {k} to each", "[n + {k} for n in x]", lambda x, k: [k + n for n in x], _small),
        "multiply": Operation("multiply each by {k}", "[n * {k} for n in x]", lambda x, k: [k * n for n in x], _small),
        "above": Operation(
            "keep those above {k}", "[n for n in x if n > {k}]", lambda x, k: [n for n in x if not n <= k], _small
        ),
        "even": Operation(
            "keep the even ones", "[n for n in x if n % 2 == 0]", lambda x, _: [n for n in x if not n & 1]
        ),
        "sum": Operation("add them all up", "sum(x)", lambda x, _: sum(x), ends=True),
        "length": Operation("count them", "len(x)", lambda x, _: sum(1 for _ in x), ends=True),
    },
}

Step = list[Any]
"""[name, parameter]"""


def _steps(kind: str, steps: list[Step]) -> Task:
    known = OPERATIONS[kind]
    says = ", then ".join(known[name].says.format(k=k) for name, k in steps)
    *first, last = (known[name].writes.format(k=k) for name, k in steps)
    lines = ["def f(x):", *(f"    x = {one}" for one in first), f"    return {last}"]

    def does(x: Any) -> Any:
        for name, k in steps:
            x = known[name].does(x, k)
        return x

    return _task(f"Write a Python function f(x) for a {kind} x: {says}.", "\n".join(lines), kind, does)


def _cases(even: Step, odd: Step) -> Task:
    known = OPERATIONS["whole number"]
    (one, k), (other, m) = even, odd
    question = (
        f"Write a Python function f(x) for a whole number x. If x is even: {known[one].says.format(k=k)}. "
        f"If x is odd: {known[other].says.format(k=m)}."
    )
    lines = (
        "def f(x):", "    if x % 2 == 0:", f"        return {known[one].writes.format(k=k)}",
        f"    return {known[other].writes.format(k=m)}",
    )  # fmt: skip

    def does(x: int) -> Any:
        return known[other].does(x, m) if x & 1 else known[one].does(x, k)

    return _task(question, "\n".join(lines), "whole number", does)


def _task(question: str, reference: str, kind: str, does: Callable[[Any], Any]) -> Task:
    inputs = INPUTS[kind]
    outputs = compact([does(one) for one in inputs])
    return Task(question, reference, lambda text: computes(text, inputs, outputs), (kind, outputs), outputs=outputs)


def _draw(kind: str, count: int) -> Callable[[Dice], tuple[str, list[Step]]]:
    known = OPERATIONS[kind]
    names = tuple(known)
    inner = tuple(name for name in names if not known[name].ends)

    def draw(dice: Dice) -> tuple[str, list[Step]]:
        chosen = [dice.pick(inner) for _ in range(count - 1)] + [dice.pick(names)]
        return kind, [[name, known[name].takes(dice)] for name in chosen]

    return draw


def _draw_cases(dice: Dice) -> tuple[Step, Step]:
    _, (even, odd) = _draw("whole number", 2)(dice)
    return even, odd


TEMPLATES = (
    Template("code", "number_2", _draw("whole number", 2), _steps, family="computes"),
    Template("code", "number_3", _draw("whole number", 3), _steps, family="computes"),
    Template("code", "text_2", _draw("text", 2), _steps, family="computes"),
    Template("code", "list_2", _draw("list of numbers", 2), _steps, family="computes"),
    Template("code", "cases", _draw_cases, _cases, family="computes", held_out=True),
)
