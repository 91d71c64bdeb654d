"""Which device and which dtype, each with its reason; what `bloomery doctor` says about kernels.

bfloat16 pays only where the processor multiplies it in hardware: without it torch emulates bfloat16 products at about a
quarter of the float32 rate, so float32 is chosen there. Refuses devices that torch does not see.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bloomery.errors import TrainingError
from bloomery.model import native


@dataclass(frozen=True, slots=True)
class Choice:
    """A device or dtype, and why it was chosen."""

    value: str
    why: str


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def choose_device(wanted: str = "auto") -> Choice:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `hip` (torch calls it cuda) or `mps`."""
    name = wanted.replace("hip", "cuda")
    kind = name.split(":")[0]
    if kind == "auto":
        if torch.cuda.is_available():
            return Choice("cuda", f"{torch.cuda.get_device_name(0)} is the fastest device that torch sees")
        if torch.backends.mps.is_available():
            return Choice("mps", "Apple GPU")
        return Choice("cpu", "torch sees no GPU")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in present:
        raise TrainingError("device", f"'{wanted}'", "auto, cpu, cuda, hip or mps")
    if not present[kind]:
        seen = ", ".join(name for name, there in present.items() if there)
        raise TrainingError("device", f"torch {torch.__version__} sees no {wanted} device", f"one of: {seen}")
    return Choice(name, "asked for")


def reported_name(device: str) -> str:
    """What its driver calls a device: `NVIDIA H100 80GB HBM3`, `Apple M4`; by this the price table knows it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return torch.backends.mps.get_name() if device == "mps" else device


def multiplies_bfloat16(device: str) -> tuple[bool, str]:
    """Whether bfloat16 products run in hardware, and what was looked at."""
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, f"{torch.cuda.get_device_name(torch.device(device))}"
    if device == "cpu":
        asked = {"AVX512-BF16": torch.cpu._is_avx512_bf16_supported, "AMX": torch.cpu._is_amx_tile_supported}
        names = [name for name, supported in asked.items() if supported()]
        return bool(names), f"CPU with {' and '.join(names)}" if names else "CPU without bfloat16 instructions"
    return False, f"{device}: bfloat16 was never tried"


def choose_dtype(wanted: str, device: str) -> Choice:
    """`auto`, `float32`, `bfloat16` or `float64`: what matrix products run in. Weights stay float32 in any case."""
    if wanted == "auto":
        native, looked_at = multiplies_bfloat16(device)
        return Choice("bfloat16" if native else "float32", looked_at)
    if wanted not in DTYPES:
        raise TrainingError("dtype", f"'{wanted}'", "auto, " + ", ".join(DTYPES))
    return Choice(wanted, "asked for")


def capabilities(device: str = "auto") -> list[str]:
    """Plain sentences for `bloomery doctor`: what would be used here, by which path, and what was never run."""
    chosen = choose_device(device)
    dtype = choose_dtype("auto", chosen.value)
    on_cpu = chosen.value == "cpu"
    lines = [
        f"device: {chosen.value} ({chosen.why})",
        f"dtype of matrix products: {dtype.value} ({dtype.why}); weights and optimiser float32",
        f"threads: {torch.get_num_threads()} of {os.cpu_count()} cores",
        "attention: " + ("matrix products per block of queries, float32 softmax" if on_cpu else
                         "torch scaled_dot_product_attention"),
        "cross-entropy: chunked, gradients beside the loss, plain torch",
        "optimiser: fused AdamW; Muon by torch.optim.Muon",
        native.describe(),
    ]  # fmt: skip
    if on_cpu:
        lines.append("never run here: the cuda, hip and mps paths")
    else:
        lines.append(f"not covered by the tests: the {chosen.value} path; resume there is not promised to be bit-exact")
    return lines


_PEAKS: dict[tuple[str, int], float] = {}


def matmul_peak(device: str = "cpu", *, seconds: float = 0.2) -> float:
    """Measured FLOP/s of the faster of square float32 and bfloat16 products with the threads now set; about `seconds`.

    Measured once per process, device and thread count.
    """
    key = (device, torch.get_num_threads())
    if key not in _PEAKS:
        _PEAKS[key] = max(
            measure_matmul(device, torch.float32, seconds / 2), measure_matmul(device, torch.bfloat16, seconds / 2)
        )
    return _PEAKS[key]


def measure_matmul(device: str, dtype: torch.dtype, seconds: float, size: int | None = None) -> float:
    """FLOP/s of the best of repeated size x size products in `dtype`."""
    size = size or (8192 if device.startswith("cuda") else 1024)
    a = torch.ones(size, size, dtype=dtype, device=device)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, a)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def reproducibly(threads: int | None, device: str) -> Iterator[None]:
    """Deterministic algorithms, a fixed thread count, and the generators as they were afterwards.

    Torch would also fill every fresh tensor with NaN in this mode, for debugging; that costs 5 % and is switched off.
    """
    deterministic: Any = torch.utils.deterministic
    before_threads, before_fill = torch.get_num_threads(), deterministic.fill_uninitialized_memory
    before_mode = torch.get_deterministic_debug_mode()
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.set_num_threads(threads or before_threads)
        deterministic.fill_uninitialized_memory = False
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would load the compiler
        with torch.random.fork_rng(devices=None if device.startswith("cuda") else []):
            yield
    finally:
        torch.set_deterministic_debug_mode(before_mode)
        deterministic.fill_uninitialized_memory = before_fill
        torch.set_num_threads(before_threads)
        synchronise(device)
