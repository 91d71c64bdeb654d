"""An index over run folders, so that many runs can be listed and compared without reading all their events.

SQLite in WAL mode, `index.sqlite` in the root of the runs. It holds nothing that events.jsonl does not: a missing,
damaged or outdated index is built anew without a word, a run is read again when its events have changed, and where the
root cannot be written the index lives in memory. A run with damaged events is listed as `damaged`, with the reason.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bloomery.engine.events import FAULTS, illegible, read_events
from bloomery.engine.store_rows import Row, measurement_of, rows_of
from bloomery.errors import ArtifactError, nearest
from bloomery.measure import Measurement

INDEX: Final = "index.sqlite"
EVENTS: Final = "events.jsonl"
VERSION: Final = 1
"""Raised with every change of the tables; another version is built anew."""

TABLES: Final = """
CREATE TABLE runs (run TEXT PRIMARY KEY, plan TEXT, digest TEXT, mode TEXT, status TEXT, exit_code INTEGER,
  opened TEXT, updated TEXT, note TEXT, size INTEGER, modified INTEGER);
CREATE TABLE stages (run TEXT, stage TEXT, attempt INTEGER, kind TEXT, fingerprint TEXT, verdict TEXT, action TEXT,
  rule TEXT, PRIMARY KEY (run, stage, attempt));
CREATE TABLE verdicts (run TEXT, stage TEXT, attempt INTEGER, place INTEGER, status TEXT, words TEXT, result TEXT,
  PRIMARY KEY (run, stage, attempt, place));
CREATE TABLE measurements (run TEXT, stage TEXT, attempt INTEGER, who TEXT, seed INTEGER, name TEXT, step INTEGER,
  value REAL, n INTEGER, low REAL, high REAL, level REAL, unit TEXT);
CREATE INDEX measurements_by_name ON measurements (name, run);
"""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as `bloomery runs` lists it."""

    run: str
    """Its folder, relative to the root: the plan's name, and `+` the digest of overrides."""
    folder: Path
    plan: str
    digest: str
    mode: str
    """confirmatory or exploratory."""
    status: str
    """passed, failed, budget, interrupted, unfinished (running, or killed), damaged."""
    exit_code: int | None
    opened: str
    """ISO time, UTC."""
    updated: str
    note: str
    """Why it is damaged."""


@dataclass(frozen=True, slots=True)
class StageRow:
    run: str
    stage: str
    attempt: int
    kind: str
    fingerprint: str
    verdict: str
    """pass, fail, inconclusive, missing; empty before it is judged."""
    action: str
    """go_on, retry, not_promoted, stop; empty before it is decided."""
    rule: str


def list_runs(root: Path) -> list[RunRow]:
    """Every run below `root`, last changed first."""
    with closing(_current(root)) as index:
        rows = index.execute(
            "SELECT run, plan, digest, mode, status, exit_code, opened, updated, note FROM runs"
            " ORDER BY updated DESC, run"
        )
        return [RunRow(row[0], root / row[0], *row[1:]) for row in rows]


def find_run(root: Path, name: str) -> RunRow:
    """The run of this name, of this folder, or whose name alone ends with it (`quickstart` for `harmonic/quickstart`).

    Raises ArtifactError where there is none, or more than one.
    """
    rows = list_runs(root)
    folder = Path(name).resolve()
    wanted = name.strip("/")
    for row in rows:
        if row.run == wanted or row.folder.resolve() == folder:
            return row
    ending = [row for row in rows if row.run.endswith("/" + wanted)]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise ArtifactError(name, "several runs end with this name", "one of " + ", ".join(row.run for row in ending))
    known = [row.run for row in rows]
    hint = nearest(wanted, known) if known else "nothing has been run here yet: bloomery run quickstart"
    raise ArtifactError(name, f"no such run in {root}", "a run's name or folder", hint)


def stages_of(root: Path, run: str) -> list[StageRow]:
    """The attempts of a run's stages, in the order in which they began."""
    with closing(_current(root)) as index:
        rows = index.execute(
            "SELECT run, stage, attempt, kind, fingerprint, verdict, action, rule FROM stages"
            " WHERE run = ? ORDER BY rowid",
            (run,),
        )
        return [StageRow(*row) for row in rows]


def verdicts_of(root: Path, run: str) -> list[tuple[str, int, dict[str, Any]]]:
    """(stage, attempt, condition's result as in the events) of a run."""
    with closing(_current(root)) as index:
        rows = index.execute(
            "SELECT stage, attempt, result FROM verdicts WHERE run = ? ORDER BY rowid", (run,)
        )  # fmt: skip
        return [(row[0], row[1], json.loads(row[2])) for row in rows]


