"""`improve --service`: the same command as a systemd unit and as a launchd agent, for whoever wants it at every start.

Printed, never installed. Both restart it after a crash, and leave it alone where it has ended, be it by its stop file;
systemd also where it cannot go on (exit codes 2 and 3), which launchd cannot tell apart and tries again hourly.
Sources: systemd.service(5), systemd.exec(5), launchd.plist(5).
"""

from __future__ import annotations

import plistlib
import re
import shutil
import sys
from pathlib import Path

from bloomery.cli.improving import Limits, improver_of
from bloomery.cli.reading import find_run

STOPS_WITHIN_SECONDS = 120
"""What saving may take."""
HOUR = 3600


def show(run: str, runs: Path, plan: str | None, how: Limits, *, cycles: int | None, keep: int) -> int:
    """Print both. Raises BloomeryError where `improve` would."""
    one = improver_of(find_run(run, runs), plan, keep)
    words = [*_bloomery(), "improve", one.run, "--runs", str(one.root), *how.words(), "--load", f"{how.load:g}"]
    words += ["--keep", str(keep)]
    if plan is not None:
        words += ["--plan", str(Path(plan).resolve()) if Path(plan).is_file() else plan]
    if cycles is not None:
        words += ["--cycles", str(cycles)]
    label = "bloomery-" + re.sub(r"[^A-Za-z0-9-]+", "-", one.name)
    here = Path.cwd()
    print(f"# ~/.config/systemd/user/{label}.service, then: systemctl --user enable --now {label}")
    print(systemd(one.name, words, here, how))
    print(f"# ~/Library/LaunchAgents/{label}.plist, then: launchctl load -w that file (without this line)")
    print(launchd(label, words, here, how))
    return 0


def systemd(name: str, words: list[str], folder: Path, how: Limits) -> str:
    # of the improver too, and with what both map of files: the limit that counts is --memory
    memory = [f"MemoryMax={2 * how.memory}"] if how.memory is not None else []
    lines = [
        "[Unit]", f"Description=Bloomery improves {name}", "",
        "[Service]", "Type=exec", "ExecStart=" + " ".join(map(_quoted, words)), f"WorkingDirectory={folder}",
        f"Nice={how.nice}", "IOSchedulingClass=idle", f"CPUQuota={100 * (how.threads + 1)}%", *memory,
        "KillMode=mixed", "Restart=on-failure", "RestartSec=60", "RestartPreventExitStatus=2 3",
        "SuccessExitStatus=143", f"TimeoutStopSec={STOPS_WITHIN_SECONDS}", "",
        "[Install]", "WantedBy=default.target", "",
    ]  # fmt: skip
    return "\n".join(lines)


def launchd(label: str, words: list[str], folder: Path, how: Limits) -> str:
    facts = {
        "Label": label, "ProgramArguments": words, "WorkingDirectory": str(folder), "Nice": how.nice,
        "LowPriorityIO": True, "ProcessType": "Background", "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False}, "ThrottleInterval": HOUR, "ExitTimeOut": STOPS_WITHIN_SECONDS,
    }  # fmt: skip
    return plistlib.dumps(facts, sort_keys=False).decode()


def _quoted(word: str) -> str:
    """As systemd reads a word: `%` and `$` mean something, and blanks part."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if re.search(r"[\s'\"\\;]", word) else plain


def _bloomery() -> list[str]:
    found = shutil.which("bloomery")
    return [found] if found else [sys.executable, "-m", "bloomery"]
