"""Creative: sentences with given words, one between two given words, words by initials. Held out: a question.

What is checked is that constraints hold, not that the text is good: the words are there, as many sentences and words
as asked for, sentences begin and end as such, and few words are used twice (types / tokens >= VARIETY). Text that was
copied from the question (COPIED words in a row) is refused. A salad of words passes; whoever reports on it must say so.
"""

from __future__ import annotations

import re

from bloomery.evaluate.gauntlet.answers import MOST_CHARACTERS
from bloomery.evaluate.gauntlet.item import Check, Dice, Task, Template
from bloomery.evaluate.gauntlet.words import THINGS

VARIETY = 0.6
COPIED = 4
FEWEST = 4
"""Words of a sentence."""
NUMBERS = {1: "one sentence", 2: "two sentences"}

_ALLOWED = re.compile(r"[A-Za-z ,;:'.!?\n-]*")
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")

_OPENINGS = ("At dawn", "Far away", "In spring", "One evening", "Before the storm", "Every winter")
_ONE = ("{o} the {a} waited for a friend.", "{o} somebody painted the {a} blue.", "{o} nobody could find the {a}.")
_TWO = (
    "{o} she traded her {a} for a little {b}.",
    "{o} we carried the {a} past an old {b}.",
    "{o} his {a} lay hidden under the {b}.",
)
_ASKED = (
    "Who left the {a} so close to my {b}?",
    "Why does that {a} remind you of a {b}?",
    "Where did they bury the {a} and his golden {b}?",
    "When will our {a} be as bright as the {b}?",
)


_BETWEEN = (
    "{A} after {a} was carried past the {b}.",
    "{A} or no {a}, nobody will open that {b}.",
    "{A} makers know little about an ordinary {b}.",
)


def _sentences(words: list[str], openings: list[int], patterns: list[int], slack: list[int]) -> Task:
    """Two words make one sentence, three or four make two."""
    said: list[str] = []
    left = list(words)
    for opening, pattern in zip(openings, patterns, strict=True):
        several = len(left) > 1
        chosen = (_TWO if several else _ONE)[pattern]
        said.append(chosen.format(o=_OPENINGS[opening], a=left[0], b=left[1] if several else ""))
        left = left[2:]
    reference = " ".join(said)
    low, high = _bounds(reference, slack)
    question = (
        f"Write {NUMBERS[len(said)]} of {low} to {high} words{' in all' if len(said) > 1 else ''} with the words "
        f"{_listed(words)}. End with a full stop and vary your words."
    )
    return Task(question, reference, _keeps(question, words, len(said), low, high, ".!"), _key(words))


def _asked(words: list[str], pattern: int, slack: list[int]) -> Task:
    reference = _ASKED[pattern].format(a=words[0], b=words[1])
    low, high = _bounds(reference, slack)
    question = f"Ask a single question of {low} to {high} words with the words {_listed(words)} and a question mark."
    return Task(question, reference, _keeps(question, words, 1, low, high, "?"), _key(words))


def _between(words: list[str], pattern: int, slack: list[int]) -> Task:
    first, last = words
    reference = _BETWEEN[pattern].format(A=first.capitalize(), a=first, b=last)
    low, high = _bounds(reference, slack)
    question = f"Write one sentence of {low} to {high} words. Its first word is {first} and its last word is {last}."
    keeps = _keeps(question, words, 1, low, high, ".")

    def check(text: str) -> bool:
        used = [word.casefold() for word in _WORD.findall(text)] if keeps(text) else []
        return bool(used) and used[0] == first and used[-1] == last

    return Task(question, reference, check, tuple(words))


def _initials(words: list[str]) -> Task:
    """Any words of three letters or more will do, each once."""
    letters = [word[0] for word in words]
    question = (
        f"Write {len(words)} different words of three letters or more that begin, in this order, with "
        f"{', '.join(letters)}."
    )
    names = " ".join(words)

    def check(text: str) -> bool:
        if len(text) > MOST_CHARACTERS or _ALLOWED.fullmatch(text) is None:
            return False
        used = [word.casefold() for word in _WORD.findall(text)]
        return [word[0] for word in used] == letters and len(set(used)) == len(used) and min(map(len, used)) >= 3

    return Task(question, names, check, tuple(letters))


def _key(words: list[str]) -> tuple[str, ...]:
    return tuple(sorted(words))


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def _bounds(reference: str, slack: list[int]) -> tuple[int, int]:
    count = len(_WORD.findall(reference))
    return count - slack[0], count + slack[1]


def _keeps(question: str, words: list[str], sentences: int, low: int, high: int, ends: str) -> Check:
    asked = _runs([word.casefold() for word in _WORD.findall(question)])

    def check(text: str) -> bool:
        text = text.strip()
        if len(text) > MOST_CHARACTERS or _ALLOWED.fullmatch(text) is None:
            return False
        parts = [part.strip() for part in re.findall(r"[^.!?]+[.!?]", text)]
        whole = "".join(re.findall(r"[^.!?]+[.!?]", text)) == text
        used = [word.casefold() for word in _WORD.findall(text)]
        return (
            whole
            and len(parts) == sentences
            and all(part[0].isupper() and part[-1] in ends and len(_WORD.findall(part)) >= FEWEST for part in parts)
            and low <= len(used) <= high
            and set(words) <= set(used)
            and len(set(used)) >= VARIETY * len(used)
            and not _runs(used) & asked
        )

    return check


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + COPIED]) for at in range(len(words) - COPIED + 1)}


def _draw_sentences(dice: Dice) -> tuple[list[str], list[int], list[int], list[int]]:
    words = dice.sample(THINGS, dice.between(2, 4))
    count = (len(words) + 1) // 2
    openings = dice.sample(range(len(_OPENINGS)), count)
    return words, openings, [dice.below(len(_TWO)) for _ in range(count)], [dice.below(4), dice.below(4)]


def _draw_between(dice: Dice) -> tuple[list[str], int, list[int]]:
    return dice.sample(THINGS, 2), dice.below(len(_BETWEEN)), [dice.below(3), dice.below(4)]


def _draw_initials(dice: Dice) -> tuple[list[str]]:
    return (dice.sample(THINGS, dice.between(3, 5)),)


def _draw_asked(dice: Dice) -> tuple[list[str], int, list[int]]:
    return dice.sample(THINGS, 2), dice.below(len(_ASKED)), [dice.below(3), dice.below(4)]


TEMPLATES = (
    Template("creative", "sentences", _draw_sentences, _sentences, family="words"),
    Template("creative", "between", _draw_between, _between),
    Template("creative", "initials", _draw_initials, _initials),
    Template("creative", "asked", _draw_asked, _asked, family="words", held_out=True),
)
