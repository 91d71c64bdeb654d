"""Packed models as folders: what a codec writes is opened as a model, by every suite, and weighs what is said."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import Trained

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import digest_of, seal, unseal
from bloomery.engine.discover import CODECS, catalogue
from bloomery.engine.stage import PackedSize
from bloomery.errors import ArtifactError
from bloomery.quant.pack import FORMATS
from bloomery.stages import models
from bloomery.stages.suites import Perplexity, PerplexitySettings
from bloomery.train.state import hash_weights

EVERY = pytest.mark.parametrize("name", list(CODECS))
BLOCK_FORMATS = pytest.mark.parametrize("name", ["q8_0", "q4_0"])


@pytest.fixture(scope="module")
def wide(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of width 32: rows of attention, embedding and the gates are whole blocks, others are not."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    settings = {"system": "dense", "layers": 1, "width": 32, "heads": 2, "feed_forward": 48}
    tokenizer = models.tokenizer_of(trained.result.outputs["model"])
    models.save(folder, models.build(settings, 257, precision="fp32", seed=3), settings, "fp32", tokenizer)
    seal(folder, "wide", "model")
    return folder


def packed(model: Path, name: str, target: Path) -> Path:
    catalogue.codec(name).pack(model, target)
    return target


def test_every_format_has_a_codec() -> None:
    assert list(CODECS) == list(FORMATS)


@EVERY
def test_a_packed_folder_is_opened_as_the_model_that_is_left(wide: Path, tmp_path: Path, name: str) -> None:
    before, after = models.load_model(wide), models.load_model(packed(wide, name, tmp_path / "packed"))
    assert not after.training
    assert after.tally() == before.tally()
    assert (hash_weights(after) == hash_weights(before)) is (name == "float")
    form, own = FORMATS[name], dict(before.named_parameters())
    for key, parameter in after.named_parameters():
        expected = own[key].detach()
        if expected.dim() > 1 and expected.shape[-1] % form.block == 0:
            expected = form.decode(form.encode(expected))
        assert torch.equal(parameter, expected), key
    assert models.tokenizer_of(tmp_path / "packed").decode([111, 114, 101]) == "ore"


@EVERY
def test_bytes_counted_by_hand_and_in_the_file(wide: Path, tmp_path: Path, name: str) -> None:
    """Width 32, 48 inner features, vocabulary 257: rows of 32 are packed; those of 48 and the gains are not."""
    folder = packed(wide, name, tmp_path / "packed")
    in_rows_of_32 = 257 * 32 + 4 * 32 * 32 + 2 * 48 * 32
    way_back, gains = 32 * 48, 3 * 32
    bits = FORMATS[name].bits
    both = in_rows_of_32 + way_back if name == "bf16" else in_rows_of_32
    expected = both * bits / 8 + 4 * (in_rows_of_32 + way_back - both) + 4 * gains
    size = catalogue.codec(name).size(folder)
    in_rows = in_rows_of_32 + (way_back if FORMATS[name].block == 1 else 0)
    assert size == PackedSize(in_rows_of_32 + way_back + gains, in_rows, int(expected))
    assert size.bits_per_weight == 8 * size.bytes / size.weights
    content = (folder / "model.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert len(content) - 8 - header == size.bytes


@BLOCK_FORMATS
def test_on_disk_are_bytes(wide: Path, tmp_path: Path, name: str) -> None:
    with safe_open(packed(wide, name, tmp_path / "packed") / "model.safetensors", "pt") as file:
        kinds = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    record = json.loads((tmp_path / "packed" / "model.json").read_text())
    assert {key for key, kind in kinds.items() if kind == torch.uint8} == set(record["codec"]["packed"])
    assert len(record["codec"]["packed"]) == 7
    assert {name: value for name, value in record.items() if name != "codec"} == json.loads(
        (wide / "model.json").read_text()
    )


@EVERY
def test_packing_again_gives_the_same_digest(wide: Path, tmp_path: Path, name: str) -> None:
    one, two = (packed(wide, name, tmp_path / number) for number in ("one", "two"))
    assert digest_of(one) == digest_of(two)
    assert not (one / "artifact.json").exists()


def test_digests_tell_codecs_apart(wide: Path, tmp_path: Path) -> None:
    assert len({digest_of(packed(wide, name, tmp_path / name)) for name in CODECS} | {digest_of(wide)}) == 5


@BLOCK_FORMATS
def test_what_is_packed_already_is_unpacked_first(wide: Path, tmp_path: Path, name: str) -> None:
    once = packed(wide, name, tmp_path / "once")
    twice = packed(once, "float", tmp_path / "twice")
    assert hash_weights(models.load_model(twice)) == hash_weights(models.load_model(once))
    assert json.loads((twice / "model.json").read_text())["codec"]["name"] == "float"


def test_a_suite_judges_a_packed_folder_unchanged(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    def loss(folder: Path) -> float:
        seal(folder, "x", "model")
        config = PerplexitySettings(data="corpus:val", context=32)
        result = Perplexity().run(config, unseal(folder), data.folder, device="cpu", threads=1)
        return result.measurements[0].value

    model = tmp_path / "model"
    shutil.copytree(trained.result.outputs["model"], model)
    found = {name: loss(packed(model, name, tmp_path / name)) for name in ("float", "bf16")}
    assert found["float"] == loss(model) != found["bf16"]
    assert found["bf16"] == pytest.approx(found["float"], abs=0.02)


@BLOCK_FORMATS
@pytest.mark.parametrize(
    "how", ["torn", "a tensor less", "other names", "not packed", "no names", "another codec", "no codec", "nobody's"]
)
def test_damage_is_one_clear_error(wide: Path, tmp_path: Path, name: str, how: str) -> None:
    folder = packed(wide, name, tmp_path / "packed")
    card = folder / "model.json"
    record = json.loads(card.read_text())
    codec = record["codec"]
    match how:
        case "torn":
            os.truncate(folder / "model.safetensors", 4000)
        case "a tensor less":
            codec["packed"].append("blocks.9.w")
        case "other names":
            codec["packed"] = codec["packed"][1:]
        case "not packed":
            shutil.copy2(wide / "model.safetensors", folder)
        case "no names":
            del codec["packed"]
        case "another codec":
            codec["name"] = "q8_0" if name == "q4_0" else "q4_0"
        case "no codec":
            record["codec"] = {}
        case _:
            record["codec"] = ["q4_0"]
    card.write_text(json.dumps(record))
    with pytest.raises(ArtifactError) as caught:
        models.load_model(folder)
    assert str(folder) in caught.value.where


@BLOCK_FORMATS
def test_a_model_that_diverged_is_not_packed(wide: Path, tmp_path: Path, name: str) -> None:
    model = models.load_model(wide)
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.dim() > 1)[0, 0] = torch.inf
    settings = json.loads((wide / "model.json").read_text())["model"]
    models.save(tmp_path / "model", model, settings, "fp32", models.tokenizer_of(wide))
    with pytest.raises(ArtifactError, match="half precision"):
        packed(tmp_path / "model", name, tmp_path / "packed")


def test_what_is_no_model_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model here"):
        packed(tmp_path, "q8_0", tmp_path / "packed")


def test_a_target_that_cannot_be_written_is_told(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        packed(wide, "q8_0", tmp_path / "packed")
