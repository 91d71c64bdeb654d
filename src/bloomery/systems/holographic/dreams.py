"""What an attractor memory does asleep: prototypes (non-REM), schemas (REM), and what becomes of them (merge).

non_rem   vectors and prototypes of every clustering from what was counted (prototypes.py); later nights only give
          tokens that were too rare a prototype, once UNASSIGNED of them wait: tables are written in the classes
rem       a schema is a pair of prototypes (a, b) that is tried as one. Rows are what follows each, n(a, c'); a row's
          prediction is (n(c') + MADE_UP p(c')) / (n + MADE_UP), p of all rows and one each. Its gain is, over the
          day's transitions from a or b, which no row has counted, log p(c' | a + b) - log p(c' | own); kept where
          the mean is SIGMAS standard errors above zero. The control draws b's row at random: one more row of the
          theory's "random matrices", as heavy as b's and alike nobody's
merge     of the schemas whose rows are alike (cosine above 1 - golden^-3), at most MERGED a night become one prototype:
          the tokens of the rarer go over, but its rarest, which keeps the class from being empty. What was counted of
          it fades

The theory's own REM keeps every candidate, random ones as well (specification 2); hence the held-out test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from bloomery.systems.holographic import prototypes
from bloomery.systems.holographic.algebra import GOLDEN
from bloomery.systems.holographic.ladders import REST, contexts

if TYPE_CHECKING:
    from bloomery.systems.holographic.attractor import Attractor

PHASES = ("non_rem", "rem", "replay", "prune", "merge")
UNASSIGNED = 64
MOST_DRAWS = 1000
MADE_UP = 20.0
SIGMAS = 2.0
LEAST_TRANSITIONS = 20
MERGED = 5
ALIKE = 1 - GOLDEN**-3


def non_rem(memory: Attractor) -> dict[str, float]:
    times = memory.times()
    first = len(memory.alphabets) == 1
    waiting = 0 if first else int(((memory.alphabets[1] == 0) & (times >= prototypes.LEAST)).sum())
    if not times.any() or not (first or waiting >= UNASSIGNED):
        return {"memory/assigned": 0.0}
    pairs = _pairs(memory)
    if not len(pairs[0]):
        return {"memory/assigned": 0.0}
    vectors = prototypes.vectors(*pairs, memory.vocab, memory.settings.seed)
    if first:
        for count in memory.settings.prototypes:
            found = prototypes.centres(vectors, times, count, memory.settings.seed)
            memory.alphabets.append(prototypes.classes(vectors, times, found))
        return {"memory/assigned": float((times >= prototypes.LEAST).sum())}
    for number, own in enumerate(memory.alphabets):
        if own is not None:
            memory.alphabets[number] = prototypes.joined(own, vectors, times)
    return {"memory/assigned": float(waiting)}


def _pairs(memory: Attractor) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(token before, token, times) of the bigrams that are held: a context of one token is found by hashing all."""
    ladder = memory.counting.ladders[0]
    rung = next(number for number, features in enumerate(ladder.rungs) if len(features) == 1)
    return _inverted(memory, "words", rung, np.arange(memory.vocab), None)


