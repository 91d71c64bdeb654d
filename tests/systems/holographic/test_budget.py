"""A theory's memory holds what it may and no more, at every moment; too little is refused before anything is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.engine.discover import catalogue
from bloomery.errors import PlanError
from bloomery.plan.check import check
from bloomery.plan.load import load
from bloomery.systems.holographic import budget
from bloomery.systems.holographic.config import PHASES, Consolidate, Mechanisms, Store, Theory, TheoryRun
from bloomery.systems.holographic.exact_context import ExactContext
from bloomery.systems.holographic.theory_memory import TheoryMemory
from support.command import write_text

VOCAB, END, BUFFER = 200, 199, 400


def memory(variant: Any, held: int, **changes: Any) -> TheoryMemory:
    store = Store(bytes=held, when_full=changes.pop("when_full", "forget"))
    settings = Theory(variant=variant, context=4, store=store, buffer=BUFFER, keep_every=1, rem_cycles=2, **changes)
    return TheoryMemory(settings, VOCAB, END, 0)


def counted(one: TheoryMemory) -> int:
    """Array by array, apart from the memory's own reckoning."""
    numbers = 16 if one.settings.variant == "prod" else 8
    own, waiting = one.sleeper.attractors, one.sleeper.waiting
    held = 4 * VOCAB * numbers + 4 * VOCAB + 8 * numbers
    if one.cells is not None:
        held += one.cells.keys.nbytes + one.cells.states.nbytes + one.cells.targets.nbytes
    if one.satellites is not None and one.dictionary is not None:
        held += one.satellites.keys.nbytes + one.satellites.sums.nbytes
        held += sum(each.nbytes for each in (one.dictionary.keys, one.dictionary.tokens, one.dictionary.counts))
    held += own.states.nbytes + own.signatures.nbytes + own.support.nbytes + own.radius.nbytes
    held += sum((4 + 8) * len(tokens) for tokens, _ in own.followers)
    held += sum(8 * (len(form) + 1) for form in one.sleeper.forms)
    return held + waiting.states.nbytes + waiting.signatures.nbytes + waiting.targets.nbytes + waiting.positions.nbytes


@pytest.mark.parametrize("variant", ["v4", "prod"])
@pytest.mark.parametrize(
    ("changes", "phases", "times"),
    [
        ({}, PHASES, 1.0),
        ({}, ("non_rem", "rem"), 1.5),
        ({"when_full": "stop"}, PHASES, 1.25),
        ({"mechanisms": Mechanisms(forgetting=False, merging=False)}, ("non_rem", "rem"), 1.25),
        ({"sampling": "newest"}, PHASES, 1.0),
    ],
    ids=str,
)
def test_it_keeps_to_its_bytes_after_every_read_and_sleep(
    variant: str, changes: dict[str, Any], phases: tuple[str, ...], times: float
) -> None:
    """With the least that is not refused as well, and without the phase that prunes."""
    held = int(times * budget.least_bytes(variant, VOCAB, BUFFER))
    one, random = memory(variant, held, **changes), np.random.default_rng(1)
    largest = 0
    for piece in range(10):
        text = random.zipf(1.1, 1500) % (VOCAB - 1)
        one.read(text, np.array([0]) if piece % 3 == 0 else np.array([], dtype=np.int64))
        largest = max(largest, one.bytes)
        assert one.bytes == counted(one) <= held
        if piece % 2:
            one.sleep(phases, np.random.default_rng(piece))
            assert one.bytes == counted(one) <= held
    assert largest > 0.6 * held  # it was full enough for the budget to matter
    assert 0 < one.measures()["memory/forgotten_share"] < 1
    history = np.append(END, text[:20])
    every = one.scorer().logprobs(torch.from_numpy(history)[None])[0]
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(len(history)).double(), atol=1e-9, rtol=0)


def test_what_is_stored_when_it_stops_is_never_forgotten() -> None:
    one, random = memory("v4", 2**17, when_full="stop"), np.random.default_rng(1)
    for piece in range(12):
        before = one.stored
        one.read(random.zipf(1.1, 1500) % (VOCAB - 1), np.array([0]))
        one.sleep(PHASES, np.random.default_rng(piece))
        assert one.cells is not None
        assert len(one.cells.keys) == one.stored >= before
    assert one.dropped > 0


def test_forms_that_came_back_outlive_those_that_did_not() -> None:
    from collections import Counter

    from bloomery.systems.holographic.dreaming import commonest

    forms = Counter({(3,): 1, (1,): 1, (2,): 5, (0,): 2})
    assert commonest(forms, 4) == forms
    assert commonest(forms, 3) == Counter({(2,): 5, (0,): 2, (1,): 1})


@pytest.mark.parametrize("variant", ["v4", "prod"])
def test_a_little_less_than_the_least_is_refused(variant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, buffer = 4000, 500
    numbers = {"v4": 8, "prod": 16}[variant]
    fixed = vocab * 4 * numbers + vocab * 4 + 8 * numbers + buffer * (2 * 8 * numbers + 8 + 8)
    least = -(-fixed * 16 // {"v4": 11, "prod": 7}[variant])
    assert budget.least_bytes(variant, vocab, buffer) == least
    TheoryMemory(Theory(variant=variant, store=Store(bytes=least), buffer=buffer), vocab, 0, 0)
    with pytest.raises(PlanError) as refused:
        TheoryMemory(Theory(variant=variant, store=Store(bytes=least - 1), buffer=buffer), vocab, 0, 0)
    assert refused.value.where == "store.bytes"
    assert f"{least - 1:,}" in refused.value.found
    assert refused.value.expected == f"{least:,} bytes at least"
    assert "episodes.buffer" in refused.value.hint
    with pytest.raises(PlanError, match="20,000 tokens"):
        ExactContext(Theory(variant="exact_context", store=Store(bytes=2**16)), 20_000, 0, 0)


def test_settings_know_the_plan_s_tokenizer() -> None:
    """Without one, what no vocabulary would make good is refused all the same."""
    given = {"tokens": 1000, "variant": "v4", "store": {"bytes": "1 MiB"}}
    large = {"data": {"tokenizer": {"kind": "bpe", "vocab": 100_000}, "corpus": {"source": "stdlib"}}}
    assert TheoryRun.model_validate(given).store.bytes == 2**20
    for kind in (TheoryRun, Consolidate):
        with pytest.raises(PlanError, match="100,000 tokens"):
            kind.model_validate(given, context=large)
    with pytest.raises(PlanError, match="at least"):
        TheoryRun.model_validate({**given, "episodes": {"buffer": 20_000}})


def test_check_says_it_once(tmp_path: Path) -> None:
    write_text(tmp_path / "text", 4)
    plan = {
        "bloomery": 1, "name": "test/small", "system": "holographic",
        "hypothesis": "There is room.",
        "data": {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "text"}},
        "stages": [
            {"id": "wake", "kind": "holographic/theory", "config": {"tokens": 500, "store": {"bytes": 65_536}}}
        ],
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(json.dumps(plan))
    (problem,) = check(load(str(tmp_path / "small.yaml"), []), catalogue).problems
    assert "stages.wake.config" in problem.where
    assert problem.found == "store.bytes: 65,536 bytes for v4 with 257 tokens and 2,000 episodes that wait"
    assert problem.expected == f"{budget.least_bytes('v4', 257, 2000):,} bytes at least"
    assert "episodes.buffer" in problem.hint
