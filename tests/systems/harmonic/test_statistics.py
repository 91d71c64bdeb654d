"""Layers set from counts: they do what they are said to, by the formulas written out, and better than a bigram."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bloomery.data.mix import Batch
from bloomery.data.prepared import Prepared
from bloomery.engine.discover import catalogue
from bloomery.engine.stage import Stopped
from bloomery.errors import TrainingError
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.dense import build as build_dense
from bloomery.model.layers import positions, rotate
from bloomery.systems.harmonic import bigram, corpus_layers, k0_init
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.model import build
from bloomery.systems.harmonic.statistics import Statistics, StatisticsSettings

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import prepared, pretrain
from tiny import settings as pretrain_settings

VOCAB, LENGTH = 12, 24
SHAPE = {"layers": 2, "width": 32, "heads": 2, "feed_forward": 48, "tie_embeddings": False}


def rows_of(count: int, seed: int, *, memory: int) -> Batch:
    """A token follows from the one before, or as often from the one `memory` places before; or else from nothing."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, VOCAB, (count, LENGTH + 1), generator=generator)
    drawn = torch.rand(text.shape, generator=generator)
    for at in range(memory, LENGTH + 1):
        near, far = (7 * text[:, at - 1] + 3) % VOCAB, (5 * text[:, at - memory] + 1) % VOCAB
        text[:, at] = torch.where(drawn[:, at] < 0.4, near, torch.where(drawn[:, at] < 0.8, far, text[:, at]))
    return Batch(text[:, :-1], text[:, 1:])


def begun(counted: Batch, **shape: object) -> Transformer:
    torch.manual_seed(0)
    model = build_dense(DenseConfig.model_validate(SHAPE | shape), VOCAB)
    assert isinstance(model, Transformer)
    table, _ = bigram.count([counted], vocab=VOCAB, end=0)
    k0_init.apply(model, k0_init.solve(model, table, method="normaware", iterations=60, seed=0))
    return model


def loss_of(model: Transformer, rows: Batch) -> float:
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model(rows.tokens).logits.flatten(0, 1), rows.targets.flatten()).item()


def test_heads_look_at_their_offset_and_a_skip_bigram_is_learned_without_a_gradient() -> None:
    counted, reserved, held_out = (rows_of(count, seed, memory=2) for count, seed in ((400, 0), (40, 1), (100, 2)))
    model = begun(counted)
    before = loss_of(model, held_out)
    scales = corpus_layers.set_layers(model, counted, reserved, layers=2)
    assert scales[0][0] > 0
    assert loss_of(model, held_out) < before - 0.3
    assert not any(parameter.grad is not None for parameter in model.parameters())
    x = model.embedding[held_out.tokens[:4]]
    where = positions(LENGTH, 16, 10000.0, device=x.device)
    for offset, block in enumerate(model.blocks, start=1):
        attention: Any = block.attention
        normed = block.attention_norm(x)
        query, key = (rotate(part(normed).view(4, LENGTH, 2, 16), where, scale) for part, scale in
                      ((attention.query, 0.25), (attention.key, 1.0)))  # fmt: skip
        scores = query @ key.transpose(-1, -2)
        weights = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf).softmax(-1)
        assert weights.diagonal(-offset, -2, -1).mean() > (0.95, 0.6)[offset - 1], offset
        x = block(x, where)


