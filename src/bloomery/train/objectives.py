"""What training minimises: summed next-token losses, divided once by the global number of valid tokens.

The cross-entropy is computed in chunks of rows, gradients included, so that logits never exist as a whole: for a chunk
of hidden states h and head W, with p = softmax(h W^T),  d loss/dh = (p - onehot) W,  d loss/dW = (p - onehot)^T h.
Refuses auxiliary losses without a weight: a loss that is silently dropped is a different experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

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
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=statistics) if wants_weight else None
        for start in range(0, hidden.shape[0], rows):
            chunk = hidden[start : start + rows].to(compute_dtype)
            wanted = targets[start : start + rows]
            valid = wanted != IGNORE
            index = wanted.clamp(min=0)[:, None]
            logits = (chunk @ matrix.T).to(statistics)
            highest, of_wanted = logits.amax(1), logits.gather(1, index)[:, 0]
            slope = torch.softmax(logits, dim=-1)
            # log sum exp = highest logit - log of its probability, which is at least 1/v: nothing underflows.
            total += (highest - slope.amax(1).log_() - of_wanted).masked_fill_(~valid, 0.0).sum()
            if hidden_gradient is None and weight_gradient is None:
                continue
            slope.scatter_add_(1, index, torch.full_like(index, -1, dtype=statistics))
            if not valid.all():
                slope.mul_(valid[:, None])
            slope = slope.to(compute_dtype)
            if hidden_gradient is not None:
                hidden_gradient[start : start + rows] = slope @ matrix
            if weight_gradient is None:
                continue
            if compute_dtype == statistics:
                weight_gradient.addmm_(slope.T, chunk)
            else:
                weight_gradient += slope.T @ chunk
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total.to(statistics)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return (
            None if hidden_gradient is None else hidden_gradient * gradient.to(hidden_gradient.dtype),
            None if weight_gradient is None else weight_gradient * gradient.to(weight_gradient.dtype),
            None,
            None,
            None,
        )


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
