"""On PYTHONPATH of every process that a test starts: no connection leaves this machine."""

import socket
from typing import Any

LOCAL = ("127.", "::1", "localhost")
_CONNECT, _CONNECT_EX = socket.socket.connect, socket.socket.connect_ex


def _refuse_the_world(connection: socket.socket, address: Any) -> None:
    if connection.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOCAL):
        raise RuntimeError(f"a test tried to connect to {address!r}: the core never touches the network")


def _connect(self: socket.socket, address: Any) -> None:
    _refuse_the_world(self, address)
    return _CONNECT(self, address)


def _connect_ex(self: socket.socket, address: Any) -> int:
    _refuse_the_world(self, address)
    return _CONNECT_EX(self, address)


def block() -> None:
    """From here on every address is refused that is not this machine's own. Plugins may undo it, so say it often."""
    socket.socket.connect = _connect  # type: ignore[method-assign]
    socket.socket.connect_ex = _connect_ex  # type: ignore[method-assign]


block()
