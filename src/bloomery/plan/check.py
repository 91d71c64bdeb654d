"""Everything about a plan that can be known before anything runs, in one look: no torch, no network, no run folder.

Three lists: problems (the plan cannot mean this), warnings (it can, but look), and what no installed system offers.
Pure given the catalogue and the files that the plan names.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.errors import BloomeryError
from bloomery.plan import (
    check_choices,
    check_claims,
    check_conditions,
    check_data,
    check_loops,
    check_patches,
    check_ready,
    check_rows,
    check_stages,
    check_tuned,
    check_unused,
    check_watched,
    check_wildcards,
)
from bloomery.plan.catalogue import Catalogue
from bloomery.plan.detectable import Detectable, detectable
from bloomery.plan.load import Loaded
from bloomery.plan.look import Look, Note
from bloomery.plan.runs import PlannedRun, planned_runs
from bloomery.plan.schema import StageSpec

__all__ = ["Note", "Report", "check", "largest_number_of_walks"]


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, each list in the order of the file."""

    problems: tuple[BloomeryError, ...]
    warnings: tuple[Note, ...]
    not_offered: tuple[Note, ...]
    """Kinds, suites, baselines, sources and systems that nothing installed brings."""
    walks_bound: int
    """The largest number of walks: one, and one for every use of every rule, in every cycle of a loop."""
    runs: tuple[PlannedRun, ...] = ()
    """What the first walk trains and fits, and why; empty where there are problems."""
    detectable: tuple[Detectable, ...] = ()
    """What the gates' items can tell apart, where that can be said before anything runs."""


def check(loaded: Loaded, catalogue: Catalogue) -> Report:
    """Look at a loaded plan with what is installed. Raises nothing: mistakes are in the report."""
    look = Look(loaded, catalogue)
    look.place_stages()
    check_stages.check(look)
    check_loops.check(look)
    check_data.check(look)
    check_tuned.check(look)
    check_conditions.check(look)
    check_watched.check(look)
    check_claims.check(look)
    check_rows.check(look)
    check_choices.check(look)
    check_patches.check(look)
    check_wildcards.check(look)
    check_unused.check(look)
    check_ready.check(look)
    problems = dict.fromkeys(problem for _, problem in sorted(look.problems, key=lambda found: look.position(found[0])))
    unique = {(problem.where, problem.found): problem for problem in problems}
    return Report(
        tuple(unique.values()),
        *(
            tuple(dict.fromkeys(note for _, note in sorted(notes, key=lambda found: look.position(found[0]))))
            for notes in (look.warnings, look.not_offered)
        ),
        walks_bound=largest_number_of_walks(loaded.plan.stages),
        runs=() if problems else planned_runs(loaded),
        detectable=() if problems else detectable(look),
    )


def largest_number_of_walks(stages: tuple[StageSpec, ...]) -> int:
    """One walk, and at most one more for every use of every rule that retries."""
    return 1 + sum(_retries(stage) for stage in stages)


def _retries(stage: StageSpec) -> int:
    own = sum(rule.max_attempts for rule in stage.on_fail if rule.then is None)
    return own + (stage.repeat or 1) * sum(_retries(inner) for inner in stage.stages)
