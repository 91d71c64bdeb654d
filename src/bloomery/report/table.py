"""The closing table and the next command, as values: the terminal, Markdown and HTML show the same rows."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from bloomery.report import cycles, looks, passage, summary, wording
from bloomery.report.view import Attempt, LoopView, RunView, StageView

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
    open_loops = {loop.id: loop for loop in view.loops}
    for stage in view.stages:
        if stage.cycle is not None and stage.cycle.loop in open_loops:
            rows.append(_loop(open_loops.pop(stage.cycle.loop)))
        if not stage.attempts and stage.cycle is not None and stage.cycle.number > 1:
            continue  # the loop's own row says how many cycles there were
        if not stage.attempts:
            rows.append(_plain(stage.id, "", f"not run: {stage.skipped}" if stage.skipped else "not run"))
        for attempt in stage.attempts if earlier_attempts else stage.attempts[-1:]:
            rows += _rows(stage, attempt)
        if stage.attempts and stage.skipped:
            rows.append(_plain(stage.id, "", f"not run in the last walk: {stage.skipped}"))
    return (*rows, *(_loop(loop) for loop in open_loops.values()))


def _loop(loop: LoopView) -> Row:
    if loop.skipped:
        return _plain(loop.id, "", f"not run: {loop.skipped}")
    ended = "" if loop.end is not None else ", not ended"
    return _plain(loop.id, "", f"{cycles.kept_words(loop)} kept{ended}")


def _rows(stage: StageView, attempt: Attempt) -> list[Row]:
    number = f"{attempt.number} of {len(stage.attempts)}" if len(stage.attempts) > 1 else str(attempt.number)
    if attempt.verdict is None:
        return [_plain(stage.id, number, "not judged yet")]
    if not attempt.verdict.conditions:
        failed = f"did not end: {attempt.verdict.reason}" if attempt.verdict.reason else "no gate"
        return [_plain(stage.id, number, failed, attempt.verdict.status)]
    rows: list[Row] = []
    look = looks.look_words(stage, attempt)
    for one in attempt.verdict.conditions:
        verdict = wording.STATUS_WORDS.get(one.status, one.status)
        word = summary.finding(one)
        if word:
            verdict += f", {word}"
        if one.alternative is not None:
            verdict += " (one of several)"
        verdict += f" ({look})" if look else ""
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
    if attempt.verdict.reason:
        rows.append(_plain(stage.id, number, f"did not end: {attempt.verdict.reason}", "fail"))
    if attempt.not_promoted and stage.cycle is not None:
        rows.append(_plain(stage.id, number, f"cycle {stage.cycle.number} of {stage.cycle.loop} is undone"))
    elif attempt.not_promoted:
        rows.append(_plain(stage.id, number, f"not promoted: handed on instead is {passage.handed_on(stage, attempt)}"))
    return rows


def _plain(stage: str, attempt: str, words: str, status: str = "") -> Row:
    nothing = wording.NOTHING
    return Row(stage, attempt or nothing, nothing, nothing, nothing, nothing, words, status)


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
