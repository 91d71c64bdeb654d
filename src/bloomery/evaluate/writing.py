"""One text as it is written, whoever computes its logits: alone or in a batch, in the terminal or for a client.

Each text draws from a generator of its own, on the CPU: the same seed gives the same text, nobody's draws depend on
another's, and no training run is disturbed.

Small models fall into endless white space: tokens that would lengthen a run of white space beyond `max_whitespace`
characters are not taken. Ids that the tokenizer does not have are never taken. end_of_document ends the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import TrainingError
from bloomery.evaluate.sampling import Sampling, choose, penalise
from bloomery.evaluate.showing import Showing
from bloomery.model.interface import LanguageModel, Scorer


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that was taken: how likely the model found it, and the likeliest ones."""

    token: int
    text: str
    logprob: float
    offset: int
    """Characters of the answer before it."""
    likeliest: tuple[tuple[int, str, float], ...]
    """(token, text, log-probability), likeliest first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a token adds to the text that is shown; often a character or a word, sometimes nothing yet."""

    text: str
    choices: tuple[Choice, ...] = ()
    finish: str | None = None
    """Why the text ends here: `stop` by the model or a stop string, `length` by max_tokens; None: it goes on."""
    taken: int = 1
    """Tokens: 0 where end_of_document ended the text."""
    logprob: float | None = None
    """How likely the model found what was taken, end_of_document included; None where no logprobs are asked for."""


class Vocabulary:
    """What is the same for all texts of one model: its tokenizer, and the text of every id."""

    def __init__(self, model: LanguageModel | Scorer, tokenizer: Tokenizer) -> None:
        """Raises TrainingError for a tokenizer that has more ids than the model."""
        if model.vocab < tokenizer.vocab:
            found = f"a tokenizer of {tokenizer.vocab} ids"
            raise TrainingError("generate", found, f"at most {model.vocab}, the model's")
        self.tokenizer, self.size = tokenizer, model.vocab
        self.texts = [tokenizer.decode([token]) for token in range(tokenizer.vocab)]
        leading = [len(text) - len(text.lstrip()) for text in self.texts]
        self._longest = max(leading)
        self._leading = torch.tensor(leading + [0] * (model.vocab - tokenizer.vocab))

    def prompt(self, text: str) -> list[int]:
        """Its tokens as the beginning of a document."""
        return [self.tokenizer.end_of_document, *(int(token) for token in self.tokenizer.encode(text))]

    def too_white(self, tokens: Sequence[int], limit: int) -> Bool[Tensor, " v"] | None:
        """Tokens whose leading white space, after what ends `tokens`, passes the limit; None: none does."""
        run = 0
        for token in reversed(tokens):
            text = self.texts[token]
            run += len(text) - len(text.rstrip())
            if text.strip() or run > limit:
                break
        if self._longest + run <= limit:
            return None
        return (self._leading > 0) & (self._leading + run > limit)


class Writing:
    """`take` the logits after what stands there; then `tokens[-1]` is what the model has to read next."""

    def __init__(self, vocabulary: Vocabulary, prompt: Sequence[int], sampling: Sampling) -> None:
        self.tokens: list[int] = []
        self.finish: str | None = None
        self._vocabulary, self._sampling = vocabulary, sampling
        self._showing = Showing(vocabulary.tokenizer, sampling.stop)
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._waiting: list[Choice] = []
        self._seen: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocabulary.size, dtype=torch.bool)
            self._seen[[token for token in prompt if token != vocabulary.tokenizer.end_of_document]] = True

    @torch.inference_mode()
    def take(self, logits: Float[Tensor, " v"]) -> Piece:
        """Take one token. The logits are written into. Raises TrainingError where they are not numbers."""
        assert self.finish is None
        tokenizer, sampling = self._vocabulary.tokenizer, self._sampling
        logits[tokenizer.vocab :] = -torch.inf
        own = None if sampling.logprobs is None else torch.log_softmax(logits.double(), dim=0)
        token = self._choose(logits)
        return replace(self._taken(token, own), logprob=None if own is None else float(own[token]))

    def _taken(self, token: int, own: Float[Tensor, " v"] | None) -> Piece:
        if token == self._vocabulary.tokenizer.end_of_document:
            return replace(self._ended("stop", self._showing.end()), taken=0)
        self.tokens.append(token)
        if self._seen is not None:
            self._seen[token] = True
        if own is not None:
            self._waiting.append(self._choice(token, own))
        text = self._showing.add(token)
        if self._showing.stopped:
            return self._ended("stop", text)
        if len(self.tokens) == self._sampling.max_tokens:
            text += self._showing.end()
            return self._ended("stop" if self._showing.stopped else "length", text)
        return Piece(text, self._told() if text else ())

    def _choose(self, logits: Float[Tensor, " v"]) -> int:
        sampling = self._sampling
        if sampling.max_whitespace is not None:
            white = self._vocabulary.too_white(self.tokens, sampling.max_whitespace)
            if white is not None:
                logits[white] = -torch.inf
        if self._seen is not None:
            logits = penalise(logits, self._seen, sampling.repetition_penalty)
        return choose(
            logits, temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k,
            min_p=sampling.min_p, generator=self._generator,
        )  # fmt: skip

    def _choice(self, token: int, logprobs: Float[Tensor, " v"]) -> Choice:
        texts, wanted = self._vocabulary.texts, min(self._sampling.logprobs or 0, self._vocabulary.tokenizer.vocab)
        likeliest: tuple[tuple[int, str, float], ...] = ()
        if wanted:
            values, ids = logprobs.sort(descending=True, stable=True)
            best = zip(ids[:wanted].tolist(), values[:wanted].tolist(), strict=True)
            likeliest = tuple((each, texts[each], value) for each, value in best)
        return Choice(token, texts[token], float(logprobs[token]), self._showing.length, likeliest)

    def _ended(self, finish: str, text: str) -> Piece:
        self.finish = finish
        if self._showing.stopped:
            self._waiting = [choice for choice in self._waiting if choice.offset < self._showing.length]
        return Piece(text, self._told(), finish)

    def _told(self) -> tuple[Choice, ...]:
        told, self._waiting = tuple(self._waiting), []
        return told
