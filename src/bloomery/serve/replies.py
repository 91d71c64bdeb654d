"""What clients get: OpenAI's objects, whole or as chunks of a stream. Source: the OpenAI API reference."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.evaluate.showing import BROKEN
from bloomery.evaluate.writing import Choice, Piece


@dataclass(slots=True)
class Tokens:
    """What a request has used."""

    prompt: int
    completion: int = 0

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """The frame of one answer. `chat`: which of the two kinds."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, answers: Sequence[Sequence[Piece]], beside: Sequence[dict[str, Any] | None], tokens: Tokens
    ) -> dict[str, Any]:
        """answers: the pieces of each choice; beside: what else there is to tell of it."""
        choices = [
            self._whole_choice(index, pieces) | _own(told)
            for index, (pieces, told) in enumerate(zip(answers, beside, strict=True))
        ]
        return {**self._frame("chat.completion"), "choices": choices, "usage": tokens.usage()}

    def first(self, index: int) -> dict[str, Any] | None:
        """What opens a choice of a streamed chat."""
        if not self.chat:
            return None
        return self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def chunk(self, index: int, piece: Piece, beside: dict[str, Any] | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "finish_reason": piece.finish, "logprobs": self._logprobs([piece])}
        if self.chat:
            choice["delta"] = {"content": piece.text} if piece.text else {}
        else:
            choice["text"] = piece.text
        return self._chunk(choice | (_own(beside) if piece.finish else {}))

    def usage(self, tokens: Tokens) -> dict[str, Any]:
        return {**self._frame("chat.completion.chunk"), "choices": [], "usage": tokens.usage()}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {**self._frame("chat.completion.chunk"), "choices": [choice]}

    def _frame(self, kind: str) -> dict[str, Any]:
        prefix, kind = ("chatcmpl", kind) if self.chat else ("cmpl", "text_completion")
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _whole_choice(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        choice = {"index": index, "finish_reason": pieces[-1].finish, "logprobs": self._logprobs(pieces)}
        return choice | ({"message": {"role": "assistant", "content": text}} if self.chat else {"text": text})

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        choices = [choice for piece in pieces for choice in piece.choices]
        if not choices:
            return None
        return {"content": [_chat_logprob(choice) for choice in choices]} if self.chat else _flat_logprobs(choices)


def _own(beside: dict[str, Any] | None) -> dict[str, Any]:
    """A field that OpenAI does not have; its client keeps what it does not know."""
    return {} if beside is None else {"bloomery": beside}


def _chat_logprob(choice: Choice) -> dict[str, Any]:
    best = [_named(text, logprob) for _, text, logprob in choice.likeliest]
    return {**_named(choice.text, choice.logprob), "top_logprobs": best}


def _named(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": None if BROKEN in text else list(text.encode())}


def _flat_logprobs(choices: Sequence[Choice]) -> dict[str, Any]:
    return {
        "tokens": [choice.text for choice in choices],
        "token_logprobs": [_finite(choice.logprob) for choice in choices],
        "top_logprobs": [
            {(f"token_id:{token}" if BROKEN in text else text): _finite(value) for token, text, value in one.likeliest}
            for one in choices
        ],
        "text_offset": [choice.offset for choice in choices],
    }


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI's stand-in for a token without a chance."""
    return max(logprob, -9999.0)
