"""Events that are JSON and not ours: whoever reads them says in one error which line, what it lacks, and what to do."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.budget import Ledger
from bloomery.engine.events import read_events
from bloomery.engine.history import History
from bloomery.engine.resuming import begun_with, check_data, check_device
from bloomery.engine.store import list_runs
from bloomery.errors import ArtifactError
from bloomery.plan.schema import Budget
from bloomery.report.markdown import markdown
from bloomery.report.markup import Markup
from bloomery.report.page import page
from bloomery.report.view import RunView
from support.furnace import Bench, below, stage

NONSENSE: tuple[Any, ...] = (None, "?", 7, ["?"], {"?": 1})


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A run with every event that an engine without fire writes."""
    bench = Bench(tmp_path_factory.mktemp("run"))
    rules = [
        {"name": "calm", "because": "b", "set": {"breaks_at": None}},
        {"name": "on", "because": "b", "set": {"gain": 2}, "from": "checkpoint"},
        {"name": "more", "because": "b", "set": {"stages.main.seeds": [0, 1]}},
        {"name": "anyway", "because": "b", "then": "go_on"},
    ]
    bench.write(
        stage("main", config={"breaks_at": 1, "steps": 2}, on_fail=rules,
              gate=[below(0.001), below(9, relative_to="control"), below(9, relative_to="baseline:mean")]),
        stage("same", config={"steps": 1}),
        control={"twin": "dense", "set": {"gain": 3}}, baselines={"mean": {"kind": "mean"}}, hypothesis="it grows",
    )  # fmt: skip
    left = iter(range(9))
    bench.launch(signalled=lambda: next(left, None) is None)
    events = bench.launch().events
    told = {event["event"] for event in events}
    assert {"run_opened", "resumed", "interrupted", "cell_failed", "measured", "verdict", "cell_reused"} <= told
    return events


def spoilt(lines: list[dict[str, Any]], values: tuple[Any, ...]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(line, the events with a field taken out, or another value in its place): the first of every shape."""
    shapes = set[tuple[str, ...]]()
    for number, line in enumerate(lines):
        if (shape := (line["event"], *line)) in shapes:
            continue
        shapes.add(shape)
        for field in [key for key in line if key != "event"]:
            for value in values:
                other = {key: one for key, one in line.items() if key != field}
                if value != ():
                    other[field] = value
                yield number + 1, [*lines[:number], other, *lines[number + 1 :]]
            inner = line[field]
            for key in inner if isinstance(inner, dict) else ():
                other = {**line, field: {name: one for name, one in inner.items() if name != key}}
                yield number + 1, [*lines[:number], other, *lines[number + 1 :]]


def as_the_engine(events: list[dict[str, Any]]) -> None:
    History(events, "events.jsonl")
    Ledger.restore(Budget(), events)
    begun_with(events, "threads")
    check_device(events, "cpu", "here")
    check_data(events, "d", "p", "here", ["data"])


def shown(folder: Path, *, drawn: bool) -> None:
    view = RunView.read(folder)
    markdown(view)
    if drawn:
        page(view)


def refused(read: Callable[[], Any], line: int) -> str:
    """What is said, or nothing where it could be read. A later line may be the one that makes no sense any more."""
    told: ArtifactError | None = None
    try:
        read()
    except ArtifactError as error:
        told = error
    if told is None:
        return ""
    place = re.search(r"events\.jsonl:(\d+)$", told.where)
    assert place is not None, told
    assert int(place[1]) >= line
    assert "the event '" in told.found
    assert "backup" in told.hint
    return told.found


def test_the_engine_names_the_line(lines: list[dict[str, Any]]) -> None:
    as_the_engine(lines)
    said = {refused(lambda events=events: as_the_engine(events), n) for n, events in spoilt(lines, ((), *NONSENSE))}
    assert "the event 'cell_started' lacks 'fingerprint'" in said
    assert "the event 'measured' lacks 'name'" in said
    assert any("of which no event before it tells" in found for found in said)


@pytest.mark.slow
def test_the_report_names_the_line_or_does_without(
    lines: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloomery.report.svg.drawn", lambda *_, **__: Markup(""))  # drawing takes most of the time
    file = tmp_path / "events.jsonl"
    said = set[str]()
    for number, events in spoilt(lines, ((),)):
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        drawn = lines[number - 1]["event"] in ("run_opened", "twin_solved", "verdict", "decision")
        said.add(refused(lambda drawn=drawn: shown(tmp_path, drawn=drawn), number))
    assert "the event 'cell_started' lacks 'who'" in said
    assert "" in said
    for _, events in spoilt(lines, NONSENSE):
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        with suppress(ArtifactError):
            RunView.read(tmp_path)


def test_the_list_of_runs_says_which_line_is_damaged(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    number = next(n for n, line in enumerate(lines, start=1) if line["event"] == "measured")
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(line if n != number else {"event": "measured"}) + "\n" for n, line in enumerate(lines, 1))
    )
    (row,) = list_runs(tmp_path)
    assert row.status == "damaged"
    assert row.note == f"events.jsonl:{number}: the event 'measured' lacks 'measurement'"
    assert len(read_events(folder / "events.jsonl")) == len(lines)
