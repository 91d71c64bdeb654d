"""Held-out loss of any scorer with episodic caches beside it (caches.py), as perplexity.py scores it without them.

    p(t) = a(0) p_own(t) + sum of a(w, k) c(t | last k tokens)

The model reads windows of `context` tokens as ever; its caches read the whole document, prompts included. Weights are
found on another part, of as many documents. A table that brings caches of its own keeps those and gets no second ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bloomery.data.tokens import TokenFile
from bloomery.evaluate.caches import Caches, Reals
from bloomery.evaluate.perplexity import (
    ROWS_AT_ONCE,
    DocumentScorer,
    PerplexityResult,
    batches,
    result_of,
    spread,
    stream_of,
    token_losses,
)
from bloomery.evaluate.progress import counted
from bloomery.model.interface import LanguageModel, Scorer

BATCH_TOKENS = 4096


def fit_caches(
    scorer: LanguageModel | Scorer,
    tokens: TokenFile,
    *,
    windows: Sequence[int],
    longest: int,
    context: int,
    device: str = "cpu",
    max_documents: int | None = None,
) -> Caches:
    """Weights on a part that the scorer was not fitted on and that is not judged."""
    chosen = spread(tokens.documents, max_documents)
    own = token_probabilities(scorer, tokens, chosen, context=context, device=device)
    return Caches.fit(own, [stream_of(tokens, index) for index in chosen], tokens.vocab, windows, longest)


def cached_perplexity(
    scorer: LanguageModel | Scorer,
    caches: Caches,
    tokens: TokenFile,
    *,
    context: int,
    device: str = "cpu",
    max_documents: int | None = None,
) -> PerplexityResult:
    """As `perplexity`, of the same documents under the same key, so that both are compared item by item."""
    chosen = spread(tokens.documents, max_documents)
    own = token_probabilities(scorer, tokens, chosen, context=context, device=device)
    sums = [
        -float(np.log(caches.mixed(each, stream_of(tokens, index), tokens.vocab)).sum())
        for each, index in counted(list(zip(own, chosen, strict=True)), "documents")
    ]
    return result_of(tokens, chosen, sums)


def token_probabilities(
    scorer: LanguageModel | Scorer, tokens: TokenFile, chosen: list[int], *, context: int, device: str
) -> list[Reals]:
    """For each chosen document, what the scorer gives each of its scored tokens."""
    if isinstance(scorer, DocumentScorer):
        return [
            np.exp(scorer.document_logprobs(stream_of(tokens, index)))[int(tokens.prompts[index]) :] for index in chosen
        ]
    at_once = 1 if isinstance(scorer, LanguageModel) and scorer.sharing == "alone" else BATCH_TOKENS
    found: list[list[Reals]] = [[] for _ in chosen]
    for inputs, targets, slots in batches(tokens, chosen, context, context, at_once):
        nats = torch.full(slots.shape, torch.nan, dtype=torch.float64)
        nats[slots >= 0] = _nats(scorer, inputs.to(device), targets, slots >= 0)
        for row, slot in enumerate(slots.max(dim=1).values.tolist()):
            if slot >= 0:  # windows of a document come in its order: all but the last are equally long
                found[slot].append(np.exp(-nats[row][slots[row] >= 0].numpy()))
    return [np.concatenate(pieces) if pieces else np.zeros(0) for pieces in found]


def _nats(
    scorer: LanguageModel | Scorer, inputs: torch.Tensor, targets: torch.Tensor, scored: torch.Tensor
) -> torch.Tensor:
    """Of every scored position, row by row."""
    wanted = targets[scored].to(inputs.device)
    with torch.inference_mode():
        if not isinstance(scorer, LanguageModel):
            rows = scorer.logprobs(inputs)[scored.to(inputs.device)]
            return -rows.gather(1, wanted[:, None])[:, 0].cpu().double()
        hidden = scorer.eval()(inputs, project=False).hidden[scored.to(inputs.device)]
        parts = zip(hidden.split(ROWS_AT_ONCE), wanted.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([token_losses(scorer.project(some), ids).cpu().double() for some, ids in parts])
