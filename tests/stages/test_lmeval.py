"""The suite `lmeval`: what a plan can ask of it, and what it measures on a real, small model."""

import importlib.metadata
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny import Trained, context, settings

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.intervals import paired_interval, wilson_interval
from bloomery.engine.stage import SuiteResult
from bloomery.errors import DataError, MissingExtra
from bloomery.stages.lmeval import METRICS, LmEval, LmEvalSettings
from support import published

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (pip install -e '.[eval]')"
)
TASKS = ("mmlu", "hellaswag", "arc_challenge", "truthfulqa", "winogrande", "gsm8k", "humaneval")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write(tmp_path_factory.mktemp("benchmarks"))


def judged(trained: Trained, data: Prepared, config: LmEvalSettings) -> SuiteResult:
    return LmEval().run(config, unseal(trained.result.outputs["model"]), data.folder, device="cpu", threads=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": []}, "at least 1"),
        ({"tasks": ["helaswag"]}, "did you mean 'hellaswag'"),
        ({"tasks": ["mmlu", "mmlu"]}, "twice"),
        ({"tasks": ["mmlu", "mmlu_anatomy"]}, "holds its subjects"),
        ({"tasks": ["mmlu"], "shots": {"hellaswag": 3}}, "no task here"),
        ({"tasks": ["truthfulqa"], "shots": {"truthfulqa": 1}}, "and 0 for truthfulqa"),
        ({"tasks": ["mmlu"], "shots": {"mmlu": -1}}, "-1 shots"),
        ({"tasks": ["mmlu"], "hub": True, "folder": "here"}, "exclude"),
        ({"tasks": ["mmlu"], "data": "corpus:val"}, "data"),
    ],
)
def test_what_means_nothing_is_refused_when_it_is_read(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LmEvalSettings.model_validate(given)


def test_what_is_emitted_follows_from_the_settings() -> None:
    emitted = LmEval().emits(LmEvalSettings(tasks=("mmlu_anatomy", "arc_challenge", "gsm8k")))
    assert {name: one.better for name, one in emitted.items()} == {
        "mmlu_anatomy/accuracy": "higher",
        "arc_challenge/accuracy": "higher",
        "arc_challenge/accuracy_norm": "higher",
        "gsm8k/strict_match": "higher",
        "gsm8k/flexible_extract": "higher",
        "truncated_share": "lower",
    }


@pytest.mark.parametrize("installed", [None, "0.4.9"])
def test_a_missing_extra_says_what_to_install(
    installed: str | None, trained: Trained, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingExtra) as said:
        judged(trained, data, LmEvalSettings(tasks=("mmlu",)))
    assert "pip install 'bloomery[eval]'" in str(said.value)
    assert "0.4.13" in str(said.value)
    assert said.value.exit_code == 2


def test_the_extra_pins_the_version_that_is_asked_for() -> None:
    import tomllib

    from bloomery.evaluate.lmeval import PARTS, TASK_FILES
    from bloomery.evaluate.lmeval_extra import VERSION

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["eval"] == [f"lm-eval=={VERSION}"]
    offered = {part for task in METRICS if task != "mmlu" for part in PARTS.get(task, (task,))}
    assert offered == set(TASK_FILES)


@needs_harness
@pytest.mark.filterwarnings("ignore")
def test_every_task_gives_what_it_promises_with_n_and_interval(trained: Trained, data: Prepared, folder: Path) -> None:
    config = LmEvalSettings(tasks=TASKS, shots={"mmlu": 2, "gsm8k": 1}, limit=6, folder=str(folder), new_tokens=5)
    found = {one.name: one for one in judged(trained, data, config).measurements}
    assert set(found) == set(LmEval().emits(config))
    for name, one in found.items():
        assert 0 <= one.value <= 1
        if name == "truncated_share":
            assert one.n == 2 * 6 * 4 + 6 * (4 + 4 + 3 + 3 + 2 + 1) + 3
            continue
        assert one.n == {"mmlu/accuracy": 12, "humaneval/pass_rate": 3}.get(name, 6)
        assert one.items is not None
        assert one.value == pytest.approx(math.fsum(one.items.sums) / one.n)
        if name != "truthfulqa/mc2":
            assert one.interval == wilson_interval(sum(one.items.sums), one.n)
    shares = found["truthfulqa/mc2"].items
    assert shares is not None
    assert all(0 < share < 1 for share in shares.sums)


@needs_harness
@pytest.mark.filterwarnings("ignore")
def test_a_baseline_is_asked_the_same_and_can_be_paired(
    trained: Trained, data: Prepared, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bloomery.stages.baselines import NGramBaseline, NGramSettings
    from bloomery.stages.training import tokens_read

    table = NGramBaseline().fit(
        NGramSettings(order=2), tokens_read(trained.context, settings()), context(data, tmp_path / "table")
    )
    monkeypatch.setenv("BLOOMERY_DATA", str(folder))
    config = LmEvalSettings(tasks=("winogrande",), context=64)
    theirs = LmEval().run(
        config, seal(table.outputs["model"], "bigram", "model"), data.folder, device="cpu", threads=1
    ).measurements[0]  # fmt: skip
    mine = judged(trained, data, config).measurements[0]
    assert mine.items is not None
    assert theirs.items is not None
    assert mine.items.key == theirs.items.key
    assert paired_interval([(mine.items, theirs.items)], "difference") is not None


@needs_harness
def test_without_a_folder_there_is_nothing_to_ask(
    trained: Trained, data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="BLOOMERY_DATA is not set"):
        judged(trained, data, LmEvalSettings(tasks=("mmlu",)))
    with pytest.raises(DataError, match="does not exist"):
        judged(trained, data, LmEvalSettings(tasks=("mmlu",), folder="nowhere"))
