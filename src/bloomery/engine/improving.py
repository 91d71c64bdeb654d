"""Cycles of improvement without end: one gated run after another, each begun with what the last promoted one left.

    runs/NAME-improve/             beside the run NAME
      improve.jsonl  lock          what was done and why; one improver at a time
      promoted.json                which cycle's models are the best so far, by digest
      stop                         while it is there nothing runs
      1/ 2/ ...                    one run each: cycle.json (its plan, frozen when it began) and a run folder's files

A cycle that passes its plan's gates is promoted: the pointer is replaced atomically. One that does not is rolled back:
the pointer stays. Killed at any moment, an improver that is started again goes on in the same cycle: its plan and its
inputs stand in cycle.json, resuming is bit-exact, and a verdict that was not written is read again from its events.

The work itself is done by a process of its own, so that a cycle's memory is free when it ends; it is asked to save and
go while others need the machine. Refuses a run that has not ended, or that left nothing to improve.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bloomery.engine.adopting import left_by
from bloomery.engine.artifact import unseal, write_atomically
from bloomery.engine.events import FAULTS, Event, EventLog, illegible, read_events
from bloomery.engine.history import History
from bloomery.engine.rundir import Lock
from bloomery.errors import ArtifactError
from bloomery.plan.cast import parse_reference
from bloomery.plan.cycle import Held, beside, cycle_plan, loop_of
from bloomery.plan.load import Loaded, load_text

LOG, POINTER, STOP, CYCLE = "improve.jsonl", "promoted.json", "stop", "cycle.json"
SAVED = (130, 143, -2, -15)
"""Exit codes of a cycle's process that was told to stop; it may be told before it listens."""
BUDGET = 3
LOOKS_EVERY_SECONDS = 1.0


class Running(Protocol):
    """A cycle at work."""

    def poll(self) -> int | None: ...
    def ask_to_save(self) -> None: ...
    def wait(self) -> int: ...


Work = Callable[[Path, int], Running]
"""Begins, or goes on with, the cycle in a folder; its process holds the lock's descriptor too."""


@dataclass(frozen=True, slots=True)
class Improver:
    """What is improved, and how."""

    root: Path
    """The runs folder."""
    run: str
    loaded: Loaded
    """The plan whose cycle is made."""
    start: Mapping[str, Held]
    """{what the cycle carries: what the run left}"""
    others: Mapping[tuple[str, str], Held] = field(default_factory=dict[tuple[str, str], Held])
    keep: int = 3
    """Cycles whose models are kept, beside the promoted one's."""

    @property
    def name(self) -> str:
        return improver_name(self.run)

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def cycle(self, number: int, held: Mapping[str, Held]) -> Loaded:
        return cycle_plan(self.loaded, held, self.others, name=f"{self.name}/{number}", number=number)


@dataclass(frozen=True, slots=True)
class Cycle:
    """How one ended."""

    number: int
    verdict: Literal["promoted", "rolled back"]
    why: str
    time: str


@dataclass(frozen=True, slots=True)
class Record:
    """What an improver has left so far."""

    folder: Path
    cycles: tuple[Cycle, ...]
    promoted: int | None
    """The cycle that the pointer names."""
    held: Mapping[str, Held]
    """What it names, by what the cycles carry; empty before the first promotion."""
    last: Event | None
    """The last thing that was said."""


@dataclass(frozen=True, slots=True)
class Ending:
    code: int
    why: str


def improver_name(run: str) -> str:
    """A plan's name may not hold a `+`, which a run under --set has."""
    return f"{run.replace('+', '-')}-improve"


def _cycle_of(event: Event, where: str) -> Cycle:
    try:
        return Cycle(event["cycle"], event["verdict"], event["why"], event["time"])
    except FAULTS as error:
        raise illegible(event, where, error) from None


def read_record(folder: Path) -> Record:
    events = read_events(folder / LOG)
    judged = [(event, f"{folder / LOG}:{line}") for line, event in enumerate(events, 1)]
    cycles = tuple(_cycle_of(*one) for one in judged if one[0]["event"] == "cycle_judged")
    pointer = folder / POINTER
    last = events[-1] if events else None
    if not pointer.exists():
        return Record(folder, cycles, None, {}, last)
    try:
        found = json.loads(pointer.read_text())
        held = {name: Held(folder / one["path"], one["digest"]) for name, one in found["holds"].items()}
        return Record(folder, cycles, found["cycle"], held, last)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(str(pointer), f"damaged ({error})", hint="restore it, or delete it to begin anew") from None


