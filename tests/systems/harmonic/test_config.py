"""Harmonic counts in closed form: how much is stored, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bloomery.model.config import DenseConfig
from bloomery.stages.settings import misfit
from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.sizes import FORMS, OPTIONS, halves, size

QUICKSTART = HarmonicConfig(layers=4, width=256, heads=4, compression=10)


def test_quickstart_by_hand() -> None:
    """256 -> 256: r = floor((6553.6 - 256) / 512) = 12; 256 -> 688: r = 17; 688 -> 256: r = 18."""
    tally = QUICKSTART.tally(2048)
    assert tally.groups["attention"].stored == 4 * 4 * (12 * 512 + 256)
    assert tally.groups["feed_forward"].stored == 4 * (2 * (17 * 944 + 688) + 18 * 944 + 256)
    assert tally.groups["embedding"].stored == 2048 * 256
    assert tally.dense_equivalent == DenseConfig(layers=4, width=256, heads=4).tally(2048).stored
    linears = tally.groups["attention"].stored + tally.groups["feed_forward"].stored
    assert linears <= 4 * (4 * 256 * 256 + 3 * 256 * 688) / 10


@pytest.mark.parametrize("basis", FORMS)
@given(inputs=st.integers(2, 3000), outputs=st.integers(2, 3000), compression=st.floats(1, 100))
def test_a_size_is_the_largest_that_keeps_the_promise(
    basis: str, inputs: int, outputs: int, compression: float
) -> None:
    found, form = size(basis, inputs, outputs, compression), FORMS[basis](inputs, outputs)
    allowed = inputs * outputs / compression
    assert found.stored == found.components * form.per_component + form.fixed
    assert found.components == form.most or found.stored + form.per_component > allowed
    if found.components >= 0:
        assert found.stored <= allowed


def test_halves_by_hand() -> None:
    assert [halves(size) for size in (256, 688, 7, 12)] == [(16, 16), (16, 43), (1, 7), (3, 4)]


def test_dense_keeps_the_shape() -> None:
    config = HarmonicConfig(
        layers=2, width=64, heads=4, kv_heads=2, feed_forward=96, tie_embeddings=False, compression=3
    )
    assert config.dense() == DenseConfig(layers=2, width=64, heads=4, kv_heads=2, feed_forward=96, tie_embeddings=False)
    assert config.tally(100).flops_per_token == config.dense().tally(100).flops_per_token


def test_compression_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"leaves key .* without a component; at most 6\.4 at this width"):
        HarmonicConfig(layers=1, width=64, heads=8, kv_heads=1, compression=10)
    assert HarmonicConfig(layers=1, width=64, heads=8, kv_heads=1, compression=6.4).compression == 6.4
    with pytest.raises(ValidationError, match="basis"):
        HarmonicConfig.model_validate({"layers": 1, "width": 64, "heads": 2, "compression": 4, "basis": "cron"})


def test_which_weights_are_of_another_shape() -> None:
    shape = {"system": "harmonic", "layers": 1, "width": 64, "heads": 2, "compression": 4}
    assert misfit(shape, shape | {"omega": 2.0}) == ""
    assert misfit(shape, shape | {"compression": 3}).startswith("another shape: ")
    dense = {key: value for key, value in shape.items() if key != "compression"} | {"system": "dense"}
    assert misfit(dense, shape) == "another system: dense, then harmonic"


VALUES = {"omega": 2.0, "blocks": 4, "atom_width": "wide", "form": "low_rank"}
LEVELS = {
    "low_rank": ({"level": 2, "form": "low_rank", "meta_components": 4}, {"form"}),
    "literal": ({"level": 2, "form": "literal", "meta_components": 4}, {"form"}),
    "level 2": ({"level": 2, "meta_components": 4}, {"omega", "form"}),
    "level 3": ({"level": 3, "meta_components": 4, "depth_harmonics": 1}, {"omega", "form"}),
    "level 4": ({"level": 4, "meta_components": 4}, {"form"}),  # whose one form is checked elsewhere
}


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("what", [*FORMS, *LEVELS])
def test_a_setting_that_nothing_reads_is_refused(what: str, key: str) -> None:
    changes, heard = LEVELS.get(what, ({"basis": what, "compression": 4}, {*OPTIONS.get(what, ())}))
    shape = {"layers": 2, "width": 64, "heads": 2, **changes}
    default = HarmonicConfig.model_fields[key].default
    if key in heard:
        assert what == "level 4" or HarmonicConfig.model_validate(shape | {key: VALUES[key]})
        return
    with pytest.raises(
        ValidationError, match=rf"{key}: {VALUES[key]} says nothing to .*; {key} is for .*: leave it out"
    ):
        HarmonicConfig.model_validate(shape | {key: VALUES[key]})
    written_out = HarmonicConfig.model_validate(shape).model_dump(mode="json")
    assert HarmonicConfig.model_validate(written_out | {key: default}) == HarmonicConfig.model_validate(shape)


def test_what_is_said_to_be_heard_is_what_is_built_with() -> None:
    """A key moves the numbers drawn, or their shapes, exactly where a basis is said to read it."""
    for basis in FORMS:
        for key in ("omega", "blocks", "atom_width"):
            values: tuple[object, object] = (HarmonicConfig.model_fields[key].default, VALUES[key])
            made = []
            for value in values:
                linear = make(basis, 64, 64, 4.0, **{key: value})
                linear.initialise(torch.Generator().manual_seed(0))
                made.append(linear.weight())
            assert torch.equal(*made) == (key not in OPTIONS.get(basis, ())), (basis, key)
