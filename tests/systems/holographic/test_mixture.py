"""EM inside the back-off recursion: against the gradient of the likelihood, and against a mixture that is known."""

import numpy as np
import pytest
import torch

from bloomery.systems.holographic import mixture
from bloomery.systems.holographic.attractors import Step
from bloomery.systems.holographic.mixture import BUCKETS, Mixture, bucket

VOCAB = 9


def random_steps(count: int, seed: int = 0) -> tuple[list[Step], np.ndarray]:
    random = np.random.default_rng(seed)
    steps = []
    for _ in range(3):
        there = random.random(count) < 0.8
        share = np.where(there, random.random(count) * 0.5 * (random.random(count) < 0.6), 0)
        gamma = np.where(there, 0.1 + 0.4 * random.random(count), 1.0)
        steps.append(Step(share, gamma, np.where(there, random.integers(1, 40, count), 0)))
    return steps, random.random((count, 2)) * 0.5


def likelihood(weights: torch.Tensor, steps: list[Step], parts: np.ndarray, nested: bool) -> torch.Tensor:
    """Position by position, as the docstring has it."""
    total = torch.zeros((), dtype=torch.float64)
    for at in range(len(parts)):
        p: torch.Tensor | float = 1 / VOCAB
        for rung, step in enumerate(steps):
            base = step.share[at] + step.gamma[at] * p
            there = int(step.total[at])
            if (nested and there == 0) or (not nested and rung < len(steps) - 1):
                p = base
                continue
            number = min(there.bit_length(), BUCKETS - 1) if nested else 0
            own = weights[rung, number]
            p = own[0] * base + own[1] * parts[at, 0] + own[2] * parts[at, 1]
        total = total + torch.log(torch.as_tensor(p))
    return total


@pytest.mark.parametrize("nested", [True, False])
def test_em_ends_where_the_likelihood_is_flat(nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a maximum on the simplex, the gradient of every weight that is not zero is the same within its bucket."""
    monkeypatch.setattr(mixture, "MADE_UP_TOKENS", 0.0)
    monkeypatch.setattr(mixture, "ROUNDS", 3000)
    monkeypatch.setattr(mixture, "CLOSE_ENOUGH", 1e-10)
    steps, parts = random_steps(60)
    with np.errstate(invalid="ignore"):  # buckets that nothing fell into
        found = Mixture.fit(steps, parts, VOCAB, nested=nested)
    weights = torch.from_numpy(np.nan_to_num(found.weights)).requires_grad_()
    value = likelihood(weights, steps, parts, nested)
    probabilities = found.probabilities(steps, parts, VOCAB)
    assert float(value.detach()) == pytest.approx(float(np.log(probabilities).sum()), rel=1e-12)
    value.backward()
    assert weights.grad is not None
    looked = 0
    for gradient, own in zip(weights.grad.reshape(-1, 3), weights.detach().reshape(-1, 3), strict=True):
        if float(gradient.abs().sum()) > 0:
            held = own > 1e-3
            spread = gradient[held]
            assert float(spread.max() - spread.min()) <= 2e-2 * float(spread.max())
            assert bool((gradient[~held] <= spread.max() * 1.02).all())
            looked += 1
    assert looked > 3 if nested else looked == 1


def test_a_known_mixture_is_found() -> None:
    random = np.random.default_rng(1)
    one, two = random.dirichlet(np.full(VOCAB, 0.3)), random.dirichlet(np.full(VOCAB, 0.3))
    drawn = random.choice(VOCAB, size=50_000, p=0.7 * one + 0.3 * two)
    # A ladder of one rung that says `one` (all share, hardly any gamma), and one part that says `two`.
    step = Step(one[drawn] - 1e-12 / VOCAB, np.full(len(drawn), 1e-12), np.ones(len(drawn), dtype=np.int64))
    found = Mixture.fit([step], two[drawn][:, None], VOCAB, nested=True)
    assert found.weights[0, 1] == pytest.approx([0.7, 0.3], abs=0.02)


def test_buckets_are_octaves() -> None:
    assert bucket(np.array([0, 1, 2, 3, 4, 7, 8, 1 << 40])).tolist() == [0, 1, 2, 2, 3, 3, 4, BUCKETS - 1]
