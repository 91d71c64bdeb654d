"""What training minimises: summed next-token losses, divided once by the global number of valid tokens.

The cross-entropy is computed in chunks of rows, gradients included, so that logits never exist as a whole: for a chunk
of hidden states h and head W, with p = softmax(h W^T),  d loss/dh = (p - onehot) W,  d loss/dW = (p - onehot)^T h.
Refuses auxiliary losses without a weight: a loss that is silently dropped is a different experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd import Function

from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel, Output

IGNORE = -1
"""Target of a token that is not learned from."""
CHUNK_ROWS = 512
"""Rows whose logits exist at a time."""


@runtime_checkable
class TokenBatch(Protocol):
    """What `batches.batch_at(step)` gives. Targets where `mask` is False are not learned from."""

    @property
    def tokens(self) -> Int[Tensor, "b t"]: ...
    @property
    def targets(self) -> Int[Tensor, "b t"]: ...
    @property
    def mask(self) -> Bool[Tensor, "b t"] | None: ...
    @property
    def segments(self) -> Int[Tensor, "b t"] | None: ...


class _ChunkedCrossEntropy(Function):
    """The gradient is computed beside the loss, so that each chunk's logits are made once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, compute_dtype: torch.dtype, rows: int
    ) -> Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        statistics = torch.promote_types(compute_dtype, torch.float32)
        matrix = weight.detach().to(compute_dtype)
        total = torch.zeros((), dtype=statistics, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden, dtype=compute_dtype) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=statistics) if wants_weight else None
        for start in range(0, hidden.shape[0], rows):
            chunk = hidden[start : start + rows].to(compute_dtype)
            wanted = targets[start : start + rows]
            ignored = wanted == IGNORE
            place = torch.arange(len(wanted), device=wanted.device) * len(matrix) + wanted.clamp(min=0)
            # Softmax keeps its sums in float32 for any dtype. A probability below the smallest normal number counts as
            # that number in the loss (87 nats); the gradient does not need it.
            slope = torch.softmax(chunk @ matrix.T, dim=-1)
            chosen = slope.view(-1)[place]
            logarithm = chosen.to(statistics).clamp(min=torch.finfo(torch.float32).tiny).log_()
            total -= logarithm.masked_fill_(ignored, 0.0).sum()
            if hidden_gradient is None and weight_gradient is None:
                continue
            slope.view(-1).index_copy_(0, place, chosen - 1.0)
            if ignored.any():
                slope.masked_fill_(ignored[:, None], 0.0)
            if hidden_gradient is not None:
                torch.mm(slope, matrix, out=hidden_gradient[start : start + rows])
            if weight_gradient is None:
                continue
            if compute_dtype == statistics:
                weight_gradient.addmm_(slope.T, chunk)
            else:
                weight_gradient += slope.T @ chunk
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.hidden_dtype = hidden.dtype
        return total

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        into_hidden, into_weight = ctx.saved_tensors
        if into_hidden is not None:
            into_hidden = (into_hidden * gradient.to(into_hidden.dtype)).to(ctx.hidden_dtype)
        return into_hidden, None if into_weight is None else into_weight * gradient, None, None, None


def summed_cross_entropy(
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    *,
    compute_dtype: torch.dtype = torch.float32,
    rows: int = CHUNK_ROWS,
) -> Float[Tensor, ""]:
    """Sum of -log softmax(hidden weight^T)[target] over targets that are not IGNORE, in nats. Differentiable once."""
    return _ChunkedCrossEntropy.apply(hidden, weight, targets, compute_dtype, rows)  # pyright: ignore[reportReturnType]


def valid_targets(batch: TokenBatch) -> Int[Tensor, "b t"]:
    """Targets, with IGNORE where the mask is False."""
    return batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, IGNORE)


def summed_loss(
    model: LanguageModel, output: Output, targets: Int[Tensor, "b t"], auxiliary: Mapping[str, float]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(what is minimised, summed token loss alone), both summed over the valid tokens.

    auxiliary: {name in Output.aux: weight}. Raises TrainingError for an auxiliary loss without a weight.
    """
    hidden = output.hidden.flatten(0, 1)
    nats = summed_cross_entropy(hidden, model.head_weight(), targets.flatten(), compute_dtype=model.compute_dtype)
    objective = nats
    for name, value in output.aux.items():
        if name not in auxiliary:
            raise TrainingError(
                f"auxiliary loss '{name}'", "the model emits it, the configuration gives it no weight",
                "a weight, 0 to leave it out", f"set auxiliary.{name}",
            )  # fmt: skip
        objective = objective + auxiliary[name] * value
    return objective, nats.detach()
