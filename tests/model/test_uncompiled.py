"""What trains and judges a model that is not compiled does not load torch's compiler."""

import subprocess
import sys

import torch

from bloomery.model.uncompiled import spare

TRAINS = """
import sys
import torch
from torch.nn import functional
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.train.optim import Optimisers, OptimizerConfig
from bloomery.train.device import reproducibly

with reproducibly(1, "cpu"):
    assert torch.are_deterministic_algorithms_enabled()
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), 11, compute_dtype=torch.float32)
    tokens = torch.arange(8)[None] % 11
    for name in ("adamw", "muon"):
        optimisers = Optimisers(model, OptimizerConfig(name=name))
        before = [parameter.clone() for parameter in model.parameters()]
        loss = functional.cross_entropy(model(tokens[:, :-1]).logits[0].float(), tokens[0, 1:])
        loss.backward()
        optimisers.step()
        assert all((old != new).any() for old, new in zip(before, model.parameters()))
print(*sorted({"torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()))
"""


def test_training_leaves_the_compiler_unloaded() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_class_that_wraps_nothing_is_left_as_it_is() -> None:
    class Plain:
        def act(self) -> int:
            return 3

    before = dict(vars(Plain))
    spare(Plain, "act", "absent")
    assert dict(vars(Plain)) == before
    assert Plain().act() == 3


def test_what_is_spared_does_what_it_did() -> None:
    class Guarded:
        @torch._disable_dynamo
        def act(self, more: int, *, twice: bool = False) -> int:
            return more * (2 if twice else 1)

    spare(Guarded, "act")
    assert Guarded().act(4, twice=True) == 8
