"""Claims of documents: each form by example, and of the standard library that spans and answers belong together."""

from itertools import islice
from typing import Any

import pytest

from bloomery.data.corpus import Docstrings
from bloomery.systems.harmonic.claims import MOST_ANSWER, claims, title

TEXT = """Return the absolute value of the argument.

A furnace is a tower of stones. It is a dangerous place.
Raises ValueError if the furnace
is cold. The timeout defaults to 30 seconds, counted from the start.

Arguments:
    heat: how hot it becomes
    *ore -- what is put in
    plain text without a colon

Notes
-----
Iron melts at a high temperature. Slag floats.
"""


def test_every_form_gives_its_question_answer_and_section() -> None:
    found = [(one.question, one.answer, one.section) for one in claims(TEXT, "smelt")]
    assert found == [
        ("What does smelt return?", "the absolute value of the argument", ""),
        ("In smelt, what is a furnace?", "a tower of stones", ""),
        ("When does smelt raise ValueError?", "if the furnace is cold", ""),
        ("What does timeout of smelt default to?", "30 seconds", ""),
        ("What is the argument heat of smelt?", "how hot it becomes", "Arguments"),
        ("What is the argument *ore of smelt?", "what is put in", "Arguments"),
        ("What does smelt say of notes?", "Iron melts at a high temperature.", "Notes"),
    ]


@pytest.mark.parametrize(
    ("document", "called"),
    [
        ("logging/__init__.py::Logger.handle", "logging.Logger.handle"),
        ("json/decoder.py::", "json.decoder"),
        ("guide/furnace.md", "guide/furnace"),
        ("03.txt", "03"),
    ],
)
def test_a_document_has_a_title(document: str, called: str) -> None:
    assert title(document) == called


def flat(text: Any) -> str:
    return " ".join(text.split())


def test_in_the_standard_library_every_answer_stands_in_its_span() -> None:
    """And no question is asked twice of one document."""
    total, documents = 0, list(islice(Docstrings().documents(), 400))
    for document in documents:
        found = claims(document.text, title(document.name))
        total += len(found)
        assert len({one.question for one in found}) == len(found)
        for one in found:
            assert 0 <= one.start < one.end <= len(document.text)
            assert one.answer in flat(document.text[one.start : one.end])
            assert 0 < len(one.answer) <= MOST_ANSWER
    assert total > len(documents) / 2


@pytest.mark.parametrize("text", ["", "\n\n", "no sentence", "a " * 5000, "x. " * 3000, "(" * 3000, ": \n" * 2000])
def test_texts_that_claim_nothing_or_too_much_end_soon(text: str) -> None:
    assert len(claims(text, "x")) <= 1
