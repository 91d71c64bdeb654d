"""The variants of this system's memory, by name: how each is made, opened and put behind a model's card.

A model folder holds what its scorer has written, and `scorer.json`: {"kind": "holographic", "variant": NAME}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.tokenizer import Tokenizer
from bloomery.engine.artifact import write_atomically
from bloomery.errors import ArtifactError
from bloomery.measure import Tally
from bloomery.model.interface import Stream
from bloomery.stages.scorers import SCORER_CARD
from bloomery.systems.holographic.config import VARIANTS, Consolidate, Theory, TheoryRun, Wake
from bloomery.systems.holographic.memory import Memory

KIND = "holographic"


class Scoring(Protocol):
    """What predicts, apart from what wakes and sleeps; each row of probabilities sums to one."""

    vocab: int

    def document_logprobs(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """tokens [n + 1]: end_of_document, then the document. Natural-log probability of each after the first."""
        ...

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]: ...
    def stream(self) -> Stream: ...
    def fitted(self, documents: Sequence[NDArray[np.int64]], *, nested: bool) -> Scoring:
        """With weights found on documents [n + 1] that it has not read."""
        ...

    def tally(self) -> Tally: ...
    def save(self, folder: Path) -> None: ...


class Predicting(Memory, Protocol):
    def scorer(self) -> Scoring:
        """What it predicts by now."""
        ...


class Variant(NamedTuple):
    create: Any
    """(settings: Wake, vocab, end_of_document, seed, working) -> Predicting. working: folder of files that large tables
    are mapped to (mapped.py), or None"""
    open: Any
    """(folder of `Memory.save`, working) -> Predicting"""
    load: Any
    """(folder of `Scoring.save`) -> Scoring"""


def variant(name: str) -> Variant:
    if name == "exact_context":
        from bloomery.systems.holographic import exact_context

        return Variant(
            lambda wake, *given: exact_context.ExactContext(theory(wake), *given[:3]),
            lambda folder, working: exact_context.open(folder),
            exact_context.open,
        )
    if name == "attractor":
        from bloomery.systems.holographic import attractor
        from bloomery.systems.holographic.scorer import AttractorScorer

        return Variant(_attractor, attractor.open, AttractorScorer.load)
    assert name in ("v4", "prod"), name
    from bloomery.systems.holographic import theory_files, theory_memory

    return Variant(
        lambda wake, *given: theory_memory.TheoryMemory(theory(wake), *given[:3]),
        lambda folder, working: theory_files.open(folder),
        lambda folder: theory_files.open(folder).scorer(),
    )


def _attractor(wake: Wake, vocab: int, end_of_document: int, seed: int, working: Path | None) -> Memory:
    """Contexts are histories of a document, so that it needs no end_of_document of its own."""
    from bloomery.systems.holographic.attractor import Attractor, Settings

    assert isinstance(wake, Consolidate)
    settings = Settings(
        vocab, wake.store.bytes, wake.timescales, seed=seed,
        recombine="prototypes" if wake.sleep is None else wake.sleep.recombine,
    )  # fmt: skip
    if wake.prototypes is not None:
        settings = replace(settings, prototypes=wake.prototypes)
    return Attractor(settings, working)


TOLD = ("tokens_as", "prior", "grace_every", "max_attractors", "keep_every", "decoding")
"""Of a TheoryRun alone."""


def theory(wake: Wake) -> Theory:
    """What a memory of the theory is built from."""
    assert isinstance(wake, Consolidate | TheoryRun)
    given: dict[str, Any] = {} if wake.sleep is None else {
        "rem_cycles": wake.sleep.rem_cycles, "recombine": wake.sleep.recombine
    }  # fmt: skip
    if isinstance(wake, TheoryRun):
        given |= {name: getattr(wake, name) for name in TOLD}
    shared = ("variant", "context", "noise", "timescales", "store", "consolidate_at", "mechanisms")
    given |= {name: getattr(wake, name) for name in shared}
    return Theory(**given, **wake.episodes.model_dump())


def save_model(folder: Path, scorer: Scoring, name: str, tokenizer: Tokenizer) -> None:
    """Raises ArtifactError where it cannot be written."""
    scorer.save(folder)
    tokenizer.save(folder / "tokenizer")
    card = {"kind": KIND, "variant": name, "vocab": scorer.vocab}
    write_atomically(folder / SCORER_CARD, json.dumps(card).encode())


def card(folder: Path) -> Mapping[str, Any]:
    """Raises ArtifactError where it is no card of this system's."""
    try:
        found = json.loads((folder / SCORER_CARD).read_text())
        if found["kind"] != KIND or found["variant"] not in VARIANTS:
            raise ValueError(f"kind {found['kind']}, variant {found['variant']}")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder / SCORER_CARD), f"damaged ({error})", hint="run the stage again") from None


def open_model(folder: Path) -> Scoring:
    """What `save_model` wrote. Raises ArtifactError where it is damaged."""
    return variant(card(folder)["variant"]).load(folder)
