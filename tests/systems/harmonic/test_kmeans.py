"""k-means against its definition, and where k0 puts its centres."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from bloomery.errors import TrainingError
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.dense import build as build_dense
from bloomery.systems.harmonic import k0_init, kmeans
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.bigram import BigramTable
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.model import build

VOCAB = 30


def table() -> BigramTable:
    logits = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(2))
    return BigramTable(torch.log_softmax(logits, dim=1), torch.full((VOCAB,), 1 / VOCAB))


def model(**changes: object) -> Transformer:
    torch.manual_seed(0)
    shape = {"layers": 1, "width": 16, "heads": 2, "compression": 2, **changes}
    made = build(HarmonicConfig.model_validate(shape), VOCAB)
    assert isinstance(made, Transformer)
    return made


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


def test_sines_that_read_the_stream_begin_at_the_centres() -> None:
    made, plain = model(), model()
    k0_init.place_centres(made, table(), seed=0)
    moved = set()
    before = dict(plain.named_modules())
    for name, module in made.named_modules():
        if isinstance(module, SineLinear):
            other = before[name]
            assert isinstance(other, SineLinear)
            assert torch.equal(module.out_coordinates, other.out_coordinates)
            if not torch.equal(module.in_coordinates, other.in_coordinates):
                moved.add(name.rpartition(".")[2])
                assert float(module.in_coordinates.detach().std(correction=0)) == pytest.approx(
                    module.rank**-0.5, rel=1e-5
                )
    assert moved == {"query", "key", "value", "gate", "up"}


def test_other_bases_refuse_it_and_dense_models_have_none() -> None:
    with pytest.raises(TrainingError, match="other than the sine"):
        k0_init.place_centres(model(basis="row_gauss"), table(), seed=0)
    dense = build_dense(DenseConfig(layers=1, width=16, heads=2), VOCAB)
    assert isinstance(dense, Transformer)
    before = {name: p.clone() for name, p in dense.named_parameters()}
    k0_init.place_centres(dense, table(), seed=0)
    assert all(torch.equal(p, before[name]) for name, p in dense.named_parameters())
