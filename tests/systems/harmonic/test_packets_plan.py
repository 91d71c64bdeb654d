"""harmonic/packets: checked as it stands, with a gate against every control."""

from pathlib import Path

from bloomery.engine.discover import catalogue
from bloomery.plan.check import check
from bloomery.plan.load import load

FILE = Path(__file__).parents[3] / "src/bloomery/systems/harmonic/plans/packets.yaml"


def test_it_checks_and_its_gates_name_every_control() -> None:
    loaded = load(FILE)
    assert not check(loaded, catalogue).problems
    (stage,) = (one for one in loaded.plan.stages if one.kind == "harmonic/packets")
    assert stage.config["specialists"] == 50
    gated = {condition.metric for condition in stage.gate}
    assert gated == {"packets/over_random", "packets/over_one", "packets/over_retrieval"}
