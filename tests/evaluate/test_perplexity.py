"""Perplexity against scoring one token at a time, and its independence of batches, padding and neighbours."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import DataError
from bloomery.evaluate.perplexity import are_likeliest, perplexity, spread, windows
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer

CONTEXT = 8


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    texts = ["", "a", "seven b", "eight by", "nine byte", "é" * 9, "a longer document than two windows of eight"]
    documents: Iterator[Document] = (Document(f"{i}", text) for i, text in enumerate(texts))
    return write_token_file(tmp_path_factory.mktemp("data") / "val.bin", documents, BytesTokenizer())


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    made = Transformer(DenseConfig(layers=2, width=16, heads=2), 257)
    with torch.no_grad():
        made.embedding.mul_(2.4)  # standard deviation 0.6: far from uniform
    return made


def one_at_a_time(model: Transformer, tokens: TokenFile, index: int, stride: int) -> float:
    """Each target by a forward pass of its own over exactly the inputs that its window shows it."""
    stream = [tokens.end_of_document, *map(int, tokens.document(index))]
    total = 0.0
    for target in range(1, len(stream)):
        start = stride * max(0, math.ceil((target - CONTEXT) / stride))
        with torch.no_grad():
            logits = model(torch.tensor([stream[start:target]])).logits[0, -1].double()
        total -= torch.log_softmax(logits, 0)[stream[target]].item()
    return total


@pytest.mark.parametrize("stride", [CONTEXT, CONTEXT // 2])
def test_equals_scoring_one_token_at_a_time(model: Transformer, tokens: TokenFile, stride: int) -> None:
    found = perplexity(model, tokens, context=CONTEXT, batch_tokens=24, stride=stride)
    expected = [one_at_a_time(model, tokens, index, stride) for index in range(tokens.documents)]
    assert found.loss_sums == pytest.approx(expected, rel=1e-5)
    assert found.token_counts == (1, 2, 8, 9, 10, 19, 44)
    assert found.byte_counts == (0, 1, 7, 8, 9, 18, 43)
    assert found.loss == pytest.approx(sum(expected) / 93)
    assert found.bits_per_byte == pytest.approx(sum(expected) / math.log(2) / 86)
    assert found.perplexity == pytest.approx(math.exp(sum(expected) / 93))


def test_batch_size_changes_nothing(model: Transformer, tokens: TokenFile) -> None:
    results = [perplexity(model, tokens, context=CONTEXT, batch_tokens=size) for size in (1, 8, 17, 1000)]
    for result in results[1:]:
        assert result.key == results[0].key
        assert result.loss_sums == pytest.approx(results[0].loss_sums, rel=1e-6)


def test_a_model_that_needs_to_be_alone_is_never_given_company_or_padding(tokens: TokenFile) -> None:
    shapes: list[tuple[int, ...]] = []

    class Alone(Transformer):
        sharing = "alone"

        def forward(self, tokens, state=None, *, segments=None, project=True):  # type: ignore[no-untyped-def]
            shapes.append(tuple(tokens.shape))
            return super().forward(tokens, state, segments=segments, project=project)

    torch.manual_seed(0)
    found = perplexity(Alone(DenseConfig(layers=1, width=16, heads=2), 257), tokens, context=CONTEXT)
    lengths = [count % CONTEXT for count in found.token_counts if count % CONTEXT]
    lengths += [CONTEXT for count in found.token_counts for _ in range(count // CONTEXT)]
    assert sorted(shapes) == sorted((1, length) for length in lengths)


def test_is_deterministic_and_leaves_the_mode_alone(model: Transformer, tokens: TokenFile) -> None:
    model.train()
    first = perplexity(model, tokens, context=CONTEXT)
    assert model.training
    assert perplexity(model, tokens, context=CONTEXT) == first


class Affine:
    """A scorer whose next-token distribution is known in closed form: p(w | last) proportional to 1 + (w == last)."""

    vocab = 257

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        weights = 1.0 + torch.nn.functional.one_hot(tokens, self.vocab).double()
        return (weights / weights.sum(-1, keepdim=True)).log()


def test_any_scorer_is_scored(tokens: TokenFile) -> None:
    found = perplexity(Affine(), tokens, context=CONTEXT, batch_tokens=20)
    for index, total in enumerate(found.loss_sums):
        stream = np.concatenate(([256], tokens.document(index)))
        repeats = int((stream[1:] == stream[:-1]).sum())
        assert total == pytest.approx((len(stream) - 1) * math.log(258) - repeats * math.log(2))


def test_some_documents_have_a_key_of_their_own(tokens: TokenFile) -> None:
    everything = perplexity(Affine(), tokens, context=CONTEXT)
    some = perplexity(Affine(), tokens, context=CONTEXT, max_documents=3)
    assert some.loss_sums == tuple(everything.loss_sums[i] for i in (0, 2, 4))
    assert some.key != everything.key
    assert everything.items().key == tokens.digest
    assert spread(5, None) == spread(5, 9) == [0, 1, 2, 3, 4]


def test_items_carry_the_same_means(tokens: TokenFile) -> None:
    found = perplexity(Affine(), tokens, context=CONTEXT)
    items, by_byte = found.items(), found.items_per_byte()
    assert sum(items.sums) / sum(items.weights) == pytest.approx(found.loss)
    assert sum(by_byte.sums) / sum(by_byte.weights) == pytest.approx(found.bits_per_byte)


def test_another_vocabulary_is_refused(tokens: TokenFile, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tokenizers differ"):
        perplexity(Transformer(DenseConfig(layers=1, width=8, heads=1), 300), tokens, context=CONTEXT)
    with pytest.raises(DataError, match="no documents"):
        perplexity(Affine(), write_token_file(tmp_path / "empty.bin", [], BytesTokenizer()), context=CONTEXT)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 70), max_size=8), st.integers(1, 20), st.data())
def test_windows_score_every_target_once(lengths: list[int], context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    scored = [[0] * length for length in lengths]
    for window in windows(lengths, context, stride):
        assert window.length <= context
        assert window.start <= window.first < window.stop
        assert window.first - window.start == (context - stride if window.first else 0)
        for target in range(window.first, window.stop):
            scored[window.slot][target] += 1
    assert all(times == 1 for row in scored for times in row)


@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.bfloat16]))
def test_of_equal_scores_the_first_is_the_likeliest(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (50, 7), generator=generator).to(dtype)
    targets = torch.randint(0, 7, (50,), generator=generator)
    assert are_likeliest(scores, targets).tolist() == (scores.argmax(-1) == targets).tolist()
