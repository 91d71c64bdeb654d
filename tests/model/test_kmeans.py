"""k-means against its definition."""

from itertools import pairwise

import numpy as np
import torch

from bloomery.model import kmeans


def test_separate_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    true = 10.0 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    rows = (true[:, None] + 0.1 * torch.randn(4, 25, 3, generator=generator, dtype=torch.float64)).flatten(0, 1)
    weight = torch.rand(100, generator=generator, dtype=torch.float64) + 0.1
    found = kmeans.centres(rows, weight, 4, seed=1)
    expected = [np.average(rows[25 * k : 25 * k + 25], axis=0, weights=weight[25 * k : 25 * k + 25]) for k in range(4)]
    for centre in expected:
        assert float((found - torch.from_numpy(centre)).norm(dim=1).min()) < 1e-9


def test_a_round_never_costs_more() -> None:
    rows, weight = torch.randn(60, 4, dtype=torch.float64), torch.rand(60, dtype=torch.float64)
    costs = []
    for rounds in range(8):
        found = kmeans.centres(rows, weight, 5, seed=3, rounds=rounds)
        costs.append(
            sum(
                float(w) * min(float((row - c).square().sum()) for c in found)
                for row, w in zip(rows, weight, strict=True)
            )
        )
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(costs))
    assert costs[-1] < costs[0]


def test_fewer_rows_than_centres() -> None:
    rows = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    found = kmeans.centres(rows, torch.ones(2), 5, seed=0)
    assert {tuple(row) for row in found.tolist()} == {(0.0, 1.0), (2.0, 3.0)}


def test_nearest_centres_of_more_rows_than_are_held_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * kmeans.AT_ONCE + 7, 5, generator=generator, dtype=torch.float64)
    centres = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    assert torch.equal(kmeans.nearest_of(rows, centres), torch.cdist(rows, centres).argmin(1))
