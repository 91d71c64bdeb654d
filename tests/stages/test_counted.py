"""A model whose two counts agreed is not counted again, until anything that they depend on has changed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import settings

from bloomery.engine.discover import catalogue
from bloomery.measure import Tally
from bloomery.model.config import DenseConfig
from bloomery.stages import counted, pricing
from bloomery.stages.pretrain import Pretrain

VOCAB = 257
Counts = list[int]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Counts]:
    """The sizes of the models that were counted; each `price` below is of a process of its own."""
    monkeypatch.setenv("BLOOMERY_CACHE", str(tmp_path / "cache"))
    found: Counts = []
    count = pricing.count

    def counting(model: Any) -> Tally:
        found.append(sum(parameter.numel() for parameter in model.parameters()))
        return count(model)

    monkeypatch.setattr(pricing, "count", counting)
    yield found
    pricing._counted_twice.cache_clear()


def price(vocab: int = VOCAB, **changes: Any) -> float:
    pricing._counted_twice.cache_clear()
    tally = Pretrain().cost(settings(**changes), system="dense", vocab=vocab).tally
    assert tally is not None
    return tally.stored


def test_it_is_counted_once(counts: Counts) -> None:
    assert price() == price() == counts[0]
    assert len(counts) == 1


def test_another_model_or_vocabulary_is_counted(counts: Counts) -> None:
    wider = {"layers": 2, "width": 48, "heads": 2}
    assert [price(), price(model=wider), price(VOCAB + 1)] == counts
    assert len(set(counts)) == 3


def test_another_program_or_torch_counts_again(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    price()
    monkeypatch.setattr(counted, "_program", lambda: "another")
    price()
    monkeypatch.setattr(counted.torch, "__version__", "0.0")
    price()
    assert len(counts) == 3


def test_a_closed_form_that_is_wrong_now_is_found(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    price()
    tally = DenseConfig.tally
    monkeypatch.setattr(DenseConfig, "tally", lambda self, vocab: tally(self, vocab + 1))
    for _ in range(2):  # a failure is not remembered either
        with pytest.raises(AssertionError, match="two counts"):
            price()
    assert len(counts) == 3


def test_a_system_from_elsewhere_is_counted_every_time(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(catalogue.system("dense"), build="elsewhere.model:build")
    monkeypatch.setattr(counted, "catalogue", SimpleNamespace(system={"dense": elsewhere}.__getitem__))
    assert price() == price()
    assert len(counts) == 2


def test_without_a_folder_it_is_counted_every_time(
    counts: Counts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLOOMERY_CACHE", str(tmp_path / "file"))
    assert price() == price()
    assert len(counts) == 2


def test_the_program_is_all_of_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = counted._program.__wrapped__
    monkeypatch.setattr(counted.bloomery, "__file__", str(tmp_path / "__init__.py"))
    found = [program()]
    for name, text in (("__init__.py", ""), ("model/dense.py", "a = 1"), ("model/dense.py", "a = 2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        found.append(program())
    (tmp_path / "model/dense.py").rename(tmp_path / "model/layers.py")
    assert len({*found, program()}) == 5
