"""The twelve parsimonies, REM and non-REM of the theory against asleep.py's loops, each mechanism off alone as well."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bloomery.systems.holographic import dreaming, mechanisms
from bloomery.systems.holographic.config import PHASES, Mechanisms, Theory
from bloomery.systems.holographic.sleeping import Attractors, Sleeper, Waiting
from systems.holographic import asleep
from systems.holographic.asleep import Episode, G, Night

SIZES = pytest.mark.parametrize("size", [8, 16])
TWELVE = tuple(Mechanisms.model_fields)
VOCAB = 7
ROOM = 60
"""Of 90 episodes that wait, so that some are forgotten."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def around(count: int, size: int, spread: float, seed: int = 0) -> Tensor:
    """Around five centres, each row at a distance of its own."""
    places = torch.arange(count) % 5
    far = torch.linspace(0.01, spread, count, dtype=torch.float64)[:, None]
    return draw(5, size, seed=11)[places] + far * draw(count, size, seed=seed)


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=1e-10)


@SIZES
def test_coding_and_surprise(size: int) -> None:
    """3 and 4: some coefficients go and some stay; some episodes are predicted and some are not."""
    known, states = around(5, size, 0.01), around(60, size, 0.3, seed=1)
    found, share = mechanisms.coded(states, known)
    expected = [asleep.coded(one, known.tolist()) for one in states.tolist()]
    near(found, expected)
    moved = [[x != y for x, y in zip(*rows, strict=True)] for rows in zip(expected, states.tolist(), strict=True)]
    assert share == pytest.approx(np.mean(moved))
    assert 0.05 < share < 0.95
    surprised = mechanisms.surprising(states, known).tolist()
    assert surprised == [not asleep.predicted(one, known.tolist()) for one in states.tolist()]
    assert 0 < sum(surprised) < 60
    unlike = -known
    assert torch.equal(mechanisms.coded(unlike[:1], known[:1])[0], unlike[:1])
    assert mechanisms.surprising(states, known[:0]).all()


@SIZES
@pytest.mark.parametrize("count", [1, 12, 60])
def test_merging(size: int, count: int) -> None:
    """6: at most five pairs, the likest first, none in two; of many alike as well."""
    known = around(count, size, 0.2)
    support = draw(count, seed=2).abs().mul(9).add(3).tolist()
    found, expected = mechanisms.merged(known, support), asleep.merges(known.tolist(), support)
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert len(found) == (0 if count == 1 else 5)
    for (*_, state), (*_, slow) in zip(found, expected, strict=True):
        near(state, slow)
    assert not mechanisms.merged(draw(2, size), [1.0, 1.0])


def test_merging_looks_beyond_a_crowd() -> None:
    """One prototype is likest to 128 others, which are less like each other (words of the code BCH(15, 7, 5) around
    it): the pair that comes after all of its own still comes."""
    generator = 0b111010001
    words = [  # products of polynomials over two elements
        np.bitwise_xor.reduce([generator << bit for bit in range(7) if message >> bit & 1] or [0])
        for message in range(128)
    ]
    signs = torch.tensor([[1.0 - 2 * (int(word) >> bit & 1) for bit in range(15)] for word in words]).double()
    crowd = torch.cat((torch.zeros(1, 15).double(), 0.5 / math.sqrt(15) * signs))
    states = torch.cat((torch.ones(129, 1).double(), crowd), dim=1)
    support = [1.0] * 129
    found, expected = mechanisms.merged(states, support, 2), asleep.merges(states.tolist(), support, 2)
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert [0 in one[:2] for one in found] == [True, False]


@SIZES
def test_reconsolidation_is_one_retrieval_after_the_other(size: int) -> None:
    """7"""
    known, states = draw(3, size), draw(9, size, seed=1)
    which, right = torch.arange(9) % 2, torch.arange(9) % 3 == 0
    expected = known.tolist()
    for state, one, was_right in zip(states.tolist(), which.tolist(), right.tolist(), strict=True):
        expected[one] = asleep.reconsolidated(expected[one], state, was_right)
    near(mechanisms.reconsolidated(known, states, which, right), expected)


