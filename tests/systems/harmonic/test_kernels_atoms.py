"""Rows of atoms and their gradients in C, against torch's in float64 and beside torch's own float32 error."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.bases.row_cos import Cosines
from bloomery.systems.harmonic.bases.row_gabor import Gabors
from bloomery.systems.harmonic.bases.row_gauss import Gaussians
from bloomery.systems.harmonic.bases.rows import Atoms
from bloomery.systems.harmonic.kernels import atoms
from bloomery.systems.harmonic.layers import RecomputedProduct

needs_library = pytest.mark.skipif(atoms.library() is None, reason="no C library: see model.native.refusals")
BASES = ("row_gauss", "row_gabor", "row_cos")
WIDTHS = {"tiny": (0.01, 0.3), "narrow": (0.5, 1.5), "middling": (2.0, 20.0), "wide": (20.0, 200.0),
          "huge": (1e3, 1e5)}  # fmt: skip
"""In index steps, from and to."""
CENTRES = {"within": (0.0, 1.0), "edge": (-0.02, 0.02), "other edge": (0.98, 1.02), "out": (-3.0, 4.0)}
"""In rows."""


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def draw(
    basis: str, outputs: int, inputs: int, count: int, widths: str = "narrow", centres: str = "within", seed: int = 0
) -> tuple[Atoms, list[Tensor]]:
    """Factors in float32, as layers have them."""
    generator = torch.Generator().manual_seed(seed)
    shape, unit = (outputs, count), 0.7
    amplitude, phase = torch.randn(shape, generator=generator), uniform(generator, -7.0, 7.0, *shape)
    if basis == "row_cos":
        return Cosines(inputs), [amplitude, uniform(generator, 0.0, inputs / 2, *shape), phase]
    low, high = CENTRES[centres]
    centre = uniform(generator, low * inputs / unit, high * inputs / unit, *shape)
    low, high = WIDTHS[widths]
    log_width = uniform(generator, math.log(low / unit), math.log(high / unit), *shape)
    if basis == "row_gauss":
        return Gaussians(inputs, unit), [amplitude, centre, log_width]
    return Gabors(inputs, unit), [amplitude, centre, log_width, uniform(generator, 0.0, 0.5, *shape), phase]


def gradient_for(outputs: int, inputs: int) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1))


def in_c(form: Atoms, factors: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """W and the gradients; asserts that C made them, and the same W without gradients."""
    alone, both = form.kernel().generate(factors), form.kernel().again(gradient, factors)
    assert alone is not None
    assert both is not None
    torch.testing.assert_close(both[0], alone, rtol=0, atol=0, equal_nan=True)
    return [both[0], *both[1]]


def by_torch(form: Atoms, factors: list[Tensor], gradient: Tensor) -> list[Tensor]:
    weight, into = form.again_by_torch(gradient.clone(), *factors)
    return [weight, *into]


def by_autograd(form: Atoms, factors: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """From the formula of the atom alone, in float64."""
    leaves = [factor.double().requires_grad_() for factor in factors]
    weight = sum(
        leaves[0][:, k : k + 1] * form.atom(*(leaf[:, k] for leaf in leaves[1:])) for k in range(factors[0].shape[1])
    )
    assert isinstance(weight, Tensor)
    return [weight.detach(), *torch.autograd.grad(weight, leaves, gradient.double())]


def sizes(basis: str, form: Atoms, factors: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """What an error is a share of: the amplitudes of a row, and |dW| of a row times an atom's derivative's length."""
    amplitude, along = factors[0].double().abs(), gradient.double().norm(dim=1, keepdim=True)
    whole, inputs = amplitude.sum(1, keepdim=True), gradient.shape[1]
    if basis == "row_cos":
        return [whole * math.sqrt(2 / inputs), along, along * amplitude * math.pi, along * amplitude]
    width = form.unit * factors[2].double().exp()  # pyright: ignore[reportAttributeAccessIssue]
    moved = 0.7 / width
    found = [(amplitude / width.sqrt()).sum(1, keepdim=True), along, along * amplitude * moved, along * amplitude]
    if basis == "row_gabor":
        found[2] = along * amplitude * (moved + 0.7 * 2 * math.pi * factors[3].double())
        found += [along * amplitude * 2 * math.pi * width, along * amplitude]
    return found


WHERE = [(basis, widths, centres) for basis in BASES[:2] for widths in WIDTHS for centres in CENTRES]


@needs_library
@pytest.mark.parametrize(("basis", "widths", "centres"), [*WHERE, ("row_cos", "", "")])
@pytest.mark.parametrize("inputs", [64, 301])
def test_values_and_gradients(basis: str, widths: str, centres: str, inputs: int) -> None:
    form, factors = draw(basis, 33, inputs, 7, widths, centres)
    gradient = gradient_for(33, inputs)
    exact = by_autograd(form, factors, gradient)
    found, plain = in_c(form, factors, gradient), by_torch(form, factors, gradient)
    for here, there, wanted, size in zip(found, plain, exact, sizes(basis, form, factors, gradient), strict=True):
        assert here.dtype == torch.float32
        assert here.shape == wanted.shape
        assert ((here.double() - wanted).abs() <= 2e-6 * size).all()
        # No worse than torch in float32, but for the last bit and for what lies beyond REACH.
        error, usual = (here.double() - wanted).norm(), (there.double() - wanted).norm()
        assert error <= 1.5 * usual + 2e-7 * wanted.norm() + 1e-8 * size.norm()


@needs_library
@given(
    st.sampled_from(BASES), st.integers(1, 9), st.integers(1, 140), st.integers(1, 9), st.sampled_from([*WIDTHS]),
    st.sampled_from([*CENTRES]), st.integers(0, 999),
)  # fmt: skip
def test_any_shape(basis: str, outputs: int, inputs: int, count: int, widths: str, centres: str, seed: int) -> None:
    form, factors = draw(basis, outputs, inputs, count, widths, centres, seed)
    gradient = gradient_for(outputs, inputs)
    pairs = zip(
        in_c(form, factors, gradient), by_autograd(form, factors, gradient), sizes(basis, form, factors, gradient),
        strict=True,
    )  # fmt: skip
    for here, wanted, size in pairs:
        assert ((here.double() - wanted).abs() <= 2e-6 * size).all()


@needs_library
def test_the_bell_alone() -> None:
    """The exponential, within three units in the last place of 1 wherever it is not left out, and zero beyond."""
    form = Gaussians(4001, 1.0)
    centre, width = torch.full((1, 1), 2000.0), 250.0
    row = form.generate(torch.full((1, 1), (math.pi**0.5 * width) ** 0.5), centre, torch.full((1, 1), math.log(width)))
    exact_width = torch.tensor(math.log(width)).double().exp()
    u = (torch.arange(4001).double() - 2000) / exact_width
    wanted = torch.exp(-0.5 * u.square())
    assert (row[0].double() - wanted)[u.abs() < 6.5].abs().max() <= 3 * 2**-23
    assert row[0, u.abs() > 6.5 + 16 / width].abs().max() == 0
    assert math.exp(-0.5 * 6.5**2) * 6.5**2 < 2**-24 * 2 / math.e, "left out: of u^2 exp(-u^2 / 2) too"


@needs_library
@pytest.mark.parametrize("basis", BASES)
def test_the_same_bits_again_and_row_by_row(basis: str) -> None:
    form, factors = draw(basis, 40, 129, 5)
    gradient = gradient_for(40, 129)
    first = in_c(form, factors, gradient)
    for here, there in zip(in_c(form, factors, gradient), first, strict=True):
        assert torch.equal(here, there)
    one = in_c(form, [factor[7:8] for factor in factors], gradient[7:8])
    for here, there in zip(one, first, strict=True):
        assert torch.equal(here, there[7:8])
    turned = [factor.t().contiguous().t() for factor in factors]
    for here, there in zip(in_c(form, turned, gradient.t().contiguous().t()), first, strict=True):
        assert torch.equal(here, there)


@needs_library
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_seen(basis: str, value: float) -> None:
    for broken in range(len(draw(basis, 3, 20, 2)[1])):
        form, factors = draw(basis, 3, 20, 2)
        factors[broken][1, 1] = value
        weight, *into = in_c(form, factors, gradient_for(3, 20))
        assert not weight[1].isfinite().any()
        assert weight[[0, 2]].isfinite().all()
        assert not into[1][1, 1].isfinite()
        assert all(one[0].isfinite().all() and one[2].isfinite().all() for one in into)


@needs_library
@pytest.mark.parametrize("basis", ["row_gauss", "row_gabor"])
@pytest.mark.parametrize("log_width", [-60.0, -20.0, 20.0, 60.0])
@pytest.mark.parametrize("centre", [-1e30, -1e6, 3.5, 1e6, 1e30])
def test_extreme_but_finite(basis: str, log_width: float, centre: float) -> None:
    """No index is computed from a number that does not fit into one, and nothing overflows."""
    form, factors = draw(basis, 2, 20, 2)
    factors[1].fill_(centre)
    factors[2].fill_(log_width)
    gradient = gradient_for(2, 20)
    for here, wanted in zip(in_c(form, factors, gradient), by_autograd(form, factors, gradient), strict=True):
        assert here.isfinite().all()
        if basis == "row_gauss":
            torch.testing.assert_close(here.double(), wanted, rtol=1e-4, atol=1e-12)


@needs_library
@pytest.mark.parametrize("basis", BASES)
def test_the_rest_is_for_torch(basis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form, factors = draw(basis, 3, 20, 2)
    gradient, kernel = gradient_for(3, 20), form.kernel()
    assert kernel.generate(factors) is not None
    for others in ([f.double() for f in factors], [f.bfloat16() for f in factors], [f.to("meta") for f in factors]):
        assert kernel.generate(others) is None
    assert kernel.again(gradient.double(), factors) is None
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    assert kernel.generate(factors) is None
    assert native.refusals["atoms.c"] == "BLOOMERY_NATIVE=0"
    weight, into = form.again(gradient.clone(), *factors)
    assert torch.equal(form.generate(*factors), weight)
    for here, there in zip((weight, *into), by_torch(form, factors, gradient), strict=True):
        assert torch.equal(here, there)


def trained(basis: str, atom_width: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    options = {} if basis == "row_cos" else {"atom_width": atom_width}
    module = make(basis, 96, 64, 4.0, **options)
    module.initialise(torch.Generator().manual_seed(0))
    x, wanted = torch.randn(200, 96), torch.randn(200, 64)
    scales = module.scales()
    groups = [{"params": [p], "lr": 0.03 * scales[name].initial_scale} for name, p in module.named_parameters()]
    optimiser = torch.optim.AdamW(groups)
    for _ in range(10):
        torch.nn.functional.mse_loss(module(x), wanted).backward()
        optimiser.step()
        optimiser.zero_grad()
    return {"weight": module.weight(), **{name: p.detach() for name, p in module.named_parameters()}}


@needs_library
@pytest.mark.parametrize(("basis", "atom_width"), [(b, w) for b in BASES for w in ("narrow", "wide")][:5])
def test_a_layer_trains_to_the_same_place(basis: str, atom_width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, again = trained(basis, atom_width), trained(basis, atom_width)
    assert all(torch.equal(here[name], again[name]) for name in here)
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    there = trained(basis, atom_width)
    assert not torch.equal(here["weight"], there["weight"]), "two paths"
    for name, value in here.items():
        assert (value - there[name]).norm() <= 2e-4 * there[name].norm(), name


@needs_library
@pytest.mark.parametrize("basis", BASES)
def test_the_product_goes_through_it(basis: str) -> None:
    """x W^T and both gradients of a layer are those of C's W, to the bit."""
    form, factors = draw(basis, 12, 40, 3)
    leaves = [factor.requires_grad_() for factor in factors]
    x, upstream = torch.randn(5, 40, requires_grad=True), torch.randn(5, 12)
    y = RecomputedProduct.apply(x, form, *leaves)
    into = torch.autograd.grad(y, [x, *leaves], upstream)
    weight, *wanted = in_c(form, [leaf.detach() for leaf in leaves], upstream.t() @ x.detach())
    assert torch.equal(y, x @ weight.t())
    assert torch.equal(into[0], upstream @ weight)
    for here, there in zip(into[1:], wanted, strict=True):
        assert torch.equal(here, there)
