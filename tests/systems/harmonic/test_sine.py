"""SineLinear against an obvious autograd reference, its own recomputation, and the variance it promises."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bloomery.systems.harmonic.bases.sine import SineLinear


def fresh(inputs: int, outputs: int, **options: object) -> SineLinear:
    torch.manual_seed(0)
    made = SineLinear(inputs, outputs, **options)  # type: ignore[arg-type]
    made.initialise()
    return made


def layer(inputs: int = 24, outputs: int = 17, rank: int = 3, **options: object) -> SineLinear:
    made = fresh(inputs, outputs, rank=rank, **options)
    with torch.no_grad():
        made.gain.mul_(torch.rand_like(made.gain) + 0.5)
    return made


def reference(inputs: Tensor, module: SineLinear) -> Tensor:
    """Equation 1.2 written out, one entry of W at a time in the sense of einsum; autograd does the rest."""
    phase = module.omega * torch.einsum("or,ri->oi", module.out_coordinates, module.in_coordinates)
    return torch.einsum("...i,oi->...o", inputs, module.gain[:, None] * torch.sin(phase))


def gradients(output: Tensor, inputs: Tensor, module: SineLinear, upstream: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output, [inputs, *module.parameters()], upstream))


def test_gradcheck_in_float64() -> None:
    module = layer(5, 4, 2, compute_dtype=torch.float64).double()
    inputs = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def apply(inputs: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in module.named_parameters()]
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (inputs,))

    assert torch.autograd.gradcheck(apply, (inputs, *module.parameters()))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_value_and_gradients_equal_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    module = layer(64, 48, 5, compute_dtype=dtype)
    exact = layer(64, 48, 5, compute_dtype=torch.float64).double()
    if dtype == torch.float64:
        module = module.double()
    inputs = torch.randn(3, 40, 64)
    upstream = torch.randn(3, 40, 48)
    found_inputs = inputs.to(dtype).requires_grad_()
    expected_inputs = inputs.double().requires_grad_()
    found, expected = module(found_inputs), reference(expected_inputs, exact)
    pairs = [(found, expected)]
    pairs += zip(
        gradients(found, found_inputs, module, upstream.to(dtype)),
        gradients(expected, expected_inputs, exact, upstream.double()),
        strict=True,
    )
    assert found.dtype == dtype
    for here, there in pairs:
        assert (here.double() - there).norm() <= tolerance * there.norm()


def test_only_factors_and_input_are_kept_for_backward() -> None:
    module = layer(64, 48, 3)
    inputs = torch.randn(10, 64, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        module(inputs)
    assert sum(kept) == inputs.numel() + sum(p.numel() for p in module.parameters())
    assert max(kept) < 64 * 48


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputation_is_bit_identical_to_forward(dtype: torch.dtype) -> None:
    """Inputs one-hot give W in forward; upstream one-hot gives W in backward; `weight` gives it outright."""
    module = layer(24, 17, 3, compute_dtype=dtype)
    ones = torch.eye(24, dtype=dtype, requires_grad=True)
    forward = module(ones).t()
    inputs = torch.zeros(17, 24, dtype=dtype, requires_grad=True)
    (backward,) = torch.autograd.grad(module(inputs), inputs, torch.eye(17, dtype=dtype))
    with torch.no_grad():
        generation = module(torch.eye(24, dtype=dtype)).t()
    for found in (forward, backward, generation):
        assert torch.equal(found, module.weight())


@pytest.mark.parametrize(("inputs", "outputs", "rank"), [(256, 256, 12), (256, 688, 17), (688, 256, 16)])
@pytest.mark.parametrize("gain", [1.0, 0.35])
def test_initial_variance_is_that_of_a_dense_layer(inputs: int, outputs: int, rank: int, gain: float) -> None:
    module = fresh(inputs, outputs, rank=rank, gain=gain)
    output = module(torch.randn(512, inputs))
    assert output.std().item() == pytest.approx(gain, rel=0.06)
    assert output.mean().item() == pytest.approx(0.0, abs=0.05 * gain)


def test_generated_matrix_has_full_rank() -> None:
    values = torch.linalg.svdvals(fresh(128, 128, rank=6).weight())
    assert int((values > 1e-3 * values[0]).sum()) >= 120


def test_closed_form_scales_are_the_deviations_at_initialisation() -> None:
    module = fresh(300, 200, rank=20, gain=0.5)
    scales = module.scales()
    assert set(scales) == {name for name, _ in module.named_parameters()}
    for name in ("out_coordinates", "in_coordinates"):
        parameter = module.get_parameter(name)
        assert parameter.std().item() == pytest.approx(scales[name].initial_scale, rel=0.05)
        assert (scales[name].group, scales[name].decay, scales[name].matrix) == ("centres", False, False)
    assert scales["gain"].group == "gain"
    assert scales["gain"].initial_scale == pytest.approx(0.5 * math.sqrt(2 / 300))


def test_counts() -> None:
    group = layer(24, 17, 3).tally()
    assert group.stored == group.active == 3 * (24 + 17) + 17
    assert group.flops_per_token == 2 * 24 * 17


def test_cache_without_gradients_follows_every_kind_of_write() -> None:
    module, other = layer(), fresh(24, 17, rank=3)
    inputs = torch.randn(4, 24)

    def expected() -> Tensor:
        return torch.nn.functional.linear(inputs, module.weight())

    with torch.no_grad():
        module(inputs)
        kept = module.cached
        module(inputs)
        assert module.cached is kept
        module.gain.mul_(2)
        assert torch.equal(module(inputs), expected())
        module.load_state_dict(other.state_dict())
        assert torch.equal(module(inputs), expected())
        module.out_coordinates = torch.nn.Parameter(torch.randn(17, 3))
        assert torch.equal(module(inputs), expected())
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    with torch.inference_mode():
        before = module(inputs)
    assert module.cached is not None
    module(inputs).sum().backward()
    assert module.cached is None
    optimiser.step()
    with torch.inference_mode():
        assert torch.equal(module(inputs), expected())
        assert not torch.equal(module(inputs), before)
        module.in_coordinates.add_(1)
        assert torch.equal(module(inputs), expected())
    assert "cached" not in module.state_dict()


def test_meta_device_allocates_nothing() -> None:
    with torch.device("meta"):
        module = SineLinear(4096, 4096, rank=60)
        output = module(torch.empty(2, 8, 4096))
        output.sum().backward()
    assert output.shape == (2, 8, 4096)
    assert output.device.type == "meta"
    assert module.in_coordinates.grad is not None


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_changes_no_bit(use_reentrant: bool) -> None:
    module = layer(compute_dtype=torch.bfloat16)
    inputs = torch.randn(6, 24, requires_grad=True)
    upstream = torch.randn(6, 17).bfloat16()
    plain = module(inputs)
    plain.backward(upstream)
    expected = [inputs.grad, *(p.grad for p in module.parameters())]
    inputs.grad = None
    module.zero_grad()
    again = checkpoint(module, inputs, use_reentrant=use_reentrant)
    again.backward(upstream)
    assert torch.equal(again, plain)
    for found, wanted in zip([inputs.grad, *(p.grad for p in module.parameters())], expected, strict=True):
        assert found is not None
        assert wanted is not None
        assert torch.equal(found, wanted)


def test_frozen_input_needs_no_input_gradient() -> None:
    module = layer()
    inputs = torch.randn(6, 24)
    module(inputs).sum().backward()
    assert inputs.grad is None
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while tracing
def test_compiles_without_a_graph_break() -> None:
    module = layer(64, 48, 5)
    compiled = torch.compile(module, fullgraph=True)
    inputs = torch.randn(10, 64, requires_grad=True)
    upstream = torch.randn(10, 48)
    expected, found = module(inputs), compiled(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for here, there in zip(
        gradients(found, inputs, module, upstream), gradients(expected, inputs, module, upstream), strict=True
    ):
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)
