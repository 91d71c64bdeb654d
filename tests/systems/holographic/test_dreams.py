"""What sleep does to an attractor memory."""

import numpy as np
import pytest
import torch

from bloomery.systems.holographic import dreams, prototypes
from bloomery.systems.holographic.attractor import Attractor, Settings

WORDS = 40
"""Four kinds of ten words each; kind 0 is followed by 1, 1 by 2, and so on. Ids 0 to 9 are kind 0."""
END = WORDS


def phrases(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    kind = (np.arange(count) + random.integers(4)) % 4
    return 10 * kind + random.integers(0, 10, count)


def memory(counts: tuple[int, ...] = (4,), **changes: object) -> Attractor:
    return Attractor(Settings(WORDS + 1, store_bytes=16 << 20, prototypes=counts, **changes))  # pyright: ignore[reportArgumentType]


def read(one: Attractor, seed: int, count: int = 4000) -> None:
    one.read(np.append(END, phrases(count, seed)), np.array([0]))


def test_prototypes_are_the_kinds_that_made_the_text() -> None:
    one = memory()
    read(one, 0)
    one.sleep(("non_rem",), np.random.default_rng(0))
    own = one.alphabets[1]
    assert own is not None
    for kind in range(4):
        held = own[10 * kind : 10 * kind + 10]
        assert len(set(held.tolist())) == 1, held
    assert len(set(own.tolist())) == 5  # and the end of documents, read once, has none


def test_vectors_are_those_of_the_whole_matrix() -> None:
    random = np.random.default_rng(0)
    times = random.integers(0, 20, (9, 9)) * (random.random((9, 9)) < 0.5)
    before, after = np.nonzero(times)
    found = prototypes.vectors(before, after, times[before, after], 9, seed=0).double()
    # The definition, densely: what stands before a token, then what stands after it.
    sides = []
    for table in (times.T, times):
        joint = table / table.sum()
        smooth = table.sum(0) ** 0.75
        with np.errstate(divide="ignore", invalid="ignore"):
            log_odds = np.log(joint / (joint.sum(1, keepdims=True) * (smooth / smooth.sum())))
        sides.append(np.nan_to_num(np.maximum(log_odds, 0)))
    matrix = np.concatenate(sides, axis=1)
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = u * np.sqrt(s)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.numpy() @ found.numpy().T == pytest.approx(expected @ expected.T, abs=1e-4)


def test_replay_counts_the_day_once() -> None:
    one = memory()
    for seed in range(3):
        read(one, seed)
        one.sleep(("non_rem", "replay"), np.random.default_rng(0))
    counted = one.items("history1", 0)
    assert counted.raw.sum() == one.tokens_read - 1
    assert np.array_equal(counted.raw, one.items("words", 0).raw)


def test_rem_keeps_pairs_that_are_alike_and_hardly_any_random_one() -> None:
    """Eight prototypes where there are four kinds: halves of a kind predict alike, so they are the schemas."""
    halves = np.where(np.arange(WORDS + 1) < WORDS, 1 + 2 * (np.arange(WORDS + 1) // 10) + np.arange(WORDS + 1) % 2, 0)
    fresh = memory((8,))
    fresh.alphabets.append(halves)
    read(fresh, 0, 20_000)
    fresh.sleep(("replay",), np.random.default_rng(0))
    read(fresh, 1, 20_000)
    did = fresh.sleep(("rem",), np.random.default_rng(0))
    assert did["memory/tried"] > 20
    assert did["memory/schemas_random"] <= 0.1 * did["memory/tried"]
    kinds = {(a, b): (a - 1) // 2 == (b - 1) // 2 for a, b in fresh.schemas}
    assert not [pair for pair, alike in kinds.items() if not alike]


def test_rem_says_nothing_of_a_day_that_was_counted() -> None:
    one = memory()
    read(one, 0)
    one.sleep(("non_rem", "replay"), np.random.default_rng(0))
    assert one.sleep(("rem",), np.random.default_rng(0))["memory/tried"] == 0


def test_a_row_that_is_split_in_two_is_a_schema_and_is_merged() -> None:
    """Little was counted of each half, so that their sum predicts the day better; then they become one."""
    random = np.random.default_rng(0)
    truth = random.dirichlet(np.full(30, 1.0))
    rows = np.zeros((30, 30))
    rows[5], rows[6] = random.multinomial(60, truth), random.multinomial(60, truth)
    rows[7] = random.multinomial(60, random.dirichlet(np.full(30, 1.0)))
    rows[8:] = random.multinomial(40, np.full(30, 1 / 30), 22)
    seen = np.zeros_like(rows)
    seen[5], seen[6], seen[7] = (random.multinomial(500, one) for one in (truth, truth, truth[::-1]))
    pairs = np.array([[5, 6], [5, 7]])
    assert dreams._kept(rows, seen, pairs, None).tolist() == [True, False]
    noise = random.dirichlet(np.ones(30), 2)
    assert dreams._kept(rows, seen, pairs, noise).tolist() == [False, False]


def test_merging_moves_the_rarer_but_one() -> None:
    one = memory((4,))
    read(one, 0)
    one.sleep(("non_rem", "replay"), np.random.default_rng(0))
    own = one.alphabets[1]
    assert own is not None
    before = own.copy()
    pair = sorted({int(before[0]), int(before[10])})
    one.schemas = [(pair[0], pair[1])]
    assert one.sleep(("merge",), np.random.default_rng(0))["memory/merged"] == 0  # what follows them is not alike
    rows = dreams.transitions(one)
    rows[pair[0]] = rows[pair[1]]
    real, dreams.transitions = dreams.transitions, lambda _: rows
    try:
        assert one.sleep(("merge",), np.random.default_rng(0))["memory/merged"] == 1
    finally:
        dreams.transitions = real
    after = one.alphabets[1]
    assert after is not None
    assert np.bincount(after[:20], minlength=6)[pair].tolist() in ([1, 19], [19, 1])
    assert torch.equal(torch.from_numpy(after[20:]), torch.from_numpy(before[20:]))


def test_a_token_that_was_too_rare_joins_later_and_no_other_moves() -> None:
    one = memory()
    text = phrases(4000, 0)
    text[text == 17] = 16
    one.read(np.append(END, text), np.array([0]))
    one.sleep(("non_rem", "replay"), np.random.default_rng(0))
    first = one.alphabets[1]
    assert first is not None
    assert first[17] == 0
    read(one, 1)
    real, dreams.UNASSIGNED = dreams.UNASSIGNED, 1
    try:
        assert one.sleep(("non_rem",), np.random.default_rng(0))["memory/assigned"] == 1
    finally:
        dreams.UNASSIGNED = real
    second = one.alphabets[1]
    assert second is not None
    assert second[17] == second[16] != 0
    assert np.array_equal(np.delete(first, 17), np.delete(second, 17))