@SIZES
def test_working_memory_completion_and_inhibition(size: int) -> None:
    """9, 10, 11"""
    states = around(40, size, 0.4, seed=5)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    targets = np.arange(40) * 5 % VOCAB
    for first in (0, 9):
        votes = mechanisms.working(states, targets[:-1], first)
        found = np.zeros((40 - first, VOCAB))
        np.add.at(found, (votes.rows, votes.tokens), votes.weights)
        for at in range(first, 40):
            expected = asleep.working(states.tolist(), targets.tolist(), at)
            near(found[at - first], [expected.get(token, 0.0) for token in range(VOCAB)])
        assert 0.2 < (found.sum(1) > 0).mean() < 1
    known = draw(6, size, seed=6)
    near(mechanisms.completed(states, known), [asleep.completed(one, known.tolist()) for one in states.tolist()])
    which, those = torch.arange(40) % 3 % 2, torch.arange(40)[:, None] % torch.tensor([2, 3])
    expected = [[asleep.inhibited(which.tolist(), at, one) for one in row] for at, row in enumerate(those.tolist())]
    near(mechanisms.inhibited(which, those), expected)


@SIZES
def test_replay_follows_chains_of_like_transitions(size: int) -> None:
    """12"""
    angles = 0.3 * torch.arange(6, dtype=torch.float64)
    turning = torch.cos(angles)[:, None] * draw(1, size) + torch.sin(angles)[:, None] * draw(1, size, seed=1)
    states = torch.cat((draw(4, size, seed=2), turning, draw(5, size, seed=3)))
    found = mechanisms.chained(states).tolist()
    assert found == asleep.chained(states.tolist())
    assert all(found[4:10])
    assert not all(found)
    assert not mechanisms.chained(states[:2]).any()


@SIZES
def test_rem_recombines_settles_and_counts(size: int) -> None:
    """Candidates by matrices, ten steps one by one, forms by rounding; the same draws on both sides."""
    known = draw(4, size)
    count = 30
    found = dreaming.candidates(known, count, np.random.default_rng(1), at_random=False)
    random = np.random.default_rng(1)
    noise = random.standard_normal((count, size)).tolist()
    first, second, way = (random.integers(0, most, count).tolist() for most in (4, 4, 3))
    assert set(way) == {0, 1, 2}
    for row in range(count):
        a, b = known[first[row]].tolist(), known[second[row]].tolist()
        one, two = asleep.matrix(a), asleep.matrix(b)
        ways = (
            asleep.vector(one @ two, size), asleep.vector(one @ two.T, size), asleep.plus(a, noise[row], G**-4),
        )  # fmt: skip
        near(found[row], ways[way[row]])
    before, after = dreaming.settled(found)
    slow = [asleep.settled(one) for one in found.tolist()]
    near([asleep.to_norm(one, 1) for one, _ in slow], before)
    near([asleep.to_norm(one, 1) for _, one in slow], after)
    forms: Counter[dreaming.Form] = Counter()
    drawn, kept = dreaming.dream(known, 3, np.random.default_rng(2), forms, at_random=False)
    assert drawn == 3 * min(10 * 4, 1000)
    random, expected = np.random.default_rng(2), Counter[tuple[int, ...]]()
    for _ in range(3):
        for one in dreaming.candidates(known, 40, random, at_random=False).tolist():
            last = asleep.settled(one)
            if asleep.cosine(*last) >= 1 / G:
                expected[tuple(round(100 * x) for x in asleep.to_norm(last[1], 1))] += 1
    assert forms == expected
    assert kept == sum(expected.values())
    assert dreaming.schemas(forms) == sum(times >= 3 for times in expected.values()) > 0


