"""A baseline has seen exactly the tokens that the model has read: no more, no fewer, each row once."""

import math
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from tiny import Trained, context, pretrain, settings

from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.evaluate.ngram import NGram
from bloomery.stages.baselines import NGRAM_CARD, NGramBaseline, NGramSettings
from bloomery.stages.training import batches, next_reading, readings_before, tokens_read


def counted(trained: Trained) -> Counter[tuple[int, int]]:
    """Pairs (token, next token) of every batch, by brute force."""
    pairs: Counter[tuple[int, int]] = Counter()
    config = settings()
    for reading in (*readings_before(trained.context), next_reading(trained.context, config)):
        reader = batches(trained.context, reading)
        for step in range(reading.steps):
            batch = reader.batch_at(step)
            pairs.update(zip(batch.tokens.flatten().tolist(), batch.targets.flatten().tolist(), strict=True))
    return pairs


@pytest.mark.parametrize("attempts", [1, 2])
def test_counts_are_those_of_the_batches(trained: Trained, data: Prepared, tmp_path: Path, attempts: int) -> None:
    if attempts == 2:
        trained = pretrain(data, tmp_path / "on", settings(), continue_from=trained.result.outputs["state"])
    tokens = tokens_read(trained.context, settings())
    folder = NGramBaseline().fit(NGramSettings(order=2), tokens, context(data, tmp_path / "fit")).outputs["model"]
    assert (folder / NGRAM_CARD).exists()
    table = NGram.load(folder)
    pairs = counted(trained)
    assert pairs.total() == attempts * 1280
    keys, counts = table._levels[0]
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == {
        first * data.vocab + second: count for (first, second), count in pairs.items()
    }
    logprobs = table.logprobs(torch.tensor([[ord("t")]]))
    assert float(logprobs[0, 0].exp().sum()) == pytest.approx(1)
    often = max(pairs, key=lambda pair: pairs[pair] if pair[0] == ord("t") else 0)[1]
    assert int(logprobs[0, 0].argmax()) == often
    assert float(logprobs[0, 0, often]) > -math.log(data.vocab)


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_further_epochs_are_no_further_evidence(
    data: Prepared, tmp_path: Path, packing: Literal["stream", "documents"]
) -> None:
    reader = Batches([(data.part("corpus"), 1.0)], batch=1, context=32, seed=0, packing=packing)
    once = round(1 / reader.epochs_after(1)[0])
    tables: list[NGram] = []
    for steps in (once, 2 * once, 2 * once + once // 2):
        ctx = context(data, tmp_path / str(steps))
        NGramBaseline().fit(NGramSettings(order=3), map(reader.batch_at, range(steps)), ctx)
        tables.append(NGram.load(ctx.workdir / "model"))
    plain = NGram.fit(
        map(reader.batch_at, range(once)), order=3, vocab=data.vocab, end_of_document=data.tokenizer.end_of_document
    )
    held_out = np.array(data.part("corpus:val").tokens, dtype=np.int64)
    for table in tables:
        assert np.array_equal(table.document_logprobs(held_out), plain.document_logprobs(held_out))
    assert reader.batch_at(once).origins != reader.batch_at(0).origins
