"""What a run showed, in sentences: the headline, and the predictions with the failed ones first.

It says *better* only where the judge's interval lies wholly on the better side. Where it includes equality the word is
*not worse*, whatever the mean. Without a control it says that nothing was compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.report import answers, cycles, looks, wording
from bloomery.report.facts import ConditionVerdict
from bloomery.report.view import Attempt, RunView, StageView

FINDINGS = {
    "better": "better than",
    "not worse": "not worse than",
    "worse": "worse than",
    "undecided": "shown neither better nor worse than",
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """A condition of a gate, judged in the stage's last attempt."""

    stage: StageView
    attempt: Attempt
    condition: ConditionVerdict


def predictions(view: RunView) -> tuple[Prediction, ...]:
    """Worst first; among equals what the run rests on before optional stages and cycles, each in the plan's order."""
    found = [
        Prediction(stage, stage.judged, condition)
        for stage in view.stages
        if stage.judged is not None and stage.judged.verdict is not None
        for condition in stage.judged.verdict.conditions
    ]
    return tuple(sorted(found, key=lambda one: (rank(one.condition.status), ends_nothing(one))))


def ends_nothing(one: Prediction) -> bool:
    """Whether its failing is foreseen: of an optional stage, or of a cycle of a loop."""
    return one.stage.optional or one.stage.cycle is not None or one.attempt.not_promoted


def rank(status: str) -> int:
    order = wording.WORST_FIRST
    return order.index(status) if status in order else 1


def finding(one: ConditionVerdict) -> str:
    """better, not worse, worse, undecided, or empty: the judge's word, or where an older log has none, its rule."""
    if one.comparison or one.relative_to is None or one.interval is None:
        return one.comparison
    equal = 0.0 if one.difference else 1.0
    lower_is_better = str(one.condition.get("op", "")).startswith("<")
    below, above = one.interval.high < equal, one.interval.low > equal
    if below or above:
        return "better" if below == lower_is_better else "worse"
    return "not worse" if one.status == "pass" else "undecided"


def headline(view: RunView) -> str:
    return {
        "passed": "Passed",
        "failed": "Failed",
        "budget": "Stopped by budget",
        "interrupted": "Interrupted",
    }.get(view.status, "Not finished")


def mode_words(view: RunView) -> str:
    """confirmatory or exploratory, and what that means here."""
    if view.header.mode == "confirmatory":
        return "confirmatory: the plan was registered before the first step"
    if view.header.mode == "exploratory":
        why = "; settings were overridden on the command line" if view.header.overrides else ""
        return f"exploratory: it suggests, it does not confirm{why}"
    return "not stated"


def summary(view: RunView) -> str:
    """A paragraph for people in a hurry; its first sentence is the verdict."""
    return " ".join((outcome(view), *failures(view), *context(view)))


def outcome(view: RunView) -> str:
    """One sentence: how many predictions held, or why nobody knows yet."""
    return _outcome(view, predictions(view))


def failures(view: RunView, most: int = 4) -> tuple[str, ...]:
    """A sentence for each prediction that did not hold."""
    failed = [one for one in predictions(view) if one.condition.status != "pass"]
    more = (f"{len(failed) - most} more did not pass.",) if len(failed) > most else ()
    return (*(_failure(one) for one in failed[:most]), *more)


def context(view: RunView) -> tuple[str, ...]:
    """What held against control and baselines, how often was looked, what was left behind, and what claims came to."""
    judged = predictions(view)
    held = [one for one in judged if one.condition.status == "pass"]
    own = [one for one in held if one.condition.of == "candidate"]
    parts = [_comparison(one) for one in own if one.condition.relative_to == "control"][:1]
    parts += [_rival(one) for one in own if (one.condition.relative_to or "").startswith("baseline:")][:2]
    if judged and not has_control(view):
        parts.append("No control was trained: nothing here says how a dense model would have done.")
    parts += [words] if (words := looks.looks_words(view)) else []
    parts += [f"The loop {loop.id} kept {cycles.kept_words(loop)}." for loop in view.loops if loop.end is not None]
    lost = [stage.id for stage in view.stages if stage.last and stage.last.not_promoted and stage.cycle is None]
    if lost:
        plural = "s" if len(lost) > 1 else ""
        parts.append(f"Not promoted: the optional stage{plural} {wording.listed(lost)}; what came in was handed on.")
    if words := answers.count_words(view):
        parts.append(f"Claims: {words}.")
    late = sum(one.after_results for one in view.amendments)
    if late:
        parts.append(
            f"The registration was amended {'once' if late == 1 else f'{late} times'} after results had been seen."
        )
    return tuple(parts)


def has_control(view: RunView) -> bool:
    return any("control" in attempt.whos() for stage in view.stages for attempt in stage.attempts)


