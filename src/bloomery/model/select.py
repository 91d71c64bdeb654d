"""Name patterns to parameters: what to freeze, which group an optimiser treats alike. Proves exact cover.

Patterns are those of fnmatch (`blocks.*.attention.*`); `*` crosses dots. Refuses patterns that match nothing, and a
partition that leaves a parameter out or claims it twice: a parameter that nobody trains, or two do, is a silent error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from bloomery.errors import TrainingError, nearest

SHOWN = 5


def select(names: Iterable[str], patterns: Sequence[str], *, where: str = "select") -> list[str]:
    """The names, in their order, that some pattern matches. Raises TrainingError for a pattern without a match."""
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise TrainingError(
                where, f"'{pattern}' matches no parameter", "a name or pattern", nearest(pattern, known)
            )
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]


def partition(
    names: Iterable[str], groups: Mapping[str, Sequence[str]], *, where: str = "groups"
) -> dict[str, list[str]]:
    """{group: names that one of its patterns matches}, every name in exactly one group.

    Raises TrainingError that names what no group, or more than one, lays claim to.
    """
    known = list(names)
    chosen = {group: select(known, patterns, where=f"{where}.{group}") for group, patterns in groups.items()}
    prove_cover(known, chosen, where=where)
    return chosen


def frozen(groups: Mapping[str, str], named: Sequence[str], *, where: str = "freeze") -> list[str]:
    """The parameters that `named`, groups or patterns, leave untrained. groups: {parameter: its group}.

    Raises TrainingError for a name that is neither, and where nothing would be left to train.
    """
    known = set(groups.values())
    for name in named:
        if name not in known and not any(fnmatchcase(one, name) for one in groups):
            expected = "a group of parameters, or a pattern of their names"
            raise TrainingError(where, f"'{name}' is neither", expected, nearest(name, [*known, *groups]))
    out = [one for one, group in groups.items() if group in named or any(fnmatchcase(one, name) for name in named)]
    kept = [one for one in groups if one not in set(out)]
    prove_cover(groups, {"frozen": out, "trained": kept}, where=where)
    if not kept:
        raise TrainingError(where, "every parameter", "some that are trained")
    return out


def prove_cover(names: Iterable[str], groups: Mapping[str, Iterable[str]], *, where: str = "groups") -> None:
    """Every name in exactly one group, and no other name in any; raises TrainingError otherwise."""
    claims: dict[str, list[str]] = {name: [] for name in names}
    unknown = []
    for group, members in groups.items():
        for name in members:
            if name in claims:
                claims[name].append(group)
            else:
                unknown.append(f"{name} (in {group})")
    uncovered = [name for name, by in claims.items() if not by]
    doubled = [f"{name} (in {' and '.join(by)})" for name, by in claims.items() if len(by) > 1]
    problems = [("in no group", uncovered), ("in more than one group", doubled), ("no parameter of the model", unknown)]
    found = [f"{what}: {_some(which)}" for what, which in problems if which]
    if found:
        raise TrainingError(where, "; ".join(found), "every parameter in exactly one group")


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