def test_what_is_written_is_the_step_written_out() -> None:
    """Sums over positions one at a time, in float64."""
    counted, reserved = rows_of(12, 0, memory=2), rows_of(4, 1, memory=2)
    model = begun(counted, width=8, feed_forward=12)
    inputs: list[Tensor] = []
    linear: Any = model.blocks[0].attention.output  # type: ignore[union-attr]
    hook = linear.register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    with torch.no_grad():
        logits = model(counted.tokens).logits
        hook.remove()
        scale = corpus_layers._write(
            model, linear, corpus_layers.Text(model, counted), corpus_layers.Text(model, reserved)
        )
    head = (model.head * model.norm.weight).detach().double()
    count, width = counted.tokens.numel(), 8
    gram, cross, fisher = (torch.zeros(width, width, dtype=torch.float64) for _ in range(3))
    features, p = inputs[0].flatten(0, 1).double(), logits.flatten(0, 1).double().softmax(-1)
    for at, target in enumerate(counted.targets.flatten()):
        mean = sum(p[at, w] * head[w] for w in range(VOCAB))
        gram += torch.outer(features[at], features[at])
        cross += torch.outer(features[at], head[target] - mean)
        fisher += sum(p[at, w] * torch.outer(head[w] - mean, head[w] - mean) for w in range(VOCAB)) / count
    ridged = [each + 1e-3 * each.diagonal().mean() * torch.eye(width) for each in (gram, fisher)]
    step = (torch.linalg.inv(ridged[0]) @ cross @ torch.linalg.inv(ridged[1])).T
    assert scale in corpus_layers.SCALES
    found, most = linear.weight.detach().double(), float(step.abs().max())
    torch.testing.assert_close(found, scale * step, rtol=2e-3, atol=2e-3 * most)
    linear.weight.data.copy_(step)
    losses = []
    for each in corpus_layers.SCALES:
        linear.weight.data.copy_(each * step)
        losses.append(loss_of(model, reserved))
    assert min(losses) == pytest.approx(losses[corpus_layers.SCALES.index(scale)], abs=1e-5)


def test_units_tell_their_pairs_from_other_text() -> None:
    """Of twelve tokens there are 144 pairs: each unit is more active at its own than elsewhere."""
    counted, reserved = rows_of(400, 0, memory=2), rows_of(40, 1, memory=2)
    model = begun(counted)
    corpus_layers.set_layers(model, counted, reserved, layers=1)
    feed_forward: Any = model.blocks[0].feed_forward
    seen: list[Tensor] = []
    hook = feed_forward.down.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.no_grad():
        model(counted.tokens)
    hook.remove()
    active = seen[0][:, 1:].flatten(0, 1)
    pair = (counted.tokens[:, :-1] * VOCAB + counted.tokens[:, 1:]).flatten()
    means = torch.stack([active[pair == each].mean(0) for each in range(VOCAB**2) if (pair == each).sum() > 20])
    own = means.max(0).values
    assert len(own) == 48
    assert (own > 0.5).float().mean() > 0.9
    assert (own > 2 * active.mean(0).abs()).float().mean() > 0.9


def test_where_nothing_is_to_be_had_nothing_is_written() -> None:
    """Text that a bigram model describes whole: no layer may make it worse by more than noise."""
    counted, reserved, held_out = (rows_of(count, seed, memory=1) for count, seed in ((200, 0), (40, 1), (200, 2)))
    model = begun(counted)
    before = loss_of(model, held_out)
    corpus_layers.set_layers(model, counted, reserved, layers=2)
    assert loss_of(model, held_out) < before + 0.02


def test_models_that_cannot_be_set_are_refused() -> None:
    torch.manual_seed(0)
    harmonic = build(HarmonicConfig.model_validate(SHAPE | {"compression": 2}), VOCAB)
    grouped = build_dense(DenseConfig.model_validate(SHAPE | {"kv_heads": 1}), VOCAB)
    for model, said in ((harmonic, "SineLinear"), (grouped, "a key for every query head")):
        with pytest.raises(TrainingError, match=said):
            Statistics().begin(StatisticsSettings(kind="statistics"), model, iter([]), seed=0, end=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
def test_a_pretraining_begins_below_the_bigram_table_and_is_resumed(data: Prepared, tmp_path: Path) -> None:
    config = pretrain_settings(
        model={"layers": 2, "width": 32, "heads": 2, "tie_embeddings": False}, tokens=12800, batch=20,
        init={"kind": "statistics"}, optimizer={"lr": 0.01}, validation={"every": "50%"},
    )  # fmt: skip
    whole = pretrain(data, tmp_path / "whole", config)
    assert whole.last("init/excess_loss") < 0
    assert {one.name for one in whole.measured if one.name.startswith("init/")} <= {
        f"init/{name}" for name in ("loss_0", "loss_100", "rival_loss", "excess_loss", "cosine", "head_cosine")
    }
    left: Iterator[int] = iter(range(3))
    with pytest.raises(Stopped):
        pretrain(data, tmp_path / "cut", config, stop_reason=lambda: None if next(left, None) is not None else "signal")
    assert pretrain(data, tmp_path / "cut", config).result.hashes == whole.result.hashes
    assert isinstance(catalogue.init("statistics"), Statistics)
