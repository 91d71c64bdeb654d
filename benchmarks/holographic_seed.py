"""The three speed-ups that the seed reports for its theory (v4), each against the loop it replaces, results compared.

    two-path        of the tokens read all are learned in one batch and only those that the full buffer draws become
                    episodes; the loop makes every token an episode of its own, from its own window (reported: 14 times)
    decomposition   the coefficients of many matrices at once; the loop takes traces, matrix by matrix, blade by blade
                    (34 times)
    look-up         the matrices of many tokens by one index; the loop fetches them one by one (11 times)

`holographic.py` prints them. CPU seconds of one thread, forms in turns, best round. The batch is bloomery's own code,
`TheoryMemory.read`, which also predicts one run of tokens in 32; the loops are the formulas on 4x4 matrices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bloomery.systems.holographic import algebra, recall
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.theory_memory import TheoryMemory

CONTEXT, BUFFER, TOKENS = 32, 256, 4096
"""TOKENS are read with the buffer full: BUFFER others have been read before."""
MATRICES = 20_000
CLOSE = 1e-9
Rates = dict[str, dict[str, float]]


def speed_ups(text: NDArray[np.int64], vocab: int, rounds: int) -> Rates:
    """{name: loop and batch per second, times, largest difference}. text: end_of_document first. AssertionError where
    results differ."""
    text = text[: 1 + BUFFER + TOKENS]
    memory = woken(text, vocab)
    matrices = algebra.to_matrix(memory.matrices)
    own = text.tolist()
    return {
        "two-path": compared(lambda: woken(text, vocab), lambda: one_by_one(text, vocab), TOKENS + BUFFER, rounds),
        "decomposition": compared(
            lambda: (algebra.from_matrix(matrices[:MATRICES]),), lambda: (traces(matrices[:MATRICES]),),
            min(MATRICES, vocab), rounds,
        ),
        "look-up": compared(
            lambda: (memory.matrices[torch.from_numpy(text)],),
            lambda: (torch.stack([memory.matrices[token % vocab] for token in own]),), len(own), rounds,
        ),
    }  # fmt: skip


def compared(batch: Callable[[], Any], loop: Callable[[], Any], count: int, rounds: int) -> dict[str, float]:
    best, results = {batch: math.inf, loop: math.inf}, {}
    for _ in range(rounds):
        for form in (batch, loop):
            began = time.process_time()
            results[form] = form()
            best[form] = min(best[form], time.process_time() - began)
    pairs = zip(*(parts_of(results[form]) for form in (batch, loop)), strict=True)
    difference = max(float((one.double() - two.double()).abs().max()) for one, two in pairs)
    assert difference < CLOSE, difference
    found = {"loop": count / best[loop], "batch": count / best[batch], "times": best[loop] / best[batch]}
    return {**found, "largest difference": difference}


def parts_of(result: Any) -> list[Tensor]:
    """What is compared of a memory: its superposition, and the episodes that wait."""
    if not isinstance(result, TheoryMemory):
        return list(result)
    waiting = result.sleeper.waiting
    kept = [waiting.states, waiting.signatures, torch.from_numpy(waiting.targets), torch.from_numpy(waiting.positions)]
    return [result.memory, *kept]


def woken(text: NDArray[np.int64], vocab: int) -> TheoryMemory:
    """By batches: what bloomery does."""
    made = TheoryMemory(Theory(context=CONTEXT, buffer=BUFFER), vocab, int(text[0]), 0)
    made.read(text[1 : 1 + BUFFER], np.array([0]))
    made.read(text[1 + BUFFER :], np.zeros(0, dtype=np.int64))
    return made


def one_by_one(text: NDArray[np.int64], vocab: int) -> list[Tensor]:
    """Every token by itself: its window multiplied out on matrices, learned, and offered to the buffer."""
    made = TheoryMemory(Theory(context=CONTEXT, buffer=BUFFER), vocab, int(text[0]), 0)
    matrices, even = algebra.to_matrix(made.matrices), list(algebra.EVEN)
    memory = torch.zeros(len(even), dtype=torch.float64)
    episodes: list[tuple[Tensor, Tensor, int, int]] = []
    for position in range(len(text) - 1):
        window = [matrices[token] for token in text[max(0, position + 1 - CONTEXT) : position + 1].tolist()]
        product, turns = torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
        for at, one in enumerate(window):
            product = product @ one
            product = product / torch.linalg.matrix_norm(product)
            if at:
                turns = turns + (one @ window[at - 1] - window[at - 1] @ one) / 2
        signature = algebra.from_matrix(turns / math.sqrt(CONTEXT - 1))[even]
        state = algebra.grace(algebra.from_matrix(product)[even] + signature / algebra.GOLDEN)
        target = int(text[position + 1])
        bound = algebra.to_matrix(state) @ matrices[target]
        memory = memory + algebra.from_matrix(bound)[even] / algebra.GOLDEN
        episode = (state, signature, target, position)
        if len(episodes) < BUFFER:
            episodes.append(episode)
            continue
        drawn = float(recall.uniform(np.array([position]), 0)[0])
        if (place := int(drawn * (position + 1))) < BUFFER:
            episodes[place] = episode
    states, signatures, targets, positions = zip(*episodes, strict=True)
    return [memory, torch.stack(states), torch.stack(signatures), torch.tensor(targets), torch.tensor(positions)]


def traces(matrices: Tensor) -> Tensor:
    blades = algebra.basis()
    rows = [[float((blade * matrix).sum()) / 4 for blade in blades] for matrix in matrices]
    return torch.tensor(rows, dtype=torch.float64)
