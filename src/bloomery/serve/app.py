"""The HTTP application: OpenAI's completions and chat over the models of a Desk.

GET / (a page to try models by hand), /healthz, /metrics, /v1/models; POST /v1/completions, /v1/chat/completions, whole
or as server-sent events; /v1/feedback (feedback.py), /v1/packets (packets.py). A client that goes away ends its texts.
Errors have OpenAI's body, and never what was sent.

Refuses: unknown models (404), what is no request or asks for more tokens than the context holds (400), bodies that are
too large (413), missing keys (401), more requests than the queue holds (429 with Retry-After).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from bloomery import __version__
from bloomery.evaluate.writing import Piece
from bloomery.serve.batching import Event, Failure
from bloomery.serve.desk import Desk
from bloomery.serve.feedback import add_feedback
from bloomery.serve.gate import Application, Gate, Receive, Scope, Send, error_body
from bloomery.serve.metrics import Metrics
from bloomery.serve.packets import Inbox, add_packets, watch
from bloomery.serve.replies import Reply, Tokens
from bloomery.serve.source import Answers, Question, Refusal, Source, Wish
from bloomery.serve.wire import Asked, ChatAsked, CompletionAsked, ErrorReply

DEFAULT_COMPLETION_TOKENS = 16
"""As OpenAI's; a chat may fill the context."""
CLIENT_GONE = 499
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorReply} for status in ("4XX", "5XX")}


def application(
    desk: Desk, *, api_key: str | None = None, max_body: int = 2**20, inboxes: Sequence[Inbox] = ()
) -> Application:
    """An ASGI application. max_body: bytes of a request. inboxes: folders that are watched while it runs."""
    metrics = Metrics()
    return Gate(_routes(desk, metrics, inboxes), metrics, max_body, api_key)


def _routes(desk: Desk, metrics: Metrics, inboxes: Sequence[Inbox]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        desk.open()
        watching = asyncio.ensure_future(watch(inboxes))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await desk.close()

    # The interactive documentation would load scripts from elsewhere.
    app = FastAPI(title="Bloomery", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _answer_errors(app)
    began = int(time.time())
    page = resources.files("bloomery.serve").joinpath("page.html").read_text(encoding="utf-8")

    async def show_page() -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY, "cache-control": "no-store"})

    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    async def tell_metrics() -> Response:
        load = desk.load()
        text = metrics.text(
            waiting=load.waiting, running=load.running, cancelled=desk.cancelled, outcomes=desk.outcomes()
        )
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models() -> dict[str, Any]:
        listed = [
            {"id": name, "object": "model", "created": began, "owned_by": "bloomery"} for name in desk.names
        ]  # fmt: skip
        return {"object": "list", "data": listed}

    async def completions(asked: CompletionAsked, request: Request) -> Response:
        source = desk.source(asked.model)
        questions = [await run_in_threadpool(source.read, prompt) for prompt in asked.prompts()]
        wishes = _wishes(asked, questions, asked.max_tokens or DEFAULT_COMPLETION_TOKENS, source.context)
        return await _answer(source, wishes, asked, Reply(asked.model, chat=False), questions, request)

    async def chat(asked: ChatAsked, request: Request) -> Response:
        source = desk.source(asked.model)
        question = await run_in_threadpool(source.conversation, [message.plain() for message in asked.messages])
        most = asked.max_completion_tokens or asked.max_tokens or max(1, source.context - question.shortest)
        wishes = _wishes(asked, [question], most, source.context)
        return await _answer(source, wishes, asked, Reply(asked.model, chat=True), [question], request)

    async def _answer(
        source: Source, wishes: Sequence[Wish], asked: Asked, reply: Reply, questions: Sequence[Question],
        request: Request,
    ) -> Response:  # fmt: skip
        answers = source.answer(wishes, streamed=bool(asked.stream))
        tokens = Tokens(sum(question.counted for question in questions))
        metrics.prompt_tokens += tokens.prompt
        rounds = _watched(answers, tokens, metrics)
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return Streamed(_server_sent(rounds, answers, reply, tokens, usage=usage), answers.close)
        try:
            return await _unless_gone(_collected(rounds, answers, reply, tokens), request.receive)
        finally:
            answers.close()

    app.get("/", include_in_schema=False)(show_page)
    app.get("/healthz")(healthz)
    app.get("/metrics", response_class=PlainTextResponse)(tell_metrics)
    app.get("/v1/models")(models)
    app.post("/v1/completions", responses=REFUSALS)(completions)
    app.post("/v1/chat/completions", responses=REFUSALS)(chat)
    add_feedback(app, desk, REFUSALS)
    add_packets(app, desk, REFUSALS)
    return app


