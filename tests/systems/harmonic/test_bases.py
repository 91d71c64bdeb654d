"""What every basis promises, each against a matrix written out entry by entry: value, gradient, variance, counts."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from bloomery.systems.harmonic import sizes
from bloomery.systems.harmonic.bases import TABLE, make
from bloomery.systems.harmonic.bases.hashed import HashedLinear, places
from bloomery.systems.harmonic.bases.kron import KronLinear
from bloomery.systems.harmonic.bases.lowrank import LowRankLinear
from bloomery.systems.harmonic.bases.monarch import MonarchLinear
from bloomery.systems.harmonic.bases.row_cos import RowCosLinear
from bloomery.systems.harmonic.bases.row_gabor import RowGaborLinear
from bloomery.systems.harmonic.bases.row_gauss import RowGaussLinear
from bloomery.systems.harmonic.bases.row_scale_space import RowScaleSpaceLinear
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.config import Basis
from bloomery.systems.harmonic.layers import Factorised, Generated, HarmonicLinear

# The slow references: W [o i] by loops over entries and components, differentiated by autograd.


def sine(m: SineLinear, o: int, i: int) -> Tensor:
    phase = sum(m.out_coordinates[o, r] * m.in_coordinates[r, i] for r in range(m.rank))
    return m.gain[o] * torch.sin(m.omega * torch.as_tensor(phase))


def lowrank(m: LowRankLinear, o: int, i: int) -> Tensor:
    return torch.as_tensor(sum(m.out_factor[o, r] * m.in_factor[r, i] for r in range(m.rank)))


def monarch(m: MonarchLinear, o: int, i: int) -> Tensor:
    """Feature f of the middle is feature f // b of input block f % b, and belongs to output block f // k."""
    b, k = m.blocks, m.block_width
    piece, row = divmod(o, m.outputs // b)
    block, column = divmod(i, m.inputs // b)
    total = torch.zeros((), dtype=m.in_blocks.dtype)
    for feature in range(b * k):
        if feature // k == piece and feature % b == block:
            total = total + m.out_blocks[piece, row, feature % k] * m.in_blocks[block, feature // b, column]
    return total


def kron(m: KronLinear, o: int, i: int) -> Tensor:
    """Each term as torch.kron makes it."""
    return torch.as_tensor(sum(torch.kron(m.left[t], m.right[t])[o, i] for t in range(m.terms)))


def hashed(m: HashedLinear, o: int, i: int) -> Tensor:
    """MurmurHash3's finaliser on Python integers."""
    h = (o * m.inputs + i + 0x9E3779B9) % 2**32
    h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
    h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
    h ^= h >> 16
    return m.value[(h // 2) % m.value.numel()] * (-1) ** (h % 2)


def row_gauss(m: RowGaussLinear, o: int, i: int) -> Tensor:
    total = torch.zeros((), dtype=m.amplitude.dtype)
    for k in range(m.atoms):
        width = m.unit * torch.exp(m.log_width[o, k])
        u = (i - m.centre[o, k] * m.unit) / width
        total = total + m.amplitude[o, k] * torch.exp(-(u**2) / 2) / (math.pi**0.25 * torch.sqrt(width))
    return total


def row_gabor(m: RowGaborLinear, o: int, i: int) -> Tensor:
    total = torch.zeros((), dtype=m.amplitude.dtype)
    for k in range(m.atoms):
        width, centre = m.unit * torch.exp(m.log_width[o, k]), m.centre[o, k] * m.unit
        bell = math.sqrt(2) * torch.exp(-(((i - centre) / width) ** 2) / 2) / (math.pi**0.25 * torch.sqrt(width))
        wave = torch.cos(2 * math.pi * m.frequency[o, k] * (i - centre) + m.phase[o, k])
        total = total + m.amplitude[o, k] * bell * wave
    return total


def row_scale_space(m: RowScaleSpaceLinear, o: int, i: int) -> Tensor:
    """The blurred unit vector e_i, between four of its entries."""
    widths, total = m.levels.widths(), torch.zeros((), dtype=m.amplitude.dtype)
    for k in range(m.atoms):
        centre = (0.7 * m.centre[o, k]).clamp(0, m.inputs - 1)
        width = (0.7 * torch.exp(m.log_width[o, k])).clamp(widths[0], widths[-1])
        level = torch.log(width / widths[0]) / math.log(2)
        c, s = min(int(centre), m.inputs - 2), min(int(level), len(widths) - 2)
        f, g = centre - c, level - s
        value = sum(
            share * math.exp(-(((i - position) / blur) ** 2) / 2) / (blur * math.sqrt(2 * math.pi))
            for share, position, blur in (
                ((1 - f) * (1 - g), c, widths[s]), (f * (1 - g), c + 1, widths[s]),
                ((1 - f) * g, c, widths[s + 1]), (f * g, c + 1, widths[s + 1]),
            )
        )  # fmt: skip
        total = total + m.amplitude[o, k] * (4 * math.pi) ** 0.25 * torch.sqrt(width) * value
    return total


def row_cos(m: RowCosLinear, o: int, i: int) -> Tensor:
    x = (i + 0.5) / m.inputs - 0.5
    waves = (
        m.amplitude[o, k] * math.sqrt(2 / m.inputs) * torch.cos(2 * math.pi * m.frequency[o, k] * x + m.phase[o, k])
        for k in range(m.atoms)
    )
    return torch.as_tensor(sum(waves))


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "sine": sine, "lowrank": lowrank, "monarch": monarch, "kron": kron, "hashed": hashed,
    "row_gauss": row_gauss, "row_scale_space": row_scale_space, "row_gabor": row_gabor, "row_cos": row_cos,
}  # fmt: skip


def reference(module: HarmonicLinear, basis: str) -> Tensor:
    entry = REFERENCES[basis]
    rows = [[entry(module, o, i) for i in range(module.inputs)] for o in range(module.outputs)]
    return torch.stack([torch.stack(row) for row in rows])


def layer(
    basis: str, inputs: int = 12, outputs: int = 8, compression: float = 1.1, **options: object
) -> HarmonicLinear:
    """Initialised, then every parameter moved off any symmetric starting value."""
    torch.manual_seed(0)
    module = make(basis, inputs, outputs, compression, **options)
    module.initialise()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.3 * torch.rand_like(parameter)).add_(0.02 * torch.randn_like(parameter))
    return module


def gradients(output: Tensor, inputs: Tensor, module: HarmonicLinear, upstream: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, [inputs, *module.parameters()], upstream))


def test_every_basis_has_a_closed_form_and_a_reference() -> None:
    assert set(TABLE) == set(get_args(Basis)) == set(REFERENCES) == set(sizes.FORMS)


def test_value_and_gradients_of_wide_atoms() -> None:
    for basis in ("row_gauss", "row_gabor"):
        module = layer(basis, compute_dtype=torch.float64, atom_width="wide").double()
        inputs, upstream = torch.randn(5, 12).double().requires_grad_(), torch.randn(5, 8).double()
        found, expected = module(inputs), inputs @ reference(module, basis).t()
        pairs = zip(
            [found, *gradients(found, inputs, module, upstream)],
            [expected, *gradients(expected, inputs, module, upstream)],
            strict=True,
        )
        for here, there in pairs:
            torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("basis", TABLE)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 3e-2)]
)
def test_value_and_gradients_equal_the_written_out_matrix(basis: str, dtype: torch.dtype, tolerance: float) -> None:
    module = layer(basis, compute_dtype=dtype)
    exact = layer(basis, compute_dtype=torch.float64).double()
    if dtype == torch.float64:
        module = module.double()
    inputs, upstream = torch.randn(3, 10, 12), torch.randn(3, 10, 8)
    found_inputs, expected_inputs = inputs.to(dtype).requires_grad_(), inputs.double().requires_grad_()
    matrix = reference(exact, basis)
    found, expected = module(found_inputs), torch.einsum("...i,oi->...o", expected_inputs, matrix)
    pairs = [(module.weight(), matrix.detach()), (found, expected)]
    pairs += zip(
        gradients(found, found_inputs, module, upstream.to(dtype)),
        gradients(expected, expected_inputs, exact, upstream.double()),
        strict=True,
    )
    assert found.dtype == dtype
    for here, there in pairs:
        assert (here.double() - there).norm() <= tolerance * there.norm()


