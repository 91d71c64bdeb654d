"""Contexts without end in bounded memory: what the counting store holds, and how fast, at 1, 10 and 100 million.

    python benchmarks/holographic_store.py              # 100 million; some 10 GB of disk in --folder for the time
    python benchmarks/holographic_store.py --most 3e7

Keys are synthetic (a bijection of 1, 2, 3, ... onto 64 bits: 44 of context, and a target), as fast as they come, in
chunks as a waking memory counts them, under a byte budget, by the C side on one thread. The process may have --memory
bytes more than its libraries (RLIMIT_DATA: all but what is mapped of files), so that it would end with MemoryError if a
table or a copy of one lay in memory; `control` is the same with tables in memory, which does. `anonymous` is the
resident memory that no file backs, at its largest; `mapped` are pages of files, which the system takes back when it
needs them. Every size is also gone through once by rising key, saved, and opened again. Rates are of CPU time, the
system's included; growing is in inserts/s. Wall seconds are those of whatever else the machine did. --unsaved leaves
out the files, which take most of the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from bloomery.evaluate.ngram_files import read_arrays, write_arrays
from bloomery.systems.holographic.columns import arrays_of, put_back
from bloomery.systems.holographic.counting import Counting
from bloomery.systems.holographic.ladders import CONTEXT, Keys, words
from bloomery.systems.holographic.mapped import MAPPED_FROM, zeros
from bloomery.systems.holographic.recall import mixed
from bloomery.systems.holographic.store import Table, library

RESULTS = Path(__file__).parent / "results" / "holographic_store.json"
SIZES = (1_000_000, 10_000_000, 100_000_000)
CHUNK, ASKED, VOCAB = 1 << 16, 1 << 20, 100_000
FILE = "table.npz"


def keys_of(numbers: Int[np.ndarray, " n"]) -> tuple[Keys, Keys]:
    """(contexts, targets)"""
    whole = mixed(numbers.astype(np.uint64) + np.uint64(1))  # it takes 0 to 0, which is no key
    return whole & CONTEXT, (whole & ~CONTEXT) % np.uint64(VOCAB)


def resident() -> dict[str, int]:
    """Bytes of this process now: {"RssAnon": ..., "RssFile": ..., ...}"""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


class Watch:
    """CPU and wall seconds of what is done, and the largest anonymous memory at the marks in it."""

    def __init__(self) -> None:
        self.anonymous = self.mapped = 0

    def mark(self) -> None:
        now = resident()
        self.anonymous = max(self.anonymous, now["RssAnon"])
        self.mapped = max(self.mapped, now["RssFile"] + now["RssShmem"])

    def __enter__(self) -> Watch:
        self.cpu, self.wall = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        self.cpu, self.wall = time.process_time() - self.cpu, time.monotonic() - self.wall
        self.mark()


def inserted(counting: Counting, table: Table, first: int, stop: int, watch: Watch) -> float:
    """CPU seconds, without those that the keys were made in."""
    reach, spent = np.zeros(CHUNK, dtype=np.int64), 0.0
    for start in range(first, stop, CHUNK):
        contexts, targets = keys_of(np.arange(start, min(stop, start + CHUNK)))
        with Watch() as one:
            counting.reserve(table, len(contexts))
            table.count(contexts, targets, reach[: len(contexts)], 0, None)
        spent += one.cpu
        watch.anonymous, watch.mapped = max(watch.anonymous, one.anonymous), max(watch.mapped, one.mapped)
    return spent


def found(table: Table, size: int, seed: int, *, beyond: int = 0) -> float:
    """Look-ups a second of keys at random, which must all be there once, or not at all where they lie beyond."""
    asked = beyond + np.random.default_rng(seed).integers(0, size, ASKED)
    spent = 0.0
    for start in range(0, ASKED, CHUNK):
        contexts, targets = keys_of(asked[start : start + CHUNK])
        began = time.process_time()
        raw, _ = table.look_up(np.bitwise_or(contexts, targets))
        spent += time.process_time() - began
        assert (raw == (0 if beyond else 1)).all()
    return ASKED / spent


def gone_through(table: Table, watch: Watch) -> None:
    last, size = np.uint64(0), 0
    for items in table.blocks():
        if len(items.keys):
            assert items.keys[0] > last
            assert (items.keys[1:] > items.keys[:-1]).all()
            last, size = items.keys[-1], size + len(items.keys)
            watch.mark()
    assert size == table.used


def saved_and_opened(table: Table, folder: Path, seed: int) -> dict[str, float]:
    with Watch() as saving:
        write_arrays(folder, arrays_of(table, "table"), FILE)
    size = (folder / FILE).stat().st_size
    again = Table(folder)
    with Watch() as opening:
        arrays = read_arrays(folder / FILE, room=lambda shape, kind: zeros(folder, shape, kind))
        put_back(again, "table", arrays)
    assert again.used == table.used
    found(again, table.used, seed)
    (folder / FILE).unlink()
    return {
        "saved_bytes": size, "saving_seconds": saving.cpu, "opening_seconds": opening.cpu,
        "anonymous": max(saving.anonymous, opening.anonymous),
    }  # fmt: skip


def measured(sizes: Sequence[int], budget: int, folder: Path, *, saves: bool) -> list[dict[str, Any]]:
    lines, first = list[dict[str, Any]](), 0
    counting = Counting([words([1, 2])], budget, folder)
    table = counting.tables["words"][1]
    for size in sizes:
        with Watch() as watch:
            spent = inserted(counting, table, first, size, watch)
        assert table.used == size
        line: dict[str, Any] = {
            "contexts": size, "inserts_per_second": (size - first) / spent, "wall_seconds": watch.wall,
            "table_bytes": table.bytes, "store_bytes": counting.bytes,
            "look_ups_per_second": found(table, size, size),
            "absent_per_second": found(table, size, size, beyond=sizes[-1]),
        }  # fmt: skip
        with Watch() as going:
            gone_through(table, going)
        line |= {"ordered_per_second": size / going.cpu, **(saved_and_opened(table, folder, size) if saves else {})}
        line["anonymous"] = max(watch.anonymous, going.anonymous, line.get("anonymous", 0))
        line["mapped"] = max(watch.mapped, going.mapped)
        lines.append(line)
        first = size
        print(json.dumps(line), flush=True)
    return lines


def control(budget: int, most: int) -> int:
    """Contexts that tables in memory came to before it was full."""
    counting = Counting([words([1, 2])], budget)
    table = counting.tables["words"][1]
    with suppress(MemoryError):
        inserted(counting, table, 0, most, Watch())
    return table.used


def main(given: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--most", type=float, default=SIZES[-1], help="contexts")
    arguments.add_argument("--budget", type=int, default=4 << 30, help="store.bytes")
    arguments.add_argument("--memory", type=int, default=192 << 20, help="bytes")
    arguments.add_argument("--folder", type=Path, help="of the mapped files")
    arguments.add_argument("--unsaved", action="store_true")
    arguments.add_argument("--out", type=Path, default=RESULTS)
    options = arguments.parse_args(given)
    assert library() is not None, "no C compiler"
    before = resident()
    limit = before["VmData"] + options.memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sizes = sorted({*(size for size in SIZES if size < options.most), int(options.most)})
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        lines = measured(sizes, options.budget, Path(folder), saves=not options.unsaved)
    told = {
        "anonymous_before": before["RssAnon"],
        "budget": options.budget,
        "memory": options.memory,
        "mapped_from": MAPPED_FROM,
    }
    held = control(options.budget, sizes[-1])
    print(f"tables in memory: full at {held:,} contexts")
    options.out.write_text(json.dumps({**told, "control": held, "lines": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
