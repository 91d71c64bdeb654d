"""How likely a model finds a continuation of a context: what every choice between answers rests on.

    full = (context + continuation)[-(window + 1):];  feed full[:-1];  read the last len(continuation) positions

So a context that is too long loses its beginning, never its end (lm-evaluation-harness 0.4, HFLM). An empty context is
for the caller to fill, with end_of_document. Log-probabilities are natural, float32 or better, summed in float64.

No token is read twice where the model can share it (`LanguageModel.sharing`); the scores are those of one forward pass
a request. Requests that end in the same token of a context read one row, if its inputs begin alike; the rows of a
context share its state, and contexts share the state of what they have in common (reuse.py). Hidden states are
projected at scored positions only.

Refuses an empty continuation or context, and a continuation that does not fit into the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.errors import DataError
from bloomery.evaluate.perplexity import are_likeliest
from bloomery.evaluate.progress import tell
from bloomery.evaluate.reuse import Feeder, Passes, Row, pieces, walk
from bloomery.model.interface import LanguageModel, Scorer

ROWS_AT_ONCE = 1024
"""Positions whose logits exist at a time."""


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids: what stands there, and what might follow."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one request."""

    logprob: float
    """Natural log-probability of the whole continuation."""
    greedy: bool
    """Whether each of its tokens was the likeliest."""


@dataclass(frozen=True, slots=True)
class Scored:
    """All scores, in the order of the requests, and what they cost."""

    scores: tuple[Score, ...]
    tokens: int
    """Positions read by the model, padding included."""
    passes: int
    """Forward passes."""


def fed(request: Request, window: int) -> list[int]:
    """The input tokens, and one target more at the end. Raises DataError for what cannot be scored."""
    wanted = len(request.continuation)
    if not wanted or not request.context or wanted > window:
        raise DataError(
            "a request",
            f"{len(request.context)} context and {wanted} continuation tokens",
            f"at least one of each, and at most {window} of the continuation",
        )
    return list((*request.context, *request.continuation)[-(window + 1) :])


def score(
    scorer: LanguageModel | Scorer, requests: Sequence[Request], *, window: int, device: str = "cpu"
) -> list[Score]:
    """The scores alone. See `score_all`."""
    return list(score_all(scorer, requests, window=window, device=device).scores)


def score_all(
    scorer: LanguageModel | Scorer, requests: Sequence[Request], *, window: int, device: str = "cpu"
) -> Scored:
    """Scores of all requests with a model that lies on `device`, or with any other scorer.

    Raises DataError for a request that cannot be scored (`fed`), before anything is read.
    """
    whole = [fed(request, window) for request in requests]
    wanted = [len(request.continuation) for request in requests]
    scores: list[Score | None] = [None] * len(requests)
    passes = Passes()
    with torch.inference_mode():
        if not isinstance(scorer, LanguageModel):
            _fill(scores, whole, wanted, _by_scorer(scorer, whole, wanted, device, passes))
        else:
            was_training = scorer.training
            scorer.eval()
            try:
                _fill(scores, whole, wanted, _by_model(scorer, whole, wanted, device, passes))
            finally:
                scorer.train(was_training)
    found = tuple(one for one in scores if one is not None)
    assert len(found) == len(requests)
    return Scored(found, passes.tokens, passes.passes)


Read = tuple[list[int], Tensor, Tensor]
"""Requests; log-probabilities of their target tokens, one after the other; whether each was the likeliest token."""


def _fill(scores: list[Score | None], whole: list[list[int]], wanted: list[int], read: Iterable[Read]) -> None:
    done = 0
    for requests, logprobs, likeliest in read:
        sums, start = logprobs.double().cpu(), 0
        right = likeliest.cpu()
        for request in requests:
            stop = start + wanted[request]
            scores[request] = Score(float(sums[start:stop].sum()), bool(right[start:stop].all()))
            start = stop
        done += len(requests)
        tell(done, len(scores), "continuations")


def _by_model(
    model: LanguageModel, whole: list[list[int]], wanted: list[int], device: str, passes: Passes
) -> Iterable[Read]:
    feed = Feeder(model, device, passes)
    groups = walk(feed, whole, wanted) if model.sharing in ("snapshot", "crop") else pieces(feed, whole, wanted)
    for rows, hidden in groups:
        requests, at, targets = _places(rows, whole, wanted)
        where = torch.tensor(at, device=hidden.device)
        picked = hidden[where[:, 0], where[:, 1]]
        wished = torch.tensor(targets, device=hidden.device)
        parts = [
            _look(torch.log_softmax(_precise(model.project(part)), dim=-1), ids)
            for part, ids in zip(picked.split(ROWS_AT_ONCE), wished.split(ROWS_AT_ONCE), strict=True)
        ]
        yield requests, torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])


def _by_scorer(
    scorer: Scorer, whole: list[list[int]], wanted: list[int], device: str, passes: Passes
) -> Iterable[Read]:
    for rows, logprobs in pieces(Feeder(scorer, device, passes), whole, wanted):
        requests, at, targets = _places(rows, whole, wanted)
        where = torch.tensor(at, device=logprobs.device)
        logprobs = logprobs[where[:, 0], where[:, 1]]
        yield requests, *_look(logprobs, torch.tensor(targets, device=logprobs.device))


def _places(
    rows: Sequence[Row], whole: list[list[int]], wanted: list[int]
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Requests of the rows, and for each of their targets the row and position that predict it, and its id."""
    requests = [request for row in rows for request, _ in row.readers]
    at = [
        (number, first + step)
        for number, row in enumerate(rows)
        for request, first in row.readers
        for step in range(wanted[request])
    ]
    targets = [token for request in requests for token in whole[request][-wanted[request] :]]
    return requests, at, targets


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _look(logprobs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logprobs.gather(1, targets[:, None])[:, 0], are_likeliest(logprobs, targets)
