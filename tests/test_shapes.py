"""Shapes that functions of the package name are checked while tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

import support.shapes
from bloomery.evaluate.perplexity import token_losses

LOGITS = torch.zeros(2, 3)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        token_losses(LOGITS, torch.zeros(2, 1, dtype=torch.int64))


def test_the_first_calls_of_every_test_are_checked() -> None:
    for _ in range(support.shapes.CALLS):
        token_losses(LOGITS, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(Exception, match="multi-target") as refused:  # torch's own
        token_losses(LOGITS, torch.zeros(2, 1, dtype=torch.int64))
    assert not isinstance(refused.value, TypeCheckError)
    support.shapes.next_test()
    test_a_wrong_shape_is_refused()
