"""Exported models say what ours say: transformers loads them, in a process of its own, and gives the same logits."""

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import Trained

from bloomery.data.tokenizer import BytesTokenizer, FastTokenizer, Tokenizer, WordsTokenizer, train_bpe
from bloomery.engine.discover import catalogue
from bloomery.errors import ArtifactError
from bloomery.stages import models
from bloomery.stages.codecs import q8_0_codec
from bloomery.stages.exporting import bytes_as_json, export, llama_config, llama_weights
from bloomery.stages.settings import architecture
from bloomery.train.state import hash_weights

TEXTS = ["def furnace(x):\n    return 'iron'", "", "Ünïcode \N{GREEK SMALL LETTER PI} 🙂\t\r\n", "  two  spaces "]

LOAD = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, ids, texts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
trust = sys.argv[4] == "trust"
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
with torch.inference_mode():
    logits = model(torch.tensor(ids)).logits
    written = model.generate(torch.tensor(ids)[:, :8], max_new_tokens=5, do_sample=False)
tokenizer = AutoTokenizer.from_pretrained(folder) if texts else None
print("RESULT" + json.dumps({
    "kind": type(model).__name__, "dtype": str(model.dtype), "logits": logits.tolist(), "written": written.tolist(),
    "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
    "end": tokenizer.eos_token_id if texts else None,
}))
"""


def in_transformers(
    folder: Path, home: Path, ids: torch.Tensor, texts: list[str], *, trust: bool = False
) -> dict[str, Any]:
    """What transformers makes of a folder, without a network."""
    site = os.environ.get("BLOOMERY_TRANSFORMERS", "")
    paths = [one for one in (site, os.environ.get("PYTHONPATH", "")) if one]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    arguments = [str(folder), json.dumps(ids.tolist()), json.dumps(texts), "trust" if trust else ""]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("RESULT")[2])


needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None and not os.environ.get("BLOOMERY_TRANSFORMERS"),
    reason="transformers is not installed (or name a folder that has it in BLOOMERY_TRANSFORMERS)",
)


def saved(folder: Path, tokenizer: Tokenizer, **shape: Any) -> Path:
    """A fresh model with gains that are not one, so that a swapped norm would show."""
    settings = {"system": "dense", "layers": 2, "width": 32, "heads": 4, **shape}
    settings = {"system": settings.pop("system"), **settings}
    model = models.build(settings, tokenizer.vocab, precision="fp32", seed=5)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "norm" in name:
                one.uniform_(0.5, 1.5)
    models.save(folder, model, settings, "fp32", tokenizer)
    return folder


def logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = models.load_model(folder)
    with torch.inference_mode():
        found = model(ids).logits
    assert found is not None
    return found


def ids_for(vocab: int) -> torch.Tensor:
    return torch.randint(0, vocab, (2, 40), generator=torch.Generator().manual_seed(1))


BPE_TEXT = ["the furnace makes iron from ore and the furnace makes it again"] * 20


@needs_transformers
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kv_heads": 2, "tie_embeddings": False, "feed_forward": 48, "rope_theta": 500.0, "norm_epsilon": 1e-3},
        {"attention_window": 7},
    ],
    ids=["plain", "grouped and untied", "window"],
)
def test_a_dense_model_is_a_llama(tmp_path: Path, shape: dict[str, Any]) -> None:
    tokenizer = train_bpe(BPE_TEXT, 280)
    source = saved(tmp_path / "model", tokenizer, **shape)
    assert export(source, tmp_path / "hf", "hf") == []
    ids = ids_for(tokenizer.vocab)
    found = in_transformers(tmp_path / "hf", tmp_path / "home", ids, TEXTS)
    assert found["kind"] == ("MistralForCausalLM" if shape.get("attention_window") else "LlamaForCausalLM")
    assert found["dtype"] == "torch.float32"
    assert torch.tensor(found["logits"]) == pytest.approx(logits(source, ids), rel=1e-4, abs=2e-5)
    assert found["ids"] == [tokenizer.encode(text).tolist() for text in TEXTS]
    assert found["end"] == tokenizer.end_of_document


@needs_transformers
def test_another_system_comes_with_its_code(tmp_path: Path) -> None:
    if "harmonic" not in catalogue.systems():
        pytest.skip("the harmonic system is not installed")
    source = saved(tmp_path / "model", BytesTokenizer(), system="harmonic", compression=4)
    (note,) = export(source, tmp_path / "hf", "hf")
    assert "trust_remote_code" in note
    ids = ids_for(257)
    found = in_transformers(tmp_path / "hf", tmp_path / "home", ids, TEXTS, trust=True)
    assert found["kind"] == "BloomeryForCausalLM"
    assert torch.tensor(found["logits"]) == pytest.approx(logits(source, ids), rel=1e-5, abs=1e-6)
    assert found["ids"] == [list(text.encode()) for text in TEXTS]
    text = ids[:, :8]
    for _ in range(5):
        text = torch.cat((text, logits(source, text)[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert found["written"] == text.tolist()


def test_every_weight_has_one_name_there(tmp_path: Path) -> None:
    source = saved(tmp_path / "model", BytesTokenizer(), tie_embeddings=False)
    shape = architecture(models.card(source)["model"])
    renamed = llama_weights(models.weights_of(source), shape)
    assert len(renamed) == len(models.weights_of(source)) == 3 + 2 * 9
    assert llama_config(shape, 257)["num_hidden_layers"] == 2


def test_plain_safetensors_is_the_same_model_unpacked(trained: Trained, tmp_path: Path) -> None:
    source = trained.result.outputs["model"]
    assert export(source, tmp_path / "plain", "safetensors") == []
    assert hash_weights(models.load_model(tmp_path / "plain")) == trained.result.hashes["weights"]
    q8_0_codec().pack(source, tmp_path / "packed")
    assert export(tmp_path / "packed", tmp_path / "unpacked", "safetensors") == ["unpacked from q8_0"]
    unpacked = load_file(tmp_path / "unpacked" / "model.safetensors")
    expected = models.weights_of(tmp_path / "packed")
    assert all(torch.equal(unpacked[name], expected[name]) for name in expected)
    assert set(unpacked) == set(expected)


def test_bytes_are_the_same_ids_in_tokenizers() -> None:
    from tokenizers import Tokenizer as Fast

    fast = Fast.from_str(bytes_as_json())
    draw = random.Random(0)
    texts = [
        *TEXTS,
        "".join(chr(draw.choice([draw.randrange(128), draw.randrange(0xE000, 0xFFFE)])) for _ in range(500)),
    ]
    for text in texts:
        ids = fast.encode(text, add_special_tokens=False).ids
        assert ids == list(text.encode())
        assert fast.decode(ids) == text
    assert fast.token_to_id("<|end_of_document|>") == BytesTokenizer.end_of_document


def test_refusals(tmp_path: Path, trained: Trained) -> None:
    source = trained.result.outputs["model"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(ArtifactError, match="not empty"):
        export(source, tmp_path / "full", "hf")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["x"]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "ngram.json").write_text("{}")
    with pytest.raises(ArtifactError):
        export(tmp_path / "table", tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()
    words = saved(tmp_path / "words", WordsTokenizer(["iron"], 300))
    (note,) = export(words, tmp_path / "out", "hf")
    assert "words tokenizer has no tokenizer.json" in note
    assert not isinstance(models.tokenizer_of(tmp_path / "out"), FastTokenizer)
