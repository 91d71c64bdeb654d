"""The loop of a memory's day: read tokens, sleep at their cadence, look at held-out text, save. No gradient anywhere.

Tokens are read once, document by document, in an order drawn by the seed. A piece ends where a sleep, a look or a
multiple of CHUNK is due, wherever the loop began, and sleep draws from (seed, position): so that a memory that was
stopped anywhere and goes on from its last save leaves the same bytes as one that never stopped.

What it tells: val/loss, val/perplexity, val/bits_per_byte and memory/* at each look, with the token as the step;
`slept` events; and while it runs what the memory measures of itself.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bloomery.engine.artifact import digest_of, write_atomically
from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.errors import ArtifactError
from bloomery.stages import looking
from bloomery.systems.holographic.config import Wake
from bloomery.systems.holographic.variants import Predicting, Variant, save_model, variant

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokens import TokenFile

CHUNK = 8192
"""Tokens that are read at a time, at most."""
PROGRESS = "wake.json"
SEEN, OWN = 512, "memory/retrieval_seen"
"""Tokens just read, which a memory is asked for again unless it measures that itself."""
PROMPT, WRITTEN = 8, 40
"""Tokens of a sample on the way: of how a document opens, and of what is written after it."""
SHOWN = (
    "retrieval_seen", "prototypes", "schemas", "compression", "consolidation_ratio", "witness_stability", "enstrophy",
    "entropy", "forgotten_share", "store_bytes",
)  # fmt: skip
"""Of memory/*: what a person watches."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """In tokens; None: never, but for looks, which are also taken at the end."""

    sleep: int | None
    look: int
    write: int | None = None
    point: int | None = None

    def next(self, position: int, end: int) -> int:
        """Where the piece that begins at `position` ends."""
        steps = [CHUNK, *(one for one in (self.sleep, self.look, self.write, self.point) if one)]
        return min(end, *(step * (position // step + 1) for step in steps))


class Stream:
    """A token file as one stream of whole documents in an order of their own."""

    def __init__(self, part: TokenFile, seed: int) -> None:
        self.part = part
        self.order = np.random.default_rng(seed).permutation(part.documents)
        lengths = np.diff(part.starts)[self.order]
        self.starts = np.concatenate(([0], np.cumsum(lengths)))

    def __len__(self) -> int:
        return len(self.part)

    def piece(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens, where documents begin among them)."""
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        pieces: list[NDArray[np.int64]] = []
        number = first
        while self.starts[number] < stop:
            at = int(self.starts[number])
            document = self.part.document(int(self.order[number]))
            pieces.append(np.asarray(document[max(0, start - at) : stop - at], dtype=np.int64))
            number += 1
        begins = self.starts[first:number]
        return np.concatenate(pieces), begins[begins >= start] - start


def read_by(wake: Wake, part: TokenFile) -> int:
    """How many tokens are read: no more than there are."""
    return min(wake.tokens, len(part))


def wake_up(ctx: StageContext, wake: Wake, name: str, cadence: Cadence) -> StageResult:
    """Read, sleep, look; leaves `model` and `state` in the workdir. Raises Stopped, after saving, when asked."""
    from bloomery.data.prepared import Prepared

    assert ctx.data is not None
    prepared, kind = Prepared.open(ctx.data), variant(name)
    part = prepared.part(wake.data)
    if len(part) < wake.tokens:
        ctx.note("note", text=f"{wake.data} has {len(part):,} tokens, fewer than {wake.tokens:,}: it is read once")
    day = _Day(ctx, wake, kind, cadence, Stream(part, ctx.seed), read_by(wake, part))
    end = prepared.tokenizer.end_of_document

    def created() -> Predicting:
        from bloomery.systems.holographic.grounding import grounded

        return grounded(kind.create(wake, ctx.vocab, end, ctx.seed, ctx.workdir), day.stream, day.end)

    memory, position = day.begin(created)
    look = _Look(ctx, wake, prepared, day.stream)
    began, first = time.monotonic(), position
    saved = began
    while position < day.end:
        if ctx.should_stop():
            day.save(memory, position)
            raise Stopped
        if time.monotonic() - saved > wake.checkpoint_every:
            day.save(memory, position)
            saved = time.monotonic()
        position = day.piece(memory, position)
        rate = (position - first) / max(time.monotonic() - began, 1e-9)
        if position % cadence.look == 0 or position == day.end:
            look(memory, position, day.end, rate)
        elif cadence.point and position % cadence.point == 0:
            look.point(memory, position, day.end, rate)
        if cadence.write and position % cadence.write == 0:
            look.write(memory, position)
    day.save(memory, position)
    ctx.measure("train/tokens_per_second", (position - first) / max(time.monotonic() - began, 1e-9), unit="per_second")
    memory.save(ctx.workdir / "state")
    if (forgotten := memory.measures().get("memory/forgotten_share", 0.0)) > 0:
        ctx.note("note", text=f"store.bytes was full: {forgotten:.0%} of what was stored is forgotten")
    scorer = memory.scorer()
    save_model(ctx.workdir / "model", scorer, name, prepared.tokenizer)
    return StageResult(
        outputs={"model": ctx.workdir / "model", "state": ctx.workdir / "state"},
        tallies={"model": scorer.tally()},
        hashes={"weights": digest_of(ctx.workdir / "state")},
    )


@dataclass
class _Day:
    ctx: StageContext
    wake: Wake
    kind: Variant
    cadence: Cadence
    stream: Stream
    end: int

    @property
    def _signature(self) -> dict[str, Any]:
        settings = self.wake.model_dump(mode="json", exclude={"checkpoint_every"})
        return {"settings": settings, "data": self.stream.part.digest, "seed": self.ctx.seed, "end": self.end}

    def begin(self, create: Callable[[], Predicting]) -> tuple[Predicting, int]:
        """The memory as it was saved, or a new one. Raises ArtifactError where another run has saved it."""
        file = self.ctx.checkpoint / PROGRESS
        if not file.exists():
            return create(), 0
        try:
            told = json.loads(file.read_text())
            folder, position, signature = str(told["folder"]), int(told["position"]), told["signature"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(str(file), f"damaged ({error!r})", hint="delete this folder and run again") from None
        if signature != json.loads(json.dumps(self._signature)):
            raise ArtifactError(str(file), "of other settings or data", "those it was saved with", "run from the start")
        memory = self.kind.open(self.ctx.checkpoint / folder, self.ctx.workdir)
        self.ctx.note("note", text=f"goes on from step {position}")
        return memory, position

    def save(self, memory: Predicting, position: int) -> None:
        """A new folder, then the word that it is there, then the old one goes: whole at any moment."""
        folder = self.ctx.checkpoint / f"at-{position}"
        if not folder.exists():
            staging = folder.with_name(f"{folder.name}.tmp")
            shutil.rmtree(staging, ignore_errors=True)
            memory.save(staging)
            staging.rename(folder)
        told = {"folder": folder.name, "position": position, "signature": self._signature}
        write_atomically(self.ctx.checkpoint / PROGRESS, json.dumps(told).encode())
        for other in self.ctx.checkpoint.glob("at-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def piece(self, memory: Predicting, start: int) -> int:
        """Read up to the next thing that is due, and sleep if it is that."""
        stop = self.cadence.next(start, self.end)
        memory.read(*self.stream.piece(start, stop))
        self.ctx.spend(tokens=stop - start)
        sleep, every = self.wake.sleep, self.cadence.sleep
        if sleep is not None and every and stop % every == 0:
            done = memory.sleep(sleep.stages, np.random.default_rng((self.ctx.seed, stop)))
            self.ctx.note("slept", step=stop, **{name.replace("/", "_"): value for name, value in done.items()})
        return stop


class _Look:
    """What is measured on the way, and shown."""

    def __init__(self, ctx: StageContext, wake: Wake, prepared: Prepared, stream: Stream) -> None:
        self.ctx, self.wake, self.prepared, self.stream = ctx, wake, prepared, stream
        self.loss = math.nan

    def __call__(self, memory: Predicting, position: int, end: int, rate: float) -> None:
        ctx = self.ctx
        result = looking.look(memory.scorer(), self.prepared, self.wake)
        at: dict[str, Any] = {"step": position, "tokens": position, "share": position / end}
        looking.measure(ctx, result, **at)
        told = memory.measures()
        for name, value in (told if OWN in told else {**self.seen(memory, position), **told}).items():
            ctx.measure(name, value, **at)
        self.loss = result.loss
        ctx.point(step=position, tokens=position, loss=result.loss, tokens_per_second=rate)
        self._show(told, position, end, rate)

    def point(self, memory: Predicting, position: int, end: int, rate: float) -> None:
        """Between looks the loss is that of the last one."""
        self._show(memory.measures(), position, end, rate)

    def _show(self, told: Mapping[str, float], position: int, end: int, rate: float) -> None:
        self.ctx.progress(
            step=position, steps=end, tokens=position, loss=self.loss, tokens_per_second=rate, told=shown(told)
        )

    def seen(self, memory: Predicting, position: int) -> dict[str, float]:
        """Of a memory that has no measure of its own: the share of tokens just read that it finds likeliest, and how
        far its probabilities are from a norm of one."""
        import torch

        tokens, begins = self.stream.piece(max(0, position - SEEN), position)
        right: list[bool] = []
        drift, scorer = 0.0, memory.scorer()
        edges = [0, *(int(one) for one in begins if one > 0), len(tokens)]
        for start, stop in pairwise(edges):
            row = np.concatenate(([self.prepared.tokenizer.end_of_document], tokens[start:stop]))
            found = scorer.logprobs(torch.from_numpy(row[None, :-1]))[0]
            right += (found.argmax(-1).numpy() == row[1:]).tolist()
            drift = max(drift, float((found.exp().sum(-1) - 1).abs().max()))
        return {OWN: float(np.mean(right)), "memory/context_norm_drift": drift}

    def write(self, memory: Predicting, position: int) -> None:
        from bloomery.evaluate.sample import generate

        tokenizer = self.prepared.tokenizer
        opening = tokenizer.decode(self.prepared.part(self.wake.validation_part).document(0)[:PROMPT])
        text = generate(memory.scorer(), tokenizer, opening, max_tokens=WRITTEN, seed=position)
        self.ctx.note("written", step=position, prompt=opening, text=text)


def shown(told: Mapping[str, float]) -> dict[str, float]:
    return {name: told[f"memory/{name}"] for name in SHOWN if f"memory/{name}" in told}


def tokens_read(ctx: StageContext, wake: Wake) -> Iterator[Any]:
    """What was read, document by document, each after its end_of_document: what a baseline is fitted on."""
    import torch

    from bloomery.data.mix import Batch
    from bloomery.data.prepared import Prepared

    assert ctx.data is not None
    part = Prepared.open(ctx.data).part(wake.data)
    stream, end = Stream(part, ctx.seed), read_by(wake, part)
    for start, stop in zip(stream.starts, np.minimum(stream.starts[1:], end), strict=False):
        if stop > start:
            tokens, _ = stream.piece(int(start), int(stop))
            row = torch.from_numpy(np.concatenate(([part.end_of_document], tokens)))[None]
            yield Batch(row[:, :-1], row[:, 1:])
