"""How far a long evaluation has come: told by the loops that take long, heard by whoever shows it, kept by nobody.

Suites are pure functions that know no screen, so whoever wants to hear says so around the call. Listeners belong to the
thread that set them. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Listener = Callable[[int, int, str], None]
"""(done, of how many, of what)"""
Item = TypeVar("Item")

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(done: int, total: int, what: str) -> None:
    """Costs next to nothing where nobody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total, what)


def counted(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items; after each that was worked on, tells of it."""
    for number, item in enumerate(items, start=1):
        yield item
        tell(number, len(items), what)
