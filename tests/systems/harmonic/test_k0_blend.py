"""The blend is in one basis, touches only what disagrees, and hands on a model that can be judged."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import StageResult
from bloomery.measure import Measurement
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer, build
from bloomery.stages import models
from bloomery.systems.harmonic import procrustes
from bloomery.systems.harmonic.bigram import Factors
from bloomery.systems.harmonic.k0_blend import K0Blend, Settings, blend_into

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import CONFIG, Trained, context, prepared, pretrain
from tiny import settings as pretrain_settings

VOCAB, WIDTH = 50, 12


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(seed: int) -> Tensor:
    return torch.linalg.qr(draw(WIDTH, WIDTH, seed=seed))[0]


def model(*, tied: bool = False) -> Transformer:
    torch.manual_seed(1)
    made = build(DenseConfig(layers=1, width=WIDTH, heads=2, tie_embeddings=tied), VOCAB)
    assert isinstance(made, Transformer)
    with torch.no_grad():
        made.norm.weight.copy_(1.0 + 0.3 * draw(WIDTH, seed=9).clamp(-2, 2))
    return made


def factors(seed: int = 4) -> Factors:
    return Factors(draw(VOCAB, WIDTH, seed=seed).float(), draw(VOCAB, WIDTH, seed=seed + 1).float(), torch.ones(WIDTH))


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(changes)


def test_a_rotation_is_recovered() -> None:
    rows, turn = draw(VOCAB, WIDTH, seed=0), orthogonal(1)
    found = procrustes.rotation(rows, rows @ turn)
    np.testing.assert_allclose(found.numpy(), turn.numpy(), atol=1e-12)


def test_no_other_turn_comes_closer() -> None:
    """Against small turns of the answer in every plane, and against many others."""
    source, target = draw(VOCAB, WIDTH, seed=0), draw(VOCAB, WIDTH, seed=2)
    found = procrustes.rotation(source, target)
    np.testing.assert_allclose((found @ found.T).numpy(), np.eye(WIDTH), atol=1e-12)
    best = float((source @ found - target).square().sum())
    others = [orthogonal(seed) for seed in range(20)]
    for i in range(WIDTH):
        for j in range(i):
            plane = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
            plane[i, j], plane[j, i] = 0.01, -0.01
            others += [found @ torch.linalg.matrix_exp(plane), found @ torch.linalg.matrix_exp(-plane)]
    assert all(float((source @ other - target).square().sum()) > best for other in others)


def test_rows_are_mixed_one_by_one() -> None:
    trained, derived = draw(VOCAB, WIDTH, seed=0), draw(VOCAB, WIDTH, seed=3)
    derived[::2] += 1.5 * trained[::2]
    mixed, chosen = procrustes.blend(trained, derived, share=0.3, below=0.5)
    assert 0 < int(chosen.sum()) < VOCAB
    for row in range(VOCAB):
        one, other = trained[row], derived[row]
        cosine = float(one @ other) / float(one.norm() * other.norm())
        assert bool(chosen[row]) == (cosine < 0.5)
        expected = 0.7 * one + 0.3 * other if cosine < 0.5 else one
        np.testing.assert_allclose(mixed[row].numpy(), expected.numpy(), rtol=1e-14, atol=1e-14)
        assert cosine < 0.5 or torch.equal(mixed[row], one)


@pytest.mark.parametrize("align", ["procrustes", "none"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_share_of_nothing_changes_nothing(align: str, tied: bool) -> None:
    made = model(tied=tied)
    before = {name: parameter.clone() for name, parameter in made.named_parameters()}
    blend_into(made, factors(), settings(share=0, below_cosine=1, align=align))
    for name, parameter in made.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), before[name].detach().numpy(), rtol=1e-6, atol=0)


def test_a_model_in_a_turned_basis_agrees_and_is_left_alone() -> None:
    """The trap that alignment is for: without it the same model is taken for another one."""
    made, derived = model(), factors()
    turn = orthogonal(7).float()
    assert made.head is not None
    assert derived.head is not None
    with torch.no_grad():
        made.embedding.copy_(0.1 * derived.embedding @ turn)
        made.head.copy_(derived.head @ turn / made.norm.weight)
    before = {name: parameter.clone() for name, parameter in made.named_parameters()}
    found = blend_into(made, derived, settings())
    assert found["blend/cosine"] == pytest.approx(1.0, abs=1e-5)
    assert abs(found["blend/unaligned_cosine"]) < 0.2
    assert found["blend/embeddings/blended"] == found["blend/head/blended"] == 0.0
    assert all(torch.equal(parameter, before[name]) for name, parameter in made.named_parameters())
    unaligned = blend_into(made, derived, settings(align="none"))
    assert unaligned["blend/embeddings/blended"] > 0.8


def test_the_head_is_turned_with_the_embedding_and_blended_in_logits() -> None:
    """With every row chosen, the logits of any normalised hidden state are 0.7 and 0.3 of both."""
    made, derived = model(), factors()
    assert made.head is not None
    assert derived.head is not None
    hidden, gains = draw(6, WIDTH, seed=11), made.norm.weight.detach().double()
    trained_head = made.head.detach().double().clone()
    turn = procrustes.rotation(derived.embedding, made.embedding.detach())
    expected = 0.7 * (hidden * gains) @ trained_head.T + 0.3 * hidden @ (derived.head.double() @ turn).T
    found = blend_into(made, derived, settings(below_cosine=1))
    assert found["blend/head/blended"] == 1.0
    logits = (hidden * gains) @ made.head.detach().double().T
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_only_what_is_named_is_blended() -> None:
    for where in ("embeddings", "head"):
        made = model()
        assert made.head is not None
        before = {"embeddings": made.embedding.clone(), "head": made.head.clone()}
        blend_into(made, factors(), settings(where=[where]))
        after = {"embeddings": made.embedding, "head": made.head}
        assert {name for name in after if not torch.equal(after[name], before[name])} == {where}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("trained"), pretrain_settings())


def run(data: Prepared, folder: Path, given: Trained, config: Settings) -> tuple[StageResult, list[Measurement]]:
    measured: list[Measurement] = []
    path = given.result.outputs["model"]
    inputs = {"model": Artifact("pretrain.model", "model", "0" * 64, path)}
    return K0Blend().run(context(data, folder, inputs=inputs, record=measured.append), config), measured


def test_the_stage_hands_on_a_blended_model(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    config = settings(tokens=20_000)
    result, measured = run(data, tmp_path / "once", trained, config)
    assert {one.name for one in measured} == set(K0Blend().emits(config))
    before, after = models.load_model(trained.result.outputs["model"]), models.load_model(result.outputs["model"])
    changed = {
        name
        for name, weights in after.named_parameters()
        if not torch.equal(weights, dict(before.named_parameters())[name])
    }
    assert changed == {"embedding"}, "one matrix for both in this model"
    again, _ = run(data, tmp_path / "again", trained, config)
    assert again.hashes == result.hashes
    assert "corpus:train" in K0Blend().fits_on(config)
    assert CONFIG["model"]["layers"] == 1


@pytest.mark.parametrize("wrong", [{"align": "svd"}, {"where": []}, {"where": ["blocks"]}, {"below_cosine": 2}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings(**wrong)
