"""Sleep's pure functions against loops in plain numbers and known answers."""

import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from bloomery.systems.holographic import consolidation
from bloomery.systems.holographic.consolidation import Episodes
from bloomery.systems.holographic.contexts import stability

GOLDEN = (1 + math.sqrt(5)) / 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one: Tensor, two: Tensor) -> float:
    return float(one @ two) / math.sqrt(float(one @ one) * float(two @ two))


def test_priority_adds_salience_novelty_and_error() -> None:
    states, known, errors = draw(5, 8), draw(3, 8, seed=1), draw(5, seed=2).abs()
    found = consolidation.priority(states, known, errors)
    for number, state in enumerate(states):
        new = 1 - max(cosine(state, one) for one in known)
        salient = abs(float(state[0])) + abs(float(state[-1])) / GOLDEN
        wanted = salient / GOLDEN + new / GOLDEN**2 + float(errors[number]) / GOLDEN**3
        assert float(found[number]) == pytest.approx(wanted)
    assert consolidation.novelty(states, known[:0]).tolist() == [1] * 5


def test_forgetting_spares_what_matters_and_begins_where_room_ends() -> None:
    priorities = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    assert consolidation.staying(priorities, 4.0).tolist() == [1] * 4
    assert consolidation.staying(priorities, 2.0).tolist() == pytest.approx([0.5, math.sqrt(0.5), 1, 1])
    assert consolidation.room(0) == 5000
    assert consolidation.room(900) == pytest.approx(10_000 * (3 + math.sqrt(5)) / 2)
    assert (consolidation.room(0, 50), consolidation.room(900, 50)) == pytest.approx((50, 50 * (3 + math.sqrt(5))))


def test_the_threshold_falls_with_schemas_and_is_held() -> None:
    assert consolidation.threshold(0, 0) == pytest.approx(GOLDEN**-2 + GOLDEN**-2)
    assert consolidation.threshold(9, 20) == pytest.approx(GOLDEN**-2 - GOLDEN**-3 * (2 - GOLDEN))
    assert consolidation.threshold(0, 1000) == pytest.approx(GOLDEN**-3)
    assert consolidation.threshold(10**6, 0) <= 1 - GOLDEN**-3


def episodes(count: int, spread: float) -> Episodes:
    """Around four centres, with distinct priorities."""
    centre = torch.arange(count) % 4
    states = draw(4, 8, seed=5)[centre] + spread * draw(count, 8, seed=6)
    signatures = draw(4, 8, seed=7)[centre] + spread * draw(count, 8, seed=8)
    return Episodes(states, signatures, torch.arange(count) * 3 % 5, draw(count, seed=9).abs())


@pytest.mark.parametrize("spread", [0.01, 0.5, 2.0])
def test_groups_and_prototypes_are_those_of_a_loop(spread: float) -> None:
    given, least = episodes(26, spread), 0.6
    mean = float(stability(given.states).mean())
    members: list[list[int]] = []
    for number in sorted(range(26), key=lambda n: -float(given.priorities[n])):
        alike = [
            (1 - mean) * cosine(given.states[number], given.states[group[0]])
            + mean * cosine(given.signatures[number], given.signatures[group[0]])
            for group in members
        ]
        if alike and max(alike) >= least:
            members[alike.index(max(alike))].append(number)
        else:
            members.append([number])
    group = consolidation.groups(given, least).tolist()
    assert [sorted(each) for each in members] == [
        [n for n in range(26) if group[n] == number] for number in range(len(members))
    ]
    found = consolidation.consolidated(given, least, 5)
    large = [each for each in members if len(each) >= 3]
    assert len(found.prototypes.states) == len(large)
    assert found.prototypes.support.tolist() == [len(each) for each in large]
    for row, each in enumerate(large):
        total = sum(float(given.priorities[n]) for n in each)
        centroid = sum((float(given.priorities[n]) / total * given.states[n] for n in each), torch.zeros(8))
        assert found.prototypes.states[row].tolist() == pytest.approx(centroid.tolist())
        shares: dict[int, float] = defaultdict(float)
        for n in each:
            shares[int(given.targets[n])] += 1 + float(given.priorities[n])
        wanted = [shares[token] / sum(shares.values()) for token in range(5)]
        assert found.prototypes.targets[row].tolist() == pytest.approx(wanted)
        radius = max(math.dist(given.states[n].tolist(), centroid.tolist()) for n in each)
        assert float(found.radius[row]) == pytest.approx(radius)
    if spread == 0.01:
        assert len(large) == 4


def test_nothing_is_made_of_episodes_that_are_all_alone() -> None:
    found = consolidation.consolidated(episodes(8, 0.01), 0.6, 5)  # two around each centre
    assert found.prototypes.targets.shape == (0, 5)
