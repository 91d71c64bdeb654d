"""Items and templates of the gauntlet, and draws that are the same under every Python.

A template draws a tuple of parameters and builds from it, and from nothing else, a Task: question, reference, checker.
An item is therefore known by its name, `CATEGORY/TEMPLATE [parameters]`, and built again from it (generate.item_named).
`key` is the normalised tuple, by which sets are split: operands in order of size, a set of words sorted, what a
function computes; never how the question is worded.

Draws use only `Random.getrandbits`, which Python promises to keep, seeded by a sha256.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

CATEGORIES: tuple[str, ...] = ("math", "factual", "reasoning", "counting", "code", "format", "instruct", "creative")

Check = Callable[[str], bool]
"""Whether what a model wrote after the prompt is a right answer. Any text may come; it never raises."""

Element = TypeVar("Element")


class Dice:
    """Draws that depend on the seed alone."""

    def __init__(self, *seed: object) -> None:
        self._bits = random.Random(int(hashlib.sha256(repr(seed).encode()).hexdigest(), 16))

    def below(self, limit: int) -> int:
        """One of 0 to limit - 1."""
        width = limit.bit_length()
        while (drawn := self._bits.getrandbits(width)) >= limit:
            pass
        return drawn

    def between(self, low: int, high: int) -> int:
        """One of low to high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, several: Sequence[Element]) -> Element:
        return several[self.below(len(several))]

    def shuffled(self, several: Sequence[Element]) -> list[Element]:
        left = list(several)
        return [left.pop(self.below(len(left))) for _ in range(len(left))]

    def sample(self, several: Sequence[Element], count: int) -> list[Element]:
        """`count` different ones, in the order drawn."""
        left = list(several)
        return [left.pop(self.below(len(left))) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Task:
    """What a template makes of its parameters."""

    question: str
    reference: str
    """A right answer, and what is trained on."""
    check: Check
    key: tuple[Any, ...]
    """The normalised tuple."""
    options: tuple[str, ...] = ()
    """Every answer of this kind, to be refused when all are given at once."""
    outputs: str = ""
    """Of a program: what it must compute, as JSON."""


@dataclass(frozen=True, slots=True)
class Template:
    """`draw` gives parameters that JSON can hold; `build(*parameters)` is pure. `family`: templates that ask about the
    same tuples in other words."""

    category: str
    name: str
    draw: Callable[[Dice], tuple[Any, ...]]
    build: Callable[..., Task]
    family: str = ""
    held_out: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.category}/{self.name}"


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `prompt` ends where the answer begins; a document is `prompt`, a space, `reference`."""

    name: str
    category: str
    template: str
    held_out: bool
    key: str
    task: Task

    @property
    def prompt(self) -> str:
        return f"Q: {self.task.question}\nA:"

    @property
    def reference(self) -> str:
        return self.task.reference

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.reference}"

    def accepts(self, answer: str) -> bool:
        return self.task.check(answer)


def build(template: Template, parameters: Sequence[Any]) -> Item:
    """The item of a template and its parameters. Raises TypeError, ValueError, KeyError or IndexError for parameters
    that the template does not draw."""
    task = template.build(*parameters)
    name = f"{template.full_name} {compact(list(parameters))}"
    key = f"{template.category}/{template.family or template.name} {compact(list(task.key))}"
    return Item(name, template.category, template.name, template.held_out, key, task)


def compact(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=True)


def junk(item: Item) -> tuple[str, ...]:
    """Answers that say nothing: an item that accepts one of them is not asked."""
    options = item.task.options
    return (
        "", " ", "42", "yes", "no", "Yes.", "?", "I do not know.", "the answer is", "0 1 2 3 4 5 6 7 8 9 10 11 12",
        item.prompt, item.task.question, f"{item.prompt} {item.prompt}",
        ", ".join(options), " ".join(reversed(options)), "\n".join(options),
    )  # fmt: skip
