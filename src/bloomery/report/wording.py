"""Numbers as people read them: `1.0M`, `3.2 MiB`, `4 min 18 s`, `−0.025`. No rounding that hides a sign or a unit.

Metric units follow the grammar: losses in nats per token; otherwise the unit is the ending of the name.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.measure import Interval
from bloomery.report.facts import ConditionVerdict

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
STATUS_WORDS = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "missing": "not measured",
    "passed": "passed",
    "failed": "failed",
    "budget": "stopped by budget",
    "interrupted": "interrupted",
    "unfinished": "not finished",
}
STATUS_SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "≈", "missing": "?"}
WORST_FIRST = ("fail", "missing", "inconclusive", "pass")


def fixed(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """`3.7150`; with `sign`, `+0.0250` or `−0.0250`. Very large and very small numbers in powers of ten."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value)
    small = value != 0 and abs(value) < 10.0**-digits
    if abs(value) >= 1e6 or small:
        text = f"{value:+.2e}" if sign else f"{value:.2e}"
    elif float(value).is_integer() and abs(value) >= 1000:
        text = f"{value:+,.0f}" if sign else f"{value:,.0f}"
    else:
        digits = digits if abs(value) < 10 else min(digits, 2)
        text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def count(value: float | None, unit: str = "") -> str:
    """`834k`, `1.05M`, `21.3T`: three significant digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    scaled, prefix = float(value), ""
    for step in ("k", "M", "G" if unit else "B", "T", "P", "E"):
        if abs(scaled) < 999.5:
            break
        scaled, prefix = scaled / 1000, step
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    number = f"{scaled:.{digits}f}" if prefix or scaled != round(scaled) else f"{scaled:.0f}"
    return f"{number}{f' {prefix}{unit}' if unit else prefix}".replace("-", MINUS)


def size(value: float | None) -> str:
    """Bytes, binary: `3.19 MiB`."""
    if value is None:
        return NOTHING
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def duration(seconds: float | None) -> str:
    """`42 s`, `4 min 18 s`, `2 h 05 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def times(ratio: float | None) -> str:
    """`4.4x`, `10x`."""
    if ratio is None or not math.isfinite(ratio):
        return NOTHING
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def percent(share: float | None, digits: int = 1) -> str:
    return NOTHING if share is None else f"{100 * share:.{digits}f} %".replace("-", MINUS)


def unit_of(metric: str) -> str:
    """The unit of a metric by its name; empty where it has none."""
    last = metric.rsplit("/", 1)[-1]
    if last == "loss":
        return "nats per token"
    if last == "bits_per_byte":
        return "bits per byte"
    for ending in ("bytes", "seconds", "usd"):
        if last == ending or last.endswith(f"_{ending}"):
            return {"usd": "US dollars"}.get(ending, ending)
    return ""


def amount(metric: str, value: float | None) -> str:
    """A value of this metric in its usual form: sizes, durations and shares are written as such."""
    if value is None:
        return NOTHING
    last = metric.rsplit("/", 1)[-1]
    unit = unit_of(metric)
    if unit == "bytes":
        return size(value)
    if unit == "seconds":
        return duration(value)
    if last in ("accuracy", "agreement", "survival", "pass_rate", "exact_match") and 0 <= value <= 1:
        return percent(value)
    if metric.startswith("tally/") or last in ("tokens", "flops", "cycles", "tokens_to_reference"):
        return count(value)
    return fixed(value)


def interval(found: Interval | None, *, sign: bool = False) -> str:
    """`−0.052 … +0.002 (95 %)`."""
    if found is None:
        return NOTHING
    low, high = fixed(found.low, sign=sign), fixed(found.high, sign=sign)
    return f"{low} … {high} ({found.level * 100:.3g} %)"


def condition_value(one: ConditionVerdict) -> str:
    """The judged value: signed where it is a difference, `as ratio` numbers plain, absolute ones in their unit."""
    if one.relative_to is None:
        return amount(one.metric, one.value)
    return fixed(one.value, sign=one.difference)


def party(who: str | None) -> str:
    """`baseline:bigram` -> `bigram baseline`; `arm:plain~1`, a trial of its sweep -> `arm plain, trial 2`."""
    if not who:
        return NOTHING
    who, _, trial = who.partition("~")
    kind, _, name = who.partition(":")
    text = {"baseline": f"{name} baseline", "stage": f"stage {name}", "arm": f"arm {name}"}.get(kind, who)
    return f"{text}, trial {int(trial) + 1}" if trial.isdecimal() else text


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"


def several(number: int, one: str, many: str = "") -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def asked(one: ConditionVerdict) -> str:
    """What the plan demanded, without what was found: `text/loss − control ≤ 0`."""
    sign = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}.get(
        str(one.condition.get("op", "")), str(one.condition.get("op", ""))
    )
    subject = one.metric if one.of == "candidate" else f"{one.metric} of {party(one.of)}"
    if one.relative_to is not None:
        subject += f" {MINUS} {party(one.relative_to)}" if one.difference else f" / {party(one.relative_to)}"
    limit = one.threshold
    if limit is None:
        text = str(one.condition.get("value", ""))
    else:
        text = _limit(one.metric, limit) if one.relative_to is None else f"{limit:g}".replace("-", MINUS)
    sure = f" with {one.confidence * 100:g} % confidence" if one.confidence else ""
    worst = ", worst seed" if one.condition.get("aggregate") == "worst" else ""
    return f"{subject} {sign} {text}{sure}{worst}"


def _limit(metric: str, limit: float) -> str:
    """A threshold with no more digits than its author wrote."""
    shown = amount(metric, limit)
    if shown.endswith(" %"):
        return f"{100 * limit:g} %"
    return f"{limit:g}".replace("-", MINUS) if shown == fixed(limit) else shown


def moment(time: str) -> str:
    """`2026-11-21 03:40:41` in UTC; what is not a time stays as it is."""
    parsed = when(time)
    return time if parsed is None else parsed.strftime("%Y-%m-%d %H:%M:%S")


def when(time: str) -> datetime.datetime | None:
    try:
        parsed = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    return parsed.astimezone(datetime.UTC) if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)


def said(value: Any) -> str:
    """Anything that JSON holds, on one line: `a: 1; b: x, y`."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {said(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence):
        return ", ".join(said(inner) for inner in value)
    return json.dumps(value)


def short(digest: str) -> str:
    return digest[:12]


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
