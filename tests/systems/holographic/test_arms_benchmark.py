"""benchmarks/holographic_arms.py: each expert against the obvious loop that it stands for, and as a distribution.

What they are worth beside attractors is not tested here.
"""

import importlib
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from bloomery.evaluate.caches import WINDOWS

FOLDER = Path(__file__).parents[3] / "benchmarks"
VOCAB, WIDTH = 37, 8
pytestmark = pytest.mark.skipif(not (FOLDER / "arms_experts.py").exists(), reason="no benchmarks beside these tests")


@pytest.fixture
def experts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("arms_experts")


@pytest.fixture
def decay(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("arms_decay")


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("holographic_arms")


def text(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, length)


def vectors() -> torch.Tensor:
    found = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(1))
    return found / found.norm(dim=1, keepdim=True)


def log_read() -> torch.Tensor:
    return torch.log_softmax(torch.randn(VOCAB, generator=torch.Generator().manual_seed(2)), 0)


def context(experts: ModuleType, tokens: np.ndarray, at: int) -> torch.Tensor:
    """By its formula, for the token at `at`."""
    own = vectors()
    lags = [at - lag for lag in range(1, experts.LAGS + 1)]
    near = [own[tokens[p]] * experts.DECAY**n if p >= 0 else torch.zeros(WIDTH) for n, p in enumerate(lags)]
    far = sum((own[tokens[at - 1 - n]] * experts.FADING**n for n in range(at)), torch.zeros(WIDTH))
    return torch.cat((*near, (1 - experts.FADING) * far))


def test_a_context_is_what_its_formula_says_across_chunks(experts: ModuleType) -> None:
    tokens = text(experts.CHUNK + 40)
    found = experts.Contexts(vectors()).whole(tokens)
    for at in (1, 2, experts.LAGS, experts.LAGS + 1, experts.CHUNK, experts.CHUNK + 1, len(tokens) - 1):
        torch.testing.assert_close(found[at - 1], context(experts, tokens, at), rtol=1e-4, atol=1e-5)


def test_a_readout_sums_to_one_and_says_the_same_of_targets(experts: ModuleType) -> None:
    readout = experts.Readout(vectors(), log_read(), temperature=0.3, prior=0.8)
    predicted = torch.randn(300, WIDTH, generator=torch.Generator().manual_seed(3))
    targets = text(300)
    everything = readout.everything(predicted)
    torch.testing.assert_close(everything.sum(1), torch.ones(300))
    own = everything[torch.arange(300), torch.from_numpy(targets)].numpy()
    np.testing.assert_allclose(readout.of(predicted, targets), own, rtol=1e-4)
    one = int(targets[0])
    scores = [float(predicted[0] @ v) / 0.3 + 0.8 * float(log_read()[n]) for n, v in enumerate(vectors())]
    assert own[0] == pytest.approx(np.exp(scores[one]) / np.exp(scores).sum(), rel=1e-4)