def _wishes(
    asked: CompletionAsked | ChatAsked, questions: Sequence[Question], max_tokens: int, context: int
) -> list[Wish]:
    """Every prompt, n times. Raises Refusal where one does not fit into the context."""
    longest = max(question.shortest for question in questions)
    if longest + max_tokens > context:
        message = f"{longest} tokens of prompt and {max_tokens} of answer are more than the {context} of the context"
        raise Refusal(400, message, code="context_length_exceeded")
    each = asked.sampling(max_tokens, asked.likeliest)
    return [(question, sampling) for question in questions for sampling in each]


async def _watched(answers: Answers, tokens: Tokens, metrics: Metrics) -> AsyncIterator[list[tuple[int, Event]]]:
    """The rounds, counted."""
    began, first = time.monotonic(), True
    async for found in answers.rounds():
        if first:
            metrics.first_token(time.monotonic() - began)
            first = False
        taken = sum(event.taken for _, event in found if isinstance(event, Piece))
        tokens.completion += taken
        metrics.completion_tokens += taken
        yield found


async def _collected(
    rounds: AsyncIterator[list[tuple[int, Event]]], answers: Answers, reply: Reply, tokens: Tokens
) -> Response:
    pieces: list[list[Piece]] = [[] for _ in range(answers.count)]
    async for found in rounds:
        for number, event in found:
            if isinstance(event, Failure):
                return JSONResponse(error_body(event.reason, "server_error"), 500)
            pieces[number].append(event)
    beside = [answers.beside(number) for number in range(answers.count)]
    return JSONResponse(reply.whole(pieces, beside, tokens))


async def _server_sent(
    rounds: AsyncIterator[list[tuple[int, Event]]], answers: Answers, reply: Reply, tokens: Tokens, *, usage: bool
) -> AsyncIterator[bytes]:
    """One `data:` line an event; those of a round together."""
    opening = [first for number in range(answers.count) if (first := reply.first(number)) is not None]
    if opening:
        yield b"".join(map(_data, opening))
    async for found in rounds:
        lines: list[bytes] = []
        for number, event in found:
            if isinstance(event, Failure):
                yield b"".join([*lines, _data(error_body(event.reason, "server_error"))])
                return
            if event.text or event.finish or event.choices:
                lines.append(_data(reply.chunk(number, event, answers.beside(number))))
        if lines:
            yield b"".join(lines)
    yield (_data(reply.usage(tokens)) if usage else b"") + b"data: [DONE]\n\n"


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


class Streamed(Response):
    """Sends chunks until they end or the client is gone; `close` is called in every case, begun or not."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], close: Callable[[], None]) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._chunks, self._close = chunks, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write() -> Response:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return self

        try:
            await _unless_gone(write(), receive)
        except OSError:  # the client went away while we wrote
            pass
        finally:
            self._close()


async def _unless_gone(work: Any, receive: Receive) -> Response:
    """The result of the coroutine `work`, which is left when the client disconnects."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=CLIENT_GONE)
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def _answer_errors(app: FastAPI) -> None:
    """OpenAI's error bodies for everything. What was sent is not repeated: it may be no JSON."""

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        headers = {"retry-after": "1"} if error.status in (429, 503) else None
        body = error_body(error.message, error.kind, param=error.param, code=error.code)
        return JSONResponse(body, error.status, headers)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return JSONResponse(error_body(_sayable(message), "invalid_request_error", param=_sayable(where) or None), 400)

    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
        return JSONResponse(error_body(str(error.detail), kind), error.status_code, error.headers)

    async def broken(_request: Request, _error: Exception) -> Response:
        return JSONResponse(error_body("an error of the server's own; its log says which", "server_error"), 500)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, failed)
    app.add_exception_handler(Exception, broken)


def _sayable(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot say."""
    return text.encode(errors="replace").decode()
