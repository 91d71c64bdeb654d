"""Distilling examples: each has a quality from 0 to 1, and those below a threshold are left out and counted.

The quality is the lowest of these parts, so that a drop always has one reason, by its name:

    length      min(1, characters / shortest, LONGEST / characters) of the response
    repetition  distinct runs of four words / runs of four words          (1 below eight words)
    refusal     0 where the response opens by refusing, else 1
    echo        1 - share of the response's runs of three words that stand in the prompt
    code        share of its fenced Python blocks that parse              (1 where there are none)

A heuristic: it tells broken answers from whole ones, never right from wrong. After Rae et al. 2021 (arXiv 2112.11446,
A1: repetition and length filters). The thresholds are choices, not measurements. Documents without a prompt pass.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bloomery.data.corpus import Document, Source

LONGEST = 8000
"""Characters above which a response is marked down."""
_REFUSALS = re.compile(
    r"^\W*(?:i['\u2019]?m (?:sorry|unable|not able)|sorry\b|i (?:can['\u2019]?t|cannot|am unable|won['\u2019]?t)\b|"
    r"as an ai\b|unfortunately,? i\b)",
    re.IGNORECASE,
)
_FENCED = re.compile(r"```(?:python|py)\n(.*?)(?:```|\Z)", re.DOTALL)


def quality(prompt: str, response: str, shortest: int = 20) -> dict[str, float]:
    """{part: 0 to 1}."""
    length = len(response.strip())
    words, asked = response.split(), prompt.split()
    return {
        "length": min(1.0, length / shortest, LONGEST / max(1, length)),
        "repetition": _distinct(words, 4) if len(words) >= 8 else 1.0,
        "refusal": 0.0 if _REFUSALS.match(response) else 1.0,
        "echo": 1.0 - _shared(_runs(words, 3), set(_runs(asked, 3))),
        "code": _parsing(_FENCED.findall(response)),
    }


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


def _distinct(words: list[str], length: int) -> float:
    runs = _runs(words, length)
    return len(set(runs)) / len(runs)


def _shared(runs: list[tuple[str, ...]], others: set[tuple[str, ...]]) -> float:
    return sum(run in others for run in runs) / len(runs) if runs else 0.0


def _parsing(blocks: list[str]) -> float:
    return sum(map(_parses, blocks)) / len(blocks) if blocks else 1.0


def _parses(block: str) -> bool:
    try:
        ast.parse(block)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: its parser's stack
        return False
    return True


@dataclass(slots=True)
class Distilled:
    """A Source: the documents of another one whose quality is at least `at_least`."""

    source: Source
    at_least: float
    shortest: int = 20
    _dropped: Counter[str] = field(default_factory=Counter[str], repr=False)
    _kept: int = 0

    @property
    def licence(self) -> str:
        return self.source.licence

    def documents(self) -> Iterator[Document]:
        self._dropped, self._kept = Counter(), 0
        for document in self.source.documents():
            reason = self._reason(document)
            if reason:
                self._dropped[reason] += 1
            else:
                self._kept += 1
                yield document

    def _reason(self, document: Document) -> str:
        if not document.prompt:
            return ""
        parts = quality(document.text[: document.prompt], document.text[document.prompt :], self.shortest)
        worst = min(parts, key=lambda name: parts[name])
        return worst if parts[worst] < self.at_least else ""

    def provenance(self) -> dict[str, Any]:
        return {**self.source.provenance(), "quality_at_least": self.at_least, "shortest": self.shortest}

    def told(self) -> dict[str, Any]:
        """Of the last reading: how many were kept, and dropped for which part."""
        return {"kept": self._kept, "dropped": dict(sorted(self._dropped.items()))}
