"""A vocabulary that holds every word of train teaches no memory how words are spelled; a least count does."""

import numpy as np
import pytest

from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic.attractor import Attractor, Settings
from systems.holographic.remembering import stream

VOCAB = 3000


def texts(count: int) -> list[str]:
    """Words of a Zipf law over 4,000 made-up spellings: some are read once, some for the first time in val."""
    random = np.random.default_rng(0)
    syllables = [one + two for one in "bdgklmnprst" for two in "aeiou"]
    names = ["".join(random.choice(syllables, int(random.integers(2, 5)))) for _ in range(4000)]
    odds = 1 / np.arange(1, len(names) + 1)
    return [" " + " ".join(random.choice(names, 200, p=odds / odds.sum())) for _ in range(count)]


@pytest.mark.parametrize(("least", "nats"), [(1, (8.0, 20.0)), (2, (0.0, 4.0))])
def test_letters_of_a_new_word_are_expected_where_train_spelled_its_rare_words(
    least: int, nats: tuple[float, float]
) -> None:
    found = texts(50)
    tokenizer = train_words(found[:30], VOCAB, min_count=least)
    end = np.array([tokenizer.end_of_document])
    documents = [np.concatenate((end, one, end)).astype(np.int64) for one in tokenizer.encode_many(found)]
    memory = Attractor(Settings(VOCAB, store_bytes=64 << 20, prototypes=(16,)))
    memory.read(*stream(documents[:30]))
    memory.sleep(("non_rem", "replay"), np.random.default_rng(0))
    scorer = memory.scorer()
    held_out = documents[30:]
    letters = np.concatenate([one[1:] for one in held_out]) < 256
    assert letters.sum() > 100
    taken = -np.concatenate([scorer.document_logprobs(one) for one in held_out])[letters].mean()
    assert nats[0] < taken < nats[1]
