"""Inputs: foreign artifacts that a plan names, and this run's own copies of them.

`file` and `folder` are relative to the plan. `run: NAME:STAGE`, `NAME:STAGE.OUTPUT` or `NAME:STAGE@ARM.OUTPUT` is what
an earlier run, in the same runs folder, left: the last finished attempt of that stage, its first seed.
`hub: OWNER/NAME` or `OWNER/NAME@REVISION` is a model of the Hugging Face hub (extra `hub`). All are copied into the run
folder once, with their digest; the original may then go away. A digest that the plan names must be the one found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bloomery.engine.artifact import Artifact, adopt, digest_of_foreign, unseal
from bloomery.engine.discover import load
from bloomery.engine.events import read_events
from bloomery.engine.history import History
from bloomery.errors import ArtifactError, nearest
from bloomery.plan.cast import CANDIDATE, Reference, parse_reference
from bloomery.plan.load import Loaded
from bloomery.plan.schema import Input

DOWNLOAD = "bloomery.data.hub:download_model"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one run. `root`: the runs folder, in which `run` inputs are looked for."""

    loaded: Loaded
    folder: Path
    root: Path

    def look(self) -> None:
        """Raise BloomeryError where an input is not there, or not what the plan promises. Downloads nothing."""
        for name, given in self.loaded.plan.inputs.items():
            if given.hub is not None:
                continue
            held = (self.folder / "inputs" / name).exists()
            try:
                source = self._source(name, given)
                found = digest_of_foreign(source)
            except ArtifactError:
                if held:
                    continue
                raise
            if given.digest not in (None, found):
                raise ArtifactError(
                    self.loaded.where(f"inputs.{name}.digest"), f"{source} has digest {found}", given.digest or "",
                    "the file is not the one that the plan names",
                )  # fmt: skip

    def take(self, name: str) -> Artifact:
        """The input as this run holds it; adopted anew where the plan names another, or it has changed."""
        given, target = self.loaded.plan.inputs[name], self.folder / "inputs" / name
        held = unseal(target) if target.exists() else None
        if held is not None and given.digest == held.digest:
            return held
        if held is not None and given.hub is not None and given.digest is None:
            return held
        try:
            source = self._source(name, given)
            changed = held is None or digest_of_foreign(source) != held.digest
        except ArtifactError:
            if held is None or given.digest is not None:
                raise
            return held
        return adopt(source, target, name, digest=given.digest) if changed or held is None else held

    def _source(self, name: str, given: Input) -> Path:
        if given.run is not None:
            return self._of_run(name, given.run)
        if given.hub is not None:
            download: Callable[[str], Path] = load(DOWNLOAD)
            return download(given.hub)
        return self.loaded.source.parent / (given.file or given.folder or "")

    def _of_run(self, name: str, text: str) -> Path:
        """The folder of an earlier run's output."""
        where = self.loaded.where(f"inputs.{name}.run")
        run, _, rest = text.partition(":")
        reference = parse_reference(rest)
        if reference is None:
            raise ArtifactError(where, f"'{text}'", "RUN:STAGE, RUN:STAGE.OUTPUT or RUN:STAGE@ARM.OUTPUT")
        events = self.root / run / "events.jsonl"
        if not events.exists():
            known = [file.parent.relative_to(self.root).as_posix() for file in self.root.glob("**/events.jsonl")]
            raise ArtifactError(where, f"no run '{run}' in {self.root}", "an earlier run", nearest(run, known))
        history = History(read_events(events))
        attempts = history.attempts.get(reference.stage)
        if not attempts:
            raise ArtifactError(where, f"'{run}' has no stage '{reference.stage}'", "one of its stages",
                                nearest(reference.stage, history.attempts))  # fmt: skip
        output = reference.output or "model"
        if found := left_by(history, reference, output):
            return self.root / run / found
        raise ArtifactError(where, f"'{text}' has no finished '{output}'", "an output that the run has finished",
                            f"bloomery show {run}")  # fmt: skip


def left_by(history: History, reference: Reference, output: str) -> str | None:
    """The folder, relative to the run's, of what the last finished attempt of a stage left, its first seed."""
    for number in sorted(history.attempts.get(reference.stage, {}).values(), reverse=True):
        party = history.judged.get((reference.stage, number), CANDIDATE) if not reference.arm else reference.party
        for seed in history.seeds_of(reference.stage, number):
            cell = history.cell((reference.stage, number, party, seed))
            if cell is not None and cell.finished and output in cell.outputs:
                return cell.outputs[output]
    return None
