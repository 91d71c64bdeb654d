"""Stages that write a model in the numbers of the next level: what they hand on, cut anywhere, and against what."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.discover import catalogue
from bloomery.engine.stage import Stopped
from bloomery.errors import PlanError
from bloomery.measure import Measurement
from bloomery.model.tally import assert_equal, count
from bloomery.stages import models, training
from bloomery.stages.settings import architecture
from bloomery.systems.harmonic.converting import linears_of
from bloomery.systems.harmonic.to_level import ToL2, ToL2Settings, ToL3, ToL3Settings

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import Trained, context, prepared, pretrain
from tiny import settings as pretrain_settings

MODEL = {"system": "harmonic", "layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "compression": 3}
RECOVER = {"data": "corpus", "tokens": 1280, "lr": 0.1, "batch": 4, "context": 32,
           "validation": {"every": "50%", "documents": 2}}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("trained"), pretrain_settings(model=MODEL))


@pytest.fixture(scope="module")
def level_2(data: Prepared, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return convert(data, tmp_path_factory.mktemp("level_2"), ToL2(), l2(), trained)


def l2(**changes: Any) -> ToL2Settings:
    return ToL2Settings.model_validate({"meta_components": 4, "precision": "fp32", "recover": RECOVER} | changes)


def l3(**changes: Any) -> ToL3Settings:
    return ToL3Settings.model_validate({"depth_harmonics": 2, "precision": "fp32", "recover": RECOVER} | changes)


def convert(data: Prepared, folder: Path, kind: ToL2 | ToL3, config: Any, before: Trained, **more: Any) -> Trained:
    measured: list[Measurement] = []
    given = {"model": unseal(before.result.outputs["model"])}
    ctx = context(data, folder, record=measured.append, inputs=given, **more)
    result = kind.run(ctx, config)
    for name, output in result.outputs.items():
        seal(output, f"level.{name}", name)
    return Trained(ctx, result, measured)


def test_level_2_is_handed_on_and_measured(data: Prepared, trained: Trained, level_2: Trained) -> None:
    folder = level_2.result.outputs["model"]
    settings = models.settings_of(folder)
    assert {key: settings[key] for key in ("level", "form", "meta_components", "compression")} == {
        "level": 2, "form": "shared_coordinates", "meta_components": 4, "compression": None,
    }  # fmt: skip
    handed_on = models.load_model(folder)
    assert_equal(architecture(settings).tally(data.vocab), count(handed_on))
    assert level_2.result.tallies["model"] == handed_on.tally()
    emitted = {*ToL2().emits(l2())}
    assert {one.name for one in level_2.measured} <= emitted
    assert {"convert/unexplained_energy", "val/loss"} <= {one.name for one in level_2.measured}
    assert 0.0 < level_2.last("convert/unexplained_energy") <= 1.0
    losses = [one.value for one in level_2.measured if one.name == "val/loss"]
    assert losses[-1] < losses[0]


def test_what_is_no_linear_begins_as_it_came(data: Prepared, trained: Trained, tmp_path: Path) -> None:
    slow = convert(data, tmp_path, ToL2(), l2(recover=RECOVER | {"tokens": 128, "lr": 1e-9}), trained)
    before, after = (models.load_model(one.result.outputs["model"]) for one in (trained, slow))
    for name in ("embedding", "norm.weight", "blocks.1.feed_forward_norm.weight"):
        torch.testing.assert_close(after.get_parameter(name), before.get_parameter(name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["two", "three"])
def test_stopped_inside_recovery_and_gone_on_it_is_the_same(
    kind: str, data: Prepared, trained: Trained, level_2: Trained, tmp_path: Path
) -> None:
    stage, config, before = (ToL2(), l2(), trained) if kind == "two" else (ToL3(), l3(), level_2)
    whole = level_2 if kind == "two" else convert(data, tmp_path / "whole", stage, config, before)
    left = iter(range(4))

    def stop() -> str | None:
        return None if next(left, None) is not None else "signal"

    with pytest.raises(Stopped):
        convert(data, tmp_path / "cut", stage, config, before, stop_reason=stop)
    again = convert(data, tmp_path / "cut", stage, config, before)
    assert again.result.hashes == whole.result.hashes
    assert again.last("convert/unexplained_energy") == whole.last("convert/unexplained_energy")


def test_level_3_keeps_the_form_of_level_2(data: Prepared, level_2: Trained, trained: Trained, tmp_path: Path) -> None:
    three = convert(data, tmp_path / "a", ToL3(), l3(), level_2)
    settings = models.settings_of(three.result.outputs["model"])
    assert (settings["level"], settings["depth_harmonics"], settings["meta_components"]) == (3, 2, 4)
    assert three.last("convert/unexplained_energy") < 1e-6  # two harmonics for two layers
    with pytest.raises(PlanError, match="level 2"):
        convert(data, tmp_path / "b", ToL3(), l3(), trained)
    with pytest.raises(PlanError, match="3 for 2 layers"):
        convert(data, tmp_path / "c", ToL3(), l3(depth_harmonics=3), level_2)


def test_the_control_without_the_sine_has_the_same_size(
    data: Prepared, trained: Trained, level_2: Trained, tmp_path: Path
) -> None:
    control = convert(data, tmp_path, ToL2(), l2(form="low_rank"), trained, who="control")
    assert models.settings_of(control.result.outputs["model"])["form"] == "low_rank"
    assert control.result.tallies["model"].stored == level_2.result.tallies["model"].stored


def test_frozen_random_linears_stay_as_they_were_drawn(data: Prepared, trained: Trained, tmp_path: Path) -> None:
    config = l2(linears="frozen_random")
    frozen = convert(data, tmp_path, ToL2(), config, trained)
    handed_on = models.load_model(frozen.result.outputs["model"])
    settings = models.settings_of(frozen.result.outputs["model"])
    drawn = models.build(settings, data.vocab, precision="fp32", seed=0)
    before = models.load_model(trained.result.outputs["model"])
    own = linears_of(handed_on)
    assert len(own) == 3 - 1 + 2 * 7 * 2  # two widths; a matrix and gains in seven linears of two layers
    for name, parameter in handed_on.named_parameters():
        if name in own:
            assert torch.equal(parameter, drawn.get_parameter(name)), name
        else:
            assert not torch.equal(parameter, before.get_parameter(name)), name
    assert "convert/unexplained_energy" not in {*ToL2().emits(config), *(one.name for one in frozen.measured)}


def test_without_validation_nothing_is_looked_at(data: Prepared, trained: Trained, tmp_path: Path) -> None:
    config = l2(recover={key: value for key, value in RECOVER.items() if key != "validation"})
    done = convert(data, tmp_path, ToL2(), config, trained)
    assert not [one.name for one in done.measured if one.name.startswith("val/")]
    assert not [name for name in ToL2().emits(config) if name.startswith("val/")]
    assert ToL2().looks_at(config) == ()
    assert ToL2().looks_at(l2()) == ("corpus:dev",)


def test_a_dense_model_is_taken_too(data: Prepared, tmp_path: Path) -> None:
    dense = pretrain(data, tmp_path / "dense", pretrain_settings())
    done = convert(data, tmp_path / "two", ToL2(), l2(), dense)
    assert models.settings_of(done.result.outputs["model"])["system"] == "harmonic"


def test_its_cost_is_that_of_the_model_that_goes_out(data: Prepared, level_2: Trained) -> None:
    before = dict(pretrain_settings(model=MODEL).model)
    cost = ToL2().cost(l2(), system="harmonic", vocab=data.vocab, model=before)
    assert cost.tokens == 1280
    assert cost.tally is not None
    assert cost.tally.stored == level_2.result.tallies["model"].stored
    assert ToL3().cost(l3(), system="harmonic", vocab=data.vocab, model=before).tokens == 1280
    assert ToL2().cost(l2(), system="harmonic", vocab=data.vocab).tokens == 1280


def test_a_state_fits_the_same_numbers_only() -> None:
    assert ToL2().misfit(l2(), l2(recover=RECOVER | {"lr": 0.2})) == ""
    assert "another shape" in ToL2().misfit(l2(), l2(meta_components=8))
    assert "another shape" in ToL2().misfit(l2(), l2(form="low_rank"))
    assert "another shape" in ToL3().misfit(l3(), l3(depth_harmonics=1))


def test_it_goes_on_from_a_checkpoint(data: Prepared, trained: Trained, level_2: Trained, tmp_path: Path) -> None:
    more = convert(
        data, tmp_path, ToL2(), l2(), trained, continue_from=level_2.result.outputs["state"]
    )  # fmt: skip
    assert more.last("val/loss") < level_2.last("val/loss")
    read = list(training.tokens_read(more.context, l2().training))
    assert len(read) == 2 * 1280 // (4 * 32)


def test_settings_that_cannot_work_are_refused() -> None:
    for changes in ({"form": "literal"}, {"recover": RECOVER | {"tokens": 64}}, {"recover": RECOVER | {"lr": 0}}):
        with pytest.raises(ValueError, match=r"literal|less than one step|greater than 0"):
            l2(**changes)
    assert isinstance(catalogue.kind("harmonic/to_l2"), ToL2)
    assert isinstance(catalogue.kind("harmonic/to_l3"), ToL3)
