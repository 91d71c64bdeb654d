"""Generated weights are made again in backward: what it saves, by the budget and as measured in fresh processes."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bloomery.engine.devices import find_device
from bloomery.engine.discover import catalogue
from bloomery.engine.pricing import price_plan
from bloomery.plan.load import load, resolve
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.layers import Generated
from bloomery.systems.harmonic.model import build
from bloomery.systems.harmonic.sizes import FORMS

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "harmonic_recompute.py"
SHAPES = [
    *({"basis": basis, "compression": 4} for basis in FORMS),
    {"basis": "sine", "compression": 4, "where": "attention"},
    {"basis": "sine", "compression": 4, "kv_heads": 1},
    {"level": 2, "meta_components": 4},
    {"level": 2, "meta_components": 4, "form": "low_rank"},
    {"level": 2, "meta_components": 4, "form": "literal"},
    {"level": 3, "meta_components": 4, "depth_harmonics": 2},
    {"level": 4, "meta_components": 4},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_what_is_made_in_a_pass_is_that_of_the_modules(changes: dict[str, object]) -> None:
    config = HarmonicConfig.model_validate({"layers": 3, "width": 64, "heads": 2, **changes})
    with torch.device("meta"):
        made = [one.inputs * one.outputs for one in build(config, 20).modules() if isinstance(one, Generated)]
    assert config.made_in_a_pass() == (sum(made), max(made, default=0))


def test_the_budget_says_what_it_saves(capsys: pytest.CaptureFixture[str]) -> None:
    """harmonic/paper by hand: 5.8B that are stood for less embedding and norms; the largest is of the feed-forward."""
    from bloomery.cli.console import console
    from bloomery.cli.tables import budget_tables

    priced = price_plan(load("harmonic/paper"), catalogue, find_device("cpu"))
    candidate, control = (next(one.cost for one in priced.lines if one.who == who) for who in ("candidate", "control"))
    assert control.generated_bytes == 0
    tally = candidate.tally
    assert tally is not None
    assert tally.dense_equivalent is not None
    as_they_are = tally.groups["embedding"].stored + tally.groups["norm"].stored
    assert candidate.generated_bytes == 4 * (tally.dense_equivalent - as_they_are)
    model = resolve(load("harmonic/paper")).stages[0].config["model"]
    shape = HarmonicConfig.model_validate(model)
    assert candidate.largest_generated_bytes == 4 * shape.width * shape.feed_forward_width
    told = priced.to_json()["stages"][0]
    assert told["generated_bytes"] == candidate.generated_bytes
    for table in budget_tables(priced):
        console().print(table)
    shown = " ".join(capsys.readouterr().out.split())
    assert "made again" in shown
    assert f"{candidate.generated_bytes / 2**30:.3g} GiB" in shown


@pytest.mark.slow
@pytest.mark.skipif(
    not SCRIPT.exists() or sys.platform != "linux", reason="no benchmarks beside these tests, or no /proc"
)
def test_it_is_saved(tmp_path: Path) -> None:
    """Two layers of width 256, 4 MiB of weights to keep: at least nine tenths of the prediction, in fresh processes."""
    out = tmp_path / "found.json"
    benchmark().main(["--width", "256", "--layers", "2", "--bases", "sine", "--out", str(out)])
    (row,) = json.loads(out.read_text())["bases"]
    shape = HarmonicConfig(layers=2, width=256, heads=8, compression=10)
    assert row["predicted_saving"] == 4 * (shape.made_in_a_pass()[0] - shape.made_in_a_pass()[1])
    assert row["saved_bytes"] >= 0.9 * row["predicted_saving"]
    assert row["saved_against_autograd"] >= row["saved_bytes"]


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("harmonic_recompute", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
