"""Finetuning: it goes on from what came in, the same every time, and with a state as if it had never stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIG, DATA, Trained, context, settings

from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.stage import StageContext, Stopped
from bloomery.errors import ArtifactError
from bloomery.measure import Measurement
from bloomery.stages import models, training
from bloomery.stages.finetune import Finetune, Settings
from bloomery.stages.prepare import parse_data, prepare
from bloomery.stages.pretrain import Pretrain

TUNE = {key: value for key, value in CONFIG.items() if key != "model"}


def tune_settings(**changes: Any) -> Settings:
    return Settings.model_validate({**TUNE, **changes}, context={"system": "dense"})


def finetune(data: Prepared, folder: Path, config: Settings, before: Trained, *inputs: str, **more: Any) -> Trained:
    measured: list[Measurement] = []
    given = {name: unseal(before.result.outputs[name]) for name in inputs or ("model",)}
    ctx: StageContext = context(data, folder, record=measured.append, inputs=given, **more)
    result = Finetune().run(ctx, config)
    for name, output in result.outputs.items():
        seal(output, f"tune.{name}", name)
    return Trained(ctx, result, measured)


def test_it_begins_with_the_weights_that_come_in(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    tuned = finetune(data, tmp_path, tune_settings(tokens=128, optimizer={"lr": 1e-9}), trained)
    before, after = (models.load_model(one.result.outputs["model"]).state_dict() for one in (trained, tuned))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert tuned.last("val/loss") == pytest.approx(trained.last("val/loss"), abs=1e-4)


def test_it_learns_and_is_the_same_every_time(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    tuned = finetune(data, tmp_path / "a", tune_settings(), trained)
    assert tuned.last("val/loss") < trained.last("val/loss")
    assert finetune(data, tmp_path / "b", tune_settings(), trained).result.hashes == tuned.result.hashes
    assert models.settings_of(tuned.result.outputs["model"]) == models.settings_of(trained.result.outputs["model"])


def test_stopped_and_gone_on_it_is_the_same(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    whole = finetune(data, tmp_path / "whole", tune_settings(), trained)
    left = iter(range(4))

    def stop() -> str | None:
        return None if next(left, None) is not None else "signal"

    with pytest.raises(Stopped):
        finetune(data, tmp_path / "cut", tune_settings(), trained, stop_reason=stop)
    assert finetune(data, tmp_path / "cut", tune_settings(), trained).result.hashes == whole.result.hashes


def test_with_a_state_it_is_one_training_cut_in_two(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    """A constant rate makes two halves one whole: `continue_from`, which is tested elsewhere, is the reference."""
    second = settings(tokens=640)
    further = tune_settings(tokens=640, packing="stream")
    measured: list[Measurement] = []
    state = trained.result.outputs["state"]
    reference = Pretrain().run(context(data, tmp_path / "a", record=measured.append, continue_from=state), second)
    tuned = finetune(data, tmp_path / "b", further, trained, "model", "state")
    assert tuned.result.hashes == reference.hashes
    reader = Batches([(data.part("corpus:train"), 1.0)], batch=4, context=32, seed=0)
    read = list(training.tokens_read(tuned.context, further))
    assert len(read) == 15
    assert all(batch.tokens.equal(reader.batch_at(step).tokens) for step, batch in enumerate(read))


def test_looks_say_how_many_tokens_were_read(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    tuned = finetune(data, tmp_path, tune_settings(tokens=640), trained, "model", "state")
    assert [one.tokens for one in tuned.measured if one.name == "val/loss"][-1] == 1280 + 640


def test_its_cost_is_that_of_the_model_that_comes_in(trained: Trained, data: Prepared) -> None:
    model = models.settings_of(trained.result.outputs["model"])
    cost = Finetune().cost(tune_settings(), system="dense", vocab=data.vocab, model=model)
    assert cost == Pretrain().cost(settings(), system="dense", vocab=data.vocab)
    assert Finetune().cost(tune_settings(), system="dense", vocab=data.vocab).tokens == cost.tokens


def test_a_model_of_another_vocabulary_is_refused(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    (tmp_path / "text").symlink_to(data.folder.parent / "text")
    words = {**DATA, "tokenizer": {"kind": "words", "vocab": 300}}
    other = prepare(parse_data(words), tmp_path / "data", roots=[tmp_path])
    with pytest.raises(ArtifactError, match="tokenizer"):
        finetune(other, tmp_path / "work", tune_settings(), trained)


def test_a_model_of_its_own_is_not_a_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model"):
        tune_settings(model={"layers": 2})
    assert json.loads(json.dumps(tune_settings().model_dump(mode="json")))["tokens"] == 1280