def sleeper_of(size: int, on: Mechanisms, episodes: int, prototypes: int) -> Sleeper:
    settings = Theory(variant="v4" if size == 8 else "prod", mechanisms=on, buffer=episodes, room=ROOM)
    sleeper = Sleeper(settings, VOCAB, size, 0)
    random = np.random.default_rng(3)
    order = random.permutation(episodes)
    sleeper.waiting = Waiting(
        around(episodes, size, 0.7, seed=7), around(episodes, size, 0.7, seed=8),
        np.minimum(random.geometric(0.4, episodes) - 1, VOCAB - 1), order,
    )  # fmt: skip
    followers = []
    for _ in range(prototypes):
        tokens = np.sort(random.choice(VOCAB, 3, replace=False))
        followers.append((tokens, random.dirichlet(np.ones(3))))
    sleeper.attractors = Attractors(
        around(prototypes, size, 0.1, seed=9), around(prototypes, size, 0.1, seed=10),
        random.integers(3, 30, prototypes).astype(float), random.random(prototypes), followers,
    )  # fmt: skip
    sleeper.forms = Counter({(1,): 3, (2,): 1, (3,): 9})
    return sleeper


def generators(seed: int) -> Callable[[str], np.random.Generator]:
    """Of a mechanism by its name: children of the seed by the name's letters."""
    return lambda name: np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(map(ord, name))))


def night_of(sleeper: Sleeper) -> Night:
    own = sleeper.attractors
    return Night(
        own.states.tolist(), own.signatures.tolist(), own.support.tolist(), own.radius.tolist(),
        [dict(zip(tokens.tolist(), shares.tolist(), strict=True)) for tokens, shares in own.followers],
    )  # fmt: skip


def alike(one: Night, two: Night) -> None:
    for name in (each.name for each in fields(Night)):
        found, expected = getattr(one, name), getattr(two, name)
        assert len(found) == len(expected), name
        if name == "followers":
            for mine, theirs in zip(found, expected, strict=True):
                assert mine == pytest.approx(theirs, abs=1e-10)
        else:
            near(found, expected)