def what_the_run_left(folder: Path, loaded: Loaded) -> dict[str, Held]:
    """{what the loop carries: what it held at its end}, of the first seed. Raises ArtifactError where it has not."""
    loop = loop_of(loaded)["id"]
    ended = [event for event in read_events(folder / "events.jsonl") if _is(event, "loop_ended", stage=loop)]
    if not ended or "holds" not in ended[-1]:
        raise ArtifactError(
            str(folder), f"its loop '{loop}' left nothing", "a run whose loop has ended",
            "bloomery status RUN; `bloomery run` again lets an older run say what it left",
        )  # fmt: skip
    return _held(folder, ended[-1]["holds"])


def what_is_beside(folder: Path, loaded: Loaded) -> dict[tuple[str, str], Held]:
    """What the loop's stages take from stages outside of it, as the run's last attempts of those left it."""
    history = History(read_events(folder / "events.jsonl"))
    out: dict[tuple[str, str], Held] = {}
    for name, text in beside(loop_of(loaded)):
        reference = parse_reference(text)
        assert reference is not None, text
        outputs = (reference.output,) if reference.output else (name, "model")
        found = next(filter(None, (left_by(history, reference, output) for output in outputs)), None)
        if found is None:
            raise ArtifactError(str(folder), f"has no finished '{text}', which the cycle takes", "a run that made it")
        out[name, text] = Held(folder / found, unseal(folder / found, verify=False).digest)
    return out


def improve(
    one: Improver,
    work: Work,
    *,
    cycles: int | None,
    stop: Callable[[], int | None],
    busy: Callable[[bool], str],
    sleep: Callable[[float], None],
    tell: Callable[[str], None] = lambda text: None,
) -> Ending:
    """Make cycles until `cycles` of them have ended in this call, or something ends it.

    stop: the exit code that a signal asks for; busy(running): why others need the machine, empty where they do not.
    """
    with Lock(one.folder) as lock:
        return _Improving(one, EventLog(one.folder / LOG), work, lock.descriptor, stop, busy, sleep, tell).go(cycles)


