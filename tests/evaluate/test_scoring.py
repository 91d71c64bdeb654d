"""Scores of continuations, against what the chain rule says."""

import math

import pytest
import torch

from bloomery.errors import DataError
from bloomery.evaluate.scoring import Request, Score, score
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer


class Bigram:
    """P(b | a) in a table; says how long its inputs were."""

    vocab = 3
    table = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])

    def __init__(self) -> None:
        self.fed: list[int] = []

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        self.fed.append(tokens.shape[1])
        return self.table[tokens].log()


def test_a_continuation_is_as_likely_as_its_tokens_after_each_other() -> None:
    likely, unlikely = score(Bigram(), [Request((2, 0), (0, 0)), Request((2, 0), (0, 1, 2))], window=8)
    assert likely.logprob == pytest.approx(math.log(0.5 * 0.5))
    assert likely.greedy
    assert unlikely.logprob == pytest.approx(math.log(0.5 * 0.25 * 0.1))
    assert not unlikely.greedy


def test_a_long_context_loses_its_beginning() -> None:
    table = Bigram()
    assert score(table, [Request((2, 2, 2, 2, 1), (1, 0))], window=3) == score(
        table, [Request((2, 1), (1, 0))], window=3
    )
    assert table.fed == [3, 3]


def test_a_model_scores_as_one_full_forward_pass_says() -> None:
    torch.manual_seed(0)
    model = Transformer(DenseConfig(layers=2, width=32, heads=2), 50).eval()
    request = Request((3, 14, 15, 9), (26, 5))
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(torch.tensor([[3, 14, 15, 9, 26]])).logits[0], dim=-1)
    (found,) = score(model, [request], window=16)
    assert found.logprob == pytest.approx(float(logprobs[3, 26] + logprobs[4, 5]), abs=1e-6)
    assert isinstance(found, Score)


@pytest.mark.parametrize("request_", [Request((), (1,)), Request((1,), ()), Request((1,), (1,) * 9)])
def test_what_cannot_be_scored_is_refused(request_: Request) -> None:
    with pytest.raises(DataError, match="continuation"):
        score(Bigram(), [request_], window=8)
