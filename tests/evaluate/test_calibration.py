"""Calibration against definitions written out token by token, and against models whose calibration is known."""

import itertools
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.evaluate import calibration
from bloomery.evaluate.calibration import Predictions, best_temperature, cross_fitted, ece, heat_curve, predict
from bloomery.model.config import DenseConfig
from bloomery.model.dense import build

REALS = np.float64
SHARES = torch.tensor([0.5, 0.2, 0.2, 0.1, 1 / 400]) * 400 / 401
"""Of a, b, c, d and the end of a document of 400 letters."""


class Urn:
    """Draws every byte from one fixed distribution, and says so after `heat`: over-confident below 1."""

    vocab = 257

    def __init__(self, heat: float = 1.0) -> None:
        logits = torch.full((257,), -60.0)
        logits[97:101] = SHARES[:4].log() / heat
        logits[256] = SHARES[4].log() / heat
        self.logits = torch.log_softmax(logits, -1)

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(*tokens.shape, 257)


@pytest.fixture
def drawn(tmp_path: Path) -> TokenFile:
    """Documents of the urn's letters, and one token in a hundred that ends them."""
    draw = np.random.default_rng(3)
    texts = ["".join(draw.choice(list("abcd"), p=[0.5, 0.2, 0.2, 0.1], size=400)) for _ in range(40)]
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    return write_token_file(tmp_path / "urn.tokens", documents, BytesTokenizer())


def by_hand(model: torch.nn.Module, tokens: TokenFile, heat: float = 1.0) -> list[tuple[float, bool, float, float]]:
    """(confidence, came, nats, Brier) token by token, in double, one document at a time."""
    rows = []
    for index in range(tokens.documents):
        ids = [tokens.end_of_document, *map(int, tokens.document(index))]
        with torch.inference_mode():
            logits = model(torch.tensor([ids[:-1]])).logits[0].double() / heat
        for row, target in zip(torch.softmax(logits, -1), ids[1:], strict=True):
            wanted = torch.zeros(len(row), dtype=torch.float64)
            wanted[target] = 1
            came = int(row.argmax()) == target
            rows.append((float(row.max()), came, -math.log(float(row[target])), float(((row - wanted) ** 2).sum())))
    return rows


def plain_ece(rows: list[tuple[float, bool, float, float]], bounds: list[float]) -> float:
    total = 0.0
    for low, high in pairwise(bounds):
        inside = [(c, came) for c, came, _, _ in rows if low < c <= high]
        if inside:
            gap = sum(c for c, _ in inside) / len(inside) - sum(came for _, came in inside) / len(inside)
            total += len(inside) / len(rows) * abs(gap)
    return total


def test_every_number_is_its_definition(drawn: TokenFile) -> None:
    torch.manual_seed(0)
    model = build(DenseConfig(layers=1, width=16, heads=2), 257)
    found = predict(model, drawn, context=512, max_documents=None)
    rows = by_hand(model, drawn)
    assert len(found.nats) == len(rows) == len(drawn)
    assert found.nats.mean() == pytest.approx(np.mean([row[2] for row in rows]), rel=1e-5)
    assert found.brier.mean() == pytest.approx(np.mean([row[3] for row in rows]), rel=1e-5)
    assert found.came.mean() == pytest.approx(np.mean([row[1] for row in rows]), abs=1e-9)
    assert ece(found, 15)[0] == pytest.approx(plain_ece(rows, [b / 15 for b in range(16)]), rel=1e-4)
    quantiles = np.quantile(found.confidence, np.arange(1, 7) / 7).tolist()
    assert ece(found, 7, equal_mass=True)[0] == pytest.approx(plain_ece(rows, [-1, *quantiles, 2]), rel=1e-3)
    warm = predict(model, drawn, context=512, temperatures=[2.0] * drawn.documents)
    assert warm.nats.mean() == pytest.approx(np.mean([row[2] for row in by_hand(model, drawn, 2.0)]), rel=1e-5)


def test_a_model_that_knows_its_urn_is_calibrated_and_one_that_is_too_sure_is_not(drawn: TokenFile) -> None:
    right = predict(Urn(), drawn, context=64)
    sure = predict(Urn(0.5), drawn, context=64)
    value, interval = ece(right, 15)
    share = float((np.asarray(drawn.tokens) == ord("a")).mean())
    assert value == pytest.approx(abs(0.5 * 400 / 401 - share), abs=1e-6)
    assert interval is not None
    assert interval.low <= value <= interval.high < 0.05
    too_sure = float(SHARES[0] ** 2 / (SHARES**2).sum())
    assert ece(sure, 15)[0] == pytest.approx(abs(too_sure - share), abs=1e-6)
    assert right.brier.mean() < sure.brier.mean()


