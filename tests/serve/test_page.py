"""The chat page in a real browser: it streams, shows errors, and its stop button ends the text on the server too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.model.dense import Transformer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
         "--no-first-run", "--disable-background-networking", "--disable-component-update")  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Browser:
    """The DevTools protocol over pipes: JSON ended by a zero byte."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out
        self._buffer, self._count, self._session = b"", 0, ""

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                read = os.read(self._out, 2**16)
                assert read, "the browser has ended"
                self._buffer += read
            one, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.getElementById('model').options.length > 0")

    def see(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.see(expression):
            assert time.monotonic() < end, (expression, self.see("document.body.innerText"))
            time.sleep(0.02)

    def texts(self, role: str) -> list[str]:
        return self.see(f"[...document.querySelectorAll('[data-role={role}]')].map(each => each.textContent)")

    def send(self, text: str, **settings: object) -> None:
        for name, value in {**settings, "prompt": text}.items():
            self.see(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}")
        self.see("document.getElementById('send').click()")


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Chromium reads from descriptor 3 and writes to 4."""
    read_here, write_there = os.pipe()
    read_there, write_here = os.pipe()
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    script = f'exec "$@" 3<&{read_there} 4>&{write_there}'
    started = subprocess.Popen(
        ["bash", "-c", script, "bash", *command], pass_fds=(read_there, write_there), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_there)
    os.close(write_there)
    try:
        yield Browser(write_here, read_here)
    finally:
        started.kill()
        started.wait()
        os.close(read_here)
        os.close(write_here)


@pytest.fixture(scope="module")
def here(start: Callable[..., Any]) -> Iterator[Any]:
    with start(context=2000) as running:
        yield running


@pytest.fixture(scope="module")
def browser(here: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("chromium")) as made:
        made.open(here.url)
        yield made


@pytest.fixture(autouse=True)
def _cleared(browser: Browser) -> None:
    browser.see("document.getElementById('clear').click()")


def alone(model: Transformer, prompt: str, **wishes: Any) -> str:
    return "".join(piece.text for piece in stream(model, BytesTokenizer(), prompt, Sampling(**wishes)))


def test_it_shows_what_the_model_writes_and_remembers_the_talk(here: Any, browser: Browser) -> None:
    wishes: dict[str, Any] = {"max_tokens": 20, "seed": 3, "temperature": 0.6, "top_p": 0.95}
    stop = ("\nuser:", "\nsystem:")
    first = alone(here.model, "user: ore?\nassistant:", stop=stop, **wishes)
    browser.send("ore?", mode="chat", **wishes)
    browser.until("document.getElementById('state').textContent === 'length'")
    assert (browser.texts("user"), browser.texts("assistant")) == (["ore?"], [first])
    second = alone(here.model, f"user: ore?\nassistant: {first}\nuser: iron\nassistant:", stop=stop, **wishes)
    browser.send("iron")
    browser.until("document.querySelectorAll('[data-role=assistant]').length === 2 && !running")
    assert browser.texts("assistant") == [first, second]


def test_it_goes_on_with_a_text(here: Any, browser: Browser) -> None:
    wishes: dict[str, Any] = {"max_tokens": 15, "seed": 8, "temperature": 0.6, "top_p": 0.95}
    browser.send("<b>def", mode="text", **wishes)
    browser.until("document.getElementById('state').textContent === 'length'")
    assert browser.texts("assistant") == [alone(here.model, "<b>def", **wishes)]
    assert browser.see("document.querySelectorAll('#log b').length") == 0


def test_it_shows_errors(browser: Browser) -> None:
    browser.send("x", mode="text", max_tokens=100_000)
    browser.until("document.getElementById('state').textContent === 'error'")
    assert "more than the 2000 of the context" in browser.texts("error")[0]


def test_stop_ends_the_text_here_and_on_the_server(
    here: Any, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Transformer.forward

    def slow(self: Transformer, *given: Any, **more: Any) -> Any:
        time.sleep(0.02)
        return forward(self, *given, **more)

    monkeypatch.setattr(Transformer, "forward", slow)
    browser.send("ore", mode="text", max_tokens=1500, seed=1, temperature=1)
    browser.until("document.querySelector('[data-role=assistant]').textContent.length > 5")
    assert here.desk.load().running == 1
    before = here.metric("cancelled_total")
    browser.see("document.getElementById('stop').click()")
    browser.until("document.getElementById('state').textContent === 'stopped'")
    assert browser.texts("error") == []
    assert here.idle(3)
    assert here.metric("cancelled_total") == before + 1
