"""Examples: a prompt, the response to learn, a category and an origin; and the artifact `data`, a folder of them.

    examples.jsonl   one example a line: {"prompt", "response", "category", "origin"}
    card.json        what made them, how many of each category, and the sha256 of examples.jsonl

A stage that makes examples writes such a folder as an output called `data`; finetune reads it under the name of the
input (`needs: {won: play.data}`, `data: {skills: 70%, won: 30%}`). As a document an example is its prompt, one space
where the prompt ends in none, and its response; the prompt is read and not learned from. The card's sha256 is of
the examples alone: it is the same whatever made them.

Refuses an example without a response, without a category or without an origin, and a folder that is damaged. No
examples at all are allowed: a model may have no weakness left.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bloomery.data.corpus import Document
from bloomery.errors import DataError

KIND = "data"
"""Of the artifact, and the name of the output."""
EXAMPLES, CARD = "examples.jsonl", "card.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Example:
    """`prompt` is what a model is shown, to the letter: where a question needs `Q:` and `A:`, they stand in it."""

    prompt: str
    response: str
    category: str
    origin: Mapping[str, Any]
    """Where it comes from, as JSON can hold it: an item's name, a document and its section, a round. Never a path."""

    @property
    def text(self) -> str:
        return joined(self.prompt, self.response)


def joined(prompt: str, response: str) -> str:
    """What is tokenised: a space stands between them unless the prompt ends in white space, or is empty."""
    return prompt + response if not prompt or prompt[-1].isspace() else f"{prompt} {response}"


def document_of(example: Example, name: str, group: str = "") -> Document:
    return Document(name, example.text, example.category, group, prompt=len(example.prompt))


def documents_of(examples: Sequence[Example], name: str) -> Iterator[Document]:
    """Documents called `NAME#0`, `NAME#1` and on: an example may stand there twice."""
    for number, example in enumerate(examples):
        yield document_of(example, f"{name}#{number}")


def write_examples(folder: Path, examples: Iterable[Example], made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Make the folder of a `data` artifact; returns its card. `made_by`: kind, settings, counts of what was dropped.

    Raises DataError for an example that says nothing or cannot be traced, before anything is written. OSError passes.
    """
    several = list(examples)
    for number, example in enumerate(several):
        _check(example, f"example {number}")
    content = "".join(json.dumps(asdict(example), ensure_ascii=True, sort_keys=True) + "\n" for example in several)
    card: dict[str, Any] = {
        "format": FORMAT,
        "examples": len(several),
        "categories": dict(sorted(Counter(example.category for example in several).items())),
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "made_by": dict(made_by),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXAMPLES).write_text(content, encoding="utf-8")
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True), encoding="utf-8")
    return card


def read_examples(folder: Path) -> list[Example]:
    """The examples of a `data` artifact, in order. Raises DataError where it is not what `write_examples` left."""
    expected = "a folder that a stage wrote as its output `data`"
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        content = (folder / EXAMPLES).read_bytes()
        if card["format"] != FORMAT or hashlib.sha256(content).hexdigest() != card["sha256"]:
            raise DataError(str(folder), f"{EXAMPLES} is not what its card says", expected)
        examples = [Example(**json.loads(line)) for line in content.decode("utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(str(folder), f"no examples can be read here ({error})", expected) from None
    for number, example in enumerate(examples):
        _check(example, f"{folder}/{EXAMPLES}:{number + 1}")
    return examples


def _check(example: Example, where: str) -> None:
    for name in ("prompt", "response", "category"):
        if not isinstance(getattr(example, name), str):
            raise DataError(where, f"its {name} is no text", "text")
    if not example.response.strip():
        raise DataError(where, "an empty response", "something to learn")
    if not example.category:
        raise DataError(where, "no category", "one of the categories that its data is counted by")
    if not isinstance(example.origin, dict) or not example.origin:
        raise DataError(where, "no origin", "where it comes from, so that it can be traced: {item: ...}")
