"""Recorded verdicts: what is quoted stands on its page, sums come out as they stand, and no row is without a reason.

A sum takes its numbers from the row's own words (or from a row that it names) and gives whether the claim holds, which
has to be the verdict, and figures, which have to stand in `value`.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bloomery.engine.discover import catalogue
from bloomery.plan.ledger import ARITHMETIC, Recorded, Row, ledger

ROOT = Path(__file__).parents[2]
ROWS = ledger().rows
RECORDED = [(row, one) for row in ROWS for one in row.recorded]


def missing(one: Recorded) -> list[str]:
    """What is quoted and does not stand there, whatever lines are broken."""
    text = " ".join((ROOT / one.page).read_text(encoding="utf-8").split())
    return [quoted for quoted in one.quotations if " ".join(quoted.split()) not in text]


@pytest.mark.parametrize(
    ("row", "one"), [pair for pair in RECORDED if pair[1].page], ids=lambda value: getattr(value, "id", "")
)
def test_what_is_quoted_stands_on_its_page(row: Row, one: Recorded) -> None:
    assert one.quotations
    assert missing(one) == [], f"{row.id}: {one.page}"


def test_another_number_would_be_noticed() -> None:
    (one,) = ledger().by_id()["H-13"].recorded
    assert one.value == "+0.518 (+0.270 to +0.766)"
    assert missing(one.model_copy(update={"value": "+0.518 (+0.270 to +0.767); +0.518"})) == [
        "+0.518 (+0.270 to +0.767)"
    ]


def test_no_row_of_a_system_that_is_built_is_without_a_verdict_or_a_reason() -> None:
    waiting = ledger().legend.waits_for
    assert {"harmonic", "holographic"}.isdisjoint(waiting)
    for row in ROWS:
        if row.system not in waiting:
            assert row.recorded or row.waits_for, row.id
            if row.recorded and row.recorded[0].verdict == "undecided":
                assert row.waits_for, f"{row.id} does not say what would decide it"
        assert row.recorded or ledger().waits_for(row), row.id


def test_a_complete_system_has_reasons_of_its_own() -> None:
    known = catalogue.systems()
    complete = {
        name for name in ledger().legend.waits_for if name in known and catalogue.system(name).state == "complete"
    }
    assert complete == set()


def test_what_was_known_before_is_no_verdict() -> None:
    """Rows of every status are open, and there is none whose status alone made a verdict."""
    open_rows = {row.status for row in ROWS if not row.recorded}
    assert open_rows == {"supported", "refuted", "contradicts", "open"}
    assert {(row.status, one.verdict) for row, one in RECORDED} >= {
        ("supported", "undecided"),
        ("refuted", "undecided"),
    }


GOOD: dict[str, Any] = {
    "id": "O-01", "system": "holographic", "section": "a", "claim": "b", "kind": "small", "tested_by": "c",
    "known": "d", "status": "open", "control": "",
}  # fmt: skip
ONE = {"verdict": "refuted", "by": "docs/results/k0.md", "value": "0.50", "date": "2026-11-26", "why": "e"}


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({"verdict": "open"}, ""), ({"verdict": "contradicts"}, ""), ({"by": "a friend"}, ""), ({"value": ""}, ""),
        ({"by": "arithmetic", "value": ""}, ""), ({"by": "../secret.md"}, ""), ({"date": "yesterday"}, ""),
        ({"why": ""}, ""), ({}, "more seeds"),
    ],
)  # fmt: skip
def test_what_says_too_little_is_refused(change: dict[str, str], waits: str) -> None:
    assert Row.model_validate({**GOOD, "recorded": [ONE]}).recorded[0].quotations == ("0.50",)
    with pytest.raises(ValidationError):
        Row.model_validate({**GOOD, "recorded": [{**ONE, **change}], "waits_for": waits})


# Sums


def number(text: str) -> float:
    """`54,309`, `10.1M`, `262M`, `25.6 GB`, `K = C = 10`: in ones."""
    found = re.search(r"(\d[\d,]*(?:\.\d+)?)([KMB]|\s?GB)?", text)
    assert found, text
    return float(found[1].replace(",", "")) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "GB": 1e9}[(found[2] or "").strip()]


def near(one: float, other: float, by: float = 0.02) -> bool:
    return math.isclose(one, other, rel_tol=by)


def short(value: float) -> str:
    """3.8M, 6.4B: two figures at most behind the point, none that is zero."""
    unit, name = next((pair for pair in ((1e9, "B"), (1e6, "M")) if value >= pair[0]), (1.0, ""))
    return f"{value / unit:.1f}{name}"


Sum = Callable[..., tuple[bool | None, tuple[str, ...]]]
"""Of the numbers: whether the claim holds (None: it cannot be said), and figures."""

MINUTES_A_DAY = 24 * 60
ALSO = {"H-59": "H-06", "O-28": "O-24", "O-31": "O-27"}
"""Rows that a number is taken from beside the row's own."""
SUMS: dict[str, tuple[tuple[str, ...], Sum]] = {
    "H-01": (
        ("5.8B", "279,620", "3.8M"),
        lambda dense, times, end: (near(dense / end, times), (f"{dense / times:,.0f}", f"{dense / end:,.0f}")),
    ),
    "H-03": (
        ("10.1M", "202K", "50x"),
        lambda dense, stored, times: (near(dense / stored, times), (f"{dense / stored:.1f}",)),
    ),
    "H-05": (("2.225", "0.0776"), lambda one, other: (near(one, other), (f"{one / other:.1f}",))),
    "H-06": (
        ("5.8B", "262M", "33x", "22x", "88.9M"),
        lambda dense, stored, layers, times, rest: (
            near(dense / stored, times) and near((dense - rest) / layers + rest, stored, 0.001),
            (f"{dense / stored:.1f}", f"{((dense - rest) / layers + rest) / 1e6:.0f}M"),
        ),
    ),
    "H-07": (
        ("7B", "5.8B", "25.6 GB"),
        lambda name, table, saved: (near(name, table, 0.05) and near(name, saved / 4, 0.05), (short(saved / 4),)),
    ),
    "H-08": (("2.5", "2.0"), lambda gate, table: (gate == table, (f"{gate - table}",))),
    "H-11": (
        ("1024", "K=10", "33x", "N=4096"),
        lambda width, k, times, wide: (
            near(width / (3 * k + 1), times),
            (f"{width / (3 * k + 1):.1f}", f"{wide / (3 * k + 1):.1f}"),
        ),
    ),
    "H-15": (
        ("33x", "69", "87", "279,620", "4096"),
        lambda one, two, three, stated, width: (
            near(one * two, stated) or near(one * two * three, stated),
            (f"{one * two:,.0f}", f"{one * two * three:,.0f}", f"{width**2 / stated:.1f}"),
        ),
    ),
    "H-21": (("32 bits",), lambda bits: (bits >= math.inf, (f"{2**bits:,.0f}",))),
    "H-24": (
        ("54,309", "2,958", "20,642"),
        lambda total, one, other: (
            near(one, total) or near(other, total),
            (f"{100 * one / total:.0f} %", f"{100 * other / total:.0f} %"),
        ),
    ),
    "H-25": (
        ("$0.50", "$0.15", "$0.30"),
        lambda day, low, high: (None, (f"{day / 24 / low * 1000:.0f} W", f"{day / 24 / high * 1000:.0f} W")),
    ),
    "H-29": (
        ("25.6 GB", "5.8B", "8192"),
        lambda saved, table, width: (
            near(saved, 4 * table) and near(saved, 4 * 8 * 12 * width**2),
            (f"{4 * table / 1e9:.1f} GB", short(saved / 4)),
        ),
    ),
    "H-30": (
        ("6.7 GB", "262M", " x 16 B", "2.9 GB"),
        lambda fits, stored, each, block: (
            None if stored * each < fits < stored * each + block else stored * each + block < fits,
            (f"{stored * each / 1e9:.2f} GB", f"{(stored * each + block) / 1e9:.1f} GB"),
        ),
    ),
    "H-32": (
        ("4.8 min", "1,500", "batch 2", "2048", "5.2B"),
        lambda step, steps, batch, context, enough: (
            near(5 * MINUTES_A_DAY / step, steps) and steps * batch * context >= enough,
            (f"{5 * MINUTES_A_DAY / step:,.0f}", short(steps * batch * context)),
        ),
    ),
    "H-37": (
        ("54,309", "10", "4.8 min", "/ 2"),
        lambda pairs, epochs, step, batch: (
            pairs * epochs / batch * step / MINUTES_A_DAY <= 3,
            (f"{pairs * epochs / batch * step / MINUTES_A_DAY:.0f} days",),
        ),
    ),
    "H-53": (("25 %",), lambda chance: (chance > 100 / 4, (f"{100 / 4:.0f} %",))),
    "H-56": (("262M", "69x"), lambda stored, times: (stored / times > stored, (short(stored / times),))),
    "H-59": (
        ("262M", "69x", "88.9M", "~3.8M"),
        lambda stored, times, rest, end: (
            near(rest + (5.8e9 - rest) / times, end),
            (short(stored / times), short(rest + (5.8e9 - rest) / times)),
        ),
    ),
    "H-63": (
        ("54,309", "2 x", "/ 2", "4.8 min"),
        lambda pairs, epochs, batch, step: (
            epochs * pairs / batch * step / MINUTES_A_DAY <= 7,
            (f"{epochs * pairs / batch * step / MINUTES_A_DAY:.0f} days",),
        ),
    ),
    "H-66": (
        ("5.8B", "3.8M", "279,620x"),
        lambda dense, end, stated: (near(dense / end, stated), (f"{dense / end:,.0f}",)),
    ),
    "H-73": (("1,000x", "10,000x", "279,620x"), lambda four, five, two: (two < four < five, (f"{two / five:.0f}",))),
    "H-76": (
        ("58K", "54,309", "1,000", "500", "2,000"),
        lambda total, start, choices, bodies, sessions: (
            near(start + choices + 2 * bodies + sessions, total),
            (f"{start + choices + 2 * bodies + sessions:,.0f}",),
        ),
    ),
    "H-77": (("1,664", "906"), lambda read, indexed: (indexed - read > 0, (f"{indexed - read:,.0f}",))),
    "H-81": (("30 %", "73 %"), lambda most, largest: (largest <= most, (f"{largest / most:.1f}",))),
    "H-88": (("69x", "~35x"), lambda eight, sixteen: (near(eight / 2, sixteen), (f"{eight / 2}",))),
    "O-06": (
        ("52", "19", "21", "6+6"),
        lambda total, one, two, six: (one + two + six + six == total, (f"{total:.0f}",)),
    ),
    "O-20": (
        ("16 fp32", "4,096", "100,000"),
        lambda numbers, tokens, vocabulary: (
            numbers * 32 >= tokens * math.log2(vocabulary),
            (f"{numbers * 32:,.0f} bits", f"{tokens * math.log2(vocabulary):,.0f} bits"),
        ),
    ),
    "O-24": (
        ("50,000", "1,973,136,207", "28,602"),
        lambda stated, words, books: (words / books >= stated, (f"{words / books:,.0f}",)),
    ),
    "O-27": (
        ("100M", "10-12 h", "12 h", "100,000/s"),
        lambda samples, short_run, long_run, speed: (
            samples / short_run / 3600 >= speed,
            (
                f"{samples / long_run / 3600:,.0f}/s",
                f"{samples / short_run / 3600:,.0f}/s",
                f"= {speed / (samples / short_run / 3600):.0f}",
            ),
        ),
    ),
    "O-28": (
        ("100M", "68,986", "28,602"),
        lambda samples, words, books: (samples / words >= books, (f"{round(samples / words, -1):,.0f}",)),
    ),
    "O-30": (
        ("100M", "200M", "6.4", "12.8 GB", "4x4"),
        lambda one, two, small, large, side: (
            near(one * side**2 * 4, small * 1e9) and near(two * side**2 * 4, large),
            (f"{one * side**2 * 4 / 1e9} GB", f"{two * side**2 * 4 / 1e9} GB"),
        ),
    ),
    "O-31": (
        ("500M", "12+ hours", "2,778"),
        lambda samples, hours, run_a: (
            samples / hours / 3600 <= run_a,
            (f"{samples / hours / 3600:,.0f}/s", f"{samples / hours / 3600 / run_a:.1f}"),
        ),
    ),
    "O-45": (
        ("65,536", "4,294,967,296"),
        lambda n, square: (n**2 == square and all(size**2 / size == size for size in (256.0, n)), (f"{square:,.0f}",)),
    ),
}


def test_every_sum_is_repeated_and_none_besides() -> None:
    assert set(SUMS) == {row.id for row, one in RECORDED if one.by == ARITHMETIC}
    settled = [row for row in ROWS if row.kind == "arithmetic" and row.system in ("harmonic", "holographic")]
    assert all(row.recorded for row in settled)


@pytest.mark.parametrize("name", SUMS)
def test_sums_come_out_as_they_stand_there(name: str) -> None:
    row = ledger().by_id()[name]
    (one,) = (one for one in row.recorded if one.by == ARITHMETIC)
    numbers, function = SUMS[name]
    words = f"{row.claim} {row.known} {ledger().by_id()[ALSO.get(name, name)].known}"
    assert [text for text in numbers if text not in words] == [], "a number that the row does not state"
    holds, figures = function(*map(number, numbers))
    assert [figure for figure in figures if figure not in one.value] == []
    assert one.verdict == {True: "supported", False: "refuted", None: "undecided"}[holds]