def _inverted(
    memory: Attractor, name: str, rung: int, symbols: Int[np.ndarray, " s"], table: Int[np.ndarray, " s"] | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(symbol before, target, times) of a rung whose context is one symbol."""
    ladder = next(one for one in memory.counting.ladders if one.name == name)
    alphabets = [table] * (1 + max(ladder.alphabets))
    pairs = np.stack((symbols, np.zeros_like(symbols)), axis=1).reshape(-1)
    hashes = contexts(ladder, pairs, alphabets)[rung][1::2]
    order = np.argsort(hashes)
    items = memory.items(name, rung)
    items_there = items.raw > 0
    keys, raw = items.keys[items_there], items.raw[items_there]
    context = keys & ~np.uint64(REST)
    at = np.minimum(np.searchsorted(hashes[order], context), len(order) - 1)
    known = hashes[order][at] == context
    target = (keys & np.uint64(REST)).astype(np.int64)
    return symbols[order][at[known]], target[known], raw[known]


def transitions(memory: Attractor) -> Float[np.ndarray, "k k"]:
    """n(a, c'): how often a token of class c' came after one of class a, of the first clustering, as counted."""
    own = memory.alphabets[1]
    assert own is not None
    size = int(own.max()) + 1
    # Any alphabet that maps symbols to themselves: what is hashed are classes.
    before, after, times = _inverted(memory, "classes1", 1, np.arange(size), None)
    out = np.zeros((size, size))
    np.add.at(out, (before, after), times)
    return out


def rem(memory: Attractor, random: np.random.Generator) -> dict[str, float]:
    own = memory.alphabets[1]
    assert own is not None
    rows, day = transitions(memory), memory.not_replayed()
    memory.schemas = []
    if not rows.any() or len(day) < 2:
        return {"memory/tried": 0.0, "memory/schemas_random": 0.0}
    symbols = own[day]
    seen = np.zeros_like(rows)
    np.add.at(seen, (symbols[:-1], symbols[1:]), 1)
    size = len(rows)
    draws = min(10 * size, MOST_DRAWS)
    pairs = random.integers(0, size, (draws, 2))
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    noise = random.dirichlet(np.ones(size), len(pairs))
    found = _kept(rows, seen, pairs, None)
    control = _kept(rows, seen, pairs, noise)
    kept = control if memory.settings.recombine == "random_matrices" else found
    memory.schemas = [(int(a), int(b)) for a, b in pairs[kept]]
    return {"memory/tried": float(len(pairs)), "memory/schemas_random": float(control.sum())}


def _kept(
    rows: Float[np.ndarray, "k k"],
    seen: Float[np.ndarray, "k k"],
    pairs: Int[np.ndarray, "n 2"],
    noise: Float[np.ndarray, "n k"] | None,
) -> Int[np.ndarray, " n"]:
    """Which pairs lower the surprise of what was seen. noise: in the place of the second row."""
    everything = (rows.sum(0) + 1) / (rows.sum() + len(rows))
    kept = np.zeros(len(pairs), dtype=bool)
    for number, (a, b) in enumerate(pairs):
        second = rows[b] if noise is None else noise[number] * rows[b].sum()
        joint = _predicted(rows[a] + second, everything)
        gains = np.concatenate((joint - _predicted(rows[a], everything), joint - _predicted(rows[b], everything)))
        weights = np.concatenate((seen[a], seen[b]))
        count = weights.sum()
        if count >= LEAST_TRANSITIONS:
            mean = (weights @ gains) / count
            spread = np.sqrt(max(0.0, weights @ (gains - mean) ** 2 / count) / count)
            kept[number] = mean > SIGMAS * spread
    return kept


def _predicted(row: Float[np.ndarray, " k"], everything: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    return np.log((row + MADE_UP * everything) / (row.sum() + MADE_UP))


def merge(memory: Attractor) -> dict[str, float]:
    own = memory.alphabets[1]
    assert own is not None
    rows, times, merged = transitions(memory), memory.times(), 0
    own = own.copy()
    touched: set[int] = set()
    for a, b in memory.schemas:
        if merged == MERGED:
            break
        norm = np.linalg.norm(rows[a]) * np.linalg.norm(rows[b])
        if 0 in (a, b) or touched & {a, b} or norm == 0 or rows[a] @ rows[b] / norm <= ALIKE:
            continue
        rarer, other = (a, b) if times[own == a].sum() <= times[own == b].sum() else (b, a)
        going = np.flatnonzero(own == rarer)
        going = going[np.argsort(times[going], kind="stable")[1:]]
        if len(going):
            own[going] = other
            merged += 1
            touched |= {a, b}
    memory.alphabets[1] = own
    return {"memory/merged": float(merged)}


def prototype_measures(memory: Attractor) -> dict[str, float]:
    """The mean entropy, in nats, of what follows a prototype, weighted by how often it was there; the share of what was
    read that has a prototype."""
    if len(memory.alphabets) == 1:
        return {"memory/entropy": 0.0, "memory/consolidated_share": 0.0}
    own, times, rows = memory.alphabets[1], memory.times(), transitions(memory)
    mass = rows.sum(1)
    p = rows / np.maximum(mass, 1)[:, None]
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1)
    return {
        "memory/entropy": float((mass @ entropy) / max(1.0, mass.sum())),
        "memory/consolidated_share": float(times[own != 0].sum() / max(1, times.sum())),
    }
