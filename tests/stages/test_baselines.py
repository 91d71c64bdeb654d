"""A baseline has seen exactly the tokens that the model has read: no more, no fewer, each as often."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import Trained, context, pretrain, settings

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
