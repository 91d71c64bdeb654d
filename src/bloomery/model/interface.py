"""Where everything meets: LanguageModel (trains), Scorer (judged, served) and the value types between them.

Shapes: b batch, t time, d width, v vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from bloomery.measure import Tally

State = Any
"""What a model carries from one call to the next: a key-value cache, a recurrent state. Opaque to its users."""


Sharing = Literal["alone", "batch", "snapshot", "crop"]
"""What sequences that are read for one another's sake may share, so that a token is read once where it can be:

alone     nothing: a sequence's output depends on what else is in the batch, or on later tokens (routing over a batch,
          expert capacity, non-causal mixing). One sequence a pass, without padding.
batch     a pass: rows are independent, and what stands to the right of a position does not change it.
snapshot  also states: `fork` copies one, as it is (a recurrence).
crop      also parts of states: `fork` copies one as it was after any number of its tokens (a key-value cache).
"""


@dataclass(slots=True)
class Output:
    """What a forward pass gives. `logits` is None when the caller asked not to project."""

    hidden: Float[Tensor, "b t d"]
    logits: Float[Tensor, "b t v"] | None = None
    state: State = None
    aux: dict[str, Tensor] = field(default_factory=dict)
    """Further losses (sums over tokens) by name: router balance, diversity."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How one parameter is trained. `initial_scale` is the standard deviation at initialisation (1.0 for gains)."""

    group: str
    """embedding, head, attention, feed_forward, norm, or a structured layer's own group: phase, gain."""
    initial_scale: float
    decay: bool
    matrix: bool
    """A two-dimensional map between features: Muon may take it."""


class Rows(Protocol):
    """Sequences of different lengths in one cache. Rows are numbered from 0 without a gap."""

    slots: int
    length: int

    def add(self, state: State) -> None:
        """A further row: what a forward pass over one sequence has left."""
        ...

    def drop(self, row: int) -> None:
        """End a row; the last one takes its number."""
        ...

    def state(self) -> State:
        """Of all rows, for a forward pass over one token (or as many) of each."""
        ...

    def update(self, state: State) -> None:
        """What that pass has left."""
        ...


class LanguageModel(nn.Module, ABC):
    """A next-token model. Parameters are float32 masters; `compute_dtype` is what the matrix products run in."""

    vocab: int
    compute_dtype: torch.dtype
    activation_checkpointing: bool = False
    """Set by the training loop: recompute blocks in the backward pass instead of keeping their activations."""
    sharing: Sharing = "batch"
    """Said by the model's class; without a `fork` of its own a state is never shared."""

    @abstractmethod
    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        state: State = None,
        *,
        segments: Int[Tensor, "b t"] | None = None,
        project: bool = True,
    ) -> Output:
        """tokens: ids. state: from `initial_state` or an earlier Output, to go on after it. segments: tokens with
        different numbers do not see each other (packed documents). project=False leaves `logits` None."""

    @abstractmethod
    def project(self, hidden: Float[Tensor, "... d"]) -> Float[Tensor, "... v"]:
        """Final hidden states (already normalised) to logits."""

    @abstractmethod
    def head_weight(self) -> Float[Tensor, "v d"]:
        """The matrix that `project` multiplies with, for a fused loss."""

    @abstractmethod
    def initial_state(self, batch: int, length: int) -> State:
        """An empty state for `batch` sequences of at most `length` tokens."""

    def fork(self, state: State, *, batch: int, keep: int, room: int) -> State:
        """`batch` states of their own, each as that of the one sequence of `state` after its first `keep` tokens, with
        room for `room` tokens more. `state` stays as it is. Under `snapshot` keep is always all that was read."""
        raise NotImplementedError(f"{type(self).__name__} says sharing = {self.sharing!r} but has no fork")

    def rows(self, slots: int, length: int) -> Rows | None:
        """A cache of up to `slots` sequences of up to `length` tokens each, for batches whose rows come and go.

        None: this model has none, and writes one text at a time."""
        return None

    @abstractmethod
    def scales(self) -> dict[str, Scale]:
        """{parameter name: Scale}: an exact cover of `named_parameters()`."""

    @abstractmethod
    def tally(self) -> Tally:
        """Counted from the modules themselves."""


class Scorer(Protocol):
    """All that evaluation and serving need; an n-gram table is one as much as a transformer."""

    vocab: int

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix; each row sums to one. Rows do not depend on
        each other, nor a position on what follows it."""
        ...


class Stream(Protocol):
    """Reads one text."""

    def push(self, token: int) -> None:
        """The next token; the first is history only, as end_of_document."""
        ...

    def probabilities(self) -> NDArray[np.float64]:
        """[v]: of every token that may come next."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A scorer that need not read a text again for each of its tokens: tables, memories."""

    vocab: int

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]: ...
    def stream(self) -> Stream:
        """A reader for one token after another, with the numbers of `logprobs`."""
        ...


@runtime_checkable
class Featuring(Protocol):
    """A scorer that tells which of its parts a text wakes: what a probe may classify texts by."""

    vocab: int

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]: ...
    def features(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """[f], none below zero: how often each of its parts answered to tokens [n]. f is the same for every text."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A scorer that has an answer and a confidence of its own, beside its probabilities."""

    vocab: int

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]: ...
    def answers(self, tokens: Int[Tensor, "b t"]) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t"]]:
        """What it says comes after each prefix, and how sure it is of that, from 0 to 1."""
        ...
