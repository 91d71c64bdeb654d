"""Small functions to complete, generated: what the builtin suite asks where no file of problems is named.

Each is a problem in HumanEval's format with a solution: a signature, a docstring that says all, and a test on fixed
inputs. Templates times constants give `available()` different problems. They are easy on purpose: a model of some
million parameters can learn them. The solutions pass their tests, and no stub does: a test of ours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.evaluate.humaneval import Problem

_CONSTANTS = tuple(range(2, 12))
_NUMBERS = (-4, -1, *range(16), 1000)
_LISTS = ([], [5], [1, 2, 3], [4, -2, 9, 9], [14, 1, 13, 2, 12, 3, 11, 4, 10, 5, 9, 6, 8, 7, 15, 0])
_TEXTS = ("", "iron ore", "The Bloomery", *("abcdefghijklmnop"[:size] for size in range(1, 15)), "a bc def ghij klmno")
"""Long and dense enough that no two constants have the same answers."""


@dataclass(frozen=True, slots=True)
class _Template:
    """`{k}` in any text stands for the constant."""

    name: str
    parameter: str
    says: str
    solution: str
    inputs: Sequence[object]


_TEMPLATES = (
    _Template("add_{k}", "number", "Return number plus {k}.", "number + {k}", _NUMBERS),
    _Template("subtract_{k}", "number", "Return number minus {k}.", "number - {k}", _NUMBERS),
    _Template("multiply_by_{k}", "number", "Return number times {k}.", "number * {k}", _NUMBERS),
    _Template("remainder_by_{k}", "number", "Return the remainder of number divided by {k}.", "number % {k}", _NUMBERS),
    _Template("divisible_by_{k}", "number", "Return whether {k} divides number.", "number % {k} == 0", _NUMBERS),
    _Template("above_{k}", "number", "Return whether number is greater than {k}.", "number > {k}", _NUMBERS),
    _Template("at_least_{k}", "number", "Return number, or {k} if number is less.", "max(number, {k})", _NUMBERS),
    _Template("square_plus_{k}", "number", "Return the square of number, plus {k}.", "number * number + {k}", _NUMBERS),
    _Template("all_plus_{k}", "numbers", "Return a list of the numbers, each plus {k}.",
              "[number + {k} for number in numbers]", _LISTS),
    _Template("all_times_{k}", "numbers", "Return a list of the numbers, each times {k}.",
              "[number * {k} for number in numbers]", _LISTS),
    _Template("only_above_{k}", "numbers", "Return a list of the numbers that are greater than {k}.",
              "[number for number in numbers if number > {k}]", _LISTS),
    _Template("count_above_{k}", "numbers", "Return how many of the numbers are greater than {k}.",
              "sum(number > {k} for number in numbers)", _LISTS),
    _Template("sum_plus_{k}", "numbers", "Return the sum of the numbers, plus {k}.", "sum(numbers) + {k}", _LISTS),
    _Template("first_{k}", "numbers", "Return the first {k} of the numbers.", "numbers[:{k}]", _LISTS),
    _Template("sorted_last_{k}", "numbers", "Return the {k} largest numbers in rising order.",
              "sorted(numbers)[-{k}:]", _LISTS),
    _Template("repeat_{k}", "text", "Return text repeated {k} times.", "text * {k}", _TEXTS),
    _Template("first_{k}_letters", "text", "Return the first {k} characters of text.", "text[:{k}]", _TEXTS),
    _Template("last_{k}_letters", "text", "Return the last {k} characters of text.", "text[-{k}:]", _TEXTS),
    _Template("longer_than_{k}", "text", "Return whether text has over {k} characters.", "len(text) > {k}", _TEXTS),
    _Template("words_longer_than_{k}", "text", "Return a list of the words of text that have over {k} characters.",
              "[word for word in text.split() if len(word) > {k}]", _TEXTS),
)  # fmt: skip


def available() -> int:
    return len(_TEMPLATES) * len(_CONSTANTS)


def problems(count: int, seed: int = 0) -> tuple[tuple[Problem, str], ...]:
    """At most `count` different problems, each with a solution; which ones, the seed says."""
    chosen = random.Random(f"functions {seed}").sample(range(available()), min(count, available()))
    return tuple(_problem(number) for number in chosen)


def _problem(number: int) -> tuple[Problem, str]:
    template = _TEMPLATES[number % len(_TEMPLATES)]
    constant = str(_CONSTANTS[number // len(_TEMPLATES)])

    def filled(text: str) -> str:
        return text.replace("{k}", constant)

    name = filled(template.name)
    prompt = f'def {name}({template.parameter}):\n    """{filled(template.says)}"""\n'
    reference = f"lambda {template.parameter}: {filled(template.solution)}"
    test = (
        f"def check(candidate):\n    reference = {reference}\n    for value in {list(template.inputs)!r}:\n"
        "        found, expected = candidate(value), reference(value)\n"
        "        assert type(found) is type(expected) and found == expected, (value, found)\n"
    )
    return Problem(f"functions/{name}", prompt, name, test), f"    return {filled(template.solution)}\n"
