"""Runs a function that a model wrote, and the check of it, in two processes of their own; nothing of it runs in ours.

    candidate   python -I -S, empty environment, a temporary folder, limits on memory, CPU, files and processes, its own
                session; in new user, network, process and mount namespaces, and behind Landlock, where the system
                allows (`isolation()` says which); all its processes are killed at the end
    judge       holds the check and a random nonce, calls the candidate's function through a pipe with plain values, and
                prints the nonce when the check has returned

The nonce and the check never stand in the candidate's process, its files or its arguments. So what it may do to itself
(sys.exit, os._exit, prints, patched builtins, frames, caught exceptions) earns nothing: the only way to pass is to
answer with the values that the check asks for.

What is not guaranteed: a kernel bug is a way out. Without Landlock the candidate reads and writes what this user may,
without namespaces it reaches the network, and without either it may signal this user's processes and look into their
memory, ours with the nonce included; `isolation()` says so, and then a container or a virtual machine is needed.
RLIMIT_NPROC does not bind root: without a process namespace a child that leaves the group survives there. The temporary
folder may hold as many small files as the time allows.

Values are plain (None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict) and copied: a check
sees neither changed arguments nor identity, and cannot pass functions.

After human-eval (Chen et al. 2021, arXiv:2107.03374), whose guard is in the completion's own process. Refuses systems
without `resource` (Windows).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bloomery.errors import BloomeryError

MEMORY = 512 << 20
UNSOUND = "the check itself does not load"
"""How the reason begins where it is the check that is wrong, not the program. No program can make it begin so."""
_NAMESPACES = (("-r", "-n", "-p", "-f", "--kill-child", "--mount-proc"), ("-r", "-n"), ())
"""Options of unshare, the most that it may allow first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    passed: bool
    why: str
    """Empty if passed; else what went wrong, at most some 400 characters."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What this system adds to the limits."""

    options: tuple[str, ...]
    """Of `unshare`, which the candidate is started with; none: no namespaces."""
    landlock: int
    """Landlock's ABI; 0: none."""

    @property
    def network(self) -> bool:
        """No connection leaves or arrives."""
        return "-n" in self.options

    @property
    def processes(self) -> bool:
        """No process is seen, and none outlives the run, whatever it does."""
        return "-p" in self.options

    @property
    def files(self) -> bool:
        """Nothing but the temporary folder is written, and nothing but Python's modules is read besides."""
        return self.landlock > 0

    def __str__(self) -> str:
        words = {"network": self.network, "processes": self.processes, "files": self.files}
        return ", ".join(f"{name} {'isolated' if held else 'NOT isolated'}" for name, held in words.items())


def run(
    program: str, check: str, *, entry: str, setup: str = "", timeout: float = 10.0, memory: int = MEMORY
) -> Outcome:
    """Whether `program` defines a function `entry` that passes `check`.

    check: defines `check(candidate)`, which raises where the function is wrong. setup: trusted code that the check
    needs, run beside it; what it takes from the program instead, the program could bend. timeout: seconds in all.
    memory: bytes of address space, of each of the two. Raises BloomeryError where nothing can be run at all.
    """
    return _run(program, check, entry, setup, timeout, memory, isolation())[0]


@cache
def isolation() -> Isolation:
    """The most that this system allows, found out once by trying. Raises BloomeryError where not even a limit holds."""
    if importlib.util.find_spec("resource") is None:
        raise BloomeryError("sandbox", f"no resource limits on {sys.platform}", "Linux, macOS or another POSIX system")
    outcome = Outcome(False, "")
    for options in _NAMESPACES:
        if options and shutil.which("unshare") is None:
            continue
        probe = "def check(candidate):\n    assert candidate([1, 2]) == 3\n"
        outcome, landlock = _run("probe = sum", probe, "probe", "", 20.0, MEMORY, Isolation(options, 0))
        if outcome.passed:
            return Isolation(options, landlock)
    expected = "a Python that runs with -I -S and an empty environment"
    raise BloomeryError("sandbox", f"{sys.executable} cannot be run in it ({outcome.why})", expected)


def _run(
    program: str, check: str, entry: str, setup: str, timeout: float, memory: int, isolated: Isolation
) -> tuple[Outcome, int]:
    nonce = secrets.token_hex(16)
    job: dict[str, Any] = {
        "program": program, "check": check, "entry": entry, "setup": setup, "nonce": nonce, "memory": memory,
        "seconds": math.ceil(timeout) + 1,
    }  # fmt: skip
    with _two_processes(isolated, job) as judge:
        try:
            said, _ = judge.communicate(json.dumps(job).encode() + b"\n", timeout=timeout)
        except subprocess.TimeoutExpired:
            return Outcome(False, f"not done after {timeout:g} s"), 0
    try:
        verdict = json.loads(said)
    except ValueError:
        return Outcome(False, "the check ended without a word: out of memory or time"), 0
    passed = secrets.compare_digest(str(verdict["nonce"]), nonce)
    return Outcome(passed, "" if passed else str(verdict["why"])), int(verdict["landlock"])


@contextmanager
def _two_processes(isolated: Isolation, job: dict[str, Any]) -> Iterator[subprocess.Popen[Any]]:
    """The judge, with the candidate behind it; `job` is told through which descriptors. Both are gone afterwards."""
    unshare = [shutil.which("unshare") or "unshare", *isolated.options] if isolated.options else []
    here = Path(tempfile.mkdtemp(prefix="bloomery-sandbox-"))
    started: list[subprocess.Popen[Any]] = []
    requests_in, requests_out = os.pipe()
    answers_in, answers_out = os.pipe()
    try:
        try:
            (here / "home").mkdir()
            alike: dict[str, Any] = {
                "cwd": here / "home", "env": {}, "stderr": subprocess.DEVNULL, "start_new_session": True
            }  # fmt: skip
            started.append(
                subprocess.Popen([*unshare, *_python("candidate")], stdin=requests_in, stdout=answers_out, **alike)
            )
            ours = (answers_in, requests_out)
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "pass_fds": ours}
            judge: dict[str, Any] = alike | pipes | {"cwd": "/"}
            started.append(subprocess.Popen(_python("judge"), **judge))
            job["pipes"] = ours
        finally:
            for descriptor in (requests_in, requests_out, answers_in, answers_out):
                os.close(descriptor)
        yield started[1]
    finally:
        for process in started:
            _kill(process)
        shutil.rmtree(here, ignore_errors=True)


def _python(role: str) -> list[str]:
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", _inside(), role]


@cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


def _kill(process: subprocess.Popen[Any]) -> None:
    """The process and all of its group. Behind `unshare`, its child first: with it ends a whole process namespace, even
    where the candidate has left the group and told the kernel not to kill it with its parent."""
    for child in _children(process.pid) if process.returncode is None else []:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    if process.returncode is None:  # once waited for, its number may be another's
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []
