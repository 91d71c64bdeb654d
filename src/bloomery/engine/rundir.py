"""The run folder: its layout, its one writer, and where it came from. Paths are for people; digests are for the engine.

    runs/<plan>/                 plan.yaml  registration.jsonl  events.jsonl  lock  report.html  report.md
    runs/<plan>/<stage>/<attempt>/<who>-seed<k>/   one cell: checkpoint/ and its outputs
    runs/<plan>/.packed/<digest>-<codec>/   a model as a suite with `through` judges it
    runs/<plan>+<8 hex>/         the same plan under --set: exploratory, in a folder of its own
    runs/.data/<spec>/           prepared data, shared by all runs

The lock is the kernel's: it is free again as soon as its holder is gone, however it went, and the worker processes that
hold it with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bloomery import __version__
from bloomery.errors import ArtifactError

REGISTRATION_LOG = "registration.jsonl"
ORPHANS_LEAVE_WITHIN_SECONDS = 10.0


def run_folder(root: Path, plan: str, overrides: Sequence[str]) -> Path:
    if not overrides:
        return root / plan
    text = json.dumps(sorted(overrides))
    return root / f"{plan}+{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Lock:
    """One writer per run folder, as a context manager. Raises ArtifactError where another process holds it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ArtifactError(
                str(self.file.parent),
                f"the run folder cannot be written ({error.strerror})",
                hint="choose another with --runs",
            ) from error
        end = time.monotonic() + ORPHANS_LEAVE_WITHIN_SECONDS
        while not self._take():
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            if not _is_gone(holder) or time.monotonic() > end:
                os.close(self._descriptor)
                raise ArtifactError(
                    str(self.file.parent),
                    f"another process is writing this run ({holder or 'unknown'})",
                    hint="wait for it, or stop it; its lock is free as soon as it is gone",
                )
            time.sleep(0.02)  # its workers are about to follow it
        with suppress(OSError):  # who holds it is a courtesy; on a full disk the lock holds without it
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    @property
    def descriptor(self) -> int:
        """A process that inherits it holds the lock too."""
        return self._descriptor

    def _take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def holder(folder: Path) -> str:
    """Who writes in this folder now, as it said of itself (`pid 12 on host`); empty where nobody does."""
    try:
        said = (folder / "lock").read_text(errors="replace").strip()
    except OSError:
        return ""
    return "" if _is_gone(said) else said


def _is_gone(holder: str) -> bool:
    """Whether who is named in a lock file was a process of this machine that has ended, be it that nobody has asked for
    its exit code yet."""
    words = holder.split()
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
        state = Path(f"/proc/{words[1]}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, or no /proc to ask
        return False
    return state == "Z"


def provenance(plan_source: Path, *, device: str, threads: int, precision: str, workers: int = 1) -> dict[str, Any]:
    """Versions, hardware and commit, for the events. Imports nothing heavy. threads: of each of `workers` cells;
    precision: what `auto` means."""
    commit, dirty = _git(plan_source.parent)
    return {
        "bloomery": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "numpy": importlib.metadata.version("numpy"),
        "platform": platform.platform(),
        "processor": processor(),
        "threads": threads,
        "workers": workers,
        "device": device,
        "precision": precision,
        "argv": sys.argv,
    }


def commit_of(plan_source: Path) -> str | None:
    """The commit of the repository that holds the plan."""
    return _git(plan_source.parent)[0]


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path) -> tuple[str | None, bool]:
    """(commit, dirty) of the repository that holds the plan, or (None, False)."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, False
