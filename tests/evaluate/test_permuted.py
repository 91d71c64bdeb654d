"""Word order against scorers whose answer is known: one that counts words, one without opinion, one by heart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import DataError
from bloomery.evaluate.permuted import differences, key_of, pairs
from support.scorers import Certain, Remembering, Uniform

TOKENIZER = BytesTokenizer()


@pytest.fixture
def text(tmp_path: Path) -> TokenFile:
    draw = np.random.default_rng(0)
    words = ["iron", "ore", "slag", "bellows", "tuyere", "bloom", "anvil", "charcoal"]
    documents = [Document(str(n), " ".join(draw.choice(words, 60))) for n in range(6)]
    return write_token_file(tmp_path / "x.tokens", documents, TOKENIZER)


class Counting(Certain):
    """Whatever it has read, as often as it was there: blind to order."""

    def next_token(self, row: list[int]) -> dict[int, float]:
        return {token: count / len(row) for token, count in Counter(row).items()}


def test_the_same_words_stand_in_another_order_that_is_no_reversal(text: TokenFile) -> None:
    asked = pairs(text, TOKENIZER, 40, 30, seed=0)
    assert asked == pairs(text, TOKENIZER, 40, 30, seed=0)
    assert key_of(asked) != key_of(pairs(text, TOKENIZER, 40, 30, seed=1))
    whole = np.asarray(text.tokens).tolist()
    for one in asked:
        true, permuted = (TOKENIZER.decode(list(ids)) for ids in (one.true, one.permuted))
        assert sorted(one.true) == sorted(one.permuted)
        assert any(whole[at : at + 41] == [*one.true, one.target] for at in range(len(whole) - 40))
        assert permuted != true
        assert permuted.split() != true.split()[::-1]
        inner = true.split()[1:]  # the first word may be the end of one, and stick to what comes before it
        assert all(word in permuted for word in inner)


def test_who_is_blind_to_order_has_no_difference_and_who_knows_the_text_has_a_large_one(text: TokenFile) -> None:
    asked = pairs(text, TOKENIZER, 40, 12, seed=0)
    for blind in (Uniform(257), Counting(257)):
        assert differences(blind, asked) == pytest.approx([0.0] * 12, abs=1e-12)
    known = differences(Remembering(257, np.asarray(text.tokens)), asked)
    assert min(known) > 5


def test_texts_without_room_or_words_are_refused(text: TokenFile, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a shorter context"):
        pairs(text, TOKENIZER, 10**6, 3, seed=0)
    bare = write_token_file(tmp_path / "bare.tokens", [Document("0", "x" * 500)], TOKENIZER)
    with pytest.raises(DataError, match="3 different words"):
        pairs(bare, TOKENIZER, 40, 3, seed=0)
