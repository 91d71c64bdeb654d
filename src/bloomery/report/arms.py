"""The arms of a stage side by side: what each changes, costs and reached, which one is judged, and why that one.

The best of several is flattered on the metric it was chosen by, and the table says so. An arm that failed stays in it,
with the reason; what was not measured is not filled in.
"""

from __future__ import annotations

from bloomery.plan.cast import CONTROL, set_by
from bloomery.report import wording
from bloomery.report.facts import ConditionVerdict
from bloomery.report.finals import final_words, main_metrics
from bloomery.report.grid import Grid
from bloomery.report.view import Attempt, RunView, StageView
from bloomery.report.wording import NOTHING


def arm_grid(view: RunView, stage: StageView, attempt: Attempt) -> Grid | None:
    """None for a stage without arms. The control, where there is one, is the last row."""
    if not attempt.arms:
        return None
    metrics, chosen_by = main_metrics(view, attempt), attempt.best.choice.metric if attempt.best is not None else ""
    whos = [*attempt.arms, *([CONTROL] if attempt.cells_of(CONTROL) else [])]
    header = ("arm", "outcome", "what is different", "stored", "tokens",
              *([f"{chosen_by} (chosen by)"] if chosen_by else []), *metrics, "in the gate")  # fmt: skip
    rows = tuple(_row(stage, attempt, who, metrics) for who in whos)
    measured = "mean over seeds" if metrics or chosen_by else ""
    hull = "in brackets the seeds' 95 % intervals taken together, or without intervals the range over seeds"
    caption = f"Arms of {stage.id}, attempt {attempt.number}: " + "; ".join(part for part in (measured, hull) if part)
    tones = tuple(_tone(attempt, who) for who in whos)
    return Grid(stage.id, caption, header, rows, tones, _remarks(stage, attempt))


def _row(stage: StageView, attempt: Attempt, who: str, metrics: tuple[str, ...]) -> tuple[str, ...]:
    tally = attempt.tally_of(who)
    tokens = [cell.tokens for cell in attempt.cells_of(who) if cell.tokens]
    chosen = (_chosen_by(attempt, who),) if attempt.best is not None else ()
    return (
        wording.party(who),
        outcome(attempt, who),
        different(stage, attempt, who) or NOTHING,
        wording.count(tally.stored) if tally is not None else NOTHING,
        wording.count(sum(tokens) / len(tokens)) if tokens else NOTHING,
        *chosen,
        *(final_words(attempt, metric, who) for metric in metrics),
        "\n".join(compared(one) for one in conditions_about(attempt, who)) or NOTHING,
    )


def different(stage: StageView, attempt: Attempt, who: str) -> str:
    """`gain: 2; steps: 4 (swept)`; of the twin nothing, its settings are solved."""
    parts: list[str] = []
    if stage.spec is not None:
        parts += [f"{path}: {wording.said(value)}" for path, value in set_by(stage.spec, who).items()]
        variant = stage.spec.control if who == CONTROL else stage.spec.arms.get(who.partition(":")[2])
        needs = variant.needs if variant is not None else {}
        parts += [f"{name} from {reference}" for name, reference in needs.items()]
    sweep = attempt.sweep_of(who)
    if sweep is not None and sweep.chosen is not None:
        parts += [f"{path}: {wording.said(value)} (swept)" for path, value in sweep.chosen.items()]
    return "; ".join(parts)


def _chosen_by(attempt: Attempt, who: str) -> str:
    best = attempt.best
    if best is None or who not in best.arms:
        return NOTHING
    position = best.arms.index(who)
    value = best.choice.values[position] if position < len(best.choice.values) else None
    return wording.amount(best.choice.metric, value) + (" ✓" if position == best.choice.index else "")


def conditions_about(attempt: Attempt, who: str) -> tuple[ConditionVerdict, ...]:
    """What the gate asks in which this party is named; of the candidate what is not said with another arm."""
    judged = attempt.verdict.conditions if attempt.verdict is not None else ()
    if who == attempt.candidate:
        return tuple(one for one in judged if one.of in ("candidate", who) and one.relative_to not in attempt.arms)
    return tuple(one for one in judged if who in (one.of, one.relative_to))


def compared(one: ConditionVerdict) -> str:
    status = wording.STATUS_WORDS.get(one.status, one.status)
    found = "" if one.value is None else f" ({wording.condition_value(one)})"
    word = f", {one.comparison}" if one.comparison else ""
    return f"{wording.asked(one)}{found}: {status}{word}"


def outcome(attempt: Attempt, who: str) -> str:
    """`candidate`, `failed`, `finished`, `running`, `not begun`."""
    if failure(attempt, who) is not None:
        return "failed"
    states = [cell.state for cell in attempt.cells_of(who)]
    state = "not begun" if not states and not attempt.trials_of(who) else "running"
    if states and all(one in ("finished", "reused") for one in states):
        state = "finished"
    return "candidate" if who == attempt.candidate and state == "finished" else state


def failure(attempt: Attempt, who: str) -> str | None:
    """Why a party has no result; None where it has not failed. A sweep in which every point failed is a failure."""
    failed = next((cell for cell in attempt.cells_of(who) if cell.state == "failed"), None)
    if failed is not None:
        return failed.error
    sweep = attempt.sweep_of(who)
    if sweep is None or sweep.chosen is not None:
        return None
    why = next((cell.error for cell in attempt.trials_of(who) if cell.error), "")
    return f"no point of its sweep gave {sweep.choice.metric}{f', as {why}' if why else ''}"


def _tone(attempt: Attempt, who: str) -> str:
    if failure(attempt, who) is not None:
        return "fail"
    return "notable" if who == attempt.candidate else ""


def _remarks(stage: StageView, attempt: Attempt) -> tuple[str, ...]:
    out: list[str] = []
    if attempt.best is not None and attempt.best.choice.index is not None:
        out += best_words(attempt)
    elif not attempt.candidate:
        out.append("The candidate is not chosen yet.")
    else:
        out.append(f"The candidate, {wording.party(attempt.candidate)}, is the one that the plan named beforehand.")
    for who in attempt.arms:
        if (why := failure(attempt, who)) is not None:
            name = wording.party(who)
            out.append(f"{name[0].upper()}{name[1:]} did not get to the end: {why}. Comparisons with it are missing.")
    return tuple(out)


def best_words(attempt: Attempt) -> list[str]:
    """How the best was chosen, and what that does to its numbers."""
    best = attempt.best
    assert best is not None
    choice, eligible = best.choice, sum(value is not None for value in best.choice.values)
    shown = wording.amount(choice.metric, choice.values[choice.index] if choice.index is not None else None)
    seeds = len({cell.seed for cell in attempt.cells_of(attempt.candidate)})
    out_of = f"{eligible} arms" if eligible == len(best.arms) else f"the {eligible} of {len(best.arms)} arms that ended"
    out = [
        f"{wording.party(attempt.candidate)[0].upper()}{wording.party(attempt.candidate)[1:]} is the best of {out_of} "
        f"by {choice.metric} ({choice.better} is better; mean over {wording.several(seeds, 'seed')}), which the stage "
        "measures itself."
    ]
    if eligible > 1:
        out.append(
            f"The best of {eligible} is flattered on the metric it was chosen by: read its {shown} as an optimistic "
            "value. The suites were not asked for the choice."
        )
    judged = attempt.verdict.conditions if attempt.verdict is not None else ()
    if any(one.metric == choice.metric for one in judged):
        out.append(f"The gate asks for {choice.metric} too, by which the candidate was chosen: that part is biased.")
    return out
