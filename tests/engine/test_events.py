"""The log of events: torn ends are cut, damage is told, and a write that fails leaves it as it was."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine.events import EventLog, read_events
from bloomery.errors import ArtifactError

FACTS = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name not in ("event", "time", "self", "sync")),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    max_size=3,
)


@given(facts=st.lists(FACTS, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, facts: list[dict[str, Any]]) -> None:
    file = tmp_path_factory.mktemp("events") / "below" / "events.jsonl"
    log = EventLog(file)
    written = [log.write("told", sync=False, **one) for one in facts]
    assert read_events(file) == json.loads(json.dumps(written))
    assert [{key: value for key, value in event.items() if key not in ("event", "time")} for event in written] == facts


def test_no_file_means_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "events.jsonl") == []


def test_a_torn_last_line_is_passed_over_and_cut_by_the_next_writer(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    for name in ("one", "two"):
        EventLog(file).write(name)
    whole = file.read_bytes()
    for cut in range(1, len(whole.splitlines()[1])):
        file.write_bytes(whole[: len(whole) - cut])
        assert [event["event"] for event in read_events(file)] == ["one"]
    EventLog(file).write("three")
    assert [event["event"] for event in read_events(file)] == ["one", "three"]


@pytest.mark.parametrize("damage", [b"{}\n", b"\0\0\0\0\n", b"[1]\n", b'{"event": "x"\n', b"\n", b"\xff\n"])
def test_a_last_line_that_is_no_event_does_not_spoil_what_follows(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "events.jsonl"
    EventLog(file).write("one")
    with file.open("ab") as stream:
        stream.write(damage)
    assert [event["event"] for event in read_events(file)] == ["one"]
    EventLog(file).write("two")
    assert [event["event"] for event in read_events(file)] == ["one", "two"]


def test_a_damaged_line_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file)
    for name in ("one", "two", "three"):
        log.write(name)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:-9] + b"\n" + lines[2])
    with pytest.raises(ArtifactError, match="damaged line") as caught:
        read_events(file)
    assert caught.value.where == f"{file}:2"


@pytest.mark.parametrize("sync", [True, False])
def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file)
    log.write("one")
    before = file.read_bytes()
    opened = Path.open

    class Full:
        """A file that takes half of what it is given."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def tell(self) -> int:
            return self.stream.tell()

        def write(self, content: bytes) -> None:
            self.stream.write(content[: len(content) // 2])
            self.stream.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Full(opened(self, mode)))
        with pytest.raises(ArtifactError, match="No space left"):
            log.write("two", sync=sync)
    assert file.read_bytes() == before
    log.write("three")
    assert [event["event"] for event in read_events(file)] == ["one", "three"]


def test_what_json_cannot_hold_is_never_half_written(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file)
    with pytest.raises(ValueError, match="JSON"):
        log.write("point", loss=float("nan"))
    assert read_events(file) == []


def test_a_log_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        EventLog(tmp_path / "file" / "events.jsonl")
