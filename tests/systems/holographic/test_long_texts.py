"""A text is scored some rows at a time: the same numbers however many, in memory that does not grow with the text."""

import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.systems.holographic import theory_scorer
from bloomery.systems.holographic.config import PHASES, Mechanisms, Theory
from bloomery.systems.holographic.theory_memory import TheoryMemory

VOCAB, END = 300, 299
DRAW = np.random.default_rng(0)
TEXT, ASKED = DRAW.zipf(1.05, 3000) % END, np.append(END, DRAW.zipf(1.05, 1200) % END)


@cache
def memory(variant: Any, decoding: str = "mixture") -> TheoryMemory:
    """One whose prototypes vote for many tokens, and that looks back: inhibition, completion and working memory."""
    on = Mechanisms(inhibition=True, completion=True, working_memory=True)
    settings = Theory.model_validate(
        {"variant": variant, "context": 700, "buffer": 900, "keep_every": 1, "decoding": decoding, "mechanisms": on}
    )
    made = TheoryMemory(settings, VOCAB, END, 0)
    for start in range(0, len(TEXT), 1000):
        made.read(TEXT[start : start + 1000], np.array([0] if start == 0 else [], dtype=np.int64))
        made.sleep(PHASES, np.random.default_rng(start))
    assert max(len(tokens) for tokens, _ in made.sleeper.attractors.followers) > 20
    return made


SCORED: dict[str, Callable[[Any], np.ndarray]] = {
    "document": lambda scorer: scorer.document_logprobs(ASKED),
    "logprobs": lambda scorer: scorer.logprobs(torch.from_numpy(ASKED[None, :500]))[0].numpy(),
    "after": lambda scorer: scorer.after(ASKED, 900),
}


@pytest.mark.parametrize("what", SCORED)
@pytest.mark.parametrize(("variant", "decoding"), [("v4", "mixture"), ("prod", "mixture"), ("prod", "vorticity")])
def test_the_numbers_are_those_of_the_whole_text_at_once(
    variant: str, decoding: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = memory(variant, decoding).scorer()
    found = {}
    for rows in (len(ASKED), 256, 7):
        monkeypatch.setattr(theory_scorer, "ROWS", rows)
        found[rows] = SCORED[what](scorer)
    for rows in (256, 7):
        assert found[rows].shape == found[len(ASKED)].shape
        np.testing.assert_allclose(found[rows], found[len(ASKED)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", ["v4", "prod"])
def test_memory_is_that_of_rows_and_not_of_the_text(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = memory(variant).scorer()

    def peak(rows: int, tokens: int) -> int:
        monkeypatch.setattr(theory_scorer, "ROWS", rows)
        tracemalloc.start()
        scorer.document_logprobs(ASKED[:tokens])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(64, 1200) < 1.5 * peak(64, 600)
    assert peak(64, 1200) < peak(1200, 1200) / 4
