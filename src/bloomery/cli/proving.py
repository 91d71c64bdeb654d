"""`verify-resume`: run a stage once undisturbed and once killed with SIGKILL at random moments; compare the hashes.

Both runs are real ones, in processes of their own and in a temporary folder. Nothing of yours is touched. Refuses a
stage that does not train, and claims nothing where no kill came after a checkpoint: then nothing was resumed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloomery.cli.planning import load_plan, refuse
from bloomery.engine.events import Event, read_events
from bloomery.errors import ArtifactError, PlanError, nearest

POLL_SECONDS = 0.02
RESUMED = "goes on from step "
"""How the note begins that a loop (of train, of a memory's day) leaves where it found and used a checkpoint."""


def verify_resume(plan: str, stage: str, kills: int, tokens: str, overrides: list[str], threads: int) -> int:
    """Exit code 0 when all that is hashed is equal, 1 when one differs or nothing was resumed."""
    loaded = load_plan(plan, overrides)
    refuse(loaded)
    stages = [one.id for one in loaded.plan.stages]
    if stage not in stages:
        raise PlanError(
            "--stage", f"no stage '{stage}' in {loaded.plan.name}", "one of its stages", nearest(stage, stages)
        )
    trained = [one.id for one in loaded.plan.stages if _trains(one.kind)]
    if stage not in trained:
        raise PlanError("--stage", f"'{stage}' does not train, so it has nothing to resume", "a stage that trains",
                        "those that train: " + (", ".join(trained) or "none of this plan"))  # fmt: skip
    changed = [*overrides, f"stages.{stage}.config.checkpoint_every=100 ms"]
    if tokens:
        changed.append(f"stages.{stage}.config.tokens={tokens}")
    with tempfile.TemporaryDirectory(prefix="bloomery-resume-") as scratch:
        prover = _Prover(str(loaded.source), stage, changed, threads, Path(scratch))
        print(f"undisturbed: {stage} of {loaded.plan.name}", flush=True)
        expected = prover.run("undisturbed", [])
        points = [event for event in prover.events("undisturbed") if event["event"] == "point"]
        late = _late(points)
        moments = sorted(random.sample(late, min(kills, len(late))))
        print(f"interrupted: {len(moments)} times, at random", flush=True)
        found = prover.run("interrupted", moments)
        notes = [event["text"] for event in prover.events("interrupted") if event["event"] == "note"]
    return _compare(expected, found, sum(text.startswith(RESUMED) for text in notes))


def _trains(kind: str | None) -> bool:
    from bloomery.engine.discover import catalogue

    return kind is not None and "checkpoint_every" in catalogue.kinds()[kind].config_model().model_fields


def _late(points: list[Event]) -> list[int]:
    """Numbers of the points in the last three quarters of their cell: most come after its first checkpoint."""
    steps: dict[Any, int] = {}
    for event in points:
        cell = event["who"], event["seed"]
        steps[cell] = max(event["step"], steps.get(cell, 0))
    return [number for number, event in enumerate(points) if 4 * event["step"] >= steps[event["who"], event["seed"]]]


def _compare(expected: dict[str, Any], found: dict[str, Any], resumed: int) -> int:
    if not expected:
        print("not shown: no cell of this stage trains")
        return 1
    different = [cell for cell in expected if expected[cell] != found.get(cell)]
    for cell, hashes in expected.items():
        verdict = "DIFFERENT" if cell in different else "equal"
        print(f"{cell}: {verdict}  " + "  ".join(f"{name} {value[:16]}" for name, value in hashes.items()))
        if cell in different:
            print(f"{' ' * len(cell)}  resumed   {found.get(cell)}")
    if different:
        print("resume is NOT bit-exact here")
    elif not resumed:
        print("not shown: every kill came before the first checkpoint; use a longer --tokens")
    else:
        print(f"resume is bit-exact: {' and '.join(next(iter(expected.values())))}, by sha256")
    return 1 if different or not resumed else 0


class _Prover:
    def __init__(self, plan: str, stage: str, overrides: list[str], threads: int, scratch: Path) -> None:
        self._stage, self._scratch = stage, scratch
        self._read: tuple[tuple[Path, int] | None, list[Event]] = (None, [])
        self._command = [sys.executable, "-m", "bloomery", "run", plan, "--threads", str(threads)]
        for override in overrides:
            self._command += ["--set", override]

    def events(self, name: str) -> list[Event]:
        """The stage's events so far; read again only when the file has grown."""
        file = next((self._scratch / name).rglob("events.jsonl"), None)
        if file is None:
            return []
        seen = file, file.stat().st_size
        if self._read[0] != seen:
            self._read = seen, [event for event in read_events(file) if event.get("stage") == self._stage]
        return self._read[1]

    def run(self, name: str, kill_at_points: list[int]) -> dict[str, Any]:
        """Run until the stage is judged, killing at these numbers of points; {cell: hashes}."""
        for number in kill_at_points:
            self._until(name, lambda events, number=number: _points(events) > number, signal.SIGKILL)
            print(f"  killed after point {number + 1}", flush=True)
        self._until(name, lambda events: any(event["event"] == "verdict" for event in events), signal.SIGTERM)
        return {
            f"{event['who']} seed {event['seed']}": event["hashes"]
            for event in self.events(name)
            if event["event"] == "cell_finished" and event["hashes"]
        }

    def _until(self, name: str, reached: Callable[[list[Event]], bool], number: signal.Signals) -> None:
        log = self._scratch / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self._command, "--runs", str(self._scratch / name)], stdout=output, stderr=output
            )
            while process.poll() is None and not reached(self.events(name)):
                time.sleep(POLL_SECONDS)
            process.send_signal(number)
            process.wait()
        if not reached(self.events(name)):
            raise ArtifactError(str(log.name), "the run ended before its stage was judged:\n" + log.read_text()[-2000:])


def _points(events: list[Event]) -> int:
    """Distinct points of all cells so far; a point computed again after a kill is the same point."""
    return len({(event["who"], event["seed"], event["step"]) for event in events if event["event"] == "point"})
