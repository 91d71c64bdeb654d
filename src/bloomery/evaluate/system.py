"""What a model costs to use, measured in the process that asks: reading a prompt, then writing token by token.

    prefill: tokens of the prompt / seconds of one forward pass over it, its last position projected
    first token: seconds from the prompt's arrival to the first new token, which is chosen greedily
    decode: new tokens / seconds, one at a time, each after the one before, with the model's own state

After one warm-up the middle of `repeats` is taken. Peak memory is the most that the process ever held, Python and torch
included: what must fit into the machine. It refuses nothing. Run it in a fresh process (stages/system_probe), or it
measures what came before.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bloomery.evaluate.decoding import decoding
from bloomery.evaluate.energy import meter
from bloomery.model.interface import LanguageModel, Scorer

STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process. None: this machine does not tell."""

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    time_to_first_token_seconds: float
    peak_memory_bytes: float
    peak_device_memory_bytes: float | None
    joules_per_token: float | None
    """Of decoding, all that the counter covers."""


def measure(model: LanguageModel | Scorer, *, prompt: int, tokens: int, repeats: int, device: str) -> Usage:
    """A prompt of `prompt` pseudo-random ids, `tokens` new ones."""
    if not isinstance(model, LanguageModel):
        return _measure_scorer(model, prompt=prompt, tokens=tokens, repeats=repeats)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.vocab, (1, prompt), generator=generator).to(device)
    model.eval()
    prefill: list[float] = []
    first: list[float] = []
    decode: list[float] = []
    joules: list[float | None] = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            energy = None
            state = model.initial_state(1, prompt + tokens)
            _wait(device)
            began = time.perf_counter()
            output = model(ids, state, project=False)
            logits = model.project(output.hidden[:, -1])
            _wait(device)
            prefill.append(time.perf_counter() - began)
            token = logits.argmax(-1, keepdim=True)
            _wait(device)
            first.append(time.perf_counter() - began)
            counter = meter(device)
            began = time.perf_counter()
            for _ in range(tokens):
                output = model(token, output.state, project=False)
                token = model.project(output.hidden[:, -1]).argmax(-1, keepdim=True)
            _wait(device)
            decode.append(time.perf_counter() - began)
            if counter is not None:
                energy = counter()
            joules.append(energy)
    known = [one for one in joules[1:] if one is not None]
    return Usage(
        prefill_tokens_per_second=prompt / statistics.median(prefill[1:]),
        decode_tokens_per_second=tokens / statistics.median(decode[1:]),
        time_to_first_token_seconds=statistics.median(first[1:]),
        peak_memory_bytes=peak_memory(),
        peak_device_memory_bytes=float(torch.cuda.max_memory_allocated()) if device.startswith("cuda") else None,
        joules_per_token=statistics.median(known) / tokens if len(known) == repeats else None,
    )


def _measure_scorer(scorer: Scorer, *, prompt: int, tokens: int, repeats: int) -> Usage:
    """The same of what has no weights: it runs where Python does, and its first token needs no further pass."""
    ids = torch.randint(0, scorer.vocab, (prompt,), generator=torch.Generator().manual_seed(0)).tolist()
    first: list[float] = []
    decode: list[float] = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        text = decoding(scorer, slots=1, length=prompt + tokens)
        token = int(text.add(ids, prompt + tokens).argmax())
        first.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(tokens):
            token = int(text.step([token])[0].argmax())
        decode.append(time.perf_counter() - began)
    seconds = statistics.median(first[1:])
    return Usage(prompt / seconds, tokens / statistics.median(decode[1:]), seconds, peak_memory(), None, None)


def peak_memory() -> float:
    """Bytes: the largest resident set of this process since it began."""
    try:  # what getrusage tells on Linux, a process has from its parent: exec does not begin it anew, but VmHWM it does
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def _wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
