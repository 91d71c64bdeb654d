import pytest

from bloomery.report.accounting import account


def test_ratios_by_hand(views):
    counted = account(views["passing"])
    rest = 524_288 + 2_304
    assert counted.linear_compression == pytest.approx((3_688_704 - rest) / (104_860 + 211_352))
    assert counted.total_compression == pytest.approx(3_688_704 / 842_804)
    assert counted.compression_words() == "10x in the linears, 4.4x in total"
    assert counted.stored_ratio == pytest.approx(842_804 / 839_664)
    assert counted.flops_ratio == pytest.approx(2.5)
    assert counted.seconds_ratio == pytest.approx(41_000 / 17_500)


def test_nothing_counted_nothing_said(views):
    assert account(views["unfinished"]) is None
