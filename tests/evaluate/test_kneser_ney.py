"""Higher orders, cutoffs, caches and tuning of n-gram tables, against the definitions with dictionaries."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.errors import ArtifactError, DataError, PlanError
from bloomery.evaluate.caches import MADE_UP_TOKENS, mixture_weights, shares_of
from bloomery.evaluate.ngram import FILE, NGram
from bloomery.evaluate.ngram_cache import Cached, open_table
from bloomery.evaluate.ngram_counts import Counts, group, without_rare
from bloomery.evaluate.ngram_files import read_arrays, write_arrays
from bloomery.evaluate.ngram_tuning import cutoffs_of, tune
from support.kneser_ney import Textbook, cache_share

VOCAB = 6
END = 5
CUTOFFS = [(), (0, 0, 1), (0, 0, 0, 2), (0, 1, 1, 3), (0, 0, 0, 0, 1000)]


def draw(count: int, seed: int = 0, vocab: int = VOCAB) -> np.ndarray:
    """A skewed second-order Markov chain that starts at END."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(99).dirichlet(np.full(vocab, 0.3), vocab * vocab)
    out = [END, 1]
    while len(out) < count:
        out.append(int(random.choice(vocab, p=table[out[-2] * vocab + out[-1]])))
    return np.array(out)


def rows(seed: int = 0) -> list[list[int]]:
    return [draw(300, seed).tolist(), draw(40, seed + 1).tolist(), draw(3, seed + 2).tolist()]


@pytest.mark.parametrize("order", [2, 4, 6, 7])
@pytest.mark.parametrize("cutoffs", CUTOFFS)
@pytest.mark.parametrize("end", [None, END])
def test_equals_the_textbook_with_cutoffs(order: int, cutoffs: tuple[int, ...], end: int | None) -> None:
    text = draw(60, seed=7)
    expected = Textbook(rows(), order, VOCAB, end, cutoffs)
    found = NGram.fit(map(np.array, rows()), order=order, vocab=VOCAB, end_of_document=end, cutoffs=cutoffs)
    told = np.exp(found.logprobs(torch.from_numpy(text)[None])[0].numpy())
    for place in range(len(text)):
        history = tuple(text[: place + 1].tolist())
        wanted = [expected.probability(history, token) for token in range(VOCAB)]
        assert told[place] == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_sums_to_one_at_a_thousand_places_of_a_large_vocabulary() -> None:
    vocab, random = 997, np.random.default_rng(0)
    train = (random.zipf(1.3, 30_000) % vocab).astype(np.int64)
    train[5000:9000] = train[:4000]
    counts = Counts.of([train], order=7, vocab=vocab)
    for cutoffs in ((), (0, 0, 1, 2)):
        table = NGram.of(counts, cutoffs)
        cached = Cached.fit(table, [train[2000:3000]], windows=(50, 300))
        text = np.concatenate((train[:400], (random.zipf(1.3, 600) % vocab)))
        streams = (table.stream(), cached.stream())
        for token in text.tolist():
            for stream in streams:
                stream.push(token)
                assert abs(stream.probabilities().sum() - 1) < 1e-9


def test_a_cutoff_leaves_out_just_what_was_rare() -> None:
    counts = Counts.of(map(np.array, rows()), order=4, vocab=VOCAB)
    kept = without_rare(counts, (0, 0, 1))
    for level, (keys, _, left_out) in zip(counts.levels[1:], kept[1:], strict=True):
        assert len(keys) == int((level.raw > 1).sum()) < len(level.keys)
        assert left_out.sum() <= level.adjusted[level.raw <= 1].sum()
    assert np.array_equal(kept[0][0], counts.levels[0].keys)
    whole, pruned = NGram.of(counts), NGram.of(counts, (0, 0, 1))
    assert pruned.entries == VOCAB + sum(len(keys) for keys, _, _ in kept) < whole.entries
    assert pruned.tally().bytes < whole.tally().bytes


@pytest.mark.parametrize("order", [1, 2, 4])
def test_counting_further_changes_nothing_below(order: int) -> None:
    whole = Counts.of(map(np.array, rows()), order=7, vocab=VOCAB, end_of_document=END)
    cut, text = whole.up_to(order), draw(100, seed=5)
    again = NGram.fit(map(np.array, rows()), order=order, vocab=VOCAB, end_of_document=END)
    assert np.array_equal(NGram.of(cut).document_logprobs(text), again.document_logprobs(text))


