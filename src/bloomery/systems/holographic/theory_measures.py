"""What the seed measures, and beside each number the control that it is worthless without (spec, 1.11).

retrieval_seen        top token of what is retrieved for contexts just stored; its control is the arm exact_context
compression           episodes consolidated by prototype; entropy: of what follows a prototype, in nats, and
                      entropy_counts: of what followed the contexts of the same cells by plain counts
stability, enstrophy, consolidation_ratio, witness_stability    of recent contexts
order_swapped         |cos| of an eight-token product and the same with two neighbours swapped
order_permuted        with all of it permuted;  order_unrelated: of two windows that share nothing
edit_middle, edit_last    how far the context moves, as a share of its norm, where one token is another;
edit_middle_beyond_phase  the window's product, but for its phase: a long one of the theory's multivectors is a column
                      times a row times a phase, which any edit turns
superposed_one, superposed_two    top-1 of a superposition of one pair, and of two: what one multivector holds
structure_X, grammar_X    whether signatures hear structure (structure.py)
weight_X              of each part in the mixture that predicts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.systems.holographic import contexts as context_of
from bloomery.systems.holographic import dreaming, structure, superposition
from bloomery.systems.holographic.algebra import frobenius, product
from bloomery.systems.holographic.chains import window
from bloomery.systems.holographic.contexts import CONSOLIDATE_BELOW, similarity
from bloomery.systems.holographic.recall import likest

if TYPE_CHECKING:
    from bloomery.systems.holographic.theory_memory import TheoryMemory

PROBE = 8
"""Tokens of a window whose order is asked about."""
PROBES = 256


def measures(memory: TheoryMemory) -> Mapping[str, float]:
    sleeper, own = memory.sleeper, memory.sleeper.attractors
    found = {
        "store_bytes": float(memory.bytes),
        "day_bytes": float(sleeper.day_bytes),
        "prototypes": float(len(own)),
        "schemas": float(dreaming.schemas(sleeper.forms)),
        "forgotten_share": memory.dropped / max(1, memory.stored + memory.dropped),
        "compression": sleeper.taken / max(1, len(own)),
        "consolidated_share": sleeper.taken / max(1, sleeper.offered),
        "sleeps": float(sleeper.slept),
        "replayed": float(sleeper.replayed),
        "delta_share": sleeper.coded,
        "rem_survival": sleeper.survived,
        "basin_discrimination": sleeper.basins,
        "basin_chance": 1 / max(1, len(own)),
        **_weights(memory),
    }
    if len(own):
        entropies = own.entropies()
        found["entropy"] = float((entropies * own.support).sum() / own.support.sum())
        found["prototype_stability"] = float(context_of.stability(own.states).mean())
    if len(memory.recent) > 1:
        found |= _of_contexts(memory)
    if len(memory.tail) >= 2 * PROBE and memory.settings.tokens_as != "random_matrices":
        found |= _of_order(memory)
    found |= structure.measures(memory)
    return {f"memory/{name}": value for name, value in found.items()}


def _weights(memory: TheoryMemory) -> dict[str, float]:
    if not len(memory.asked):
        return {}
    knows = (memory.asked[:, 1:] != memory.asked[:, :1]).mean(0)  # what a part does not know it leaves to the unigram
    used = memory.weights()[1:] * knows
    found = {f"weight_{name}": float(one) for name, one in zip(memory.names, used, strict=True)}
    return found | {"weight_unigram": float(1 - used.sum())}


def _of_contexts(memory: TheoryMemory) -> dict[str, float]:
    recent = memory.recent
    states, count = recent.states, len(recent)
    values = context_of.stability(states)
    drift = (frobenius(memory.products(memory.tail)) - 1).abs().max()
    return {
        "retrieval_seen": float((memory.seen().best(count) == recent.targets).mean()),
        "entropy_counts": _entropy(memory),
        "stability": float(values.mean()),
        "consolidation_ratio": float((values < CONSOLIDATE_BELOW).double().mean()),
        "witness_stability": context_of.witness_stability(states),
        "enstrophy": float(context_of.enstrophy(states).mean()),
        "context_norm_drift": float(drift),
        **_superposed(memory),
    }


def _entropy(memory: TheoryMemory) -> float:
    votes = memory.seen()
    counts = np.bincount(votes.rows, -votes.weights * np.log(votes.weights), minlength=len(memory.recent))
    return float(counts.mean())


def _superposed(memory: TheoryMemory) -> dict[str, float]:
    """Pairs of the newest contexts, each memory holding one pair or two."""
    count = min(PROBES, len(memory.recent) // 2 * 2)
    states, targets = memory.recent.states[-count:], memory.recent.targets[-count:]
    right = {1: 0, 2: 0}
    for size in right:
        for start in range(0, count, 2):
            part = slice(start, start + size)
            matrices = memory.matrices[torch.from_numpy(targets[part])]
            held = superposition.superposed(states[part], matrices)
            read = superposition.recalled(held, states[start : start + 1])
            right[size] += int(likest(read, memory.matrices)[0]) == int(targets[start])
    return {"superposed_one": right[1] / (count // 2), "superposed_two": right[2] / (count // 2)}


def _of_order(memory: TheoryMemory) -> dict[str, float]:
    random = np.random.default_rng((memory.seed, memory.position))
    tail = memory.tail
    starts = random.integers(0, len(tail) - PROBE + 1, PROBES)
    windows = tail[starts[:, None] + np.arange(PROBE)]
    middle = PROBE // 2
    swapped = windows.copy()
    swapped[:, [middle - 1, middle]] = windows[:, [middle, middle - 1]]
    other = windows[:, middle - 1] != windows[:, middle]
    permuted = random.permuted(windows, axis=1)
    plain = _products(memory, windows)
    found = {
        "order_swapped": _alike(plain, _products(memory, swapped), other),
        "order_permuted": _alike(plain, _products(memory, permuted), (permuted != windows).any(1)),
        "order_unrelated": _alike(plain, plain[random.permutation(PROBES)], np.ones(PROBES, dtype=np.bool_)),
    }
    history = tail[-memory.context :]
    whole = memory.states(history)[0][-1]
    for name, place in (("edit_middle", len(history) // 2), ("edit_last", len(history) - 1)):
        moved, turned = [], []
        for token in random.integers(0, memory.vocab, 8).tolist():
            edited = history.copy()
            edited[place] = token
            moved.append(float(frobenius(memory.states(edited)[0][-1] - whole) / frobenius(whole)))
            turned.append(float(beyond_phase(memory.products(edited)[-1], memory.products(history)[-1])))
        found[name] = float(np.mean(moved))
        if name == "edit_middle":
            found["edit_middle_beyond_phase"] = float(np.mean(turned))
    return found


def beyond_phase(one: Float[Tensor, "... n"], two: Float[Tensor, "... n"]) -> Float[Tensor, " ..."]:
    """The least |one - two (cos t + e1234 sin t)| over all t, both scaled to norm one: from 0 to sqrt 2."""
    one, two = torch.nn.functional.normalize(one, dim=-1), torch.nn.functional.normalize(two, dim=-1)
    last = torch.zeros_like(two)
    last[..., -1] = 1  # e1234, whose square is -1, leaves every norm as it is
    real, imaginary = (one * two).sum(-1), (one * product(two, last)).sum(-1)
    return (2 - 2 * torch.hypot(real, imaginary)).clamp_min(0).sqrt()


def _products(memory: TheoryMemory, windows: np.ndarray) -> Float[Tensor, "w n"]:
    return window(memory.matrices[torch.from_numpy(windows)], windows.shape[1])[:, -1]


def _alike(one: Tensor, two: Tensor, which: np.ndarray) -> float:
    """The mean |cos| of those rows."""
    cosines = similarity(one, two).abs()[torch.from_numpy(which)]
    return float(cosines.mean()) if len(cosines) else 1.0