def _outcome(view: RunView, judged: tuple[Prediction, ...]) -> str:
    kind = "registered" if view.registration is not None and view.header.mode == "confirmatory" else "planned"
    held = sum(one.condition.status == "pass" for one in judged)
    total = len(judged)
    if view.status == "unfinished":
        return f"The run is not finished; {_progress(view)} Nothing below is final."
    if view.status == "interrupted":
        return f"The run was interrupted; {_progress(view)} The same command goes on where it stopped."
    if view.status == "budget":
        why = f" ({view.reason})" if view.reason else ""
        return (
            f"The run reached its budget{why} and stopped at a checkpoint; {held} of {total} {kind} predictions held."
        )
    if not total:
        return f"The run ended as {wording.STATUS_WORDS.get(view.status, view.status)}; no gate was judged."
    if held == total:
        words = {1: "The one", 2: "Both"}.get(total, f"All {total}")
        return f"{words} {kind} prediction{'s' if total > 1 else ''} held."
    words = (
        f"{total - held} of {total} {kind} predictions did not hold"
        if total > 1
        else f"The {kind} prediction did not hold"
    )
    foreseen = sum(ends_nothing(one) for one in judged if one.condition.status != "pass")
    if foreseen:
        lost = total - held
        those = "one of them belongs" if foreseen == 1 else f"{foreseen} of them belong"
        if foreseen == lost:
            those = "it belongs" if lost == 1 else "both belong" if lost == 2 else "all of them belong"
        words += f"; {those} to optional stages or cycles of a loop, whose failing ends nothing"
    return f"{words}."


def _progress(view: RunView) -> str:
    running = [(stage, stage.last) for stage in view.stages if stage.last is not None]
    if not running:
        return "no stage has begun."
    stage, attempt = running[-1]
    done = sum(cell.state in ("finished", "reused") for cell in attempt.cells)
    return f"stage {stage.id}, attempt {attempt.number}, has {done} of {len(attempt.cells)} started cells done."


def _failure(one: Prediction) -> str:
    condition = one.condition
    verb = wording.STATUS_WORDS.get(condition.status, condition.status)
    was = "was " if condition.status in ("missing", "inconclusive") else ""
    text = f"At {one.stage.id}, {wording.asked(condition)} {was}{verb}"
    if condition.value is not None:
        text += f": it came out at {numbers(condition)}"
    word = finding(condition)
    if word:
        text += f", so {_subject(condition)} is {FINDINGS.get(word, word)} {wording.party(condition.relative_to)}"
    return text + "."


def candidate_words(attempt: Attempt) -> str:
    """`candidate`, or of a stage with arms `arm wide, best of 3 by val/loss`."""
    if not attempt.arms:
        return "candidate"
    if not attempt.candidate:
        return "an arm that is not chosen yet"
    best = f", best of {len(attempt.arms)} by {attempt.best.choice.metric}" if attempt.best is not None else ""
    return f"{wording.party(attempt.candidate)}{best}"


def _subject(one: ConditionVerdict) -> str:
    return "the candidate" if one.of == "candidate" else wording.party(one.of)


def _comparison(one: Prediction) -> str:
    condition, twin = one.condition, one.attempt.twin
    tokens = max((cell.tokens or 0 for cell in one.attempt.cells_of(one.attempt.candidate)), default=0)
    setting = [f"after {wording.count(tokens)} tokens"] if tokens else []
    match = {"stored": "stored parameters", "active": "active parameters", "flops": "FLOPs per token", "bytes": "bytes"}
    if twin is not None and twin.match in match:
        setting.append(f"at equal {match[twin.match]}")
    word = FINDINGS.get(finding(condition), "compared with")
    start = f"{wording.listed(setting)}, the candidate is" if setting else "the candidate is"
    text = f"{start[0].upper()}{start[1:]} {word} its control on {condition.metric}: {numbers(condition)}."
    if finding(condition) == "not worse":
        text += " The interval includes equality, so this does not show that it is better."
    return text


def _rival(one: Prediction) -> str:
    word = FINDINGS.get(finding(one.condition), "compared with")
    return f"The candidate is {word} the {wording.party(one.condition.relative_to)} ({pair(one.condition)})."


def pair(one: ConditionVerdict) -> str:
    """`3.7150 against 3.7400 nats per token`."""
    unit = wording.unit_of(one.metric)
    tail = f" {unit}" if unit and unit not in ("bytes", "seconds") else ""
    return f"{wording.amount(one.metric, one.candidate)} against {wording.amount(one.metric, one.reference)}{tail}"


def numbers(one: ConditionVerdict) -> str:
    """The judged value with everything needed to weigh it."""
    if one.relative_to is None:
        unit = wording.unit_of(one.metric)
        text = wording.condition_value(one) + (f" {unit}" if unit and unit not in ("bytes", "seconds") else "")
    else:
        kind = "difference" if one.difference else "ratio"
        both = f"{pair(one)}, " if one.candidate is not None and one.reference is not None else ""
        text = f"{both}{kind} {wording.condition_value(one)}"
    if one.interval is not None:
        text += f", {one.interval.level * 100:g} % interval {wording.fixed(one.interval.low, sign=one.difference)} to "
        text += wording.fixed(one.interval.high, sign=one.difference)
    if one.seeds:
        text += f", {len(one.seeds)} seed{'s' if len(one.seeds) > 1 else ''}"
    if one.n is not None and one.n > 1:
        text += f", n = {one.n:,}"
    return text
