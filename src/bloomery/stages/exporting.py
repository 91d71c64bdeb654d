"""A model for use elsewhere: `safetensors`, or `hf`, a folder that transformers' AutoModelForCausalLM loads.

safetensors   model.safetensors (float32, unpacked where a codec had packed it), model.json, tokenizer/: our own layout
hf, dense     plain Llama weights and config, Mistral's where attention has a window: the architecture is the same to
              the last term (rotary pairs (j, j + h), RMSNorm, SwiGLU), so no remote code is needed
hf, others    our layout, and a modeling file (export_code) that imports bloomery: trust_remote_code=True

Logits equal ours in float32, the type that the weights have; a model that computes in bf16 here rounds there otherwise.
tokenizer.json says the same ids as our tokenizer; the `words` tokenizer has no such form and stays as it is. The folder
is written beside and renamed. Refuses a folder that holds something, and a count table.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from bloomery.data.tokenizer import END_OF_DOCUMENT, BytesTokenizer, FastTokenizer, Tokenizer
from bloomery.engine.artifact import write_atomically
from bloomery.errors import ArtifactError
from bloomery.model.config import DenseConfig
from bloomery.stages import models
from bloomery.stages.export_code import MODELING
from bloomery.stages.scorers import kind_of
from bloomery.stages.settings import architecture

FORMATS = ("safetensors", "hf")
LONGEST = 32768
"""Positions that an exported config allows; rotary positions set no bound of their own."""


def export(source: Path, target: Path, form: str) -> list[str]:
    """Write the model folder `source` to `target`. Returns what its reader should know. Raises ArtifactError."""
    assert form in FORMATS
    if (kind := kind_of(source)) is not None:
        what = "a count table" if kind == "ngram" else f"a model of the kind '{kind}', which has none"
        raise ArtifactError(str(source), what, "a model with weights")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(str(target), "is there, and not empty", "a folder that is not there yet")
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        notes = _hf(source, staging) if form == "hf" else _ours(source, staging)
        if target.exists():
            target.rmdir()
        staging.rename(target)
    except OSError as error:
        raise ArtifactError(str(target), f"cannot be written: {error}", hint="choose another folder") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return notes


def _ours(source: Path, target: Path) -> list[str]:
    record = models.card(source)
    _save(models.weights_of(source), target)
    unpacked = {key: value for key, value in record.items() if key != "codec"}
    write_atomically(target / models.CARD, json.dumps(unpacked, indent=1).encode())
    shutil.copytree(source / "tokenizer", target / "tokenizer")
    codec = record.get("codec")
    return [f"unpacked from {codec['name']}"] if codec is not None else []


def _hf(source: Path, target: Path) -> list[str]:
    record, tokenizer = models.card(source), models.tokenizer_of(source)
    end = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.end_of_document)
    notes: list[str] = []
    if record["system"] == "dense":
        shape = architecture(record["model"])
        config: Mapping[str, Any] = llama_config(shape, record["vocab"]) | end
        _save(llama_weights(models.weights_of(source), shape), target)
        if record["precision"] != "fp32":
            notes.append("computes in float32 there, and in bf16 here: logits differ by that rounding")
    else:
        notes += _ours(source, target)
        config = {
            "model_type": "bloomery", "architectures": ["BloomeryForCausalLM"], "vocab_size": record["vocab"],
            "auto_map": {
                "AutoConfig": "modeling_bloomery.BloomeryConfig",
                "AutoModelForCausalLM": "modeling_bloomery.BloomeryForCausalLM",
            },
            **end,
        }  # fmt: skip
        write_atomically(target / "modeling_bloomery.py", MODELING.encode())
        notes.append("needs bloomery where it is loaded, and trust_remote_code=True")
    write_atomically(target / "config.json", json.dumps(config, indent=1).encode())
    return notes + _tokenizer(tokenizer, source, target)


def _save(weights: Mapping[str, Tensor], target: Path) -> None:
    save_file({name: one.contiguous() for name, one in weights.items()}, target / models.WEIGHTS, {"format": "pt"})


def llama_config(shape: DenseConfig, vocab: int) -> dict[str, Any]:
    """config.json for a dense model, without the ids of its special tokens."""
    window = shape.attention_window
    kind, name = ("llama", "LlamaForCausalLM") if window is None else ("mistral", "MistralForCausalLM")
    return {
        "model_type": kind, "architectures": [name], "vocab_size": vocab, "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward_width, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_head_count, "head_dim": shape.head_width,
        "hidden_act": "silu", "rms_norm_eps": shape.norm_epsilon, "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "max_position_embeddings": LONGEST, "tie_word_embeddings": shape.tie_embeddings, "attention_bias": False,
        "mlp_bias": False, "torch_dtype": "float32",
    } | ({} if window is None else {"sliding_window": window})  # fmt: skip


def llama_weights(weights: Mapping[str, Tensor], shape: DenseConfig) -> dict[str, Tensor]:
    """Our names to Llama's; every weight is used once."""
    names = {"embedding": "model.embed_tokens.weight", "norm.weight": "model.norm.weight", "head": "lm_head.weight"}
    parts = {
        "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
        "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj", "attention.output": "self_attn.o_proj",
        "feed_forward.gate": "mlp.gate_proj", "feed_forward.up": "mlp.up_proj", "feed_forward.down": "mlp.down_proj",
    }  # fmt: skip
    for layer in range(shape.layers):
        for ours, theirs in parts.items():
            names[f"blocks.{layer}.{ours}.weight"] = f"model.layers.{layer}.{theirs}.weight"
    return {names[name]: one for name, one in weights.items()}


def _tokenizer(tokenizer: Tokenizer, source: Path, target: Path) -> list[str]:
    end = END_OF_DOCUMENT
    if isinstance(tokenizer, FastTokenizer):
        content = (source / "tokenizer" / "tokenizer.json").read_bytes()
        end = _name_of(json.loads(content), tokenizer.end_of_document)
    elif isinstance(tokenizer, BytesTokenizer):
        content = bytes_as_json().encode()
    else:
        shutil.copytree(source / "tokenizer", target / "tokenizer", dirs_exist_ok=True)
        return [f"a {tokenizer.kind} tokenizer has no tokenizer.json; bloomery reads the folder tokenizer/"]
    write_atomically(target / "tokenizer.json", content)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end,
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    write_atomically(target / "tokenizer_config.json", json.dumps(settings, indent=1).encode())
    return []


def _name_of(content: Mapping[str, Any], wanted: int) -> str:
    """The token with an id, in the text of a tokenizer.json."""
    for token in content.get("added_tokens", ()):
        if token["id"] == wanted:
            return str(token["content"])
    vocab = content["model"]["vocab"]
    pairs = vocab.items() if isinstance(vocab, Mapping) else ((one[0], place) for place, one in enumerate(vocab))
    return next((str(name) for name, place in pairs if place == wanted), END_OF_DOCUMENT)


def bytes_as_json() -> str:
    """The bytes tokenizer as tokenizer.json: byte-level BPE without merges, id b for byte b, then end of document."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Fast

    fast = Fast(models.BPE(vocab={letter: byte for byte, letter in _byte_letters().items()}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken(END_OF_DOCUMENT, special=True, normalized=False)])
    return fast.to_str()


def _byte_letters() -> dict[int, str]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for letters from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}
