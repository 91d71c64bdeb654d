"""What test_kernels_on_gpu.py runs in a process of its own, with TRITON_INTERPRET=1 from the start.

Every `check_` is against float64; prints {name: what went wrong, or nothing} as JSON.
"""

import contextlib
import json
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.bases.row_cos import Cosines
from bloomery.systems.harmonic.bases.row_gabor import Gabors
from bloomery.systems.harmonic.bases.row_gauss import Gaussians
from bloomery.systems.harmonic.kernels import chosen, on_gpu, rows_on_gpu
from bloomery.systems.harmonic.kernels.atoms import KINDS, Kind
from bloomery.systems.harmonic.kernels.rows import ScaleSpaceDecode, table
from bloomery.systems.harmonic.kernels.scale_space import Levels, blurred, scale_space_rows


def draw(*shape: int) -> Tensor:
    return torch.randn(shape)


def uniform(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape)


def close(found: Tensor, wanted: Tensor, tolerance: float = 3e-6) -> None:
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert (found.double() - wanted).norm() <= tolerance * wanted.norm() + 1e-12, (found, wanted)


@contextlib.contextmanager
def served(kernel: chosen.Name, module: Any, *names: str) -> Iterator[list[str]]:
    """The CPU counts as a GPU, if this kernel finds what it has to; which functions of the module are called."""
    called: list[str] = []
    plain = {name: getattr(module, name) for name in names}

    def counting(name: str) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            called.append(name)
            return plain[name](*values)

        return call

    chosen.DEVICES = ("cpu",)
    assert chosen.serves(torch.device("cpu"), kernel), chosen._refusals  # the proof is not counted
    for name in names:
        setattr(module, name, counting(name))
    try:
        yield called
    finally:
        chosen.DEVICES = ("cuda",)
        for name in names:
            setattr(module, name, plain[name])


def check_low_rank_and_sine() -> None:
    for outputs, rank, inputs in ((1, 1, 1), (33, 7, 130), (20, 17, 300)):
        left, right, x = draw(outputs, rank).bfloat16(), draw(rank, inputs).bfloat16(), draw(inputs)
        close(on_gpu.low_rank(left, right, x), left.double() @ right.double() @ x.double())
        gain, omega = draw(outputs), 3.0
        phase = omega * left.double() @ right.double()
        close(on_gpu.sine(left, right, gain, omega, x), gain.double() * (torch.sin(phase) @ x.double()))


def check_monarch() -> None:
    for blocks, inputs, width, outputs in ((1, 3, 2, 5), (4, 8, 3, 17), (3, 140, 20, 6)):
        first, second = draw(blocks, width, inputs).bfloat16(), draw(blocks, outputs, width).bfloat16()
        x, whole = draw(blocks * inputs), torch.zeros(blocks * outputs, blocks * inputs, dtype=torch.float64)
        for p in range(blocks):
            for j in range(width):
                f, q = divmod(p * width + j, blocks)
                rows, columns = slice(p * outputs, (p + 1) * outputs), slice(q * inputs, (q + 1) * inputs)
                whole[rows, columns] += torch.outer(second[p, :, j].double(), first[q, f].double())
        close(on_gpu.monarch(first, second, x), whole @ x.double())


def check_pyramid() -> None:
    """Against the sum written out; columns beyond the last width repeat it, and a width may be longer than the row."""
    for inputs, levels, step in (
        (1, Levels(0.5, 2.0, 2), 2),
        (37, Levels(0.7, 1.9, 3), 5),
        (150, Levels(0.5, 5.0, 4), 4),
    ):
        x = draw(inputs)
        found = rows_on_gpu.pyramid(x, levels.smallest, levels.ratio, levels.count, step)
        away = torch.arange(inputs).double()[:, None] - torch.arange(inputs).double()
        widths = [*levels.widths(), *[levels.widths()[-1]] * (step - levels.count)]
        columns = [torch.exp(-0.5 * (away / s) ** 2) @ x.double() / (s * (2 * torch.pi) ** 0.5) for s in widths]
        close(found, torch.stack(columns, dim=1).flatten())


def check_scale_space_decoding() -> None:
    """Against the layer's own rows (6e-3: weights are bfloat16), and against the rounded weights written out."""
    with served("scale_space", rows_on_gpu, "pyramid", "look_ups") as called:
        for inputs, outputs, count, steps in ((2, 3, 1, 2), (40, 17, 67, 7)):
            levels, x = Levels(0.7, 2.0, steps), draw(inputs)
            amplitude, centre = draw(outputs, count), uniform(-1, inputs, outputs, count)
            width = levels.smallest * levels.ratio ** uniform(-0.5, steps - 0.5, outputs, count)
            decode = ScaleSpaceDecode.pack(inputs, amplitude, centre, width, levels)
            found = decode(x)
            exact = [value.double() for value in (amplitude, centre, width)]
            close(found, scale_space_rows(x.double()[None], *exact, levels)[0], 6e-3)
            atoms, whole = decode.atoms, torch.zeros(outputs, inputs * decode.atoms.step).double()
            for offset, weight in zip(
                (0, 1, atoms.step, atoms.step + 1), atoms.weights.double().unbind(-1), strict=True
            ):
                whole.scatter_add_(1, atoms.where + offset, weight)
            read = torch.nn.functional.pad(blurred(x.double(), levels), (0, atoms.step - steps)).flatten()
            close(found, whole @ read)
            shared = table(x, levels)
            assert torch.equal(atoms.of(shared), found), "a table serves several matrices"
            assert torch.equal(rows_on_gpu.look_ups(atoms.where.int(), atoms.weights, shared, atoms.step), found)
        assert set(called) == {"pyramid", "look_ups"}


