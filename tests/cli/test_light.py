"""The verbs that only look never load what only training needs. Loaded modules are counted, not seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import tiny_plan

WATCHED = ("torch", "pydantic", "rich", "matplotlib", "numpy", "tokenizers", "typer")
LOOK = """
import atexit, json, os, sys
sys.argv = ["bloomery", *sys.argv[2:]]
report = sys.argv.pop(1)
atexit.register(lambda: open(report, "w").write(json.dumps(sorted({name.split(".")[0] for name in sys.modules}))))
from bloomery.cli import main
main()
"""


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """The watched packages that a verb has loaded when it ends."""
    report = folder / "modules.json"
    command = [sys.executable, "-c", LOOK, "-", str(report), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    found = set(json.loads(report.read_text())) & set(WATCHED)
    report.unlink()
    return found


def test_plans_loads_next_to_nothing(tmp_path: Path) -> None:
    assert loaded_by(tmp_path, "plans") == set()
    assert loaded_by(tmp_path, "plans", "--json") == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_the_command_line_alone(tmp_path: Path, arguments: list[str]) -> None:
    assert loaded_by(tmp_path, *arguments) <= {"typer", "rich"}


def test_looking_at_a_plan_loads_no_torch(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path)
    for verb in ("check", "register"):
        assert not loaded_by(tmp_path, verb, plan.name) & {"torch", "matplotlib", "tokenizers"}, verb
    assert not loaded_by(tmp_path, "schema") & {"torch", "matplotlib", "numpy"}


@pytest.mark.parametrize("arguments", [["runs"], ["status", "test/tiny"], ["show", "test/tiny"], ["claims"]])
def test_reading_runs_loads_no_torch(done: Path, arguments: list[str]) -> None:
    assert not loaded_by(done, *arguments) & {"torch", "matplotlib", "tokenizers"}
