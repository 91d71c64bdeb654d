"""Checkpoints: folders `step-000000120` with weights, optimiser state, losses and a manifest of their sha256.

Written beside, synced and renamed, so that a folder of that name is whole; the last two are kept. `load` verifies every
file and goes back to the older one when the newer is damaged. Refuses to resume where the signature differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as render_tensors
from torch import Tensor

from bloomery.errors import ArtifactError
from bloomery.train.state import TrainState

KEEP = 2
MANIFEST = "manifest.json"
MAY_CHANGE = ("batch", "data", "world")
"""Keys of a signature that may differ where it is told so; any other setting that differs is another stage."""
TENSOR_FILES = ("weights", "optimiser", "losses")


def save(folder: Path, state: TrainState) -> Path:
    """Write one checkpoint and drop all but the last two. Raises ArtifactError where it cannot be written: what was
    there before is untouched."""
    target = folder / f"step-{state['step']:09d}"
    staging = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        _clear_stale(folder)
        staging.mkdir(parents=True)
        tensors = {
            "weights": state["weights"],
            "optimiser": state["optimiser"],
            "losses": {"losses": torch.tensor(state["losses"], dtype=torch.float64)},
        }
        files = {}
        for name in TENSOR_FILES:
            file = f"{name}.safetensors"
            files[file] = _write(staging / file, render_tensors(_plain(tensors[name])))
        facts = {key: state[key] for key in ("step", "tokens", "seconds", "signature", "carried")}
        _write(staging / MANIFEST, json.dumps({"format": 1, **facts, "files": files}, indent=1).encode())
        _sync(staging)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(staging, target)
        _sync(folder)
        for old in steps(folder)[:-KEEP]:
            shutil.rmtree(old)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise ArtifactError(
            str(target), f"the checkpoint cannot be written: {error.strerror or error}",
            hint="the checkpoint before it is kept; free some space and run again to go on from there",
        ) from error  # fmt: skip
    return target


def steps(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first; whether they are whole is found out by `read`."""
    return sorted(folder.glob("step-*"))


def load(folder: Path) -> tuple[TrainState, list[str]] | None:
    """The newest checkpoint that is whole, and a note for every damaged one passed over; None if there never was one.

    Raises ArtifactError where there are checkpoints and none can be read.
    """
    notes: list[str] = []
    for candidate in reversed(steps(folder)):
        try:
            return read(candidate), notes
        except ArtifactError as error:
            notes.append(f"{candidate.name} is damaged ({error.found}); going back to the one before it")
    if notes:
        raise ArtifactError(
            str(folder), f"no checkpoint here can be read: {'; '.join(notes)}",
            hint="delete this folder to begin the stage anew",
        )  # fmt: skip
    return None


def read(folder: Path) -> TrainState:
    """Read one checkpoint folder and verify every file; raises ArtifactError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        contents = {name: (folder / f"{name}.safetensors").read_bytes() for name in TENSOR_FILES}
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != manifest["files"][f"{name}.safetensors"]:
                raise ArtifactError(str(folder), f"{name}.safetensors is not what was written")
        tensors = {name: parse_tensors(content) for name, content in contents.items()}
        return TrainState(
            weights=tensors["weights"],
            optimiser=tensors["optimiser"],
            losses=tensors["losses"]["losses"].tolist(),
            step=manifest["step"],
            tokens=manifest["tokens"],
            seconds=manifest["seconds"],
            signature=manifest["signature"],
            carried=manifest.get("carried", {}),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(str(folder), f"cannot be read: {error}", "a whole checkpoint") from None


def check_signature(
    found: Mapping[str, Any], expected: Mapping[str, Any], where: str, allow_changed: Collection[str] = ()
) -> None:
    """Compare key by key; raises ArtifactError naming the first key that differs and is not allowed to."""
    expected = json.loads(json.dumps(expected))
    for key in sorted(set(found) | set(expected)):
        if key not in allow_changed and found.get(key) != expected.get(key):
            raise ArtifactError(
                f"{where}: {key}", f"this run has {expected.get(key)!r}", f"{found.get(key)!r}, as in the checkpoint",
                "resume with the same settings, or begin the stage anew in another folder"
                + (f"; or allow it: --allow-changed {key}" if key in MAY_CHANGE else ""),
            )  # fmt: skip


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write(file: Path, content: bytes) -> str:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear_stale(folder: Path) -> None:
    """Half-written folders of a killed process; the run folder's lock makes sure that nobody else writes here."""
    for stale in folder.glob(".step-*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
