"""The bundled plans: the seed's parameters under its own names, and the first of its large runs at a thousandth."""

import json
from pathlib import Path

import numpy as np
import pytest

from bloomery.engine.devices import find_device
from bloomery.engine.discover import catalogue
from bloomery.engine.pricing import price_plan
from bloomery.plan.check import check
from bloomery.plan.load import load, resolve
from bloomery.plan.units import parse_tokens
from support.command import finished, process

PLANS = ("a", "b", "books", "budget", "mechanisms", "quick", "sleep", "theory")


@pytest.mark.parametrize("name", PLANS)
def test_they_check_clean(name: str) -> None:
    found = check(load(f"holographic/{name}"), catalogue)
    assert found.problems == ()
    assert not found.not_offered


@pytest.mark.parametrize(
    ("name", "samples", "context", "attractors", "log", "deep", "generate", "sleep", "buffer"),
    [
        ("a", 100e6, 4096, 100e6, 1e5, 5e6, 1e6, 1e6, 5e4),
        ("b", 500e6, 8192, 200e6, 5e5, 1e7, 5e6, 2e6, 1e5),
    ],
)
def test_the_large_runs_have_the_seed_s_parameters(
    name: str, samples: float, context: int, attractors: float, log: float, deep: float, generate: float, sleep: float,
    buffer: float,
) -> None:  # fmt: skip
    """The flags of its two commands, by hand."""
    plan = resolve(load(f"holographic/{name}"))
    assert plan.data["tokenizer"] == {"kind": "words", "vocab": "100k", "min_count": 2}
    assert (plan.data["corpus"]["source"], plan.data["corpus"]["name"]) == ("hub", "pg19")
    for stage in (plan.stage("wake").config, plan.stage("theory").config):
        assert parse_tokens(stage["tokens"]) == samples
        assert parse_tokens(stage["sleep"]["every"]) == sleep
    theory = plan.stage("theory").config
    assert (theory["context"], theory["sleep"]["rem_cycles"]) == (context, 3)
    assert (theory["max_attractors"], theory["noise"]) == (attractors, 0.3)
    cadences = [parse_tokens(theory[name]) for name in ("log_every", "deep_log_every", "generate_every")]
    assert cadences == [log, deep, generate]
    assert parse_tokens(theory["episodes"]["buffer"]) == buffer


def test_they_are_priced_in_hours_and_b_costs_more_than_its_tokens() -> None:
    """Five times the tokens, in windows twice as long."""
    a, b = (price_plan(load(f"holographic/{name}"), catalogue, find_device("cpu")) for name in "ab")
    hours = [
        sum(line.price.amounts.seconds for line in plan.lines if line.who == "candidate") / 3600 for plan in (a, b)
    ]
    assert 12 < hours[0] < 48
    assert 5 * hours[0] < hours[1] < 240


@pytest.mark.slow
def test_run_a_at_a_thousandth_from_a_folder_of_texts(tmp_path: Path) -> None:
    """A hundred sleeps in each memory, at a thousandth of their cadence. Whether drawn text passes the gate is its own
    affair: 0 or 1."""
    draw = np.random.default_rng(0)
    words = [f"w{number}" for number in range(400)]
    odds = draw.dirichlet(np.full(400, 0.02), 400)
    (tmp_path / "shelf").mkdir()
    for book in range(40):
        at, out = book, []
        for _ in range(3200):
            at = int(draw.choice(400, p=odds[at]))
            out.append(words[at])
        (tmp_path / "shelf" / f"{book:02}.txt").write_text(" ".join(out))
    corpus = "{source: text, folder: shelf, split: {train: 80%, val: 8%, tune: 4%, test: 8%}}"
    run = process(
        ["run", "holographic/a", "--threads", "1", "--set", "fraction=1/1000", "--set", f"data.corpus={corpus}",
         "--set", "data.tokenizer.vocab=700", "--runs", "runs"],
        tmp_path,
    )  # fmt: skip
    said = finished(run)
    assert said.code in (0, 1), said.err
    (events,) = tmp_path.glob("runs/holographic/*/events.jsonl")
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    slept = [line for line in lines if line["event"] == "slept"]
    for stage in ("wake", "theory"):
        assert [line["step"] for line in slept if line["stage"] == stage] == list(range(1000, 100_001, 1000))
    told = {
        (line["stage"], line["who"], one["name"]): one["value"] for line in lines if (one := line.get("measurement"))
    }
    assert told["weights", "candidate", "text/perplexity"] < told["theory", "candidate", "text/perplexity"] < 700