@pytest.mark.parametrize("basis", TABLE)
def test_gradcheck_in_float64(basis: str) -> None:
    module = layer(basis, 6, 4, 1.1, compute_dtype=torch.float64).double()
    inputs = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)

    def apply(inputs: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in module.named_parameters()]
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (inputs,))

    assert torch.autograd.gradcheck(apply, (inputs, *module.parameters()))


@pytest.mark.parametrize("basis", TABLE)
@pytest.mark.parametrize("gain", [1.0, 0.35])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (64, 176), (176, 64)])
def test_initial_variance_is_that_of_a_dense_layer(basis: str, inputs: int, outputs: int, gain: float) -> None:
    """Of a white input, which is the mean square of a row of W: exact, so the mean over draws is within their error."""
    torch.manual_seed(0)
    module = make(basis, inputs, outputs, 6, gain)
    draws = []
    for _ in range(100):
        module.initialise()
        draws.append(module.weight().square().sum(1).mean().item() / gain**2)
    spread = torch.tensor(draws).std().item() / math.sqrt(len(draws))
    assert sum(draws) / len(draws) == pytest.approx(1.0, abs=4 * spread + 2e-3)


@pytest.mark.parametrize("basis", TABLE)
def test_closed_form_scales_are_the_deviations_at_initialisation(basis: str) -> None:
    module = make(basis, 256, 192, 4, gain=0.5)
    module.initialise()
    scales = module.scales()
    assert set(scales) == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        if scales[name].group != "centres":
            assert parameter.square().mean().sqrt().item() == pytest.approx(scales[name].initial_scale, rel=0.1), name


