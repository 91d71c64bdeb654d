"""Optimisers over groups of parameters, with learning rates relative to each tensor's initial scale.

relative (the default):  lr(p) = rate(group) * factor(step) * initial_scale(p), so that one number fits tensors of very
different size (Compute Better Spent, Qiu et al. 2024); rate is `embedding_lr` for embedding and head, `gain_lr` for
norm gains, `lr` for all else. Weight decay is decoupled (Loshchilov and Hutter 2019) and does not depend on the
initial scale:

    p <- p (1 - rate(group) * factor(step) * weight_decay * DECAY_SCALE),   DECAY_SCALE = 1/16

which for a matrix with 256 inputs (initial scale 1/16) is exactly AdamW with lr = rate/16 and weight_decay.
Absolute: lr(p) = rate(group) * factor(step), decay as in AdamW. Groups that their `Scale` marks decay=False never
decay. Refuses a trainable parameter without a Scale, a Scale without a parameter, and a parameter in two groups.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.errors import TrainingError, nearest
from bloomery.model.interface import LanguageModel, Scale
from bloomery.model.uncompiled import spare

spare(torch.optim.Optimizer, "add_param_group")

DECAY_SCALE = 1.0 / 16.0
EMBEDDINGS = ("embedding", "head")
"""The groups that `embedding_lr` and the warm-up of embeddings are about."""
SHAPE_RATE = "match_rms_adamw"
"""Muon's update is scaled to the root mean square of AdamW's, so that one rate serves both (Liu et al. 2025)."""


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    name: str = "adamw"
    """adamw, or muon: orthogonalised momentum for matrices, AdamW for the rest (Jordan et al. 2024)."""
    lr: float = 0.03
    """Relative to the initial scale (0.03: a step of at most 3 % of a typical weight), or absolute."""
    embedding_lr: float | None = None
    """For the groups embedding and head; None: lr."""
    gain_lr: float | None = None
    """For the group norm; None: lr."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    relative: bool = True

    def __post_init__(self) -> None:
        if self.name not in ("adamw", "muon"):
            raise TrainingError("optimizer.name", f"'{self.name}'", "adamw or muon")
        for key in ("lr", "embedding_lr", "gain_lr", "weight_decay", "epsilon"):
            value = getattr(self, key)
            if value is not None and not 0.0 <= value < float("inf"):
                raise TrainingError(f"optimizer.{key}", str(value), "a finite number, not negative")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise TrainingError("optimizer.betas", str(self.betas), "two numbers from 0 to below 1")

    def rate(self, group: str) -> float:
        own = {"embedding": self.embedding_lr, "head": self.embedding_lr, "norm": self.gain_lr}.get(group)
        return self.lr if own is None else own


@dataclass(frozen=True, slots=True)
class _Kind:
    """Parameters that share these share one torch group."""

    muon: bool
    embedding: bool
    lr: float
    weight_decay: float


class Optimisers:
    """AdamW and, if asked for, Muon, as one: step, rates by factor, state by parameter name."""

    def __init__(self, model: LanguageModel, config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = dict(trainable(model))
        kinds: dict[_Kind, list[str]] = {}
        for name, scale in exact_cover(model).items():
            kinds.setdefault(self._kind(scale, self.parameters[name]), []).append(name)
        names = [name for members in kinds.values() for name in members]
        assert sorted(names) == sorted(self.parameters), "every parameter is in exactly one group"
        self.optimisers: list[torch.optim.Optimizer] = []
        adamw = [self._group(kind, names) for kind, names in kinds.items() if not kind.muon]
        if adamw:
            self.optimisers.append(
                torch.optim.AdamW(adamw, lr=config.lr, betas=config.betas, eps=config.epsilon, fused=True)
            )
        muon = [self._group(kind, names) for kind, names in kinds.items() if kind.muon]
        if muon:
            self.optimisers.append(torch.optim.Muon(muon, lr=config.lr, adjust_lr_fn=SHAPE_RATE))

    def _kind(self, scale: Scale, parameter: Tensor) -> _Kind:
        config = self.config
        rate = config.rate(scale.group)
        lr = rate * scale.initial_scale if config.relative else rate
        decay = config.weight_decay if scale.decay else 0.0
        if config.relative:
            decay *= DECAY_SCALE / scale.initial_scale
        muon = config.name == "muon" and scale.matrix and parameter.ndim == 2
        return _Kind(muon, scale.group in EMBEDDINGS, lr, decay)

    def _group(self, kind: _Kind, names: list[str]) -> dict[str, Any]:
        parameters = [self.parameters[name] for name in names]
        return {"params": parameters, "lr": kind.lr, "weight_decay": kind.weight_decay, "full_lr": kind.lr,
                "embedding": kind.embedding}  # fmt: skip

    def set_factor(self, factor: float, embedding: float = 1.0) -> None:
        """Scale every group's rate, that of embedding and head by `embedding` too; the decay follows."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full_lr"] * factor * (embedding if group["embedding"] else 1.0)

    @torch.no_grad()
    def step(self) -> None:
        """One update. What torch wraps around `step`, hooks that nobody sets here, would load the compiler."""
        for optimiser in self.optimisers:
            inspect.unwrap(type(optimiser).step)(optimiser)

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """{`parameter/quantity`: tensor}, by the parameters' own names; empty before the first step."""
        out = {}
        for name, parameter in self.parameters.items():
            for optimiser in self.optimisers:
                for key, value in optimiser.state.get(parameter, {}).items():
                    out[f"{name}/{key}"] = value
        return out

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave. Raises TrainingError for names or shapes that do not fit."""
        for entry, value in state.items():
            name, _, key = entry.rpartition("/")
            if name not in self.parameters:
                raise TrainingError(entry, "optimiser state of a parameter that the model lacks",
                                    hint=nearest(name, self.parameters))  # fmt: skip
            parameter = self.parameters[name]
            if value.ndim and value.shape != parameter.shape:
                raise TrainingError(entry, f"shape {tuple(value.shape)}", str(tuple(parameter.shape)))
            for optimiser in self.optimisers:
                if any(parameter is member for group in optimiser.param_groups for member in group["params"]):
                    optimiser.state[parameter][key] = value.clone()


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def exact_cover(model: LanguageModel) -> dict[str, Scale]:
    """{trainable parameter: its Scale}; raises TrainingError where scales and parameters do not match one to one."""
    scales, names = model.scales(), {name for name, _ in model.named_parameters()}
    for name in sorted(names - set(scales)):
        raise TrainingError(name, "a parameter without a Scale: no optimiser would train it",
                            "an entry in the model's scales()")  # fmt: skip
    for name in sorted(set(scales) - names):
        raise TrainingError(name, "a Scale without a parameter", hint=nearest(name, names))
    for name, scale in scales.items():
        if not scale.initial_scale > 0.0:
            raise TrainingError(name, f"initial scale {scale.initial_scale}", "more than zero")
    return {name: scales[name] for name, _ in trainable(model)}
