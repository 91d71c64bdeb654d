"""Votes on the answers of cascades: POST /v1/feedback {id, score, correction}, DELETE /v1/feedback/{event}.

A vote names an answer by the `bloomery.id` that came with it, and says -1 to 1, or `bad` or `good`. It has an event
id, by which it is taken back. What it does to weights stands in evaluate/cascade/feedback.py, and what becomes of texts
that are kept, of answers voted down and what corrects them, in stages/feedback.py.

Refuses answers and votes that nobody knows (404), more votes on one answer than are kept (429), a correction that is
not kept (400), and a vote that cannot be stored (503): then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from bloomery.errors import BloomeryError, DataError
from bloomery.evaluate.cascade.feedback import TooMany, Unknown
from bloomery.serve.desk import Desk
from bloomery.serve.source import Refusal
from bloomery.serve.wire import FeedbackAsked


def add_feedback(app: FastAPI, desk: Desk, refusals: dict[int | str, dict[str, Any]]) -> None:
    # Not coroutines: they wait for the disk, on a thread of the pool.
    def vote(asked: FeedbackAsked) -> dict[str, Any]:
        nothing = f"no answer {asked.id!r} is known here"
        told = _first(desk, lambda each: each.vote(asked.id, asked.value, asked.correction), nothing, "id")
        return {"object": "feedback", **told}

    def undo(event: str) -> dict[str, Any]:
        told = _first(desk, lambda each: each.undo(event), f"no vote {event!r} stands here", "event")
        return {"object": "feedback.deleted", **told}

    app.post("/v1/feedback", responses=refusals)(vote)
    app.delete("/v1/feedback/{event}", responses=refusals)(undo)


def _first(desk: Desk, act: Callable[[Any], dict[str, Any]], nothing: str, param: str) -> dict[str, Any]:
    """Of the cascade that knows it."""
    for group in desk.several:
        try:
            return {"model": group.name, **act(group.ledger)}
        except Unknown:
            continue
        except TooMany:
            message = "this answer has as many votes as are kept; take one back"
            raise Refusal(429, message, kind="rate_limit_error", code="too_many_votes") from None
        except DataError as error:
            raise Refusal(400, f"{error.where}: {error.found}; expected: {error.expected}", param=error.where) from None
        except BloomeryError:  # its text names folders of this machine
            raise Refusal(503, "the vote could not be stored; nothing has changed", kind="server_error") from None
    raise Refusal(404, nothing, param=param, code="not_found")
