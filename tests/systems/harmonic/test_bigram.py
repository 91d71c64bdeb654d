"""K0's factors against the same formulas written out slowly in float64, and against what must hold exactly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bloomery.data.mix import Batch
from bloomery.errors import TrainingError
from bloomery.systems.harmonic.bigram import RIDGE, BigramTable, Factors, count, factorise, fit

VOCAB, WIDTH, END = 24, 9, 0


def table(vocab: int = VOCAB) -> BigramTable:
    """Skewed, as of text: some pairs are a thousand times likelier than others."""
    generator = torch.Generator().manual_seed(3)
    logits = 2.0 * torch.randn(vocab, vocab, generator=generator) - 0.1 * torch.arange(vocab)
    weight = torch.softmax(torch.randn(vocab, generator=generator), dim=0)
    return BigramTable(torch.log_softmax(logits, dim=1), weight)


def slow_unigram(made: BigramTable) -> Tensor:
    probability, weight = made.log_probability.double().exp(), made.weight.double()
    return torch.stack([sum(weight[t] * probability[t, w] for t in range(VOCAB)) for w in range(VOCAB)]).log()  # type: ignore[misc]


def slow_odds(made: BigramTable, *, positive: bool = False) -> Tensor:
    unigram, out = slow_unigram(made), torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    for t in range(VOCAB):
        for w in range(VOCAB):
            value = float(made.log_probability[t, w]) - float(unigram[w])
            out[t, w] = max(value, 0.0) if positive else value
    return out


def slow_loss(logits: Tensor, made: BigramTable) -> float:
    total = 0.0
    for t in range(len(logits)):
        normaliser = math.log(sum(math.exp(float(value)) for value in logits[t]))
        for w in range(len(logits)):
            share = float(made.weight[t]) * math.exp(float(made.log_probability[t, w]))
            total += share * (normaliser - float(logits[t, w]))
    return total


def normalised(rows: Tensor) -> Tensor:
    return torch.stack([row / (row.pow(2).mean().sqrt()) for row in rows])


def test_what_is_counted() -> None:
    tokens = torch.tensor([[1, 2, 1, 2, 3], [1, 2, 2, 2, 1]])
    made, scorer = count([Batch(tokens[:, :-1], tokens[:, 1:], None, None)], vocab=5, end=END)
    before = np.array([0, 3, 5, 0, 0]) + 1  # how often each stood before another
    np.testing.assert_allclose(made.weight.numpy(), before / before.sum(), rtol=1e-6)
    np.testing.assert_allclose(made.log_probability.exp().sum(dim=1).numpy(), 1.0, rtol=1e-6)
    for t in range(5):
        for w in range(5):
            alone = scorer.document_logprobs(np.array([t, w]))[0]
            assert float(made.log_probability[t, w]) == pytest.approx(alone, rel=1e-5)


def test_unigram_odds_and_entropy() -> None:
    made = table()
    np.testing.assert_allclose(made.unigram.double().numpy(), slow_unigram(made).numpy(), atol=1e-5)
    for positive in (False, True):
        found = made.log_odds(positive=positive).double().numpy()
        np.testing.assert_allclose(found, slow_odds(made, positive=positive).numpy(), atol=1e-4)
    assert float(made.entropy()) == pytest.approx(slow_loss(made.log_probability, made), rel=1e-5)


@pytest.mark.parametrize("method", ["normaware", "ppmi"])
def test_norm_aware_factors(method: str) -> None:
    made = table()
    odds = slow_odds(made, positive=method == "ppmi")
    weight = made.weight.double()
    _, _, right = torch.linalg.svd(torch.diag(weight.sqrt()) @ odds)
    features = torch.cat([torch.ones(VOCAB, 1, dtype=torch.float64), normalised(odds @ right[: WIDTH - 1].T)], dim=1)
    # Ridge regression as plain least squares: the penalty is as many further rows.
    rows = torch.cat([weight.sqrt()[:, None] * features, math.sqrt(RIDGE) * torch.eye(WIDTH, dtype=torch.float64)])
    wanted = torch.cat([weight.sqrt()[:, None] * odds, torch.zeros(WIDTH, VOCAB, dtype=torch.float64)])
    head = torch.linalg.lstsq(rows, wanted).solution
    expected = features @ head + slow_unigram(made)
    found = factorise(made, WIDTH, method=method, tied=False, seed=0).logits(0.0).double()
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-3)


def test_naive_factors() -> None:
    made = table()
    left, values, right = torch.linalg.svd(slow_odds(made))
    k = WIDTH - 1
    rows = normalised(left[:, :k] * values[:k].sqrt())
    expected = rows @ (right[:k].T * values[:k].sqrt()).T + slow_unigram(made)
    found = factorise(made, WIDTH, method="naive", tied=False, seed=0).logits(0.0).double()
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("tied", [False, True])
def test_the_bias_alone_is_the_unigram(tied: bool) -> None:
    made = table()
    factors = factorise(made, WIDTH, method="bias", tied=tied, seed=0)
    if tied:  # up to the norm, which divides a row
        factors = Factors(factors.embedding, factors.embedding * torch.sign(factors.gain), torch.ones(WIDTH))
        mean_square = factors.embedding.square().mean(dim=1, keepdim=True)
        logits = factors.logits(0.0) * mean_square.sqrt()
    else:
        logits = factors.logits(0.0)
    found = torch.log_softmax(logits, dim=1).double()
    expected = torch.log_softmax(slow_unigram(made), dim=0).expand(VOCAB, -1)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)


def test_one_matrix_for_both_has_the_symmetric_part() -> None:
    made = table()
    wide = VOCAB + 2
    factors = factorise(made, wide, method="normaware", tied=True, seed=0)
    assert factors.head is None
    bilinear = (factors.embedding * torch.sign(factors.gain)) @ factors.embedding.T
    odds, bias = slow_odds(made), slow_unigram(made)
    bias = bias - (made.weight.double() * bias).sum()
    expected = (odds + odds.T) / 2 + bias[:, None] + bias[None, :]
    np.testing.assert_allclose(bilinear.double().numpy(), expected.numpy(), atol=2e-3)


def test_enough_features_are_the_table_itself() -> None:
    made = table()
    factors = factorise(made, VOCAB + 1, method="normaware", tied=False, seed=0)
    assert float(factors.loss(made, 0.0)) == pytest.approx(float(made.entropy()), abs=2e-3)


def test_loss_is_the_cross_entropy() -> None:
    made = table()
    factors = factorise(made, WIDTH, method="normaware", tied=False, seed=0)
    head = factors.head
    assert head is not None
    logits = torch.stack([(row / math.sqrt(float(row.pow(2).mean()) + 0.01)) @ head.T for row in factors.embedding])
    assert float(factors.loss(made, 0.01)) == pytest.approx(slow_loss(logits, made), rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_the_fit_comes_closer(tied: bool) -> None:
    made = table()
    before = factorise(made, WIDTH, method="normaware", tied=tied, seed=0)
    after = fit(before, made, epsilon=1e-5, iterations=60)
    gap = [float(one.loss(made, 1e-5) - made.entropy()) for one in (before, after)]
    assert 0 < gap[1] < 0.6 * gap[0]


def test_a_token_never_seen_is_no_louder_than_others() -> None:
    """Its row of the log-odds is zero, and must not scale the bias up."""
    made = table()
    probability = made.log_probability.clone()
    probability[5] = torch.logsumexp(probability[torch.arange(VOCAB) != 5], 0) - math.log(VOCAB - 1)
    weight = made.weight.clone()
    weight[torch.arange(VOCAB) != 5] = 1.0 / (VOCAB - 1) * (1 - weight[5])
    factors = factorise(BigramTable(probability, weight), WIDTH, method="normaware", tied=False, seed=0)
    np.testing.assert_allclose(factors.embedding.square().mean(dim=1).numpy(), 1.0, rtol=1e-4)


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(TrainingError, match="8,192"):
        count([], vocab=8193, end=0)
