"""torch.compile, and what is said where it cannot: there is no working C++ compiler, or the model is beyond it.

Compilation is lazy: the forward pass is compiled at its first call and the backward pass at its own, so the whole loop
stands under `compiler_named`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel, Output

Forward = Callable[[Tensor, Tensor | None], Output]


def compiled_forward(model: LanguageModel, compile: bool) -> Forward:
    """The model up to its hidden states; under torch.compile if asked for, as deterministic as torch itself now is."""
    if compile:  # which has a switch of its own for it
        torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    call = torch.compile(model, dynamic=False) if compile else model
    return lambda tokens, segments: call(tokens, segments=segments, project=False)


@contextmanager
def compiler_named(compile: bool) -> Iterator[None]:
    """Where torch.compile fails, raise TrainingError: the machine or the setting is at fault, not what was trained."""
    try:
        yield
    except RuntimeError as error:  # which all of torch's own compile errors are
        if not compile or not _of_the_compiler(error):
            raise
        said = str(error).strip().partition("\n")[0]
        raise TrainingError(
            "compile: true", f"torch.compile cannot compile this model here ({said})", "a working C++ compiler",
            "install one (Debian and Ubuntu: apt install g++), name it in CXX, or write `compile: false`",
        ) from error  # fmt: skip


def _of_the_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
