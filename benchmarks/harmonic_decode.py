"""How fast one vector goes through a harmonic 4096 x 4096 matrix, next to torch's bfloat16 linear.

    python benchmarks/harmonic_decode.py               # about a minute on one core

Batch 1, one thread, one process. The contenders take turns, one call each a round, every call with the next of several
copies of its weights: so many that twice the last-level cache is read before any weight is read again. Each result is
first compared with the matrix that it stands for, in float64; only then is anything timed. The figure is the median of
the calls' CPU time (wall time beside it: on a quiet machine they agree). `bytes` are those of the weights that a call
reads, padding included; `predicted` is what their ratio promises, and what keeps a contender from it is its own work.
The goals are those of issue 5. The last table is of making the sine matrix once, not of decoding.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import rows
from bloomery.systems.harmonic.kernels.factorised import LowRankDecode, MonarchDecode
from bloomery.systems.harmonic.kernels.rows import Atoms, ScaleSpaceDecode, TapsDecode
from bloomery.systems.harmonic.kernels.scale_space import Levels
from bloomery.systems.harmonic.kernels.sine import sine_matrix

RESULTS = Path(__file__).parent / "results" / "harmonic_decode.json"
BASELINE = "torch bf16 linear"
LEVELS = Levels(smallest=0.7, ratio=2.0, count=8)
NARROW = 0.7
"""Width in index steps: the default of the row forms, and the smallest level."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    compression: float
    """Numbers of the dense matrix for each that is stored."""
    run: Callable[[Sequence[Tensor]], Tensor]
    """One product with these weights."""
    weights: tuple[Tensor, ...]
    wanted: Tensor
    """[o], float64: what the product should be."""
    allowed: float
    """Largest relative error: of bfloat16 weights where they are rounded here, else of float32 sums."""
    goal: float | None = None

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.weights)


def dense(size: int, x: Tensor) -> list[Contender]:
    """Also the plain torch of both factorised forms in bfloat16: two calls, no kernels."""
    weight = torch.randn(size, size) / math.sqrt(size)
    found = []
    for name, dtype in ((BASELINE, torch.bfloat16), ("torch fp32 linear", torch.float32)):
        own, row = weight.to(dtype), x.to(dtype)[None]
        wanted = own.double() @ row[0].double()
        found.append(Contender(name, 1.0, lambda w, row=row: F.linear(row, w[0])[0], (own,), wanted, 1e-2))
    return found


def fitting(size: int, compression: float, per_component: int) -> int:
    return max(1, math.floor(size * size / compression / per_component))


def low_rank(size: int, x: Tensor, compression: float, goal: float | None) -> list[Contender]:
    rank = fitting(size, compression, 2 * size)
    decode = LowRankDecode.pack(torch.randn(size, rank) / rank**0.5, torch.randn(rank, size) / size**0.5)
    left, right = decode.out_factor, decode.in_factor
    wanted = left.double() @ (right.double() @ x.double())
    ratio, row = size * size / (2 * rank * size), x.to(torch.bfloat16)[None]

    def torch_run(w: Sequence[Tensor]) -> Tensor:
        return F.linear(F.linear(row, w[1]), w[0])[0]

    def run(w: Sequence[Tensor]) -> Tensor:
        return LowRankDecode(left, right, (w[0], w[1]) if decode.packed else None)(x)

    name = f"low-rank {compression:g}x, r={rank}"
    return [
        Contender(name, ratio, run, decode.packed or (left, right), wanted, 1e-5, goal),
        Contender(f"  {name}, plain torch bf16", ratio, torch_run, (left, right), wanted, 2e-2),
    ]


