"""Models as codecs leave them: each (model, codec) is packed once in a run folder, under RUN/.packed, and sealed.

A resumed run takes what it finds there if it is whole, and packs anew what is damaged or was cut short. The same model
through the same codec has the same digest, so nothing is judged twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bloomery.engine.artifact import Artifact, seal, unseal
from bloomery.engine.session import Meter, Session
from bloomery.engine.stage import Stopped
from bloomery.errors import ArtifactError

FOLDER = ".packed"


def packed(session: Session, model: Artifact, codec: str, **place: Any) -> Artifact:
    """`model` through `codec`; `place` is who asks first, for the events.

    Raises Stopped before it packs, and ArtifactError where the model cannot be packed.
    """
    known = session.packed.get((model.digest, codec))
    if known is not None:
        return known
    target = session.folder / FOLDER / f"{model.digest}-{codec}"
    artifact = _whole(target, model) or _make(session, model, codec, target, place)
    size = session.catalogue.codec(codec).size(target)
    session.emit(
        "packed",
        once=True,
        sync=False,
        **place,
        codec=codec,
        model=model.digest,
        artifact=artifact.digest,
        path=target.relative_to(session.folder).as_posix(),
        weights=size.weights,
        packed=size.packed,
        bytes=size.bytes,
        bits_per_weight=size.bits_per_weight,
    )
    if size.packed == 0:
        text = f"{codec} packs nothing of this model and leaves it as it is: no rows of whole blocks"
        session.emit("note", once=True, sync=False, **place, text=text)
    session.packed[model.digest, codec] = artifact
    return artifact


def _whole(folder: Path, model: Artifact) -> Artifact | None:
    """What an earlier process packed, unless it is missing or damaged."""
    try:
        artifact = unseal(folder)
    except ArtifactError:
        return None
    return artifact if artifact.parents == (model.digest,) else None


def _make(session: Session, model: Artifact, codec: str, target: Path, place: dict[str, Any]) -> Artifact:
    if session.stop_reason():
        raise Stopped
    meter = Meter(session, **place)
    staging = target.with_name(target.name + ".tmp")
    try:
        for left in (staging, target):
            if left.exists():
                shutil.rmtree(left)
        session.catalogue.codec(codec).pack(model.path, staging)
        sealed = seal(staging, f"{model.name}/{codec}", model.kind, parents=(model.digest,))
        staging.rename(target)
    except OSError as error:
        raise ArtifactError(str(target), f"cannot be written: {error}", hint="free some space and run again") from error
    finally:
        meter.spend()
        meter.write()
    return Artifact(sealed.name, sealed.kind, sealed.digest, target, sealed.parents)
