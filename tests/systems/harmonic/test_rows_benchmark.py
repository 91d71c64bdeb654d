"""benchmarks/harmonic_rows.py on one basis: both paths are what it times, and it times nothing that differs."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bloomery.systems.harmonic.kernels import atoms

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "harmonic_rows.py"
pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="no benchmarks beside these tests"),
    pytest.mark.skipif(atoms.library() is None, reason="no C library: see model.native.refusals"),
]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("harmonic_rows", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclass looks up what annotations name
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BATCH", 1)
    monkeypatch.setattr(module, "CONTEXT", 8)
    return module


def test_small(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOOMERY_NATIVE", raising=False)
    out = tmp_path / "found.json"
    benchmark.main(["--rounds", "1", "--bases", "row_cos", "--out", str(out)])
    assert "BLOOMERY_NATIVE" not in os.environ
    facts = json.loads(out.read_text())
    rows = {(row["basis"], row["dtype"]): row for row in facts["rows"]}
    assert set(rows) == {
        (basis, dtype) for basis in ("sine", "row_cos") for dtype in (facts["precision_auto"], "float32")
    }
    for (basis, dtype), row in rows.items():
        if basis == "row_cos":
            assert 0 < row["gradient_relative_error"] <= benchmark.ALLOWED[dtype], "two paths, one result"
            assert row["goal"] == 4.0


def test_nothing_is_timed_that_is_wrong(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = atoms.RowKernel.again

    def wrong(self: atoms.RowKernel, *given: object) -> object:
        found = original(self, *given)  # pyright: ignore[reportArgumentType]
        return None if found is None else (found[0], tuple(2 * one for one in found[1]))

    monkeypatch.setattr(atoms.RowKernel, "again", wrong)
    with pytest.raises(SystemExit, match=r"row_cos .* nothing is timed"):
        benchmark.main(["--rounds", "1", "--bases", "row_cos", "--out", str(tmp_path / "none.json")])
    assert not (tmp_path / "none.json").exists()
