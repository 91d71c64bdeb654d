"""Hand-derived gradients for what autograd does in too many passes over memory: RMSNorm, rotary turn, causal attention.

Each Function here equals a plain formula in layers.py, which is what runs under torch.compile, off the CPU, and where a
mask depends on the batch; the tests compare them in float64. Refuses second derivatives (torch raises).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Normalise(Function):
    """y = x r w with r = (mean(x^2) + epsilon)^-1/2.  dx = r (g w - x r mean(g w x r)), dw = sum over rows of g x r."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, out_dtype: torch.dtype) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight).to(out_dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, scale = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        normal = torch.mul(x, scale)
        product = torch.mul(gradient, normal).view(-1, x.shape[-1])
        mean = torch.mv(product, weight).div_(x.shape[-1]).view(scale.shape)
        into_x = torch.mul(gradient, weight).addcmul_(normal, mean, value=-1.0).mul_(scale)
        return into_x, product.sum(0), None, None


class Rotate(Function):
    """[b t n d] to [b n t d], pairs (j, j + d/2) turned by their position's angle; backward turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        batch, time, heads, width = x.shape
        out = x.new_empty(batch, heads, time, width)
        _turn(x.transpose(1, 2), cosine, sine, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cosine, sine = ctx.saved_tensors
        batch, heads, time, width = gradient.shape
        out = gradient.new_empty(batch, time, heads, width)
        _turn(gradient, cosine, -sine, out.transpose(1, 2))
        return out, None, None


def _turn(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor) -> None:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    torch.mul(a, cosine, out=out[..., :half]).addcmul_(b, sine, value=-1.0)
    torch.mul(b, cosine, out=out[..., half:]).addcmul_(a, sine)


class CausalAttention(Function):
    """softmax(q k^T + causal mask) v by blocks of queries. s query heads share a key head: q [g s t d], k [g t d],
    v [g t w].

    Only the square on the diagonal needs a mask. Softmax statistics are float32 inside torch's kernel for any input.
    With P the weights: dV = P^T dO, dS = P (dP - sum(dP P)), dP = dO V^T, dQ = dS K, dK = dS^T Q.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
        groups, shared, time, width = query.shape
        out = query.new_empty(groups, shared, time, value.shape[-1])
        kept = []
        for start in range(0, time, block):
            stop = min(start + block, time)
            rows = stop - start
            part = query[:, :, start:stop].reshape(groups, shared * rows, width)
            scores = torch.bmm(part, key[:, :stop].transpose(1, 2))
            bias = scores.new_full((rows, rows), float("-inf")).triu_(1)
            scores.view(groups, shared, rows, stop)[..., start:].add_(bias)
            weights = torch.softmax(scores, dim=-1)
            out[:, :, start:stop] = torch.bmm(weights, value[:, :stop]).view(groups, shared, rows, value.shape[-1])
            kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, *kept = ctx.saved_tensors
        groups, shared, time, width = query.shape
        into_query = torch.empty_like(query)
        into_key, into_value = torch.empty_like(key), torch.empty_like(value)
        # The last block sees every key, so that going backwards it fills the buffers and the others add to them.
        for index in reversed(range(len(kept))):
            start, stop = index * ctx.block, min((index + 1) * ctx.block, time)
            weights, rows, beta = kept[index], stop - start, 0 if index == len(kept) - 1 else 1
            part = query[:, :, start:stop].reshape(groups, shared * rows, width)
            into_out = gradient[:, :, start:stop].reshape(groups, shared * rows, value.shape[-1])
            slope = torch.bmm(into_out, value[:, :stop].transpose(1, 2))
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
            into_query[:, :, start:stop] = torch.bmm(slope, key[:, :stop]).view(groups, shared, rows, width)
            into_value[:, :stop].baddbmm_(weights.transpose(1, 2), into_out, beta=beta)
            into_key[:, :stop].baddbmm_(slope.transpose(1, 2), part, beta=beta)
        return into_query, into_key, into_value, None
