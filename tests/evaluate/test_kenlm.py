"""KenLM, where its programs are on the PATH or in the folder KENLM, says of every token what our table says."""

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import train_words

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def programs() -> Path:
    found = shutil.which("lmplz", path=os.pathsep.join((os.environ.get("KENLM", ""), os.environ["PATH"])))
    if not found or not (Path(found).parent / "query").exists():
        pytest.skip("KenLM's lmplz and query are not on the PATH, nor in the folder KENLM")
    return Path(found).parent


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not (BENCHMARKS / "ngram_kenlm.py").exists():
        pytest.skip("no benchmarks beside these tests")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ngram_kenlm")


def documents() -> list[np.ndarray]:
    texts = [one.text[:4000] for one in list(StandardLibrary().documents())[:40]]
    tokenizer = train_words(texts[:30], 2000)
    end = [tokenizer.end_of_document]
    return [np.concatenate((end, one, end)).astype(np.int64) for one in tokenizer.encode_many(texts)]


def test_ids_are_those_of_train_and_one_for_the_rest(benchmark: ModuleType) -> None:
    train, held_out, vocab = benchmark.compact([np.array([9, 4, 7, 9])], [np.array([9, 5, 7, 9])])
    assert (train[0].tolist(), held_out[0].tolist(), vocab) == ([2, 0, 1, 2], [2, 3, 1, 2], 4)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_kenlm_gives_every_token_what_our_table_gives_it(benchmark: ModuleType, order: int) -> None:
    folder, found = programs(), documents()
    train, held_out, vocab = benchmark.compact(found[:30], found[30:])
    theirs, discounts = benchmark.kenlm(folder, train, held_out, order)
    _, own = benchmark.ours(train, held_out, vocab, order)
    np.testing.assert_allclose(discounts[-1], own[-1], rtol=1e-5)
    # Below the highest order KenLM's counts of counts differ from ours by an item: of 486 single tokens with one
    # neighbour it counts 485.
    np.testing.assert_allclose(discounts[:-1], own[:-1], rtol=5e-3)
    same, _ = benchmark.ours(train, held_out, vocab, order, discounts)
    assert (np.concatenate([one[1:] for one in held_out]) == vocab - 1).any()
    np.testing.assert_allclose(theirs, same, atol=2e-5)
