"""Greedy text from anything with `logprobs`: models through their cache (evaluate/sample.py), other scorers with one
forward pass a token. Ends at end_of_document, at a stop word, or after max_tokens, and is cut before the stop word.
"""

from __future__ import annotations

import torch

from bloomery.data.tokenizer import Tokenizer
from bloomery.evaluate.humaneval import STOP, cut
from bloomery.evaluate.sample import generate
from bloomery.model.interface import LanguageModel, Scorer


def complete(
    scorer: LanguageModel | Scorer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    stop: tuple[str, ...] = STOP,
    device: str = "cpu",
) -> str:
    """What is likeliest after `prompt`, token by token."""
    if isinstance(scorer, LanguageModel):
        text = generate(scorer, tokenizer, prompt, max_tokens=max_tokens, temperature=0, max_whitespace=None)
        return cut(text, stop)
    tokens = [tokenizer.end_of_document, *(int(token) for token in tokenizer.encode(prompt))]
    start = len(tokens)
    with torch.inference_mode():
        while len(tokens) < start + max_tokens:
            last = scorer.logprobs(torch.tensor([tokens], device=device))[0, -1, : tokenizer.vocab]
            token = int(last.argmax())
            text = tokenizer.decode(tokens[start:])
            if token == tokenizer.end_of_document or cut(text, stop) != text:
                break
            tokens.append(token)
    return cut(tokenizer.decode(tokens[start:]), stop)
