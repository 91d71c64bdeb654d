"""Every variant is a distribution over a whole vocabulary of words: at a thousand places of text that it has not read,
drawn at random, its probabilities sum to one within 1e-9 and none is negative."""

import numpy as np
import pytest
import torch

from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic.config import PHASES, Consolidate
from bloomery.systems.holographic.variants import variant
from systems.holographic.remembering import stream

VOCAB, PLACES = 8192, 1000


@pytest.fixture(scope="module")
def text() -> tuple[list[np.ndarray], int]:
    """Documents [n + 1] of at most 1,500 tokens each, and the token that ends them."""
    texts = [one.text[:6000] for one in StandardLibrary().documents()]
    texts = [texts[at] for at in np.random.default_rng(0).permutation(len(texts))[:120]]
    tokenizer = train_words(texts[:80], VOCAB)
    end = tokenizer.end_of_document
    found = [np.concatenate(([end], tokenizer.encode(one), [end])).astype(np.int64) for one in texts]
    return found, end


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "nested"),
    [("attractor", True), ("attractor", False), ("v4", False), ("prod", False), ("exact_context", False)],
)
def test_sums_to_one_at_a_thousand_random_places(text: tuple[list[np.ndarray], int], name: str, nested: bool) -> None:
    documents, end = text
    settings = {"variant": name, "tokens": 100_000, "context": 16, "prototypes": 64 if name == "attractor" else None}
    wake = Consolidate.model_validate(settings, context={"system": "holographic"})
    memory = variant(name).create(wake, VOCAB, end, 0, None)
    read = documents[:80] if name == "attractor" else documents[:12]
    memory.read(*stream(read))
    memory.sleep(PHASES, np.random.default_rng(0))
    scorer = memory.scorer().fitted(documents[80:90], nested=nested)
    random = np.random.default_rng(1)
    seen = 0
    for document in documents[90:]:
        every = scorer.logprobs(torch.from_numpy(document[:400])[None]).numpy()[0]
        drawn = random.choice(len(every), min(len(every), 60), replace=False)
        assert every.shape[1] == VOCAB
        probabilities = np.exp(every[drawn])
        assert np.abs(probabilities.sum(-1) - 1).max() < 1e-9
        assert probabilities.min() >= 0
        seen += len(drawn)
    assert seen >= PLACES
