"""Cascades as files: what a stage leaves is opened as it was, and every mistake in a declaration has its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.errors import ArtifactError, BloomeryError, PlanError, Problems
from bloomery.evaluate.cascade.card import CARD, Card
from bloomery.evaluate.cascade.routing import words_of
from bloomery.evaluate.ngram import NGram
from bloomery.model.dense import Transformer
from bloomery.stages import models
from bloomery.stages.cascades import member_folders, open_cascade, read_cascade, write_cascade
from support.cascades import table
from support.writers import writer

BYTES = BytesTokenizer()
SETTINGS = {"system": "dense", "layers": 2, "width": 32, "heads": 4, "kv_heads": 2}


def nowhere(*_: Any) -> Path:
    raise ArtifactError("runs", "no such run", "one of these", "did you mean 'x'?")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """A model and a table, as stages leave them; the table without a tokenizer."""
    models.save(tmp_path / "model", writer(), SETTINGS, "fp32", BYTES)
    table(4).save(tmp_path / "table")
    (tmp_path / "table" / "ngram.json").write_text(json.dumps({"order": 4, "vocab": 257}))
    return {"smith": tmp_path / "model", "ngram": tmp_path / "table"}


CASCADE = Card.model_validate({
    "cascade": 1, "name": "forge", "routing": "idf", "hold": 3, "learning": {"step": 0.2},
    "members": [{"name": "smith", "model": "?", "confidence": 0.3, "timeout_seconds": 5, "packets": ["?"]}],
    "last": {"ngram": 4},
})  # fmt: skip


@pytest.fixture
def written(tmp_path: Path, sources: dict[str, Path]) -> Path:
    write_cascade(tmp_path / "forge", CASCADE, sources, {"smith": "iron\n\nsteel and ore"}, BYTES)
    return tmp_path / "forge"


def test_what_a_stage_leaves_is_opened_as_it_was_wherever_it_lies(written: Path, tmp_path: Path, sources: Any) -> None:
    moved = shutil.move(written, tmp_path / "elsewhere")
    for each in sources.values():
        shutil.rmtree(each)
    declared = read_cascade(Path(moved))
    changed = {"model": "members/smith", "packets": ("packets/smith.txt",)}
    member = declared.card.members[0]
    assert member.model_copy(update={"digest": None}) == CASCADE.members[0].model_copy(update=changed)
    assert declared.card.model_copy(update={"members": (), "last": None}) == CASCADE.model_copy(
        update={"members": (), "last": None}
    )
    readers, relevance = open_cascade(declared, member_folders(declared, nowhere, nowhere), device="cpu")
    tokens = torch.tensor([[256, *b"ore"]])
    assert isinstance(readers["smith"].model, Transformer)
    with torch.inference_mode():
        torch.testing.assert_close(readers["smith"].model(tokens).logits, writer()(tokens).logits)
    assert isinstance(readers["ngram"].model, NGram)
    assert torch.equal(readers["ngram"].model.logprobs(tokens), table(4).logprobs(tokens))
    assert {each.tokenizer.digest for each in readers.values()} == {BYTES.digest}
    assert relevance("smith", words_of("steel")) == 1


def test_a_member_that_was_changed_is_refused(written: Path) -> None:
    card = written / "members" / "smith" / "model.json"
    card.write_text(card.read_text() + " ")
    with pytest.raises(PlanError, match=r"cascade.json:\d+:\d+: members.0.model(.|\n)*its files were changed"):
        member_folders(read_cascade(written), nowhere, nowhere)


GOOD = "cascade: 1\nname: forge\nmembers:\n  - {name: a, model: model}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: forge\n", "'cascade' is missing"),
        (GOOD + "rooting: idf\n", "forge.yaml:5:1: rooting: unknown key 'rooting'|did you mean 'routing'?"),
        (GOOD.replace("model: model", "modle: model"), "forge.yaml:4:15: members.0.modle|did you mean 'model'?"),
        (GOOD + "routing: idff\n", "did you mean 'idf'?"),
        (GOOD + "routing: idf\n", "no member has packets"),
        (GOOD + "last: {ngram: 9}\n", "forge.yaml:5:8: last.ngram"),
        (GOOD + "hold: 0\n", "forge.yaml:5:1: hold"),
        (GOOD + "name: again\n", "a second time|forge.yaml:5:1"),
        (GOOD.replace("forge", "For ge"), "forge.yaml:2:1: name"),
        (GOOD.replace("model: model", "model: model, confidence: 2"), "members.0.confidence"),
        ("- a\n", "a mapping"),
        ("", "forge.yaml"),
        ("{", "forge.yaml:"),
        ("a: &a [*a]", "forge.yaml"),
    ],
)
def test_mistakes_have_their_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "forge.yaml"
    file.write_text(text)
    with pytest.raises((PlanError, Problems)) as caught:
        read_cascade(file)
    for each in said.split("|"):
        assert each in str(caught.value).replace(f"{tmp_path}/", "")


def test_what_is_not_there_has_its_place(tmp_path: Path, sources: dict[str, Path]) -> None:
    file = tmp_path / "forge.yaml"

    def folders(text: str) -> str:
        file.write_text(text)
        declared = read_cascade(file)
        with pytest.raises(BloomeryError) as caught:
            open_cascade(declared, member_folders(declared, nowhere, nowhere), device="cpu")
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert "forge.yaml:4:15: members.0.model: no such run" in folders(GOOD.replace("model: model", "model: other"))
    assert "hint: did you mean 'x'?" in folders(GOOD.replace("model: model", "model: other"))
    assert "forge.yaml:5:8: last.ngram: no tokenizer in table" in folders(GOOD + "last: {ngram: table}\n")
    packets = GOOD.replace("model: model", "model: model, packets: [x.txt]")
    assert "forge.yaml:4:" in folders(packets)
    assert "members.0.packets.0: 'x.txt' cannot be read" in folders(packets)
    with pytest.raises(PlanError, match="a YAML file, or a folder with"):
        read_cascade(tmp_path)
    assert not (tmp_path / CARD).exists()
