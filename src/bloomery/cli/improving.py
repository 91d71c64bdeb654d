"""`improve`: cycles of improvement in the background, each in a process of its own that makes way for everybody else.

`improve` waits, watches and keeps the record (engine.improving); its child, the hidden verb `improve-cycle`, is nice,
has a limit of threads and of memory, and dies with it. While the machine's load, our own share taken off, is above the
bound, the child saves and goes, so that a pause holds no memory. Refuses a run that is not finished.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.cli.planning import load_plan, refuse
from bloomery.cli.reading import find_run
from bloomery.cli.running import PRELOAD, caught_signals, cores
from bloomery.errors import ArtifactError, BloomeryError, PlanError, Problems

if TYPE_CHECKING:
    from bloomery.engine.events import Event
    from bloomery.engine.improving import Improver
    from bloomery.plan.cycle import Held
    from bloomery.plan.load import Loaded

OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "create a primitive", "start new thread")
"""What torch and the loader say where Python would raise MemoryError."""
CRASHED = 70
"""EX_SOFTWARE: a traceback alone would exit with 1, as a gate that fails does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How little of the machine a cycle may take."""

    nice: int
    threads: int
    memory: int | None
    """Bytes."""
    load: float
    """Of others, above which it makes way."""
    device: str

    def words(self) -> list[str]:
        words = ["--nice", str(self.nice), "--threads", str(self.threads), "--device", self.device]
        return [*words, *(["--memory", str(self.memory)] if self.memory is not None else [])]


def limits(nice: int, threads: int, memory: str, load: float, device: str) -> Limits:
    """load: 0 is as many as the machine has cores for others while we run."""
    from bloomery.plan.units import UnitError, parse_bytes

    try:
        size = parse_bytes(memory) if memory else None
    except UnitError as error:
        raise PlanError("--memory", str(error), "a size such as 4 GiB") from None
    return Limits(nice, threads, size, load or float(max(1, cores() - threads)), device)


def improve(name: str, runs: Path, plan: str | None, how: Limits, *, cycles: int | None, keep: int) -> int:
    """The exit code: 0 ended, 2 a cycle could not be run, 3 one reached its budget, 130 and 143 told to stop."""
    from bloomery.engine import improving

    one = improver_of(find_run(name, runs), plan, keep)
    refuse_cycle(one)
    with caught_signals() as caught:
        ending = improving.improve(
            one,
            lambda folder, lock: Child(folder, lock, how),
            cycles=cycles,
            stop=lambda: 128 + caught[0] if caught else None,
            busy=busy(how, _load),
            sleep=time.sleep,
            tell=lambda text: print(text, flush=True),
        )
    print(f"{ending.why}\nnext: bloomery status {name}", flush=True)
    return ending.code


def improver_of(folder: Path, plan: str | None, keep: int) -> Improver:
    """What is improved of a finished run, and with which cycle. Raises ArtifactError or PlanError."""
    from bloomery.engine import improving

    events = _finished(folder)
    opened = [event for event in events if event["event"] in ("run_opened", "resumed")][-1]
    parts = str(opened["run"]).split("/")
    by_name = folder.resolve().parts[-len(parts) :] == tuple(parts)
    root = folder.resolve().parents[len(parts) - 1] if by_name else folder.resolve().parent
    run = str(opened["run"]) if by_name else folder.name
    if plan is not None:
        return improving.Improver(root, run, load_plan(plan, []), _last_model(folder), keep=keep)
    loaded = _as_it_ran(folder, opened)
    start = improving.what_the_run_left(folder, loaded)
    return improving.Improver(root, run, loaded, start, improving.what_is_beside(folder, loaded), keep)


def refuse_cycle(one: Improver) -> None:
    """Raise Problems where the first cycle would be no plan that can run."""
    try:
        refuse(one.cycle(1, one.start))
    except Problems as problems:
        hint = "--plan PLAN with a cycle that can stand alone"
        where = f"the cycle of {one.run}"
        found = [PlanError(where, each.found, each.expected, each.hint or hint) for each in problems.problems]
        raise Problems(found) from None


def _finished(folder: Path) -> list[Event]:
    from bloomery.engine.events import read_events
    from bloomery.report.table import run_command
    from bloomery.report.view import RunView

    view = RunView.read(folder)
    if view.status not in ("passed", "failed"):
        raise ArtifactError(str(folder), f"this run is {view.status}", "a finished run", run_command(view))
    return read_events(folder / "events.jsonl")


def _as_it_ran(folder: Path, opened: Event) -> Loaded:
    """The plan of the run, whatever has become of its file since."""
    from bloomery.plan.load import load_text

    source = Path(opened["source"])
    if not source.exists():
        hint = "start from the folder in which the run was started, or --plan PLAN"
        raise ArtifactError(str(source), "the run's plan is not here, nor what it names beside it", hint=hint)
    overrides = [f"{path}={value}" for path, value in opened["overrides"].items()]
    loaded = load_text(opened["plan_text"], source.resolve(), overrides)
    if loaded.digest != opened["digest"]:
        raise ArtifactError(
            str(folder), "the plan that its plan extends has changed since", "the plan as it ran", "--plan PLAN"
        )
    return loaded


def _last_model(folder: Path) -> Mapping[str, Held]:
    from bloomery.engine.artifact import unseal
    from bloomery.plan.cycle import Held
    from bloomery.report.handed import models_of
    from bloomery.report.view import RunView

    model = next(iter(models_of(RunView.read(folder)).folders.values()))
    return {"model": Held(model, unseal(model).digest)}


def busy(how: Limits, load: Callable[[], float]) -> Callable[[bool], str]:
    """Why others need the machine. load: the one-minute average of it all; while a cycle runs, its threads are ours.

    The average lags: after a pause our own share fades within a minute, which keeps a pause from being a flicker."""

    def why(running: bool) -> str:
        others = load() - (how.threads if running else 0)
        return f"the load of others is {others:.1f}, above {how.load:g}" if others > how.load else ""

    return why


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except OSError:  # a machine that does not say
        return 0.0


class Child:
    """The cycle's process. It holds the improver's lock, so that two never write, and ends when its stdin does."""

    def __init__(self, folder: Path, lock: int, how: Limits) -> None:
        words = [sys.executable, "-m", "bloomery", "improve-cycle", str(folder), *how.words()]
        threads = {"OMP_NUM_THREADS": str(how.threads), "MKL_NUM_THREADS": str(how.threads)}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(lock,), env={**os.environ, **threads}
        )

    def poll(self) -> int | None:
        return self._process.poll()

    def ask_to_save(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self._process.wait()


def carry_out(folder: Path, how: Limits) -> int:
    """In the child: run, or go on with, the cycle in `folder`. The exit code is that of `bloomery run`, or CRASHED."""
    _die_with_the_improver()
    os.setpriority(os.PRIO_PROCESS, 0, max(how.nice, os.getpriority(os.PRIO_PROCESS, 0)))
    if how.memory is not None:
        # what a process maps of files, torch's libraries above all, is no memory of its own: only Linux tells it apart
        which = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        resource.setrlimit(which, (how.memory, how.memory))
    try:
        return _launched(folder, how)
    except BloomeryError:
        raise
    except Exception as error:
        ours = isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)
        if how.memory is None or not ours:
            traceback.print_exc()
            return CRASHED
        print(f"error: the cycle needs more than --memory {how.memory} ({str(error) or 'no memory'})", file=sys.stderr)
        return 3


def _launched(folder: Path, how: Limits) -> int:
    from bloomery.engine.discover import catalogue
    from bloomery.engine.improving import read_cycle
    from bloomery.engine.launch import Launch, launch
    from bloomery.train.device import choose_device

    loaded = read_cycle(folder)
    root = folder.resolve().parents[loaded.plan.name.count("/")]
    with caught_signals() as caught:
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the improver's, which asks us to save
        chosen = Launch(
            root, choose_device(how.device).value, how.threads, lambda event: None, lambda: bool(caught),
            allow_changed=("data",), preload=PRELOAD,
        )  # fmt: skip
        outcome = launch(loaded, catalogue, chosen)
    return 128 + caught[0] if outcome.status == "interrupted" else outcome.exit_code


def _die_with_the_improver() -> None:
    def listen() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)  # a run may be killed at any moment

    if not os.isatty(0):
        threading.Thread(target=listen, daemon=True).start()
