"""The first part of the page: the verdict in a sentence, the predictions, failed ones first, and what was promised."""

from __future__ import annotations

from bloomery.report import accounting, plots, summary, wording
from bloomery.report.markup import Markup, facts, join, tag
from bloomery.report.summary import Prediction
from bloomery.report.view import Amendment, RunView

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
    attempt = stage and (stage.judged or stage.last)
    if attempt is not None:
        against = [
            p.condition
            for p in summary.predictions(view)
            if p.condition.relative_to == "control" and p.attempt is attempt
        ]
        for one in against[:1]:
            if one.candidate is not None:
                unit = wording.unit_of(one.metric)
                out.append(
                    (f"{one.metric}, candidate", wording.amount(one.metric, one.candidate),
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
                who: _mean([m.value for m in attempt.final(metric, who).values()]) for who in ("candidate", "control")
            }
            if means["candidate"] is not None:
                beside = (
                    f"control {wording.fixed(means['control'], 3)}" if means["control"] is not None else "held-out text"
                )
                out.append(("Bits per byte", wording.fixed(means["candidate"], 3), beside))
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


def predictions(view: RunView) -> Markup | None:
    judged = summary.predictions(view)
    if not judged:
        return (
            tag("p", "No gate has been judged yet.")
            if not view.finished
            else tag("p", "The plan has no gates: nothing was predicted.")
        )
    cards = [_card(view, one, f"strip{position}") for position, one in enumerate(judged)]
    note = None
    if any(one.condition.status != "pass" for one in judged) and any(one.condition.status == "pass" for one in judged):
        note = tag("p", "What did not hold comes first.", class_="eyebrow")
    return join(note, cards)


def _card(view: RunView, one: Prediction, name: str) -> Markup:
    condition = one.condition
    status = condition.status
    badge = f"{wording.STATUS_SIGNS.get(status, '')} {wording.STATUS_WORDS.get(status, status)}".strip()
    word = summary.finding(condition)
    badges = [tag("span", badge, class_=f"badge tone-{status}")]
    if word:
        badges.append(
            tag(
                "span",
                f"{summary.FINDINGS.get(word, word)} {wording.party(condition.relative_to)}",
                class_="badge tone-",
            )
        )
    if len(one.stage.attempts) > 1:
        badges.append(
            tag("span", f"look {one.attempt.number} of {len(one.stage.attempts)}", class_="badge tone-notable")
        )
    if one.attempt.not_promoted:
        badges.append(tag("span", "optional stage, not promoted", class_="badge tone-notable"))
    if condition.alternative is not None:
        badges.append(tag("span", "one of several, not all need to hold", class_="badge tone-"))
    plot = plots.strip(condition, name)
    found = (
        f"Found: {summary.numbers(condition)}."
        if condition.value is not None
        else "No value was measured; a gate fails closed."
    )
    text = tag(
        "div",
        tag("div", badges, class_="badges"),
        tag("h3", f"{one.stage.id}: {wording.asked(condition)}"),
        tag("p", found),
        tag("p", condition.note, class_="eyebrow") if condition.note else None,
        [amendment(change) for change in view.touching(f"stages.{one.stage.id}")],
    )
    figure = tag("figure", plot.svg, tag("figcaption", plot.caption)) if plot else None
    return tag("section", text, figure, class_=f"card tone-{status}{' two' if figure else ''}")


def amendment(change: Amendment) -> Markup:
    when = "after results had been seen" if change.after_results else "before any result"
    return tag(
        "p",
        tag("strong", f"Amended {when}"),
        f" ({wording.moment(change.time)}; {', '.join(change.changed) or 'no key named'}): {change.why}",
        class_="amendment",
    )


def promise(view: RunView) -> Markup:
    """Hypothesis, variable, what was registered when, and what was changed afterwards."""
    registered = view.registration
    parts: list[Markup] = []
    if registered is not None and registered.hypothesis:
        parts.append(tag("p", registered.hypothesis, class_="hypothesis"))
        parts += [amendment(one) for one in view.touching("hypothesis")]
    pairs: list[tuple[str, str]] = []
    if registered is not None:
        for term, value in (
            ("Varied", registered.variable),
            ("Control", registered.control),
            ("Prediction", registered.prediction),
            ("Counts as failed", registered.fail_conditions),
        ):
            if value:
                pairs.append((term, _lines(value)))
        commit = f", commit {wording.short(registered.commit)}" if registered.commit else ", no commit recorded"
        pairs.append(("Registered", f"{wording.moment(registered.time)} UTC{commit}"))
        pairs.append(("Digest", tag("code", registered.digest)))
    else:
        pairs.append(("Registered", "no: nothing was written down before the first step"))
    pairs.append(("Mode", summary.mode_words(view)))
    for path, value in view.header.overrides.items():
        pairs.append(("Overridden", tag("code", f"{path}={wording.said(value)}")))
    parts.append(facts(pairs))
    if view.amendments:
        parts.append(tag("h3", "Amendments"))
        for one in view.amendments:
            parts.append(amendment(one))
            parts.append(
                tag(
                    "p",
                    "digest ",
                    tag("code", wording.short(one.before)),
                    " became ",
                    tag("code", wording.short(one.after)),
                    class_="eyebrow",
                )
            )
    return join(parts)


def _lines(value: object) -> str:
    if isinstance(value, list | tuple):
        return join([tag("div", wording.said(one)) for one in value])
    return wording.said(value)
