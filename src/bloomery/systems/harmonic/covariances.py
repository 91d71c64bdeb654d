"""What the linears of a model read: C = E x x^T of each, uncentred, over all tokens of some batches.

Sums are float64 (float32 products would lose the small directions, whose inverse a fit divides by) and batches are
added as they pass: memory is a square of each linear's inputs, whatever the number of tokens. Linears that are handed
the same tensor share one sum, as query, key and value do. Refuses inputs that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.data.mix import Batch
from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel
from bloomery.model.layers import Linear


class HasBatches(Protocol):
    def batch_at(self, step: int) -> Batch: ...


@torch.no_grad()
def gather(
    model: LanguageModel,
    batches: HasBatches,
    steps: int,
    *,
    device: str = "cpu",
    after_step: Callable[[int], None] = lambda step: None,
) -> Mapping[str, Float[Tensor, "i i"]]:
    """{name of a Linear: C on the CPU}; the very same tensor for linears that read the same. after_step: called with
    how many batches are done, and may raise to break off. Raises TrainingError."""
    sums = _Sums({name: module for name, module in model.named_modules() if isinstance(module, Linear)})
    training = model.training
    model.eval()
    try:
        for step in range(steps):
            tokens = batches.batch_at(step).tokens.to(device)
            model(tokens, project=False)
            sums.end_of_batch(tokens.numel())
            after_step(step + 1)
    finally:
        sums.remove()
        model.train(training)
    return sums.means()


class _Sums:
    def __init__(self, linears: Mapping[str, nn.Module]) -> None:
        self.total: dict[str, Tensor] = {}
        self.same_as: dict[str, str] = {}
        self.count = 0
        self._last: tuple[Tensor, str] | None = None
        self._hooks = [module.register_forward_pre_hook(self._hook(name)) for name, module in linears.items()]

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if self._last is not None and x is self._last[0]:
                self.same_as[name] = self._last[1]
                return
            self._last = (x, name)  # the tensor is held, so that no other can be taken for it
            rows = x.reshape(-1, x.shape[-1])
            rows = (rows.cpu() if rows.device.type == "mps" else rows).double()  # mps has no float64
            if name not in self.total:
                self.total[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
            self.total[name].addmm_(rows.t(), rows)

        return add

    def end_of_batch(self, tokens: int) -> None:
        self.count, self._last = self.count + tokens, None

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def means(self) -> Mapping[str, Tensor]:
        own = {name: (total / self.count).cpu() for name, total in self.total.items()}
        for name, mean in own.items():
            if not torch.isfinite(mean).all():
                raise TrainingError(name, "reads what is not finite", "a model that answers with numbers")
        return own | {name: own[first] for name, first in self.same_as.items()}
