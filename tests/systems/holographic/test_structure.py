"""What signatures hear of structure: against loops, by matrices that hear nothing but it and by some that cannot."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.systems.holographic import structure, tokens

KINDS, WORDS = 6, 4
"""A word is of kind `word % KINDS`; each kind has WORDS of them."""


def text(length: int = 16_000, seed: int = 0) -> np.ndarray:
    """A word is followed by one of the next kind or of the next but one: words of a kind have like neighbours."""
    random = np.random.default_rng(seed)
    kinds = np.cumsum(random.integers(1, 3, length)) % KINDS
    return kinds + KINDS * random.integers(0, WORDS, length)


def heard(matrices: torch.Tensor, tokens_as: str = "own") -> Any:
    """As much of a memory as is asked."""
    return SimpleNamespace(
        heard=text(), seed=0, position=7, matrices=matrices, memory=torch.zeros(8),
        settings=SimpleNamespace(tokens_as=tokens_as),
    )  # fmt: skip


def of_kinds(spread: float) -> torch.Tensor:
    """spread: of a word about its kind."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(KINDS, 6, generator=draw, dtype=torch.float64)
    planes = centres[torch.arange(KINDS * WORDS) % KINDS]
    return tokens.rotors(planes + spread * torch.randn(planes.shape, generator=draw, dtype=torch.float64))


def test_matrices_of_kinds_hear_all_and_matrices_of_words_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "classes", lambda read, seed: read % KINDS + 1)
    whole = structure.measures(heard(of_kinds(0.0)))
    assert whole["structure_pairs"] == structure.PAIRS
    assert whole["structure_alike"] == pytest.approx(1)
    assert whole["grammar_match"] > 0.8  # not 1: a sum of commutators is blind to the order of the same transitions
    for control in ("structure_shared", "structure_random", "structure_permuted"):
        assert whole[control] < 0.7, control
    words = structure.measures(heard(tokens.v4(KINDS * WORDS, 0.3, torch.Generator().manual_seed(0))))
    assert words["structure_alike"] < 0.3
    assert abs(words["structure_alike"] - words["structure_shared"]) < 0.1  # all of it is the words they share
    assert words["grammar_match"] < 0.3
    assert words["grammar_chance"] == whole["grammar_chance"] < 0.1
    drawn = structure.measures(heard(of_kinds(0.0), "random_matrices"))
    assert abs(drawn["structure_alike"]) < 0.1
    assert drawn["grammar_match"] < 0.1


def test_classes_hold_words_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "CLASSES", KINDS)
    found, kinds = structure.classes(text(), 0), text() % KINDS
    assert (found > 0).mean() > 0.9  # the rarest word has no class
    assert len(np.unique(found)) > KINDS // 2
    pure = [np.bincount(kinds[found == one]).max() / (found == one).sum() for one in np.unique(found[found > 0])]
    assert sum(share > 0.99 for share in pure) >= len(pure) - 1
    assert min(pure) > 0.4


def test_pairs_share_their_sequence_and_not_their_words() -> None:
    read = text()
    windows, kinds = (np.lib.stride_tricks.sliding_window_view(each, structure.LENGTH) for each in (read, read % KINDS))
    one, two = structure.pairs(windows, kinds, np.random.default_rng(0))
    assert len(one) == structure.PAIRS
    for a, b in zip(one, two, strict=True):
        assert (kinds[a] == kinds[b]).all()
        assert (kinds[a] > 0).all()
        assert (windows[a] != windows[b]).sum() >= structure.APART


def test_a_match_is_the_loop() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 3, (2, 40, 6))
    theirs, own = random.integers(0, 2, (2, 40, 2))
    signed, second = torch.from_numpy(random.standard_normal((2, 40, 5)))
    found = structure.matched(signed, second, a, b, theirs, own)
    right, words, chance = [], [], []
    for i in range(40):
        free = [j for j in range(40) if sum(x != y for x, y in zip(a[i], b[j], strict=True)) >= 3]
        cosines = [float(torch.nn.functional.cosine_similarity(signed[i], second[j], dim=0)) for j in free]
        equal = [int((a[i] == b[j]).sum()) for j in free]
        same = [bool((theirs[i] == own[j]).all()) for j in free]
        right.append(same[cosines.index(max(cosines))])
        words.append(same[equal.index(max(equal))])
        chance.append(np.mean(same))
    wanted = {"grammar_match": right, "grammar_words": words, "grammar_chance": chance}
    assert found == pytest.approx({name: float(np.mean(each)) for name, each in wanted.items()})


def test_too_little_text_says_nothing() -> None:
    short = heard(of_kinds(0.0))
    short.heard = text(10)
    assert structure.measures(short) == {}
