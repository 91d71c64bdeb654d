"""A stream against a loop that knows nothing of caches, pieces or classes."""

import math

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.errors import TrainingError
from bloomery.evaluate.sample import generate, stream
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.model.dense import Transformer
from support.writers import writer

BYTES = BytesTokenizer()


def slow_greedy(model: Transformer, prompt: bytes, count: int, penalty: float) -> tuple[list[int], list[list[float]]]:
    """Tokens, and the model's log-probabilities at each."""
    tokens, told = [256, *prompt], []
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0, -1].double()
        told.append(torch.log_softmax(logits, 0).tolist())
        for token in set(tokens) - {256}:
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        tokens.append(int(logits.argmax()))
    return tokens[1 + len(prompt) :], told


def pieces(model: Transformer, prompt: str, **settings: object) -> list[Piece]:
    given = {"max_whitespace": None, "temperature": 0.0, "top_p": 1.0} | settings
    return list(stream(model, BYTES, prompt, Sampling(**given)))  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [1.0, 1.4, 0.8])
def test_greedy_text_and_logprobs_are_those_of_the_slow_loop(penalty: float) -> None:
    model = writer()
    tokens, told = slow_greedy(model, b"def f", 30, penalty)
    assert 256 not in tokens
    found = pieces(model, "def f", max_tokens=30, repetition_penalty=penalty, logprobs=3)
    assert "".join(piece.text for piece in found) == bytes(tokens).decode(errors="replace")
    assert [piece.finish for piece in found] == [None] * 29 + ["length"]
    choices = [choice for piece in found for choice in piece.choices]
    assert [choice.token for choice in choices] == tokens
    for choice, logprobs in zip(choices, told, strict=True):
        assert choice.logprob == pytest.approx(logprobs[choice.token], abs=1e-4)
        best = sorted(range(257), key=lambda i: -logprobs[i])[:3]
        assert [each for each, _, _ in choice.likeliest] == best
        assert [value for _, _, value in choice.likeliest] == pytest.approx([logprobs[i] for i in best], abs=1e-4)


def test_a_penalty_changes_the_text() -> None:
    model = writer()
    assert slow_greedy(model, b"def f", 30, 1.0)[0] != slow_greedy(model, b"def f", 30, 1.4)[0]


def test_a_stop_string_ends_the_text_and_its_logprobs() -> None:
    model = writer()
    whole = pieces(model, "def f", max_tokens=60, temperature=4.0, seed=5, logprobs=0)
    text = "".join(piece.text for piece in whole)
    at = next(at for at in range(len(text) // 3, len(text)) if text[at : at + 2].isascii())
    stop = text[at : at + 2]
    found = pieces(model, "def f", max_tokens=60, temperature=4.0, seed=5, logprobs=0, stop=(stop,))
    assert "".join(piece.text for piece in found) == text[: text.index(stop)]
    assert found[-1].finish == "stop"
    offsets = [choice.offset for piece in found for choice in piece.choices]
    assert offsets == [
        choice.offset for piece in whole for choice in piece.choices if choice.offset < text.index(stop)
    ]  # fmt: skip


def test_generate_is_the_stream_and_the_seed_decides() -> None:
    model = writer()
    texts = [generate(model, BYTES, "ore", max_tokens=40, temperature=1, seed=seed) for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]
    streamed = stream(model, BYTES, "ore", Sampling(max_tokens=40, temperature=1, seed=7))
    assert "".join(piece.text for piece in streamed) == texts[0]


def test_a_stream_that_is_left_gives_the_model_back_as_it_was() -> None:
    model = writer().train()
    begun = stream(model, BYTES, "ore", Sampling())
    next(begun)
    assert not torch.is_inference_mode_enabled()
    begun.close()
    assert model.training


def test_a_model_that_has_diverged_is_told() -> None:
    model = writer()
    with torch.no_grad():
        model.embedding.fill_(math.nan)
    with pytest.raises(TrainingError, match="not numbers"):
        generate(model, BYTES, "ore", max_tokens=3)
