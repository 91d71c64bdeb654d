"""`eval`: a finished run judged again, by its own numbers where there are any; its verdict never changes."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomery.engine.events import read_events
from support.command import Command, tiny_plan

RUN = Path("runs/test/tiny")


@pytest.fixture
def here(done: Path, bloomery: Command, tmp_path: Path) -> Path:
    """A copy of the finished run, in the current folder."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def stored() -> list[dict[str, Any]]:
    return read_events(RUN / "evaluations.jsonl")


def of_the_run(name: str, who: str) -> dict[str, Any]:
    found = [event["measurement"] for event in read_events(RUN / "events.jsonl") if event["event"] == "measured"]
    return next(one for one in found if (one["name"], one["who"]) == (name, who))


def metrics(said: Any, suite: str) -> dict[str, Any]:
    return {one["metric"]: one for block in said for one in block["metrics"] if block["suite"] == suite}


@pytest.mark.slow
def test_a_suite_of_the_plan_finds_what_the_run_found(here: Path, bloomery: Command) -> None:
    events = (RUN / "events.jsonl").read_bytes()
    said = bloomery("eval", "tiny", "--suite", "text", "--suite", "samples", "--json")
    assert said.code == 0, said.err
    loss, known = metrics(said.json, "text")["text/loss"], of_the_run("text/loss", "candidate")
    assert loss["value"] == known["value"]
    assert loss["n"] == known["n"] > 2
    assert loss["interval"] == pytest.approx(known["interval"])
    assert [one["suite"] for one in stored()] == ["text", "samples"]
    assert stored()[1]["samples"]
    # Nothing that a verdict rests on has changed, and the run is as finished as before.
    assert (RUN / "events.jsonl").read_bytes() == events
    assert bloomery("status", "tiny", "--json").json["status"] == "passed"


def test_the_same_question_is_answered_from_the_file(here: Path, bloomery: Command) -> None:
    first = bloomery("eval", "tiny", "--suite", "perplexity", "--json")
    assert first.code == 0, first.err
    before = (RUN / "evaluations.jsonl").read_bytes()
    second = bloomery("eval", "tiny", "--suite", "perplexity", "--json")
    assert second.json == first.json
    assert "as measured before" in second.err
    assert (RUN / "evaluations.jsonl").read_bytes() == before
    assert bloomery("eval", "tiny", "--suite", "perplexity", "--again").code == 0
    assert bloomery("eval", "tiny", "--suite", "perplexity", "--set", "items=2").code == 0
    assert [one["settings"] for one in stored()] == [{"data": "corpus:val"}] * 2 + [{"data": "corpus:val", "items": 2}]


def test_a_difference_is_paired_by_document(here: Path, bloomery: Command) -> None:
    for rival in ("control", "baseline:bigram"):
        said = bloomery("eval", "tiny", "--suite", "text", "--against", rival, "--json")
        assert said.code == 0, said.err
        loss = metrics(said.json, "text")["text/loss"]
        ours, theirs = of_the_run("text/loss", "candidate"), of_the_run("text/loss", rival)
        assert loss["against"] == theirs["value"]
        assert loss["difference"] == pytest.approx(ours["value"] - theirs["value"])
        # The interval by hand: residuals of both ratio estimators, document by document (Cochran 6.4).
        residuals = []
        for one in (ours, theirs):
            x, w = np.array(one["items"]["sums"]), np.array(one["items"]["weights"])
            residuals.append((x - one["value"] * w) / w.sum())
        each = residuals[0] - residuals[1]
        error = math.sqrt(len(each) / (len(each) - 1) * float(each @ each))
        low, high, level = loss["difference_interval"]
        assert (low + high) / 2 == pytest.approx(loss["difference"])
        assert level == 0.95
        assert len(each) == 5
        assert (high - low) / 2 == pytest.approx(2.776445 * error, rel=1e-5)  # Student's t, 4 degrees of freedom
    assert {one["who"] for one in stored()} == {"candidate", "control", "baseline:bigram"}


def test_against_another_run(here: Path, bloomery: Command) -> None:
    plan = tiny_plan(here, **{"stages.0.config.optimizer.lr": 0.01, "name": "test/slow", "stages.0.gate": []})
    assert bloomery("run", plan, "--threads", "1").code == 0
    said = bloomery("eval", "test/tiny", "--suite", "text", "--against", "test/slow", "--json")
    assert said.code == 0, said.err
    loss = metrics(said.json, "text")["text/loss"]
    assert loss["difference"] < 0
    assert loss["difference_interval"][1] < 0, "ten times the rate learns more in forty steps"
    assert len(read_events(Path("runs/test/slow/evaluations.jsonl"))) == 1
    shown = bloomery("eval", "test/tiny", "--suite", "text", "--against", "test/slow")
    assert "difference" in shown.out
    assert "exploratory" in shown.out


def test_it_is_shown_and_reported_as_exploratory(here: Path, bloomery: Command) -> None:
    assert "Exploratory" not in bloomery("show", "tiny").out
    assert bloomery("eval", "tiny", "--suite", "perplexity:data=corpus:val,context=16").code == 0
    assert "Exploratory evaluations" in bloomery("show", "tiny").out
    assert "perplexity/bits_per_byte" in bloomery("show", "tiny").out
    bloomery("report", "tiny")
    for file in ("report.html", "report.md"):
        text = (RUN / file).read_text()
        assert "Exploratory evaluations" in text
        assert "context: 16" in text
    # A run goes on from its events as if nothing had been asked.
    assert bloomery("run", "tiny.yaml", "--threads", "1").code == 0


def test_text_that_was_learned_from_is_said_to_be(here: Path, bloomery: Command) -> None:
    said = bloomery("eval", "tiny", "--suite", "perplexity:corpus:train", "--set", "items=2")
    assert said.code == 0, said.err
    assert "judges corpus:train, which the run has learned from" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--suite", "perplxity"], "did you mean 'perplexity'?"),
        (["--suite", "text", "--suite", "text"], "two suites called 'text'"),
        (["--suite", "text", "--set", "contxt=3"], "did you mean 'context'?"),
        (["--suite", "text", "--set", "context=one"], "context"),
        (["--suite", "text", "--set", "context"], "KEY=VALUE"),
        (["--suite", "text", "--stage", "pretrian"], "did you mean 'pretrain'?"),
        (["--suite", "text", "--who", "contrl"], "did you mean 'control'?"),
        (["--suite", "text", "--against", "arm:x"], "no model of 'arm:x'"),
        (["--suite", "text", "--against", "tinny"], "did you mean 'test/tiny'?"),
        (["--suite", "perplexity:corpus:tset"], "no split 'tset'"),
        ([], "--suite"),
    ],
)
def test_mistakes(here: Path, bloomery: Command, arguments: list[str], expected: str) -> None:
    said = bloomery("eval", "tiny", *arguments)
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err
    assert not (RUN / "evaluations.jsonl").exists()


def test_what_is_gone_or_damaged_is_one_clear_error(here: Path, bloomery: Command) -> None:
    assert bloomery("eval", "tiny", "--suite", "text").code == 0
    file = RUN / "evaluations.jsonl"
    whole = json.loads(file.read_text())
    del whole["seed"]
    file.write_text(json.dumps(whole) + "\n")
    said = bloomery("show", "tiny")
    assert said.code == 2
    assert "evaluations.jsonl:1" in said.err
    assert "lacks 'seed'" in said.err
    file.unlink()
    shutil.rmtree("runs/.data")
    said = bloomery("eval", "tiny", "--suite", "text")
    assert said.code == 2
    assert "prepared data" in said.err
