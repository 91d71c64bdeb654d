"""A model that begins with K0 is a bigram model, learns from there, and is resumed to the last bit."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bloomery.data.mix import Batch
from bloomery.data.prepared import Prepared
from bloomery.engine.discover import catalogue
from bloomery.engine.stage import Stopped
from bloomery.errors import TrainingError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.perplexity import perplexity
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.dense import build as build_dense
from bloomery.stages import training
from bloomery.stages.pretrain import Pretrain, Settings
from bloomery.systems.harmonic import bigram, k0_init
from bloomery.systems.harmonic.bases import TABLE
from bloomery.systems.harmonic.bigram import BigramTable
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.k0 import K0, K0Settings
from bloomery.systems.harmonic.model import build

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import CONFIG, Trained, prepared, pretrain

from support.command import finished, process, tiny_plan

VOCAB, SHAPE = 40, {"layers": 2, "width": 16, "heads": 2}
INIT = {"kind": "k0", "warmup": 0.5, "iterations": 20}


def table() -> BigramTable:
    generator = torch.Generator().manual_seed(5)
    logits = 2.0 * torch.randn(VOCAB, VOCAB, generator=generator)
    return BigramTable(torch.log_softmax(logits, dim=1), torch.full((VOCAB,), 1 / VOCAB))


def model(kind: str, *, tied: bool) -> Transformer:
    torch.manual_seed(0)
    shape = {**SHAPE, "tie_embeddings": tied}
    if kind == "dense":
        made: Any = build_dense(DenseConfig.model_validate(shape), VOCAB)
    else:
        made = build(HarmonicConfig.model_validate({**shape, "compression": 2, "basis": kind}), VOCAB)
    return made


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["dense", *TABLE])
def test_the_first_model_is_the_bigram_model_of_its_factors(kind: str, tied: bool) -> None:
    made = model(kind, tied=tied)
    factors = k0_init.solve(made, table(), method="normaware", iterations=20, seed=0)
    k0_init.apply(made, factors)
    tokens = torch.randint(0, VOCAB, (3, 7))
    logits = made(tokens).logits.detach()
    epsilon = made.config.norm_epsilon
    for row, ids in zip(logits, tokens, strict=True):
        for found, token in zip(row, ids, strict=True):
            embedding = factors.embedding[token]
            hidden = embedding / torch.sqrt(embedding.pow(2).mean() + epsilon) * factors.gain
            expected = hidden @ (factors.embedding if factors.head is None else factors.head).T
            np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)


def chain(vocab: int, count: int) -> torch.Tensor:
    """Each token is followed by its successor nine times in ten."""
    random = np.random.default_rng(3)
    tokens = np.zeros(count, dtype=np.int64)
    for place in range(1, count):
        tokens[place] = (tokens[place - 1] + 1) % vocab if random.random() < 0.9 else random.integers(vocab)
    return torch.from_numpy(tokens)


def test_a_shuffled_corpus_keeps_its_tokens_and_loses_its_pairs() -> None:
    text = chain(16, 8000).view(80, 100)
    batches = [Batch(rows[:, :-1], rows[:, 1:]) for rows in text.split(20)]
    one, again, other = (bigram.shuffled(batches, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.tokens, again.tokens)
    assert not torch.equal(one.tokens, other.tokens)
    whole = torch.cat((one.tokens[0], one.targets[0, -1:]))
    assert torch.equal(one.tokens[0, 1:], one.targets[0, :-1])
    assert torch.equal(whole.bincount(), text.flatten().bincount())

    def information(rows: list[Batch]) -> float:
        """Nats that a token says of the next, in float64: sum pi(t) p(w | t) log p(w | t) / p(w)."""
        table, _ = bigram.count(rows, vocab=16, end=99)
        joint = table.weight.double()[:, None] * table.log_probability.double().exp()
        return float((joint * (table.log_probability.double() - joint.sum(0).log())).sum())

    assert information([one]) < 0.03 < 1.5 < information(batches)


def test_k0_of_a_shuffled_corpus_begins_as_the_unigram() -> None:
    """Next to the same of the corpus as it stands: what it knows of the text, in float64."""
    text = chain(16, 8000).view(80, 100)
    frequency = text.flatten().bincount().double() / text.numel()
    unigram = float(-(frequency * frequency.log()).sum())
    begun: dict[bool, float] = {}
    for shuffle in (False, True):
        shape = DenseConfig.model_validate({**SHAPE, "tie_embeddings": False})
        made: Any = build_dense(shape, 16, compute_dtype=torch.float64).double()
        K0().begin(
            K0Settings(kind="k0", shuffle=shuffle), made, iter([Batch(text[:, :-1], text[:, 1:])]), seed=0, end=99
        )
        logits = made(text[:, :-1]).logits.detach().double()
        begun[shuffle] = float(nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()))
    assert begun[True] == pytest.approx(unigram, abs=0.05)
    assert begun[False] < unigram - 1.5


@pytest.mark.parametrize("tied", [False, True])
def test_the_embedding_has_the_scale_of_the_stream(tied: bool) -> None:
    """Or that of a head, where it is one."""
    made = model("dense", tied=tied)
    factors = k0_init.solve(made, table(), method="normaware", iterations=0, seed=0)
    root_mean_square = float(factors.embedding.square().mean().sqrt())
    assert root_mean_square == pytest.approx(SHAPE["width"] ** -0.5 if tied else 1.0, rel=1e-5)


@pytest.mark.parametrize("kind", ["dense", *TABLE])
def test_what_is_silenced_learns_again(kind: str) -> None:
    """No parameter may be cut off for ever: after a few steps a gradient reaches every one."""
    made = model(kind, tied=False)
    k0_init.apply(made, k0_init.solve(made, table(), method="normaware", iterations=0, seed=0))
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    tokens = torch.randint(0, VOCAB, (4, 12))
    for _ in range(3):
        optimiser.zero_grad()
        logits = made(tokens[:, :-1]).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        reached = {name: bool(p.grad is not None and p.grad.any()) for name, p in made.named_parameters()}
        optimiser.step()
    assert all(reached.values()), reached


def test_a_silenced_linear_keeps_what_it_can() -> None:
    made = model("sine", tied=False)
    linear: Any = made.blocks[0].attention.output  # type: ignore[union-attr]
    coordinates = linear.out_coordinates.clone()
    k0_init.silence(linear, "output", SHAPE["width"])
    assert not linear.gain.any()
    assert torch.equal(linear.out_coordinates, coordinates)
    two = nn.Sequential(nn.Linear(16, 4, bias=False), nn.Linear(4, 16, bias=False))
    k0_init.silence(two, "two", 16)
    assert sum(bool(p.any()) for p in two.parameters()) == 1


def test_a_linear_that_is_not_trained_keeps_its_voice() -> None:
    linear = nn.Linear(4, 4, bias=False).requires_grad_(False)
    k0_init.silence(linear, "blocks.0.down", 4)
    assert linear.weight.any()


def test_what_cannot_be_silenced_is_refused() -> None:
    linear = nn.Linear(4, 4)
    with pytest.raises(TrainingError, match="no single parameter"):
        k0_init.silence(linear, "blocks.0.down", 4)
    assert linear.weight.any()
    assert linear.bias.any()


def test_other_models_are_refused() -> None:
    with pytest.raises(TrainingError, match="Linear"):
        K0().begin(K0Settings(kind="k0"), nn.Linear(2, 2), iter([]), seed=0, end=0)


def test_its_operations_are_counted() -> None:
    """By torch, over the products with the table in its own fit."""
    from torch.utils.flop_counter import FlopCounterMode

    vocab, width = 256, 16
    logits = torch.randn(vocab, vocab)
    made = BigramTable(torch.log_softmax(logits, dim=1), torch.full((vocab,), 1 / vocab))
    config = DenseConfig(layers=1, width=width, heads=2, tie_embeddings=False)
    frame = build_dense(config, vocab)
    assert isinstance(frame, Transformer)
    for iterations in (0, 40):
        with FlopCounterMode(display=False) as counter:
            k0_init.solve(frame, made, method="normaware", iterations=iterations, seed=0)
        method = {"method": "normaware+fit", "iterations": iterations} if iterations else {"method": "normaware"}
        said = K0().flops(K0Settings.model_validate(method), vocab=vocab, width=width)
        # The sketch has OVERSAMPLING columns more than the width; a real width is several times that.
        assert 0.4 < said / counter.get_total_flops() < 1.1


def settings(init: dict[str, Any] = INIT, **changes: Any) -> Settings:
    return Settings.model_validate({**CONFIG, "init": init, **changes}, context={"system": "harmonic"})


MODEL = {"system": "dense", "layers": 1, "width": 16, "heads": 2, "tie_embeddings": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("trained"), settings(model=MODEL))


def test_it_begins_where_the_table_is(trained: Trained, data: Prepared) -> None:
    config = settings(model=MODEL)
    rows = list(training.tokens_read(trained.context, config))
    scorer = NGram.fit(rows, order=2, vocab=data.vocab, end_of_document=data.tokenizer.end_of_document)
    text = data.part(config.validation_part)
    table_loss = perplexity(scorer, text, context=config.context, max_documents=2).loss
    assert trained.last("init/rival_loss") == pytest.approx(table_loss)
    assert trained.last("init/excess_loss") == pytest.approx(trained.last("init/loss_0") - table_loss)
    assert abs(trained.last("init/excess_loss")) < 0.1
    plain = pretrain(data, trained.context.workdir.parent / "plain", settings({}, model=MODEL))
    assert trained.last("init/loss_0") < plain.last("val/loss")


def test_everything_that_is_promised_is_measured(trained: Trained) -> None:
    assert {one.name for one in trained.measured} == set(Pretrain().emits(settings(model=MODEL)))
    cosines = {one.step: one.value for one in trained.measured if one.name == "init/cosine"}
    assert list(cosines) == [0, 5, 10]
    assert cosines[0] == pytest.approx(1.0)
    assert 0.0 < cosines[10] < cosines[5] < 1.0


def test_stopped_and_gone_on_it_is_the_same(
    trained: Trained, data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    kind = catalogue.init("k0")
    really = kind.begin

    def begin(*given: Any, **more: Any) -> Any:
        begun.append(1)
        return really(*given, **more)

    monkeypatch.setattr(kind, "begin", begin)
    for steps in (0, 3, 4):
        left = iter(range(steps))

        def reason(left: Iterator[int] = left) -> str | None:
            return None if next(left, None) is not None else "signal"

        with pytest.raises(Stopped):
            pretrain(data, tmp_path, settings(model=MODEL), stop_reason=reason)
    again = pretrain(data, tmp_path, settings(model=MODEL))
    assert again.result.hashes == trained.result.hashes
    assert len(begun) == 1, "once: what is resumed has its weights"
    assert again.last("init/cosine") == trained.last("init/cosine")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    """Processes and all, candidate and dense control."""
    init = {"kind": "k0", "warmup": "20%", "iterations": 10}
    tiny_plan(tmp_path, **{"stages.0.config.init": init, "stages.0.config.tokens": "30k tok"})
    arguments = ["verify-resume", "tiny.yaml", "--stage", "pretrain", "--kills", "2", "--threads", "1"]
    said = finished(process(arguments, tmp_path))
    assert "candidate seed 0: equal" in said.out, said
    assert "DIFFERENT" not in said.out


def test_a_stage_that_goes_on_remembers_the_start(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    on = pretrain(data, tmp_path, settings(model=MODEL), continue_from=trained.result.outputs["state"])
    first = next(one.value for one in on.measured if one.name == "init/cosine")
    assert first == pytest.approx(trained.last("init/cosine"))
    assert {one.name for one in on.measured} == set(Pretrain().emits(settings(model=MODEL)))


def test_what_is_counted_beyond_the_stage_counts_as_read(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    more = settings({**INIT, "tokens": 2560}, model=MODEL)
    read = [list(Pretrain().tokens_read(trained.context, config)) for config in (settings(model=MODEL), more)]
    assert [len(batches) for batches in read] == [10, 20]
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(*read, strict=False))
    counted = pretrain(data, tmp_path, more)
    assert counted.last("train/steps") == 10
    scorer = NGram.fit(read[1], order=2, vocab=data.vocab, end_of_document=data.tokenizer.end_of_document)
    text = data.part(more.validation_part)
    found = perplexity(scorer, text, context=more.context, max_documents=2).loss
    assert counted.last("init/rival_loss") == pytest.approx(found)


def test_embeddings_have_a_rate_and_a_warm_up_of_their_own(trained: Trained) -> None:
    config = settings({"embedding_lr": 3, "warmup": 0.25}, model=MODEL)
    from bloomery.stages.starting import Start

    made = training.fit_config(trained.context, config, Start(config.init, config.steps))
    assert made.optimizer.embedding_lr == pytest.approx(3 * config.optimizer.lr)
    assert made.schedule.embedding_warmup == 0.25
    assert made.evaluate_at == (), "a random start is not looked at before its time"


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ({"kind": "k"}, "k0"),
        ({"kind": "k0", "methd": "naive"}, "did you mean 'method'"),
        ({"kind": "k0", "method": "normawar"}, "normaware"),
        ({"method": "naive"}, "unknown key 'method' of init random"),
        ({"tokens": 100}, "counts no tokens"),
        ("k0", "a mapping"),
    ],
)
def test_misspelt_settings_are_refused(init: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(init)
