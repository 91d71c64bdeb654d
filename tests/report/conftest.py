"""Sample runs, written once a session; tests that change one copy it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bloomery.report.view import RunView


@pytest.fixture(scope="session")
def sample_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_sample_run", Path(__file__).with_name("sample_run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folders(sample_run, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {kind: make(root / kind) for kind, make in sample_run.KINDS.items()}


@pytest.fixture(scope="session")
def views(folders) -> dict[str, RunView]:
    return {kind: RunView.read(folder) for kind, folder in folders.items()}
