"""Tables in mapped files: the same memory as without, nothing left behind, and one clear error where a disk is full."""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import digest_of
from bloomery.errors import ArtifactError
from bloomery.stages.prepare import parse_data, prepare
from bloomery.systems.holographic import attractor, columns, mapped, store, waking
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.dreams import PHASES
from bloomery.systems.holographic.store import PLACE, Table
from support.command import Command, write_text
from systems.holographic.remembering import VOCAB, stream, text
from systems.holographic.test_kinds import DATA, wake

SETTINGS = Settings(VOCAB, store_bytes=700_000, timescales=(1, 2, 3, 5, 7), prototypes=(3,))
ATTRACTOR: dict[str, Any] = {"variant": "attractor", "store": {"bytes": "512 KiB"}, "prototypes": [4], "tokens": 6000}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_FSIZE as Linux has them")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("data")
    write_text(folder / "text", 60)
    return prepare(parse_data(DATA), folder / "data", roots=[folder])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full to every larger file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def mapped_files(folder: Path) -> list[str]:
    """Of this process, that lie in the folder."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


@on_linux
def test_a_large_array_is_a_file_without_a_name_that_goes_with_it(tmp_path: Path) -> None:
    large = mapped.zeros(tmp_path, mapped.MAPPED_FROM // 8, np.uint64)
    small = mapped.zeros(tmp_path, mapped.MAPPED_FROM // 8 - 1, np.uint64)
    assert len(mapped_files(tmp_path)) == 1
    assert not list(tmp_path.iterdir())
    assert not large.any()
    large[5], part = 7, large[2:9]
    del large
    assert part.tolist() == [0, 0, 0, 7, 0, 0, 0]
    del part
    assert not mapped_files(tmp_path)
    assert len(small) == mapped.MAPPED_FROM // 8 - 1


@on_linux
@pytest.mark.parametrize("taken", ["at once", "written"])
def test_its_room_is_taken_when_it_is_made(taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if taken == "written":  # as on a system without posix_fallocate
        monkeypatch.delattr("os.posix_fallocate")
    with files_of_at_most(mapped.MAPPED_FROM - 1), pytest.raises(ArtifactError) as full:
        mapped.zeros(tmp_path, mapped.MAPPED_FROM, np.uint8)
    assert full.value.where == str(tmp_path)
    assert full.value.found == f"has no room for a table of {mapped.MAPPED_FROM:,} bytes: File too large"
    assert not mapped_files(tmp_path)
    with files_of_at_most(mapped.MAPPED_FROM + 4096):
        assert not mapped.zeros(tmp_path, mapped.MAPPED_FROM + 1, np.uint8).any()


@pytest.mark.parametrize("block", [50, 1 << 18])
def test_blocks_are_what_it_holds_by_rising_key(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BLOCK", block)
    table, random = Table(), np.random.default_rng(0)
    assert [len(one.keys) for one in table.blocks()].count(0) == len(list(table.blocks()))
    contexts = random.integers(1, 1 << 44, 200, dtype=np.uint64) << np.uint64(20)
    given = contexts[random.integers(0, 200, 3000)], random.integers(0, 40, 3000).astype(np.uint64)
    table.resize(table.needs(3000))
    table.count(*given, np.zeros(3000, dtype=np.int64), 0, None)
    keys, times = np.unique(given[0] | given[1], return_counts=True)
    blocks = list(table.blocks())
    assert np.concatenate([one.keys for one in blocks]).tolist() == keys.tolist()
    assert np.concatenate([one.raw for one in blocks]).tolist() == times.tolist()
    edges = [one.keys[[0, -1]] >> np.uint64(20) for one in blocks if len(one.keys)]
    assert all(before[1] < after[0] for before, after in pairwise(edges))
    assert block > 3000 or store.library() is None or max(len(one.keys) for one in blocks) < len(keys) / 4
    asked = np.concatenate((keys[::3], keys[:50] + np.uint64(64)))
    raw, adjusted = table.look_up(asked)
    assert raw.tolist() == [*times[::3].tolist(), *[0] * 50]
    assert not adjusted.any()


def lived(folder: Path, working: Path | None) -> tuple[str, list[float]]:
    """A memory that forgets, saved and opened on the way."""
    tokens, starts = stream(text(100, length=200))
    memory, half = Attractor(SETTINGS, working), len(tokens) // 2
    memory.read(tokens[:half], starts[starts < half])
    memory.sleep(PHASES, np.random.default_rng(0))
    memory.save(folder)
    memory = attractor.open(folder, working)
    memory.read(tokens[half:], starts[starts >= half] - half)
    memory.sleep(PHASES, np.random.default_rng(1))
    assert memory.counting.dropped > 0
    memory.save(folder)
    scored = memory.scorer(text(5, seed=2)).document_logprobs(text(1, seed=1)[0])
    return digest_of(folder), scored.tolist()


@pytest.mark.parametrize("native", [True, False])
def test_it_is_the_same_memory_mapped_and_by_small_blocks(
    native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    whole = lived(tmp_path / "whole", None)
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)
    for module in (store, columns):
        monkeypatch.setattr(module, "BLOCK", 200)
    assert lived(tmp_path / "blocks", tmp_path / "working") == whole


@on_linux
def test_a_stage_maps_its_tables_and_goes_on_from_its_save(
    data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved while they are mapped, at several tokens; what it ends with has the bytes of a run in memory."""
    in_memory = wake(data, tmp_path / "memory", **ATTRACTOR)
    assert not mapped_files(tmp_path)
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)
    folder, seen, save = tmp_path / "mapped", list[int](), waking._Day.save

    def saved(day: Any, memory: Any, position: int) -> None:
        seen.append(len(mapped_files(folder)))
        save(day, memory, position)

    monkeypatch.setattr(waking._Day, "save", saved)
    for after in (4, 3):
        assert wake(data, folder, stop_after=after, **ATTRACTOR).result is None
        assert json.loads((folder / "checkpoint" / waking.PROGRESS).read_text())["position"] > 0
    ended = wake(data, folder, **ATTRACTOR)
    assert ended.result is not None
    assert in_memory.result is not None
    assert min(seen) >= 15  # ladders of 22 rungs in all; those of the empty context are small, but mapped all the same
    assert ended.result.hashes == in_memory.result.hashes
    assert digest_of(ended.model) == digest_of(in_memory.model)
    assert {one.name for one in folder.iterdir()} == {"checkpoint", "model", "state"}


