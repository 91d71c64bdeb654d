"""Batches are a pure function of (construction, step); shares are exact; every window is seen once an epoch."""

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.corpus import Document
from bloomery.data.mix import Assignment, Batch, Batches, chairman, permute, whole_shares
from bloomery.data.tokenizer import WordsTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import DataError

Write = Callable[..., TokenFile]
TEXTS = [f"document {number}: " + "abcdefghij" * (number % 7) for number in range(60)]


def content(batch: Batch) -> list[list[int]]:
    parts = [batch.tokens, batch.targets, batch.mask, batch.segments]
    return [part.reshape(-1).tolist() for part in parts if part is not None]


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_a_step_is_the_same_in_any_order_and_after_first_step(write_file: Write, packing: str) -> None:
    file = write_file(TEXTS)
    make: dict[str, Any] = {"batch": 3, "context": 16, "seed": 7, "packing": packing}
    forwards = Batches([(file, 1.0)], **make)
    steps = [content(forwards.batch_at(step)) for step in range(60)]
    backwards = Batches([(TokenFile.open(file.path), 1.0)], **make)
    assert [content(backwards.batch_at(step)) for step in reversed(range(60))] == steps[::-1]
    later = Batches([(file, 1.0)], **make, first_step=25)
    assert [content(later.batch_at(step)) for step in range(35)] == steps[25:]
    assert steps != [content(Batches([(file, 1.0)], **{**make, "seed": 8}).batch_at(step)) for step in range(60)]


