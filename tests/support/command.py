"""The command line, in this process for speed or in one of its own, and a plan that trains in a second."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bloomery.cli import main

WORDS = ("the", "furnace", "makes", "iron", "from", "ore", "and", "we", "weigh", "what", "comes", "out", "of", "it")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Command:
    """`bloomery` in this process; the current folder is a temporary one."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Said:
        self.monkeypatch.setattr(sys, "argv", ["bloomery", *map(str, arguments)])
        self.capsys.readouterr()
        with _signals_as_they_were():
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = self.capsys.readouterr()
        return Said(code, said.out, said.err)


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def process(arguments: Sequence[str | Path], folder: Path, **more: Any) -> subprocess.Popen[str]:
    """`python -m bloomery` as a process of its own."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "bloomery", *map(str, arguments)], cwd=folder, **(pipes | more))


def finished(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate(timeout=600)
    return Said(process.returncode, out, err)


def write_text(folder: Path, documents: int = 40) -> Path:
    """A corpus of small Python-like files, the same every time."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        body = " ".join(draw.choice(WORDS) for _ in range(100))
        (folder / f"{number:02}.txt").write_text(f'def f{number}(x):\n    """Return the\n{body}\n')
    return folder


def tiny_plan(folder: Path, **changes: Any) -> Path:
    """A dense plan of some 40 steps beside its text. `changes` are dotted paths into it, `stages.0.config.tokens`."""
    write_text(folder / "text")
    plan: dict[str, Any] = {
        "bloomery": 1,
        "name": "test/tiny",
        "system": "dense",
        "hypothesis": "A small model is no worse than its twin.",
        "seeds": [0],
        "control": {"twin": "dense", "match": "stored", "tolerance": "5%", "set": {"optimizer.lr": 0.08}},
        "baselines": {"bigram": {"kind": "ngram", "order": 2}},
        "data": {
            "tokenizer": {"kind": "bytes"},
            "corpus": {"source": "text", "folder": "text", "split": {"train": "80%", "val": "20%"}},
        },
        "suites": {
            "text": {"kind": "perplexity", "data": "corpus:val", "context": 32},
            "samples": {"kind": "generation", "data": "corpus:val", "prompts": 1, "tokens": 8},
        },
        "stages": [
            {
                "id": "pretrain",
                "kind": "pretrain",
                "config": {
                    "model": {"layers": 1, "width": 16, "heads": 2},
                    "tokens": "5k tok",
                    "batch": 4,
                    "context": 32,
                    "precision": "fp32",
                    "optimizer": {"lr": 0.1},
                    "validation": {"split": "val", "every": "50%", "documents": 2},
                    "checkpoint_every": "100 ms",
                },
                "evaluate": ["samples"],
                "gate": [
                    {"metric": "text/loss", "relative_to": "control", "op": "<=", "value": 1.2},
                    {"metric": "text/loss", "relative_to": "baseline:bigram", "op": "<", "value": 9},
                ],
            }
        ],
    }
    for path, value in changes.items():
        node: Any = plan
        *way, last = path.split(".")
        for part in way:
            node = node[int(part) if isinstance(node, list) else part]
        node[last] = value
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(plan, indent=1))
    return file


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}
