"""The seed's question as a curve: what is a context of N tokens worth to v4, prod, the attractors, Kneser-Ney with
caches and a transformer of as many bytes, and what does it cost?

    python benchmarks/holographic_context.py all            # what is not yet in benchmarks/results; can be stopped
    python benchmarks/holographic_context.py v4 256 1024    # these, again
    python benchmarks/holographic_context.py                # the table of what stands there

How they are made stands in context_training.py, what the probes ask in context_probes.py. Tokens are predicted given
exactly the N before them; a transformer, which has to read again for every token that leaves its window, is given N and
up to as many more as its block is long. What lies beyond the rows that it was trained on is extrapolation.
An interval is a bootstrap over segments of 256 tokens (order, recall: over blocks and questions).
Seconds are CPU time of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bloomery.engine.artifact import write_atomically
from bloomery.evaluate.resample import bootstrap_interval, ratio
from context_probes import OPTIONS, PAIRS, STRIDE, by_offset, order, planted, recall
from context_training import Shop, Text, stretch

RESULTS = Path(__file__).parent / "results" / "holographic_context.json"
CONTEXTS = (256, 1024, 4096, 8192, 65536)
CONTENDERS = ("unigram", "KN-5", "KN-5, cached", "attractors", "attractors, cached", "v4", "dense", "prod")
RIVAL = "KN-5, cached"
SEGMENT = 256
AFTER = 8
"""Tokens that are read one after another to time one."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def nats(one: Any, text: Text, context: int, blocks: int) -> NDArray[np.float64]:
    """[s]: of each segment of the test targets; NaN where a transformer did not score it."""
    found = []
    for book in text.test:
        own = stretch(book, text.longest, context)
        if one.slides:
            logs = one.targets(own, context - 1)
        else:
            size, logs = block(context), np.full(len(own) - context, math.nan)
            for start in list(range(0, len(logs) - size + 1, size))[:blocks]:
                logs[start : start + size] = one.targets(own[start : start + context + size], context - 1)
        found.append(-logs[: len(logs) // SEGMENT * SEGMENT].reshape(-1, SEGMENT).sum(-1))
    return np.concatenate(found)


def block(context: int) -> int:
    """Tokens that a transformer predicts in one pass."""
    return max(SEGMENT, context // 16 // SEGMENT * SEGMENT)


def interval(values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> list[float | None]:
    """[mean, low, high] of all."""
    table = np.column_stack((values, np.ones(len(values)) if weights is None else weights)).astype(np.float64)
    found = bootstrap_interval(table, ratio)
    return [float(ratio(table.sum(0, keepdims=True))[0]), *((found.low, found.high) if found else (None, None))]


def recalls(one: Any, text: Text, context: int, texts: int, seed: int) -> dict[str, Any]:
    size, found = context + 2 * PAIRS * STRIDE, []
    for number in range(texts):
        book = text.test[number % len(text.test)]
        start = (len(book) - size) * (number // len(text.test)) // max(1, math.ceil(texts / len(text.test)))
        found.append(recall(one, planted(book[start : start + size], context, text.symbols, seed + number)))
    told = {}
    for name, part in (("far", slice(0, PAIRS)), ("near", slice(PAIRS, None))):
        told[name] = {
            "distance": int(found[0].distances[part][0]),
            "questions": PAIRS * texts,
            "right": interval(np.concatenate([each.right[part] for each in found]).astype(np.float64)),
            "likeliest of all": float(np.mean([each.first[part].mean() for each in found])),
            "logprob": float(np.mean([each.logprobs[part].mean() for each in found])),
        }
    return told


def orders(one: Any, text: Text, context: int, blocks: int, seed: int) -> dict[str, Any]:
    lost = []
    for book in text.test:
        starts = text.longest + SEGMENT * np.linspace(0, (len(book) - text.longest) // SEGMENT - 1, blocks).astype(int)
        lost.append(order(one, book, starts.tolist(), context, SEGMENT, text.begins_word, seed))
    whole = np.concatenate(lost)
    found: dict[str, Any] = {"blocks": len(whole)}
    for name in by_offset(whole, lambda each: 0.0):
        found[name] = interval(np.array([by_offset(each[None], lambda part: float(part.mean()))[name]
                                         for each in whole]))  # fmt: skip
    return found


def costs(one: Any, text: Text, context: int) -> dict[str, float]:
    own = stretch(text.test[0], text.longest, context)
    reading, reader = seconds(lambda: one.stepping(own[:context]))
    first, _ = seconds(reader.probabilities)

    def steps() -> None:
        for token in own[context : context + AFTER].tolist():
            reader.push(token)
            reader.probabilities()

    step, _ = seconds(steps)
    scoring, _ = seconds(lambda: one.targets(own[: context + SEGMENT], context - 1))
    return {
        "reads the context, seconds": reading + first,
        "seconds a further token": step / AFTER,
        "scores a segment after it, seconds": scoring,
        "keeps, bytes": one.keeps(context),
        "model bytes": one.bytes,
    }


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked: blocks of text for nats (of a transformer) and order of each book, texts for recall."""

    nats: int
    recall: int
    order: int


def sizes(name: str, context: int) -> Sizes:
    if name == "dense":
        return Sizes(*((16, 8, 8) if context < 2048 else (4, 4, 2) if context < 16384 else (1, 1, 0)))
    return Sizes(0, *((8, 8) if context < 16384 else (4, 2)))


def ask(name: str, one: Any, text: Text, context: int, seed: int) -> dict[str, Any]:
    size = sizes(name, context)
    own = nats(one, text, context, size.nats)
    scored = own[np.isfinite(own)]
    found: dict[str, Any] = {
        "contender": name, "context": context, "bytes": one.bytes, "targets": len(scored) * SEGMENT,
        "perplexity": exponential(interval(scored / SEGMENT)),
        "recall": recalls(one, text, context, size.recall, seed),
        "order": orders(one, text, context, size.order, seed) if size.order else None,
        "cost": costs(one, text, context), "nats": [round(each, 3) for each in own],
    }  # fmt: skip
    return found


def exponential(these: Sequence[float | None]) -> list[float | None]:
    return [None if one is None else math.exp(one) for one in these]


def against(lines: Sequence[dict[str, Any]], rival: str) -> None:
    """Beside every line the ratio of its perplexity to the rival's at the same context, and to its own at the shortest,
    both on the segments that both scored."""
    of = {(line["contender"], line["context"]): np.array(line["nats"]) for line in lines}
    for line in lines:
        own, mine = of[line["contender"], line["context"]], [at for one, at in of if one == line["contender"]]
        for name, key in (("to rival", (rival, line["context"])), ("to shortest", (line["contender"], min(mine)))):
            if key in of:
                both = np.isfinite(own) & np.isfinite(of[key])
                line[name] = exponential(interval((own - of[key])[both] / SEGMENT))


def table(lines: Sequence[dict[str, Any]]) -> None:
    """Markdown: a table for each question, a column for each context."""
    grid(lines, "perplexity, 95 %", lambda line: spread(line["perplexity"], 1))
    grid(lines, "perplexity / its own at the shortest context", lambda line: spread(line.get("to shortest")))
    grid(lines, f"perplexity / that of {RIVAL}", lambda line: spread(line.get("to rival")))
    for name in ("far", "near"):
        grid(lines, f"share of values recalled, {name}; chance {1 / OPTIONS:.2f}",
             lambda line, name=name: spread(line["recall"][name]["right"], 2))  # fmt: skip
    for name in by_offset(np.zeros((1, SEGMENT)), lambda part: 0.0):
        grid(lines, f"nats lost when words beyond the last {name} tokens are permuted",
             lambda line, name=name: spread((line["order"] or {}).get(name)))  # fmt: skip
    grid(lines, "CPU seconds to read the context", lambda line: f"{line['cost']['reads the context, seconds']:.3f}")
    grid(lines, "CPU milliseconds a further token", lambda line: f"{line['cost']['seconds a further token'] * 1e3:.2f}")
    grid(lines, "bytes kept of the context", lambda line: f"{line['cost']['keeps, bytes']:,}")
    grid(lines, "bytes of the model", lambda line: f"{line['bytes']:,.0f}")


def grid(lines: Sequence[dict[str, Any]], title: str, cell: Callable[[dict[str, Any]], str]) -> None:
    contexts = sorted({line["context"] for line in lines})
    found = {(line["contender"], line["context"]): cell(line) for line in lines}
    print(f"\n| {title} | {' | '.join(f'{context:,}' for context in contexts)} |\n|{'---|' * (1 + len(contexts))}")
    for name in CONTENDERS:
        if any((name, context) in found for context in contexts):
            print(f"| {name} | {' | '.join(found.get((name, context), '') for context in contexts)} |")


def spread(these: Sequence[float | None] | None, digits: int = 3) -> str:
    """A value with its interval."""
    if these is None or these[0] is None:
        return ""
    middle, low, high = these
    return f"{middle:.{digits}f}" + ("" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})")


def main(given: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("contender", choices=("all", *CONTENDERS), nargs="?")
    arguments.add_argument("contexts", type=int, nargs="*", default=CONTEXTS)
    arguments.add_argument("--longest", type=int, default=max(CONTEXTS), help="tokens before the held-out targets")
    arguments.add_argument("--tokens", type=int, default=160_000, help="to train on")
    arguments.add_argument("--tune", type=int, default=2048, help="targets of each book to find weights on")
    arguments.add_argument("--targets", type=int, default=4096, help="of each book to test on")
    arguments.add_argument("--trained", type=int, default=1280, help="tokens of the transformer's rows")
    arguments.add_argument("--vocab", type=int, default=4096)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--work", type=Path, help="where the transformer's training is kept, to go on from")
    arguments.add_argument("--out", type=Path, default=RESULTS)
    options = arguments.parse_args(given)
    torch.set_num_threads(1)
    done = json.loads(options.out.read_text()) if options.out.exists() else {"lines": []}
    kept = ("longest", "tokens", "tune", "targets", "trained", "vocab", "seed")
    sizes_now = {name: getattr(options, name) for name in kept}
    if options.contender and done.setdefault("options", sizes_now) != sizes_now:
        raise SystemExit(f"{options.out} is of other sizes: {done['options']}")
    shop = Shop(options) if options.contender else None
    for name, context in todo(options, done["lines"]):
        assert shop is not None
        done["bytes"] = shop.size
        took, (one, told) = seconds(lambda: shop(name, context))  # noqa: B023  called at once
        line = {**ask(name, one, shop.text, context, options.seed), **told, "made in seconds": took}
        lines = {key_of(each): each for each in (*done["lines"], line)}
        done["lines"] = [each for _, each in sorted(lines.items())]
        against(done["lines"], RIVAL)
        write_atomically(options.out, (json.dumps(done, indent=1) + "\n").encode())
        table([line])
    if options.contender is None:
        table(done["lines"])


def key_of(line: dict[str, Any]) -> tuple[int, int]:
    return CONTENDERS.index(line["contender"]), line["context"]


def todo(options: argparse.Namespace, lines: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """The short contexts first, and of `all` what is not there."""
    if options.contender != "all":
        return [(options.contender, context) for context in options.contexts if options.contender]
    there = {key_of(line) for line in lines}
    every = [(name, context) for context in options.contexts for name in CONTENDERS]
    return [(name, context) for name, context in every if (CONTENDERS.index(name), context) not in there]


if __name__ == "__main__":
    main()