def rows_of(kind: Kind, inputs: int, outputs: int, count: int) -> tuple[Any, float, list[Tensor]]:
    if kind == "cos":
        places = [uniform(0, inputs / 2, outputs, count), uniform(0, 6.3, outputs, count)]
        return Cosines(inputs), 1.0, [draw(outputs, count), *places]
    unit = 0.7
    bell = [uniform(-2, inputs + 2, outputs, count) / unit, uniform(-1, 3, outputs, count)]
    if kind == "gauss":
        return Gaussians(inputs, unit), unit, [draw(outputs, count), *bell]
    wave = [uniform(0, 0.5, outputs, count), uniform(0, 6.3, outputs, count)]
    return Gabors(inputs, unit), unit, [draw(outputs, count), *bell, *wave]


def check_rows_and_their_gradients() -> None:
    """Against autograd in float64 on the formula of one atom; no worse than torch in float32, but for the last bits."""
    for kind in KINDS:
        for outputs, inputs, count in ((1, 1, 1), (2, 150, 9)):
            form, unit, factors = rows_of(kind, inputs, outputs, count)
            upstream = draw(outputs, inputs)
            leaves = [factor.double().requires_grad_() for factor in factors]
            rows = sum(leaves[0][:, k : k + 1] * form.atom(*(leaf[:, k] for leaf in leaves[1:])) for k in range(count))
            assert isinstance(rows, Tensor)
            wanted = [rows.detach(), *torch.autograd.grad(rows, leaves, upstream.double())]
            weight = rows_on_gpu.make_rows(kind, inputs, unit, factors)
            found = [weight, *rows_on_gpu.rows_again(kind, unit, upstream, factors)]
            usual, slopes = form.again_by_torch(upstream.clone(), *factors)
            for here, there, exact in zip(found, (usual, *slopes), wanted, strict=True):
                error = float((there.double() - exact).norm() / (exact.norm() + 1e-30))
                assert error < 1e-4, (kind, inputs, error)
                close(here, exact, 1.5 * error + 3e-6)
            assert torch.equal(
                rows_on_gpu.make_rows(kind, inputs, unit, [f.t().contiguous().t() for f in factors]), weight
            )


def check_layers_decode() -> None:
    cases: tuple[tuple[str, chosen.Name, Any, list[str]], ...] = (
        ("lowrank", "low_rank", on_gpu, ["low_rank"]), ("monarch", "monarch", on_gpu, ["monarch"]),
        ("row_scale_space", "scale_space", rows_on_gpu, ["pyramid", "look_ups"]),
    )  # fmt: skip
    for basis, kernel, module, names in cases:
        layer = make(basis, 48, 32, 4.0, compute_dtype=torch.bfloat16)
        layer.initialise()
        x = draw(48).bfloat16()
        with torch.no_grad(), served(kernel, module, *names) as called:
            found, once = layer(x), list(called)
            assert torch.equal(layer(x[None, None])[0, 0], found)
            close(found.float(), layer.weight().double() @ x.double(), 1e-2)
        assert once == names, once


def check_layers_train() -> None:
    """Loss and gradients as torch finds them; W of a pass without gradients is the one that is trained."""
    for kind in KINDS:
        layer = make(f"row_{kind}", 24, 5, 4.0)
        layer.initialise()
        x, upstream = draw(3, 24), draw(3, 5)

        def step(layer: Any = layer, x: Tensor = x, upstream: Tensor = upstream) -> list[Tensor]:
            y = layer(x)
            return [y.detach(), *torch.autograd.grad(y, list(layer.parameters()), upstream)]

        with served(kind, rows_on_gpu, "make_rows", "rows_again") as called:
            found = step()
            assert called == ["make_rows", "rows_again", "make_rows"], called
            with torch.no_grad():
                assert torch.equal(layer(x), found[0])
        os.environ["BLOOMERY_NATIVE"] = "0"
        wanted = step()
        del os.environ["BLOOMERY_NATIVE"]
        for here, there in zip(found, wanted, strict=True):
            close(here, there.double(), 1e-4)


if __name__ == "__main__":
    said = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            torch.manual_seed(0)
            try:
                check()
                said[name] = ""
            except Exception:
                said[name] = traceback.format_exc()[-3000:]
    print(json.dumps(said))