@pytest.mark.slow
def test_the_temperature_that_was_taken_away_is_found_again(drawn: TokenFile) -> None:
    for heat in (0.4, 0.5, 1.0, 1.7):
        curve = heat_curve(Urn(heat), drawn, context=64)
        assert best_temperature(curve.sum(0)) == pytest.approx(1 / heat, rel=0.05)
        # By brute force on the same tokens: no other temperature within 10 % is better by more than rounding.
        found = best_temperature(curve.sum(0))

        def nats(temperature: float, heat: float = heat) -> float:
            return float(
                predict(Urn(heat), drawn, context=64, temperatures=[temperature] * drawn.documents).nats.mean()
            )

        assert nats(found) <= min(nats(found * factor) for factor in (0.9, 0.97, 1.03, 1.1)) + 1e-5


def test_no_half_is_judged_at_a_temperature_that_it_was_fitted_on() -> None:
    grid = np.array(calibration.TEMPERATURES)
    cold, warm = np.log(grid / 0.5) ** 2, np.log(grid / 2) ** 2
    curve = np.stack([cold, warm, cold, warm])
    assert cross_fitted(curve) == pytest.approx([2, 0.5, 2, 0.5], rel=1e-6)
    assert cross_fitted(curve[:1]) == [1.0]


def test_the_interval_covers_what_the_urn_would_give_with_more_draws() -> None:
    """95 % intervals of the mean gap of a half-right model with confidence 0.6: the truth is 0.1."""
    draw, covered = np.random.default_rng(0), 0
    for _ in range(60):
        came = (draw.random(600) < 0.5).astype(REALS)
        found = Predictions(np.arange(600) // 10, np.full(600, 0.6), came, came, came, 60, "k")
        interval = ece(found, 10)[1]
        assert interval is not None
        covered += interval.low <= 0.1 <= interval.high
    assert 52 <= covered <= 60


def test_risk_is_of_the_surest_answers_and_its_area_the_mean_of_all_orders_of_equals() -> None:
    """By hand: errors 0, 1, 0 in the order of confidence; then against every order of what is equally sure."""
    found = calibration.risk_coverage(np.array([0.2, 0.9, 0.5]), np.array([1.0, 1.0, 0.0]))
    assert found.tolist() == pytest.approx([0, 1 / 2, 1 / 3])
    confidence, came = np.array([0.5, 0.7, 0.5, 0.5, 0.1]), np.array([1.0, 0.0, 0.0, 1.0, 0.0])
    curves = []
    for order in itertools.permutations(range(5)):
        if (np.diff(confidence[list(order)]) <= 0).all():
            wrong = 1 - came[list(order)]
            curves.append([wrong[:k].sum() / k for k in range(1, 6)])
    assert len(curves) == 6
    assert calibration.risk_coverage(confidence, came).tolist() == pytest.approx(np.mean(curves, axis=0))
    blind = predictions(np.ones(5), came)
    (area, _), (above, _) = calibration.areas(blind)
    assert (area, above) == pytest.approx(((1 - came).mean(), 0))


def predictions(confidence: np.ndarray, came: np.ndarray) -> Predictions:
    nothing = np.zeros(len(came))
    return Predictions(np.arange(len(came)) // 2, confidence, came, nothing, nothing, 1 + (len(came) - 1) // 2, "")


def test_an_area_has_an_interval_over_documents() -> None:
    draw = np.random.default_rng(0)
    came = (draw.random(60) < 0.4).astype(float)
    good = predictions(np.where(came == 1, 0.9, 0.1) + 0.01 * draw.random(60), came)
    (area, interval), (above, other) = calibration.areas(good)
    assert interval is not None
    assert other is not None
    assert interval.low <= area <= interval.high < (1 - came).mean()
    assert above == pytest.approx(area - (1 - came).mean())
    assert other.low <= above <= other.high < 0


class Sure(Urn):
    """Says `a` each time, and is surer of it at the beginning of a document."""

    def answers(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.arange(tokens.shape[1]).expand(tokens.shape)
        return torch.full_like(tokens, 98), 1 / (1.0 + places)


def test_answers_of_the_model_s_own_are_judged_in_place_of_the_likeliest(drawn: TokenFile) -> None:
    """b, though a is likelier; the probabilities stay what they are."""
    plain, own = (predict(Sure(), drawn, context=64, own=own) for own in (False, True))
    text = np.asarray(drawn.tokens)
    assert plain.came.mean() == pytest.approx((text == ord("a")).mean())
    assert own.came.mean() == pytest.approx((text == ord("b")).mean())
    assert own.nats.tolist() == plain.nats.tolist()
    first = [drawn.document(index)[0] == ord("b") for index in range(drawn.documents)]
    assert own.came[own.confidence == 1].sum() >= sum(first)
    assert predict(Urn(), drawn, context=64, own=True).confidence.tolist() == plain.confidence.tolist()
