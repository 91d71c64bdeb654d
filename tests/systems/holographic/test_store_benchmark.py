"""benchmarks/holographic_store.py at a small size: a limit that tables in memory break is kept by mapped ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.systems.holographic.store import library

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MOST, MEMORY = 600_000, 24 << 20
SMALL = """
import sys
import holographic_store as benchmark
from bloomery.systems.holographic import mapped, store
mapped.MAPPED_FROM, store.BLOCK = 1 << 16, 1 << 14
benchmark.SIZES, benchmark.ASKED, benchmark.CHUNK = (200_000,), 1 << 15, 1 << 14
benchmark.main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is no file on Linux only")
@pytest.mark.skipif(not BENCHMARKS.exists(), reason="no benchmarks beside these tests")
def test_more_contexts_are_held_than_memory_would_take(tmp_path: Path) -> None:
    if library() is None:
        pytest.skip("no C compiler")
    out = tmp_path / "found.json"
    given = ["--most", str(MOST), "--memory", str(MEMORY), "--folder", str(tmp_path), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", SMALL, *given], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert 0 < found["control"] < MOST
    first, last = found["lines"]
    assert (first["contexts"], last["contexts"]) == (200_000, MOST)
    assert last["table_bytes"] > 16 * MOST / 0.75 * 0.99
    for line in found["lines"]:
        assert line["anonymous"] < found["anonymous_before"] + MEMORY
        rates = ("inserts_per_second", "look_ups_per_second", "absent_per_second", "ordered_per_second")
        assert all(line[name] > 0 for name in rates)
        assert line["saved_bytes"] < 10 * line["contexts"]
