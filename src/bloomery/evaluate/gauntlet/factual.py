"""Facts that every machine can derive: the calendar, the characters of Unicode 3.2, Python's exceptions.

Only what no later version changes: the proleptic Gregorian calendar, `unicodedata.ucd_3_2_0`, and the table EXCEPTIONS
below. A test compares the table with the running Python. A fact that the test asks of stands in train beside other
numbers or other options, or it could not be known. Held out: months counted backwards.
"""

from __future__ import annotations

import datetime
import unicodedata
from functools import cache

from bloomery.evaluate.gauntlet.answers import a_name, a_number
from bloomery.evaluate.gauntlet.item import Check, Dice, Task, Template
from bloomery.evaluate.gauntlet.words import MONTHS, WEEKDAYS

EXCEPTIONS = {
    "ArithmeticError": ("FloatingPointError", "OverflowError", "ZeroDivisionError"),
    "LookupError": ("IndexError", "KeyError"),
    "OSError": (
        "BlockingIOError", "ChildProcessError", "ConnectionError", "FileExistsError", "FileNotFoundError",
        "InterruptedError", "IsADirectoryError", "NotADirectoryError", "PermissionError", "ProcessLookupError",
        "TimeoutError",
    ),
    "ConnectionError": ("BrokenPipeError", "ConnectionAbortedError", "ConnectionRefusedError", "ConnectionResetError"),
    "RuntimeError": ("NotImplementedError", "RecursionError"),
    "SyntaxError": ("IndentationError",),
    "IndentationError": ("TabError",),
    "ValueError": ("UnicodeError",),
    "UnicodeError": ("UnicodeDecodeError", "UnicodeEncodeError", "UnicodeTranslateError"),
    "ImportError": ("ModuleNotFoundError",),
    "NameError": ("UnboundLocalError",),
    "Warning": (
        "BytesWarning", "DeprecationWarning", "FutureWarning", "ImportWarning", "PendingDeprecationWarning",
        "ResourceWarning", "RuntimeWarning", "SyntaxWarning", "UnicodeWarning", "UserWarning",
    ),
}  # fmt: skip
"""{class: its direct subclasses} among the built-in exceptions, from Python 3.3 on."""
BASE_OF = {name: base for base, names in EXCEPTIONS.items() for name in names}
BASES = tuple(EXCEPTIONS)
OPTIONS = 5
FIRST_YEAR, LAST_YEAR = 1901, 2099

CHARACTERS = (
    *map(chr, range(0x3B1, 0x3CA)), *map(chr, range(0x430, 0x450)), *map(chr, range(0x5D0, 0x5EB)),
    *"!#$%&*+/;<=>@^_|~",
)  # fmt: skip
"""Greek, Cyrillic, Hebrew, signs; none is a letter that a question is written in, none a decimal digit."""


@cache
def character_name(character: str) -> str:
    return unicodedata.ucd_3_2_0.name(character)


def _month(month: int, shift: int, question: str) -> Task:
    answer = MONTHS[(month + shift) % 12]
    return Task(question, answer, a_name(answer, MONTHS), (month, shift), MONTHS)


def _month_after(month: int, shift: int) -> Task:
    return _month(month, shift, f"Which month comes {shift} months after {MONTHS[month]}?")


def _month_before(month: int, shift: int) -> Task:
    return _month(month, -shift, f"Go back {shift} months from {MONTHS[month]}. Which month is it?")


def _day_of_year(ordinal: int) -> Task:
    date = datetime.date.fromordinal(ordinal)
    day = ordinal - datetime.date(date.year, 1, 1).toordinal() + 1
    question = f"Which day of the year is {date.day} {MONTHS[date.month - 1]} {date.year}? Count from 1."
    return Task(question, str(day), a_number(day), (ordinal,))


def _weekday(year: int, month: int, day: int) -> Task:
    first, second = datetime.date(year, month, day), datetime.date(year, month + 1, day)
    answer = WEEKDAYS[second.weekday()]
    question = (
        f"{day} {MONTHS[month - 1]} {year} is a {WEEKDAYS[first.weekday()]}. "
        f"Which day of the week is {day} {MONTHS[month]} {year}?"
    )
    return Task(question, answer, a_name(answer, WEEKDAYS), (year, month, day), WEEKDAYS)


def _exception(name: str, options: list[str]) -> Task:
    answer = BASE_OF[name]
    question = f"Which of these Python classes is the direct base of {name}: {', '.join(options)}?"
    return Task(question, answer, a_name(answer, (*BASES, *BASE_OF)), (name, *sorted(options)), tuple(options))


def _character(character: str, options: list[str]) -> Task:
    question = f"Which of these characters is called {character_name(character)}: {' '.join(options)} ?"
    check = _a_character(character)
    return Task(question, character, check, (character, *sorted(options)), tuple(options))


def _a_character(wanted: str) -> Check:
    def check(text: str) -> bool:
        bare = text.strip().removesuffix(".").strip("'\"` ")
        return bare == wanted

    return check


def _draw_day(dice: Dice) -> tuple[int]:
    first, last = datetime.date(FIRST_YEAR, 1, 1).toordinal(), datetime.date(LAST_YEAR, 12, 31).toordinal()
    return (dice.between(first, last),)


def _draw_month(dice: Dice) -> tuple[int, int]:
    """Never whole years: the question would hold the answer."""
    return dice.below(12), 12 * dice.below(20) + dice.between(1, 11)


def _draw_exception(dice: Dice) -> tuple[str, list[str]]:
    name = dice.pick(tuple(BASE_OF))
    others = dice.sample([base for base in BASES if base not in (BASE_OF[name], name)], OPTIONS - 1)
    return name, dice.shuffled([BASE_OF[name], *others])


def _draw_character(dice: Dice) -> tuple[str, list[str]]:
    options = dice.sample(CHARACTERS, OPTIONS)
    return dice.pick(options), options


TEMPLATES = (
    Template("factual", "month_after", _draw_month, _month_after, family="month"),
    Template("factual", "day_of_year", _draw_day, _day_of_year),
    Template(
        "factual", "weekday",
        lambda dice: (dice.between(FIRST_YEAR, LAST_YEAR), dice.between(1, 11), dice.between(1, 28)), _weekday,
    ),
    Template("factual", "exception", _draw_exception, _exception),
    Template("factual", "character", _draw_character, _character),
    Template("factual", "month_before", _draw_month, _month_before, family="month", held_out=True),
)  # fmt: skip