def measured(root: Path, name: str) -> list[tuple[str, str, int, Measurement]]:
    """(run, stage, attempt, measurement) of one metric over all runs, without the items."""
    with closing(_current(root)) as index:
        rows = index.execute(
            "SELECT run, stage, attempt, name, value, n, low, high, level, seed, unit, who, step FROM measurements"
            " WHERE name = ? ORDER BY run, rowid",
            (name,),
        ).fetchall()
    return [(row[0], row[1], row[2], measurement_of(row[3:])) for row in rows]


def _current(root: Path) -> sqlite3.Connection:
    """The index, up to date with the events. Wherever the file cannot serve, one in memory does."""
    for attempt in range(2):
        index: sqlite3.Connection | None = None
        try:
            if not root.is_dir():
                break
            index = _open(str(root / INDEX))
            _refresh(index, root)
            return index
        except sqlite3.DatabaseError as error:
            _close(index)
            foreign = "no such" in str(error)  # tables of another make
            if attempt > 0 or (isinstance(error, sqlite3.OperationalError) and not foreign):
                break  # read-only, locked, disk full: the file is not at fault
            _remove(root)
    index = _open(":memory:")
    _refresh(index, root)
    return index


def _open(place: str) -> sqlite3.Connection:
    index = sqlite3.connect(place, timeout=10, isolation_level=None)
    try:
        index.execute("PRAGMA journal_mode=WAL")
        index.execute("PRAGMA synchronous=NORMAL")
        if _version(index) != VERSION:
            index.execute("BEGIN IMMEDIATE")
            if _version(index) != VERSION:  # another process may have been first
                names = index.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in names:
                    index.execute(f'DROP TABLE "{name}"')
                for statement in TABLES.split(";"):
                    index.execute(statement)
                index.execute(f"PRAGMA user_version = {VERSION}")
            index.execute("COMMIT")
    except BaseException:
        index.close()
        raise
    return index


def _version(index: sqlite3.Connection) -> int:
    return int(index.execute("PRAGMA user_version").fetchone()[0])


def _close(index: sqlite3.Connection | None) -> None:
    if index is not None:
        with suppress(sqlite3.Error):
            index.close()


def _remove(root: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            (root / (INDEX + suffix)).unlink(missing_ok=True)


def _refresh(index: sqlite3.Connection, root: Path) -> None:
    """Read the runs whose events have another size or time than when they were indexed; forget those that are gone."""
    known = {run: (size, modified) for run, size, modified in index.execute("SELECT run, size, modified FROM runs")}
    found: dict[str, tuple[int, int]] = {}
    for folder in _run_folders(root):
        with suppress(FileNotFoundError):
            stat = (folder / EVENTS).stat()
            found[folder.relative_to(root).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    for run in known.keys() | found.keys():
        if known.get(run) != found.get(run):
            index.execute("BEGIN IMMEDIATE")
            for table in ("runs", "stages", "verdicts", "measurements"):
                index.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
            if run in found:
                _index_run(index, root, run, found[run])
            index.execute("COMMIT")


def _run_folders(root: Path) -> Iterator[Path]:
    """Folders that hold events, at any depth below the root (a plan's name may have parts); none inside another."""
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir() or folder.is_symlink():
            continue
        if (folder / EVENTS).is_file():
            yield folder
        else:
            yield from _run_folders(folder)


def _rows(run: str, file: Path) -> dict[str, list[Row]]:
    """As rows_of. Raises ArtifactError with the first line that lacks what it must have."""
    events = read_events(file)
    try:
        return rows_of(run, events)
    except FAULTS:
        for line, event in enumerate(events, start=1):
            try:
                rows_of(run, [event])
            except FAULTS as error:
                raise illegible(event, f"{file.name}:{line}", error) from error
        raise


def _index_run(index: sqlite3.Connection, root: Path, run: str, stamp: tuple[int, int]) -> None:
    rows: dict[str, list[Row]]
    try:
        rows = _rows(run, root / run / EVENTS)
    except (ArtifactError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        rows = {"runs": [(run, "", "", "", "damaged", None, "", "", reason)]}
    rows["runs"] = [(*row, *stamp) for row in rows["runs"]]
    for table, several in rows.items():
        if several:
            places = ", ".join("?" * len(several[0]))
            index.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", several)