def monarch(size: int, x: Tensor, compression: float, goal: float | None) -> list[Contender]:
    blocks = min(64, size // 2)
    width = fitting(size, compression, 2 * size)
    piece = size // blocks
    first, second = torch.randn(blocks, width, piece) / piece**0.5, torch.randn(blocks, piece, width) / width**0.5
    decode = MonarchDecode.pack(first, second)
    one, two, row = decode.in_blocks, decode.out_blocks, x.to(torch.bfloat16)
    inner = torch.bmm(one.double(), x.double().view(blocks, piece, 1))
    wanted = torch.bmm(two.double(), inner.view(blocks, width).t().reshape(blocks, width, 1)).flatten()
    ratio = size * size / (2 * width * size)

    def torch_run(w: Sequence[Tensor]) -> Tensor:
        features = torch.bmm(w[0], row.view(blocks, piece, 1))
        return torch.bmm(w[1], features.view(blocks, width).t().reshape(blocks, width, 1)).flatten()

    def run(w: Sequence[Tensor]) -> Tensor:
        return MonarchDecode(one, two, (w[0], w[1]) if decode.packed else None)(x)

    name = f"Monarch {compression:g}x, b={blocks} k={width}"
    return [
        Contender(name, ratio, run, decode.packed or (one, two), wanted, 1e-5, goal),
        Contender(f"  {name}, plain torch bf16", ratio, torch_run, (one, two), wanted, 2e-2),
    ]


def row_forms(size: int, x: Tensor, compression: float, goal: float | None) -> list[Contender]:
    """Atoms at random places and widths; three numbers each. The table is made in every call of the first."""
    count = fitting(size, compression, 3 * size)
    amplitude, centre = torch.randn(size, count) / count**0.5, torch.rand(size, count) * (size - 1)
    width = NARROW * LEVELS.ratio ** (torch.rand(size, count) * (LEVELS.count - 1))
    ratio = size * size / (3 * count * size)
    wide = ScaleSpaceDecode.pack(size, amplitude, centre, width, LEVELS)
    narrow = TapsDecode.pack(size, amplitude, centre, torch.full_like(width, NARROW))
    table = rows.table(x, LEVELS)

    def with_weights(atoms: Atoms, w: Sequence[Tensor]) -> Atoms:
        return Atoms(atoms.where, atoms.weights, atoms.step, (w[0], w[1]) if atoms.packed else None)

    def run_wide(w: Sequence[Tensor]) -> Tensor:
        return ScaleSpaceDecode(size, LEVELS, with_weights(wide.atoms, w))(x)

    def run_shared(w: Sequence[Tensor]) -> Tensor:
        return with_weights(wide.atoms, w).of(table)

    def run_narrow(w: Sequence[Tensor]) -> Tensor:
        return TapsDecode(size, with_weights(narrow.atoms, w))(x)

    exact = rows.blurred(x.double(), LEVELS)
    exact = F.pad(exact, (0, wide.atoms.step - LEVELS.count)).flatten()
    of_table, of_taps = (_summed(form.atoms, numbers) for form, numbers in ((wide, exact), (narrow, x.double())))
    packed = wide.atoms.packed or (wide.atoms.where, wide.atoms.weights)
    taps = narrow.atoms.packed or (narrow.atoms.where, narrow.atoms.weights)
    return [
        Contender(f"scale-space {compression:g}x, K={count}", ratio, run_wide, packed, of_table, 2e-3, goal),
        Contender(f"  scale-space {compression:g}x, table at hand", ratio, run_shared, packed, of_table, 2e-3),
        Contender(f"narrow rows {compression:g}x, K={count}", ratio, run_narrow, taps, of_taps, 1e-5),
    ]


def _summed(atoms: Atoms, numbers: Tensor) -> Tensor:
    offsets = torch.tensor((0, 1, atoms.step, atoms.step + 1))
    return (numbers[atoms.where[..., None] + offsets] * atoms.weights.double()).sum((1, 2))


def contenders(size: int) -> list[Contender]:
    x = torch.randn(size).to(torch.bfloat16).float()
    found = dense(size, x)
    for compression, goal in ((33.0, 6.0), (10.0, None)):
        found += low_rank(size, x, compression, goal) + monarch(size, x, compression, goal)
    return found + row_forms(size, x, 33.0, 2.0) + row_forms(size, x, 132.0, None)


def error_of(contender: Contender) -> float:
    found = contender.run(contender.weights).double()
    return float((found - contender.wanted).norm() / contender.wanted.norm())


def last_level_cache() -> int:
    """Bytes, as Linux tells; 64 MiB where it does not."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1))
    return max(sizes, default=64 * 2**20)


def measure(found: list[Contender], rounds: int, rotate: int) -> dict[str, tuple[list[float], list[float]]]:
    """{name: (CPU, wall)} seconds of each call. `rotate`: bytes read before a weight is read again."""
    copies = max(2, math.ceil(rotate / sum(contender.bytes for contender in found)))
    held = [[tuple(w.clone() for w in contender.weights) for _ in range(copies)] for contender in found]
    times: dict[str, tuple[list[float], list[float]]] = {contender.name: ([], []) for contender in found}
    for number in range(rounds + 1):
        for contender, weights in zip(found, held, strict=True):
            chosen = weights[number % copies]
            wall, cpu = time.perf_counter(), time.thread_time()
            contender.run(chosen)
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            if number:  # the first round is to warm up
                times[contender.name][0].append(cpu)
                times[contender.name][1].append(wall)
    return times


def sine_making(size: int, rounds: int) -> dict[str, float]:
    """Median CPU seconds of one sine matrix at 33x."""
    rank = fitting(size, 33.0, 2 * size)
    left, right, gain = torch.randn(size, rank), torch.randn(rank, size) / rank**0.5, torch.rand(size)
    ways: dict[str, Callable[[], Tensor]] = {
        "C": lambda: sine_matrix(left, right, gain, 3.0),
        "torch": lambda: torch.mm(left * 3.0, right).sin_().mul_(gain[:, None]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.thread_time()
            way()
            if number:
                times[name].append(time.thread_time() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def report(found: list[Contender], times: dict[str, tuple[list[float], list[float]]]) -> list[dict[str, Any]]:
    base = next(contender for contender in found if contender.name == BASELINE)
    base_time = statistics.median(times[BASELINE][0])
    print(f"{'':<44} {'stored':>7} {'KiB':>8} {'CPU us':>8} {'wall us':>8} {'ratio':>7} {'predicted':>9} {'goal':>5}")
    table = []
    for contender in found:
        cpu, wall = (statistics.median(each) for each in times[contender.name])
        row = {
            "name": contender.name.strip(), "compression": round(contender.compression, 2), "bytes": contender.bytes,
            "cpu_us": round(cpu * 1e6, 1), "wall_us": round(wall * 1e6, 1),
            "best_cpu_us": round(min(times[contender.name][0]) * 1e6, 1), "times_faster": round(base_time / cpu, 2),
            "predicted_by_bytes": round(base.bytes / contender.bytes, 2), "goal": contender.goal,
            "met": None if contender.goal is None else base_time / cpu >= contender.goal,
            "relative_error": float(f"{error_of(contender):.1e}"),
        }  # fmt: skip
        goal = "" if contender.goal is None else f"{contender.goal:g} {'met' if row['met'] else 'MISSED'}"
        print(
            f"{contender.name:<44} {contender.compression:>6.1f}x {contender.bytes / 1024:>8,.0f} {cpu * 1e6:>8,.0f}"
            f" {wall * 1e6:>8,.0f} {row['times_faster']:>6.1f}x {row['predicted_by_bytes']:>8.1f}x {goal}"
        )
        table.append(row)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--rotate", type=int, help="MiB read before a weight is read again; default: 2 x the cache")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load_before = os.getloadavg()[0]
    try:
        with torch.inference_mode():
            found = contenders(wanted.size)
            for contender in found:
                if not error_of(contender) <= contender.allowed:
                    raise SystemExit(f"{contender.name} is off by {error_of(contender):.1e}: nothing is timed")
            rotate = wanted.rotate * 2**20 if wanted.rotate is not None else 2 * last_level_cache()
            table = report(found, measure(found, wanted.rounds, rotate))
            sine = sine_making(wanted.size, max(1, wanted.rounds // 10))
    finally:
        torch.set_num_threads(threads)
    print(f"sine matrix made once: {sine['C'] * 1e3:.1f} ms in C, {sine['torch'] * 1e3:.1f} ms in torch")
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "processor": native.processor()[3:],
        "torch": torch.__version__, "python": platform.python_version(), "kernels": native.describe(),
        "size": wanted.size, "rounds": wanted.rounds, "rotated_bytes": rotate, "cache_bytes": last_level_cache(),
        "load": [load_before, os.getloadavg()[0]], "contenders": table, "sine_matrix_seconds": sine,
    }  # fmt: skip
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {wanted.out}")


if __name__ == "__main__":
    main()
