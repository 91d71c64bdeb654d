"""A model counted from its modules: the second count, which knows nothing of the config's closed form.

Parameters are walked one by one, shared ones once. Operations are not derived but observed: torch counts the matrix
products of forward passes over one, two and three tokens on the meta device, and the parabola through the three counts

    operations(t) = per_pass + per_token t + per_pair t^2

separates what is paid once (generating weights), per token (multiplying with them) and per pair of tokens (attention).
A multiply-add counts as two; elementwise work is not counted. Refuses a model whose forward needs more than tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bloomery.measure import Group, Tally
from bloomery.model.config import total
from bloomery.model.interface import LanguageModel

GROUPS = ("embedding", "attention", "feed_forward", "norm", "head")
"""A parameter belongs to the last of these that stands in its name, a norm's to `norm`, any other to its first word."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Matrix-product operations of a forward pass, by what they grow with."""

    per_token: float
    per_pair: float
    per_pass: float

    def forward(self, context: int) -> float:
        """Per token, attention counted without causality; generating weights left out."""
        return self.per_token + self.per_pair * context

    def training(self, tokens: int, context: int, *, passes: int = 1, recompute: bool = False) -> float:
        """A step of `tokens` tokens in `passes` forward passes: backward is two forwards, recomputation a third.

        Generated weights are made once in forward, once more in backward, and have two factors to be learned.
        """
        return (4 if recompute else 3) * tokens * self.forward(context) + (
            5 if recompute else 4
        ) * passes * self.per_pass


def count(model: LanguageModel) -> Tally:
    """Stored, active, frozen, buffers, bits and operations per token by group. `dense_equivalent` is a claim: None."""
    groups: dict[str, list[Group]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        frozen = 0 if parameter.requires_grad else size
        groups[group_of(model, name)].append(Group(size, size, frozen=frozen, bits=8.0 * parameter.element_size()))
    for name, buffer in model.named_buffers():
        groups[group_of(model, name)].append(Group(0, 0, buffers=buffer.numel()))
    for name, flops in _flops_by_group(model).items():
        groups[name].append(Group(0, 0, flops_per_token=flops.per_token))
    return Tally(total(groups))


def with_frozen(model: LanguageModel, tally: Tally) -> Tally:
    """The model's own tally with what is not trained now counted as frozen."""
    frozen: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        frozen[group_of(model, name)] += 0 if parameter.requires_grad else parameter.numel()
    return replace(tally, groups={name: replace(one, frozen=frozen[name]) for name, one in tally.groups.items()})


def assert_equal(closed_form: Tally, counted: Tally) -> None:
    """Both counts agree in every group and quantity; raises AssertionError with the differences. `bits` of a group
    without stored numbers and `dense_equivalent` are not compared."""
    differences = []
    for name in sorted(set(closed_form.groups) | set(counted.groups)):
        here, there = closed_form.groups.get(name, Group(0, 0)), counted.groups.get(name, Group(0, 0))
        for quantity in ("stored", "active", "frozen", "buffers", "bytes", "flops_per_token"):
            claimed, found = getattr(here, quantity), getattr(there, quantity)
            if abs(claimed - found) > 1e-9 * max(abs(claimed), abs(found)):
                differences.append(f"  {name}.{quantity}: {claimed:,} in closed form, {found:,} in the modules")
    assert not differences, "the two counts of the model differ:\n" + "\n".join(differences)


def group_of(model: nn.Module, name: str) -> str:
    """The group of a parameter or buffer, by its place in the model."""
    owner, *_ = name.rpartition(".")
    words = name.split(".")
    if "norm" in type(model.get_submodule(owner)).__name__.lower():
        return "norm"
    return next((word for word in reversed(words) if word in GROUPS), words[0])


def measure_flops(model: LanguageModel) -> Flops:
    """Observed operations of the whole model."""
    return _fit(*(sum(_observe(model, tokens).values()) for tokens in (1, 2, 3)))


def _flops_by_group(model: LanguageModel) -> Mapping[str, Flops]:
    observed = [_observe(model, tokens) for tokens in (1, 2, 3)]
    return {name: _fit(*(each[name] for each in observed)) for name in observed[0]}


def _fit(one: float, two: float, three: float) -> Flops:
    per_pair = (three - 2 * two + one) / 2
    per_token = two - one - 3 * per_pair
    return Flops(per_token, per_pair, one - per_token - per_pair)


def _observe(model: LanguageModel, tokens: int) -> dict[str, float]:
    """{group: operations of one forward pass}; what no inner module accounts for is the projection to logits."""
    state = model.state_dict(keep_vars=True)
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter:  # as in training, where generated weights are made in every pass
        torch.func.functional_call(model, weights, (torch.zeros(1, tokens, dtype=torch.int64, device="meta"),))
    counts = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}
    root = type(model).__name__
    out: dict[str, float] = defaultdict(float)
    for name, _ in model.named_modules():
        if name and name.rpartition(".")[2] in GROUPS:
            out[name.rpartition(".")[2]] += counts.get(f"{root}.{name}", 0)
    head = model.head_weight()
    owner = next(name for name, parameter in model.named_parameters() if parameter is head)
    out[group_of(model, owner)] += counts["Global"] - sum(out.values())
    return dict(out)
