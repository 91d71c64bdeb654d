"""benchmarks/holographic*.py at a small size: the seed's speed-ups give what their loops give, and what is written is
whole. What it finds out about speed is not tested: a test knows nothing of the machine that it runs on."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="no benchmarks beside these tests")


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for each in ("holographic", "holographic_seed"):
        monkeypatch.delitem(sys.modules, each, raising=False)
    return importlib.import_module(name)


def test_batches_are_their_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a buffer that overflows many times, and windows that are cut by the document's beginning."""
    seed = benchmark("holographic_seed", monkeypatch)
    for name, value in {"CONTEXT": 5, "BUFFER": 7, "TOKENS": 90, "MATRICES": 12}.items():
        monkeypatch.setattr(seed, name, value)
    text = np.append(11, np.random.default_rng(0).integers(0, 11, 97))
    found = seed.speed_ups(text, 12, rounds=1)
    assert set(found) == {"two-path", "decomposition", "look-up"}
    assert all(0 <= one["largest difference"] < 1e-12 for one in found.values())
    waiting = seed.woken(text, 12).sleeper.waiting
    assert len(waiting) == 7
    assert waiting.positions.max() > 50  # some were drawn once the buffer was full


def test_a_difference_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = benchmark("holographic_seed", monkeypatch)
    text = np.append(11, np.random.default_rng(0).integers(0, 11, 97))
    monkeypatch.setattr(seed, "traces", lambda matrices: 1.001 * seed.algebra.from_matrix(matrices))
    with pytest.raises(AssertionError):
        seed.speed_ups(text, 12, rounds=1)


@pytest.mark.slow
def test_what_is_written_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    holographic = benchmark("holographic", monkeypatch)
    monkeypatch.setattr(holographic, "WRITTEN", 3)
    out = tmp_path / "found.json"
    holographic.main(["--tokens", "20000", "--rounds", "1", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["options"] == {"tokens": 20000, "rounds": 1, "budget": 32 << 20}
    assert set(found["rates"]) == {"KN-5", "small", "nested"}
    for which in ("small", "nested"):
        rates = found["rates"][which]
        assert rates["learns"] <= rates["learns but for the SVD"] <= rates["learns but for prototypes"]
        assert rates["learns and freezes"] < rates["learns"]
    grown = [one["store_bytes"] for one in found["growth"]]
    assert len(grown) == 10
    assert max(grown) <= 32 << 20
