"""The plan's claims as cards, refuted ones first: answer, statement, what was found, and what would decide it."""

from __future__ import annotations

from bloomery.report import answers, plots, summary
from bloomery.report.facts import Claimed, ConditionVerdict
from bloomery.report.markup import Markup, join, tag
from bloomery.report.view import RunView


def claims(view: RunView) -> Markup | None:
    several = answers.in_order(view)
    if not several:
        return None
    cards = [_card(claim, f"claim{place}") for place, claim in enumerate(several)]
    note = f"{answers.count_words(view)}. What was refuted comes first. A claim decides nothing in the plan."
    return join(tag("p", note[0].upper() + note[1:], class_="eyebrow"), cards)


def _card(claim: Claimed, name: str) -> Markup:
    tone = answers.TONES.get(claim.status, "inconclusive")
    badges = [tag("span", f"{answers.SIGNS.get(claim.status, '≈')} {claim.status}", class_=f"badge tone-{tone}")]
    badges += [tag("span", f"ledger row {row}", class_="badge tone-") for row in claim.rows]
    judged = answers.conditions(claim)
    plot = plots.strip(judged[0], name) if len(judged) == 1 else None
    needs = answers.need_words(claim)
    text = tag(
        "div",
        tag("div", badges, class_="badges"),
        tag("h3", f"{claim.id}: {claim.says}"),
        [tag("p", _found(claim, one)) for one in judged],
        [tag("p", f"Only valid if {_found(claim, one)}", class_="eyebrow") for one in answers.validity(claim)],
        tag("p", f"Undecided because: {claim.reason}.", class_="eyebrow") if claim.reason else None,
        tag("p", f"To decide it takes {needs}.") if needs else None,
        tag("p", f"Source: {claim.source}.", class_="eyebrow") if claim.source else None,
    )
    figure = tag("figure", plot.svg, tag("figcaption", plot.caption)) if plot else None
    return tag("section", text, figure, class_=f"card tone-{tone}{' two' if figure else ''}")


def _found(claim: Claimed, one: ConditionVerdict) -> str:
    found = f"found {summary.numbers(one)}" if one.value is not None else "nothing was measured"
    return f"{answers.asked_words(claim, one)}: {found}."