@dataclass(slots=True)
class _Improving:
    one: Improver
    log: EventLog
    work: Work
    descriptor: int
    stop: Callable[[], int | None]
    busy: Callable[[bool], str]
    sleep: Callable[[float], None]
    tell: Callable[[str], None]

    def go(self, cycles: int | None) -> Ending:
        self.log.write("started", run=self.one.run)
        ended = 0
        while cycles is None or ended < cycles:
            if ending := self._asked():
                return self._end(ending)
            number = 1 + len(read_record(self.one.folder).cycles)
            folder = self._begin(number)
            code = self._carried_out(number, folder)
            if isinstance(code, Ending):
                return self._end(code)
            if code == 2:
                return self._end(Ending(2, f"cycle {number} could not be run; it goes on when that is mended"))
            self._judge(number, folder, code)
            ended += 1
            if code not in (0, 1):
                why = "reached its budget" if code == BUDGET else f"ended its process with {code}"
                return self._end(Ending(BUDGET if code == BUDGET else 2, f"cycle {number} {why}"))
        return self._end(Ending(0, f"{ended} cycles have ended" if ended != 1 else "one cycle has ended"))

    def _begin(self, number: int) -> Path:
        """The folder of a cycle, with its plan. What it begins with is fixed here, once; told first, so a kill may tell
        it twice, and never not at all."""
        folder = self.one.folder / str(number)
        if not (folder / CYCLE).exists():
            held = {**self.one.start, **read_record(self.one.folder).held}
            loaded = self.one.cycle(number, held)
            facts = {"source": str(loaded.source), "plan": loaded.raw}
            self.log.write("cycle_begun", cycle=number, holds={name: each.digest for name, each in held.items()})
            write_atomically(folder / CYCLE, json.dumps(facts, indent=1).encode())
        self.tell(f"cycle {number}")
        return folder

    def _asked(self) -> Ending | None:
        if code := self.stop():
            return Ending(code, "told to stop; everything is saved")
        if (self.one.folder / STOP).exists():
            return Ending(0, f"stop file {self.one.folder / STOP}; remove it to go on")
        return None

    def _carried_out(self, number: int, folder: Path) -> int | Ending:
        """The exit code of the cycle's process, however often it had to make way in between."""
        while True:
            if ending := self._quiet(number):
                return ending
            running = self.work(folder, self.descriptor)
            ending, why = None, ""
            while (code := running.poll()) is None:
                ending, why = self._asked(), self.busy(True)
                if ending or why:
                    running.ask_to_save()
                    code = running.wait()
                    break
                self.sleep(LOOKS_EVERY_SECONDS)
            if code not in SAVED:
                return code
            if ending or not why:
                return ending or self._asked() or Ending(143, f"cycle {number} was told to stop; it is saved")

    def _quiet(self, number: int) -> Ending | None:
        """Wait until nobody else needs the machine."""
        told = ""
        while True:
            if ending := self._asked():
                return ending
            if not (why := self.busy(False)):
                break
            if not told:
                self.log.write("paused", cycle=number, why=why)
                self.tell(f"paused: {why}")
            told = why
            self.sleep(LOOKS_EVERY_SECONDS)
        if told:
            self.log.write("continued", cycle=number)
            self.tell("goes on")
        return None

    def _judge(self, number: int, folder: Path, code: int) -> None:
        """Pointer first, then the log: a kill between the two leads here again, with the same result."""
        promoted, why, holds = verdict(folder, code)
        if promoted:
            held = {name: {"digest": each.digest, "path": f"{number}/{each.folder.relative_to(folder).as_posix()}"}
                    for name, each in holds.items()}  # fmt: skip
            write_atomically(self.one.folder / POINTER, json.dumps({"cycle": number, "holds": held}, indent=1).encode())
        word = "promoted" if promoted else "rolled back"
        self.log.write("cycle_judged", cycle=number, verdict=word, why=why)
        self.tell(f"cycle {number}: {word}; {why}")
        self._clear_away(number)

    def _clear_away(self, number: int) -> None:
        """Models and inputs of old cycles go; what they measured stays."""
        promoted = read_record(self.one.folder).promoted
        for old in range(1, number - self.one.keep + 1):
            folder = self.one.folder / str(old)
            if old != promoted and folder.is_dir():
                for inside in folder.iterdir():
                    if inside.is_dir():
                        shutil.rmtree(inside, ignore_errors=True)

    def _end(self, ending: Ending) -> Ending:
        self.log.write("ended", code=ending.code, why=ending.why)
        return ending


def read_cycle(folder: Path) -> Loaded:
    """The plan that a cycle began with. Raises ArtifactError."""
    try:
        found: dict[str, Any] = json.loads((folder / CYCLE).read_text())
        text, source = json.dumps(found["plan"], indent=1), Path(found["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder / CYCLE), f"cannot be read ({error})", "a cycle of `bloomery improve`") from None
    return load_text(text, source)


def verdict(folder: Path, code: int) -> tuple[bool, str, dict[str, Held]]:
    """(promoted, why, what it holds) of a cycle whose process ended with `code`, from its events alone."""
    events = read_events(folder / "events.jsonl")
    ended = [event for event in events if event["event"] == "loop_ended"]
    if code == 0 and ended and ended[-1]["cycles"]:
        return True, "every gate passed", _held(folder, ended[-1]["holds"])
    undone = [event for event in events if event["event"] == "cycle_ended"]
    finished = [event for event in events if event["event"] == "run_finished"]
    if code == 0 and undone:
        return False, f"{undone[-1]['at']}: {undone[-1]['why']}", {}
    if code in (0, 1, BUDGET) and finished:
        return False, finished[-1]["reason"] or finished[-1]["status"], {}
    return False, "it needed more memory than it may take" if code == BUDGET else f"its process ended with {code}", {}


def _held(folder: Path, holds: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, Held]:
    firsts = {name: next(iter(seeds.values())) for name, seeds in holds.items() if seeds}
    return {name: Held(folder / one["path"], one["digest"]) for name, one in firsts.items()}


def _is(event: Event, name: str, **facts: Any) -> bool:
    return event["event"] == name and all(event.get(key) == value for key, value in facts.items())
