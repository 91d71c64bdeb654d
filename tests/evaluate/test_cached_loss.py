"""Caches beside a network: the mixture by its definition, over windows and prompts; it sums to one and helps where a
text repeats itself."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.evaluate.cached_loss import cached_perplexity, fit_caches, token_probabilities
from bloomery.evaluate.caches import Beside, Caches
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.normalised import check_normalised
from bloomery.evaluate.perplexity import perplexity
from bloomery.model.config import DenseConfig
from bloomery.model.dense import build
from bloomery.model.interface import LanguageModel
from support.kneser_ney import cache_share

CONTEXT = 12
PHRASES = ("iron and slag, iron and slag again", "the bellows, the bellows, the bellows", "one ore", "a", "tuyere " * 5)


def written(folder: Path, several: tuple[str, ...], prompt: int = 0) -> TokenFile:
    documents = [Document(str(n), text, prompt=prompt if n % 2 else 0) for n, text in enumerate(several)]
    return write_token_file(folder / "x.tokens", documents, BytesTokenizer())


@pytest.fixture
def text(tmp_path: Path) -> TokenFile:
    return written(tmp_path / "judged", PHRASES[::-1] + PHRASES, prompt=1)


@pytest.fixture
def held_out(tmp_path: Path) -> TokenFile:
    return written(tmp_path / "held out", tuple(f"{phrase} {phrase}" for phrase in PHRASES), prompt=3)


def network() -> LanguageModel:
    torch.manual_seed(1)
    return build(DenseConfig(layers=1, width=8, heads=1), 257)


def one_window_at_a_time(model: LanguageModel, tokens: TokenFile, index: int) -> list[float]:
    """The model's own probability of every token of a document, its prompt too, each window by itself."""
    stream = [tokens.end_of_document, *map(int, tokens.document(index))]
    found: list[float] = []
    for start in range(0, len(stream) - 1, CONTEXT):
        window = stream[start : start + CONTEXT + 1]
        with torch.inference_mode():
            shares = model(torch.tensor([window[:-1]])).logits[0].softmax(-1)
        found += [float(shares[place, token]) for place, token in enumerate(window[1:])]
    return found


def test_the_loss_is_that_of_the_mixture_as_defined(text: TokenFile, held_out: TokenFile) -> None:
    model = network()
    caches = fit_caches(model, held_out, windows=(6, 40), longest=2, context=CONTEXT)
    result = cached_perplexity(model, caches, text, context=CONTEXT)
    for index in range(text.documents):
        stream = [text.end_of_document, *map(int, text.document(index))]
        own, nats = one_window_at_a_time(model, text, index), 0.0
        for at in range(1 + int(text.prompts[index]), len(stream)):
            found = [cache_share(stream, at, window, history) for window in (6, 40) for history in range(3)]
            depths = [sum(one is not None for one in found[start : start + 3]) for start in (0, 3)]
            weights = caches.weights[depths[0] * 4 + depths[1]]
            parts = [own[at - 1], *(0.0 if one is None else one.get(stream[at], 0.0) for one in found)]
            nats -= math.log(float(np.dot(weights, parts)))
        assert result.loss_sums[index] == pytest.approx(nats, rel=1e-5)
    plain = perplexity(model, text, context=CONTEXT)
    assert (result.key, result.token_counts, result.byte_counts) == (plain.key, plain.token_counts, plain.byte_counts)
    assert result.loss < plain.loss - 0.5  # an untrained network knows nothing, and the text repeats itself


def test_weights_are_found_on_what_is_scored_of_the_other_part(held_out: TokenFile) -> None:
    """By hand: with one window and no history, EM's fixed point for each bucket, prompts read and not counted."""
    model = network()
    caches = fit_caches(model, held_out, windows=(1000,), longest=0, context=CONTEXT)
    own, share = [], []
    for index in range(held_out.documents):
        stream = [held_out.end_of_document, *map(int, held_out.document(index))]
        alone = one_window_at_a_time(model, held_out, index)
        for at in range(1 + int(held_out.prompts[index]), len(stream)):
            found = cache_share(stream, at, 1000, 0)
            if found is not None:
                own.append(alone[at - 1])
                share.append(found.get(stream[at], 0.0))
    weight = caches.weights[1]
    taken = weight[0] * np.array(own) / (weight[0] * np.array(own) + weight[1] * np.array(share))
    assert weight[0] == pytest.approx((taken.sum() + 5) / (len(own) + 10), abs=1e-4)
    assert caches.weights[0].tolist() == [1.0, 0.0]  # the first token of a document has nothing before it


def test_any_scorer_with_caches_is_normalised_and_told_as_it_is_scored(text: TokenFile, held_out: TokenFile) -> None:
    table = NGram.fit([np.asarray(held_out.tokens)], order=3, vocab=257, end_of_document=256)
    for scorer in (network(), table):
        caches = fit_caches(scorer, held_out, windows=(6, 40), longest=2, context=64)
        beside = Beside(scorer, caches)
        check_normalised(beside, text, 1e-9)
        plain = [index for index in range(text.documents) if not text.prompts[index]]
        own = token_probabilities(scorer, text, plain, context=64, device="cpu")
        for index, each in zip(plain, own, strict=True):
            stream = np.concatenate(([256], text.document(index))).astype(np.int64)
            told = beside.logprobs(torch.from_numpy(stream[None, :-1]))[0].numpy()
            mixed = caches.mixed(each, stream, 257)
            assert np.exp(told[np.arange(len(each)), stream[1:]]) == pytest.approx(mixed, rel=1e-5)


def test_weights_that_do_not_sum_to_one_are_found_out(text: TokenFile, held_out: TokenFile) -> None:
    from bloomery.errors import TrainingError

    model = network()
    caches = fit_caches(model, held_out, windows=(40,), longest=1, context=64)
    leaky = Beside(model, Caches(caches.windows, caches.longest, caches.weights * 0.999))
    with pytest.raises(TrainingError, match=r"sum to 0\.99"):
        check_normalised(leaky, text, 1e-9)
