"""Warns where a `*` hides work: what it makes be fitted or judged that nothing names.

`baseline:*` fits every baseline of the plan, `arm:*` lets a suite judge every arm. Both may well be meant; neither
should come as a surprise in the budget.
"""

from __future__ import annotations

from collections.abc import Iterator

from bloomery.plan import cast, metrics
from bloomery.plan.look import Asked, Look, Placed, asked, claimed


def check(look: Look) -> None:
    for placed in look.stages:
        told: set[str] = set()
        for found in _about(look, placed):
            for key in ("of", "relative_to"):
                party: str | None = getattr(found.condition, key)
                if party is None or not party.endswith(":*"):
                    continue
                for what in _made(look, placed, party, metrics.source(found.condition.metric)):
                    if what not in told:
                        told.add(what)
                        look.warn((*found.path, key), f"'{party}' {what}", "name those that are meant, if not all are")


def _about(look: Look, placed: Placed) -> Iterator[Asked]:
    """Every condition about a stage, those of claims in the stage's own words."""
    yield from asked(placed)
    for found in claimed(look.plan):
        reference = cast.claimed_stage(found.condition)
        if reference is not None and reference.stage == placed.id:
            yield Asked(cast.as_of_stage(found.condition), found.path, found.place, found.alternatives)


def _made(look: Look, placed: Placed, party: str, source: str) -> Iterator[str]:
    said = [found.condition for found in _about(look, placed)]
    seeds = len(look.seeds(placed))
    each = f" ({seeds} seeds each)" if seeds > 1 else ""
    if party == f"{cast.BASELINE}*":
        named = {one.relative_to for one in said}
        fitted = [name for name in look.plan.baselines if f"{cast.BASELINE}{name}" not in named]
        if fitted:
            yield f"fits {', '.join(fitted)} for '{placed.id}'{each}"
    if party == f"{cast.ARM}*" and source in look.plan.suites and source not in placed.spec.evaluate:
        named = {who for one in said if metrics.source(one.metric) == source for who in (one.of, one.relative_to)}
        judged = cast.fixed_candidate(placed.spec)
        others = [arm for arm in cast.arms(placed.spec) if arm not in named and arm != judged]
        if placed.spec.arms and others:
            yield f"lets '{source}' judge {', '.join(others)} of '{placed.id}' too{each}"
