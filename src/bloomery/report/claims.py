"""The claims ledger over all runs: which rows are untested, undecided, refuted or supported, by what evidence.

A run's answer is the last `claim_judged` event of each claim; nothing here judges. Of several answers to a row the
latest confirmatory run's stands for it, and of several claims of that run the worst; the others are shown beside it.
Verdicts that the ledger has recorded come after those of runs, in its own order.
Refuses no run: one whose log is damaged is named with the reason, and claims that name no row of the ledger have a list
of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.engine.events import read_events
from bloomery.engine.store import EVENTS, list_runs
from bloomery.errors import ArtifactError, BloomeryError, nearest
from bloomery.plan.find import bundled_plans
from bloomery.plan.ledger import Ledger, Recorded, Row
from bloomery.plan.load import load
from bloomery.plan.schema import Plan
from bloomery.report import wording
from bloomery.report.facts import ConditionVerdict, Facts
from bloomery.report.parsing import condition_verdict

VERDICTS: tuple[str, ...] = ("untested", "undecided", "refuted", "supported")
"""In the order in which they are told."""
_WORST_FIRST: tuple[str, ...] = ("refuted", "undecided", "supported")


@dataclass(frozen=True, slots=True)
class Answer:
    """One claim as one run judged it, or as the ledger has it recorded."""

    run: str
    """Of a recorded one: the page, `arithmetic` or `the seed`."""
    plan: str
    mode: str
    """confirmatory, exploratory or recorded."""
    commit: str
    changed: bool
    """Whether the source differed from the commit."""
    time: str
    """When the run judged its claims, ISO; of a recorded one the day."""
    claim: str
    says: str
    source: str
    of: str
    rows: tuple[str, ...]
    status: str
    reason: str
    would_need: str
    """What it takes to decide, where the claim is undecided."""
    conditions: tuple[ConditionVerdict, ...]
    """The one that decided first."""
    valid: str
    """The status of `valid_if`; empty where the claim has none."""
    valid_conditions: tuple[ConditionVerdict, ...] = ()
    recorded: Recorded | None = None

    @property
    def deciding(self) -> ConditionVerdict | None:
        """The condition that stands for the verdict: the first of the worst; of a passed gate the first that passed."""
        return self.conditions[0] if self.conditions else None


@dataclass(frozen=True, slots=True)
class Named:
    """A claim of a bundled plan: what will answer the row."""

    plan: str
    system: str
    claim: str
    says: str
    source: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A row and what is known of it now."""

    row: Row
    named_by: tuple[Named, ...] = ()
    answers: tuple[Answer, ...] = ()
    """The one that stands for the row first."""
    waits_for: str = ""
    """What would decide a row that is untested or undecided."""

    @property
    def verdict(self) -> str:
        return self.answers[0].status if self.answers else "untested"

    @property
    def disagree(self) -> str:
        """`refuted in RUN, supported in RUN`; empty where all answers are the same."""
        return _disagreement(self.answers)


@dataclass(frozen=True, slots=True)
class Loose:
    """A claim that names no row of the ledger."""

    plan: str
    claim: str
    says: str
    source: str
    unknown: tuple[str, ...] = ()
    """Rows that it names and the ledger has not."""
    answers: tuple[Answer, ...] = ()

    @property
    def verdict(self) -> str:
        return self.answers[0].status if self.answers else "untested"

    @property
    def disagree(self) -> str:
        return _disagreement(self.answers)


@dataclass(frozen=True, slots=True)
class Stock:
    """Everything that `bloomery claims` knows. Untested rows first, then in the order of the ledger."""

    systems: tuple[str, ...]
    """In the order of the ledger."""
    standings: tuple[Standing, ...]
    loose: tuple[Loose, ...]
    runs: int
    """How many runs were read."""
    damaged: tuple[tuple[str, str], ...] = ()
    """(run, why it could not be read)."""

    def counts(self) -> dict[str, dict[str, int]]:
        """{system: {"rows": n, "untested": n, ...}}, in the order of the ledger."""
        out = {system: dict.fromkeys(("rows", *VERDICTS), 0) for system in self.systems}
        for one in self.standings:
            out[one.row.system]["rows"] += 1
            out[one.row.system][one.verdict] += 1
        return {system: counted for system, counted in out.items() if counted["rows"]}

    def only(self, system: str | None, verdict: str | None) -> Stock:
        """The rows of one system, with one verdict. A loose claim is of the system that its plan is named after."""
        return replace(
            self,
            standings=tuple(
                one
                for one in self.standings
                if system in (None, one.row.system) and verdict in (None, one.verdict)
            ),
            loose=tuple(
                one
                for one in self.loose
                if system in (None, one.plan.split("/")[0]) and verdict in (None, one.verdict)
            ),
        )  # fmt: skip


def bundled() -> list[Plan]:
    """The bundled plans, whose claims will answer rows."""
    return [load(found.path).plan for found in bundled_plans()]


