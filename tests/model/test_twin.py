"""The dense twin: a known anchor, every match within its tolerance, and refusal where there is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.errors import PlanError
from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig
from bloomery.model.twin import quantity, solve

QUICKSTART = DenseConfig(layers=4, width=256, heads=4)
HARMONIC_STORED = 831_872
"""Embedding 2048 * 256, 9 norms, and per layer 4 linears 256 -> 256 (r = 12), 2 to 688 (r = 17), 1 back (r = 18)."""


def stored(count: int) -> Tally:
    return Tally({"all": Group(count, count)})


@pytest.mark.parametrize("heads", [4, 7])
def test_known_anchor(heads: int) -> None:
    template = DenseConfig(layers=4, width=256 if heads == 4 else 252, heads=heads)
    twin = solve(stored(HARMONIC_STORED), template, 2048, match="stored")
    assert (twin.layers, twin.width, twin.heads) == (4, 112, heads)
    assert twin.tally(2048).stored == pytest.approx(HARMONIC_STORED, rel=0.005)
    assert twin.feed_forward_width / twin.width == pytest.approx(8 / 3, rel=0.05)


@pytest.mark.parametrize("match", ["stored", "active", "flops", "bytes"])
def test_a_dense_model_is_its_own_twin(match: str) -> None:
    twin = solve(QUICKSTART.tally(2048), QUICKSTART, 2048, match=match, context=128)
    assert (twin.width, twin.feed_forward_width) == (256, 688)


def test_template_keys_are_kept() -> None:
    template = DenseConfig(layers=3, width=256, heads=8, kv_heads=2, rope_theta=5e4, tie_embeddings=False)
    twin = solve(stored(900_000), template, 1000)
    assert twin.model_copy(update={"width": 256, "feed_forward": None}) == template


@settings(max_examples=60, deadline=None)
@given(
    layers=st.integers(1, 12),
    heads=st.sampled_from([1, 2, 4, 8]),
    head_width=st.sampled_from([16, 32, 48]),
    tied=st.booleans(),
    share=st.floats(0.2, 1.2),
    match=st.sampled_from(["stored", "flops"]),
)
def test_is_within_tolerance_of_any_share_of_its_template(
    layers: int, heads: int, head_width: int, tied: bool, share: float, match: str
) -> None:
    template = DenseConfig(layers=layers, width=heads * head_width, heads=heads, tie_embeddings=tied)
    wanted = share * quantity(template, 500, "stored", 1)
    target = Tally({"all": Group(int(wanted), int(wanted), flops_per_token=2 * wanted)})
    try:
        twin = solve(target, template, 500, match=match, context=64)
    except PlanError:
        assert share < 0.35 or heads == 8  # steps of sixteen features are coarse for a narrow model
        return
    attention = template.attention_flops_per_token(64)
    expected = int(wanted) if match == "stored" else 2 * wanted + attention
    found = twin.tally(500).stored if match == "stored" else quantity(twin, 500, "flops", 64)
    assert abs(found - expected) <= 0.02 * expected
    assert twin.width % (2 * heads) == 0


def test_impossible_targets_are_refused() -> None:
    with pytest.raises(PlanError, match="the smallest, of width 8, has"):
        solve(stored(10_000), QUICKSTART, 2048)
    coarse = DenseConfig(layers=1, width=64, heads=32)
    with pytest.raises(PlanError, match="heads"):
        solve(stored(40_000), coarse, 500)
    with pytest.raises(PlanError, match="did you mean 'stored'"):
        solve(stored(10**6), QUICKSTART, 2048, match="store")
