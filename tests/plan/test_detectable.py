"""The minimum detectable difference against the judge's own intervals, and against simulated runs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bloomery.engine.intervals import wilson_interval
from bloomery.plan.check import Report, check
from bloomery.plan.detectable import least_successes, share_that_passes
from bloomery.plan.load import load_text

sys.path.insert(0, str(Path(__file__).parent))
from fake_catalogue import FakeCatalogue  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("value", "items"), [(0.98, 500), (0.5, 40), (0.9, 1000), (0.25, 135), (0.98, 100)])
def test_it_takes_as_many_as_the_judge_wants(value: float, items: int, confidence: float) -> None:
    passing = [k for k in range(items + 1) if wilson_interval(k, items, 2 * confidence - 1).low >= value]
    assert least_successes(value, items, 1 - confidence) == (passing[0] if passing else None)


def test_the_figures_of_the_specification() -> None:
    """98 % with 95 % confidence: 496 of 500, 988 of 1000."""
    assert [least_successes(0.98, n, 0.05) for n in (500, 1000)] == [496, 988]


@pytest.mark.parametrize(("least", "items"), [(496, 500), (30, 40), (1, 10), (10, 10)])
def test_four_runs_in_five_come_out_with_so_many(least: int, items: int) -> None:
    share = share_that_passes(least, items)
    draws = np.random.default_rng(0).binomial(items, share, size=200_000)
    assert (draws >= least).mean() == pytest.approx(0.8, abs=0.005)


PLAN = """
bloomery: 1
name: test/detect
control: {twin: dense, match: stored, tolerance: 1%}
data: {tokenizer: {kind: bytes}, corpus: {source: stdlib}}
suites: {text: {kind: perplexity, data: "corpus:val", items: ITEMS}}
stages:
  - id: pretrain
    kind: pretrain
    config: {model: {layers: 1}, tokens: 1k tok}
    gate: [{GATE}]
"""


def told(gate: str, items: str = "500") -> Report:
    loaded = load_text(PLAN.replace("GATE", gate).replace("ITEMS", items), Path("plan.yaml"))
    report = check(loaded, FakeCatalogue())
    assert report.problems == ()
    return report


def test_check_says_it_of_every_gate_on_shares() -> None:
    (one,) = told('metric: text/accuracy, op: ">=", value: 98%, confidence: 95%').detectable
    assert (one.stage, one.items, one.at_most) == ("pretrain", 500, False)
    assert one.difference == pytest.approx(share_that_passes(496, 500) - 0.98)
    assert "at least 496 of 500" in one.means
    (upper,) = told('metric: text/accuracy, op: "<=", value: 2%, confidence: 95%').detectable
    assert upper.difference == pytest.approx(one.difference)
    assert "at most 4 of 500" in upper.means
    (plain,) = told('metric: text/accuracy, op: ">=", value: 50%', "400").detectable
    assert plain.difference == pytest.approx(1.96 * 0.5 / 20, abs=1e-4)


def test_losses_and_gates_that_nothing_can_pass_are_left_to_others() -> None:
    assert told('metric: text/loss, op: "<=", value: 3, confidence: 95%').detectable == ()
    hopeless = told('metric: text/accuracy, op: ">=", value: 98%, confidence: 95%', "50")
    assert hopeless.detectable == ()
    assert any("cannot clear 0.98; it takes 149" in str(note) for note in hopeless.warnings)


def test_against_a_control_it_is_a_bound_that_simulated_runs_keep() -> None:
    gate = 'metric: text/accuracy, relative_to: control, as: difference, op: ">", value: 0, confidence: 95%'
    (one,) = told(gate).detectable
    assert one.at_most
    draw = np.random.default_rng(1)
    ours = draw.random((20_000, 500)) < 0.5 + one.difference / 2
    theirs = draw.random((20_000, 500)) < 0.5 - one.difference / 2
    each = ours.astype(float) - theirs
    cleared = each.mean(1) - 1.645 * each.std(1, ddof=1) / np.sqrt(500) > 0
    assert 0.78 < cleared.mean() < 0.84  # independent answers at one half: the worst case, four times in five
    assert told(gate.replace("difference", "ratio").replace("value: 0", "value: 1")).detectable == ()


def test_both_parts_of_a_refusal_suite_are_kept_from_training() -> None:
    suites = 'suites: {safety: {kind: perplexity, data: "corpus:val", block: "corpus:val", allow: "corpus:train"}}'
    text = PLAN.replace("GATE", 'metric: safety/loss, op: "<", value: 3')
    text = text.replace('suites: {text: {kind: perplexity, data: "corpus:val", items: ITEMS}}', suites)
    found = [str(one) for one in check(load_text(text, Path("plan.yaml")), FakeCatalogue()).problems]
    assert any("suites.safety.allow" in one and "is fitted on it" in one for one in found), found
    assert not any("suites.safety.block" in one for one in found if "fitted" in one)
