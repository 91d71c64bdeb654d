from bloomery.report.spending import spending


def test_only_a_cap_can_be_exceeded(views):
    rows = {one.name: one for one in spending(views["passing"])}
    assert (rows["Time"].planned, rows["Time"].spent, rows["Time"].cap) == ("4 min 40 s", "4 min 21 s", "8 min 00 s")
    assert rows["Time"].share == 261 / 480
    assert rows["Time"].capped
    assert rows["Money"].share > 1
    assert not rows["Money"].capped


def test_nothing_planned_nothing_shown(views):
    assert spending(views["unfinished"]) == ()
