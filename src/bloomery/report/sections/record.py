"""The last part of the page: samples, environment, receipts, the whole log, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from bloomery.report import markup as html
from bloomery.report import story, table, wording
from bloomery.report.evaluations import evaluation_grid
from bloomery.report.facts import Cell, Sample
from bloomery.report.markup import Markup, facts, join, tag
from bloomery.report.sections.choices import table as table_of
from bloomery.report.view import RunView, StageView

MOST_EVENTS = 400
MOST_SAMPLES = 24


def exploratory(view: RunView) -> Markup | None:
    """What was judged after the run, if anything."""
    grid = evaluation_grid(view)
    return None if grid is None else table_of(grid, "wide")


def samples(view: RunView) -> Markup | None:
    """Of the last attempt that wrote any, prompt by prompt, everyone side by side."""
    parts: list[Markup] = []
    for stage in view.stages:
        written = next((attempt.samples for attempt in reversed(stage.attempts) if attempt.samples), ())
        by_prompt: dict[str, list[Sample]] = {}
        for one in written[:MOST_SAMPLES]:
            by_prompt.setdefault(one.prompt, []).append(one)
        for position, group in enumerate(by_prompt.values(), start=1):
            parts.append(tag("h3", f"{stage.id}, prompt {position}"))
            parts.append(tag("div", [_sample(one) for one in group], class_="samples"))
    if not parts:
        return None
    return join(
        tag("p", "The prompt is bold; the rest was written by the model. Not selected.", class_="eyebrow"), parts
    )


def _sample(one: Sample) -> Markup:
    seed = "" if one.seed is None else f", seed {one.seed}"
    return tag(
        "div",
        tag("p", f"{wording.party(one.who)}{seed}"),
        tag("pre", tag("span", one.prompt, class_="prompt"), one.text),
    )


def environment(view: RunView) -> Markup:
    pairs = [
        (str(key), " ".join(map(str, value)) if key == "argv" and isinstance(value, list) else wording.said(value))
        for key, value in view.header.provenance.items()
        if value not in (None, "")
    ]
    data = [(f"data {key}", _amount(key, value)) for key, value in view.data.items()]
    known = facts([*pairs, *data]) if pairs or data else tag("p", "Nothing was recorded about the machine.")
    return join([tag("p", words, class_="amendment") for words in story.warnings(view)], known)


def _amount(key: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return wording.size(value) if key == "bytes" else f"{value:,}"
    return wording.said(value)


def receipts(view: RunView) -> Markup | None:
    """Hashes of what was trained: a run that is done again, or resumed, must give the same ones."""
    rows = [
        [f"{stage.id} {attempt.number}", wording.party(cell.who),
         wording.NOTHING if cell.seed is None else str(cell.seed), _state(stage, cell),
         wording.count(cell.tokens), wording.duration(cell.seconds), wording.count(cell.flops),
         join([tag("div", f"{name} ", tag("code", wording.short(str(value)))) for name, value in cell.hashes.items()])]
        for stage in view.stages
        for attempt in stage.attempts
        for cell in (*attempt.cells, *attempt.trials)
    ]  # fmt: skip
    if not rows:
        return None
    trials = any(attempt.trials for stage in view.stages for attempt in stage.attempts)
    header = ["stage and attempt", "who", "seed", "state", "tokens", "time", "FLOPs", "sha256"]
    caption = "Cells: every seed of everyone who was trained or fitted"
    caption += ", trials of sweeps included" if trials else ""
    return html.table(caption, header, rows, classes="nowrap")


def _state(stage: StageView, cell: Cell) -> str:
    """`finished`, `failed`, or where a reused one was taken from: `trial 2 of its sweep`, `attempt 1`."""
    if cell.state != "reused" or cell.source is None:
        return cell.state
    name, attempt, who, _ = cell.source
    if "~" in who:
        return f"trial {int(who.partition('~')[2]) + 1} of its sweep"
    return f"as in attempt {attempt}" if name == stage.id else f"as in {name}, attempt {attempt}"


def log(view: RunView) -> Markup:
    rows = [
        [story.elapsed(view, note.time), note.event, _shortened(note.facts)] for note in view.timeline[-MOST_EVENTS:]
    ]
    left_out = len(view.timeline) - len(rows)
    more = f", the last {len(rows)}; the first {left_out} stand in events.jsonl" if left_out > 0 else ""
    title = f"Every event but points, measurements and samples ({len(view.timeline)})"
    return tag("details", tag("summary", title), html.table(f"Events{more}", ["time", "event", "facts"], rows))


def _shortened(values: Mapping[str, Any], most: int = 280) -> str:
    kept = {
        key: value
        for key, value in values.items()
        if key not in ("plan_text", "conditions", "tally", "canonical", "provenance", "verdict", "valid")
        and not (key in ("candidate", "control") and isinstance(value, Mapping))
    }
    text = wording.said(kept)
    return text if len(text) <= most else text[: most - 1] + "…"


def reproduce(view: RunView) -> Markup:
    commit = str(view.header.provenance.get("commit") or "")
    lines = [f"git checkout {commit}"] if commit else []
    lines += ["pip install -c constraints.txt -e .", table.run_command(view)]
    trained = [
        stage.id for stage in view.stages if any(cell.points for attempt in stage.attempts for cell in attempt.cells)
    ]
    lines += (
        [f"bloomery verify-resume {shlex.quote(table.plan_reference(view))} --stage {trained[0]}"] if trained else []
    )
    after = table.next_command(view)
    dirty = view.header.provenance.get("dirty")
    return join(
        tag("pre", "\n".join(lines)),
        tag("p", "The working tree had changes that this commit does not hold.", class_="amendment") if dirty else None,
        tag("p", "Next: ", tag("code", after.command), f" {after.why}."),
        tag(
            "details",
            tag("summary", f"The plan as it was run (digest {wording.short(view.header.digest)})"),
            tag("pre", view.header.plan_text),
        )
        if view.header.plan_text
        else None,
    )