def test_a_ridge_is_least_squares_on_stacked_rows_of_the_penalty(experts: ModuleType) -> None:
    documents = [text(200, 1), text(300, 2)]
    mean = torch.full((WIDTH,), 0.1)
    model = experts.Ridge(experts.Contexts(vectors()), mean)
    model.read(documents)
    x = torch.stack([context(experts, one, at) for one in documents for at in range(1, len(one))]).double()
    x = torch.cat((x, torch.ones(len(x), 1)), dim=1)
    y = torch.cat([vectors()[torch.from_numpy(one[1:])] - mean for one in documents]).double()
    weight = 0.01 * (x.T @ x).diagonal().mean()
    rows = torch.cat((x, weight.sqrt() * torch.eye(x.shape[1])))
    wanted = torch.linalg.lstsq(rows, torch.cat((y, torch.zeros(x.shape[1], WIDTH)))).solution
    wanted = wanted / (x @ wanted).square().sum(1).mean().sqrt()
    torch.testing.assert_close(model.solved(0.01).double(), wanted, rtol=1e-3, atol=1e-3)
    said = torch.cat([model.predicted(one, model.solved(0.01)) for one in documents])
    assert float(said.square().sum(1).mean()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("rule", ["delta", "additive"])
@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_a_memory_learns_by_chunks_what_it_learns_token_by_token(experts: ModuleType, rule: str, rate: float) -> None:
    generator = torch.Generator().manual_seed(4)
    keys = torch.randn(2 * experts.CHUNK + 9, 64, generator=generator)
    keys /= keys.norm(dim=1, keepdim=True)
    values = torch.randn(len(keys), WIDTH, generator=generator)
    weights, slow = torch.zeros(WIDTH, 64), torch.zeros(WIDTH, 64, dtype=torch.float64)
    said = experts.recalled(weights, keys, values, rate, rule)
    for k, v, one in zip(keys.double(), values.double(), said, strict=True):
        torch.testing.assert_close(one, (slow @ k).float(), rtol=1e-3, atol=1e-3)
        slow += rate * torch.outer(v - slow @ k if rule == "delta" else v, k)
    torch.testing.assert_close(weights, slow.float(), rtol=1e-3, atol=1e-3)


def test_the_delta_rule_overwrites_what_an_additive_memory_piles_up(experts: ModuleType) -> None:
    key = torch.ones(1, 16) / 4
    pairs = (key.repeat(3, 1), torch.eye(WIDTH)[[0, 0, 1]])
    for rule, wanted in (("delta", torch.eye(WIDTH)[1]), ("additive", 2 * torch.eye(WIDTH)[0] + torch.eye(WIDTH)[1])):
        weights = torch.zeros(WIDTH, 16)
        experts.recalled(weights, *pairs, 1.0, rule)
        torch.testing.assert_close(weights @ key[0], wanted)


@pytest.mark.parametrize("kind", ["bound", "cosines"])
def test_keys_tell_the_last_tokens_and_their_order(experts: ModuleType, kind: str) -> None:
    keys = experts.Keys.drawn(experts.Contexts(vectors()), 4096, kind, seed=0)
    one, same, swapped = (keys.of(np.array(each))[-1] for each in ([1, 2, 3, 9], [1, 2, 3, 5], [1, 3, 2, 9]))
    torch.testing.assert_close(one.norm(), torch.tensor(1.0))
    torch.testing.assert_close(one, same)
    assert float(one @ swapped) < 0.7


def test_a_memory_forgets_a_document_that_it_adapted_to(experts: ModuleType) -> None:
    keys = experts.Keys.drawn(experts.Contexts(vectors()), 256, "bound", seed=0)
    model = experts.Memory(keys, vectors(), 0.2, "delta")
    model.read([text(200, 1)])
    again = np.tile(text(20, 5), 6)
    still, fast = model.predicted(again), model.predicted(again, 0.5)
    aimed = vectors()[torch.from_numpy(again[1:])]
    last = slice(-20, None)
    assert (fast[last] / model.scale - aimed[last]).norm() < 0.5 * (still[last] / model.scale - aimed[last]).norm()
    torch.testing.assert_close(model.predicted(again), still)


def test_neighbours_are_sums_over_every_context_of_the_cell(
    experts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = np.arange(VOCAB) % 3
    classes[5] = 3
    documents = [text(300, seed) for seed in (1, 2)]
    documents = [one[one != 5] for one in documents]
    model = experts.Neighbours(experts.Contexts(vectors()), classes, 3, log_read())
    model.read(documents, seed=0)
    tokens = np.append(text(60, 7), [5, 1])
    found = model.of(experts.before(tokens, 3), tokens[1:], (0.5, 0.1))
    seen = [(one, at) for one in documents for at in range(1, len(one))]
    for row, temperature in zip(found, (0.5, 0.1), strict=True):
        for at in (1, 2, 30, 60):
            weights = np.zeros(VOCAB)
            for one, place in seen:
                if classes[one[place - 1]] == classes[tokens[at - 1]]:
                    near = [context(experts, each, n)[: 3 * WIDTH] for each, n in ((one, place), (tokens, at))]
                    weights[one[place]] += float(torch.exp(-(near[0] - near[1]).square().sum() / temperature))
            assert row[at - 1] == pytest.approx(weights[tokens[at]] / weights.sum(), rel=1e-3, abs=1e-7)
        assert row[-1] == pytest.approx(float(log_read()[1].exp())), "nothing came after a context of this class"
    every = sum(model.of(experts.before(tokens, 3)[:9], np.full(9, token), (0.5,))[0] for token in range(VOCAB))
    np.testing.assert_allclose(every, 1, rtol=1e-5)
    monkeypatch.setattr(experts, "CELL", 50)
    model.read(documents, seed=0)
    assert model.count == 150


def test_fading_mass_and_shares_are_the_loops(decay: ModuleType) -> None:
    tokens, rate = np.random.default_rng(0).integers(0, 5, 120), 0.93
    shares, known = decay.shares_of(tokens, VOCAB, (rate, 1.0))
    for at in range(1, len(tokens)):
        depth = 0
        for history in range(min(at, decay.LONGEST + 1)):
            before = tuple(tokens[at - history : at])
            places = [n for n in range(1, at) if n >= history and tuple(tokens[n - history : n]) == before]
            depth += bool(places)
            for number, one in enumerate((rate, 1.0)):
                mass = sum(one ** (at - n) for n in places)
                own = sum(one ** (at - n) for n in places if tokens[n] == tokens[at])
                assert shares[at - 1, number, history] == pytest.approx(own / mass if places else 0.0)
        assert known[at - 1] == depth


def test_caches_that_fade_sum_to_one(decay: ModuleType) -> None:
    documents = [np.random.default_rng(seed).integers(0, 6, 80) for seed in range(3)]
    own = [np.full(len(one) - 1, 1 / 6) for one in documents]
    made = decay.searched(own, documents, 6, 2)
    assert made.weights.shape == (decay.LONGEST + 2, 1 + 2 * (decay.LONGEST + 1))
    tokens = documents[0][:50]
    said = [made.mixed(np.full(50, 1 / 6), np.append(tokens, one), 6)[-1] for one in range(6)]
    assert sum(said) == pytest.approx(1)
    assert min(said) > 0


def test_a_search_finds_the_half_life_that_a_text_was_made_with(decay: ModuleType) -> None:
    """Short-lived topics: each 40 tokens from four words of their own."""
    random = np.random.default_rng(0)
    documents = [
        np.concatenate([random.integers(4 * t, 4 * t + 4, 40) for t in random.permutation(9)]) for _ in range(6)
    ]
    own = [np.full(len(one) - 1, 1 / VOCAB) for one in documents]
    assert decay.half_lives(decay.searched(own, documents, VOCAB, 1)) == [min(decay.HALF_LIVES)]
    still = [random.integers(0, 12, 400) for _ in range(4)]
    own = [np.full(len(one) - 1, 1 / VOCAB) for one in still]
    assert decay.half_lives(decay.searched(own, still, VOCAB, 1))[0] >= max(WINDOWS) / 5


def test_the_rule_asks_for_every_corpus_and_split(arms: ModuleType) -> None:
    good = {"ratio": [0.99, 0.985, 0.994], "slower": 1.2, "bytes": 10.0}
    assert arms.wins([(good, 20.0), (good, 20.0)])
    for bad in ({"ratio": [0.997, 0.99, 0.999]}, {"ratio": [0.99, 0.97, 1.001]}, {"slower": 1.6}, {"bytes": 21.0}):
        assert not arms.wins([(good, 20.0), (good | bad, 20.0)])


def test_recorded_results_hold_every_arm_and_its_verdict_follows(arms: ModuleType) -> None:
    recorded = json.loads(arms.RESULTS.read_text())
    keys = [(line["corpus"], line["split"]) for line in recorded]
    assert all(one < two for one, two in pairwise(keys))
    names = [set(line["arms"]) for line in recorded]
    assert all(one == names[0] for one in names)
    for line in recorded:
        assert all(low <= value <= high for arm in line["arms"].values() for value, low, high in [arm["ratio"]])
