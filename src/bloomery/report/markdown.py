"""The report's Markdown twin, for pasting into an issue or a pull request: the same facts, without drawings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bloomery.report import (
    accounting,
    answers,
    arms,
    controls,
    cycles,
    evaluations,
    looks,
    passage,
    story,
    summary,
    sweeps,
    table,
    wording,
)
from bloomery.report.finals import all_finals
from bloomery.report.grid import Grid
from bloomery.report.spending import by_party, spending
from bloomery.report.view import RunView


def markdown(view: RunView) -> str:
    parts = [
        f"# {summary.headline(view)}: {inline(view.header.run or view.folder.name)}",
        inline(summary.summary(view)),
        f"*{inline(summary.mode_words(view))}*",
        _predictions(view),
        _section("Claims", _grids(answers.claim_grid(view))),
        _promise(view),
        _section("Gates and attempts", grid(table.HEADER, [row.cells() for row in table.closing_rows(view)])),
        _section("Arms, sweeps and controls", _parties(view)),
        _section("Cycles, optional and skipped stages", _passage(view)),
        _section("What happened", _story(view)),
        _section("Measured results", _results(view)),
        _section("Exploratory evaluations", _grids(evaluations.evaluation_grid(view))),
        _section("Size and compute", _size(view)),
        _section("Budget", _budget(view)),
        _section("Samples", _samples(view)),
        _section("Environment", _environment(view)),
        _section("Do it again", fence(_commands(view))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def inline(text: str) -> str:
    """Text that stays text: HTML, emphasis, links and table bars of strangers do nothing."""
    escaped = re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fence(text: str) -> str:
    """A code block that no run of back-ticks inside can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}\n{text.rstrip()}\n{mark}"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table; empty without rows."""
    body = [f"| {' | '.join(inline(cell) for cell in row)} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(map(inline, header))} |", f"|{' --- |' * len(header)}", *body])


def _section(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _predictions(view: RunView) -> str:
    lines = []
    for one in summary.predictions(view):
        condition = one.condition
        status = wording.STATUS_WORDS.get(condition.status, condition.status)
        word = summary.finding(condition)
        found = f": {summary.numbers(condition)}" if condition.value is not None else ""
        said = f" ({summary.FINDINGS.get(word, word)} {wording.party(condition.relative_to)})" if word else ""
        look = looks.look_words(one.stage, one.attempt)
        said += f" ({look})" if look else ""
        lines.append(f"**{inline(status)}** {inline(f'{one.stage.id}: {wording.asked(condition)}{found}{said}')}")
        lines += [f"  amended: {inline(change.why)}" for change in view.touching(f"stages.{one.stage.id}")]
    return _section("Predictions", _bullets(lines))


def _promise(view: RunView) -> str:
    registered = view.registration
    if registered is None:
        return _section("What was promised", "Not registered.")
    lines = [
        f"{name}: {inline(wording.said(value))}"
        for name, value in (
            ("Hypothesis", registered.hypothesis),
            ("Varied", registered.variable),
            ("Control", registered.control),
            ("Prediction", registered.prediction),
            ("Counts as failed", registered.fail_conditions),
            (
                "Registered",
                f"{wording.moment(registered.time)} UTC, commit {wording.short(registered.commit) or 'not recorded'}",
            ),
            ("Digest", registered.digest),
        )
        if value
    ]
    for one in view.amendments:
        when = "after results had been seen" if one.after_results else "before any result"
        lines.append(f"Amended {when}: {inline(one.why)} (changed {inline(', '.join(one.changed))})")
    return _section("What was promised", _bullets(lines))


def _story(view: RunView) -> str:
    told = story.story(view)
    return _bullets(
        f"{one.elapsed} {inline(one.title)}{f': {inline(one.detail)}' if one.detail else ''}" for one in told
    )


def _results(view: RunView) -> str:
    rows = []
    for stage in view.stages:
        attempt = stage.shown
        if attempt is not None:
            for metric, who, mean, spread in all_finals(attempt):
                rows.append((stage.id, metric, wording.party(who), wording.amount(metric, mean) + spread))
    return grid(("stage", "metric", "who", "mean ± half the range over seeds"), rows)


def _size(view: RunView) -> str:
    counted = accounting.account(view)
    return _bullets(inline(line) for line in counted.lines()) if counted is not None else ""


def _budget(view: RunView) -> str:
    rows = [(one.name, one.planned, one.spent, one.cap) for one in spending(view)]
    spread = by_party(view)
    parts = [grid(("", "planned", "spent", "cap"), rows), _grids(spread) if rows else ""]
    return "\n\n".join(part for part in parts if part)


def _grids(*several: Grid | None) -> str:
    """Each with its caption above it and its remarks below."""
    parts: list[str] = []
    for one in several:
        if one is not None:
            rows = [[cell.replace("\n", "; ") for cell in row] for row in one.rows]
            parts += [f"*{inline(one.caption)}*", grid(one.header, rows), _bullets(map(inline, one.remarks))]
    return "\n\n".join(part for part in parts if part)


def _parties(view: RunView) -> str:
    parts: list[str] = []
    for stage in view.stages:
        attempt, control = stage.shown, controls.control_words(view, stage, stage.shown)
        both = (arms.arm_grid(view, stage, attempt), sweeps.sweep_grid(view, stage, attempt)) if attempt else ()
        inside = [f"**Control.** {inline(control)}" if control else "", _grids(*both)]
        if any(inside):
            parts += [f"### {inline(stage.id)}", *(one for one in inside if one)]
    return "\n\n".join(parts)


def _passage(view: RunView) -> str:
    loops = [cycles.cycle_grid(loop) for loop in view.loops]
    return _grids(*loops, passage.not_promoted_grid(view), passage.skipped_grid(view))


def _samples(view: RunView) -> str:
    parts = []
    for stage in view.stages:
        written = next((attempt.samples for attempt in reversed(stage.attempts) if attempt.samples), ())
        for one in written[:4]:
            parts.append(
                f"{inline(f'{stage.id}, {wording.party(one.who)}, seed {one.seed}')}\n\n{fence(one.prompt + one.text)}"
            )
    return "\n\n".join(parts)


def _environment(view: RunView) -> str:
    warned = [f"**{inline(words)}**" for words in story.warnings(view)]
    known = [f"{inline(str(key))}: {inline(wording.said(value))}" for key, value in view.header.provenance.items()]
    return _bullets([*warned, *known])


def _commands(view: RunView) -> str:
    commit = view.header.provenance.get("commit")
    checkout = f"git checkout {commit}\n" if commit else ""
    return f"{checkout}{table.run_command(view)}\n# next\n{table.next_command(view).command}"
