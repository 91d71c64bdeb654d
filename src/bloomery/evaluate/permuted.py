"""Does the order of the words before a target matter to a scorer?

    difference = log p(target | words as they stood) - log p(target | the same words, permuted)

in nats, of the token that came next. A word is a token that begins with white space, and all up to the next such token;
words are moved whole, so that both contexts hold the same tokens. An order that is the true one or its reverse is never
drawn: a reversal can be told by construction (a product of rotors changes its sign). A scorer that only counts what it
has read has a difference of exactly 0. A pure function of text, context, count and seed. Refuses a text that is too
short, or that has fewer than FEWEST words in every context.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.data.tokenizer import Tokenizer
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError
from bloomery.evaluate.scoring import Request, score
from bloomery.model.interface import LanguageModel, Scorer

Ids = tuple[int, ...]
FEWEST = 3
TRIES = 200


@dataclass(frozen=True, slots=True)
class Pair:
    true: Ids
    permuted: Ids
    target: int


def pairs(part: TokenFile, tokenizer: Tokenizer, context: int, count: int, seed: int) -> list[Pair]:
    """Contexts within one document each, `context` tokens long. Raises DataError where there are none."""
    draw = random.Random(f"permuted {seed} {context}")
    found: list[Pair] = []
    tries = 0
    while len(found) < count:
        tries += 1
        if len(part) <= context or tries > TRIES * count:
            expected = f"stretches of {context} tokens and {FEWEST} different words, with one more after them"
            raise DataError(str(part.path), f"{len(part)} tokens", expected, "a shorter context, or another part")
        start = draw.randrange(len(part) - context)
        true = tuple(int(token) for token in part.tokens[start : start + context])
        words = _words(true, tokenizer)
        if part.end_of_document in true or len(set(words)) < FEWEST:
            continue
        order = draw.sample(words, len(words))
        if order not in (words, words[::-1]):
            permuted = tuple(token for word in order for token in word)
            found.append(Pair(true, permuted, int(part.tokens[start + context])))
    return found


def _words(tokens: Ids, tokenizer: Tokenizer) -> list[Ids]:
    found: list[list[int]] = []
    for token in tokens:
        if not found or tokenizer.decode([token])[:1].isspace():
            found.append([])
        found[-1].append(token)
    return [tuple(word) for word in found]


def differences(scorer: LanguageModel | Scorer, asked: Sequence[Pair], *, device: str = "cpu") -> list[float]:
    """Nats, of each pair."""
    requests = [Request(context, (one.target,)) for one in asked for context in (one.true, one.permuted)]
    window = max(len(request.context) for request in requests)
    scores = [one.logprob for one in score(scorer, requests, window=window, device=device)]
    return [true - permuted for true, permuted in zip(scores[::2], scores[1::2], strict=True)]


def key_of(asked: Sequence[Pair]) -> str:
    """sha256 of what is asked, so that only answers to the same are paired."""
    return hashlib.sha256(json.dumps([[one.true, one.permuted, one.target] for one in asked]).encode()).hexdigest()
