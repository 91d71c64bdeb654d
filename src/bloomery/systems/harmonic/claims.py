"""Claims that a document makes, each as a question with its answer and the place where it stands. Pure; no model.

    Return Y.   Returns Y.          What does NAME return?          Y
    Raise E if C.                   When does NAME raise E?         C
    X is a Y.   X is the Y.         What is X?                      a Y
    ... X defaults to Y             What does X default to?         Y
    a section `Arguments:`          What is the argument X of NAME? the first line beside it
    the first sentence of a section What does SECTION say / NAME do? the sentence

A claim is one sentence of one paragraph, or one line of a section; its span is that text's own place, and its answer
stands there to the letter (with runs of white space as one space). Sentences of which no form says anything are left
out: rules find few claims and make few false ones. English only.

Spans are characters of the document, [start, end).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MOST_ANSWER, MOST_SUBJECT, MOST_SENTENCE = 120, 60, 400
"""Characters; longer ones are stories, not claims."""

_STOP = re.compile(r"\.(?=\s|$)")
_PARAGRAPH = re.compile(r"\S(?:.|\n(?![ \t]*\n))*")
_HEADING = re.compile(
    r"^(?P<name>[A-Z][\w ]{1,40})(?::?[ \t]*\n[=~\-^\"*]{3,}[ \t]*$|:[ \t]*\n(?=[ \t]+\S))", re.MULTILINE
)
_ENTRY = re.compile(r"^[ \t]+(?P<name>\*{0,2}\w+)(?: ?\([^)\n]*\))?(?:: | -- )(?P<says>\S[^\n]*)$", re.MULTILINE)
_ARGUMENTS = re.compile(r"arg(?:ument)?s|param(?:eter)?s|attributes|fields|options", re.IGNORECASE)
_RETURNS = re.compile(r"Returns?:?\s+(?P<says>.+)\.", re.DOTALL)
_RAISES = re.compile(
    r"(?:.*\s)?[Rr]aises?\s+(?:an? )?`*(?P<error>[A-Z]\w*)`*(?: exception)?,? (?P<says>(?:if|when)\s.+)\.", re.DOTALL
)
_DEFAULT = re.compile(
    r"(?:.*[\s`'\"*])?(?P<name>\w+)[`'\"*]*,?(?: which)? defaults to (?P<says>[^,;]+)[.,;].*", re.DOTALL
)
_IS = re.compile(r"(?P<name>(?:An? |The )?[A-Z`']?[\w` ]*?\w`?) (?:is|are) (?P<says>(?:an?|the|one)\s.+)\.", re.DOTALL)
_PRONOUN = re.compile(r"(?:it|this|that|these|those|there|which|what|they|he|she|we|you|and|but|if)\b.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    question: str
    answer: str
    start: int
    end: int
    section: str
    """The heading above it; empty before the first."""


def claims(text: str, name: str) -> list[Claim]:
    """What `text`, a document called `name`, claims; in its order, each question once."""
    found: dict[str, Claim] = {}
    for one in sorted((*_sentences(text, name), *_entries(text, name)), key=lambda claim: claim.start):
        whole = one.answer.count("(") == one.answer.count(")")  # else the sentence was cut at `i.e.`
        if one.question not in found and 0 < len(one.answer) <= MOST_ANSWER and whole:
            found[one.question] = one
    return list(found.values())


def title(document: str) -> str:
    """What a document is called in a question: `FILE::NAME` by its dotted name, another file without its ending."""
    file, of_code, name = document.partition("::")
    stem = file.rsplit(".", 1)[0] or file
    if not of_code:
        return stem
    return ".".join(part for part in (*stem.split("/"), name) if part not in ("", "__init__"))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _sentences(text: str, name: str) -> Iterator[Claim]:
    headings = _headings(text)
    opened: set[str] = set()
    body = _HEADING.sub(lambda found: " " * len(found[0]), text)
    for paragraph in _PARAGRAPH.finditer(body):
        for start, end in _ends(paragraph[0], paragraph.start()):
            sentence = text[start:end]
            section = next((one for at, one in reversed(headings) if at <= start), "")
            if len(sentence) > MOST_SENTENCE or _ARGUMENTS.fullmatch(section):
                continue
            claim = _claim(sentence, name)
            if claim is None and section not in opened:
                asked = f"What does {name} say of {section.lower()}?" if section else f"What does {name} do?"
                claim = (asked, _flat(sentence))
            opened.add(section)
            if claim is not None:
                yield Claim(*claim, start, end, section)


def _ends(paragraph: str, at: int) -> Iterator[tuple[int, int]]:
    """Spans of its sentences; `at` is its own place. What no full stop ends is none."""
    start = 0
    for stop in _STOP.finditer(paragraph):
        sentence = paragraph[start : stop.end()]
        yield at + stop.end() - len(sentence.lstrip()), at + stop.end()
        start = stop.end()


def _claim(sentence: str, name: str) -> tuple[str, str] | None:
    """(question, answer) of the first form that the sentence has."""
    if found := _RETURNS.fullmatch(sentence):
        return f"What does {name} return?", _flat(found["says"])
    if found := _RAISES.fullmatch(sentence):
        return f"When does {name} raise {found['error']}?", _flat(found["says"])
    if (found := _DEFAULT.fullmatch(sentence)) and _PRONOUN.fullmatch(found["name"]) is None:
        return f"What does {found['name']} of {name} default to?", _flat(found["says"])
    if (found := _IS.fullmatch(sentence)) and _PRONOUN.fullmatch(found["name"]) is None:
        subject = _flat(found["name"])
        if len(subject) <= MOST_SUBJECT:
            return f"In {name}, what is {subject[0].lower() + subject[1:]}?", _flat(found["says"])
    return None


def _headings(text: str) -> list[tuple[int, str]]:
    return [(found.start(), _flat(found["name"])) for found in _HEADING.finditer(text)]


def _entries(text: str, name: str) -> Iterator[Claim]:
    """Lines `name: what it is` of sections that list arguments."""
    headings = [*_headings(text), (len(text), "")]
    for (start, heading), (end, _) in pairwise(headings):
        if _ARGUMENTS.fullmatch(heading) is None:
            continue
        for found in _ENTRY.finditer(text, start, end):
            question = f"What is the argument {found['name']} of {name}?"
            yield Claim(question, _flat(found["says"]), found.start("name"), found.end(), heading)
