"""A server on a free port of this machine, in a thread of its own, with a tiny model."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.model.dense import Transformer
from bloomery.serve.app import application
from bloomery.serve.batching import Load
from bloomery.serve.cascade import Cascade
from bloomery.serve.desk import Desk
from bloomery.serve.run import bound
from bloomery.serve.source import Model
from support.writers import writer

BYTES = BytesTokenizer()


@dataclass
class Running:
    url: str
    desk: Desk
    model: Transformer
    http: httpx.Client

    def idle(self, seconds: float = 10) -> bool:
        """Whether nothing waits or is written, now or soon."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.desk.load() == Load(0, 0) and not self.desk._asked:
                return True
            time.sleep(0.01)
        return False

    def outcomes(self) -> dict[tuple[str, str], int]:
        """{(member, outcome): how often}, of the first cascade, as /metrics has it."""
        found = re.findall(
            r'^bloomery_cascade_total\{cascade="forge",member="(.+)",outcome="(.+)"\} (\d+)$',
            self.http.get("/metrics").text, re.MULTILINE,
        )  # fmt: skip
        return {(member, outcome): int(count) for member, outcome, count in found}

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"bloomery_{name} "))


@contextmanager
def running(
    *, slots: int = 4, context: int = 256, queue: int = 16, template: ChatTemplate | None = None,
    several: Sequence[Cascade] = (), beside: Sequence[Model] = (), **more: Any,
) -> Iterator[Running]:  # fmt: skip
    """several, beside: what is served with the tiny model."""
    model = writer()
    plain = [Model("tiny", model, BYTES, template or ChatTemplate()), *beside]
    desk = Desk(plain, slots=slots, context=context, queue=queue, several=several)
    listening = bound("127.0.0.1", 0)
    config = uvicorn.Config(application(desk, **more), log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        while not server.started:
            time.sleep(0.01)
            assert thread.is_alive()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Running(url, desk, model, client)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(api_key=None, max_body=20_000) as here:
        yield here


@pytest.fixture(scope="session")
def start() -> Callable[..., Any]:
    return running