@on_linux
def test_a_full_disk_is_one_error_and_the_last_save_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bloomery = Command(monkeypatch, capsys)
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    letters = np.random.default_rng(0).choice(list("abcdef"), (60, 500))
    for number, row in enumerate(letters):
        (tmp_path / f"text/{number:02}.txt").write_text("".join(row))
    corpus = {"source": "text", "folder": "text", "split": {"train": "80%", "val": "20%"}}
    config = {
        "tokens": 20_000, "store": {"bytes": "8 MiB"}, "sleep": {"every": 4000}, "prototypes": [4],
        "validation": {"split": "val", "documents": 2}, "checkpoint_every": "1 us",
    }  # fmt: skip
    plan = {
        "bloomery": 1, "name": "test/full", "system": "holographic", "seeds": [0],
        "hypothesis": "A disk may be full.", "data": {"tokenizer": {"kind": "bytes"}, "corpus": corpus},
        "stages": [{"id": "wake", "kind": "consolidate", "config": config}],
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    with files_of_at_most(320 * 1024):
        said = bloomery("run", "plan.yaml", "--threads", "1")
    assert said.code == 2
    assert said.err.count("has no room for a table of") == 1
    assert "hint: make room there" in said.err
    assert "Traceback" not in said.out + said.err
    checkpoint = tmp_path / "runs/test/full/wake/1/candidate-seed0/checkpoint"
    told = json.loads((checkpoint / waking.PROGRESS).read_text())
    memory = attractor.open(checkpoint / told["folder"])
    assert memory.tokens_read == told["position"] > 0
    assert bloomery("run", "plan.yaml", "--threads", "1").code == 0


def test_bytes_of_a_table_are_those_of_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)
    table = Table(tmp_path)
    table.resize(table.needs(1000))
    assert table.bytes == 16 * int(1.6 * 1000) == PLACE.itemsize * len(table._places)
