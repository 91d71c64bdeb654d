"""Where k0 puts the centres that k-means finds."""

import pytest
import torch

from bloomery.errors import TrainingError
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.dense import build as build_dense
from bloomery.systems.harmonic import k0_init
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
