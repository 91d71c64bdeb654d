"""The theory's memories, prior and decoding against loops in plain numbers, and what they cannot do."""

import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from bloomery.systems.holographic import algebra, prior, superposition, tokens
from bloomery.systems.holographic.chains import window
from bloomery.systems.holographic.contexts import contexts, enstrophy, stability
from bloomery.systems.holographic.theory_measures import beyond_phase

GOLDEN = (1 + math.sqrt(5)) / 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < tolerance


def test_one_pair_comes_back_as_grace_of_it_and_two_do_not() -> None:
    text = tokens.v4(400, 0.3, torch.Generator().manual_seed(0))
    keys, wanted = contexts(text[:200], 3)[10:12], text[300:302]
    one = superposition.recalled(superposition.superposed(keys[:1], wanted[:1]), keys[:1])
    near(one, algebra.grace(wanted[:1]) / GOLDEN, 1e-10)
    matrices, targets = algebra.to_matrix(keys), algebra.to_matrix(wanted)
    memory = (matrices @ targets).sum(0) / GOLDEN
    two = superposition.recalled(superposition.superposed(keys, wanted), keys)
    expected = algebra.grace(algebra.from_matrix(torch.linalg.inv(matrices) @ memory))
    near(algebra.whole(two), expected, 1e-9)
    assert float((two - algebra.grace(wanted) / GOLDEN).abs().max()) > 0.05


def test_cells_are_floors_of_their_grid() -> None:
    states = 0.3 * draw(50, 8)
    widths = [GOLDEN**-6, *[GOLDEN**-8] * 6, GOLDEN**-6]
    wanted = [[math.floor(value / width) for value, width in zip(row, widths, strict=True)] for row in states.tolist()]
    assert superposition.cells(states).tolist() == wanted


def test_entries_vote_by_distance_and_likeness_mixes_two_cosines() -> None:
    states, signatures = draw(12, 8), draw(12, 8, seed=1)
    targets = torch.arange(12) % 4
    found = superposition.votes(states[0] + 0.1, states, targets, 6)
    by_hand: dict[int, float] = defaultdict(float)
    for row, target in zip(states, targets.tolist(), strict=True):
        by_hand[target] += GOLDEN ** -math.dist(row.tolist(), (states[0] + 0.1).tolist())
    assert found.tolist() == pytest.approx([by_hand[token] / sum(by_hand.values()) for token in range(6)])
    likeness = superposition.alike(states[0], signatures[0], states, signatures)
    assert float(likeness[0]) == pytest.approx(1)
    for number in range(12):
        one = torch.cosine_similarity(states[0, [0, 7]], states[number, [0, 7]], dim=0)
        two = torch.cosine_similarity(signatures[0], signatures[number], dim=0)
        assert float(likeness[number]) == pytest.approx(0.381966011 * float(one) + 0.618033989 * float(two))


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_the_distributed_prior_is_its_loop(count: int) -> None:
    targets = torch.softmax(draw(count, 7, seed=2), -1)
    known = prior.Prototypes(draw(count, 8), targets, draw(count, seed=3).abs() * 9)
    asked = draw(4, 8, seed=4)
    found = prior.distributed(asked, known)
    for row, state in enumerate(asked):
        away = [math.dist((float(p[0]), float(p[-1])), (float(state[0]), float(state[-1]))) for p in known.states]
        order = sorted(range(count), key=away.__getitem__)[:8]
        weights = [
            GOLDEN ** -away[n] * math.sqrt(float(known.support[n]) + 1) * float(stability(known.states[n]))
            for n in order
        ]
        mixed = sum((w * targets[n] for w, n in zip(weights, order, strict=True)), torch.zeros(7)) / sum(weights)
        near(found.targets[row], mixed)
        margin = 0.0 if count == 1 else (away[order[1]] - away[order[0]]) / away[order[1]]
        assert float(found.confidence[row]) == pytest.approx(margin)
    assert found.targets.sum(-1).tolist() == pytest.approx([1] * 4)


