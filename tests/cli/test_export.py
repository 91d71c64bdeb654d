"""`export` from the command line: the run's model is found, written, and goes on where ours does."""

from pathlib import Path

import pytest

from bloomery.engine.artifact import digest_of
from support.command import Command


@pytest.fixture
def here(done: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(done)
    return done


def test_an_exported_model_writes_the_same_text(here: Path, bloomery: Command, tmp_path: Path) -> None:
    run = digest_of(here / "runs/test/tiny")
    target = tmp_path / "out"
    said = bloomery("export", "tiny", target, "--to", "safetensors")
    assert said.code == 0, said.err
    arguments = ["--prompt", "the furnace", "--tokens", "12"]
    assert bloomery("generate", target, *arguments).out == bloomery("generate", "tiny", *arguments).out
    assert bloomery("export", target, tmp_path / "again", "--to", "hf").code == 0
    assert {file.name for file in (tmp_path / "again").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    control = bloomery("export", "tiny", tmp_path / "control", "--to", "hf", "--who", "control")
    assert "control-seed0" in control.out
    assert digest_of(here / "runs/test/tiny") == run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tiny", "OUT", "--to", "safetensor"], "did you mean 'safetensors'?"),
        (["tinny", "OUT", "--to", "hf"], "did you mean 'test/tiny'?"),
        (["tiny", "OUT", "--to", "hf", "--seed", "7"], "no model of this seed"),
        (["tiny", "OUT", "--to", "hf", "--who", "baseline:bigram"], "count table"),
        (["tiny", "runs", "--to", "hf"], "not empty"),
        (["tiny", "OUT"], "--to"),
    ],
)
def test_mistakes(here: Path, bloomery: Command, tmp_path: Path, arguments: list[str], expected: str) -> None:
    said = bloomery("export", *(str(tmp_path / "out") if word == "OUT" else word for word in arguments))
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()
