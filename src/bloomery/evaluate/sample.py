"""Text from a model: one token after the other, with its cache, until end_of_document or the wanted length.

temperature 0 takes the likeliest token. Otherwise nucleus sampling (Holtzman et al. 2020): the smallest set of tokens
whose probability reaches top_p. Draws come from a generator of their own, on the CPU, so that the same seed gives the
same text and no training run is disturbed.

Small models fall into endless white space: tokens that would lengthen a run of white space beyond `max_whitespace`
characters are not taken. Refuses an empty wish (no token to give, a share of nothing).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    max_whitespace: int | None = 64,
    use_cache: bool = True,
) -> str:
    """What the model writes after `prompt`, without the prompt. An empty prompt begins a document.

    max_whitespace: characters of white space in a row; None: any. use_cache=False runs the whole text through the model
    for every token: slow, for tests. Raises TrainingError for settings that mean nothing.
    """
    if max_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise TrainingError(
            "generate",
            f"max_tokens {max_tokens}, temperature {temperature}, top_p {top_p}",
            "at least one token, a temperature of 0 or more, a share of more than 0 and at most 1",
        )
    if model.vocab < tokenizer.vocab:
        raise TrainingError("generate", f"a tokenizer of {tokenizer.vocab} ids", f"at most {model.vocab}, the model's")
    tokens = [tokenizer.end_of_document, *(int(token) for token in tokenizer.encode(prompt))]
    start = len(tokens)
    generator = torch.Generator().manual_seed(seed)
    limit = None if max_whitespace is None else _Whitespace(tokenizer, model.vocab, max_whitespace)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for logits in _next_logits(model, tokens, max_tokens, use_cache):
                logits[tokenizer.vocab :] = -torch.inf
                if limit is not None:
                    logits[limit.forbidden(tokens[start:])] = -torch.inf
                token = choose(logits, temperature=temperature, top_p=top_p, generator=generator)
                if token == tokenizer.end_of_document:
                    break
                tokens.append(token)
    finally:
        model.train(was_training)
    return tokenizer.decode(tokens[start:])


def _next_logits(
    model: LanguageModel, tokens: list[int], max_tokens: int, use_cache: bool
) -> Iterator[Float[Tensor, " v"]]:
    """Logits after all of `tokens`, which the caller lengthens by one between two steps."""
    device = model.head_weight().device
    state = model.initial_state(1, len(tokens) + max_tokens) if use_cache else None
    unread = 0
    for _ in range(max_tokens):
        output = model(torch.tensor([tokens[unread:]], device=device), state, project=False)
        if use_cache:
            state, unread = output.state, len(tokens)
        logits = model.project(output.hidden[:, -1])[0]
        yield logits.to("cpu", torch.promote_types(logits.dtype, torch.float32), copy=True)


def choose(
    logits: Float[Tensor, " v"], *, temperature: float, top_p: float, generator: torch.Generator | None = None
) -> int:
    """One token id. Equal logits go to the lower id when temperature is 0."""
    if temperature == 0:
        return int(torch.argmax(logits))
    probabilities, order = torch.softmax(logits.double() / temperature, dim=0).sort(descending=True, stable=True)
    before = probabilities.cumsum(0) - probabilities
    probabilities[before >= top_p] = 0.0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


class _Whitespace:
    """Which tokens would make a run of white space too long."""

    def __init__(self, tokenizer: Tokenizer, vocab: int, limit: int) -> None:
        self._limit = limit
        self._texts = [tokenizer.decode([token]) for token in range(tokenizer.vocab)]
        leading = [len(text) - len(text.lstrip()) for text in self._texts]
        self._leading = torch.tensor(leading + [0] * (vocab - tokenizer.vocab))

    def forbidden(self, tokens: list[int]) -> Bool[Tensor, " v"]:
        """Tokens whose leading white space, after what ends `tokens`, passes the limit."""
        run = 0
        for token in reversed(tokens):
            text = self._texts[token]
            run += len(text) - len(text.rstrip())
            if text.strip():
                break
        return (self._leading > 0) & (self._leading + run > self._limit)
