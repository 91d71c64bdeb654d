"""N-gram tables against the textbook formula with dictionaries, and against what a distribution must be."""

import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.corpus import Document
from bloomery.data.mix import Batch
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import write_token_file
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate import ngram_counts
from bloomery.evaluate.ngram import FILE, NGram, discounts_of
from bloomery.evaluate.ngram_counts import Counts
from bloomery.evaluate.ngram_files import write_arrays
from bloomery.evaluate.perplexity import perplexity

VOCAB = 7
END = 6


def draw(count: int, seed: int = 0) -> np.ndarray:
    """A skewed Markov chain, so that counts of counts are well spread."""
    random = np.random.default_rng(seed)
    table = random.dirichlet(np.full(VOCAB, 0.3), VOCAB * VOCAB)
    out = [0, 1]
    for _ in range(count):
        out.append(int(random.choice(VOCAB, p=table[out[-2] * VOCAB + out[-1]])))
    return np.array(out)


class Textbook:
    """Modified Kneser-Ney by dictionaries of tuples, one probability at a time."""

    def __init__(self, rows: list[list[int]], order: int, end: int | None = None) -> None:
        self.order = order
        counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        for row in rows:
            for stop in range(2, len(row) + 1):
                for length in range(1, min(order, stop) + 1):
                    gram = tuple(row[stop - length : stop])
                    if end is None or end not in gram[1:-1]:
                        counts[length][gram] += 1
        self.adjusted: list[dict[tuple[int, ...], int]] = [{}]
        for length in range(1, order + 1):
            before: dict[tuple[int, ...], set[int]] = defaultdict(set)
            for gram in counts[length + 1] if length < order else ():
                before[gram[1:]].add(gram[0])
            self.adjusted.append({gram: len(before[gram]) or count for gram, count in counts[length].items()})
        self.discounts = [discounts_of(np.array(list(level.values()))) for level in self.adjusted[1:]]

    def probability(self, history: tuple[int, ...], token: int) -> float:
        lower = 1 / VOCAB if not history else self.probability(history[1:], token)
        level = self.adjusted[len(history) + 1]
        own = {gram: count for gram, count in level.items() if gram[:-1] == history}
        if not own:
            return lower
        discount = {gram: self.discounts[len(history)][min(count, 3) - 1] for gram, count in own.items()}
        total = sum(own.values())
        gram = (*history, token)
        share = (own[gram] - discount[gram]) / total if gram in own else 0.0
        return share + sum(discount.values()) / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("end", [None, END])
def test_equals_the_textbook(order: int, end: int | None) -> None:
    rows = draw(399).reshape(-1, 401).tolist() + draw(60, seed=1).reshape(2, -1).tolist()
    found = NGram.fit((np.array(row) for row in rows), order=order, vocab=VOCAB, end_of_document=end)
    expected = Textbook(rows, order, end)
    text = draw(40, seed=2)
    logprobs = found.logprobs(torch.from_numpy(text)[None])[0].exp()
    for position in range(len(text)):
        history = tuple(map(int, text[max(0, position + 2 - order) : position + 1])) if order > 1 else ()
        for token in range(VOCAB):
            assert logprobs[position, token].item() == pytest.approx(expected.probability(history, token), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=30), min_size=1, max_size=6),
    st.integers(1, 5),
    st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=12),
    st.none() | st.just(END),
    st.integers(1, 3),
)
def test_sums_to_one_and_scores_targets_alike(
    rows: list[list[int]], order: int, text: list[int], end: int | None, repeats: int
) -> None:
    table = NGram.fit(map(np.array, rows), order=order, vocab=VOCAB, end_of_document=end, repeats=repeats)
    logprobs = table.logprobs(torch.tensor([text])).numpy()[0]
    assert np.abs(np.exp(logprobs).sum(-1) - 1).max() < 1e-9
    assert np.isfinite(logprobs).all()
    chosen = logprobs[np.arange(len(text) - 1), text[1:]]
    assert table.document_logprobs(np.array(text)) == pytest.approx(chosen, abs=1e-12)


