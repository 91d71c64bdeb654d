"""From one level to the next: exact where the numbers suffice, least squares where not, refused where that is known to
fail."""

import math

import pytest
import torch

from bloomery.errors import PlanError
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.converting import from_harmonic, weight_of
from bloomery.systems.harmonic.model import build

SHAPE = {"layers": 3, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 24}
TOKENS = torch.arange(18).view(2, 9) % 20


def model(seed: int = 0, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    made = build(HarmonicConfig.model_validate(SHAPE | changes), 20)
    assert isinstance(made, Transformer)
    return made


def logits(made: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return made(TOKENS).logits


def test_phases_that_the_tables_can_hold_give_the_same_model() -> None:
    """One layer of rank one, two in `down`: ten coordinate vectors of width 16, four of 24, two of 8."""
    source = model(layers=1, compression=4)
    assert [each.rank for each in source.modules() if hasattr(each, "rank")] == [1, 1, 1, 1, 1, 1, 2]
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if name.endswith("gain") or "norm" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    target = model(1, layers=1, level=2, meta_components=10)
    done = from_harmonic(target, source)
    assert done.way == "phases"
    assert done.unexplained_energy < 1e-8
    torch.testing.assert_close(logits(target), logits(source), rtol=1e-3, atol=1e-3)


def test_all_that_is_no_linear_is_taken_over() -> None:
    source, target = model(compression=3), model(1, level=2, meta_components=4)
    with torch.no_grad():
        source.norm.weight.mul_(3.0)
        source.blocks[1].attention_norm.weight.mul_(2.0)
    from_harmonic(target, source)
    for name in ("embedding", "norm.weight", "blocks.1.attention_norm.weight"):
        assert torch.equal(target.get_parameter(name), source.get_parameter(name))


def unexplained(target: Transformer, source: Transformer, name: str) -> float:
    found, wanted = (weight_of(each.get_submodule(name)) for each in (target, source))
    return float((found - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize("form", ["low_rank", "shared_coordinates"])
def test_more_components_explain_more_of_dense_matrices(form: str) -> None:
    torch.manual_seed(0)
    source = Transformer(DenseConfig.model_validate(SHAPE), 20)
    errors = []
    for components in (2, 8, 24):
        target = model(1, level=2, form=form, meta_components=components)
        errors.append(from_harmonic(target, source).unexplained_energy)
    assert 1.0 > errors[0] > errors[1] > errors[2]
    assert errors[2] < (1e-8 if form == "low_rank" else 0.02)  # tables as wide as the widths hold any matrix
    names = [name for name, _ in target.named_modules() if name.endswith(("query", "key", "gate", "down"))]
    worst = max(unexplained(target, source, name) for name in names)
    assert worst < (1e-7 if form == "low_rank" else 0.05)


def test_tables_that_all_share_explain_no_more_than_an_svd_of_each() -> None:
    torch.manual_seed(0)
    source = Transformer(DenseConfig.model_validate(SHAPE), 20)
    target = model(1, level=2, form="low_rank", meta_components=4)
    found = from_harmonic(target, source).unexplained_energy
    best = []
    for name, module in source.named_modules():
        if name.startswith("blocks") and hasattr(module, "weight") and "norm" not in name:
            energy = torch.linalg.svdvals(module.weight.detach().double()).square()
            best.append(float(energy[4:].sum() / energy.sum()))
    assert len(best) == 21
    assert found >= math.fsum(best) / 21 - 1e-9


def test_shared_structure_is_found_again() -> None:
    source = model(level=2, form="low_rank", meta_components=3)
    target = model(1, level=2, form="low_rank", meta_components=3)
    assert from_harmonic(target, source).unexplained_energy < 1e-3
    torch.testing.assert_close(logits(target), logits(source), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("form", ["low_rank", "shared_coordinates"])
def test_as_many_harmonics_as_layers_are_level_2_exactly(form: str) -> None:
    source = model(level=2, form=form, meta_components=4)
    exact, short = (model(1, level=3, form=form, meta_components=4, depth_harmonics=j) for j in (3, 1))
    done = from_harmonic(exact, source)
    assert (done.way, round(done.unexplained_energy, 10)) == ("depth", 0.0)
    torch.testing.assert_close(logits(exact), logits(source), rtol=1e-4, atol=1e-4)
    assert from_harmonic(short, source).unexplained_energy > 0.1
    mean = torch.stack([block.attention.key.mix() for block in source.blocks]).mean(0)
    torch.testing.assert_close(short.shared.harmonics["key"][0], mean)


def test_a_silenced_linear_is_explained() -> None:
    """Its matrix is zero: a share of no energy would be no number."""
    source, target = model(compression=3), model(1, level=2, meta_components=8)
    with torch.no_grad():
        source.blocks[0].attention.output.gain.zero_()
    done = from_harmonic(target, source)
    assert 0 < done.unexplained_energy < 1
    assert not weight_of(target.blocks[0].attention.output).any()
    assert logits(target).isfinite().all()


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(PlanError, match="literal"):
        from_harmonic(model(level=2, form="literal", meta_components=4), model(compression=3))
    with pytest.raises(PlanError, match="level 2"):
        from_harmonic(model(level=3, meta_components=4, depth_harmonics=2), model(compression=3))
    with pytest.raises(PlanError, match="another shape"):
        from_harmonic(model(level=2, meta_components=4), model(compression=3, layers=2))
