"""Solves the questions of the gauntlet from their text alone, each in another way than its template: the reference that
templates are held against. `creative` has no single answer, and programs are run instead."""

from __future__ import annotations

import builtins
import calendar
import datetime
import itertools
import json
import re
import unicodedata
from collections.abc import Callable

MONTHS = list(calendar.month_name)[1:]


def _numbers(question: str) -> list[int]:
    return [int(found) for found in re.findall(r"-?\d+", question)]


def _date(text: str) -> datetime.date:
    day, month, year = text.split()
    return datetime.date(int(year), MONTHS.index(month) + 1, int(day))


def _linear(question: str) -> str:
    a, b, c = _numbers(question)
    (x,) = (x for x in range(1000) if a * x + b == c)
    return str(x)


def _months(question: str, way: int) -> str:
    (count,) = _numbers(question)
    (name,) = (month for month in MONTHS if month in question)
    month = MONTHS.index(name)
    for _ in range(count):
        month = (month + way) % 12
    return MONTHS[month]


def _day_of_year(question: str) -> str:
    date = _date(re.findall(r"\d+ [A-Z]\w+ \d{4}", question)[0])
    return date.strftime("%j").lstrip("0")


def _weekday(question: str) -> str:
    first, second = (_date(found) for found in re.findall(r"\d+ [A-Z]\w+ \d{4}", question))
    day = list(calendar.day_name).index(re.findall(r"is a (\w+)", question)[0])
    assert first.weekday() == day
    return calendar.day_name[(day + (second - first).days) % 7]


def _exception(question: str) -> str:
    name, options = re.findall(r"base of (\w+): (.*)\?", question)[0]
    (base,) = getattr(builtins, name).__bases__
    assert base.__name__ in options.split(", ")
    return base.__name__


def _character(question: str) -> str:
    name, options = re.findall(r"is called ([A-Z -]+): (.*) \?", question)[0]
    assert unicodedata.lookup(name) in options.split()
    return unicodedata.lookup(name)


def _order(question: str) -> str:
    """The one order of all five that contradicts none of the facts."""
    pairs = re.findall(r"(\w+) is \w+ than (\w+)", question)
    people = sorted({name for pair in pairs for name in pair})
    fits = [
        order
        for order in itertools.permutations(people)
        if all(order.index(a) < order.index(b) for a, b in pairs)
    ]  # fmt: skip
    (order,) = fits
    asked = re.findall(r"Who is the (.*)\?", question)[0]
    place = {"second": 1, "third": 2, "fourth": 3}.get(asked.split()[0])
    return order[place if place is not None else 0 if asked in ("tallest", "oldest") else 4]


def _chain(question: str) -> str:
    step = dict(re.findall(r"Every (\w+) is a (\w+)", question))
    kind = re.findall(r"[A-Z]\w+ is a (\w+)\. Besides", question)[0]
    return step[step[kind]]


def _moved(question: str) -> str:
    thing = re.findall(r"Where is the (\w+) now", question)[0]
    return re.findall(rf"the {thing} (?:in|to) the (\w+)", question)[-1]


def _turned(question: str) -> str:
    way = 1j ** ["east", "north", "west", "south"].index(re.findall(r"You face (\w+)", question)[0])
    for turn in re.findall(r"turn (\w+)", question):
        way *= {"left": 1j, "right": -1j, "around": -1}[turn]
    return {1: "east", 1j: "north", -1: "west", -1j: "south"}[complex(round(way.real), round(way.imag))]


def _listed(question: str) -> list[str]:
    return question.split(": ")[1].rstrip("?.").split(", ")


def _line(question: str) -> list[str]:
    return question.split(": ")[1].rstrip("?.").split()


def _letters(question: str) -> str:
    letter, word = re.findall(r"letter (\w) occur in (\w+)", question)[0]
    return str(len(word) - len(word.replace(letter, "")))


def _json(question: str) -> str:
    pairs = [entry.split() for entry in _listed(question)]
    return json.dumps({key: int(value) if value.isdigit() else value for key, value in pairs})


def _pairs(question: str) -> str:
    return "\n".join(f"{thing}={count}" for count, thing in re.findall(r"(\d+) of (\w+)", question))


def _repeat(question: str) -> str:
    times = {"two": 2, "three": 3, "four": 4}[re.findall(r"this (\w+) times", question)[0]]
    return " ".join([" ".join(_line(question))] * times)


SOLVERS: dict[str, Callable[[str], str]] = {
    "math/add": lambda q: str(sum(_numbers(q))),
    "math/multiply": lambda q: str(sum([_numbers(q)[0]] * _numbers(q)[1])),
    "math/subtract": lambda q: str(len(range(_numbers(q)[1], _numbers(q)[0]))),
    "math/linear": _linear,
    "math/add_in_words": lambda q: str(sum(_numbers(q))),
    "factual/month_after": lambda q: _months(q, 1),
    "factual/month_before": lambda q: _months(q, -1),
    "factual/day_of_year": _day_of_year,
    "factual/weekday": _weekday,
    "factual/exception": _exception,
    "factual/character": _character,
    "reasoning/taller": _order,
    "reasoning/older": _order,
    "reasoning/chain": _chain,
    "reasoning/moved": _moved,
    "reasoning/turned": _turned,
    "counting/letters": _letters,
    "counting/things": lambda q: str(q.count(",") + 1),
    "counting/words": lambda q: str(q.split(": ")[1].count(" ") + 1),
    "counting/word": lambda q: str(len(re.findall(rf"\b{q.split()[5]}\b", q)) - 1),
    "counting/even": lambda q: str(len(re.findall(r"[02468]\b", q))),
    "format/json": _json,
    "format/bullets": lambda q: "".join(f"- {thing}\n" for thing in _listed(q)).rstrip(),
    "format/numbered": lambda q: "".join(f"{n}. {t}\n" for n, t in enumerate(q.split("line: ")[1][:-1].split(", "), 1)),
    "format/sorted": lambda q: ",".join(sorted(_line(q))),
    "format/pairs": _pairs,
    "instruct/repeat": _repeat,
    "instruct/reverse": lambda q: " ".join(reversed(_line(q))),
    "instruct/capitals": lambda q: q.split(": ")[1].upper(),
    "instruct/without": lambda q: " ".join(word for word in _line(q) if word != q.split(":")[0].split()[-1]),
    "instruct/last_word": lambda q: q.split()[-1],
    "instruct/first_word": lambda q: q.split(": ")[1].split()[0],
}
