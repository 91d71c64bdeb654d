"""Sampling: the cache changes nothing, the draws follow the distribution, and the limits hold."""

from collections import Counter

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.errors import TrainingError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.sample import choose, generate, stream
from bloomery.evaluate.sampling import Sampling
from bloomery.measure import Tally
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel, Output, Scale, State

BYTES = BytesTokenizer()


class Chain(LanguageModel):
    """A model whose next token depends on the last alone: rows of a table of logits, without a cache to speak of."""

    def __init__(self, table: Float[Tensor, "v v"]) -> None:
        super().__init__()
        self.vocab, self.compute_dtype = len(table), torch.float32
        self.register_buffer("table", table)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        state: State = None,
        *,
        segments: Int[Tensor, "b t"] | None = None,
        project: bool = True,
    ) -> Output:
        return Output(torch.nn.functional.one_hot(tokens, self.vocab).float(), None, state)

    def project(self, hidden: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        return hidden @ self.get_buffer("table")

    def head_weight(self) -> Float[Tensor, "v v"]:
        return self.get_buffer("table")

    def initial_state(self, batch: int, length: int) -> State:
        return ()

    def scales(self) -> dict[str, Scale]:
        return {}

    def tally(self) -> Tally:
        return Tally()


def chain(transitions: dict[int, int]) -> Chain:
    table = torch.zeros(257, 257)
    for here, there in transitions.items():
        table[here, there] = 50.0
    return Chain(table)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_equals_uncached(window: int | None, temperature: float) -> None:
    torch.manual_seed(1)
    model = Transformer(DenseConfig(layers=2, width=32, heads=4, kv_heads=2, attention_window=window), 257)
    with torch.no_grad():
        model.embedding.mul_(2.4)  # far from uniform
    texts = [
        generate(model, BYTES, "def f(x):", max_tokens=40, temperature=temperature, seed=3, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 10


def test_greedy_follows_the_likeliest_path_and_stops_at_the_end() -> None:
    a, b, c = b"abc"
    model = chain({256: a, a: b, b: c, c: 256})
    assert generate(model, BYTES, "", max_tokens=99, temperature=0) == "abc"
    assert generate(model, BYTES, "xa", max_tokens=99, temperature=0) == "bc"
    assert generate(model, BYTES, "a", max_tokens=1, temperature=0.5) == "b"


def test_whitespace_runs_are_cut() -> None:
    space, a = b" a"
    model = chain({256: a, a: space, space: space})
    model.table[space, a] = 40.0  # type: ignore[index]
    assert generate(model, BYTES, "", max_tokens=9, temperature=0, max_whitespace=3) == "a   a   a"
    assert generate(model, BYTES, "", max_tokens=9, temperature=0, max_whitespace=None) == "a" + " " * 8


def test_the_seed_decides_and_nothing_else_is_disturbed() -> None:
    model = Chain(torch.zeros(257, 257)).train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    texts = [generate(model, BYTES, "", max_tokens=30, temperature=1, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (1.0, 0.79, [0.625, 0.375, 0, 0]),
        (1.0, 0.81, [0.5263, 0.3158, 0.1579, 0]),
        (0.5, 1.0, [0.6849, 0.2466, 0.0616, 0.0068]),
        (2.0, 0.01, [1, 0, 0, 0]),
    ],
)
def test_draws_follow_the_nucleus(temperature: float, top_p: float, expected: list[float]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    generator = torch.Generator().manual_seed(0)
    draws = Counter(choose(logits, temperature=temperature, top_p=top_p, generator=generator) for _ in range(4000))
    for token, share in enumerate(expected):
        assert draws[token] / 4000 == pytest.approx(share, abs=0.03)
        assert (draws[token] == 0) == (share == 0)


def test_greedy_takes_the_lower_of_equal_ids() -> None:
    assert choose(torch.tensor([0.0, 2.0, 2.0]), temperature=0, top_p=0.5) == 1


def test_unused_ids_of_a_larger_model_are_never_taken() -> None:
    table = torch.zeros(300, 300)
    table[:, 280] = 99.0
    text = generate(Chain(table), BYTES, "", max_tokens=20, temperature=0)
    assert text == "\0" * 20


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}])
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="at least one token"):
        generate(chain({}), BYTES, "", **{"max_tokens": 3, **wrong})  # type: ignore[arg-type]


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(TrainingError, match="257 ids"):
        generate(Chain(torch.zeros(200, 200)), BYTES, "", max_tokens=3)


def test_a_table_of_counts_draws_what_its_probabilities_say() -> None:
    """The same rules as for a model: the same draws from the same distribution, token by token."""
    text = b"iron from ore, iron from ore; ore and iron" * 4
    table = NGram.fit([np.array([256, *text])], order=3, vocab=257, end_of_document=256)
    for seed in range(3):
        wish = Sampling(max_tokens=20, temperature=0.8, top_p=0.9, top_k=5, seed=seed, logprobs=1, max_whitespace=None)
        pieces = list(stream(table, BYTES, "iron", wish))
        tokens, generator = [256, *b"iron"], torch.Generator().manual_seed(seed)
        for piece in pieces:
            own = table.logprobs(torch.tensor([tokens]))[0, -1]
            token = choose(own.clone(), temperature=0.8, top_p=0.9, top_k=5, generator=generator)
            assert piece.logprob == pytest.approx(float(own[token]), abs=1e-9)
            tokens.append(token)
        assert "".join(piece.text for piece in pieces) == BYTES.decode([t for t in tokens[5:] if t != 256])
        assert pieces[-1].finish == ("stop" if tokens[-1] == 256 else "length")
    assert generate(table, BYTES, "iron fr", max_tokens=6, temperature=0) == "on fro"  # "ron" is commoner than "rom"