@given(st.lists(st.integers(0, 2**61), max_size=40) | st.lists(st.integers(0, 5), max_size=40))
def test_grouping_is_unique(values: list[int]) -> None:
    given_ = np.array(values, dtype=np.int64)
    keys, first, inverse, times = group(given_)
    wanted = np.unique(given_, return_inverse=True, return_counts=True)
    assert [keys.tolist(), inverse.tolist(), times.tolist()] == [each.tolist() for each in wanted]
    assert np.array_equal(given_[first], keys)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=40), st.sampled_from([(1,), (3, 9), (4, 100)]), st.integers(0, 3)
)
def test_cache_shares_are_counted(text: list[int], windows: tuple[int, ...], longest: int) -> None:
    shares, known = shares_of(np.array(text), VOCAB, windows, longest)
    for at in range(1, len(text)):
        for number, window in enumerate(windows):
            wanted = [cache_share(text, at, window, history) for history in range(longest + 1)]
            assert known[at - 1, number] == sum(one is not None for one in wanted)
            told = [0.0 if one is None else one.get(text[at], 0.0) for one in wanted]
            assert shares[at - 1, number].tolist() == pytest.approx(told, abs=1e-15)


@pytest.fixture(scope="module")
def cached() -> Cached:
    table = NGram.fit([draw(2000)], order=4, vocab=VOCAB, end_of_document=END, cutoffs=(0, 0, 1))
    held_out = [np.concatenate((draw(150, seed), draw(150, seed)[1:])) for seed in range(10, 14)]
    return Cached.fit(table, held_out, windows=(20, 200), longest=2)


def test_read_as_a_stream_or_whole_the_numbers_are_the_same(cached: Cached) -> None:
    text = np.concatenate((draw(300, seed=20), draw(100, seed=21)))
    for model in (cached, cached.table):
        stream, steps = model.stream(), []
        for token in text.tolist():
            stream.push(token)
            steps.append(stream.probabilities())
        batch = model.logprobs(torch.from_numpy(np.stack((text, text[::-1]))))[0].numpy()
        assert np.array_equal(np.log(steps), batch)
        assert np.array_equal(batch[np.arange(len(text) - 1), text[1:]], model.document_logprobs(text))


def test_the_mixture_is_the_one_defined(cached: Cached) -> None:
    text = draw(80, seed=30).tolist()
    caches = [(window, history) for window in cached.caches.windows for history in range(cached.caches.longest + 1)]
    table = cached.table.document_probabilities(np.array(text))
    told = np.exp(cached.document_logprobs(np.array(text)))
    for at in range(1, len(text)):
        found = [cache_share(text, at, *one) for one in caches]
        depths = [sum(one is not None for one in found[start : start + 3]) for start in (0, 3)]
        weights = cached.caches.weights[depths[0] * (cached.caches.longest + 2) + depths[1]]
        assert [weight > 0 for weight in weights[1:]] == [one is not None for one in found]
        parts = [table[at - 1], *(0.0 if one is None else one.get(text[at], 0.0) for one in found)]
        assert told[at - 1] == pytest.approx(float(np.dot(weights, parts)), abs=1e-12)


def test_caches_help_where_a_text_repeats_itself(cached: Cached) -> None:
    phrase = np.random.default_rng(3).integers(0, VOCAB, 40)
    text = np.concatenate(([END], np.tile(phrase, 6)))
    assert cached.document_logprobs(text).mean() > cached.table.document_logprobs(text).mean() + 0.1
    tuned = Cached.fit(cached.table, [text], windows=(20, 200), longest=2)
    assert tuned.document_logprobs(text).mean() > cached.document_logprobs(text).mean() + 0.1


def test_weights_are_the_best_that_the_prior_allows() -> None:
    random = np.random.default_rng(0)
    parts, present = random.dirichlet(np.ones(4), 300), np.array([True, True, False, True])
    prior = np.array([0.5, 0.25, 0.0, 0.25])

    def posterior(weights: np.ndarray) -> float:
        made_up = (MADE_UP_TOKENS * prior)[present] @ np.log(weights[present])
        return float(np.log(parts @ weights).sum() + made_up)

    best = mixture_weights(parts, present)
    assert best[2] == 0
    assert best.sum() == pytest.approx(1, abs=1e-15)
    for _ in range(500):
        other = best * np.exp(random.normal(0, random.choice([0.01, 0.1, 1.0]), 4))
        assert posterior(other / other.sum()) < posterior(best) + 1e-5
    assert mixture_weights(parts[:0], present) == pytest.approx(prior)


