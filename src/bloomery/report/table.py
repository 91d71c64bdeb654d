"""The closing table and the next command, as values: the terminal, Markdown and HTML show the same rows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.report import summary, wording
from bloomery.report.view import Attempt, RunView, StageView

HEADER = ("stage", "attempt", "gate", "value", "interval", "control or reference", "verdict")


@dataclass(frozen=True, slots=True)
class Row:
    """One condition of one attempt, in words. `status` is pass, fail, inconclusive, missing, or empty (not judged)."""

    stage: str
    attempt: str
    gate: str
    value: str
    interval: str
    reference: str
    verdict: str
    status: str

    def cells(self) -> tuple[str, ...]:
        return self.stage, self.attempt, self.gate, self.value, self.interval, self.reference, self.verdict


@dataclass(frozen=True, slots=True)
class NextCommand:
    command: str
    why: str

    def __str__(self) -> str:
        return self.command


def closing_rows(view: RunView, *, earlier_attempts: bool = True) -> tuple[Row, ...]:
    """In the order of the plan. A stage without a gate, or one that never ran, has a row that says so."""
    rows: list[Row] = []
    for stage in view.stages:
        if not stage.attempts:
            rows.append(_plain(stage, "", f"not run: {stage.skipped}" if stage.skipped else "not run"))
        for attempt in stage.attempts if earlier_attempts else stage.attempts[-1:]:
            rows += _rows(stage, attempt)
    return tuple(rows)


def _rows(stage: StageView, attempt: Attempt) -> list[Row]:
    number = f"{attempt.number} of {len(stage.attempts)}" if len(stage.attempts) > 1 else str(attempt.number)
    if attempt.verdict is None:
        return [_plain(stage, number, "not judged yet")]
    if not attempt.verdict.conditions:
        return [_plain(stage, number, "no gate", attempt.verdict.status)]
    rows = []
    for one in attempt.verdict.conditions:
        verdict = wording.STATUS_WORDS.get(one.status, one.status)
        word = summary.finding(one)
        if word:
            verdict += f", {word}"
        if one.alternative is not None:
            verdict += " (one of several)"
        if one.relative_to is None:
            reference = wording.NOTHING
        else:
            reference = f"{wording.amount(one.metric, one.reference)} ({wording.party(one.relative_to)})"
        rows.append(
            Row(
                stage.id,
                number,
                wording.asked(one),
                wording.condition_value(one),
                wording.interval(one.interval, sign=one.difference),
                reference,
                verdict,
                one.status,
            )
        )
    if attempt.not_promoted:
        rows.append(_plain(stage, number, "not promoted: its inputs were handed on"))
    return rows


def _plain(stage: StageView, attempt: str, words: str, status: str = "") -> Row:
    nothing = wording.NOTHING
    return Row(stage.id, attempt or nothing, nothing, nothing, nothing, nothing, words, status)


def plan_reference(view: RunView) -> str:
    """What to call the plan on a command line: its file, or the name of a plan that a system brings along."""
    source = view.header.source
    bundled = "/systems/" in source and "/plans/" in source
    return view.header.plan if bundled or not source else source


def run_reference(view: RunView) -> str:
    """The run's name where the command line finds it by that, else its folder."""
    name, parts = view.header.run, view.folder.parts
    by_name = bool(name) and parts[-name.count("/") - 2 :] == ("runs", *name.split("/"))
    return name if by_name else str(view.folder)


def run_command(view: RunView) -> str:
    """The command that starts this run, or goes on with it."""
    words = ["bloomery", "run", plan_reference(view)]
    for path, value in view.header.overrides.items():
        words += ["--set", f"{path}={wording.said(value)}"]
    return shlex.join(words)


def next_command(view: RunView) -> NextCommand:
    """What a person would sensibly do now."""
    plan = shlex.quote(plan_reference(view))
    run = shlex.quote(run_reference(view))
    if view.status in ("unfinished", "interrupted"):
        return NextCommand(run_command(view), "goes on where the run stopped")
    if view.status == "budget":
        return NextCommand(
            f'bloomery register {plan} --amend "why the budget is raised"',
            "after raising `budget` in the plan; then the same `bloomery run` goes on where it stopped",
        )
    if view.status == "failed":
        return NextCommand(
            f'bloomery register {plan} --amend "what changed and why"',
            "after changing the plan; the report shows the failed prediction and the amendment side by side",
        )
    models = [
        made
        for stage in view.stages
        for attempt in stage.attempts
        for made in attempt.artifacts
        if made.output == "model"
    ]
    if models:
        return NextCommand(f"bloomery generate {run} --prompt 'def '", "lets the trained model write")
    return NextCommand(f"bloomery show {run}", "shows what was measured")


def compare(views: Sequence[RunView]) -> tuple[tuple[str, ...], ...]:
    """Rows for `compare`, the first being the header: one column a run, one row a fact; finals are means over seeds."""
    columns = [_column(view) for view in views]
    names = list(dict.fromkeys(name for column in columns for name in column))
    header = ("", *(view.header.run or view.folder.name for view in views))
    return (header, *((name, *(column.get(name, wording.NOTHING) for column in columns)) for name in names))


def _column(view: RunView) -> dict[str, str]:
    held = [one.condition.status == "pass" for one in summary.predictions(view)]
    column = {
        "status": wording.STATUS_WORDS.get(view.status, view.status),
        "mode": view.header.mode or wording.NOTHING,
        "plan digest": wording.short(view.header.digest),
        "predictions held": f"{sum(held)} of {len(held)}",
        "tokens": wording.count(_float(view.spent.get("tokens"))),
        "FLOPs": wording.count(_float(view.spent.get("flops"))),
        "time": wording.duration(_float(view.spent.get("seconds"))),
    }
    for stage in view.stages:
        attempt = stage.judged or stage.last
        if attempt is None:
            continue
        tally = attempt.tally_of("candidate")
        if tally is not None:
            column[f"{stage.id}: stored parameters"] = wording.count(tally.stored)
        for metric, who, mean, spread in finals(attempt):
            of = "" if who == "candidate" else f" of {wording.party(who)}"
            column[f"{stage.id}: {metric}{of}"] = wording.amount(metric, mean) + spread
    return column


def finals(attempt: Attempt) -> tuple[tuple[str, str, float, str], ...]:
    """(metric, who, mean over seeds, spread in words); costs, sizes and training losses are told elsewhere."""
    names = dict.fromkeys(
        one.name for one in attempt.measurements if one.name.split("/")[0] not in ("cost", "tally", "train")
    )
    out = []
    for metric in names:
        for who in attempt.whos():
            values = [found.value for found in attempt.final(metric, who).values()]
            if values:
                spread = f" ± {(max(values) - min(values)) / 2:.2g}" if len(values) > 1 else ""
                out.append((metric, who, sum(values) / len(values), spread))
    return tuple(out)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float | str) else None
