"""Held-out loss: every token of every document scored exactly once, its end_of_document included, its prompt not.

The first token of a document is predicted from end_of_document, so that no document sees another. Longer documents
are cut into windows of `context` targets; a window's first input is the token before its first target. With a `stride`
below `context` windows overlap and each scores only the targets that no earlier one has: slower, and lower in loss.
loss = sum of nats / tokens; bits per byte = sum of nats / (ln 2 * bytes), comparable across tokenizers.

Token losses are float32 (float64 for float64 models), their sums float64. Windows of like length share a batch; padding
stands to the right, where a causal model cannot see it. Refuses a scorer of another vocabulary and an empty file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError
from bloomery.evaluate.progress import counted, tell
from bloomery.measure import Items
from bloomery.model.interface import LanguageModel, Scorer

ROWS_AT_ONCE = 1024
"""Positions whose logits exist at a time."""


@runtime_checkable
class DocumentScorer(Protocol):
    """A scorer that needs no windows: a count table knows its own short history."""

    vocab: int

    def document_logprobs(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """tokens [n + 1]: end_of_document, then the document. Natural-log probability of each token after the first."""
        ...


@dataclass(frozen=True, slots=True)
class PerplexityResult:
    """Sums by document, in the order of the file. A document is the unit that intervals resample."""

    key: str
    """Which documents, by content: results with equal keys may be paired."""
    loss_sums: tuple[float, ...]
    """Nats."""
    token_counts: tuple[int, ...]
    byte_counts: tuple[int, ...]
    exact: tuple[bool, ...] = ()
    """Of a model: whether every scored token was its likeliest, so that it would write just this after the prompt."""

    @property
    def tokens(self) -> int:
        return sum(self.token_counts)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return math.fsum(self.loss_sums) / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is beyond floating point."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        return math.fsum(self.loss_sums) / (math.log(2) * max(1, sum(self.byte_counts)))

    def items(self) -> Items:
        """Loss as paired items: document, nats, tokens."""
        return Items(self.key, self.loss_sums, tuple(float(count) for count in self.token_counts))

    def items_of_perplexity(self) -> Items:
        """The same as those of a perplexity, which is exp of the loss."""
        return replace(self.items(), exponential=True)

    def items_per_byte(self) -> Items:
        """Bits per byte as paired items: document, bits, bytes."""
        bits = tuple(nats / math.log(2) for nats in self.loss_sums)
        return Items(f"{self.key}:bytes", bits, tuple(float(count) for count in self.byte_counts))


def perplexity(
    scorer: LanguageModel | Scorer | DocumentScorer,
    tokens: TokenFile,
    *,
    context: int,
    batch_tokens: int = 4096,
    device: str = "cpu",
    max_documents: int | None = None,
    stride: int | None = None,
    documents: Sequence[int] | None = None,
) -> PerplexityResult:
    """Score `tokens` with a model that lies on `device`, or with any other scorer.

    batch_tokens: positions per forward pass. max_documents: that many, evenly spread over the file; or `documents`, by
    their places. stride: targets that a window scores after the first; None: `context`, no overlap. Raises DataError
    for a vocabulary that does not fit.
    """
    step = context if stride is None else stride
    assert 1 <= step <= context
    if scorer.vocab != tokens.vocab:
        raise DataError(
            str(tokens.path), f"{tokens.vocab} token ids", f"{scorer.vocab}, the scorer's", "the tokenizers differ"
        )
    if tokens.documents == 0:
        raise DataError(str(tokens.path), "no documents", "something to score")
    chosen = spread(tokens.documents, max_documents) if documents is None else list(documents)
    exact: list[bool] = []
    if isinstance(scorer, LanguageModel):
        at_once = 1 if scorer.sharing == "alone" else batch_tokens
        sums, exact = _score_with_model(scorer, tokens, chosen, context, step, at_once, device)
    elif isinstance(scorer, DocumentScorer):
        sums = [
            -float(scorer.document_logprobs(stream_of(tokens, index))[tokens.prompts[index] :].sum())
            for index in counted(chosen, "documents")
        ]
    else:
        sums = _score_windows(scorer, tokens, chosen, context, step, batch_tokens, device)
    return result_of(tokens, chosen, sums, exact=exact, by_place=documents is not None)


def result_of(
    tokens: TokenFile, chosen: list[int], sums: Sequence[float], *, exact: Sequence[bool] = (), by_place: bool = False
) -> PerplexityResult:
    """The result of these nats of the chosen documents. by_place: any choice, not the evenly spread one."""
    counts = tuple(len(tokens.document(index)) - int(tokens.prompts[index]) for index in chosen)
    key = tokens.digest if len(chosen) == tokens.documents else f"{tokens.digest}:{len(chosen)}"
    if by_place:
        key = f"{tokens.digest}:{hashlib.sha256(repr(chosen).encode()).hexdigest()[:16]}"
    scored_bytes = tuple(int(tokens.byte_counts[index]) for index in chosen)
    return PerplexityResult(key, tuple(sums), counts, scored_bytes, tuple(exact))


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` indices, evenly spread, from the first on."""
    if limit is None or limit >= count:
        return list(range(count))
    return [index * count // limit for index in range(limit)]


@dataclass(frozen=True, slots=True)
class Window:
    """Targets [start, stop) of a document; those from `first` on are scored."""

    slot: int
    """Place of the document among the chosen ones."""
    start: int
    first: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def windows(lengths: list[int], context: int, stride: int) -> list[Window]:
    """Windows that score every target of every document once; the longest first, so that a batch has like lengths."""
    found = []
    for slot, length in enumerate(lengths):
        scored = 0
        while scored < length:
            stop = min(length, scored + (context if scored == 0 else stride))
            found.append(Window(slot, max(0, scored - (context - stride)), scored, stop))
            scored = stop
    return sorted(found, key=lambda window: -window.length)


def stream_of(tokens: TokenFile, index: int) -> NDArray[np.int64]:
    """end_of_document, then the document with its own end_of_document."""
    return np.concatenate(([tokens.end_of_document], tokens.document(index))).astype(np.int64)


def batches(
    tokens: TokenFile, chosen: list[int], context: int, stride: int, batch_tokens: int
) -> Iterator[tuple[Int[Tensor, "b t"], Int[Tensor, "b t"], Int[Tensor, "b t"]]]:
    """Inputs, targets, and the slot of the document that a position is scored for (-1: not scored)."""
    lengths = [int(tokens.starts[index + 1] - tokens.starts[index]) for index in chosen]
    ordered = windows(lengths, context, stride)
    start = 0
    while start < len(ordered):
        width = ordered[start].length
        group = ordered[start : start + max(1, batch_tokens // width)]
        start += len(group)
        inputs = np.full((len(group), width), tokens.end_of_document, dtype=np.int64)
        targets, slots = inputs.copy(), np.full_like(inputs, -1)
        for row, window in enumerate(group):
            # Target j of a document is stream[j + 1], its input stream[j].
            first = int(tokens.starts[chosen[window.slot]])
            content = tokens.tokens[first + window.start : first + window.stop]
            targets[row, : window.length] = content
            inputs[row, 1 : window.length] = content[:-1]
            if window.start > 0:
                inputs[row, 0] = tokens.tokens[first + window.start - 1]
            first_scored = max(window.first, int(tokens.prompts[chosen[window.slot]]))
            slots[row, first_scored - window.start : window.length] = window.slot
        yield torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(slots)
        tell(start, len(ordered), "windows")


def _score_with_model(
    model: LanguageModel,
    tokens: TokenFile,
    chosen: list[int],
    context: int,
    stride: int,
    batch_tokens: int,
    device: str,
) -> tuple[list[float], list[bool]]:
    """Nats of every document, and whether the model's likeliest token was right throughout."""
    sums, wrong = torch.zeros(len(chosen), dtype=torch.float64), torch.zeros(len(chosen), dtype=torch.int64)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for inputs, targets, slots in batches(tokens, chosen, context, stride, batch_tokens):
                scored = slots >= 0
                hidden = model(inputs.to(device), project=False).hidden[scored.to(device)]
                pieces = zip(
                    *(each.split(ROWS_AT_ONCE) for each in (hidden, targets[scored], slots[scored])), strict=True
                )
                for rows, wanted, of in pieces:
                    logits, wanted = model.project(rows), wanted.to(device)
                    sums.index_add_(0, of, token_losses(logits, wanted).cpu().double())
                    wrong.index_add_(0, of, (~are_likeliest(logits, wanted)).cpu().long())
    finally:
        model.train(was_training)
    return sums.tolist(), (wrong == 0).tolist()


def token_losses(logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log softmax(logits)[target] in nats, at least float32."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def are_likeliest(scores: Float[Tensor, "n v"], targets: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """scores.argmax(-1) == targets, at half of what argmax costs a CPU in bf16 (benchmarks/likeliest.py): only
    targets that equal the largest score are looked up, since another id may hold it too, and the first counts."""
    found = scores.gather(1, targets[:, None])[:, 0] == scores.amax(-1)
    rows = found.nonzero()[:, 0]
    found[rows] = scores[rows].argmax(-1) == targets[rows]
    return found


def _score_windows(
    scorer: Scorer, tokens: TokenFile, chosen: list[int], context: int, stride: int, batch_tokens: int, device: str
) -> list[float]:
    sums = torch.zeros(len(chosen), dtype=torch.float64)
    with torch.inference_mode():
        for inputs, targets, slots in batches(tokens, chosen, context, stride, batch_tokens):
            scored = slots >= 0
            found = scorer.logprobs(inputs.to(device)).cpu().gather(2, targets[:, :, None])[:, :, 0]
            sums.index_add_(0, slots[scored], -found[scored].double())
    return sums.tolist()
