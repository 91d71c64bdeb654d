"""All that resume needs, on one screen.

Data is a pure function of the step and of what the batches carry, and the generator is reseeded from (seed, step) each
step, so weights, optimiser, step and that are the whole state; losses and seconds are kept so that the measurements of
a resumed run are those of a whole one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from bloomery.errors import ArtifactError
from bloomery.train.optim import Optimisers


class TrainState(TypedDict):
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    losses: list[float]
    """Mean token loss of every step so far, nats."""
    step: int
    """Steps done."""
    tokens: int
    """Valid tokens learned from."""
    seconds: float
    """Spent in steps, without evaluation and saving."""
    carried: dict[str, Any]
    """What the batches have become on the way, where they say so (train.loop.Carrying)."""
    signature: dict[str, Any]
    """What must be equal for resume to be exact: configuration, batch shape, data, world size."""


def capture(model: nn.Module, optimisers: Optimisers) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights, optimiser state), not copied. A tied tensor is listed once, by its first name."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    weights |= {name: buffer for name, buffer in model.named_buffers() if name in model.state_dict()}
    return weights, optimisers.state()


@torch.no_grad()
def restore_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy weights in; raises ArtifactError naming the first tensor that is missing, left over or of another shape."""
    own = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in model.state_dict()}
    for name in sorted(set(own) ^ set(weights)):
        found = "a tensor that the model lacks" if name in weights else "no such tensor"
        raise ArtifactError(f"{where}: {name}", found, "the weights of a model of this shape")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise ArtifactError(f"{where}: {name}", f"shape {tuple(weights[name].shape)}", str(tuple(tensor.shape)))
        tensor.copy_(weights[name])


def reseed(seed: int, step: int) -> None:
    """Make every random draw of this step a function of (seed, step) alone."""
    drawn = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) >> 1
    # As torch.manual_seed does, which on a machine without an accelerator formats the stack every time.
    torch.default_generator.manual_seed(drawn)
    for accelerator in (torch.cuda, torch.xpu):
        if accelerator.is_initialized():
            accelerator.manual_seed_all(drawn)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(drawn)


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names in order, dtypes, shapes and bytes."""
    outer = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        outer.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        outer.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return outer.hexdigest()


def hash_weights(model: nn.Module) -> str:
    return hash_tensors(dict(model.named_parameters()))


def hash_optimiser(optimisers: Optimisers) -> str:
    return hash_tensors(optimisers.state())
