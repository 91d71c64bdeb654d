"""The middle of the page: how the gates were reached, the curves, the held-out results, size, compute and budget."""

from __future__ import annotations

from bloomery.measure import Tally
from bloomery.plan.cast import CONTROL
from bloomery.report import accounting, curve_plots, plots, story, table, wording
from bloomery.report import markup as html
from bloomery.report.drawing import Plot
from bloomery.report.finals import all_finals
from bloomery.report.markup import Markup, join, tag
from bloomery.report.sections.verdict import amendment
from bloomery.report.spending import Spending, by_party, spending
from bloomery.report.view import Attempt, RunView

MOST_CHAPTERS = 30
"""A longer story is folded."""


def figure(plot: Plot | None, *, alone: bool = False) -> Markup:
    """Empty without a plot."""
    if plot is None:
        return Markup()
    return tag("figure", plot.svg, tag("figcaption", plot.caption), class_="one" if alone else None)


def gates(view: RunView) -> Markup:
    chapters = [
        tag("li", tag("time", one.elapsed),
            tag("div", tag("strong", one.title), tag("span", one.detail) if one.detail else None),
            class_=f"tone-{one.tone}")
        for one in story.story(view)
    ]  # fmt: skip
    rows = table.closing_rows(view)
    told = tag("ol", chapters, class_="story")
    return join(
        html.table(
            "Every gate of every attempt, in the order of the plan",
            table.HEADER,
            [row.cells() for row in rows],
            classes="wide",
            row_classes=[f"status-{row.status}" for row in rows],
        )
        if rows
        else None,
        figure(plots.what_ran_when(view, "when"), alone=True),
        told if len(chapters) <= MOST_CHAPTERS
        else tag("details", tag("summary", f"What happened, step by step ({len(chapters)} steps)"), told),
    )  # fmt: skip


def learning(view: RunView) -> Markup | None:
    parts: list[Markup] = []
    for position, stage in enumerate(view.stages):
        drawn = [(attempt, _curves(attempt, f"s{position}a{attempt.number}")) for attempt in stage.attempts]
        drawn = [(attempt, figures) for attempt, figures in drawn if figures]
        for place, (attempt, figures) in enumerate(reversed(drawn)):
            many = len(stage.attempts) > 1
            title = f"{stage.id}{f', attempt {attempt.number} of {len(stage.attempts)}' if many else ''}"
            block = join(tag("h3", title), tag("div", figures, class_="figures"))
            later = stage.cycle is not None and stage.cycle.number > 1
            told = f"Earlier: {title}" if place else title
            parts.append(tag("details", tag("summary", told), block) if place or later else block)
            extra = None if place or later else curve_plots.diagnostics(attempt, f"d{position}a{attempt.number}")
            if extra is not None:
                parts.append(
                    tag(
                        "details", tag("summary", "Learning rate, gradient norm, throughput"), figure(extra, alone=True)
                    )
                )
    return join(parts) if parts else None


def _curves(attempt: Attempt, name: str) -> list[Markup]:
    """Losses of everyone, and the candidate against the control and the arms that the gate compares it with."""
    judged = attempt.verdict.conditions if attempt.verdict is not None else ()
    against = [CONTROL, *(who for who in attempt.arms if any(one.relative_to == who for one in judged))]
    found = [curve_plots.loss_curves(attempt, f"{name}loss")]
    found += [
        curve_plots.paired_difference(attempt, f"{name}gap{place or ''}", other) for place, other in enumerate(against)
    ]
    return [one for one in map(figure, found) if one]


def results(view: RunView) -> Markup | None:
    """What was measured, by party: means over seeds, with every seed's own value below."""
    parts: list[Markup] = []
    for stage in view.stages:
        attempt = stage.shown
        if attempt is None:
            continue
        finals = all_finals(attempt)
        whos = [who for who in attempt.whos() if any(one[1] == who for one in finals)]
        rows = []
        for metric in dict.fromkeys(one[0] for one in finals):
            unit = wording.unit_of(metric)
            name = f"{metric}, {unit}" if unit and unit not in ("bytes", "seconds") else metric
            rows.append([name, *(_seeds(attempt, metric, who) for who in whos)])
        if rows:
            heading = f"{stage.id}, attempt {attempt.number}: final values; mean over seeds, then seed by seed"
            parts.append(html.table(heading, ["metric", *map(wording.party, whos)], rows, classes="numbers"))
    return join(parts) if parts else None


