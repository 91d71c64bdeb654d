"""Every plan ends: whatever is measured, the five plans take no more walks than `check` prints.

The real runner carries out the real plans; only what is measured is drawn. Values lie about every threshold, are
missing, or are not a number, so that gates pass and fail, rules apply and are used up, loops end early or run out.
"""

import functools
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from bloomery.plan import metrics
from bloomery.plan.cast import conditions_of, fixed_candidate
from bloomery.plan.check import largest_number_of_walks
from bloomery.plan.load import Loaded, load, load_text, resolve
from bloomery.plan.schema import Condition, StageSpec
from support.anything import Anything, every_stage, in_memory, walk

pytestmark = pytest.mark.slow

PLANS = Path(__file__).resolve().parents[1] / "plans"
FIRST = 30
matches = functools.cache(metrics.matches)
NAMES = ("agp", "felix", "harmonic", "holographic", "perspective")


def name_in(loaded: Loaded, metric: str) -> str:
    """As the kind of the suite, or of the stage, calls it."""
    name = metrics.base(metric)
    return name.split("/", 1)[1] if metrics.source(name) in loaded.plan.suites else name


class Drawn:
    """Values that would pass every gate of the plan, spoilt now and then: bad, absent, or not a number.

    How often is drawn for every stage of a run, most of all for those that have rules, so that rules are used and used
    up, and what comes after is reached. In some runs a stage shows the very symptom that one of its rules is for. A
    later stage is better than an earlier one, and everybody than his rivals.
    """

    def __init__(self, loaded: Loaded, seed: int) -> None:
        self._loaded, self._random = loaded, random.Random(seed)
        plan = resolve(loaded)
        self._stages = [stage.id for stage in plan.stages]
        self._judged = {stage.id: (fixed_candidate(stage) or "arm:").replace(":", "-") for stage in plan.stages}
        self._luck = {stage.id: self._draw_luck(0.5 if stage.on_fail else 0.07) for stage in plan.stages}
        self._symptoms = {stage.id: self._draw_symptom(stage) for stage in plan.stages}
        self._gates = [
            (name_in(loaded, one.metric), one.op, float(one.value), one.relative_to)
            for stage in every_stage(loaded.plan.stages)
            for one in conditions_of(stage.gate)
        ]

    def _draw_luck(self, trouble: float) -> float:
        return self._random.choice((0.5, 0.8, 0.95, 0.99)) if self._random.random() < trouble else 1.0

    def _draw_symptom(self, stage: StageSpec) -> Condition | None:
        """What a rule of the stage waits for: it would hardly be met by chance where a stage has many gates."""
        symptoms = [one for rule in stage.on_fail for one in conditions_of(rule.when) if one.relative_to is None]
        return self._random.choice([None, *symptoms])

    def __call__(self, name: str, where: str) -> float | None:
        stage, _, party = where.split("/")[1:4]
        symptom = self._symptoms[stage]
        if symptom and matches(name_in(self._loaded, symptom.metric), name) and self._random.random() < 0.7:
            return 2 * float(symptom.value) + 1 if ">" in symptom.op else float(symptom.value) / 2 - 1
        gates = [gate for gate in self._gates if matches(gate[0], name)]
        rivals = {(relative or "nobody").replace(":", "-").rstrip("*") for *_, relative in gates}
        rival = any(party.startswith(one) for one in rivals) and not party.startswith(self._judged[stage])
        value = self._good(gates, self._stages.index(stage), rival=rival)
        if self._random.random() < self._luck[stage]:
            return value
        spoilt = self._random.choice(("bad", "bad", "bad", "absent", "nan"))
        return {"bad": value * self._random.choice((-1, 0.001, 1000)), "absent": None, "nan": float("nan")}[spoilt]

    def _good(self, gates: list[tuple[str, str, float, str | None]], place: int, *, rival: bool) -> float:
        equal = [value for _, op, value, _ in gates if op == "=="]
        if equal:
            return equal[0]
        bounds = [value for _, _, value, relative in gates if relative is None]
        if any(">" in op for _, op, _, _ in gates):
            return 1.1 * max([*bounds, 0.1]) * 1.3**place * (0.1 if rival else 1)
        return 0.9 * min(bounds, default=1.0) * 0.7**place * (10 if rival else 1)


def sequences(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], Counter[str]]:
    """What happened in the first FIRST runs, and in all."""
    written = load(PLANS / f"{name}.yaml")
    loaded = load_text(json.dumps(in_memory(written.raw)), written.source)
    bound = largest_number_of_walks(loaded.plan.stages)
    assert bound == largest_number_of_walks(written.plan.stages)
    uses = {
        (stage.id, rule.name): rule.max_attempts
        for stage in resolve(loaded).stages
        for rule in stage.on_fail
        if rule.then is None
    }
    first: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in range(number):
        ran = walk(loaded, Anything(loaded, Drawn(loaded, seed)), monkeypatch)
        walks = [event["walk"] for event in ran.told("walk_started")]
        assert walks == list(range(1, len(walks) + 1))
        assert len(walks) <= bound
        assert ran.outcome.status in ("passed", "failed")
        used = Counter((event["stage"], event["rule"]) for event in ran.told("decision") if event["action"] == "retry")
        assert all(used[rule] <= uses[rule] for rule in used)
        assert len(walks) == 1 + sum(used.values())
        seen.update(event["status"] for event in ran.told("verdict"))
        seen.update(event["action"] for event in ran.told("decision"))
        seen[f"walks {len(walks)}"] += 1
        seen["reached the end"] += ran.told("decision")[-1]["action"] != "stop"
        first = seen.copy() if seed < FIRST else first
    return first, seen


@pytest.mark.parametrize("name", NAMES)
def test_five_hundred_random_runs_of_each_plan_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, seen = sequences(name, 500, monkeypatch)
    assert all(first[status] for status in ("pass", "fail", "missing"))  # else nothing was put to the test
    assert first["retry"]
    assert first["reached the end"]
    assert seen["retry"]
    assert seen["reached the end"]
