"""Which part a document belongs to, decided by the hash of its name (or group) alone, and what train and val share.

The default rule is that of specs/data.md, section 3, for every source: with u = int(sha256(key)[:8 hex], 16) % 20 a
document is `val` if u == 0, `dev` if u == 1 (rates and remedies are chosen there) and `train` otherwise. Further
buckets are carved out of `train` on demand: `test` is u == 2 where a plan names it. Shares cut [0, 1) in the order in
which they are written, at sha256(key) / 2^256. By name and not by content, so that an edited file never changes sides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bloomery.errors import DataError

BUCKETS = 20
DEFAULT_SPLITS = ("train", "dev", "val")
ON_DEMAND = {"test": 2}
"""{split: bucket}, taken out of `train` only where a plan asks for it."""

SHORTEST_LINE = 20
"""Characters, stripped: shorter lines (`else:`, a bracket) are alike everywhere and say nothing about copies."""

SplitRule = Callable[[str], str]


def bucket_rule(wanted: Iterable[str] = ()) -> SplitRule:
    """The default rule; `wanted` names the on-demand splits to carve out."""
    buckets = {0: "val", 1: "dev", **{ON_DEMAND[name]: name for name in wanted}}

    def rule(key: str) -> str:
        return buckets.get(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % BUCKETS, "train")

    return rule


def share_rule(shares: Mapping[str, float]) -> SplitRule:
    """Splits by share. Raises DataError where the shares do not sum to one within 1e-6."""
    check_shares(shares.items(), "split")
    bounds: list[tuple[float, str]] = []
    for name, share in shares.items():
        bounds.append((share + (bounds[-1][0] if bounds else 0.0), name))
    last = bounds[-1][1]

    def rule(key: str) -> str:
        point = int(hashlib.sha256(key.encode()).hexdigest()[:13], 16) / 16**13  # exact in a float
        return next((name for bound, name in bounds if point < bound), last)

    return rule


def check_shares(shares: Iterable[tuple[str, float]], where: str) -> None:
    """[(name, share)]: shares are positive and sum to one within 1e-6, or DataError."""
    shares = list(shares)
    for name, share in shares:
        if not (math.isfinite(share) and share > 0):
            raise DataError(f"{where}.{name}", f"a share of {share:g}", "a share above 0, such as 35% or 0.35")
    total = math.fsum(share for _, share in shares)
    if abs(total - 1) > 1e-6:
        listed = " + ".join(f"{name} {share:.6g}" for name, share in shares)
        raise DataError(where, f"the shares sum to {total:.8g} ({listed or 'none'})", "a sum of 1 (100%)")


def line_keys(text: str) -> list[int]:
    """64-bit hashes of the lines of at least SHORTEST_LINE characters, stripped."""
    return [_line_key(line) for line in text.splitlines() if len(line.strip()) >= SHORTEST_LINE]


def _line_key(line: str) -> int:
    return int.from_bytes(hashlib.blake2b(line.strip().encode(), digest_size=8).digest(), "little")


@dataclass(slots=True)
class LineDeduplicator:
    """`deduplicate: lines`: drops each line of at least SHORTEST_LINE characters that came before, in any document.

    Keeps 8 bytes (some 60 as Python counts) for every different line: meant for corpora that fit on one machine.
    """

    dropped: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)

    def clean(self, text: str) -> str:
        kept: list[str] = []
        for line in text.splitlines(keepends=True):
            if len(line.strip()) >= SHORTEST_LINE:
                key = _line_key(line)
                if key in self._seen:
                    self.dropped += 1
                    continue
                self._seen.add(key)
            kept.append(line)
        return "".join(kept)
