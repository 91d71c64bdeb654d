"""Tokens that are grounded in a text, the factorised prior and Grace within windows, as settings of the theory."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bloomery.systems.holographic import grounding
from bloomery.systems.holographic.config import PHASES, Theory, TheoryRun
from bloomery.systems.holographic.theory_memory import TheoryMemory
from bloomery.systems.holographic.variants import theory

VOCAB, END = 39, 38
KINDS, READ = 7, 35
"""Kinds of words, and words: one of kind k stands before one of kind k + 1, whichever. (More kinds than coordinates, so
that none is noise.)"""


def text(length: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.arange(length) % KINDS + KINDS * random.integers(0, 5, length)


@pytest.mark.parametrize("variant", ["v4", "prod"])
@pytest.mark.parametrize("tokens_as", ["svd", "class"])
def test_words_with_the_same_neighbours_have_like_matrices(variant: Any, tokens_as: Any) -> None:
    settings = Theory(variant=variant, tokens_as=tokens_as)
    found = grounding.matrices(settings, text(4000), VOCAB, 0)[:READ]
    torch.testing.assert_close(found.norm(dim=1), found.norm(dim=1)[:1].expand(READ))
    cosines = torch.nn.functional.cosine_similarity(found[:, None], found[None], dim=-1)
    kinds = torch.arange(READ) % KINDS
    same = kinds[:, None] == kinds[None]
    assert float(cosines[same].min()) > 0.8
    assert float(cosines[same].min()) > float(cosines[~same].max())
    again = grounding.matrices(settings, text(4000), VOCAB, 0)[:READ]
    assert torch.equal(found, again)


def test_leading_coordinates_have_a_spread_of_one_and_unread_tokens_none() -> None:
    found = grounding.leading(text(4000), VOCAB, 0)
    assert found.shape == (VOCAB, 6)
    assert found[:READ].std(0).tolist() == pytest.approx([1] * 6)
    assert not found[READ:].any()


@pytest.mark.parametrize(
    ("variant", "changes"),
    [("prod", {"tokens_as": "svd"}), ("v4", {"tokens_as": "svd"}), ("v4", {"tokens_as": "class"}),
     ("v4", {"prior": "factorised"}), ("v4", {"prior": "decayed"}), ("v4", {"grace_every": 2})],
)  # fmt: skip
def test_each_setting_reaches_what_is_predicted(variant: str, changes: dict[str, Any]) -> None:
    def predicted(**told: Any) -> np.ndarray:
        run = TheoryRun.model_validate({"variant": variant, "tokens": 2000, "context": 5, "keep_every": 1, **told})
        memory = TheoryMemory(theory(run), VOCAB, END, 0)
        read = text(2000, 1)
        if run.tokens_as in ("svd", "class"):
            memory.matrices = grounding.matrices(memory.settings, read, VOCAB, 0)
        for start in (0, 1000):
            memory.read(read[start : start + 1000], np.array([], dtype=np.int64))
            memory.sleep(PHASES, np.random.default_rng(start))
        return memory.scorer().document_logprobs(np.r_[END, text(60, 2)])

    assert np.abs(predicted(**changes) - predicted()).max() > 1e-6


def test_prod_s_own_tokens_are_so4() -> None:
    own, named = (TheoryMemory(Theory(variant="prod", tokens_as=one), VOCAB, END, 5) for one in ("own", "so4"))
    assert torch.equal(own.matrices, named.matrices)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variant": "v4", "tokens_as": "so4"}, "so4 is of prod"),
        ({"variant": "exact_context", "tokens_as": "svd"}, "tokens_as: of v4 and prod"),
        ({"variant": "exact_context", "prior": "factorised", "grace_every": 2}, "prior, grace_every: of v4 and prod"),
        ({"tokens_as": "glove"}, "svd"),
        ({"prior": "hebbian"}, "factorised"),
        ({"grace_every": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TheoryRun.model_validate({"tokens": 100, **settings})


def test_tokens_that_are_grounded_in_nothing_are_not_read() -> None:
    memory = TheoryMemory(Theory(tokens_as="svd"), VOCAB, END, 0)
    with pytest.raises(AssertionError, match="grounded in no text"):
        memory.read(np.array([1, 2]), np.array([0]))