@pytest.mark.parametrize("basis", TABLE)
@pytest.mark.parametrize(("inputs", "outputs", "compression"), [(24, 17, 2), (64, 48, 5), (256, 688, 10)])
def test_counts_are_those_of_the_closed_form(basis: str, inputs: int, outputs: int, compression: float) -> None:
    with torch.device("meta"):
        module = make(basis, inputs, outputs, compression)
    size, counted = sizes.size(basis, inputs, outputs, compression), module.tally()
    assert (counted.stored, counted.flops_per_token) == (size.stored, size.flops_per_token)
    assert (
        counted.stored == sum(parameter.numel() for parameter in module.parameters()) <= inputs * outputs / compression
    )


@pytest.mark.parametrize("basis", TABLE)
def test_backward_keeps_nothing_of_the_matrix(basis: str) -> None:
    """In number: the input, the factors and, where they are applied one by one, what is between them. Without making W
    again, its product alone would keep all of it."""
    inputs, outputs, rows = 64, 96, 10
    module = layer(basis, inputs, outputs, 6)
    x = torch.randn(rows, inputs, requires_grad=True)
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.numel()}) or t, lambda t: t):
        module(x)
    between = 2 * rows * 64 if isinstance(module, Factorised) else 0
    assert sum(kept.values()) <= x.numel() + between + sum(p.numel() for p in module.parameters())
    assert max(kept.values()) < inputs * outputs / 2
    if isinstance(module, Generated):
        saved, kept = sum(kept.values()), {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.update({t.data_ptr(): t.numel()}) or t, lambda t: t
        ):
            torch.nn.functional.linear(x, module.generator.generate(*module.factors()).detach().requires_grad_())
        assert sum(kept.values()) - saved >= 0.8 * inputs * outputs