def _seeds(attempt: Attempt, metric: str, who: str) -> str:
    found = attempt.final(metric, who)
    values = [one.value for _, one in sorted(found.items(), key=lambda pair: -1 if pair[0] is None else pair[0])]
    if not values:
        return wording.NOTHING
    mean = wording.amount(metric, sum(values) / len(values))
    if len(values) == 1:
        return mean
    return join(mean, tag("br"), tag("small", " / ".join(wording.amount(metric, value) for value in values)))


def size(view: RunView) -> Markup | None:
    counted = accounting.account(view)
    if counted is None:
        return None
    parties: dict[str, Tally] = {"candidate": counted.candidate}
    if counted.control is not None:
        parties["control"] = counted.control
    return join(
        tag("ul", [tag("li", line) for line in counted.lines()], class_="lines"),
        tag("div", [figure(plots.stored_bars(parties, quantity, quantity)) for quantity in ("stored", "bytes")],
            class_="figures"),
        _groups(parties),
    )  # fmt: skip


def _groups(parties: dict[str, Tally]) -> Markup:
    """Counted, by group; the dense equivalent in a column of its own, as it is a claim."""
    groups = list(dict.fromkeys(group for tally in parties.values() for group in tally.groups))
    header = ["group"]
    for who in parties:
        header += [f"{who}, stored", "active", "bits each", "bytes", "FLOPs per token"]
    claim = parties["candidate"].dense_equivalent
    header += ["dense equivalent (claim)"] if claim else []
    rows: list[list[str]] = []
    for group in groups:
        row = [group.replace("_", " ")]
        for tally in parties.values():
            found = tally.groups.get(group)
            row += (
                [
                    f"{found.stored:,}",
                    f"{found.active:,}",
                    f"{found.bits:.3g}",
                    wording.size(found.bytes),
                    wording.count(found.flops_per_token),
                ]
                if found
                else [wording.NOTHING] * 5
            )
        rows.append(row + ([""] if claim else []))
    row = ["total"]
    for tally in parties.values():
        bits = tally.bytes * 8 / tally.stored if tally.stored else 0.0
        row += [
            f"{tally.stored:,}",
            f"{tally.total('active'):,.0f}",
            f"{bits:.3g}",
            wording.size(tally.bytes),
            wording.count(tally.flops_per_token),
        ]
    rows.append(row + ([f"{claim:,}"] if claim else []))
    return html.table(
        "Parameters by group, as counted in the modules; FLOPs are forward, a multiply-add being two",
        header,
        rows,
        classes="numbers wide",
        row_classes=[""] * len(groups) + ["total"],
    )


def budget(view: RunView) -> Markup | None:
    rows = [[one.name, one.planned, one.spent, one.cap, _meter(one)] for one in spending(view)]
    if not rows:
        return None
    caption = "Planned for the first walk, and spent in all; control, baselines and trials of sweeps included"
    spread = by_party(view)
    return join(
        html.table(caption, ["", "planned", "spent", "cap", "used"], rows, classes="nowrap"),
        html.table(spread.caption, spread.header, spread.rows, classes="amounts") if spread is not None else None,
        [amendment(one) for one in view.touching("budget")],
    )


def _meter(one: Spending) -> str:
    """Only a cap can be exceeded; a plan is an estimate."""
    if one.share is None:
        return wording.NOTHING
    bar = tag("span", style=f"width: {min(one.share, 1) * 100:.1f}%")
    kind = "of-plan" if not one.capped else "over" if one.share > 1 else "of-cap"
    share = f"{one.share * 100:.0f} % of" if one.share < 10 else f"{wording.times(one.share)}"
    words = f"{share} the {'cap' if one.capped else 'plan'}"
    return join(words, tag("span", bar, class_=f"meter {kind}"))
