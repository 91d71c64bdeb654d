"""After the banner: the predictions, failed ones first, each with its drawing; and what was promised."""

from __future__ import annotations

from bloomery.report import looks, plots, summary, wording
from bloomery.report.facts import Amendment
from bloomery.report.markup import Markup, facts, join, tag
from bloomery.report.summary import Prediction
from bloomery.report.view import RunView


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
    if look := looks.look_words(one.stage, one.attempt):
        badges.append(tag("span", look, class_="badge tone-notable"))
    if one.stage.cycle is not None:
        undone = ", undone" if one.attempt.not_promoted else ""
        cycle = f"cycle {one.stage.cycle.number} of {one.stage.cycle.loop}{undone}"
        badges.append(tag("span", cycle, class_="badge tone-"))
    elif one.attempt.not_promoted:
        badges.append(tag("span", "optional stage, not promoted", class_="badge tone-notable"))
    if condition.alternative is not None:
        badges.append(tag("span", "one of several, not all need to hold", class_="badge tone-"))
    plot = plots.strip(condition, name)
    judged, stopped = summary.candidate_words(one.attempt), one.attempt.verdict.reason if one.attempt.verdict else ""
    who = f"Judged is {judged}. " if one.attempt.arms and condition.of == "candidate" else ""
    found = (
        f"{who}Found: {summary.numbers(condition)}."
        if condition.value is not None
        else "No value was measured; a gate fails closed."
    )
    text = tag(
        "div",
        tag("div", badges, class_="badges"),
        tag("h3", f"{one.stage.id}: {wording.asked(condition)}"),
        tag("p", found),
        tag("p", condition.note, class_="eyebrow") if condition.note else None,
        tag("p", stopped, class_="eyebrow") if stopped else None,
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
