"""The chunked loss against torch's own cross-entropy, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.train.objectives import IGNORE, summed_cross_entropy


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), chunk=st.integers(1, 50), seed=st.integers(0, 99), hidden_only=st.booleans())
def test_equals_cross_entropy_in_float64(rows, chunk, seed, hidden_only):
    torch.manual_seed(seed)
    hidden = torch.randn(rows, 6, dtype=torch.float64, requires_grad=True)
    weight = 3 * torch.randn(11, 6, dtype=torch.float64)
    weight.requires_grad_(not hidden_only)
    targets = torch.randint(IGNORE, 11, (rows,))
    wanted = [hidden] if hidden_only else [hidden, weight]
    loss = summed_cross_entropy(hidden, weight, targets, compute_dtype=torch.float64, rows=chunk)
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss * 0.7, wanted)
    for gradient, right in zip(found, torch.autograd.grad(expected * 0.7, wanted), strict=True):
        torch.testing.assert_close(gradient, right)


def test_gradients_in_bfloat16_are_near_the_exact_ones():
    torch.manual_seed(0)
    hidden = torch.randn(700, 32, requires_grad=True)
    weight = (0.3 * torch.randn(200, 32)).requires_grad_()
    targets = torch.randint(0, 200, (700,))
    exact = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    rounded = summed_cross_entropy(hidden, weight, targets, compute_dtype=torch.bfloat16)
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-3)
    for found, right in zip(
        torch.autograd.grad(rounded, [hidden, weight]), torch.autograd.grad(exact, [hidden, weight]), strict=True
    ):
        assert found.dtype == torch.float32
        assert (found - right).norm() < 0.02 * right.norm()


def test_a_hopeless_target_costs_87_nats_and_keeps_its_gradient():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[500.0], [-500.0]])
    loss = summed_cross_entropy(hidden, weight, torch.tensor([1]))
    assert loss.item() == pytest.approx(87.3, abs=0.1)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert gradient.item() == 1000.0


def test_logits_never_exist_as_a_whole():
    """The largest tensor made on the way holds one chunk of logits."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    hidden, weight = torch.randn(300, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    with Watch():
        summed_cross_entropy(hidden, weight, torch.randint(0, 50, (300,)), rows=32).backward()
    assert largest == 32 * 50
