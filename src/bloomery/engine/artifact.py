"""An Artifact is a folder with a digest. Written once, atomically, and never changed.

The digest is the sha256 over the sorted list of (relative path, sha256 of content): what it is, not where it lies.
`seal` turns a finished folder into an artifact, `verify` finds damage, `adopt` brings foreign files in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.errors import ArtifactError
from bloomery.measure import Tally

SEAL = "artifact.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str
    """`pretrain.model`, for example."""
    kind: str
    digest: str
    path: Path
    parents: tuple[str, ...] = ()
    """Digests of what it was made from."""
    tally: Tally | None = None


def digest_of(folder: Path) -> str:
    """sha256 of a folder's content, its seal excluded."""
    outer = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or file == folder / SEAL:
            continue
        outer.update(f"{file.relative_to(folder).as_posix()}\0{digest_of_file(file)}\n".encode())
    return outer.hexdigest()


def digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(folder: Path, name: str, kind: str, *, parents: tuple[str, ...] = (), tally: Tally | None = None) -> Artifact:
    """Compute the digest, write the seal, and return the artifact."""
    digest = digest_of(folder)
    record: dict[str, Any] = {"name": name, "kind": kind, "digest": digest, "parents": list(parents)}
    if tally is not None:
        record["tally"] = tally.to_json()
    write_atomically(folder / SEAL, json.dumps(record, indent=1).encode())
    return Artifact(name, kind, digest, folder, parents, tally)


def unseal(folder: Path, *, verify: bool = True) -> Artifact:
    """Read an artifact back; with `verify`, recompute its digest.

    Raises ArtifactError where the seal or the content is missing or damaged.
    """
    try:
        record: Mapping[str, Any] = json.loads((folder / SEAL).read_text())
        tally = Tally.from_json(record["tally"]) if "tally" in record else None
        artifact = Artifact(record["name"], record["kind"], record["digest"], folder, tuple(record["parents"]), tally)
    except FileNotFoundError:
        raise ArtifactError(str(folder), "no sealed artifact here", hint="run the stage that makes it again") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            str(folder / SEAL), f"damaged seal ({error})", hint="delete this folder and run again"
        ) from None
    if verify and (found := digest_of(folder)) != artifact.digest:
        raise ArtifactError(
            str(folder),
            f"content has digest {found[:12]}",
            f"{artifact.digest[:12]}, as sealed",
            "the files were changed or cut short; delete this folder and run again",
        )
    return artifact


def digest_of_foreign(source: Path) -> str:
    """The digest that `source` will have once it is adopted: of a folder its content, of a file a folder with it."""
    if not source.exists():
        raise ArtifactError(str(source), "does not exist", "a file or folder to adopt", "check the path under `inputs`")
    if source.is_dir():
        return digest_of(source)
    return hashlib.sha256(f"{source.name}\0{digest_of_file(source)}\n".encode()).hexdigest()


def adopt(source: Path, target: Path, name: str, *, digest: str | None = None) -> Artifact:
    """Copy a foreign file or folder to `target`, in place of what is there, and seal it.

    Raises ArtifactError where the source is missing, has not the `digest` that was promised, or cannot be copied.
    """
    found = digest_of_foreign(source)
    if digest is not None and found != digest:
        raise ArtifactError(str(source), f"digest {found}", digest, "the file is not the one that the plan names")
    staging = target.with_name(target.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, staging, dirs_exist_ok=True)
        else:
            shutil.copy2(source, staging / source.name)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise ArtifactError(str(target), f"cannot be written: {error}", hint="free some space and run again") from error
    artifact = seal(staging, name, "adopted")
    if artifact.digest != found:
        raise ArtifactError(str(source), "changed while it was copied", f"digest {found[:12]}", "run again")
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return Artifact(name, artifact.kind, artifact.digest, target)


def write_atomically(file: Path, content: bytes) -> None:
    """Write beside, fsync, rename: a reader sees the old content or the new, never half."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ArtifactError(
            str(file),
            f"cannot be written: {error.strerror or error}",
            hint="free some space or choose another --runs folder",
        ) from error