@pytest.mark.slow
def test_a_step_is_the_same_in_another_process(write_file: Write) -> None:
    file = write_file(TEXTS)
    program = (
        "import hashlib; from pathlib import Path; from bloomery.data.tokens import TokenFile;"
        "from bloomery.data.mix import Batches;"
        f"b = Batches([(TokenFile.open(Path({str(file.path)!r})), 1.0)], batch=4, context=16, seed=3).batch_at(999);"
        "print(hashlib.sha256(b.tokens.numpy().tobytes() + b.targets.numpy().tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = Batches([(file, 1.0)], batch=4, context=16, seed=3).batch_at(999)
    digest = hashlib.sha256(here.tokens.numpy().tobytes() + here.targets.numpy().tobytes()).hexdigest()
    assert answer.stdout.strip() == digest


def test_a_stream_batch_is_windows_of_the_corpus(write_file: Write) -> None:
    file = write_file(TEXTS)
    stream = file.tokens.tolist()
    windows = {tuple(stream[start : start + 17]) for start in range(len(stream) - 16)}
    batch = Batches([(file, 1.0)], batch=5, context=16, seed=0).batch_at(11)
    assert (batch.tokens.dtype, batch.targets.dtype) == (torch.int64, torch.int64)
    assert batch.mask is None
    assert batch.segments is None
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert (*tokens, targets[-1]) in windows
        assert tokens[1:] == targets[:-1]


def test_an_epoch_sees_every_window_once_in_an_order_of_its_own(write_file: Write) -> None:
    file = write_file(["".join(chr(0x100 + n) for n in range(600))])  # every window is different
    batches = Batches([(file, 1.0)], batch=1, context=16, seed=5)
    windows = (len(file) - 1) // 16
    epochs = [[tuple(batches.batch_at(e * windows + n).targets[0].tolist()) for n in range(windows)] for e in range(3)]
    orders = set()
    for epoch in epochs:
        assert len(set(epoch)) == windows
        place = {window: n for n, window in enumerate(sorted(epoch))}
        orders.add(tuple(place[window] for window in epoch))
        assert epoch != sorted(epoch)
    assert len(orders) == 3
    assert batches.epochs_after(windows * 2) == (2.0,)
    assert Batches([(file, 1.0)], batch=1, context=16, seed=5, first_step=windows).epochs_after(0) == (1.0,)


def test_documents_are_told_apart_and_padding_is_masked(write_file: Write) -> None:
    file = write_file(["abc", "de", "fghij", "k" * 30])
    batches = Batches([(file, 1.0)], batch=1, context=12, seed=0, packing="documents")
    seen: Counter[str] = Counter()
    rows = batches._rows[0].count
    for step in range(rows):
        batch = batches.batch_at(step)
        assert batch.mask is not None
        assert batch.segments is not None
        mask = batch.mask[0].tolist()
        length = sum(mask)
        assert mask == [True] * length + [False] * (12 - length)
        segments = batch.segments[0].tolist()
        assert set(segments[length:]) <= {-1}
        for segment in dict.fromkeys(segments[:length]):
            at = [n for n, found in enumerate(segments) if found == segment]
            text = bytes(batch.targets[0, n].item() for n in at if batch.targets[0, n] < 256).decode()
            assert len(set(text)) == len(text) or set(text) == {"k"}  # letters of one document only
            first = batch.tokens[0, at[0]].item()
            assert first == file.end_of_document or chr(first) == "k"
            seen.update(text)
    assert seen == Counter("abcdefghij" + "k" * 30)


SHARES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@given(SHARES)
@settings(deadline=None)
def test_shares_are_right_to_within_a_row_after_any_number_of_rows(weights: list[int]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    assignment = Assignment(shares)
    counts = [0] * len(shares)
    for row in range(2 * sum(weights)):
        part, before = assignment.at(row)
        assert before == counts[part]
        counts[part] += 1
        for k, share in enumerate(shares):
            assert abs(counts[k] - (row + 1) * share) < 1
    assert counts == [2 * weight for weight in weights]


@given(SHARES)
@settings(deadline=None)
def test_one_period_is_exact(counts: list[int]) -> None:
    assert Counter(chairman(counts)) == dict(enumerate(counts))


def test_shares_become_small_whole_numbers_where_they_can() -> None:
    assert whole_shares([0.7, 0.2, 0.1]) == [7, 2, 1]
    assert whole_shares([1 / 3, 1 / 3, 1 / 3]) == [1, 1, 1]
    assert whole_shares([0.78, 0.22]) == [39, 11]
    odd = [0.123456, 0.876544]
    counts = whole_shares(odd)
    assert [count / sum(counts) for count in counts] == pytest.approx(odd, abs=1e-4)
    assert min(whole_shares([1 - 1e-7, 1e-7])) >= 1


def test_a_mixture_draws_rows_in_proportion(write_file: Write) -> None:
    parts = [write_file(["a" * 500], "a/train"), write_file(["b" * 300], "b/train"), write_file(["c" * 90], "c/train")]
    batches = Batches(list(zip(parts, [0.7, 0.2, 0.1], strict=True)), batch=10, context=16, seed=1)
    for step in range(20):
        letters = Counter(chr(row[3]) for row in batches.batch_at(step).tokens.tolist())
        assert letters == {"a": 7, "b": 2, "c": 1}
    assert batches.epochs_after(20) == (140 / 31, 40 / 18, 20 / 5)


@pytest.mark.parametrize("shares", [[0.5, 0.4], [0.5, 0.5 + 2e-6], [1.0, 0.0], [1.5, -0.5]])
def test_shares_that_do_not_sum_to_one_are_refused(write_file: Write, shares: list[float]) -> None:
    parts = [write_file(["a" * 100], "a/train"), write_file(["b" * 100], "b/train")]
    with pytest.raises(DataError):
        Batches(list(zip(parts, shares, strict=True)), batch=1, context=8, seed=0)


def test_parts_of_two_tokenizers_and_short_corpora_are_refused(write_file: Write) -> None:
    bytes_file = write_file(["some text that is long enough"])
    words = WordsTokenizer(["some"], 300)
    other = write_token_file(bytes_file.path.with_name("words.tokens"), [Document("a", "some text")], words)
    with pytest.raises(DataError, match="another tokenizer"):
        Batches([(bytes_file, 0.5), (other, 0.5)], batch=1, context=4, seed=0)
    with pytest.raises(DataError, match="more than 64 tokens"):
        Batches([(bytes_file, 1.0)], batch=1, context=64, seed=0)


@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_the_keyed_permutation_is_one(count: int, key: int) -> None:
    assert sorted(permute(index, count, key) for index in range(count)) == list(range(count))


def test_the_keyed_permutation_looks_random() -> None:
    """Each index goes to each quarter about equally often over keys (chi-square with 15 degrees, 99.99 %)."""
    count, keys = 16, 2000
    for index in (0, 7, 15):
        hits = Counter(permute(index, count, key * 0x9E3779B97F4A7C15) for key in range(keys))
        expected = keys / count
        assert sum((hits[n] - expected) ** 2 / expected for n in range(count)) < 44.3
