"""Questions made of held-out text, or read from files of JSON lines.

    choice        which of four continuations of eight words is this passage's own? The others are other passages'
    continuation  the last word of a passage, exactly (as LAMBADA asks it, Paperno et al. 2016)

A passage is up to 48 words before the answer; a word is white space and what stands to the next. Passages come from as
many documents as there are, at random places. Distractors come from other documents where there are any.

Files: choice {"context": text, "options": [text, ...], "answer": index}; exact match {"context": text, "answer": text}.
The context stands at the beginning of a document; an option follows it as written, with its leading space. Other fields
are not read. Refuses text that is too short and lines of another format.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from bloomery.data.tokenizer import Tokenizer
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError
from bloomery.evaluate.humaneval import read_lines
from bloomery.evaluate.questions import Question, encode_pair

WORDS_BEFORE, FEWEST_BEFORE, WORDS_AFTER = 48, 8, 8
OPTIONS = 4
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Passage:
    document: int
    before: str
    after: str


def passages(part: TokenFile, tokenizer: Tokenizer, count: int, seed: int, *, after: int) -> list[Passage]:
    """At most `count`, evenly from the documents that are long enough."""
    draw = random.Random(f"passages {seed} {after}")
    order = draw.sample(range(part.documents), part.documents)
    found: list[Passage] = []
    for place, document in enumerate(order):
        share = -(-(count - len(found)) // (part.documents - place))
        words = _WORD.findall(tokenizer.decode(part.document(document)))
        starts = range(FEWEST_BEFORE, len(words) - after + 1)
        for start in draw.sample(starts, min(share, len(starts))):
            before = "".join(words[max(0, start - WORDS_BEFORE) : start])
            found.append(Passage(document, before, "".join(words[start : start + after])))
    return found[:count]


def choice(part: TokenFile, tokenizer: Tokenizer, count: int, seed: int) -> list[Question]:
    """Raises DataError where the part holds fewer than four different passages."""
    found = passages(part, tokenizer, count, seed, after=WORDS_AFTER)
    if len({passage.after for passage in found}) < OPTIONS:
        raise _too_short(part, f"{OPTIONS} passages")
    draw = random.Random(f"choice {seed}")
    questions: list[Question] = []
    for passage in found:
        elsewhere = [one for one in found if one.document != passage.document and one.after != passage.after]
        if len({one.after for one in elsewhere}) < OPTIONS - 1:
            elsewhere = [one for one in found if one.after != passage.after]
        wrong: list[str] = []
        while len(wrong) < OPTIONS - 1:
            text = draw.choice(elsewhere).after
            if text not in wrong:
                wrong.append(text)
        right = draw.randint(0, len(wrong))
        options = [*wrong[:right], passage.after, *wrong[right:]]
        questions.append(_question(tokenizer, passage.before, options, right, at_start=False))
    return questions


def continuation(part: TokenFile, tokenizer: Tokenizer, count: int, seed: int) -> list[Question]:
    """Raises DataError where no document is long enough."""
    found = passages(part, tokenizer, count, seed, after=1)
    if not found:
        raise _too_short(part, "one passage")
    return [_question(tokenizer, one.before, [one.after], 0, at_start=False) for one in found]


def choice_from(path: Path, tokenizer: Tokenizer, count: int) -> list[Question]:
    questions: list[Question] = []
    for number, row in enumerate(read_lines(path, ("context", "options", "answer"))[:count], 1):
        options, answer = row["options"], row["answer"]
        texts = isinstance(options, list) and all(isinstance(one, str) and one for one in options)
        good = texts and len(options) > 1 and type(answer) is int and 0 <= answer < len(options)
        if not good or not isinstance(row["context"], str):
            expected = '{"context": text, "options": [at least two texts], "answer": index of the right one}'
            raise DataError(f"{path}, item {number}", "another format", expected)
        questions.append(_question(tokenizer, row["context"], options, answer, at_start=True))
    return questions


def exact_from(path: Path, tokenizer: Tokenizer, count: int) -> list[Question]:
    questions: list[Question] = []
    for number, row in enumerate(read_lines(path, ("context", "answer"))[:count], 1):
        context, answer = row["context"], row["answer"]
        if not isinstance(context, str) or not isinstance(answer, str) or not answer:
            raise DataError(f"{path}, item {number}", "another format", '{"context": text, "answer": text}')
        questions.append(_question(tokenizer, context, [answer], 0, at_start=True))
    return questions


def _question(tokenizer: Tokenizer, before: str, options: list[str], right: int, *, at_start: bool) -> Question:
    pairs = [encode_pair(tokenizer, before, option) for option in options]
    context = pairs[0][0]
    if at_start or not context:
        context = (tokenizer.end_of_document, *context)
    characters = tuple(len(option.lstrip()) for option in options)  # as lm-eval, whose options follow a space
    return Question(context, tuple(after for _, after in pairs), right, characters)


def _too_short(part: TokenFile, wanted: str) -> DataError:
    expected = f"{wanted} of {FEWEST_BEFORE} words and more, with what follows"
    return DataError(str(part.path), "documents that are too short", expected, "another part, or a file of questions")
