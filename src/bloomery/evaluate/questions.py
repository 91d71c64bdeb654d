"""Questions that a scorer answers by finding one continuation likelier than others, and what blind guessing is worth.

    accuracy         argmax over the options of log p(option | context)
    accuracy_norm    argmax of log p(option | context) / characters of the option    (lm-evaluation-harness: acc_norm)
    exact match      a question with one option: whether each of its tokens was the likeliest

Of equal options the first counts, so a scorer without opinion has the accuracy of chance wherever the right option
stands at a random place. Chance: the mean of 1 / options; of exact matches, the share of the commonest answer, which is
the best that can be had without reading. A log-probability that is no number answers nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.data.tokenizer import Tokenizer
from bloomery.evaluate.scoring import Request, score
from bloomery.model.interface import LanguageModel, Scorer

Ids = tuple[int, ...]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Question:
    context: Ids
    options: tuple[Ids, ...]
    right: int
    """Index of the right option."""
    characters: tuple[int, ...] = ()
    """Of every option, where options are text."""
    group: str = ""
    """What part of its task it belongs to, if the task has parts: a segment of metric names."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Whether each question was answered rightly; `by_length` where options are text."""

    right: tuple[bool, ...]
    by_length: tuple[bool, ...] = ()


def answer(
    scorer: LanguageModel | Scorer, questions: Sequence[Question], *, window: int | None = None, device: str = "cpu"
) -> Answers:
    """window: tokens that the scorer is shown at most; None: as many as the longest question has."""
    requests = [Request(question.context, option) for question in questions for option in question.options]
    longest = max(len(request.context) + len(request.continuation) for request in requests)
    scores = iter(score(scorer, requests, window=min(window or longest, longest), device=device))
    right: list[bool] = []
    by_length: list[bool] = []
    for question in questions:
        found = [next(scores) for _ in question.options]
        if len(found) == 1:
            right.append(found[0].greedy)
            continue
        logprobs = [one.logprob for one in found]
        right.append(_best(logprobs) == question.right)
        if question.characters:
            lengths = [logprob / max(1, size) for logprob, size in zip(logprobs, question.characters, strict=True)]
            by_length.append(_best(lengths) == question.right)
    return Answers(tuple(right), tuple(by_length))


def _best(values: Sequence[float]) -> int | None:
    """Index of the first highest value, what sums in another order may differ by aside; None where one is no number."""
    if any(math.isnan(value) for value in values):
        return None
    highest = max(values)
    least = highest - ROUNDING * abs(highest) if math.isfinite(highest) else highest
    return next(place for place, value in enumerate(values) if value >= least)


def chance(questions: Sequence[Question]) -> float:
    """The accuracy that needs no reading."""
    if all(len(question.options) == 1 for question in questions):
        return max(Counter(question.options[0] for question in questions).values()) / len(questions)
    return sum(1 / len(question.options) for question in questions) / len(questions)


def key_of(questions: Sequence[Question]) -> str:
    """sha256 of what is asked, so that only answers to the same questions are paired."""
    told = [[one.context, one.options, one.right, one.characters, one.group] for one in questions]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[Ids, Ids]:
    """Tokens of both, cut where the context's own tokens end; white space that ends the context goes over first.

    As lm-evaluation-harness does it (TemplateLM._encode_pair), so that a word keeps its leading space.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = _encode(tokenizer, stripped)
    after = _encode(tokenizer, stripped + continuation)[len(before) :]
    return before, after or _encode(tokenizer, continuation)


def _encode(tokenizer: Tokenizer, text: str) -> Ids:
    return tuple(int(token) for token in tokenizer.encode(text))
