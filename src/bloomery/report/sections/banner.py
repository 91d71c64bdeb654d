"""The top of the page: the verdict in a sentence, and the handful of numbers that people quote."""

from __future__ import annotations

from bloomery.report import accounting, answers, summary, wording
from bloomery.report.markup import Markup, join, tag
from bloomery.report.view import RunView

RUN_TONES = {"passed": "pass", "failed": "fail"}
SIGNS = {"passed": "✓ ", "failed": "✗ "}


def banner(view: RunView) -> Markup:
    """Verdict, summary, and the handful of numbers that people quote."""
    tone = RUN_TONES.get(view.status, "notable")
    badges = [
        tag(
            "span",
            view.header.mode.capitalize() or "Mode not stated",
            class_="badge tone-",
            title=summary.mode_words(view),
        )
    ]
    if any(one.after_results for one in view.amendments):
        badges.append(tag("span", "Amended after results were seen", class_="badge tone-notable"))
    elif view.amendments:
        badges.append(tag("span", "Amended before any result", class_="badge tone-"))
    retries = sum(len(stage.attempts) - 1 for stage in view.stages if stage.attempts)
    if retries:
        badges.append(tag("span", f"{retries} {'retry' if retries == 1 else 'retries'}", class_="badge tone-notable"))
    counts = answers.count_words(view)
    if counts and any(one.status != "untested" for one in view.claims):
        worst = answers.in_order(view)[0].status
        badges.append(tag("span", f"Claims: {counts}", class_=f"badge tone-{answers.TONES.get(worst, '')}"))
    again = sum(len(stage.looks) - 1 for stage in view.stages if stage.looks)
    if again:
        further = wording.several(again, "further look")
        badges.append(tag("span", f"{further} at held-out data", class_="badge tone-notable"))
    asked = view.registration.hypothesis if view.registration is not None else ""
    return tag(
        "header",
        tag(
            "p",
            f"Bloomery run report · {view.header.run or view.folder.name} · {wording.moment(view.updated)} UTC",
            class_="eyebrow",
        ),
        tag("h1", SIGNS.get(view.status, ""), summary.headline(view)),
        tag("p", f"Hypothesis: {asked}", class_="asked") if asked else None,
        _lead(view),
        tag("div", badges, class_="badges"),
        tag("dl", [_tile(*one) for one in tiles(view)], class_="tiles"),
        class_=f"banner tone-{tone}",
    )


def _lead(view: RunView) -> Markup:
    failed, context = summary.failures(view), " ".join(summary.context(view))
    if not failed:
        return tag("p", f"{summary.outcome(view)} {context}", class_="lead")
    return join(
        tag("p", summary.outcome(view), class_="lead"),
        tag("ul", [tag("li", one) for one in failed], class_="lines"),
        tag("p", context) if context else None,
    )


def _tile(term: str, number: str, of: str) -> Markup:
    return tag("div", tag("dt", term), tag("dd", tag("span", number, class_="figure"), tag("span", of, class_="of")))


def tiles(view: RunView) -> list[tuple[str, str, str]]:
    """(what, number, next to what)."""
    out: list[tuple[str, str, str]] = []
    stage = view.main_stage
    attempt = stage and (stage.shown)
    if attempt is not None:
        against = [
            p.condition
            for p in summary.predictions(view)
            if p.condition.relative_to == "control" and p.attempt is attempt
        ]
        for one in against[:1]:
            if one.candidate is not None:
                unit = wording.unit_of(one.metric)
                who = summary.candidate_words(attempt)
                out.append(
                    (f"{one.metric}, {who}", wording.amount(one.metric, one.candidate),
                     f"control {wording.amount(one.metric, one.reference)}{', ' + unit if unit else ''}")
                )  # fmt: skip
            kind = "Difference from control" if one.difference else "Ratio to control"
            sure = (
                f"{one.interval.level * 100:g} % interval {wording.fixed(one.interval.low, sign=one.difference)} to "
                + (wording.fixed(one.interval.high, sign=one.difference))
                if one.interval
                else "no interval"
            )
            out.append((kind, wording.condition_value(one), sure))
        for metric in dict.fromkeys(m.name for m in attempt.measurements if m.name.endswith("/bits_per_byte")):
            means = {
                who: _mean([m.value for m in attempt.final(metric, who).values()])
                for who in (attempt.candidate, "control")
            }
            if means[attempt.candidate] is not None:
                beside = (
                    f"control {wording.fixed(means['control'], 3)}" if means["control"] is not None else "held-out text"
                )
                out.append(("Bits per byte", wording.fixed(means[attempt.candidate], 3), beside))
                break
    counted = accounting.account(view)
    if counted is not None:
        beside = counted.compression_words()
        if not beside and counted.control is not None:
            beside = f"control {wording.count(counted.control.stored)}"
        out.append(("Stored parameters", wording.count(counted.candidate.stored), beside))
        compute = counted.flops_ratio or counted.flops_per_token_ratio
        if compute is not None:
            seconds = f"{wording.times(counted.seconds_ratio)} its time here" if counted.seconds_ratio else "per token"
            out.append(("Compute against control", wording.times(compute), seconds))
    elif view.spent.get("seconds") is not None:
        out.append(("Time spent", wording.duration(float(view.spent["seconds"])), ""))
    return out


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
