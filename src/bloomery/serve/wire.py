"""What clients send: OpenAI's completion and chat requests, with vLLM's names for what OpenAI does not have.

Unknown fields are passed over, as clients grow faster than servers. A field that would change the answer and that is
not kept here (tools, logit_bias, penalties other than repetition_penalty) is refused unless it is empty.
Source: the OpenAI API reference, /v1/completions and /v1/chat/completions.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bloomery.evaluate.sampling import SEEDS, Sampling

MOST_CHOICES, MOST_LIKELIEST, MOST_STOPS, LONGEST_STOP = 8, 20, 8, 200
LONGEST_CORRECTION = 20_000
"""Characters. Those of the newest thousand votes are written again at every vote (stages/feedback.py)."""
Number = Annotated[float, Field(allow_inf_nan=False)]


def _sayable(text: str) -> str:
    """JSON can spell half of a surrogate pair, which no text holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode: a lone surrogate") from None
    return text


Text = Annotated[str, AfterValidator(_sayable)]
Stop = Annotated[Text, Field(min_length=1, max_length=LONGEST_STOP)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class StreamOptions(Sent):
    include_usage: bool = False


class Asked(Sent):
    """What both kinds of request share."""

    model: Text
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    seed: Annotated[int, Field(ge=SEEDS[0], le=SEEDS[1])] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = None

    @model_validator(mode="after")
    def _supported(self) -> Asked:
        for name in self.refused():
            if getattr(self, name):
                raise ValueError(f"{name} is not supported")
        return self

    def refused(self) -> tuple[str, ...]:
        return ("presence_penalty", "frequency_penalty", "logit_bias")

    @property
    def choices(self) -> int:
        return self.n or 1

    def sampling(self, max_tokens: int, likeliest: int | None) -> list[Sampling]:
        """One for each of the n choices: seed, seed + 1, ... (drawn where none is given)."""
        seed = secrets.randbelow(2**31) if self.seed is None else self.seed
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return [
            Sampling(
                max_tokens=max_tokens,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_k=max(0, self.top_k or 0),
                top_p=self.top_p or 1.0,
                min_p=self.min_p or 0.0,
                repetition_penalty=self.repetition_penalty or 1.0,
                stop=stop,
                seed=(seed + number - SEEDS[0]) % 2**64 + SEEDS[0],
                logprobs=likeliest,
            )
            for number in range(self.choices)
        ]


class CompletionAsked(Asked):
    prompt: Text | TokenIds | Annotated[list[Text] | list[TokenIds], Field(min_length=1, max_length=64)]
    """Text, or token ids; or several of one kind, each answered n times."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELIEST)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    def refused(self) -> tuple[str, ...]:
        return (*super().refused(), "echo", "suffix")

    @model_validator(mode="after")
    def _no_best(self) -> CompletionAsked:
        if self.best_of not in (None, self.choices):
            raise ValueError("best_of other than n is not supported")
        return self

    @property
    def likeliest(self) -> int | None:
        return self.logprobs

    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [each for each in self.prompt if not isinstance(each, int)]


class TextPart(Sent):
    type: Literal["text"]
    text: Text


class Message(Sent):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatAsked(Asked):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELIEST)] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    def refused(self) -> tuple[str, ...]:
        return (*super().refused(), "tools", "functions")

    @model_validator(mode="after")
    def _text_only(self) -> ChatAsked:
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format other than text is not supported")
        return self

    @property
    def likeliest(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class FeedbackAsked(Sent):
    """A vote on an answer."""

    id: Annotated[Text, Field(min_length=1, max_length=100)]
    """Of the answer: its `bloomery.id`."""
    score: Annotated[Number, Field(ge=-1, le=1)] | Literal["good", "bad"]
    correction: Annotated[Text, Field(max_length=LONGEST_CORRECTION)] = ""
    """What would have been right, of an answer that is voted down."""

    @property
    def value(self) -> float:
        return {"good": 1.0, "bad": -1.0}[self.score] if isinstance(self.score, str) else self.score


class PacketAsked(Sent):
    """A text that a cascade is to know of."""

    model: Annotated[Text, Field(min_length=1)]
    """The cascade."""
    name: Annotated[Text, Field(min_length=1, max_length=200)]
    """What people call it."""
    text: Text


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """The body of every answer that is none."""

    error: ErrorBody
