"""What a row of the ledger says that it is tested by is there: plans, their parts and metrics, verbs and files.

Names stand in backticks. `SYSTEM/PLAN`, `bloomery VERB PLAN`, and a path that ends in .py name themselves. A part
stands behind its word (stage, arm, suite, rule, claim, metric; `stages x, y and z`) and belongs to a plan that the same
text names. Other words in backticks are keys of a plan, and not looked up.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bloomery.cli.verbs import app
from bloomery.engine.discover import catalogue
from bloomery.plan import check_stages, metrics
from bloomery.plan.check_data import settings_of
from bloomery.plan.find import bundled_plans, find_plan
from bloomery.plan.ledger import ledger
from bloomery.plan.load import load
from bloomery.plan.look import Look

ROOT = Path(__file__).parents[2]
PLANS = {plan.name for plan in bundled_plans()}
VERBS = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}
PARTS = ("stage", "arm", "suite", "rule", "claim", "metric")
TEXTS = [
    pytest.param(text, id=f"{row.id}-{field}")
    for row in ledger().rows
    if row.system in catalogue.systems()
    for field, text in (("tested_by", row.tested_by), ("waits_for", row.waits_for))
    if "`" in text
]


@cache
def parts_of(plan: str) -> dict[str, frozenset[str]]:
    """{part: its names in a plan}."""
    look = Look(load(find_plan(plan)), catalogue)
    look.place_stages()
    check_stages.check(look)
    stages = [placed.spec for placed in look.stages]
    measured = set(metrics.ENGINE)
    for placed in look.stages:
        if placed.id in look.config and placed.spec.kind:
            measured |= set(catalogue.kind(placed.spec.kind).emits(look.config[placed.id]))
    for name, suite in look.plan.suites.items():
        model = catalogue.suite(suite.kind).config_model()
        config, _ = look.tried(model, settings_of(look, "suites", name, ("kind", "through")))
        measured |= {f"{name}/{each}" for each in catalogue.suite(suite.kind).emits(config)} if config else set()
    return {
        "stage": frozenset(stage.id for stage in stages),
        "arm": frozenset(arm for stage in stages for arm in stage.arms),
        "suite": frozenset(look.plan.suites),
        "rule": frozenset(rule.name for stage in stages for rule in stage.on_fail),
        "claim": frozenset(claim.id for claim in look.plan.claims),
        "metric": frozenset(measured),
    }


def unknown(text: str) -> Iterator[str]:
    """What is named there and is not to be found."""
    quoted = re.findall(r"`([^`]+)`", text)
    plans = {name for name in quoted if name in PLANS}
    for name in quoted:
        if found := re.fullmatch(r"bloomery (\S+)(?: (\S+))?", name):
            if found[1] not in VERBS:
                yield f"verb {found[1]}"
            if found[2] and found[2] not in PLANS:
                yield f"plan {found[2]}"
            plans |= {found[2]} & PLANS
        elif name.endswith(".py"):
            if not (ROOT / name).is_file():
                yield f"file {name}"
        elif re.fullmatch(r"(?:harmonic|holographic)/[\w-]+", name) and name not in PLANS:
            yield f"plan {name}"
    for part, names in re.findall(rf"\b({'|'.join(PARTS)})s? (`[^`]+`(?:(?:, | and )`[^`]+`)*)", text):
        known = {each for plan in plans for each in parts_of(plan)[part]}
        for name in re.findall(r"`([^`]+)`", names):
            if not (metrics.find(name, known) if part == "metric" else name in known):
                yield f"{part} {name}"


@pytest.mark.parametrize("text", TEXTS)
def test_what_tests_a_row_is_there(text: str) -> None:
    assert list(unknown(text)) == []


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("`harmonic/roadmaps`", ["plan harmonic/roadmaps"]),
        ("`bloomery price harmonic/paper`", ["verb price"]),
        ("`bloomery budget harmonic/papers`", ["plan harmonic/papers"]),
        ("`benchmarks/none.py`", ["file benchmarks/none.py"]),
        ("`harmonic/roadmap`, stages `tune`, `blends` and `l2`, rule `weak categories`", ["stage blends"]),
        ("`harmonic/roadmap`, metrics `val/bpb`, `text/loss` and `play/yield_gain`", ["metric val/bpb"]),
        ("`holographic/theory`, arm `ridge`, claim `generalises`", ["arm ridge"]),
        ("stage `tune` of no plan", ["stage tune"]),
    ],
)
def test_what_is_not_there_is_noticed(text: str, gone: list[str]) -> None:
    assert list(unknown(text)) == gone
