"""Whatever a model shares between requests, it gives the scores of one full forward pass a request."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from bloomery.evaluate import reuse
from bloomery.evaluate.scoring import Request, score_all
from bloomery.measure import Tally
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel, Output, Scale, Sharing
from support.scoring import VOCAB, requests, score_one, tokens_one_by_one


class Recurrent(LanguageModel):
    """h = tanh(A h + embedding): a state that cannot be cut back, written in place, as fast kernels do."""

    sharing: Sharing = "snapshot"
    vocab, compute_dtype = VOCAB, torch.float64

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Parameter(torch.randn(VOCAB, width, dtype=torch.float64))
        self.turn = nn.Parameter(torch.randn(width, width, dtype=torch.float64))
        self.states = 0

    def forward(
        self, tokens: Tensor, state: Any = None, *, segments: Tensor | None = None, project: bool = True
    ) -> Output:
        memory = self.initial_state(len(tokens), 0) if state is None else state
        seen = []
        for step in range(tokens.shape[1]):
            memory.copy_(torch.tanh(memory @ self.turn + self.embedding[tokens[:, step]]))
            seen.append(memory.clone())
        hidden = torch.stack(seen, dim=1)
        return Output(hidden, self.project(hidden) if project else None, memory)

    def project(self, hidden: Tensor) -> Tensor:
        return hidden @ self.embedding.t()

    def head_weight(self) -> Tensor:
        return self.embedding

    def initial_state(self, batch: int, length: int) -> Tensor:
        return torch.zeros(batch, self.turn.shape[0], dtype=torch.float64)

    def fork(self, state: Tensor, *, batch: int, keep: int, room: int) -> Tensor:
        self.states += 1
        return state.expand(batch, -1).clone()

    def scales(self) -> dict[str, Scale]:
        return {}

    def tally(self) -> Tally:
        return Tally()


class Crowd(Recurrent):
    """Every row sees the mean over the batch and what stands behind it: as routing over a batch would."""

    sharing: Sharing = "alone"

    def forward(
        self, tokens: Tensor, state: Any = None, *, segments: Tensor | None = None, project: bool = True
    ) -> Output:
        hidden = super().forward(tokens, state).hidden
        hidden = hidden - hidden.mean(dim=(0, 1))
        return Output(hidden, self.project(hidden) if project else None)


class Histogram:
    """A scorer without state: the counts of what stood before, and one more."""

    vocab = VOCAB

    def logprobs(self, tokens: Tensor) -> Tensor:
        counts = nn.functional.one_hot(tokens, VOCAB).double().cumsum(1) + 1
        return (counts / counts.sum(-1, keepdim=True)).log()


def dense(sharing: Sharing = "crop", **changes: Any) -> Transformer:
    torch.manual_seed(1)
    config = DenseConfig(**({"layers": 2, "width": 16, "heads": 4, "kv_heads": 2} | changes))
    model = Transformer(config, VOCAB, compute_dtype=torch.float64).double()
    model.sharing = sharing
    return model


MODELS = {
    "dense": dense(),
    "dense with a window": dense(attention_window=3),
    "dense, copies only": dense("snapshot"),
    "dense, batches only": dense("batch"),
    "recurrent": Recurrent(),
    "crowd": Crowd(),
    "histogram": Histogram(),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(asked=requests())
def test_scores_are_those_of_one_pass_a_request(name: str, asked: tuple[list[Request], int]) -> None:
    (wanted, window), model = asked, MODELS[name]
    found = score_all(model, wanted, window=window)
    for request, mine in zip(wanted, found.scores, strict=True):
        slow = score_one(model, request, window=window)
        assert mine.logprob == pytest.approx(slow.logprob, rel=1e-12, abs=1e-12)
        assert mine.greedy == slow.greedy


@pytest.mark.slow
@settings(max_examples=15)
@given(asked=requests())
def test_small_batches_and_eager_copies_change_nothing(asked: tuple[list[Request], int]) -> None:
    (wanted, window), usual = asked, (reuse.POSITIONS_AT_ONCE, reuse.LEAST_SNAPSHOT)
    reuse.POSITIONS_AT_ONCE, reuse.LEAST_SNAPSHOT = 9, 1
    try:
        for name in ("dense", "dense, copies only", "dense, batches only", "recurrent"):
            found = score_all(MODELS[name], wanted, window=window)
            slow = [score_one(MODELS[name], request, window=window).logprob for request in wanted]
            assert [one.logprob for one in found.scores] == pytest.approx(slow, rel=1e-12, abs=1e-12)
    finally:
        reuse.POSITIONS_AT_ONCE, reuse.LEAST_SNAPSHOT = usual


def test_a_model_that_looks_around_would_be_wrong_in_company() -> None:
    """Says that the test above can fail: the same model scored in batches gives something else."""
    wanted = [Request((1, 2, 3), (4,)), Request((3, 3), (0, 1))]
    crowd = Crowd()
    crowd.sharing = "batch"
    found = score_all(crowd, wanted, window=8).scores
    slow = [score_one(crowd, request, window=8).logprob for request in wanted]
    assert max(abs(one.logprob - two) for one, two in zip(found, slow, strict=True)) > 1e-3


def test_bf16_scores_differ_by_rounding_only() -> None:
    torch.manual_seed(0)
    model = Transformer(DenseConfig(layers=3, width=64, heads=4), 50, compute_dtype=torch.bfloat16)
    shared = tuple(range(30))
    wanted = [Request((*shared, one, two), (two, one)) for one, two in itertools.product(range(40, 44), repeat=2)]
    for request, mine in zip(wanted, score_all(model, wanted, window=64).scores, strict=True):
        assert mine.logprob == pytest.approx(score_one(model, request, window=64).logprob, rel=2e-2)


SHOTS = tuple(index % VOCAB for index in range(60))
QUESTIONS = [(*SHOTS, *question, 4) for question in itertools.product(range(3), repeat=3)]
CHOICES = [Request(question, (answer,)) for question in QUESTIONS for answer in range(4)]


@pytest.mark.parametrize("name", ["dense", "recurrent"])
def test_a_shared_beginning_is_read_once(name: str) -> None:
    """60 tokens of examples, 27 questions of three tokens and a fourth, four answers of one token each."""
    found = score_all(MODELS[name], CHOICES, window=128)
    assert found.tokens <= 60 + 27 * 4
    assert found.tokens >= 60 + 27 * 2
    assert found.passes <= 27 + 1
    assert tokens_one_by_one(CHOICES, 128) == 27 * 4 * 64


def test_answers_with_different_first_tokens_are_one_batch() -> None:
    wanted = [Request((*SHOTS, 1), answer) for answer in ((0, 1, 2), (1, 1), (2, 0, 0, 1), (0, 1))]
    found = score_all(MODELS["dense"], wanted, window=128)
    assert found.passes == 2
    assert found.tokens == 60 + 3 * 4  # (0, 1) reads where (0, 1, 2) does


@pytest.mark.parametrize("name", ["dense", "recurrent"])
def test_what_was_read_for_an_answer_is_read_again_where_it_is_asked_about(name: str) -> None:
    """The first answer ends in the tokens that the second one is asked after: its last one has to be seen again."""
    wanted = [Request((1, 2), (3, 4)), Request((1, 2, 3), (4,)), Request((1, 2, 3), (0,))]
    found = score_all(MODELS[name], wanted, window=8).scores
    slow = [score_one(MODELS[name], request, window=8).logprob for request in wanted]
    assert [one.logprob for one in found] == pytest.approx(slow, rel=1e-12)


def test_a_window_that_cuts_shifts_every_context_and_shares_little() -> None:
    wanted = [Request((*range(3), *SHOTS, *([0] * cut)), (1,)) for cut in range(4)]
    cut = score_all(MODELS["dense"], wanted, window=40)
    assert cut.tokens >= 3 * 40
    assert score_all(MODELS["dense"], wanted, window=80).tokens <= 63 + 4


def test_a_model_is_left_in_the_mode_it_was_in() -> None:
    model = dense().train()
    score_all(model, CHOICES[:2], window=128)
    assert model.training


def test_hidden_states_are_projected_only_where_something_is_scored() -> None:
    model = dense()
    rows = []
    project = model.project
    model.project = lambda hidden: (rows.append(hidden.shape[:-1].numel()), project(hidden))[1]  # type: ignore[method-assign]
    score_all(model, CHOICES, window=128)
    assert sum(rows) == len(CHOICES)


def test_a_model_that_promises_copies_and_has_none_is_our_own_bug() -> None:
    class Bare(Recurrent):
        fork = LanguageModel.fork

    with pytest.raises(NotImplementedError, match="Bare says sharing = 'snapshot'"):
        score_all(Bare(), CHOICES, window=128)


def test_a_score_is_a_probability() -> None:
    """Over all continuations of two tokens the scores add up to one."""
    wanted = [Request((1, 2), pair) for pair in itertools.product(range(VOCAB), repeat=2)]
    for model in MODELS.values():
        if model is not MODELS["crowd"]:
            total = math.fsum(math.exp(one.logprob) for one in score_all(model, wanted, window=8).scores)
            assert total == pytest.approx(1)