def test_the_factorised_prior_finds_a_linear_map_and_the_theorys_forgets_it() -> None:
    states = draw(200, 8)
    w = torch.stack([states[:, 0], states[:, -1], enstrophy(states), stability(states)], -1)
    near(prior.features(states), w)
    true = draw(8, 4, seed=1)
    attractors = w @ true.mT + 0.1 * draw(200, 8, seed=2)
    near(prior.factorised(states, w @ true.mT, 1e-12), true, 1e-6)
    error = float((prior.factorised(states, attractors, 1e-6) - true).norm())
    forgetful = float((prior.decayed(states, attractors, 1e-6) - true).norm())
    assert error < 0.2 * forgetful


def test_decay_is_the_update_one_by_one() -> None:
    states, attractors, rate = draw(9, 8), draw(9, 8, seed=1), 1 / GOLDEN
    gram, cross = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(8, 4, dtype=torch.float64)
    for w, attractor in zip(prior.features(states), attractors, strict=True):
        gram = (1 - rate) * gram + rate * torch.outer(w, w)
        cross = (1 - rate) * cross + rate * torch.outer(attractor, w)
    wanted = cross @ torch.linalg.inv(gram + 0.01 * torch.eye(4, dtype=torch.float64))
    near(prior.decayed(states, attractors, 0.01), wanted, 1e-9)


@pytest.mark.parametrize("decay", [False, True])
def test_the_blend_moves_what_is_not_confident_and_nothing_else(decay: bool) -> None:
    states, known, support = draw(40, 8), draw(12, 8, seed=1), torch.arange(1.0, 13).double()
    found = prior.blended(states, known, support, decay=decay)
    told = (prior.decayed if decay else prior.factorised)(known, known, prior.RIDGE)
    sure = 0
    for state, mixed in zip(states, found, strict=True):
        near_ = prior.weighed(state[None], known, support)
        margin = float(near_.confidence)
        if margin >= GOLDEN**-2:
            assert torch.equal(mixed, state)
            sure += 1
            continue
        local = sum(float(w) * known[int(k)] for w, k in zip(near_.weights[0], near_.which[0], strict=True))
        near(mixed, margin * local + (1 - margin) * told @ prior.features(state[None])[0], 1e-9)
    assert 0 < sure < 40


def test_decoding_is_the_formula() -> None:
    attractor, embeddings = 0.2 * draw(8), draw(15, 8, seed=1)
    overlap = [float(attractor @ one) for one in embeddings]
    turning = [abs(float(enstrophy(one) - enstrophy(attractor))) for one in embeddings]
    seen = [abs(float(one[0] - attractor[0])) + abs(float(one[-1] - attractor[-1])) for one in embeddings]
    weight = max(GOLDEN**-2, min(1, 10 * float(enstrophy(attractor)))) / GOLDEN
    wanted = [
        (o - min(overlap)) / (max(overlap) - min(overlap))
        - weight * (t / max(turning) / GOLDEN + s / max(seen) / GOLDEN**2)
        for o, t, s in zip(overlap, turning, seen, strict=True)
    ]
    assert prior.decoded(attractor, embeddings).tolist() == pytest.approx(wanted)


def test_what_lies_beyond_a_phase_is_the_nearest_of_all_turns() -> None:
    one, two = algebra.normalised(draw(2, 5, 8, seed=3))
    last = torch.zeros_like(two)
    last[:, -1] = 1
    near(algebra.product(last, last), -algebra.identity(last).expand_as(last))
    angles = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:, None, None]
    turns = two * angles.cos() + algebra.product(two, last) * angles.sin()
    nearest = algebra.frobenius(one - turns)[..., 0].min(0).values
    near(beyond_phase(one, two), nearest, 1e-5)
    near(beyond_phase(turns[1234], two), torch.zeros(5, dtype=torch.float64), 1e-7)


def test_a_long_product_forgets_its_middle_but_for_an_angle() -> None:
    generator = torch.Generator().manual_seed(4)
    table = tokens.v4(50, 0.3, generator)
    text = torch.randint(0, 50, (256,), generator=generator)
    edited = text.clone()
    edited[128] = (text[128] + 1) % 50
    whole, other = (window(table[each], 256)[-1] for each in (text, edited))
    assert float(algebra.frobenius(whole - other)) > 0.01
    assert float(beyond_phase(whole, other)) < 1e-6
