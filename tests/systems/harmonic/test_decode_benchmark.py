"""benchmarks/harmonic_decode.py at a small size: what it compares is the same product, and what it writes is whole.

What it finds out about speed is not tested: a test knows nothing of the machine that it runs on.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "harmonic_decode.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="no benchmarks beside these tests")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("harmonic_decode", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclass looks up what annotations name
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("native", ["1", "0"])
def test_small(benchmark: ModuleType, native: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOOMERY_NATIVE", native)
    out = tmp_path / "found.json"
    benchmark.main(["--size", "256", "--rounds", "2", "--rotate", "1", "--out", str(out)])
    facts = json.loads(out.read_text())
    table = {row["name"]: row for row in facts["contenders"]}
    assert len(table) == len(facts["contenders"]) == 17
    base = table["torch bf16 linear"]
    assert base["times_faster"] == base["predicted_by_bytes"] == 1.0
    assert base["bytes"] == 256 * 256 * 2
    for row in table.values():
        assert row["times_faster"] == pytest.approx(base["cpu_us"] / row["cpu_us"], rel=0.05, abs=0.01)
        if row["goal"] is None or abs(row["times_faster"] - row["goal"]) > 0.01:  # it is written rounded
            assert row["met"] == (None if row["goal"] is None else row["times_faster"] >= row["goal"])
    goals = {name.split()[0]: row["goal"] for name, row in table.items() if row["goal"]}
    assert goals == {"low-rank": 6.0, "Monarch": 6.0, "scale-space": 2.0}


def test_nothing_is_timed_that_is_wrong(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.LowRankDecode, "__call__", lambda self, x: torch.zeros(256))
    with pytest.raises(SystemExit, match=r"low-rank .* nothing is timed"):
        benchmark.main(["--size", "256", "--rounds", "1", "--rotate", "1", "--out", str(tmp_path / "none.json")])
    assert not (tmp_path / "none.json").exists()
