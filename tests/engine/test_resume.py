"""Whatever kills a run, and whenever: the next launch ends with the same verdicts, decisions and hashes.

The plan uses all that a walk can do: remedies from the start and from a checkpoint, a control, a baseline, a cell that
breaks, an optional stage that is not promoted, and a suite that packs what it judges.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import Event, EventLog
from support.furnace import Bench, Ran, below, stage

RULES: list[dict[str, Any]] = [
    {
        "name": "calmer",
        "because": "it broke",
        "when": [{"metric": "train/non_finite", "op": ">=", "value": 1}],
        "set": {"breaks_at": None},
    },
    {"name": "on", "because": "too short", "set": {"gain": 2}, "from": "checkpoint"},
    {"name": "anyway", "because": "to see the rest", "then": "go_on"},
]
STAGES = (
    stage("base", config={"steps": 2}),
    stage(
        "main",
        needs={"model": "base"},
        config={"breaks_at": 1, "steps": 2},
        gate=[below(0.001), below(9, relative_to="control"), below(99, relative_to="baseline:mean")],
        on_fail=RULES,
    ),
    stage("trial", needs={"model": "main"}, config={"steps": 1}, gate=[below(0.001)], optional=True),
    stage(
        "judge",
        "judge",
        needs={"model": "trial"},
        gate=[below(99, relative_to="stage:base"), below(999, "rare/*/loss")],
        evaluate=["size"],
    ),
)
KEYS: dict[str, Any] = {
    "seeds": [0, 1],
    "control": {"twin": "dense", "set": {"gain": 3}},
    "baselines": {"mean": {"kind": "mean"}},
    "hypothesis": "it grows",
    "suites": {"size": {"kind": "size"}, "rare": {"kind": "size", "through": ["coarse", "fine"]}},
}


class Killed(BaseException):
    """No handler of ours catches it, as none catches SIGKILL."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The run that nothing disturbed."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.write(*STAGES, **KEYS)
    return bench.launch()


def killed_after(events: int, monkeypatch: pytest.MonkeyPatch, *, torn: bool) -> None:
    """Only so many further events reach the file; of the next one, with `torn`, a part."""
    write, left = EventLog.write, iter(range(events))
    dead = False

    def dying(self: EventLog, event: str, **facts: Any) -> Event:
        nonlocal dead
        if not dead and next(left, None) is not None:
            return write(self, event, **facts)
        if torn and not dead:
            with self.file.open("ab") as stream:
                stream.write(json.dumps({"event": event}).encode()[:9])
        dead = True
        raise Killed

    monkeypatch.setattr(EventLog, "write", dying)


def assert_same(found: Ran, expected: Ran) -> None:
    assert found.outcome == expected.outcome
    assert found.verdicts() == expected.verdicts()
    assert found.decisions() == expected.decisions()
    assert found.hashes() == expected.hashes()
    assert conditions(found) == conditions(expected)


def conditions(ran: Ran) -> list[Any]:
    return [event["conditions"] for event in ran.told("verdict")]


def test_the_plan_does_all_that_it_is_meant_to(whole: Ran) -> None:
    assert whole.decisions() == [
        ("base", 1, "go_on"), ("main", 1, "retry"), ("main", 2, "retry"), ("main", 3, "go_on"),
        ("trial", 1, "not_promoted"), ("judge", 1, "go_on"),
    ]  # fmt: skip
    assert whole.outcome.status == "failed"
    assert {event["who"] for event in whole.told("cell_finished")} == {"candidate", "control", "baseline:mean"}


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_killed_once_at_any_event(
    part: int, whole: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    every = 4 if request.config.getoption("markexpr") == "" else 32
    for events in range(part * every // 4, len(whole.events) - 1, every):
        bench = Bench(tmp_path / str(events))
        bench.write(*STAGES, **KEYS)
        with monkeypatch.context() as patch:
            killed_after(events, patch, torn=events % 2 == 0)
            with pytest.raises(Killed):
                bench.launch()
        assert_same(bench.launch(), whole)


@pytest.mark.parametrize("events", [17, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_again_and_again(events: int, whole: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write(*STAGES, **KEYS)
    for _ in range(100):
        try:
            with monkeypatch.context() as patch:
                killed_after(events, patch, torn=True)
                ran = bench.launch()
            break
        except Killed:
            continue
    else:
        pytest.fail("no progress between kills")
    assert_same(ran, whole)


def test_events_cut_short_after_the_fact(whole: Ran, tmp_path: Path) -> None:
    """Files that the events do not tell of (a disk that lost the end of the log) are made again."""
    lines = (whole.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 24):
        bench = Bench(tmp_path / str(kept))
        bench.write(*STAGES, **KEYS)
        shutil.copytree(whole.folder, bench.runs / "test/walk")
        (bench.runs / "test/walk/events.jsonl").write_bytes(b"".join(lines[:kept]))
        assert_same(bench.launch(), whole)


def test_a_killed_cell_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only", config={"steps": 6}))
    first = [event["event"] for event in bench.launch().events]
    measured = [number for number, name in enumerate(first) if name == "measured"]
    shutil.rmtree(bench.runs)
    with monkeypatch.context() as patch:
        killed_after(measured[3], patch, torn=False)
        with pytest.raises(Killed):
            bench.launch()
    ran = bench.launch()
    assert ran.furnace.grow.ran == [("only/1", "candidate", 0, 4)]
    looks = [(event["measurement"]["step"]) for event in ran.told("measured") if "step" in event["measurement"]]
    assert sorted(looks) == [1, 2, 3, 5, 6]  # the fourth was saved, and killed before it was told
