"""Cascades of small members, with their votes in a folder."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import BytesTokenizer, Tokenizer
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.routing import Relevance, packets_of
from bloomery.evaluate.ngram import NGram
from bloomery.model.interface import LanguageModel, Scorer
from bloomery.serve.cascade import Cascade
from bloomery.serve.source import Model
from bloomery.stages.feedback import Ledger

BYTES = BytesTokenizer()
TEXT = b"the furnace makes iron from ore and we weigh what comes out of it; " * 3


def table(order: int = 3) -> NGram:
    tokens = np.array([256, *TEXT, 256, *TEXT[7:]])
    return NGram.fit([tokens], order=order, vocab=257, end_of_document=256)


class Broken:
    """Its probabilities are no numbers; or an exception of its own, from the `after`th token on."""

    def __init__(self, error: Exception | None = None, after: int = 0) -> None:
        self.vocab, self.error, self.left = 257, error, after

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left >= 0:
            return torch.full((*tokens.shape, 257), -math.log(257))
        if self.error is not None:
            raise self.error
        return torch.full((*tokens.shape, 257), math.nan)


class Stuck:
    """Gives nothing before it is let go; then any token, as likely as any other."""

    def __init__(self, free: int = 0) -> None:
        """free: tokens that it gives before."""
        self.vocab, self.go, self.left = 257, threading.Event(), free

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        assert self.left >= 0 or self.go.wait(60)
        return torch.full((*tokens.shape, 257), -math.log(257))


def card(members: Mapping[str, Mapping[str, Any]], **more: Any) -> Card:
    written = [{"name": name, "model": "x", **settings} for name, settings in members.items()]
    return Card.model_validate({"cascade": 1, "name": "forge", "members": written, **more})


@contextmanager
def cascade(
    folder: Path, made: Card, models: Mapping[str, LanguageModel | Scorer], *, packets: Mapping[str, str] | None = None,
    tokenizers: Mapping[str, Tokenizer] | None = None, templates: Mapping[str, ChatTemplate] | None = None,
    texts: bool = False,
) -> Iterator[Cascade]:  # fmt: skip
    """models: by the names of the card. texts: the ledger keeps them."""
    served = [
        Model(name, models[name], (tokenizers or {}).get(name, BYTES), (templates or {}).get(name, ChatTemplate()))
        for name in made.names
    ]
    relevance = Relevance.of({name: packets_of(text) for name, text in (packets or {}).items()})
    with Ledger(folder, made, texts=texts) as ledger:
        yield Cascade(made, served, relevance, ledger)
