from dataclasses import replace

import pytest

from bloomery.measure import Interval
from bloomery.report import summary
from bloomery.report.facts import ConditionVerdict


def test_an_interval_across_zero_is_not_worse_and_never_better(views):
    text = summary.summary(views["passing"])
    assert "not worse than its control" in text
    assert "does not show that it is better" in text
    assert "better than its control" not in text
    assert "better than the bigram baseline" in text


def test_failed_before_passed(views):
    ranks = [summary.rank(one.condition.status) for one in summary.predictions(views["failing"])]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 3
    assert summary.summary(views["failing"]).startswith("3 of 4 registered predictions did not hold; 2 of them")


def test_only_the_last_look_counts(views):
    assert {one.attempt.number for one in summary.predictions(views["failing"]) if one.stage.id == "pretrain"} == {2}


def test_no_control_is_said(views):
    assert "No control was trained" in summary.summary(views["amended"])
    assert "No control" not in summary.summary(views["passing"])


def test_amended_after_results_is_said(views):
    assert "amended once after results had been seen" in summary.summary(views["amended"])


def test_an_unfinished_run_claims_nothing(views):
    for kind in ("unfinished", "interrupted"):
        text = summary.summary(views[kind])
        assert "held" not in text
        assert "better" not in text


RATIO = ConditionVerdict({"op": "<=", "value": 1}, "", "pass", "m/loss", relative_to="control", value=0.99)
GAIN = ConditionVerdict(
    {"op": ">", "value": 0, "as": "difference"}, "", "pass", "m/accuracy", relative_to="control", value=0.1
)


@pytest.mark.parametrize(
    ("condition", "low", "high", "status", "expected"),
    [
        (RATIO, 0.97, 0.999, "pass", "better"),
        (RATIO, 0.97, 1.01, "pass", "not worse"),
        (RATIO, 0.99, 1.02, "fail", "undecided"),
        (RATIO, 1.001, 1.02, "fail", "worse"),
        (GAIN, 0.01, 0.2, "pass", "better"),
        (GAIN, -0.01, 0.2, "pass", "not worse"),
        (GAIN, -0.3, -0.2, "fail", "worse"),
    ],
)
def test_finding_where_the_log_has_none(condition, low, high, status, expected):
    assert summary.finding(replace(condition, interval=Interval(low, high), status=status)) == expected


def test_the_judges_word_comes_first():
    one = replace(RATIO, interval=Interval(0.9, 0.95), comparison="not worse")
    assert summary.finding(one) == "not worse"
    assert summary.finding(replace(RATIO, relative_to=None, interval=Interval(0.9, 0.95))) == ""
