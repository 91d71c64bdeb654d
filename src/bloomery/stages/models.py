"""Models as artifacts: a folder with model.safetensors, model.json (system, architecture, vocabulary, dtype) and the
tokenizer. Built by the system that the folder names; weights are loaded by name and shape, nothing is unpickled. Where
model.json names a codec, model.safetensors holds what that codec wrote, and the weights are what it unpacks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.data.tokenizer import Tokenizer, load_tokenizer
from bloomery.engine.artifact import SEAL, write_atomically
from bloomery.engine.discover import catalogue, load
from bloomery.errors import ArtifactError
from bloomery.model.interface import LanguageModel
from bloomery.stages.settings import architecture

CARD, WEIGHTS = "model.json", "model.safetensors"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def build(settings: Mapping[str, Any], vocab: int, *, precision: str, seed: int | None = None) -> LanguageModel:
    """A freshly initialised model; the same seed gives the same weights. Under `torch.device("meta")` none at all."""
    system = catalogue.system(settings["system"])
    if seed is not None:
        torch.manual_seed(seed)
    return load(system.build)(architecture(settings), vocab, compute_dtype=DTYPES[precision])


def save(folder: Path, model: LanguageModel, settings: Mapping[str, Any], precision: str, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.named_parameters()}
    try:
        save_file(weights, folder / WEIGHTS)
        tokenizer.save(folder / "tokenizer")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(str(folder), f"cannot be written: {error}", hint="free some space and run again") from error
    record = {"system": settings["system"], "model": dict(settings), "vocab": model.vocab, "precision": precision}
    write_atomically(folder / CARD, json.dumps(record, indent=1).encode())


def settings_of(folder: Path) -> dict[str, Any]:
    """The `model` setting of a saved model: its system and architecture. Raises ArtifactError."""
    return card(folder)["model"]


def load_model(folder: Path, *, device: str = "cpu", precision: str | None = None) -> LanguageModel:
    """`precision`: of its matrix products, if not what it was saved with.

    Raises ArtifactError where the folder does not hold the model that its model.json describes.
    """
    record = card(folder)
    try:
        model = build(record["model"], record["vocab"], precision=precision or record["precision"])
    except (ValueError, KeyError, TypeError) as error:
        found = f"describes no model that can be built: {error}"
        raise ArtifactError(str(folder / CARD), found, "what was saved with the weights") from None
    weights = weights_of(folder)
    own = dict(model.named_parameters())
    if wrong := sorted(set(own) ^ set(weights)) or [n for n in own if own[n].shape != weights[n].shape]:
        raise ArtifactError(
            str(folder),
            f"the weights do not fit the architecture at {wrong[0]}",
            "the weights that model.json describes",
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    return model.to(device).eval()


def check_tokenizer(folder: Path, own: Tokenizer) -> None:
    """Raise ArtifactError where a model, which may come from elsewhere, speaks another vocabulary than the data."""
    theirs = tokenizer_of(folder)
    if theirs.digest != own.digest:
        raise ArtifactError(
            str(folder),
            f"the model's tokenizer ({theirs.digest[:12]}) is not the data's ({own.digest[:12]})",
            "text in the vocabulary that the model was trained with",
            "data: {tokenizer: {kind: file, path: ...}} with the model's own, or the data that it was trained on",
        )


def weights_of(folder: Path) -> Mapping[str, Tensor]:
    """{parameter: float32 tensor} of a model folder, unpacked where it is packed. Raises ArtifactError."""
    codec = card(folder).get("codec")
    if codec is None:
        return tensors_in(folder)
    try:
        name = codec["name"]
    except (TypeError, KeyError):
        raise ArtifactError(str(folder / CARD), "names no codec", "codec: {name: ...}") from None
    return catalogue.codec(name).unpack(folder)


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """What model.safetensors holds, as written. Raises ArtifactError where it cannot be read."""
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        hint = "run the stage again, or take it from a backup"
        raise ArtifactError(str(folder / WEIGHTS), f"cannot be read: {error}", hint=hint) from None


def save_packed(target: Path, source: Path, tensors: Mapping[str, Tensor], codec: Mapping[str, Any]) -> None:
    """A copy of the model folder `source` with these tensors. `codec` goes into model.json: its `name`, and its needs.

    Raises ArtifactError where it cannot be written.
    """
    record = {**card(source), "codec": dict(codec)}
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(WEIGHTS, CARD, SEAL))
        save_file(dict(tensors), target / WEIGHTS)
    except (OSError, shutil.Error, SafetensorError) as error:
        raise ArtifactError(str(target), f"cannot be written: {error}", hint="free some space and run again") from error
    write_atomically(target / CARD, json.dumps(record, indent=1).encode())


def use_threads(threads: int) -> None:
    """CPU threads for all that follows in this process; sums depend on their number to the last bit."""
    torch.set_num_threads(threads)


def tokenizer_of(folder: Path) -> Tokenizer:
    return load_tokenizer(folder / "tokenizer")


def card(folder: Path) -> dict[str, Any]:
    """model.json. Raises ArtifactError where there is none, or not all of it."""
    try:
        record = json.loads((folder / CARD).read_text())
        return {key: record[key] for key in ("system", "model", "vocab", "precision")} | record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder), f"no model here ({error})", "a folder with model.json") from None