@pytest.mark.parametrize("basis", TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_the_output_is_the_same_to_the_bit(basis: str, dtype: torch.dtype) -> None:
    module = layer(basis, compute_dtype=dtype)
    inputs = torch.randn(5, 12)
    training = module(inputs)
    with torch.inference_mode():
        assert torch.equal(module(inputs), training)
        assert torch.equal(module(inputs), training)
        for parameter in module.parameters():
            parameter.mul_(1.5)
            assert not torch.equal(module(inputs), training)
    assert "cached" not in module.state_dict()


@pytest.mark.parametrize("basis", ["sine", "lowrank", "monarch"])
@pytest.mark.parametrize("way", ["assign", "data"])
def test_what_is_kept_without_gradients_never_outlives_the_numbers(basis: str, way: str) -> None:
    """Replaced twice between two calls: the allocator likes to give the second the address that the first call saw."""
    module, other = (layer(basis, 64, 64, 4.0, compute_dtype=torch.bfloat16) for _ in range(2))
    inputs = torch.randn(1, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, shape in {name: parameter.shape for name, parameter in module.named_parameters()}.items():
            for turn in range(50):
                module(inputs)
                for value in (turn + 0.5, turn + 1.0):
                    if way == "assign":
                        module.load_state_dict({name: torch.full(shape, value / 50)}, assign=True, strict=False)
                    else:
                        module.get_parameter(name).data = torch.full(shape, value / 50)
                other.load_state_dict(module.state_dict())
                assert torch.equal(module(inputs), other(inputs)), (name, turn)


@pytest.mark.parametrize("basis", TABLE)
def test_built_and_called_in_inference_mode(basis: str) -> None:
    """Such tensors count no writes: nothing made of them may be kept."""
    outside = layer(basis, compute_dtype=torch.bfloat16)
    inputs = torch.randn(1, 12, dtype=torch.bfloat16)
    with torch.inference_mode():
        module = layer(basis, compute_dtype=torch.bfloat16)
        assert torch.equal(module(inputs), outside(inputs))
        for one in (module, outside):
            for parameter in one.parameters():
                parameter.mul_(1.5)
        assert torch.equal(module(inputs), outside(inputs))


@pytest.mark.parametrize("basis", TABLE)
def test_meta_device_allocates_nothing(basis: str) -> None:
    with torch.device("meta"):
        module = make(basis, 4096, 4096, 33)
        module(torch.empty(2, 8, 4096)).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.device.type == "meta"


def energy_rank(matrix: Tensor, share: float = 0.9) -> int:
    """How many singular values hold this share of the energy."""
    energy = torch.linalg.svdvals(matrix).square().cumsum(0)
    return int((energy < share * energy[-1]).sum()) + 1


@pytest.mark.parametrize("basis", TABLE)
def test_rank_at_the_start(basis: str) -> None:
    """Spec 2.1 orders bases by it. Of a dense random matrix of this shape the 65 largest hold 90 % of the energy."""
    torch.manual_seed(0)
    module = make(basis, 128, 128, 8)
    module.initialise()
    held = energy_rank(module.weight())
    if isinstance(module, LowRankLinear):
        assert held <= module.rank == 8
    else:
        assert held > 40


def test_wide_gaussians_collapse_the_rank_and_narrow_ones_do_not() -> None:
    held = {}
    for setting in ("narrow", "wide"):
        torch.manual_seed(0)
        module = make("row_gauss", 256, 256, 10, atom_width=setting)
        module.initialise()
        held[setting] = energy_rank(module.weight())
    assert held["wide"] < 16 < 90 < held["narrow"]


def test_widths_in_index_steps() -> None:
    wide, narrow = (make("row_gabor", 256, 256, 10, atom_width=setting) for setting in ("wide", "narrow"))
    assert isinstance(wide, RowGaborLinear)
    assert isinstance(narrow, RowGaborLinear)
    assert wide.atoms == 5
    assert wide.unit == pytest.approx(0.5 * 256 / 5)
    assert narrow.unit == 0.7


def test_hashed_values_are_shared_evenly_and_signs_are_even() -> None:
    place, sign = places(256, 256, 6553, torch.empty(0))
    counts = torch.bincount(place, minlength=6553).double()
    assert counts.mean().item() == pytest.approx(10.0, abs=0.01)
    assert counts.var().item() == pytest.approx(10.0, rel=0.1), "as if thrown at random: Poisson"
    assert sign.mean().item() == pytest.approx(0.0, abs=4 / 256)


# Transforms of the scale-space are compiled around, which the compiler says aloud; it breaks no graph.
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while tracing
@pytest.mark.parametrize("basis", [basis for basis in TABLE if basis != "sine"])
def test_compiles_without_a_graph_break(basis: str) -> None:
    module = layer(basis, 24, 16, 3)
    compiled = torch.compile(module, fullgraph=True)
    inputs, upstream = torch.randn(10, 24, requires_grad=True), torch.randn(10, 16)
    expected, found = module(inputs), compiled(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for here, there in zip(
        gradients(found, inputs, module, upstream), gradients(expected, inputs, module, upstream), strict=True
    ):
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)
