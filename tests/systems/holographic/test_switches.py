"""Each of the twelve mechanisms, switched off in the configuration of holographic/mechanisms, changes what the memory
stores or predicts, so that an arm without it is compared with something else."""

from typing import Any

import numpy as np

from bloomery.plan.load import load, resolve
from bloomery.systems.holographic.config import PHASES, Mechanisms, TheoryRun
from bloomery.systems.holographic.theory_memory import TheoryMemory
from bloomery.systems.holographic.variants import theory

TWELVE = tuple(Mechanisms.model_fields)
VOCAB, END = 100, 99
SMALLER = 5
"""Than the plan's run: its tokens, cadence, buffer and room shrink alike."""


def text(length: int, seed: int) -> np.ndarray:
    """Of a Markov chain."""
    table = np.random.default_rng(7).dirichlet(np.full(END, 0.1), END).cumsum(1)
    random, out = np.random.default_rng(seed), [0]
    for each in random.random(length - 1):
        out.append(min(int(np.searchsorted(table[out[-1]], each)), END - 1))
    return np.array(out)


def planned() -> TheoryRun:
    plan = resolve(load("holographic/mechanisms"))
    config = TheoryRun.model_validate(plan.stage("mechanisms").config)
    assert config.sleep is not None
    episodes = config.episodes.model_copy(
        update={"buffer": config.episodes.buffer // SMALLER, "room": config.episodes.room // SMALLER}
    )
    sleep = config.sleep.model_copy(update={"every": config.sleep.every // SMALLER})
    return config.model_copy(update={"tokens": config.tokens // SMALLER, "episodes": episodes, "sleep": sleep})


def woken(config: TheoryRun, **switched: bool) -> dict[str, Any]:
    """What is stored, and what is predicted of other text."""
    config = config.model_copy(update={"mechanisms": Mechanisms(**switched)})
    memory = TheoryMemory(theory(config), VOCAB, END, 0)
    tokens = text(config.tokens, 1)
    assert config.sleep is not None
    every = config.sleep.every
    for start in range(0, len(tokens), every):
        memory.read(tokens[start : start + every], np.array([], dtype=np.int64))
        memory.sleep(PHASES, np.random.default_rng((0, start + every)))
    predicted = memory.scorer().document_logprobs(np.r_[END, text(200, 2)])
    own = memory.sleeper.attractors
    return {"states": own.states.tolist(), "support": own.support.tolist(), "predicted": predicted}


def test_each_changes_what_is_stored_or_predicted() -> None:
    config = planned()
    whole = woken(config)
    assert len(whole["support"]) > 5
    for one in TWELVE:
        without = woken(config, **{one: False})
        stored = without["states"] != whole["states"] or without["support"] != whole["support"]
        moved = np.abs(without["predicted"] - whole["predicted"]).max()
        assert stored or moved > 1e-9, one
        assert moved > 1e-9, (one, "is stored and predicts the same")


def test_with_room_for_all_nothing_is_forgotten_and_nothing_else_changes() -> None:
    config = planned()
    roomy = config.model_copy(update={"episodes": config.episodes.model_copy(update={"room": 5000})})
    with_it, without = woken(roomy), woken(roomy, forgetting=False)
    assert with_it["states"] == without["states"]
    np.testing.assert_array_equal(with_it["predicted"], without["predicted"])
