"""Pretraining, from settings to artifacts: it learns, it is the same every time, and it knows what it has read."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import CONFIG, Trained, context, pretrain, settings

from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.engine.stage import Stopped
from bloomery.errors import ArtifactError, BloomeryError
from bloomery.measure import Tally
from bloomery.stages import models, training
from bloomery.stages.pretrain import Pretrain, Settings


def test_the_loss_falls(trained: Trained) -> None:
    looks = {one.step: one.value for one in trained.measured if one.name == "val/loss"}
    assert list(looks) == [5, 10]
    assert looks[10] < looks[5] < 6
    assert trained.last("train/steps") == 10
    assert trained.last("train/non_finite") == 0
    assert trained.last("val/perplexity") == pytest.approx(np.exp(looks[10]))


def test_everything_that_is_promised_is_measured(trained: Trained) -> None:
    promised = Pretrain().emits(settings())
    assert {one.name for one in trained.measured} == set(promised)
    assert set(trained.result.outputs) == set(Pretrain().produces(settings()))


def test_two_runs_are_the_same_to_the_last_bit(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    again = pretrain(data, tmp_path / "again", settings())
    assert again.result.hashes == trained.result.hashes
    other = pretrain(data, tmp_path / "other", settings(), seed=1)
    assert other.result.hashes["weights"] != trained.result.hashes["weights"]


def test_stopped_and_gone_on_it_is_the_same(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    for steps in (0, 3, 4):
        left = iter(range(steps))
        with pytest.raises(Stopped):
            pretrain(
                data, tmp_path, settings(),
                stop_reason=lambda left=left: None if next(left, None) is not None else "signal",
            )  # fmt: skip
    assert pretrain(data, tmp_path, settings()).result.hashes == trained.result.hashes


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"accumulate": 4}, {"activation_checkpointing": True}])
def test_ways_to_save_memory_change_nothing(
    trained: Trained, data: Prepared, tmp_path: Path, changes: dict[str, object]
) -> None:
    saving = pretrain(data, tmp_path, settings(**changes))
    weights = [models.load_model(one.result.outputs["model"]).state_dict() for one in (trained, saving)]
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(tensor.numpy(), weights[1][name].numpy(), rtol=2e-3, atol=2e-5)
    if "accumulate" not in changes:
        assert saving.result.hashes == trained.result.hashes


def test_a_model_is_its_own_twin(data: Prepared) -> None:
    kind, config = Pretrain(), settings()
    for match in ("stored", "active", "flops", "bytes"):
        patch = kind.twin(config, system="dense", vocab=data.vocab, match=match, tolerance=0.02)
        twin = Settings.model_validate({**CONFIG, **(patch or {})}, context={"system": "dense"})
        tallies: list[Tally | None] = [
            kind.cost(one, system="dense", vocab=data.vocab).tally for one in (config, twin)
        ]  # fmt: skip
        assert tallies[0] is not None
        assert tallies[0] == tallies[1]


def on(config: Settings, first: Trained) -> dict[str, object]:
    return {"continue_from": first.result.outputs["state"]}


def test_from_a_checkpoint_it_reads_further(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    config = settings(tokens=640)
    second = pretrain(data, tmp_path / "second", config, **on(config, trained))
    third = pretrain(data, tmp_path / "third", config, **on(config, second))
    reader = Batches([(data.part("corpus:train"), 1.0)], batch=4, context=32, seed=0)
    for attempt, steps in ((trained, 10), (second, 15), (third, 20)):
        ctx = attempt.context
        read = list(training.tokens_read(ctx, settings() if attempt is trained else config))
        assert len(read) == steps
        for step, batch in enumerate(read):
            assert batch.tokens.equal(reader.batch_at(step).tokens)
    assert second.last("val/loss") < trained.last("val/loss")


def test_what_was_read_with_other_settings_is_remembered_as_it_was(
    trained: Trained, data: Prepared, tmp_path: Path
) -> None:
    wider = settings(tokens=1280, batch=8)
    second = pretrain(data, tmp_path, wider, **on(wider, trained))
    read = list(training.tokens_read(second.context, wider))
    assert [batch.tokens.shape[0] for batch in read] == [4] * 10 + [8] * 5
    reader = Batches([(data.part("corpus:train"), 1.0)], batch=8, context=32, seed=0)
    for step, batch in enumerate(read[10:]):
        assert batch.tokens.equal(reader.batch_at(5 + step).tokens)  # 1280 tokens in


def test_a_state_whose_record_is_damaged_is_refused(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for content in ("", "[1]", json.dumps([{"steps": 3}])):
        (state / training.READINGS).write_text(content)
        with pytest.raises(ArtifactError, match="cannot be read"):
            training.readings_before(context(data, tmp_path / "work", continue_from=state))


def test_it_validates_on_a_part_of_its_own_data() -> None:
    assert settings(data="corpus:train").validation_part == "corpus:dev"
    assert settings(validation={"split": "val"}).validation_part == "corpus:val"
    assert Pretrain().fits_on(settings(data={"corpus": "40%", "books:extra": "60%"})) == ("corpus:train", "books:extra")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 3, "accumulate": 2}, "equal parts"),
        ({"tokens": 100}, "less than one step"),
        ({"data": {"a": "40%", "b": "50%"}}, "add up to 0.9"),
        ({"model": {"layers": 1, "width": 16, "heads": 2, "heds": 2}}, "did you mean 'heads'"),
        ({"model": {"system": "dens", "layers": 1}}, "did you mean 'dense'"),
        ({"model": 3}, "mapping"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**changes)


MODEL = {"layers": 1, "width": 16, "heads": 2}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"optimizer": {"lr": 0.3}, "tokens": 640, "schedule": {"name": "warm_restart"}}, ""),
        ({}, {"optimizer": {"name": "muon"}}, "another optimiser: adamw, then muon"),
        ({"optimizer": {"name": "muon"}}, {}, "another optimiser: muon, then adamw"),
        ({}, {"model": MODEL | {"rope_theta": 500.0}}, ""),
        ({}, {"model": MODEL | {"layers": 2}}, "another shape"),
        ({}, {"model": MODEL | {"kv_heads": 1}}, "another shape"),
        ({}, {"model": MODEL | {"tie_embeddings": False}}, "another shape: 0 numbers in head, then 4,112"),
    ],
)
def test_a_state_fits_exactly_where_training_goes_on_from_it(
    before: dict[str, object], after: dict[str, object], said: str, data: Prepared, tmp_path: Path
) -> None:
    configs = [settings(**{"tokens": 256, **changes}) for changes in (before, after)]
    why = Pretrain().misfit(*configs)
    assert said in why
    assert bool(said) == bool(why)
    first = pretrain(data, tmp_path / "first", configs[0])
    if not said:
        pretrain(data, tmp_path / "second", configs[1], **on(configs[1], first))
    elif "muon, then adamw" not in said and "adamw, then muon" not in said:
        with pytest.raises(BloomeryError):
            pretrain(data, tmp_path / "second", configs[1], **on(configs[1], first))
