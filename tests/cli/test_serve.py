"""`bloomery serve` as its user sees it: where it listens, how it ends, and what it says of mistakes."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bloomery.cli.serving import _loopback
from support.command import Command, process

pytestmark = pytest.mark.slow


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, when it answers."""
    started = process(["serve", *arguments, "--port", "0", "--threads", "1", "--device", "cpu"], folder)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+) ", line)
        assert found, line + (started.communicate()[1] if started.poll() is not None else "")
        yield started, found[1]
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def ask(url: str, **asked: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def test_a_run_is_served_and_says_what_generate_says(done: Path, bloomery: Command) -> None:
    said = bloomery(
        "generate", "test/tiny", "--prompt", "the furnace", "--tokens", "12", "--seed", "3", "--runs", done / "runs"
    )
    with serving(done, "test/tiny", "runs/test/tiny/pretrain/1/candidate-seed0/model") as (running, url):
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
            names = [each["id"] for each in json.load(answer)["data"]]
        assert names == ["test/tiny", "runs/test/tiny/pretrain/1/candidate-seed0/model"]
        wishes = {"prompt": "the furnace", "max_tokens": 12, "temperature": 0.6, "top_p": 0.95, "seed": 3}
        for name in names:
            with ask(f"{url}/v1/completions", model=name, **wishes) as answer:
                assert "the furnace" + json.load(answer)["choices"][0]["text"] + "\n" == said.out
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


def test_told_to_stop_it_finishes_what_is_begun(done: Path) -> None:
    with serving(done, "test/tiny") as (running, url):
        wishes = {"prompt": "x", "max_tokens": 1500, "temperature": 5, "stream": True, "top_p": 1}
        with ask(f"{url}/v1/completions", model="test/tiny", **wishes) as answer:
            assert answer.readline().startswith(b"data: {")
            running.send_signal(signal.SIGINT)
            rest = answer.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert running.wait(20) == 0
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{url}/healthz", timeout=5)


def test_beyond_the_grace_it_leaves_what_is_begun(done: Path) -> None:
    with serving(done, "test/tiny", "--grace", "1", "--context", "100000", "--slots", "2") as (running, url):
        wishes = {"prompt": "x", "max_tokens": 90_000, "temperature": 0, "stream": True}
        answer = ask(f"{url}/v1/completions", model="test/tiny", **wishes)
        answer.readline()
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert time.monotonic() - began < 10
        answer.close()


def test_mistakes_are_one_clear_error(done: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ("--runs", done / "runs")
    said = bloomery("serve", "test/tniy", *runs)
    assert (said.code, "test/tiny" in said.err) == (2, True)
    said = bloomery("serve", "test/tiny", "test/tiny", *runs)
    assert (said.code, "twice" in said.err) == (2, True)
    said = bloomery("serve", "test/tiny", "--api-key", "ö", *runs)
    assert (said.code, "--api-key" in said.err) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = bloomery("serve", "test/tiny", "--port", str(taken.getsockname()[1]), *runs)
    assert (said.code, "cannot be bound" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("host", "inside"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("192.0.2.7", False), ("ore", False)],
)
def test_who_can_reach_it_without_a_key(host: str, inside: bool) -> None:
    assert _loopback(host) == inside


def test_without_the_extra_it_says_how_to_get_it(
    done: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more)
    )
    said = bloomery("serve", "test/tiny", "--runs", done / "runs")
    assert said.code == 2
    assert said.err == (
        "error: bloomery serve: `uvicorn` is not installed\n  hint: pip install 'bloomery[serve]'\n"
    )  # fmt: skip
