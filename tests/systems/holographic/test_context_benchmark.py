"""benchmarks/holographic_context.py and holographic_keys.py at small sizes: their probes find what is known beforehand.

What they find out about memories is not tested here.
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.evaluate.ngram import NGram
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.systems.holographic.config import Theory as TheorySettings
from bloomery.systems.holographic.theory_memory import TheoryMemory

FOLDER = Path(__file__).parents[3] / "benchmarks"
VOCAB = 64
pytestmark = pytest.mark.skipif(not (FOLDER / "context_probes.py").exists(), reason="no benchmarks beside these tests")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("context_probes")


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("context_contenders")


def text(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, length)


class Oracle:
    """Says what followed the last two tokens when they last stood side by side; else the unigram."""

    def __init__(self, reach: int) -> None:
        self.reach = reach

    def following(self, tokens: np.ndarray, places: Sequence[int]) -> np.ndarray:
        found = np.full((len(places), VOCAB), 1e-6)
        for row, place in zip(found, places, strict=True):
            for at in range(place - 2, max(1, place - self.reach), -1):
                if tuple(tokens[at - 1 : at + 1]) == tuple(tokens[place - 1 : place + 1]):
                    row[tokens[at + 1]] = 1.0
                    break
        return found / found.sum(1, keepdims=True)


def recalled(probes: ModuleType, one: Any, context: int, texts: int) -> tuple[float, float]:
    """The share right: (far, near)."""
    size = context + 2 * probes.PAIRS * probes.STRIDE
    found = [probes.recall(one, probes.planted(text(size, seed), context, range(VOCAB), seed)) for seed in range(texts)]
    near = np.concatenate([each.distances == probes.NEAR for each in found])
    right = np.concatenate([each.right for each in found])
    return float(right[~near].mean()), float(right[near].mean())


@pytest.mark.parametrize("context", [256, 1024])
def test_a_look_up_recalls_everything_and_one_that_reaches_less_far_only_what_is_near(
    probes: ModuleType, context: int
) -> None:
    assert recalled(probes, Oracle(10**6), context, 3) == (1.0, 1.0)
    far, near = recalled(probes, Oracle(probes.far(context) - 1), context, 3)
    assert (far, near) == (0.0, 1.0)


def test_a_unigram_recalls_by_chance(probes: ModuleType, contenders: ModuleType) -> None:
    table = contenders.Table(NGram.fit([text(5000, 99)], order=1, vocab=VOCAB))
    far, near = recalled(probes, table, 256, 60)  # 480 questions each: four standard deviations of chance
    assert abs(far - 0.25) < 0.08
    assert abs(near - 0.25) < 0.08


def test_distances_are_what_they_say(probes: ModuleType) -> None:
    context = 512
    asked = probes.planted(text(context + 128), context, range(VOCAB), 0)
    assert len(asked.places) == len(asked.distances) == 2 * probes.PAIRS
    assert set(asked.distances) == {probes.far(context), probes.NEAR}
    for place, distance, options in zip(asked.places, asked.distances, asked.options, strict=True):
        key = asked.tokens[place - 1 : place + 1].tolist()
        pairs = np.stack((asked.tokens[:-1], asked.tokens[1:]), axis=1)
        assert np.flatnonzero((pairs == key).all(1)).tolist() == [place - 1 - distance, place - 1]
        assert asked.tokens[place - distance + 1] == options[0]
        assert len(set(options.tolist())) == len(options)


def test_order_matters_to_a_table_as_far_as_it_looks(probes: ModuleType, contenders: ModuleType) -> None:
    whole = text(3000)
    begins = np.ones(VOCAB, dtype=np.bool_)
    starts, lost = [600, 1200, 1800], {}
    for order in (1, 2, 3):
        table = contenders.Table(NGram.fit([whole], order=order, vocab=VOCAB))
        found = probes.order(table, whole, starts, 256, 64, begins, 0)
        lost[order] = probes.by_offset(found, lambda part: float(np.abs(part).max()))
    assert set(lost[1]) == {"1", "2", "3-4", "5-16", "17-64"}
    assert all(value == 0 for order in (1, 2) for value in lost[order].values())
    assert lost[3].pop("1") > 0.1
    assert all(value == 0 for value in lost[3].values())


def test_permuted_words_are_the_same_words(probes: ModuleType) -> None:
    begins = np.arange(VOCAB) % 3 == 0
    context = text(500)
    found = probes.permuted(context, begins, 1)
    assert sorted(found.tolist()) == sorted(context.tolist())
    assert found.tolist() != context.tolist()
    assert found[0] == context[0]

    def words(ids: np.ndarray) -> list[tuple[int, ...]]:
        return [tuple(one.tolist()) for one in np.split(ids, np.flatnonzero(begins[ids[1:]]) + 1)]

    assert sorted(words(found)) == sorted(words(context))


def test_contenders_say_the_same_of_targets_and_of_the_whole_vocabulary(contenders: ModuleType) -> None:
    whole = text(400)
    memory = TheoryMemory(TheorySettings(context=32, keep_every=1), VOCAB, VOCAB - 1, 0)
    memory.read(whole[:200], np.array([0]))
    model = Transformer(DenseConfig(layers=2, width=16, heads=2), VOCAB, generator=torch.Generator().manual_seed(0))
    table = NGram.fit([whole[:200]], order=3, vocab=VOCAB)
    for one in (contenders.Table(table), contenders.Theory(memory.scorer()), contenders.Dense(model)):
        tokens = whole[200:300]
        places = [70, 71, 98]
        rows = one.following(tokens, places)
        assert np.allclose(rows.sum(1), 1, atol=1e-9)
        targets = one.targets(tokens, 60)
        assert len(targets) == 39
        wanted = np.log([row[tokens[place + 1]] for row, place in zip(rows, places, strict=True)])
        assert targets[[place - 60 for place in places]] == pytest.approx(wanted, abs=1e-5)
        reader = one.stepping(tokens[:71])
        assert reader.probabilities() == pytest.approx(rows[0], abs=1e-6)
        reader.push(int(tokens[71]))
        assert reader.probabilities() == pytest.approx(rows[1], abs=1e-6)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    stems = ("whale", "white", "sea", "boat", "old", "captain", "said", "ship", "over", "water", "with", "storm")
    words = [one + ending for one in stems for ending in ("", "s", "ing", "er")]
    (tmp_path / "text").mkdir()
    training = importlib.import_module("context_training")
    for seed, name in enumerate(training.BOOKS):
        drawn = np.random.default_rng(seed).choice(words, 9000)
        body = "\n".join(" ".join(line) for line in drawn.reshape(-1, 9))
        marks = ("*** START OF THIS BOOK ***", "End of Project Gutenberg's book", "licence " * 99)
        (tmp_path / "text" / name).write_text("\n".join((marks[2], marks[0], body, *marks[1:])))
    monkeypatch.setenv("BLOOMERY_DATA", str(tmp_path))
    monkeypatch.setattr(training, "RATES", ((0.02, 1),))
    return importlib.import_module("holographic_context")


@pytest.mark.slow
def test_small(benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    sizes = ["--longest", "512", "--tokens", "6000", "--tune", "512", "--targets", "1024", "--trained", "64"]
    for name in ("KN-5, cached", "v4", "dense"):
        benchmark.main([name, "256", "512", *sizes, "--vocab", "400", "--out", str(out)])
    found = json.loads(out.read_text())
    lines = {(line["contender"], line["context"]): line for line in found["lines"]}
    assert len(lines) == 6
    assert lines["dense", 256]["bytes"] == pytest.approx(found["bytes"], rel=0.02)
    assert lines["v4", 256]["bytes"] <= found["bytes"]
    for (name, context), line in lines.items():
        middle, low, high = line["perplexity"]
        assert 1 < low <= middle <= high
        assert line["targets"] == 2048, "all of a short text"
        ratio = line["to rival"][0]
        assert ratio == pytest.approx(middle / lines["KN-5, cached", context]["perplexity"][0])
        assert line["to shortest"][0] == pytest.approx(middle / lines[name, 256]["perplexity"][0])
    keeps = {context: lines["dense", context]["cost"]["keeps, bytes"] for context in (256, 512)}
    assert keeps[512] == 2 * keeps[256], "keys and values grow with what was read"
    benchmark.main(["--out", str(out)])
    printed = capsys.readouterr().out
    middle, low, high = lines["v4", 512]["perplexity"]
    assert f"| {middle:.1f} ({low:.1f} to {high:.1f}) |" in printed
    with pytest.raises(SystemExit, match="other sizes"):
        benchmark.main(["v4", "256", *sizes, "--vocab", "401", "--out", str(out)])


def test_held_out_text_is_neither_trained_nor_tuned_on(benchmark: ModuleType, tmp_path: Path) -> None:
    options = argparse.Namespace(longest=256, tokens=4000, tune=256, targets=512, vocab=400)
    training = importlib.import_module("context_training")
    found = training.text_of(options)
    for train, tune, test, name in zip(found.train, found.tune, found.test, training.BOOKS, strict=True):
        file = (tmp_path / "text" / name).read_text()
        assert file.count("licence") == 198
        whole = found.tokenizer.encode(file[file.index("***\n") + 4 : file.index("\nEnd of")])
        pieces = np.concatenate((train[1:], tune, test))
        assert len(train) - 1 == 2000
        assert pieces.tolist() == whole[-len(pieces) :].tolist()


def test_clifford_keys_are_n_grams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    keys = importlib.import_module("holographic_keys")
    ids = np.random.default_rng(0).integers(0, 12, 4000)
    for line in keys.run(ids, 12, (2, 3, 5), 1):
        length = line["length"]
        assert line["n-grams"] == len({tuple(ids[at : at + length]) for at in range(len(ids) - length + 1)})
        for name in ("integer", "so4"):
            assert line[name]["exact"]
            assert (line[name]["keys"], line[name]["merged"]) == (line["n-grams"], 0)
    shorter = keys.compared(keys.window_keys(ids, 2), keys.ngrams(ids, 3), 3)
    assert not shorter["exact"], "the last two of three tokens are no key of three"
    assert shorter["merged"] > 100
