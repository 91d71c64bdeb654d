import pytest

from bloomery.report import wording
from bloomery.report.facts import ConditionVerdict


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.fixed(-0.025, sign=True), "\N{MINUS SIGN}0.0250"),
        (wording.fixed(0.00001), "1.00e\N{MINUS SIGN}05"),
        (wording.fixed(float("nan")), "nan"),
        (wording.fixed(None), "\N{EN DASH}"),
        (wording.count(842_804), "843k"),
        (wording.count(999_999), "1.00M"),
        (wording.count(2.04e13, "FLOP"), "20.4 TFLOP"),
        (wording.size(3_371_216), "3.22 MiB"),
        (wording.duration(261), "4 min 21 s"),
        (wording.duration(90_000), "1 d 1 h"),
        (wording.times(4.377), "4.4x"),
        (wording.times(10.008), "10x"),
        (wording.amount("gauntlet/all/accuracy", 0.6), "60.0 %"),
        (wording.amount("system/peak_memory_bytes", 2048), "2 KiB"),
        (wording.unit_of("cost/wall_seconds"), "seconds"),
        (wording.party("baseline:bigram"), "bigram baseline"),
        (wording.listed(["a", "b", "c"]), "a, b and c"),
        (wording.moment("2026-11-21T10:00:00+01:00"), "2026-11-21 09:00:00"),
        (wording.moment("yesterday"), "yesterday"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert shown == expected


def test_what_was_asked():
    condition = {"op": ">=", "value": 0.6, "aggregate": "worst"}
    one = ConditionVerdict(condition, "", "pass", "gauntlet/all/accuracy", confidence=0.95)
    assert wording.asked(one) == "gauntlet/all/accuracy ≥ 60 % with 95 % confidence, worst seed"
    two = ConditionVerdict({"op": "<", "value": 1.05}, "", "pass", "text/loss", of="arm:a", relative_to="stage:b")
    assert wording.asked(two) == "text/loss of arm a / stage b < 1.05"
