"""The server under load: many streaming clients, some of which hang up, against one client at a time.

    python benchmarks/serve_load.py --seconds 60

A randomly initialised dense model is served by `bloomery serve` in a process of its own (one thread for the model); the
clients are coroutines of this process that speak HTTP themselves, since a library would cost as much as the server.

    alone    one client, one request after the other, for a quarter of the time
    load     `--clients` of them for `--seconds`; one request in ten is left after a few events

Throughput is the server's own count of tokens (/metrics) over wall time, those of left requests included in both.
Must show: no status but 200 and 429, no error inside a stream, nothing waiting or running within five seconds after the
last client is gone, as many texts left as clients hung up on, and a throughput of at least three times that alone.

Prediction, written before the first run: four to eight times, bound by sampling and by the event loop, which share the
interpreter's lock with the model. With fewer slots and queue than clients some requests are 429.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.stages import models
from train_step import processor

RESULTS = Path(__file__).parent / "results" / "serve_load.json"
LEFT = 0.1
"""Share of requests whose client hangs up."""
WORDS = ("the", "furnace", "makes", "iron", "from", "ore", "and", "slag")


@dataclass
class Seen:
    statuses: Counter[str] = field(default_factory=Counter)
    left: int = 0
    """Clients that hung up before the end of their text."""
    errors: list[str] = field(default_factory=list)
    first_event_seconds: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=48)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model", options.layers, options.width)
        words = ["serve", "model", "--port", "0", "--threads", "1", "--device", "cpu", "--context", "512"]
        words += ["--slots", str(options.slots), "--queue", str(options.queue)]
        server = subprocess.Popen(
            [sys.executable, "-m", "bloomery", *words], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
            assert found, "the server did not start"
            facts = asyncio.run(measure(int(found[1]), options))
        finally:
            server.terminate()
            code = server.wait(30)
    facts |= {"exit_code": code, "processor": processor(), "torch": torch.__version__, "options": vars(options)}
    facts["holds"] = holds(facts)
    show(facts)
    if options.write:
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(facts["holds"].values()) else 1)


def make_model(folder: Path, layers: int, width: int) -> None:
    settings = {"system": "dense", "layers": layers, "width": width, "heads": 4}
    model = models.build(settings, BytesTokenizer.vocab, precision="fp32", seed=0)
    models.save(folder, model, settings, "fp32", BytesTokenizer())


async def measure(port: int, options: argparse.Namespace) -> dict[str, Any]:
    await request(port, random.Random(0), Seen(), options.tokens, leave=False)  # what is loaded at first use
    alone, crowd = Seen(), Seen()
    single = await throughput(port, 1, options.seconds / 4, options.tokens, alone)
    batched = await throughput(port, options.clients, options.seconds, options.tokens, crowd)
    began = time.monotonic()
    while time.monotonic() - began < 5 and await load(port):
        await asyncio.sleep(0.05)
    metrics = await counters(port)
    first = sorted(crowd.first_event_seconds)
    return {
        "alone_tokens_per_second": single,
        "load_tokens_per_second": batched,
        "times": batched / single,
        "alone": dict(alone.statuses),
        "load": dict(crowd.statuses),
        "errors": (alone.errors + crowd.errors)[:20],
        "hung_up": alone.left + crowd.left,
        "cancelled": metrics["cancelled_total"],
        "left_over": metrics["waiting"] + metrics["running"],
        "first_event_seconds": {"median": first[len(first) // 2], "p95": first[int(0.95 * len(first))]},
    }


async def throughput(port: int, clients: int, seconds: float, tokens: int, seen: Seen) -> float:
    """Tokens per second of `clients` clients, each with one request after the other, for so long."""
    before, began = (await counters(port))["completion_tokens_total"], time.monotonic()

    async def client(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() - began < seconds:
            await request(port, draw, seen, tokens, leave=draw.random() < LEFT)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return ((await counters(port))["completion_tokens_total"] - before) / (time.monotonic() - began)


async def request(port: int, draw: random.Random, seen: Seen, tokens: int, *, leave: bool) -> None:
    prompt = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 20)))
    asked = {"model": "model", "prompt": prompt, "max_tokens": tokens, "stream": True, "seed": draw.randrange(2**31)}
    body = json.dumps(asked).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-type: application/json\r\n"
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        status = (await reader.readline()).split()[1].decode()
        seen.statuses[status] += 1
        if status != "200":
            await reader.read()
            await asyncio.sleep(0.1 * draw.random() + 0.05)
            return
        events, last = 0, b""
        async for line in reader:
            if not line.startswith(b"data: "):
                continue
            if not events:
                seen.first_event_seconds.append(time.monotonic() - began)
            events, last = events + 1, line
            if b'"error"' in line:
                seen.errors.append(line.decode())
            if leave and events == 3 and b'"finish_reason":null' in line:
                seen.left += 1
                return
        if last != b"data: [DONE]\n":
            seen.errors.append(f"a stream ended with {last!r}")
    except OSError as error:
        seen.errors.append(repr(error))
    finally:
        writer.close()


async def get(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


async def counters(port: int) -> dict[str, float]:
    text = await get(port, "/metrics")
    return {name: float(value) for name, value in re.findall(r"^bloomery_(\w+) ([\d.e+]+)\r?$", text, re.MULTILINE)}


async def load(port: int) -> float:
    found = await counters(port)
    return found["waiting"] + found["running"]


def holds(facts: dict[str, Any]) -> dict[str, bool]:
    return {
        "no status but 200 and 429": set(facts["load"]) <= {"200", "429"} and set(facts["alone"]) == {"200"},
        "no error in a stream": not facts["errors"],
        "nothing is left over": facts["left_over"] == 0,
        "no more is cancelled than was hung up on": facts["cancelled"] <= facts["hung_up"],
        "at least three times one client": facts["times"] >= 3,
        "a clean end": facts["exit_code"] == 0,
    }


def show(facts: dict[str, Any]) -> None:
    first = facts["first_event_seconds"]
    print(f"{facts['processor']}, torch {facts['torch']}")
    print("| | tokens/s | statuses |")
    print("|---|---:|---|")
    for name in ("alone", "load"):
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(facts[name].items()))
        print(f"| {name} | {facts[f'{name}_tokens_per_second']:.0f} | {statuses} |")
    print(
        f"{facts['times']:.2f} times; first event after {first['median']:.3f} s (median), {first['p95']:.3f} s (p95);"
    )
    print(f"{facts['hung_up']} hung up, {facts['cancelled']:.0f} texts left, {facts['left_over']:.0f} left over")
    for name, true in facts["holds"].items():
        print(f"{'yes' if true else 'NO '}  {name}")
    for error in facts["errors"]:
        print(f"error: {error}")


if __name__ == "__main__":
    main()
