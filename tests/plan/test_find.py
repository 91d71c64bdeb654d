"""Finding plans by path and by name, cheaply."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.errors import PlanError
from bloomery.plan.find import bundled_plans, find_plan

ROOT = Path(__file__).resolve().parents[2]


def plan_folder(root: Path, system: str, *names: str) -> Path:
    folder = root / system / "plans"
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.yaml").write_text(f"# What {name} is.\n# And why.\nbloomery: 1\nname: {system}/{name}\n")
    return folder


def test_names_are_found_in_the_folders_that_systems_bring(tmp_path: Path) -> None:
    folder = plan_folder(tmp_path, "zinc", "alpha_test", "beta_test")
    assert find_plan("zinc/alpha_test", [folder]) == folder / "alpha_test.yaml"
    assert find_plan("beta_test", [folder]) == folder / "beta_test.yaml"
    found = {plan.name: plan for plan in bundled_plans([folder])}
    assert found["zinc/alpha_test"].about == "What alpha_test is. And why."


def test_a_file_is_stronger_than_a_name(tmp_path: Path) -> None:
    folder = plan_folder(tmp_path, "zinc", "alpha_test")
    own = tmp_path / "mine.yaml"
    own.write_text("bloomery: 1\n")
    assert find_plan(own, [folder]) == own
    assert find_plan("mine.yaml", [folder], relative_to=tmp_path) == own


def test_refusals_name_the_nearest_plan(tmp_path: Path) -> None:
    folders = [plan_folder(tmp_path, "zinc", "twice_test"), plan_folder(tmp_path, "lead", "twice_test", "alone_test")]
    with pytest.raises(PlanError, match="several bundled plans") as caught:
        find_plan("twice_test", folders)
    assert "lead/twice_test" in caught.value.hint
    with pytest.raises(PlanError) as caught:
        find_plan("alone_tset", folders)
    assert "alone_test" in caught.value.hint
    with pytest.raises(PlanError, match="no such file"):
        find_plan("alone_test.yml", folders)
    with pytest.raises(PlanError, match="a folder"):
        find_plan(tmp_path, folders)


def test_listing_plans_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom bloomery.plan.find import bundled_plans\nbundled_plans()\n"
        "assert not {'torch', 'pydantic', 'ruamel.yaml', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "src"})
