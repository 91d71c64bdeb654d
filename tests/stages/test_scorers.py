"""Folders without weights name what opens them; everything that judges opens them by that name."""

import json
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal
from bloomery.errors import ArtifactError, BloomeryError
from bloomery.evaluate.ngram import NGram
from bloomery.stages import models
from bloomery.stages.exporting import export
from bloomery.stages.scorers import SCORER_CARD, kind_of, open_scorer, scorer_of
from bloomery.stages.suites import Generation, GenerationSettings, Perplexity, PerplexitySettings
from bloomery.stages.system import System, SystemSettings
from stages.tiny import Trained


@pytest.fixture
def table(data: Prepared, tmp_path: Path) -> Path:
    """A model folder of no system's network: a table under the card that any kind may have."""
    folder = tmp_path / "table"
    part = data.part("corpus:train")
    NGram.fit([part.tokens], order=2, vocab=data.vocab, end_of_document=part.end_of_document).save(folder)
    data.tokenizer.save(folder / "tokenizer")
    (folder / SCORER_CARD).write_text(json.dumps({"kind": "ngram", "vocab": data.vocab}))
    return folder


def test_a_card_names_what_opens_its_folder(table: Path, trained: Trained, data: Prepared) -> None:
    network = trained.result.outputs["model"]
    assert kind_of(table) == "ngram"
    assert kind_of(network) is None
    text = data.part("corpus:val").tokens[:50].astype("int64")
    opened = scorer_of(table, data, device="cpu")
    assert isinstance(opened, NGram)
    assert_array_equal(opened.document_logprobs(text), NGram.load(table).document_logprobs(text))
    assert type(scorer_of(network, data, device="cpu")) is type(models.load_model(network))


@pytest.mark.parametrize("card", ["", "[]", "{}"])
def test_a_damaged_card_is_refused(table: Path, card: str) -> None:
    (table / SCORER_CARD).write_text(card)
    with pytest.raises(ArtifactError, match="damaged"):
        open_scorer(table)


def test_an_unknown_kind_is_refused(table: Path) -> None:
    (table / SCORER_CARD).write_text('{"kind": "abacus"}')
    with pytest.raises(BloomeryError, match="no installed system offers this scorer"):
        open_scorer(table)


def test_it_is_judged_and_writes_and_has_no_weights_to_export(table: Path, data: Prepared, tmp_path: Path) -> None:
    model = seal(table, "count.model", "model")
    found = Perplexity().run(
        PerplexitySettings(data="corpus:val", normalised=1e-9), model, data.folder, device="cpu", threads=1
    )
    assert 1 < found.measurements[1].value < 257
    wrote = Generation().run(GenerationSettings(prompts=2, tokens=8), model, data.folder, device="cpu", threads=1)
    assert [bool(text) for _, text in wrote.samples] == [True, True]
    with pytest.raises(ArtifactError, match="a count table"):
        export(table, tmp_path / "out", "safetensors")


def test_what_it_costs_to_use_is_measured(table: Path, data: Prepared) -> None:
    settings = SystemSettings(prompt=8, tokens=4, repeats=1, processes=1)
    found = System().run(settings, seal(table, "count.model", "model"), data.folder, device="cpu", threads=1)
    measured = {one.name: one.value for one in found.measurements}
    assert measured["decode_tokens_per_second"] > 0
    assert measured["peak_memory_bytes"] > 1 << 20
