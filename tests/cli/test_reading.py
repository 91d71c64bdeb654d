"""The verbs that read: what a run has left, for people and for programs. No run is changed by being looked at."""

import os
import shutil
from pathlib import Path

import pytest

from bloomery.engine.artifact import digest_of
from bloomery.engine.discover import catalogue
from support.command import Command, tiny_plan


@pytest.fixture
def here(done: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(done)
    return done


def test_every_reading_verb_has_json_that_parses(here: Path, bloomery: Command) -> None:
    status = bloomery("status", "test/tiny", "--json").json
    assert status["run"] == "test/tiny"
    assert status["status"] == "passed"
    assert status["stages"] == {"pretrain": "pass"}
    assert status["looks"] == {"pretrain": 1}
    assert (status["loops"], status["claims"]) == ({}, {})
    runs = bloomery("runs", "--json").json
    assert [(run["run"], run["status"], run["mode"]) for run in runs] == [("test/tiny", "passed", "confirmatory")]
    shown = bloomery("show", "test/tiny", "--json").json
    assert len(shown) == 2
    assert {row["status"] for row in shown} == {"pass"}
    compared = bloomery("compare", "test/tiny", "test/tiny", "--json").json
    assert compared[0] == ["", "test/tiny", "test/tiny"]
    assert all(row[1] == row[2] for row in compared[1:])
    assert len(bloomery("claims", "--json").json["rows"]) == 309
    assert isinstance(bloomery("plans", "--json").json, list)
    checked = bloomery("check", "tiny.yaml", "--json").json
    assert checked["problems"] == []
    assert checked["walks"] == 1
    assert bloomery("schema").json["properties"]["stages"]


def test_budget_in_json_prices_all_that_is_fitted(here: Path, bloomery: Command) -> None:
    priced = bloomery("budget", "tiny.yaml", "--on", "a100", "--json").json
    assert [(line["stage"], line["who"]) for line in priced["stages"]] == [
        ("pretrain", "candidate"),
        ("pretrain", "control"),
        ("pretrain", "baseline:bigram"),
    ]
    assert priced["first_walk"]["tokens"] == 2 * (5000 // 128) * 128
    said = bloomery("budget", "tiny.yaml", "--on", "a10")
    assert said.code == 2
    assert "a100" in said.err


@pytest.mark.skipif("harmonic" not in catalogue.systems(), reason="the harmonic system is not installed")
def test_budget_says_what_of_the_seeds_numbers_does_not_add_up(bloomery: Command) -> None:
    priced = bloomery("budget", "harmonic/paper", "--on", "m4", "--json").json
    contradictions = {row["id"] for row in priced["rows"] if row["status"] == "contradicts"}
    assert {"H-07", "H-15", "H-29", "H-32", "H-37", "H-59", "H-63"} <= contradictions
    said = bloomery("budget", "harmonic/paper", "--on", "m4").out
    assert all(row["id"] in said for row in priced["rows"])
    assert "dense equivalent" in " ".join(said.split())
    assert bloomery("budget", "quickstart", "--json").json["rows"] == []


def test_for_people(here: Path, bloomery: Command) -> None:
    said = bloomery("status", "test/tiny")
    assert "test/tiny: passed" in said.out
    assert "next: bloomery" in said.out
    assert "test/tiny" in bloomery("runs").out
    shown = bloomery("show", "test/tiny").out
    assert "text/loss" in shown
    assert "bigram" in shown
    assert "text/loss" in bloomery("compare", "test/tiny", "test/tiny").out
    assert bloomery("claims").code == 0
    assert "stored" in bloomery("budget", "tiny.yaml").out
    assert "ready" in bloomery("check", "tiny.yaml").out


def test_a_run_is_found_by_its_name_its_folder_or_its_last_word(here: Path, bloomery: Command) -> None:
    for name in ("test/tiny", "tiny", "runs/test/tiny", str(here / "runs/test/tiny")):
        assert bloomery("status", name).code == 0, name
    assert bloomery("status", "test/tiny", "--runs", str(here / "runs")).code == 0


@pytest.mark.parametrize("verb", ["status", "show", "report", "generate", "compare"])
def test_an_unknown_run_gets_the_nearest_name(here: Path, bloomery: Command, verb: str) -> None:
    said = bloomery(verb, "test/tinny")
    assert said.code == 2
    assert "did you mean 'test/tiny'?" in said.err


def test_reading_changes_no_run_and_makes_no_folder(here: Path, bloomery: Command, tmp_path: Path) -> None:
    before = digest_of(here / "runs/test/tiny")
    for arguments in (["status", "tiny"], ["runs"], ["show", "tiny"], ["claims"], ["compare", "tiny", "tiny"]):
        assert bloomery(*arguments).code == 0
    assert digest_of(here / "runs/test/tiny") == before
    os.chdir(tmp_path)
    assert "no runs" in bloomery("runs").out
    assert bloomery("status", "tiny").code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_written_again(done: Path, bloomery: Command, tmp_path: Path) -> None:
    shutil.copytree(done / "runs", "runs")
    (tmp_path / "runs/test/tiny/report.html").unlink()
    said = bloomery("report", "tiny")
    assert said.out.strip() == "runs/test/tiny/report.html"
    page = (tmp_path / "runs/test/tiny/report.html").read_text()
    assert "A small model is no worse than its twin." in page
    assert (tmp_path / "runs/test/tiny/report.md").exists()


def test_generate_goes_on_with_a_text(here: Path, bloomery: Command) -> None:
    arguments = ["--prompt", "the furnace", "--tokens", "12", "--seed", "3"]
    said = [bloomery("generate", name, *arguments) for name in ("tiny", "test/tiny/pretrain")]
    folder = here / "runs/test/tiny/pretrain/1/candidate-seed0/model"
    said.append(bloomery("generate", folder, *arguments))
    assert {one.code for one in said} == {0}
    assert said[0].out == said[1].out == said[2].out
    assert said[0].out.startswith("the furnace")
    wrong = bloomery("generate", "test/tiny/pretrian", *arguments)
    assert wrong.code == 2
    assert "pretrain" in wrong.err


def test_generate_stops_and_limits(here: Path, bloomery: Command) -> None:
    arguments = ["generate", "tiny", "--prompt", "the furnace", "--tokens", "30", "--seed", "3"]
    whole = bloomery(*arguments).out.removesuffix("\n")
    stop = whole[len("the furnace") + 9 :][:2]
    at = whole.index(stop, len("the furnace"))
    assert bloomery(*arguments, "--stop", stop).out == whole[:at] + "\n"
    greedy = bloomery(*arguments, "--temperature", "0").out
    assert bloomery(*arguments, "--top-k", "1").out == bloomery(*arguments, "--min-p", "1").out == greedy
    assert bloomery(*arguments, "--temperature", "0", "--repetition-penalty", "1.5").out != greedy
    wrong = bloomery(*arguments, "--repetition-penalty", "0")
    assert wrong.code == 2
    assert "a penalty of more than 0" in wrong.err


def test_a_damaged_model_is_one_clear_error(done: Path, bloomery: Command, tmp_path: Path) -> None:
    shutil.copytree(done / "runs", "runs")
    weights = tmp_path / "runs/test/tiny/pretrain/1/candidate-seed0/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    said = bloomery("generate", "tiny", "--prompt", "x")
    assert said.code == 2
    assert "model.safetensors" in said.err


def test_doctor_knows_the_machine(bloomery: Command, tmp_path: Path) -> None:
    facts = bloomery("doctor", "--json").json
    assert "dense" in facts["systems"]
    assert "pretrain" in facts["stage kinds"]
    assert any(line.startswith("device:") for line in facts["paths"])
    assert "systems:" in bloomery("doctor").out
    assert list(tmp_path.iterdir()) == []


def test_overrides_are_checked_like_the_plan(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    assert bloomery("check", "tiny.yaml", "--set", "stages.pretrain.config.batch=2").code == 0
    said = bloomery("check", "tiny.yaml", "--set", "stages.pretrain.config.bacth=2")
    assert said.code == 2
    assert "did you mean 'batch'?" in said.err
    assert bloomery("check", "tiny.yaml", "--set", "seeds").code == 2
