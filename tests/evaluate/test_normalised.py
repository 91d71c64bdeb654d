"""What sums to one passes, however it is scored; what does not is named with its place; the bootstrap, by theory."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import TrainingError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.normalised import check_normalised
from bloomery.evaluate.resample import bootstrap_interval, ratio
from bloomery.model.config import DenseConfig
from bloomery.model.dense import build


@pytest.fixture
def text(tmp_path: Path) -> TokenFile:
    return write_token_file(
        tmp_path / "x.tokens", [Document(str(n), f"the furnace makes iron {n}") for n in range(9)], BytesTokenizer()
    )


def table(text: TokenFile) -> NGram:
    return NGram.fit([np.asarray(text.tokens)], order=3, vocab=257, end_of_document=256)


def test_networks_and_tables_are_normalised(text: TokenFile) -> None:
    check_normalised(build(DenseConfig(layers=1, width=8, heads=1), 257), text, 1e-9)
    check_normalised(table(text), text, 1e-9)


def test_a_leak_is_found_at_its_place(text: TokenFile) -> None:
    class Leaks:
        vocab = 257

        def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
            out = torch.full((*tokens.shape, 257), -math.log(257), dtype=torch.float64)
            out[:, 5] += math.log(0.999)
            return out

    check_normalised(Leaks(), text, 2e-3)
    with pytest.raises(TrainingError, match=r"document 0, position 5: the probabilities sum to 0\.99"):
        check_normalised(Leaks(), text, 1e-9)


def test_a_table_that_is_scored_by_other_numbers_is_found_out(text: TokenFile) -> None:
    honest = table(text)

    class Flatters:
        vocab, logprobs = 257, staticmethod(honest.logprobs)

        def document_logprobs(self, tokens: np.ndarray) -> np.ndarray:
            return honest.document_logprobs(tokens) * 0.5

    with pytest.raises(TrainingError, match="it is scored with log p"):
        check_normalised(Flatters(), text, 1e-9)


def test_a_model_that_is_not_finite_is_found_out(text: TokenFile) -> None:
    model = build(DenseConfig(layers=1, width=8, heads=1), 257)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match="nan"):
        check_normalised(model, text, 1e-9)


def test_the_bootstrap_of_a_mean_is_nearly_the_normal_interval() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(3, 1, 400)
    found = bootstrap_interval(np.stack([values, np.ones(400)], axis=1), ratio)
    assert found is not None
    half = 1.96 * values.std(ddof=1) / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap_interval(np.ones((1, 2)), ratio) is None
    assert bootstrap_interval(np.ones((9, 2)), ratio) is None
