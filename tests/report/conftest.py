"""Sample runs, written once a session; tests that change one copy it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bloomery.report.view import RunView


def beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"report_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sample_run() -> ModuleType:
    return beside("sample_run")


@pytest.fixture(scope="session")
def folders(sample_run, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    kinds = {**sample_run.KINDS, "grammar": beside("sample_grammar").grammar}
    return {kind: make(root / kind) for kind, make in kinds.items()}


@pytest.fixture(scope="session")
def views(folders) -> dict[str, RunView]:
    return {kind: RunView.read(folder) for kind, folder in folders.items()}
