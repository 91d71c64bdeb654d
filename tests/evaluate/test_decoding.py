"""Rows that come and go against each text alone, through the whole model, without a cache."""

import random

import numpy as np
import pytest
import torch

from bloomery.evaluate.decoding import Alone, Batched, Rescored, Streamed, decoding
from bloomery.evaluate.ngram import NGram
from bloomery.model.dense import Transformer
from support.writers import writer

SLOTS, LENGTH = 5, 40


def slow(model: Transformer, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0, -1]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_rows_have_the_logits_of_texts_alone(window: int | None, seed: int) -> None:
    model, draw = writer(attention_window=window), random.Random(seed)
    batch = decoding(model, slots=SLOTS, length=LENGTH)
    assert isinstance(batch, Batched)
    texts: list[list[int]] = []
    seen = 0
    for _ in range(120):
        act = draw.random()
        if act < 0.25 and len(texts) < SLOTS:
            texts.append([draw.randrange(257) for _ in range(draw.randint(1, 12))])
            torch.testing.assert_close(batch.add(texts[-1], LENGTH), slow(model, texts[-1]), atol=1e-4, rtol=1e-4)
        elif act < 0.4 and texts:
            row = draw.randrange(len(texts))
            batch.drop(row)
            texts[row] = texts[-1]
            texts.pop()
        elif texts and max(map(len, texts)) < LENGTH:
            for text in texts:
                text.append(draw.randrange(257))
            logits = batch.step([text[-1] for text in texts])
            for row, text in enumerate(texts):
                torch.testing.assert_close(logits[row], slow(model, text), atol=1e-4, rtol=1e-4)
            seen += len(texts)
    assert seen > 60


@pytest.mark.parametrize("kind", [Rescored, Streamed])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_scorer_writes_by_its_own_log_probabilities(order: int, kind: type[Rescored | Streamed]) -> None:
    """Rows that come and go against the last of all log-probabilities of the whole text."""
    draw = random.Random(order)
    read = np.array([draw.choice([*range(6), 8]) for _ in range(400)])
    table = NGram.fit([read], order=order, vocab=9, end_of_document=8)
    assert isinstance(decoding(table, slots=SLOTS, length=LENGTH), Streamed)
    batch = kind(table, SLOTS)
    texts: list[list[int]] = []
    for step in range(80):
        if step % 3 == 0 and len(texts) < SLOTS:
            texts.append([draw.randrange(9) for _ in range(draw.randint(1, 9))])
            found, expected = batch.add(texts[-1], LENGTH)[None], texts[-1:]
        elif step % 7 == 0 and texts:
            row = draw.randrange(len(texts))
            batch.drop(row)
            texts[row] = texts[-1]
            texts.pop()
            continue
        else:
            for text in texts:
                text.append(draw.randrange(9))
            found, expected = batch.step([text[-1] for text in texts]), texts
        whole = [table.logprobs(torch.tensor([text]))[0, -1] for text in expected]
        assert torch.equal(found, torch.stack(whole))


def test_a_neighbour_changes_nothing_beyond_rounding() -> None:
    """The same row alone and beside other texts of other lengths. Only the order of sums may differ."""
    model = writer()
    found = []
    for others in ([[1, 2], [3]], [[9] * 20, [8] * 7], []):
        batch = decoding(model, slots=SLOTS, length=LENGTH)
        batch.add([5, 6, 7], LENGTH)
        for other in others:
            batch.add(other, LENGTH)
        found.append(batch.step([11] * (1 + len(others)))[0])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-5)


def test_what_a_broken_row_leaves_reaches_nobody() -> None:
    model = writer()
    batch = decoding(model, slots=2, length=LENGTH)
    assert isinstance(batch, Batched)
    batch.add([1] * 30, LENGTH)
    for keys, values in batch._rows.state().layers:
        keys.fill_(torch.nan)
        values.fill_(torch.nan)
    batch.drop(0)
    for text in ([4, 5], [6]):
        batch.add(text, LENGTH)
    logits = batch.step([7, 8])
    torch.testing.assert_close(logits[0], slow(model, [4, 5, 7]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[1], slow(model, [6, 8]), atol=1e-4, rtol=1e-4)


def test_a_model_without_rows_writes_one_text_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = writer()
    monkeypatch.setattr(Transformer, "rows", lambda self, slots, length: None)
    single = decoding(model, slots=8, length=LENGTH)
    assert isinstance(single, Alone)
    assert single.slots == 1
    for _ in range(2):
        single.add([1, 2, 3], LENGTH)
        torch.testing.assert_close(single.step([4])[0], slow(model, [1, 2, 3, 4]), atol=1e-4, rtol=1e-4)
        single.drop(0)


def test_more_rows_than_slots_is_a_bug() -> None:
    batch = decoding(writer(), slots=2, length=4)
    batch.add([1], 4)
    batch.add([1], 4)
    with pytest.raises(AssertionError):
        batch.add([1], 4)
