"""Metric names: `SOURCE[/PART...]/QUANTITY`, segments of a-z 0-9 _, `*` for any one segment.

Matching, the metrics that the engine itself measures, the derived ones (`M/min`, `M/max`, `M/tokens_to_reference`), and
the unit that a name's ending promises (`_bytes _seconds _per_second _usd`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bloomery.measure import Emitted

DERIVED = ("min", "max", "tokens_to_reference")

ENGINE: Mapping[str, Emitted] = {
    "tally/parameters/stored": Emitted("", "lower"),
    "tally/parameters/active": Emitted("", "lower"),
    "tally/parameters/trainable": Emitted(),
    "tally/parameters/frozen": Emitted(),
    "tally/bytes": Emitted("bytes", "lower"),
    "cost/wall_seconds": Emitted("seconds", "lower"),
    "cost/tokens": Emitted(),
    "cost/flops": Emitted("", "lower"),
}
"""What every stage has without its kind's doing."""

_NAME = re.compile(r"(?:[a-z0-9_]+|\*)(?:/(?:[a-z0-9_]+|\*))+")


def well_formed(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.startswith("*")


def source(name: str) -> str:
    """`text` of `text/loss`."""
    return name.split("/", 1)[0]


def base(name: str) -> str:
    """The metric that a derived one is made from; itself if it is none."""
    head, _, last = name.rpartition("/")
    return head if last in DERIVED and "/" in head else name


def matches(name: str, declared: str) -> bool:
    """Whether two names, either of them with `*`, can be the same metric."""
    left, right = name.split("/"), declared.split("/")
    return len(left) == len(right) and all(a == b or "*" in (a, b) for a, b in zip(left, right, strict=True))


def find(name: str, declared: Iterable[str]) -> str | None:
    """The declared name that `name`, or what it is derived from, matches."""
    known = list(declared)
    for wanted in (name, base(name)):
        for candidate in known:
            if matches(wanted, candidate):
                return candidate
    return None


def unit(name: str) -> str:
    """`bytes`, `seconds`, `money` or nothing, by the ending of the quantity."""
    quantity = base(name).rpartition("/")[2]
    if quantity == "bytes" or quantity.endswith("_bytes"):
        return "bytes"
    if quantity == "seconds" or quantity.endswith("_seconds"):
        return "seconds"
    return "money" if quantity == "usd" or quantity.endswith("_usd") else ""
