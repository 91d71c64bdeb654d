"""What every request passes before the application sees it: the key, the size of its body, and the count.

The key is compared in constant time. A body is read whole, up to a limit, before anything is done with it: 413 beyond
it, 408 where it does not arrive in time. Refusals have OpenAI's error body. Source: the ASGI specification, version 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bloomery.serve.metrics import Metrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/healthz")
"""Paths that need no key: the page asks for it, and a probe has none."""
KNOWN = (
    *OPEN,
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/feedback",
    "/v1/packets",
)
BODY_SECONDS = 30.0
LINGER_SECONDS, LINGER_BYTES = 1.0, 1 << 20
"""How long and how much is read, and thrown away, of a body that is refused."""


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class Gate:
    """In front of `application`. max_body: bytes."""

    application: Application
    metrics: Metrics
    max_body: int
    api_key: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = "/v1/feedback" if scope["path"].startswith("/v1/feedback/") else scope["path"]
                self.metrics.requests[path if path in KNOWN else "other", message["status"]] += 1
            await send(message)

        if not self._may_pass(scope):
            message = "a valid API key is needed: Authorization: Bearer KEY"
            await _refuse(counted, 401, error_body(message, "authentication_error", code="invalid_api_key"))
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(scope, receive)
        except TimeoutError:
            await _refuse(counted, 408, error_body("the body did not arrive in time", "invalid_request_error"))
            return
        if body is None:
            await _linger(scope, receive)
            message = f"the body is larger than {self.max_body} bytes"
            await _refuse(counted, 413, error_body(message, "invalid_request_error", code="request_too_large"))
            return
        await self.application(scope, _replayed(body, receive), counted)

    def _may_pass(self, scope: Scope) -> bool:
        if self.api_key is None or scope["path"] in OPEN:
            return True
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, key = sent.partition(b" ")
        return hmac.compare_digest(key.strip(), self.api_key.encode()) and kind.lower() == b"bearer"

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None: too large."""
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > self.max_body:
            return None
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.max_body:
                return None
            more = message["type"] == "http.request" and message.get("more_body", False)
        return bytes(body)


async def _linger(scope: Scope, receive: Receive) -> None:
    """Let a little too much arrive: a connection that is closed with unread bytes in it is reset, and a client that
    still sends never sees the refusal. One that asks first (`expect: 100-continue`) is not asked to send."""
    if any(name == b"expect" for name, _ in scope["headers"]):
        return
    left, more = LINGER_BYTES, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the whole body first, then what comes: the end of the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def _refuse(send: Send, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):  # the rest of the body may still be on its way
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
