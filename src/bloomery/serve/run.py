"""Run an application on a socket until it is told to stop: SIGINT or SIGTERM, once to finish, twice to go at once.

No new connection is taken then; answers that are being written have `grace_seconds`, after which they are left.
Refuses an address that cannot be bound.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from bloomery.errors import BloomeryError
from bloomery.serve.gate import Application


class Server(uvicorn.Server):
    """uvicorn's, which would raise the signal anew when it has stopped: then a clean end looks like a crash."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises BloomeryError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        hint = "another --port, or 0 for a free one"
        raise BloomeryError(f"{host}:{port}", f"cannot be bound: {error}", "an address of this machine", hint) from None


def run(application: Application, listening: socket.socket, *, grace_seconds: int, ready: Callable[[], None]) -> None:
    """Serve until a signal. `ready` is called when the first request can be answered."""
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, timeout_graceful_shutdown=grace_seconds, lifespan="on",
        server_header=False,
    )  # fmt: skip
    server = Server(config)

    async def serve() -> None:
        async def announce() -> None:
            while not server.started:
                await asyncio.sleep(0.01)
            ready()

        announcing = asyncio.ensure_future(announce())
        await server.serve(sockets=[listening])
        announcing.cancel()

    asyncio.run(serve())
