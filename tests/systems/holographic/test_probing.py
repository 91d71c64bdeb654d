"""What a memory tells to probes: prototypes that fire, margins, and the seed's decoding, against loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.model.interface import Answering, Featuring
from bloomery.systems.holographic import mechanisms
from bloomery.systems.holographic.algebra import grace
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.contexts import enstrophy, witness
from bloomery.systems.holographic.decoding import Decoded
from bloomery.systems.holographic.theory_files import open as open_memory
from bloomery.systems.holographic.theory_memory import TheoryMemory
from bloomery.systems.holographic.theory_scorer import TheoryScorer

GOLDEN = (1 + math.sqrt(5)) / 2
VOCAB, END = 30, 29
TEXT = np.random.default_rng(0).choice(END, p=np.random.default_rng(1).dirichlet(np.full(END, 0.4)), size=1500)


def memory(**settings: str) -> TheoryMemory:
    made = TheoryMemory(Theory.model_validate({"context": 3, "buffer": 300, **settings}), VOCAB, END, 0)
    for start in range(0, len(TEXT), 500):
        made.read(TEXT[start : start + 500], np.array([0] if start == 0 else [], dtype=np.int64))
        made.sleep(("non_rem",), np.random.default_rng(start))
    return made


def test_a_context_wakes_the_prototype_of_the_nearest_witness_and_margin_is_of_the_two_nearest() -> None:
    made = memory()
    scorer = made.scorer()
    assert isinstance(scorer, TheoryScorer)
    assert isinstance(scorer, Featuring)
    assert isinstance(scorer, Answering)
    asked = np.concatenate(([END], TEXT[:40]))
    points = witness(made.sleeper.attractors.states).tolist()
    counts, margins = [0] * len(points), []
    for state in witness(made.states(asked)[0]).tolist():
        distances = [math.dist(state, point) for point in points]
        counts[distances.index(min(distances))] += 1
        first, second = sorted(distances)[:2]
        margins.append((second - first) / second if second else 0.0)
    assert len(points) > 2
    assert scorer.features(asked).tolist() == counts
    said, sure = scorer.answers(torch.from_numpy(asked[None]))
    assert sure[0].tolist() == pytest.approx(margins)
    own = next(iter(made.retrieved(asked, 0, len(asked))))[1][made.names.index("prior")]
    rows = np.zeros((len(asked), VOCAB))
    np.add.at(rows, (own.rows, own.tokens), own.weights)
    assert rows[np.arange(len(asked)), said[0].numpy()].tolist() == pytest.approx(rows.max(-1).tolist())


def test_without_prototypes_the_answer_is_the_most_frequent_token_and_no_margin() -> None:
    made = TheoryMemory(Theory(context=3), VOCAB, END, 0)
    made.read(TEXT[:200], np.array([0]))
    said, sure = made.scorer().answers(torch.tensor([[END, 1, 2]]))  # pyright: ignore[reportAttributeAccessIssue]
    assert said.tolist() == [[int(np.bincount(TEXT[:200]).argmax())] * 3]
    assert sure.tolist() == [[0.0] * 3]
    assert made.scorer().features(TEXT[:9]).tolist() == [0.0]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("how", ["vorticity", "similarity"])
def test_greedy_text_is_the_seed_s_decoding_of_the_retrieved_attractor(how: str) -> None:
    """Scores by prior.decoded's formula in plain numbers; the order of probabilities is that of scores."""
    made = memory(decoding=how)
    scorer = made.scorer()
    assert isinstance(scorer, Decoded)
    history = np.concatenate(([END], TEXT[700:720]))
    found = scorer.logprobs(torch.from_numpy(history[None]))[0]
    assert found.exp().sum(-1).tolist() == pytest.approx([1.0] * len(history), abs=1e-9)
    weights, votes = made.weights(), next(iter(made.retrieved(history, 0, len(history))))[1]
    mixed = np.zeros((len(history), VOCAB))
    for weight, each in zip(weights[1:], votes, strict=True):
        np.add.at(mixed, (each.rows, each.tokens), weight * each.weights)
    mixed = np.where(mixed.sum(-1, keepdims=True) > 0, mixed, made.unigram())
    mixed /= mixed.sum(-1, keepdims=True)
    e, turns, seen = made.matrices, enstrophy(made.matrices).tolist(), witness(made.matrices).tolist()
    for place in range(len(history)):
        a = torch.from_numpy(mixed[place]) @ e
        overlap = [sum(x * y for x, y in zip(row, a.tolist(), strict=True)) for row in e.tolist()]
        score = [(each - min(overlap)) / (max(overlap) - min(overlap)) for each in overlap]
        if how == "vorticity":
            own, (w0, w1) = float(enstrophy(a)), witness(a).tolist()
            turned = [abs(each - own) for each in turns]
            apart = [abs(x - w0) + abs(y - w1) for x, y in seen]
            weight = max(GOLDEN**-2, min(1, 10 * own)) / GOLDEN
            score = [
                s - weight * (t / max(turned) / GOLDEN + d / max(apart) / GOLDEN**2)
                for s, t, d in zip(score, turned, apart, strict=True)
            ]
        row = found[place].tolist()
        assert row.index(max(row)) == score.index(max(score))
        best, other = max(score), score[5]
        assert (max(row) - row[5]) / 20 == pytest.approx(best - other, abs=1e-9)


def test_the_two_decodings_differ_and_are_kept_with_the_memory(tmp_path: Path) -> None:
    one, two = memory(decoding="vorticity"), memory(decoding="similarity")
    history = torch.from_numpy(np.concatenate(([END], TEXT[:30]))[None])
    assert (one.scorer().logprobs(history) != two.scorer().logprobs(history)).any()
    one.save(tmp_path)
    again = open_memory(tmp_path).scorer()
    assert isinstance(again, Decoded)
    assert torch.equal(again.logprobs(history), one.scorer().logprobs(history))
    stream = again.stream()
    for token in history[0].tolist():
        stream.push(token)
    assert stream.probabilities() == pytest.approx(again.logprobs(history)[0, -1].exp().numpy())


def test_the_likest_pairs_merge_first_however_many_rows_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all pairs in a loop."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.randn(7, 8, generator=generator, dtype=torch.float64)
    states = ground[torch.randint(7, (40,), generator=generator)]
    states = states + 0.1 * torch.randn(40, 8, generator=generator, dtype=torch.float64)
    support = [float(number % 5 + 1) for number in range(40)]
    pairs = sorted(
        (-float(torch.cosine_similarity(states[one], states[two], dim=0)), one, two)
        for one in range(40)
        for two in range(one + 1, 40)
    )
    wanted: list[tuple[int, int]] = []
    for cosine, one, two in pairs:
        if -cosine > mechanisms.ALIKE and not {one, two} & {each for pair in wanted for each in pair}:
            wanted.append((one, two))
    for rows in (512, 7):
        monkeypatch.setattr(mechanisms, "ROWS_AT_ONCE", rows)
        found = mechanisms.merged(states, support)
        assert [(one, two) for one, two, _ in found] == wanted[:5]
        for one, two, state in found:
            mean = (support[one] * states[one] + support[two] * states[two]) / (support[one] + support[two])
            assert torch.allclose(state, grace(mean))
