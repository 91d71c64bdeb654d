"""Text from a model, with its cache, or from any scorer: one token after the other, until end_of_document or the wanted
length.

How a token is chosen stands in sampling.py, what a text is in writing.py. Several texts at once are for
serve/batching.py, which gives each the text that it has here.

Refuses an empty wish (no token to give, a share of nothing).
"""

from __future__ import annotations

from collections.abc import Iterator

from bloomery.data.tokenizer import Tokenizer
from bloomery.evaluate.decoding import Alone, Decoding, decoding
from bloomery.evaluate.sampling import Sampling, choose
from bloomery.evaluate.writing import Piece, Vocabulary, Writing
from bloomery.model.interface import LanguageModel, Scorer

__all__ = ["choose", "generate", "stream"]


def generate(
    model: LanguageModel | Scorer,
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
    """What the model writes after `prompt`, without the prompt: all of `stream`, for the settings most in use."""
    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, max_whitespace=max_whitespace
    )
    return "".join(piece.text for piece in stream(model, tokenizer, prompt, sampling, use_cache=use_cache))


def stream(
    model: LanguageModel | Scorer, tokenizer: Tokenizer, prompt: str, sampling: Sampling, *, use_cache: bool = True
) -> Iterator[Piece]:
    """The same, piece by piece; the last has a `finish`. An empty prompt begins a document.

    use_cache=False runs the whole text through the model for every token: slow, for tests. Raises TrainingError for a
    tokenizer that is too large for the model, and for logits that are not numbers.
    """
    vocabulary = Vocabulary(model, tokenizer)
    tokens = vocabulary.prompt(prompt)
    writing = Writing(vocabulary, tokens, sampling)
    if not isinstance(model, LanguageModel):
        yield from _written(
            writing, decoding(model, slots=1, length=len(tokens) + sampling.max_tokens), tokens, sampling
        )
        return
    was_training = model.training
    model.eval()
    try:
        yield from _written(writing, Alone(model, use_cache=use_cache), tokens, sampling)
    finally:
        model.train(was_training)


def _written(writing: Writing, decoder: Decoding, tokens: list[int], sampling: Sampling) -> Iterator[Piece]:
    logits = decoder.add(tokens, len(tokens) + sampling.max_tokens)
    while True:
        yield writing.take(logits)
        if writing.finish is not None:
            return
        logits = decoder.step(writing.tokens[-1:])[0]
