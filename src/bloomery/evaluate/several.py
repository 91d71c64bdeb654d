"""Answers to many prompts, as many at a time as a model has rows for: what a stage asks that needs hundreds of them.

A text is the one that evaluate/sample.py gives alone, up to rounding of the logits (evaluate/decoding.py); the same
prompts in the same order give the same to the bit. For requests that come one by one there is serve/batching.py.

Refuses what Sampling and Vocabulary refuse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bloomery.data.tokenizer import Tokenizer
from bloomery.evaluate.decoding import Decoding, decoding
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Vocabulary, Writing
from bloomery.model.interface import LanguageModel

SLOTS = 16


class Answering:
    """A model that answers; its vocabulary is read once."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, slots: int = SLOTS) -> None:
        """Raises TrainingError for a tokenizer that has more ids than the model."""
        self._model, self._slots = model.eval(), slots
        self._vocabulary = Vocabulary(model, tokenizer)

    def __call__(self, prompts: Sequence[str], samplings: Sequence[Sampling]) -> list[str]:
        """What is written after each prompt, in their order. Raises TrainingError where logits are not numbers."""
        jobs = [
            (number, self._vocabulary.prompt(prompt), sampling)
            for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
        ]
        if not jobs:
            return []
        texts = [""] * len(jobs)
        longest = max(len(tokens) + sampling.max_tokens for _, tokens, sampling in jobs)
        rows = decoding(self._model, slots=min(self._slots, len(jobs)), length=longest)
        running: list[tuple[int, Writing]] = []
        waiting = deque(jobs)
        while waiting or running:
            if running:
                logits = rows.step([writing.tokens[-1] for _, writing in running])
                for (number, writing), own in zip(running, logits, strict=True):
                    texts[number] += writing.take(own).text
                _drop_finished(rows, running)
            while waiting and len(running) < rows.slots:
                number, tokens, sampling = waiting.popleft()
                writing = Writing(self._vocabulary, tokens, sampling)
                texts[number] += writing.take(rows.add(tokens, len(tokens) + sampling.max_tokens)).text
                running.append((number, writing))
                _drop_finished(rows, running)
        return texts


def _drop_finished(rows: Decoding, running: list[tuple[int, Writing]]) -> None:
    for row in reversed(range(len(running))):  # the last row takes the number of one that is dropped
        if running[row][1].finish is not None:
            rows.drop(row)
            running[row] = running[-1]
            running.pop()
