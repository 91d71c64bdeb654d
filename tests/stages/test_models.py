"""Models as folders: what is saved is loaded, and what is damaged is told."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny import Trained

from bloomery.errors import ArtifactError, BloomeryError
from bloomery.stages import models
from bloomery.train.state import hash_weights


def test_a_loaded_model_is_the_trained_one(trained: Trained) -> None:
    folder = trained.result.outputs["model"]
    model = models.load_model(folder)
    assert hash_weights(model) == trained.result.hashes["weights"]
    assert not model.training
    assert model.tally() == trained.result.tallies["model"]
    assert models.tokenizer_of(folder).decode(models.tokenizer_of(folder).encode("ore")) == "ore"


def test_the_same_seed_builds_the_same_model() -> None:
    settings = {"system": "dense", "layers": 1, "width": 8, "heads": 2}
    one, two, other = (models.build(settings, 11, precision="fp32", seed=seed) for seed in (4, 4, 5))
    assert hash_weights(one) == hash_weights(two) != hash_weights(other)
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in models.build(settings, 11, precision="fp32").parameters())
    assert models.build(settings, 11, precision="bf16").compute_dtype == torch.bfloat16


def edited(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "how", ["no card", "torn card", "no weights", "torn weights", "other shape", "other names", "other system",
            "bad model", "bad precision", "card of a list"],
)  # fmt: skip
def test_damage_is_one_clear_error(trained: Trained, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained.result.outputs["model"], folder)
    card, weights = folder / "model.json", folder / "model.safetensors"
    shape = {"system": "dense", "layers": 1, "width": 16, "heads": 2}
    match how:
        case "no card":
            card.unlink()
        case "torn card":
            os.truncate(card, 20)
        case "no weights":
            weights.unlink()
        case "torn weights":
            os.truncate(weights, weights.stat().st_size // 2)
        case "other shape":
            edited(card, model=shape | {"width": 32})
        case "other names":
            edited(card, model=shape | {"layers": 2})
        case "other system":
            edited(card, model=shape | {"system": "nowhere"})
        case "bad model":
            edited(card, model=shape | {"heads": 3})
        case "bad precision":
            edited(card, precision="int3")
        case _:
            card.write_text("[]")
    with pytest.raises(BloomeryError) as caught:
        models.load_model(folder)
    assert how == "other system" or str(folder) in caught.value.where
    assert "nowhere" in str(caught.value) or isinstance(caught.value, ArtifactError)


def test_a_folder_that_cannot_be_written_is_told(trained: Trained, tmp_path: Path) -> None:
    folder = trained.result.outputs["model"]
    model, tokenizer = models.load_model(folder), models.tokenizer_of(folder)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ArtifactError, match="cannot be written"):
        models.save(tmp_path, model, {"system": "dense"}, "fp32", tokenizer)