def take_stock(ledger: Ledger, plans: Iterable[Plan] = (), root: Path | None = None) -> Stock:
    """The ledger with the bundled plans that name its rows and the runs below `root` (none: no runs)."""
    named = [
        Named(plan.name, plan.system, claim.id, claim.says, claim.source, claim.rows)
        for plan in plans
        for claim in plan.claims
    ]
    answers: list[Answer] = []
    damaged: list[tuple[str, str]] = []
    runs = list_runs(root) if root is not None else []
    for run in runs:
        try:
            answers += answers_of(read_events(run.folder / EVENTS), run.run)
        except (ArtifactError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            damaged.append((run.run, reason))
    answers = _ordered(answers)
    standings = [
        Standing(
            row,
            tuple(one for one in named if row.id in one.rows),
            (*(one for one in answers if row.id in one.rows), *(_recorded(row, one) for one in row.recorded)),
            ledger.waits_for(row),
        )
        for row in ledger.rows
    ]
    loose = _loose(named, answers, set(ledger.by_id()))
    return Stock(
        systems=ledger.legend.systems,
        standings=tuple(sorted(standings, key=lambda one: VERDICTS.index(one.verdict))),
        loose=tuple(sorted(loose, key=lambda one: (VERDICTS.index(one.verdict), one.plan, one.claim))),
        runs=len(runs),
        damaged=tuple(damaged),
    )


def check_filters(ledger: Ledger, system: str | None, verdict: str | None) -> None:
    """Raises BloomeryError for a system that has no rows, or a verdict that there is not."""
    systems = [chapter.system for chapter in ledger.chapters]
    for option, value, known in (("--system", system, systems), ("--status", verdict, VERDICTS)):
        if value is not None and value not in known:
            raise BloomeryError(option, f"'{value}'", f"one of: {', '.join(known)}", nearest(value, known))


def answers_of(events: Sequence[Facts], run: str) -> list[Answer]:
    """What a run says about its claims: the last word on each, with the plan and commit it was said under."""
    opened: Facts = {}
    last: dict[str, tuple[Facts, Facts]] = {}
    for event in events:
        if event["event"] == "run_opened" or (event["event"] == "resumed" and "digest" in event):
            opened = event
        elif event["event"] == "claim_judged":
            last[str(event["id"])] = (event, opened)
    time = max((str(event.get("time", "")) for event, _ in last.values()), default="")
    return [_answer(event, opened, run, time) for event, opened in last.values()]


def _answer(event: Facts, opened: Facts, run: str, time: str) -> Answer:
    status = str(event.get("status", ""))
    provenance: Mapping[str, Any] = opened.get("provenance") or {}
    judged: Mapping[str, Any] = event.get("verdict") or {}
    valid: Mapping[str, Any] = event.get("valid") or {}
    return Answer(
        run=run,
        plan=str(opened.get("plan", "")),
        mode=str(opened.get("mode", "")),
        commit=str(provenance.get("commit") or ""),
        changed=bool(provenance.get("dirty")),
        time=time,
        claim=str(event["id"]),
        says=str(event.get("says", "")),
        source=str(event.get("source", "")),
        of=str(event.get("of") or ""),
        rows=tuple(str(row) for row in event.get("rows") or ()),
        status=status if status in _WORST_FIRST else "undecided",
        reason=str(event.get("reason") or ""),
        would_need=str(event.get("would_need") or ""),
        conditions=_conditions(judged),
        valid=str(valid.get("status", "")),
        valid_conditions=_conditions(valid),
    )


def _recorded(row: Row, one: Recorded) -> Answer:
    return Answer(
        run=one.by, plan="", mode="recorded", commit="", changed=False, time=one.date, claim="", says=row.claim,
        source=row.section, of="", rows=(row.id,), status=one.verdict, reason=one.why,
        would_need=row.waits_for if one.verdict == "undecided" else "", conditions=(), valid="", recorded=one,
    )  # fmt: skip


def _conditions(verdict: Mapping[str, Any]) -> tuple[ConditionVerdict, ...]:
    """Worst first. Where the whole passed, what did not pass is a member of an `any` that need not, and comes last."""
    order = wording.WORST_FIRST if verdict.get("status") != "pass" else wording.WORST_FIRST[::-1]
    found = [condition_verdict(one) for one in verdict.get("conditions") or ()]
    return tuple(sorted(found, key=lambda one: order.index(one.status) if one.status in order else 1))


def _ordered(answers: list[Answer]) -> list[Answer]:
    """Confirmatory before exploratory, later runs before earlier ones, and within a run the worst first."""
    answers = sorted(answers, key=lambda one: (one.run, _WORST_FIRST.index(one.status)))
    answers = sorted(answers, key=lambda one: one.time, reverse=True)
    return sorted(answers, key=lambda one: one.mode != "confirmatory")


def _disagreement(answers: Sequence[Answer]) -> str:
    runs: dict[str, list[str]] = {}
    for one in answers:
        where = runs.setdefault(one.status, [])
        if one.run not in where:
            where.append(one.run)
    if len(runs) < 2:
        return ""
    return ", ".join(f"{status} in {wording.listed(where)}" for status, where in runs.items())


def _loose(named: Sequence[Named], answers: Sequence[Answer], known: set[str]) -> list[Loose]:
    found: dict[tuple[str, str], Loose] = {}
    for one in (*answers, *named):
        unknown = tuple(row for row in one.rows if row not in known)
        if one.rows and not unknown:
            continue
        key = (one.plan, one.claim)
        loose = found.setdefault(key, Loose(one.plan, one.claim, one.says, one.source, unknown))
        if isinstance(one, Answer):
            found[key] = replace(loose, answers=(*loose.answers, one))
    return list(found.values())
