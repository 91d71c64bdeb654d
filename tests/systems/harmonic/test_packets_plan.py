"""harmonic/packets: checked and priced as it stands, and run whole at a fortieth of its tokens."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.discover import catalogue
from bloomery.engine.events import read_events
from bloomery.plan.check import check
from bloomery.plan.load import load
from bloomery.systems.harmonic.packets import Shelf
from bloomery.systems.harmonic.specialists import read_shelf
from support.command import Command

FILE = Path(__file__).parents[3] / "src/bloomery/systems/harmonic/plans/packets.yaml"


def test_it_checks_and_its_gates_name_every_control() -> None:
    loaded = load(FILE)
    assert not check(loaded, catalogue).problems
    (stage,) = (one for one in loaded.plan.stages if one.kind == "harmonic/packets")
    assert stage.config["specialists"] == 50
    gated = {condition.metric for condition in stage.gate}
    assert gated == {"packets/over_random", "packets/over_one", "packets/over_retrieval"}


@pytest.mark.slow
def test_it_runs_whole_at_a_small_fraction(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A step for each specialist, so that nothing is learned that could pass a gate; every control is measured."""
    monkeypatch.chdir(tmp_path)
    bloomery = Command(monkeypatch, capsys)
    said = bloomery(
        "run", "harmonic/packets", "--set", "fraction=1/39", "--set", "seeds=[0]",
        "--set", "stages.specialists.config.validation.documents=4", "--threads", "1",
    )  # fmt: skip
    assert said.code in (0, 1), said.err  # 1: a gate failed, which is what such a run is told
    (file,) = (tmp_path / "runs").rglob("events.jsonl")
    measured: dict[str, Any] = {
        event["measurement"]["name"]: event["measurement"]["value"]
        for event in read_events(file)
        if event["event"] == "measured"
    }
    assert measured["packets/specialists"] == measured["packets/trained"] == 50
    assert abs(measured["packets/one_stored"] / measured["packets/stored"] - 1) < 0.05
    for name in ("random", "one", "retrieval"):
        over = measured["packets/routed_loss"] - measured[f"packets/{name}_loss"]
        assert measured[f"packets/over_{name}"] == pytest.approx(over, abs=1e-6)
    (experts,) = file.parent.glob("specialists/1/*/experts")
    shelf: Shelf = read_shelf(experts)
    assert all(shelf.held_by(one) for one in range(50))
    assert len(list((experts / "members").iterdir())) == 50
