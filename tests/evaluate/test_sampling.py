"""Which tokens may be drawn, against a slow reading of the rules, and what settings are refused."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import TrainingError
from bloomery.evaluate.sampling import Sampling, choose, penalise

LOGITS = st.lists(st.floats(-8, 8).map(lambda x: round(x, 2)), min_size=2, max_size=9)


def slow(logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float) -> list[float]:
    """The distribution, a Python list at a time, rule by rule."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    ranked = sorted(range(len(weights)), key=lambda i: (-weights[i], i))
    if top_k:
        ranked = ranked[:top_k]
    total = sum(weights[i] for i in ranked)
    kept, share = [], 0.0
    for i in ranked:
        if share < top_p:
            kept.append(i)
        share += weights[i] / total
    kept = [i for i in kept if weights[i] >= min_p * weights[ranked[0]]]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(weights))]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [(1.0, 2, 1.0, 0.0), (0.7, 3, 0.8, 0.0), (1.3, 0, 1.0, 0.2), (1.0, 4, 0.95, 0.1), (2.0, 0, 0.5, 0.0)],
)
def test_draws_follow_the_slow_rules(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    logits = [1.2, -0.3, 2.0, 0.4, 1.9, -2.0]
    expected = slow(logits, temperature, top_k, top_p, min_p)
    generator = torch.Generator().manual_seed(3)
    draws = Counter(
        choose(
            torch.tensor(logits), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, generator=generator
        )
        for _ in range(4000)
    )
    for token, share in enumerate(expected):
        assert draws[token] / 4000 == pytest.approx(share, abs=0.03)
        assert (draws[token] == 0) == (share == 0)


@given(
    LOGITS, st.floats(0.2, 3), st.integers(0, 5), st.floats(0.05, 0.999), st.sampled_from([0.0, 0.013, 0.27, 0.71]),
    st.integers(0, 9),
)  # fmt: skip
def test_no_draw_is_outside(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    allowed = slow(logits, temperature, top_k, min(top_p + 1e-9, 1.0), min_p * (1 - 1e-9))
    token = choose(
        torch.tensor(logits, dtype=torch.float64), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert allowed[token] > 0


def test_one_token_left_is_the_likeliest() -> None:
    logits = torch.tensor([0.1, 0.5, 0.4])
    generator = torch.Generator().manual_seed(0)
    for limit in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}):
        assert {choose(logits, temperature=5.0, generator=generator, **limit) for _ in range(50)} == {1}  # type: ignore[arg-type]


def test_a_tiny_temperature_is_greedy_and_no_division_by_zero() -> None:
    assert choose(torch.tensor([1.0, 3.0, 2.0]), temperature=5e-324) == 1


def test_what_stands_there_is_less_likely() -> None:
    logits = torch.tensor([2.0, -1.0, 0.0, 3.0])
    found = penalise(logits, torch.tensor([True, True, True, False]), 2.0)
    assert found.tolist() == [1.0, -2.0, 0.0, 3.0]


def test_logits_that_are_not_numbers_are_told() -> None:
    with pytest.raises(TrainingError, match="not numbers"):
        choose(torch.tensor([0.0, math.nan]), temperature=1.0)
    with pytest.raises(TrainingError, match="not numbers"):
        choose(torch.tensor([0.0, math.inf]), temperature=0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": -1},
     {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 1.1}, {"repetition_penalty": 0.0},
     {"repetition_penalty": math.inf}, {"max_whitespace": 0}, {"stop": ("a", "")}, {"seed": 2**63}],
)  # fmt: skip
def test_senseless_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="generate"):
        Sampling(**wrong)  # type: ignore[arg-type]
