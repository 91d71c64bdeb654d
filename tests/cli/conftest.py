"""A command line in an empty folder, and one finished run for all who only read."""

from pathlib import Path

import pytest

from bloomery.cli import main
from support.command import Command, tiny_plan


@pytest.fixture
def bloomery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return Command(monkeypatch, capsys)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training here."""
    monkeypatch.setattr("bloomery.report.page.write_report", lambda folder: folder / "report.html")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan that was run with one thread: `tiny.yaml`, `text/` and `runs/`."""
    folder = tmp_path_factory.mktemp("done")
    plan = tiny_plan(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["bloomery", "run", plan.name, "--threads", "1"])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return folder
