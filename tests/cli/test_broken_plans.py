"""Broken plans through the real command: exit 2, one clear error, no traceback, and nothing written."""

import importlib.util
from pathlib import Path

import pytest

from support.command import Command, finished, process

PLANS = Path(__file__).parent.parent / "plan" / "broken.py"
_spec = importlib.util.spec_from_file_location("broken_plans", PLANS)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


def dense(text: str) -> str:
    """The plan with a model that is always installed."""
    return text.replace("system: harmonic", "system: dense").replace("width: 256}", "width: 256, heads: 4}")


BROKEN = {name: (dense(text), said) for name, text, said in _module.BROKEN}
GOOD: str = dense(_module.GOOD)
LAST = GOOD + "  - {id: last, kind: evaluate, needs: {model: judge}}\n"
# `pretrain` takes no inputs, so that here a circle is one between stages that do.
BROKEN["cyclic-needs"] = (LAST.replace("{model: pretrain}", "{model: last}"), "a circle: judge -> last -> judge")
BROKEN["forward-need"] = (LAST.replace("{model: pretrain}", "{model: later}"), "no stage 'later'")


def test_the_plan_that_they_are_made_from_is_ready(bloomery: Command) -> None:
    Path("plan.yaml").write_text(GOOD)
    said = bloomery("check", "plan.yaml")
    assert said.code == 0
    assert "ready" in said.out


@pytest.mark.parametrize("name", list(BROKEN))
def test_check_and_run_refuse(bloomery: Command, tmp_path: Path, name: str) -> None:
    text, expected = BROKEN[name]
    (tmp_path / "plan.yaml").write_text(text)
    for verb in ("check", "run"):
        said = bloomery(verb, "plan.yaml")
        assert said.code == 2, said
        assert said.err.startswith("error: plan.yaml:"), said.err
        assert expected in said.err
        assert "Traceback" not in said.err
        errors = [line for line in said.err.splitlines() if not line.startswith("  ")]
        assert len(errors) == 1, said.err
        assert [file.name for file in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("name", ["unclosed-brace", "unknown-metric", "cyclic-needs"])
def test_as_a_process(tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.yaml").write_text(BROKEN[name][0])
    said = finished(process(["run", "plan.yaml"], tmp_path))
    assert said.code == 2
    assert said.err.startswith("error: plan.yaml:")
    assert "Traceback" not in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_plan_that_is_no_text_or_not_there(bloomery: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"name: \xff\xfe")
    assert "UTF-8" in bloomery("check", "plan.yaml").err
    said = bloomery("run", "plam.yaml")
    assert said.code == 2
    assert "no such file" in said.err
    assert bloomery("check", ".").code == 2


def test_check_in_json_tells_all_mistakes(bloomery: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        GOOD.replace("text/perplexity", "text/perplexty").replace("corpus:val", "corpus:vla")
    )
    said = bloomery("check", "plan.yaml", "--json")
    assert said.code == 2
    assert len(said.json["problems"]) >= 2
    assert all(problem["where"] and problem["found"] for problem in said.json["problems"])
