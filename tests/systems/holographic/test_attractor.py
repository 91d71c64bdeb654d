"""The attractor variant against dictionaries, against evaluate.ngram, and against what a memory must be."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.errors import ArtifactError, DataError, PlanError
from bloomery.evaluate.caches import Caches
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_cache import Cached
from bloomery.systems.holographic import attractor
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.dreams import PHASES
from bloomery.systems.holographic.ladders import contexts
from bloomery.systems.holographic.memory import Memory
from bloomery.systems.holographic.scorer import FILE, AttractorScorer, open_scorer
from bloomery.systems.holographic.store import library
from systems.holographic.remembering import END, VOCAB, Dictionaries, stream, text

SETTINGS = Settings(VOCAB, store_bytes=16 << 20, timescales=(1, 2, 3, 5), prototypes=(2, 4))


def woken(settings: Settings = SETTINGS, count: int = 60, phases: tuple[str, ...] = PHASES) -> Attractor:
    memory: Memory = Attractor(settings)
    memory.read(*stream(text(count)))
    memory.sleep(phases, np.random.default_rng(0))
    assert isinstance(memory, Attractor)
    return memory


def test_orders_one_to_n_are_the_ngram_table() -> None:
    documents, held_out = text(60), text(10, seed=1)
    memory = woken(Settings(VOCAB, timescales=(1, 2, 3, 4), prototypes=(), skip=False))
    table = NGram.fit([stream(documents)[0]], order=4, vocab=VOCAB, end_of_document=END)
    found = memory.scorer(cutoffs={})
    assert found.entries == table.entries - int((table.arrays()["counts_1"] == 0).sum())
    for document in held_out:
        assert found.document_logprobs(document) == pytest.approx(table.document_logprobs(document), abs=1e-12)
    pruned = NGram.fit([stream(documents)[0]], order=4, vocab=VOCAB, end_of_document=END, cutoffs=(0, 0, 0, 1))
    found = memory.scorer(cutoffs={3: 1})
    for document in held_out:
        assert found.document_logprobs(document) == pytest.approx(pruned.document_logprobs(document), abs=1e-12)


def test_every_ladder_is_its_dictionaries() -> None:
    """With gaps between orders, class contexts, class targets, skips and cutoffs."""
    memory, documents, held_out = woken(), text(60), text(2, seed=1)
    made = memory.scorer(cutoffs={3: 1})
    assert {one.ladder.name for one in made.attractors} == {
        "words", "skip", "classes1", "history1", "classes2", "history2",
    }  # fmt: skip
    for one in made.attractors:
        ladder = one.ladder
        cutoffs = [1 if max((lag for lag, _ in rung), default=0) >= 3 else 0 for rung in ladder.rungs]
        slow = Dictionaries(ladder, documents, memory.alphabets, one.size, cutoffs)
        for document in held_out:
            hashes = [each[1:] for each in contexts(ladder, document, memory.alphabets)]
            targets = np.array([slow.symbol(ladder.target, token) for token in document[1:]])
            quick = one.probabilities(hashes, targets, np.arange(1, len(document)))
            expected = [slow.probability(document[:n], targets[n - 1]) for n in range(1, len(document))]
            assert quick == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nested", [True, False])
def test_sums_to_one_at_a_thousand_positions_and_scores_targets_alike(nested: bool) -> None:
    made = woken().scorer(text(20, seed=2), nested=nested)
    assert np.abs(made.mixture.weights[:, :, 1:]).sum() > 0
    positions = 0
    for document in text(40, seed=3):
        every = made.logprobs(torch.from_numpy(document)[None]).numpy()[0]
        assert np.abs(np.exp(every).sum(-1) - 1).max() < 1e-9
        chosen = every[np.arange(len(document) - 1), document[1:]]
        assert made.document_logprobs(document) == pytest.approx(chosen, abs=1e-12)
        positions += len(document)
    assert positions >= 1000


def test_forgetting_keeps_to_the_budget_and_sums_to_one() -> None:
    # A long text over a small budget: the store fills many times over.
    documents = text(300, length=200)
    settings = Settings(VOCAB, store_bytes=700_000, timescales=(1, 2, 3, 5, 7), prototypes=(3,))
    memory = Attractor(settings)
    tokens, starts = stream(documents)
    for first in range(0, len(tokens), 5000):
        inside = starts[(starts >= first) & (starts < first + 5000)] - first
        memory.read(tokens[first : first + 5000], inside)
        memory.sleep(PHASES, np.random.default_rng(first))
        assert memory.measures()["memory/store_bytes"] <= settings.store_bytes
    assert 0 < memory.measures()["memory/forgotten_share"] < 1
    made = memory.scorer(text(20, seed=2))
    whole = woken(Settings(VOCAB, timescales=(1, 2, 3, 5, 7), prototypes=(3,)), 300).scorer(text(20, seed=2))
    lost, kept = 0.0, 0.0
    for document in text(20, seed=3):
        every = made.logprobs(torch.from_numpy(document)[None]).numpy()[0]
        assert np.abs(np.exp(every).sum(-1) - 1).max() < 1e-9
        lost -= made.document_logprobs(document).sum()
        kept -= whole.document_logprobs(document).sum()
    assert lost < 1.2 * kept


def test_what_was_given_amply_is_taken_back_and_nothing_with_it() -> None:
    counting = woken(Settings(VOCAB, store_bytes=64 << 20, timescales=(1, 2, 3, 5), prototypes=()), 300).counting
    tables = [table for tables in counting.tables.values() for table in tables]
    before, bytes_before = [table.items() for table in tables], counting.bytes
    counting._tighten()
    assert counting.bytes < 0.9 * bytes_before
    for table, was in zip(tables, before, strict=True):
        assert table.bytes >= 16 * max(64, int(1.6 * table.used))
        assert all(np.array_equal(one, two) for one, two in zip(table.items(), was, strict=True))
        assert table.used == len(was.keys)


def test_what_was_forgotten_is_in_gamma() -> None:
    """Forgetting in the store and leaving out on freezing are one function of the counts."""
    settings = Settings(VOCAB, timescales=(1, 2, 3, 4), prototypes=(), skip=False)
    one, two = woken(settings), woken(settings)
    gone = sum(two.counting.tables["words"][rung].forget(1) for rung in (2, 3))
    assert gone == two.counting.dropped > 0
    left, forgot = one.scorer(cutoffs={2: 1}), two.scorer(cutoffs={})
    for document in text(5, seed=1):
        assert np.array_equal(left.document_logprobs(document), forgot.document_logprobs(document))


def test_numpy_counts_what_the_library_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(VOCAB, store_bytes=700_000, timescales=(1, 2, 3, 5, 7), prototypes=(3,))
    documents = text(100, length=200)
    if library() is None:
        pytest.skip("no C compiler")

    def remembered(folder: Path) -> tuple[str, np.ndarray]:
        memory = Attractor(settings)
        memory.read(*stream(documents))
        memory.sleep(PHASES, np.random.default_rng(0))
        memory.save(folder)
        assert memory.counting.dropped > 0
        return digest(folder), memory.scorer(text(5, seed=2)).document_logprobs(documents[0])

    quick, quick_logprobs = remembered(tmp_path / "c")
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    assert library() is None
    slow, slow_logprobs = remembered(tmp_path / "numpy")
    assert quick == slow
    assert np.array_equal(quick_logprobs, slow_logprobs)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / attractor.FILE).read_bytes()).hexdigest()


@pytest.mark.parametrize("working", [False, True])
def test_resumed_anywhere_it_is_the_same_memory(tmp_path: Path, working: bool) -> None:
    """Saved, opened and cut at random tokens, awake and between sleeps: the same file, byte for byte."""
    settings = Settings(VOCAB, store_bytes=700_000, timescales=(1, 2, 3, 5, 7), prototypes=(3,))
    tokens, starts = stream(text(100, length=200))
    nights = np.arange(4000, len(tokens), 4000)

    def lived(cuts: np.ndarray, folder: Path) -> str:
        place = folder / "tables" if working else None
        memory = Attractor(settings, place)
        edges = np.unique(np.concatenate(([0], cuts, nights, [len(tokens)])))
        for first, stop in pairwise(edges):
            inside = starts[(starts >= first) & (starts < stop)] - first
            memory.read(tokens[first:stop], inside)
            if stop in nights:
                memory.sleep(PHASES, np.random.default_rng(stop))
            if stop in cuts:
                memory.save(folder)
                memory = attractor.open(folder, place)
        memory.save(folder)
        return digest(folder)

    once = lived(np.array([], dtype=np.int64), tmp_path / "once")
    cuts = np.random.default_rng(5).integers(1, len(tokens), 10)
    assert lived(cuts, tmp_path / "often") == once


def test_a_saved_scorer_is_the_same_scorer(tmp_path: Path) -> None:
    made = woken().scorer(text(20, seed=2))
    made.save(tmp_path)
    again = AttractorScorer.load(tmp_path)
    for document in text(3, seed=1):
        assert np.array_equal(made.document_logprobs(document), again.document_logprobs(document))
    assert again.tally() == made.tally()
    damaged = tmp_path / "attractors.npz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="damaged"):
        AttractorScorer.load(tmp_path)


def test_caches_stand_beside_it_as_beside_a_table(tmp_path: Path) -> None:
    """Where all weight is the table's it is the scorer alone; fitted, it sums to one; saved, it is the same."""
    made, held_out = woken().scorer(text(20, seed=2)), text(10, seed=4)
    cached = Cached.fit(made, held_out)
    caches = cached.caches
    table_alone = np.eye(1, caches.weights.shape[1]).repeat(len(caches.weights), 0)
    bare = Cached(made, Caches(caches.windows, caches.longest, table_alone))
    document = text(1, seed=5)[0]
    assert np.array_equal(bare.document_logprobs(document), made.document_logprobs(document))
    every = cached.logprobs(torch.from_numpy(document)[None]).numpy()[0]
    assert np.abs(np.exp(every).sum(-1) - 1).max() < 1e-9
    chosen = every[np.arange(len(document) - 1), document[1:]]
    assert cached.document_logprobs(document) == pytest.approx(chosen, abs=1e-12)
    cached.save(tmp_path, FILE)
    again = open_scorer(tmp_path)
    assert isinstance(again, Cached)
    assert np.array_equal(again.document_logprobs(document), cached.document_logprobs(document))
    made.save(tmp_path)
    assert isinstance(open_scorer(tmp_path), AttractorScorer)


def test_the_tally_is_what_the_arrays_take() -> None:
    made = woken().scorer(text(20, seed=2))
    stored = sum(a.nbytes for name, a in made.arrays().items() if not name.endswith(("discounts", "about")))
    assert made.tally().bytes == stored


def test_refusals() -> None:
    with pytest.raises(DataError, match="token ids"):
        Attractor(SETTINGS).read(np.array([0, VOCAB]), np.array([0]))
    with pytest.raises(PlanError, match=r"store\.bytes"):
        Attractor(Settings(VOCAB, store_bytes=1000))
    with pytest.raises(DataError, match="find weights"):
        woken().scorer([np.array([END])])
