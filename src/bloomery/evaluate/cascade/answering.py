"""A whole cascade without a server, one member after the other: for stages, and the reference of serve/cascade.py.

A member that raises falls through, as one does that is not sure enough. Who is asked last need not be sure. Where the
last one fails, the surest of those that were not sure enough is taken. There are no timeouts here: nobody waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import TrainingError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.confidence import Confidence
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.model.interface import LanguageModel, Scorer


@dataclass(frozen=True, slots=True)
class Reader:
    """What a member's name stands for."""

    model: LanguageModel | Scorer
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class Answered:
    text: str
    member: str
    confidence: float
    route: tuple[tuple[str, str], ...]
    """(member, `answered`, `unsure` or `failed`), in the order in which they were asked."""


def answer(
    card: Card, readers: Mapping[str, Reader], order: Sequence[str], prompt: str, sampling: Sampling
) -> Answered:
    """What the members named in `order` (routing.py) say after a prompt. sampling.logprobs has to be asked for.

    Raises TrainingError where everybody failed.
    """
    assert sampling.logprobs is not None
    asked: list[tuple[str, str]] = []
    unsure: dict[str, tuple[float, str]] = {}
    for name in order:
        try:
            confidence, text = _said(readers[name], prompt, sampling)
        except Exception:  # a model is anybody's code
            asked.append((name, "failed"))
            continue
        threshold = 0.0 if name == order[-1] else card.threshold(name)
        if confidence.verdict(threshold, ended=True, hold=None) == "take":
            return Answered(text, name, confidence.value, (*asked, (name, "answered")))
        asked.append((name, "unsure"))
        unsure[name] = confidence.value, text
    if not unsure:
        raise TrainingError(f"cascade {card.name}", f"all of {', '.join(order)} failed", "one member that answers")
    surest = max(unsure, key=lambda name: unsure[name][0])
    value, text = unsure[surest]
    return Answered(text, surest, value, (*asked, (surest, "answered")))


def _said(reader: Reader, prompt: str, sampling: Sampling) -> tuple[Confidence, str]:
    confidence, text = Confidence(), ""
    for piece in stream(reader.model, reader.tokenizer, prompt, sampling):
        assert piece.logprob is not None
        confidence.add(piece.logprob)
        text += piece.text
    return confidence, text
