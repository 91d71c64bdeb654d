"""Pieces of text against all of it decoded at once: no half characters, and no part of a stop string."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data.tokenizer import BytesTokenizer, Tokenizer, train_bpe, train_words
from bloomery.evaluate.showing import Showing

TEXTS = ["Erz und Öl, 鉄 und 🔥: the furnace.\n", "abc abd   abe\n\n", "naïve façade, 鉄鉱石 🔥🔥"] * 3
TOKENIZERS: dict[str, Tokenizer] = {
    "bytes": BytesTokenizer(), "bpe": train_bpe(TEXTS, 280), "words": train_words(TEXTS, 265)
}  # fmt: skip


def shown(tokenizer: Tokenizer, tokens: Sequence[int], stop: Sequence[str]) -> list[str]:
    showing = Showing(tokenizer, stop)
    pieces: list[str] = []
    for token in tokens:
        pieces.append(showing.add(token))
        if showing.stopped:
            return pieces
    return [*pieces, showing.end()]


def slow(tokenizer: Tokenizer, tokens: Sequence[int], stop: Sequence[str]) -> str:
    """Everything decoded anew after every token, until a stop string stands there; broken ends wait."""
    for count in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[:count])
        found = [text.find(each) for each in stop if each in text]
        if found and (not text.endswith("\ufffd") or count == len(tokens)):
            return text[: min(found)]
    return tokenizer.decode(tokens)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
def test_pieces_are_the_text(kind: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    text = data.draw(st.text(st.sampled_from("abcd \nÖ鉄🔥"), max_size=30))
    tokens = [int(token) for token in tokenizer.encode(text)]
    stop = data.draw(st.lists(st.text(st.sampled_from("abcd \nÖ鉄"), min_size=1, max_size=4), max_size=3))
    pieces = shown(tokenizer, tokens, stop)
    assert "".join(pieces) == slow(tokenizer, tokens, stop)
    assert not any("\ufffd" in piece for piece in pieces)
    for end in range(len(pieces)):
        assert not any(each in "".join(pieces[:end]) for each in stop)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
def test_so_are_those_of_any_tokens(kind: str, data: st.DataObject) -> None:
    """A random model writes broken UTF-8; what is shown is what decoding all of it gives."""
    tokenizer = TOKENIZERS[kind]
    tokens = data.draw(st.lists(st.integers(0, tokenizer.vocab - 1), max_size=25))
    assert "".join(shown(tokenizer, tokens, ())) == tokenizer.decode(tokens)


def test_a_stop_string_split_over_tokens_is_held_back() -> None:
    showing = Showing(TOKENIZERS["bytes"], ["END"])
    assert [showing.add(token) for token in b"xENxEND"] == ["x", "", "", "ENx", "", "", ""]
    assert showing.stopped
    assert showing.end() == ""


def test_what_only_began_a_stop_string_is_shown_at_the_end() -> None:
    showing = Showing(TOKENIZERS["bytes"], ["END"])
    assert [showing.add(token) for token in b"xEN"] == ["x", "", ""]
    assert (showing.end(), showing.stopped) == ("EN", False)


def test_a_character_comes_whole() -> None:
    showing = Showing(TOKENIZERS["bytes"])
    assert [showing.add(token) for token in "Ö鉄".encode()] == ["", "Ö", "", "", "鉄"]
    assert [showing.add(0xE9), showing.end()] == ["", "\ufffd"]
