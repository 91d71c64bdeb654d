"""The theory's sleep by loops over single numbers, from the formulas (specification 1.2, 1.5, 1.7, 1.8), in float64.

Multivectors are lists of 8 or 16 coefficients; products go through 4x4 matrices. Nothing here is the system's own code
but the basis matrices, which test_algebra.py holds against the definition.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from bloomery.systems.holographic.algebra import EVEN, GRADES, basis

G = (1 + math.sqrt(5)) / 2
BASIS = basis().numpy()
Vector = list[float]


def numbered(size: int) -> tuple[int, ...]:
    return tuple(range(16)) if size == 16 else EVEN


def matrix(a: Vector) -> np.ndarray:
    return sum((x * BASIS[k] for x, k in zip(a, numbered(len(a)), strict=True)), np.zeros((4, 4)))


def vector(m: np.ndarray, size: int) -> Vector:
    return [float(np.trace(BASIS[k].T @ m)) / 4 for k in numbered(size)]


def grace(a: Vector) -> Vector:
    power = {0: 0, 1: 1, 2: 2, 3: 3, 4: 1}
    return [x / G ** power[GRADES[k]] for x, k in zip(a, numbered(len(a)), strict=True)]


def norm(a: Vector) -> float:
    """Frobenius."""
    return math.sqrt(sum(float(x) ** 2 for x in matrix(a).flatten()))


def to_norm(a: Vector, wanted: float) -> Vector:
    return [x * wanted / norm(a) for x in a]


def plus(a: Vector, b: Vector, by: float = 1.0) -> Vector:
    return [x + by * y for x, y in zip(a, b, strict=True)]


def cosine(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def commutator(a: Vector, b: Vector) -> Vector:
    one, two = matrix(a), matrix(b)
    return vector((one @ two - two @ one) / 2, len(a))


def sigma(a: Vector) -> float:
    return (a[0] ** 2 + a[-1] ** 2) / sum(x * x for x in a)


def nearest(a: Vector, known: list[Vector]) -> int:
    return max(range(len(known)), key=lambda k: cosine(a, known[k]))


# The twelve parsimonies, by their numbers


def salience(a: Vector) -> float:  # 1
    return abs(a[0]) + abs(a[-1]) / G


def priority(a: Vector, known: list[Vector], on: set[str]) -> float:  # 1, 2, 4
    found = salience(a) / G if "salience" in on else 0.0
    if "novelty" in on:
        found += (1 - max((cosine(a, one) for one in known), default=0.0)) / G**2
    return found + ((1 - sigma(a)) / G**3 if "predictive_coding" in on else 0.0)


def coded(a: Vector, known: list[Vector]) -> Vector:  # 3
    if not known:
        return a
    near = known[nearest(a, known)]
    if cosine(a, near) < G**-2:
        return a
    return [y if abs(x - y) < G**-8 else x for x, y in zip(a, near, strict=True)]


def predicted(a: Vector, known: list[Vector]) -> bool:  # 4
    return bool(known) and norm(plus(a, known[nearest(a, known)], -1)) < G**-3


def stays(priorities: list[float], prototypes: int, room: int = 5000) -> list[float]:  # 5
    """The chance of each."""
    ratio = len(priorities) / (max(5000, G**2 * (prototypes + 100) * 10) * room / 5000)
    k = math.log(ratio) / math.log(G)
    return [1.0 if ratio <= 1 else G ** (-k * (1 - min(1.0, max(0.0, p)))) for p in priorities]


def merges(known: list[Vector], support: list[float], most: int = 5) -> list[tuple[int, int, Vector]]:  # 6
    pairs = [(cosine(known[i], known[j]), i, j) for i in range(len(known)) for j in range(i + 1, len(known))]
    done: list[tuple[int, int, Vector]] = []
    used: set[int] = set()
    for alike, i, j in sorted(pairs, key=lambda one: (-one[0], one[1], one[2])):
        if alike > 1 - G**-3 and len(done) < most and not used & {i, j}:
            used |= {i, j}
            share = support[i] / (support[i] + support[j])
            done.append((i, j, grace(plus([share * x for x in known[i]], known[j], 1 - share))))
    return done


def reconsolidated(prototype: Vector, a: Vector, right: bool) -> Vector:  # 7
    rate = 1 / G / (2 if right else 1)
    return plus(prototype, plus(a, prototype, -1), rate)


def working(states: list[Vector], targets: list[int], at: int) -> dict[int, float]:  # 9
    """Shares of what followed the last seven contexts that are like the one at `at`."""
    votes: Counter[int] = Counter()
    for age in range(1, 8):
        if at - age >= 0 and cosine(states[at], states[at - age]) >= 1 - G**-3:
            votes[targets[at - age]] += G**-age  # pyright: ignore[reportArgumentType]
    return {token: weight / sum(votes.values()) for token, weight in votes.items()}


def completed(a: Vector, known: list[Vector], steps: int = 5) -> Vector:  # 10
    near, found = known[nearest(a, known)], a
    for _ in range(steps):
        found = plus([(1 - G**-2) * x for x in grace(found)], near, G**-2)
    return to_norm(found, norm(a))


def inhibited(retrieved: list[int], at: int, prototype: int) -> float:  # 11
    """What is left of the weight of one that came up t tokens ago, for each t up to three."""
    return G ** -sum(G**-t for t in (1, 2, 3) if at - t >= 0 and retrieved[at - t] == prototype)


def chained(states: list[Vector]) -> list[bool]:  # 12
    turns = [commutator(a, b) for a, b in pairwise(states)]
    found = [False] * len(states)
    for i in range(len(turns) - 1):
        if cosine(turns[i], turns[i + 1]) >= 1 / G:
            found[i] = found[i + 1] = found[i + 2] = True
    return found


# REM


def settled(a: Vector) -> tuple[Vector, Vector]:
    before = a
    for _ in range(10):
        before, a = a, plus([G**-2 * x for x in grace(a)], a, 0.0618)
    return before, a


# Non-REM


@dataclass
class Night:
    """Prototypes, and what each predicts."""

    states: list[Vector] = field(default_factory=list)
    signatures: list[Vector] = field(default_factory=list)
    support: list[float] = field(default_factory=list)
    radius: list[float] = field(default_factory=list)
    followers: list[dict[int, float]] = field(default_factory=list)


@dataclass
class Episode:
    state: Vector
    signature: Vector
    target: int
    position: int
    priority: float = 0.0


def threshold(prototypes: int, schemas: int) -> float:
    wanted = G**-2 - G**-3 * (schemas / (prototypes + 1) - G)
    return min(max(wanted, G**-3), 1 - G**-3)


def non_rem(
    night: Night, waiting: list[Episode], on: set[str], schemas: int, room: int,
    random: Callable[[str], np.random.Generator],
) -> list[Episode]:  # fmt: skip
    """Adds to the night's prototypes; what goes on waiting. random: of each mechanism, drawn from as the fast one does,
    which is no part of the law."""
    known = night.states
    in_time = sorted(range(len(waiting)), key=lambda n: waiting[n].position)
    in_chain = dict(zip(in_time, chained([waiting[n].state for n in in_time]), strict=True))
    for n, one in enumerate(waiting):
        one.priority = priority(one.state, known, on) + (G**-2 if "replay" in on and in_chain[n] else 0.0)
    if "forgetting" in on:
        drawn = random("forgetting").random(len(waiting))
        chances = stays([one.priority for one in waiting], len(known), room)
        waiting = [one for one, chance, number in zip(waiting, chances, drawn, strict=True) if number < chance]
    if "predictive_coding" in on:
        waiting = [one for one in waiting if not predicted(one.state, known)]
    if "delta_coding" in on:
        waiting = [replace(one, state=coded(one.state, known)) for one in waiting]
    times = Counter(one.target for one in waiting)
    ready = [sigma(one.state) < G**-2 or times[one.target] >= 3 for one in waiting]
    rest = [one for one, now in zip(waiting, ready, strict=True) if not now]
    asleep = [one for one, now in zip(waiting, ready, strict=True) if now]
    if "rehearsal" in on and (count := min(len(known), len(waiting) // 10)):
        draw = random("rehearsal")
        which = sorted(draw.choice(len(known), count, replace=False).tolist())
        noise = draw.standard_normal((count, len(known[0])))
        for row, k in zip(noise.tolist(), which, strict=True):
            tokens = sorted(night.followers[k])
            target = int(draw.choice(tokens, p=[night.followers[k][token] for token in tokens]))
            size = G**-3 * math.sqrt(sum(x * x for x in known[k])) / math.sqrt(len(known[k]))
            state = plus(known[k], row, size)
            asleep.append(Episode(state, night.signatures[k], target, -1, priority(state, known, on)))
    consolidate(night, asleep, threshold(len(known), schemas))
    return rest


def consolidate(night: Night, asleep: list[Episode], least: float) -> None:
    if not asleep:
        return
    mean = sum(sigma(one.state) for one in asleep) / len(asleep)
    groups: list[list[Episode]] = []
    for one in sorted(asleep, key=lambda each: -each.priority):
        alike = [
            (1 - mean) * cosine(one.state, group[0].state) + mean * cosine(one.signature, group[0].signature)
            for group in groups
        ]
        if alike and max(alike) >= least:
            groups[alike.index(max(alike))].append(one)
        else:
            groups.append([one])
    for group in groups:
        if len(group) < 3:
            continue
        total = sum(one.priority for one in group)
        weights = [one.priority / total if total else 1 / len(group) for one in group]
        state, signature = [0.0] * len(group[0].state), [0.0] * len(group[0].state)
        shares: dict[int, float] = {}
        for one, weight in zip(group, weights, strict=True):
            state, signature = plus(state, one.state, weight), plus(signature, one.signature, weight)
            shares[one.target] = shares.get(one.target, 0.0) + 1 + one.priority
        night.states.append(state)
        night.signatures.append(signature)
        night.support.append(len(group))
        night.radius.append(max(math.dist(one.state, state) for one in group))
        night.followers.append({token: share / sum(shares.values()) for token, share in shares.items()})
