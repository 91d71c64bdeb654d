"""What the engine and its worker processes say to each other: one JSON object a line, on the worker's stdin and stdout.

    engine -> worker   surroundings, once; then `cell`; `written` after each fact that was sent; `stop`
    worker -> engine   ready; measured, point, note (each waits for `written`); progress, spend;
                       and at the end of a cell one of finished, diverged, failed, stopped, error, system, broke

A worker that waits until a fact is in the events saves no checkpoint that is ahead of them: so whatever kills either
process, a cell goes on from a state whose looks are all recorded. Settings are validated again where they arrive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bloomery import errors
from bloomery.engine.artifact import Artifact, unseal
from bloomery.engine.cellwork import Job, Surroundings
from bloomery.engine.stage import StageResult
from bloomery.errors import ArtifactError, BloomeryError
from bloomery.measure import Emitted, Measurement, Tally
from bloomery.plan.schema import Condition

Message = dict[str, Any]


def to_line(message: Message) -> bytes:
    return json.dumps(message, default=str, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Message:
    return json.loads(line)


# What all cells have in common


def surroundings_to_json(around: Surroundings) -> Message:
    return {**asdict(around), "run": str(around.run), "data": None if around.data is None else str(around.data)}


def surroundings_from_json(data: Message) -> Surroundings:
    folder = None if data["data"] is None else Path(data["data"])
    return Surroundings(
        Path(data["run"]),
        folder,
        data["vocab"],
        data["device"],
        data["threads"],
        data["precision"],
        tuple(data["allow_changed"]),
    )


# A cell


def job_to_json(job: Job) -> Message:
    return {
        **job.place,
        "fingerprint": job.fingerprint,
        "system": job.system,
        "inputs": {name: _artifact_to_json(artifact) for name, artifact in job.inputs.items()},
        "continue_from": None if job.continue_from is None else _artifact_to_json(job.continue_from),
        "previous": dict(job.previous),
        "stop_if": [one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in job.stop_if],
        "declared": {name: [one.unit, one.better] for name, one in job.declared.items()},
    }


def job_from_json(data: Message) -> Job:
    """Raises ArtifactError where an input is not there, or another than was meant."""
    last = data["continue_from"]
    return Job(
        data["stage"], data["attempt"], data["who"], data["seed"], data["fingerprint"], data["system"],
        inputs={name: _artifact_from_json(one) for name, one in data["inputs"].items()},
        continue_from=None if last is None else _artifact_from_json(last),
        previous=data["previous"],
        stop_if=[Condition.model_validate(one) for one in data["stop_if"]],
        declared={name: Emitted(*one) for name, one in data["declared"].items()},
    )  # fmt: skip


def _artifact_to_json(artifact: Artifact) -> Message:
    return {"folder": str(artifact.path), "digest": artifact.digest}


def _artifact_from_json(data: Message) -> Artifact:
    """The engine has recomputed its digest; here its seal is compared."""
    artifact = unseal(Path(data["folder"]), verify=False)
    if artifact.digest != data["digest"]:
        raise ArtifactError(data["folder"], f"sealed as {artifact.digest[:12]}", data["digest"][:12], "run again")
    return artifact


# What comes back


def result_to_json(result: StageResult) -> Message:
    return {
        "outputs": {name: str(folder) for name, folder in result.outputs.items()},
        "tallies": {name: tally.to_json() for name, tally in result.tallies.items()},
        "hashes": dict(result.hashes),
    }


def result_from_json(data: Mapping[str, Any]) -> StageResult:
    return StageResult(
        {name: Path(folder) for name, folder in data["outputs"].items()},
        {name: Tally.from_json(tally) for name, tally in data["tallies"].items()},
        data["hashes"],
    )


def measurements(data: list[Message]) -> list[Measurement]:
    return [Measurement.from_json(one) for one in data]


def error_to_json(error: BloomeryError) -> Message:
    facts = {key: getattr(error, key) for key in ("where", "found", "expected", "hint")}
    return {"class": type(error).__name__, **facts}


def error_from_json(data: Message) -> BloomeryError:
    """Of the same class where it is one of ours; the words are the same in any case."""
    known: dict[str, type[BloomeryError]] = {
        one.__name__: one for one in BloomeryError.__subclasses__() if one.__module__ == errors.__name__
    }
    known.pop(errors.Problems.__name__)
    kind = known.get(data["class"], BloomeryError)
    return kind(data["where"], data["found"], data["expected"], data["hint"])
