"""What counts as the answer in what a model wrote: the last answer, if it gives one and no more.

The text after the last of MARKERS is the answer (`17 + 25 = 42`, `The answer is Ada.`); all of the text where there is
none. In it must stand exactly one number, or one of the known names, however often: whoever lists every option has
answered nothing. Longer answers than MOST_WORDS words are refused: one name in a page of text is luck.

Any text may come; nothing here raises, evaluates or runs it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bloomery.evaluate.gauntlet.item import Check

MARKERS = re.compile(r"answer is|answer:|=", re.IGNORECASE)
MOST_WORDS = 12
MOST_CHARACTERS = 2000
"""Longer texts are answers to nothing that is asked."""

_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?[0-9]+(?:\.[0-9]+)?(?!\.?\w)")


def last_part(text: str) -> str:
    """What stands after the last marker; empty where the text is too long to be an answer."""
    if len(text) > MOST_CHARACTERS:
        return ""
    part = MARKERS.split(text)[-1].strip()
    return part if len(part.split()) <= MOST_WORDS else ""


def number_in(text: str) -> str | None:
    """The one number of the last part, without leading zeros; None where there is none or several."""
    found = {_plain(number) for number in _NUMBER.findall(last_part(text))}
    return found.pop() if len(found) == 1 else None


def _plain(number: str) -> str:
    sign = "-" if number[0] in "-\u2212" else ""
    digits = number.lstrip("-\u2212").lstrip("0") or "0"
    return sign + digits if digits != "0" else "0"


def name_in(text: str, names: Sequence[str]) -> str | None:
    """The one of `names` that the last part holds as a whole word, in whatever case; None where none or several."""
    part = last_part(text).casefold()
    words = part.translate(_MARKS).split()
    found = {name for name in names if name.casefold() in words or name.casefold() == part}
    return found.pop() if len(found) == 1 else None


_MARKS = str.maketrans(dict.fromkeys(".,:;!?'\"()[]", " "))


def a_number(wanted: int) -> Check:
    return lambda text: number_in(text) == str(wanted)


def a_name(wanted: str, names: Sequence[str]) -> Check:
    """names: all that could be meant, `wanted` among them."""
    assert wanted in names
    return lambda text: name_in(text, names) == wanted


def exactly(wanted: str) -> Check:
    """The text itself; only white space at the ends, and of runs of it the kind, may differ."""
    return lambda text: len(text) <= MOST_CHARACTERS and text.split() == wanted.split()


def exact_lines(wanted: Sequence[str]) -> Check:
    """These lines and no others; white space at the end of a line does not count."""
    return lambda text: (
        len(text) <= MOST_CHARACTERS and [line.rstrip() for line in text.strip().splitlines()] == list(wanted)
    )