def test_saved_and_loaded_it_is_the_same(cached: Cached, tmp_path: Path) -> None:
    text = draw(100, seed=3)
    for name, model in (("cached", cached), ("table", cached.table)):
        model.save(tmp_path / name)
        again = open_table(tmp_path / name)
        assert type(again) is type(model)
        assert np.array_equal(model.document_logprobs(text), again.document_logprobs(text))
        assert again.tally() == model.tally()


def test_every_damage_is_refused_or_changes_nothing(cached: Cached, tmp_path: Path) -> None:
    cached.save(tmp_path)
    whole, text = (tmp_path / FILE).read_bytes(), draw(50, seed=3)
    right, refused = cached.document_logprobs(text), 0
    random = np.random.default_rng(0)
    places = random.choice(len(whole), 300, replace=False)
    for place in places:
        harmed = bytearray(whole)
        harmed[place] ^= 1 << int(random.integers(8))
        (tmp_path / FILE).write_bytes(harmed)
        try:
            assert np.array_equal(open_table(tmp_path).document_logprobs(text), right)  # dates, padding
        except ArtifactError:
            refused += 1
    assert refused > 200
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="damaged"):
            open_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_weights", np.ones((16, 7)) / 7),
        ("cache_weights", np.ones((3, 7)) / 7),
        ("cache_windows", np.array([0, 5])),
        ("cache_windows", None),
        ("discounts", None),
        ("discounts", np.full((4, 3), 2.0)),
        ("left_out_3", np.array([1])),
        ("counts_2", np.zeros(3)),
    ],
)
def test_what_does_not_fit_together_is_refused(
    cached: Cached, tmp_path: Path, name: str, value: np.ndarray | None
) -> None:
    cached.save(tmp_path)
    arrays = {**read_arrays(tmp_path / FILE), name: value}
    write_arrays(tmp_path, {key: one for key, one in arrays.items() if one is not None})
    with pytest.raises(ArtifactError, match="damaged"):
        open_table(tmp_path)


def test_tuning_takes_the_lowest_loss_that_fits() -> None:
    counts = Counts.of([draw(3000)], order=5, vocab=VOCAB, end_of_document=END)
    held_out = [draw(400, seed=40), draw(300, seed=41)]
    table, trials = tune(counts, held_out, orders=range(2, 6))
    assert (
        len(trials)
        == sum(1 + 2 * (order - 2) for order in range(2, 6))
        == sum(len(list(cutoffs_of(order))) for order in range(2, 6))
    )
    for trial in trials:
        alone = NGram.fit([draw(3000)], order=trial.order, vocab=VOCAB, end_of_document=END, cutoffs=trial.cutoffs)
        loss = -np.concatenate([alone.document_logprobs(text) for text in held_out]).mean()
        assert (trial.loss, trial.bytes) == (pytest.approx(loss, abs=1e-14), alone.tally().bytes)
    assert trials[0].loss == min(trial.loss for trial in trials)
    assert trials[0].bytes == table.tally().bytes
    limit = sorted(trial.bytes for trial in trials)[2]
    small, limited = tune(counts, held_out, orders=range(2, 6), most_bytes=limit)
    assert small.tally().bytes <= limit < table.tally().bytes
    assert limited[0].loss == min(trial.loss for trial in trials if trial.bytes <= limit)
    assert len(tune(counts, held_out, orders=(3,), cutoffs=(0, 0, 1))[1]) == 1
    tight = 40 + 4 * VOCAB + 12 * len(counts.levels[0].keys) // 2  # no order fits with all its bigrams
    tiny, more = tune(counts, held_out, orders=range(2, 6), most_bytes=tight)
    assert tiny.tally().bytes <= tight
    assert more[0].cutoffs[1] > 0
    assert more[0].loss == min(trial.loss for trial in more if trial.bytes <= tight)
    with pytest.raises(PlanError, match="at most 10 bytes"):
        tune(counts, held_out, orders=(3,), most_bytes=10)
    with pytest.raises(PlanError, match="at most 100 bytes"):
        tune(counts, held_out, orders=(3,), cutoffs=(), most_bytes=100)


def test_caches_need_text_for_their_weights() -> None:
    with pytest.raises(DataError, match="no tokens"):
        Cached.fit(NGram.fit([draw(50)], order=2, vocab=VOCAB), [np.array([END])])