@pytest.mark.parametrize("off", [None, *TWELVE, "all"])
@pytest.mark.parametrize("prototypes", [0, 6])
def test_non_rem_is_its_loops_with_each_mechanism_off(off: str | None, prototypes: int) -> None:
    size = 8 if prototypes else 16
    switched = dict.fromkeys(TWELVE if off == "all" else () if off is None else (off,), False)
    sleeper = sleeper_of(size, Mechanisms(**switched), 90, prototypes)
    night, waiting = night_of(sleeper), sleeper.waiting
    episodes = [
        Episode(*one)
        for one in zip(
            waiting.states.tolist(), waiting.signatures.tolist(), waiting.targets.tolist(), waiting.positions.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    rest = asleep.non_rem(night, episodes, set(TWELVE) - set(switched), 2, ROOM, generators(4))
    sleeper.sleep(("non_rem", "replay"), np.random.default_rng(4), 1 << 30)
    alike(night_of(sleeper), night)
    assert len(night.states) > prototypes
    near(sleeper.waiting.states, np.array([one.state for one in rest]).reshape(-1, size))
    assert sleeper.waiting.positions.tolist() == [one.position for one in rest]


def test_every_mechanism_of_sleep_changes_the_night() -> None:
    """Else the test above would pass with a switch that is not connected."""

    def night(off: tuple[str, ...]) -> Any:
        sleeper = sleeper_of(8, Mechanisms(**dict.fromkeys(off, False)), 90, 6)
        sleeper.sleep(("non_rem", "replay", "merge"), np.random.default_rng(4), 1 << 30)
        return sleeper.attractors.states.tolist()

    whole = night(())
    awake = {"reconsolidation", "working_memory", "completion", "inhibition"}
    for one in set(TWELVE) - awake:
        assert night((one,)) != whole, one


def test_forgetting_spares_by_priority_where_the_buffer_is_too_full() -> None:
    """5, by its frequencies over a day of 12,000 episodes: 5,000 have room."""
    priorities = np.linspace(0, 1.2, 12_000).tolist()
    chances = asleep.stays(priorities, 0)
    found = mechanisms_staying(priorities)
    near(found, chances)
    assert chances[0] == pytest.approx(5000 / 12_000)
    assert chances[-1] == 1


def mechanisms_staying(priorities: list[float]) -> Tensor:
    from bloomery.systems.holographic.consolidation import room, staying

    return staying(torch.tensor(priorities, dtype=torch.float64), room(0))


def test_merging_a_night_weighs_followers_and_signatures_by_support() -> None:
    sleeper = sleeper_of(8, Mechanisms(), 10, 12)
    night = night_of(sleeper)
    gone: set[int] = set()
    for kept, lost, state in asleep.merges(night.states, night.support):
        one, two = night.support[kept], night.support[lost]
        night.states[kept] = state
        night.signatures[kept] = [
            (one * x + two * y) / (one + two)
            for x, y in zip(night.signatures[kept], night.signatures[lost], strict=True)
        ]
        tokens = night.followers[kept].keys() | night.followers[lost].keys()
        night.followers[kept] = {
            token: (one * night.followers[kept].get(token, 0) + two * night.followers[lost].get(token, 0)) / (one + two)
            for token in tokens
        }
        night.support[kept] = one + two
        night.radius[kept] = max(night.radius[kept], night.radius[lost])
        gone.add(lost)
    left = [number for number in range(12) if number not in gone]
    assert len(left) == 7
    sleeper.sleep(("merge",), np.random.default_rng(0), 1 << 30)
    expected = replace(night, **{one.name: [getattr(night, one.name)[n] for n in left] for one in fields(Night)})
    alike(night_of(sleeper), expected)


def test_pruning_spares_the_best_supported() -> None:
    sleeper = sleeper_of(8, Mechanisms(), 10, 12)
    own = sleeper.attractors
    each = 8 * (2 * 8 + 2) + 12 * 3
    assert own.bytes == 12 * each
    support = own.support.copy()
    sleeper.sleep(("prune",), np.random.default_rng(0), 4 * 5 * each)
    assert len(sleeper.attractors) == 5
    assert sorted(sleeper.attractors.support) == sorted(support)[-5:]


def test_rehearsal_draws_what_prototypes_predict() -> None:
    """8: a fifth of golden^-3 would show, as would targets drawn alike."""
    sleeper = sleeper_of(8, Mechanisms(), 10, 6)
    own = sleeper.attractors
    random = np.random.default_rng(0)
    away, targets = [], Counter[int]()
    for _ in range(2000):
        rehearsed = sleeper._rehearsed(60, random)
        assert len(rehearsed) == 6
        away += (torch.linalg.vector_norm(rehearsed.states - own.states, dim=-1) / own.states.norm(dim=-1)).tolist()
        targets[int(rehearsed.targets[0])] += 1
    assert math.sqrt(np.mean(np.square(away))) == pytest.approx(G**-3, rel=0.02)
    for token, share in zip(*own.followers[0], strict=True):
        assert targets[int(token)] / 2000 == pytest.approx(share, abs=0.04)


def test_what_is_switched_off_draws_nothing_of_another() -> None:
    """With room for all, forgetting does nothing: a night with it and one without are the same to the last bit."""

    def night(room: int, **switched: bool) -> list[Any]:
        sleeper = sleeper_of(8, Mechanisms(**switched), 90, 6)
        sleeper.settings = sleeper.settings.model_copy(update={"room": room})
        sleeper.sleep(PHASES, np.random.default_rng(4), 1 << 30)
        own = sleeper.attractors
        return [own.states.tolist(), [one.tolist() for one, _ in own.followers], sorted(sleeper.forms.items())]

    assert night(5000) == night(5000, forgetting=False)
    assert night(ROOM) != night(ROOM, forgetting=False)


def test_a_sleep_without_its_replay_stage_replays_nothing() -> None:
    """The same night as with the mechanism switched off, and another than with the stage."""

    def night(*phases: str, on: bool = True) -> Any:
        sleeper = sleeper_of(8, Mechanisms(replay=on), 90, 6)
        sleeper.sleep(phases, np.random.default_rng(4), 1 << 30)
        return sleeper.attractors.states.tolist()

    assert night("non_rem") == night("non_rem", "replay", on=False)
    assert night("non_rem") != night("non_rem", "replay")