def test_longer_histories_help_on_text_that_has_them() -> None:
    train, held_out = draw(20_000)[2:], draw(22_000)[20_002:]
    losses = [
        -NGram.fit([train], order=order, vocab=VOCAB).document_logprobs(held_out).mean() for order in (1, 2, 3, 4, 5)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[4] < losses[2] + 0.1  # the chain has two tokens of memory: more must not hurt


def test_rows_shorter_than_the_order_lower_it() -> None:
    table = NGram.fit([np.array([0, 0]), np.array([0, 1])], order=5, vocab=VOCAB)
    assert table.order == 2
    assert table.logprobs(torch.tensor([[0, 0, 3]])).exp().sum(-1).tolist() == [[pytest.approx(1)] * 3]


def test_a_text_read_twice_is_the_same_evidence() -> None:
    train, held_out = draw(2000), draw(500, seed=0)
    once = NGram.fit([train], order=3, vocab=VOCAB)
    twice = NGram.fit([train, train], order=3, vocab=VOCAB, repeats=2)
    assert np.array_equal(once.document_logprobs(held_out), twice.document_logprobs(held_out))


def test_batches_are_read_as_their_rows() -> None:
    text = draw(61)  # 63 tokens
    batch = Batch(torch.from_numpy(text[:-1].reshape(2, 31)), torch.from_numpy(text[1:].reshape(2, 31)))
    from_batch = NGram.fit([batch], order=2, vocab=VOCAB)
    assert np.array_equal(
        from_batch.document_logprobs(text), NGram.fit([text], order=2, vocab=VOCAB).document_logprobs(text)
    )


def test_packed_documents_are_cut_at_segments_and_padding() -> None:
    inputs = torch.tensor([[6, 1, 2, 6, 3, 0, 0]])
    targets = torch.tensor([[1, 2, 6, 3, 4, 0, 0]])
    mask = torch.tensor([[True] * 5 + [False] * 2])
    segments = torch.tensor([[0, 0, 0, 1, 1, -1, -1]])
    packed = NGram.fit([Batch(inputs, targets, mask, segments)], order=3, vocab=VOCAB)
    apart = NGram.fit([np.array([6, 1, 2, 6]), np.array([6, 3, 4])], order=3, vocab=VOCAB)
    text = np.array([6, 1, 2, 6, 3, 4, 0])
    assert np.array_equal(packed.document_logprobs(text), apart.document_logprobs(text))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    table = NGram.fit([draw(500)], order=4, vocab=VOCAB)
    table.save(tmp_path / "model")
    again = NGram.load(tmp_path / "model")
    text = draw(100, seed=3)
    assert np.array_equal(table.document_logprobs(text), again.document_logprobs(text))
    assert (again.order, again.vocab) == (4, VOCAB)
    first = (tmp_path / "model" / FILE).read_bytes()
    again.save(tmp_path / "model")
    assert (tmp_path / "model" / FILE).read_bytes() == first
    assert [file.name for file in (tmp_path / "model").iterdir()] == [FILE]


def test_tally_counts_what_is_stored() -> None:
    text = draw(500)
    bigrams = len(set(pairwise(text.tolist())))
    tally = NGram.fit([text], order=2, vocab=VOCAB).tally()
    assert tally.stored == VOCAB + 2 * bigrams
    assert tally.bytes == pytest.approx(4 * VOCAB + 12 * bigrams)


def test_damage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        NGram.load(tmp_path)
    NGram.fit([draw(500)], order=3, vocab=VOCAB).save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="damaged"):
        NGram.load(tmp_path)
    unfit = {"vocab": np.array(2), "counts_1": np.ones(2), "keys_2": np.array([9]), "counts_2": np.ones(1)}
    write_arrays(tmp_path, unfit)
    with pytest.raises(ArtifactError, match="do not fit together"):
        NGram.load(tmp_path)


def test_tokens_out_of_range_and_no_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="0 to 6"):
        NGram.fit([np.array([1, 7])], order=2, vocab=VOCAB)
    with pytest.raises(DataError, match="no tokens"):
        NGram.fit([], order=2, vocab=VOCAB)


def test_perplexity_takes_it_as_a_document_scorer(tmp_path: Path) -> None:
    documents = [Document("a", "abracadabra"), Document("b", ""), Document("c", "cadabra")]
    file = write_token_file(tmp_path / "text.bin", documents, BytesTokenizer())
    table = NGram.fit([np.asarray(file.tokens)], order=3, vocab=257, end_of_document=256)
    found = perplexity(table, file, context=4)
    for index, total in enumerate(found.loss_sums):
        stream = np.concatenate(([256], file.document(index))).astype(np.int64)
        logprobs = table.logprobs(torch.from_numpy(stream)[None])[0]
        expected = -sum(logprobs[at, token].item() for at, token in enumerate(stream[1:]))
        assert total == pytest.approx(expected)
    assert found.token_counts == (12, 1, 8)


@pytest.mark.parametrize("order", [1, 2])
@given(
    rows=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9), min_size=1), repeats=st.integers(1, 3)
)
def test_pairs_counted_by_the_part_are_those_of_all_at_once(order: int, rows: list[list[int]], repeats: int) -> None:
    """The other way holds every token, as orders above two need."""
    arrays = [np.array(row) for row in rows]
    if max(map(len, arrays)) < 3:
        arrays.append(np.array([0, 1, 2]))  # for order 3 to be there, which has a level more
    whole = Counts.of(arrays, order=3, vocab=VOCAB, repeats=repeats).up_to(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_counts, "PAIRS_AT_ONCE", 4)
        parts = Counts.of(arrays, order=order, vocab=VOCAB, repeats=repeats)
    np.testing.assert_array_equal(parts.raw, whole.raw)
    np.testing.assert_array_equal(parts.adjusted, whole.adjusted)
    assert len(parts.levels) == len(whole.levels) == order - 1
    for found, expected in zip(parts.levels, whole.levels, strict=True):
        for name in ("keys", "raw", "adjusted"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_pairs_take_the_memory_of_those_that_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """What baselines are priced at: 80 bytes for each of vocab^2 pairs and each token of a part, whatever is read."""
    vocab, at_once, tokens = 200, 20_000, 1_000_000
    monkeypatch.setattr(ngram_counts, "PAIRS_AT_ONCE", at_once)

    def rows(count: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng(0)
        for _ in range(count // 500):
            yield random.integers(0, vocab, 500, dtype=np.int32)

    assert len(Counts.of(rows(tokens), order=2, vocab=vocab).levels[0].keys) == vocab**2, "every pair is there"
    tracemalloc.start()
    Counts.of(rows(tokens), order=2, vocab=vocab)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 80 * (vocab**2 + at_once) < 80 * tokens / 10
