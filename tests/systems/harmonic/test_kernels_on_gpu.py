"""The Triton kernels through triton's interpreter, in a process of its own, against the whole matrix in float64.

Only the arithmetic is tested here: no GPU is.
"""

import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from bloomery.systems.harmonic.kernels import on_gpu

def draw(*shape):
    return torch.randn(shape, generator=generator)

def close(found, wanted):
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    assert (found.double() - wanted).abs().max() <= 3e-6 * wanted.norm() + 1e-12, (found, wanted)

generator = torch.Generator().manual_seed(0)
for outputs, rank, inputs in ((1, 1, 1), (33, 7, 130), (20, 17, 300)):
    left, right, x = draw(outputs, rank).bfloat16(), draw(rank, inputs).bfloat16(), draw(inputs)
    close(on_gpu.low_rank(left, right, x), left.double() @ right.double() @ x.double())
    gain, omega = draw(outputs), 3.0
    phase = omega * left.double() @ right.double()
    close(on_gpu.sine(left, right, gain, omega, x), gain.double() * (torch.sin(phase) @ x.double()))

for blocks, inputs, width, outputs in ((1, 3, 2, 5), (4, 8, 3, 17), (3, 140, 20, 6)):
    first, second = draw(blocks, width, inputs).bfloat16(), draw(blocks, outputs, width).bfloat16()
    x, whole = draw(blocks * inputs), torch.zeros(blocks * outputs, blocks * inputs, dtype=torch.float64)
    for p in range(blocks):
        for j in range(width):
            f, q = divmod(p * width + j, blocks)
            rows, columns = slice(p * outputs, (p + 1) * outputs), slice(q * inputs, (q + 1) * inputs)
            whole[rows, columns] += torch.outer(second[p, :, j].double(), first[q, f].double())
    close(on_gpu.monarch(first, second, x), whole @ x.double())
print("equal")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_through_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"


def test_without_triton_the_import_says_so() -> None:
    if importlib.util.find_spec("triton") is not None:
        pytest.skip("triton is installed")
    with pytest.raises(ModuleNotFoundError, match="triton"):
        importlib.import_module("bloomery.systems.harmonic.kernels.on_gpu")
