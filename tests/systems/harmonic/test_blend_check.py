"""The blend check at the beginning of tuning: against a blend row by row, killed, and where it has no place."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import unseal
from bloomery.engine.stage import Stopped
from bloomery.measure import Measurement
from bloomery.stages import models, training
from bloomery.stages.baselines import distinct
from bloomery.stages.finetune import Finetune, Settings
from bloomery.systems.harmonic import bigram, k0_init

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import CONFIG, Trained, context, prepared, pretrain
from tiny import settings as pretrain_settings

CHECK = {"kind": "blend_check", "iterations": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("trained"), pretrain_settings())


def settings(**changes: Any) -> Settings:
    given = {key: value for key, value in CONFIG.items() if key != "model"}
    return Settings.model_validate({**given, "packing": "stream", "optimizer": {"lr": 1e-12}, "init": CHECK, **changes})


def tune(data: Prepared, folder: Path, config: Settings, given: Trained, **more: Any) -> Trained:
    measured: list[Measurement] = []
    inputs = {"model": unseal(given.result.outputs["model"])}
    ctx = context(data, folder, record=measured.append, inputs=inputs, **more)
    return Trained(ctx, Finetune().run(ctx, config), measured)


def by_hand(data: Prepared, given: Trained, folder: Path, config: Settings) -> tuple[torch.Tensor, float, float]:
    """(the embedding after the blend, mean cosine before it, share of rows blended), row by row."""
    model = models.load_model(given.result.outputs["model"])
    frame = k0_init.frame_of(model)
    ctx = context(data, folder)
    table, _ = bigram.count(distinct(training.tokens_read(ctx, config)), vocab=frame.vocab, end=256)
    derived = k0_init.solve(frame, table, method="normaware", iterations=3, seed=0, tied=False).embedding.double()
    rows = frame.embedding.detach().double()
    left, _, right = torch.linalg.svd(derived.T @ rows)
    turned = derived @ (left @ right)
    cosines, after = [], []
    for row, other in zip(rows, turned, strict=True):
        cosines.append(float(row @ other / (row.norm() * other.norm())))
        mixed = 0.7 * row + 0.3 * other * row.norm() / other.norm()
        after.append(mixed if cosines[-1] < 0.5 else row)
    return torch.stack(after), sum(cosines) / len(cosines), sum(one < 0.5 for one in cosines) / len(cosines)


def test_tuning_begins_with_the_blend_and_says_what_it_found(data: Prepared, trained: Trained, tmp_path: Path) -> None:
    config = settings()
    expected, cosine, share = by_hand(data, trained, tmp_path / "hand", config)
    tuned = tune(data, tmp_path / "tuned", config, trained)
    assert tuned.last("blend/checked_cosine") == pytest.approx(cosine, abs=1e-5)
    assert tuned.last("blend/embeddings/blended") == pytest.approx(share)
    assert share > 0
    after = models.load_model(tuned.result.outputs["model"]).state_dict()["embedding"].double()
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert tuned.last("blend/cosine") > cosine, "it has come nearer"
    assert set(Finetune().emits(config)) >= {one.name for one in tuned.measured}
    looks = [one.value for one in tuned.measured if one.name == "blend/cosine"]
    assert len(looks) >= 2, "at every look, to see where training takes it"


def test_a_check_alone_changes_nothing_and_without_it_nothing_is_measured(
    data: Prepared, trained: Trained, tmp_path: Path
) -> None:
    checked = tune(data, tmp_path / "checked", settings(init={**CHECK, "share": 0, "where": ["embeddings"]}), trained)
    plain = tune(data, tmp_path / "plain", settings(init={"kind": "random"}), trained)
    assert checked.result.hashes == plain.result.hashes
    assert not [one for one in plain.measured if one.name.startswith("blend/")]
    assert checked.last("blend/cosine") == pytest.approx(checked.last("blend/checked_cosine"), abs=1e-4)


def test_killed_inside_it_blends_once(data: Prepared, trained: Trained, tmp_path: Path) -> None:
    config = settings(optimizer={"lr": 0.05})
    whole = tune(data, tmp_path / "whole", config, trained)
    asked = 0

    def stop() -> str | None:
        nonlocal asked
        asked += 1
        return "signal" if asked >= 3 else None

    with pytest.raises(Stopped):
        tune(data, tmp_path / "cut", config, trained, stop_reason=stop)
    cut = tune(data, tmp_path / "cut", config, trained)
    assert cut.result.hashes == whole.result.hashes
    assert cut.last("blend/checked_cosine") == whole.last("blend/checked_cosine")


def test_each_init_has_its_place() -> None:
    with pytest.raises(ValueError, match="init k0 is for a new model: of pretrain"):
        settings(init={"kind": "k0"})
    with pytest.raises(ValueError, match="init blend_check is for a trained model: of finetune"):
        pretrain_settings(init=CHECK)
    with pytest.raises(ValueError, match="below_cosine"):
        settings(init={**CHECK, "below_cosine": 2})
