"""Evidence in order: who measured what, for which seed, and what a metric name or a `*` stands for.

It refuses to guess. Two different values for the same party, metric, seed and step, a seed that others of the same
party have and this metric has not, NaN, infinity, or a metric that nobody declared: all are Missing, with the reason.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from bloomery.measure import Emitted, Measurement

BySeed = Mapping[int | None, Measurement]
DERIVED = ("min", "max")
"""`M/min`, `M/max`: over the looks at M inside a stage. M itself is the last look."""
TO_REFERENCE = "/tokens_to_reference"
"""The ending of a metric that engine.reaching works out from the looks of two parties."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who took part: which party is judged as the candidate, and all arms, whether or not they left evidence."""

    candidate: str = "candidate"
    arms: tuple[str, ...] = ()
    lost: frozenset[str] = frozenset()
    """Parties that broke: their last look is not what they would have ended with."""


class Missing(Exception):
    """Why something cannot be judged. Never leaves `judge`."""


class Evidence:
    """An index over measurements, the same whatever their order."""

    def __init__(
        self, measurements: Iterable[Measurement], declared: Mapping[str, Emitted], cast: Cast | None = None
    ) -> None:
        self._declared, self._cast = declared, cast or Cast()
        self._patterns = {name: pattern_of(name) for name in declared if "*" in name}
        self._looks: dict[tuple[str, str], dict[int | None, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
        self._seeds: dict[str, set[int]] = defaultdict(set)
        for one in measurements:
            self._looks[one.who, one.name][one.seed].append(one)
            self._seeds[one.who].update(() if one.seed is None else (one.seed,))

    def emitted(self, metric: str) -> Emitted | None:
        """What was declared of a metric, directly, by a `*` segment, or as M of M/min; None where nothing was."""
        if metric in self._declared:
            return self._declared[metric]
        for name, pattern in self._patterns.items():
            if pattern.fullmatch(metric):
                return self._declared[name]
        if metric.endswith(TO_REFERENCE):
            known = self.emitted(metric.removesuffix(TO_REFERENCE))
            return None if known is None else Emitted("", "lower")
        base = _base_of_derived(metric)
        return self.emitted(base) if base else None

    def metrics(self, who: str, name: str) -> tuple[str, ...]:
        """The metrics that a name stands for: itself, or for a `*` all that were measured or fully declared."""
        if "*" not in name:
            return (name,)
        party_meant = self._meant(who)
        pattern, known = pattern_of(name), {metric for party, metric in self._looks if party == party_meant}
        known |= {metric for metric in self._declared if "*" not in metric}
        known |= {f"{metric}/{how}" for metric in known for how in DERIVED}
        found = tuple(sorted(metric for metric in known if pattern.fullmatch(metric)))
        if not found:
            raise Missing(f"no measurement of {who} matches '{name}'")
        return found

    def parties(self, name: str, metric: str, but: str) -> tuple[str, ...]:
        """Whom `baseline:*` or `arm:*` stands for: all such with any measurement from the metric's source, and every
        arm that took part; without the party `but`."""
        if not name.endswith(":*"):
            return (name,)
        prefix, source = name[:-1], metric.partition("/")[0] + "/"
        found = {who for who, known in self._looks if who.startswith(prefix) and known.startswith(source)}
        found = (found | {arm for arm in self._cast.arms if arm.startswith(prefix)}) - {self._meant(but)}
        if not found:
            raise Missing(f"no {prefix[:-1]} measured {source}*, so '{name}' stands for nothing")
        return tuple(sorted(found))

    def by_seed(self, who: str, metric: str, seeds: Collection[int] | None) -> BySeed:
        """The value of each seed. `seeds`: which there must be; else all that this party has any evidence of."""
        if self.emitted(metric) is None:
            raise Missing(f"'{metric}' is declared by no stage, suite or kind")
        meant = self._meant(who)
        found = self._looks.get((meant, metric))
        base = None if found else _base_of_derived(metric)
        found = self._looks.get((meant, base)) if base else found
        if not found:
            raise Missing(f"'{metric}' was not measured for {who}")
        values = {seed: _one_value(looks, metric if base else None) for seed, looks in found.items()}
        if meant in self._cast.lost and any(one.step is not None for one in values.values()):
            raise Missing(f"{who} broke, and what '{metric}' would have come to is not known")
        if None in values and len(values) > 1:
            raise Missing(f"'{metric}' of {who} was measured both with and without a seed")
        absent = set(self._seeds[meant] if seeds is None else seeds) - set(values)
        if absent and None not in values:
            raise Missing(f"'{metric}' was not measured for {who}, seed {', '.join(map(str, sorted(absent)))}")
        return values

    def looks(self, who: str, metric: str, seed: int | None) -> list[Measurement]:
        """One seed's looks on the way that say after how many tokens they were taken, in that order."""
        known = self._looks.get((self._meant(who), metric), {}).get(seed, [])
        return sorted((look for look in known if look.tokens is not None), key=lambda look: look.tokens or 0)

    def _meant(self, who: str) -> str:
        return self._cast.candidate if who == "candidate" else who


def pattern_of(name: str) -> re.Pattern[str]:
    """A metric name whose `*` segments stand for any one segment each."""
    return re.compile("/".join("[^/]+" if part == "*" else re.escape(part) for part in name.split("/")))


def _base_of_derived(metric: str) -> str | None:
    base, _, last = metric.rpartition("/")
    return base if base and last in DERIVED else None


def _one_value(looks: list[Measurement], derived: str | None) -> Measurement:
    by_step: dict[int | None, Measurement] = {}
    for look in looks:
        if not math.isfinite(look.value):
            raise Missing(f"'{look.name}' of {look.who} is {look.value}" + _at(look))
        known = by_step.setdefault(look.step, look)
        if known != look:
            raise Missing(f"'{look.name}' of {look.who} was measured twice, with different results" + _at(look))
    ordered = sorted(by_step.values(), key=lambda look: math.inf if look.step is None else look.step)
    if derived is None:
        return ordered[-1]
    choose = min if derived.endswith("/min") else max
    return replace(choose(ordered, key=lambda look: look.value), name=derived)


def _at(look: Measurement) -> str:
    seed = "" if look.seed is None else f", seed {look.seed}"
    return seed if look.step is None else f"{seed}, step {look.step}"
