"""Ratings of competitors on one axis: Bradley and Terry's model, with the axis's own question as a player.

    P(i beats j) = p_i / (p_i + p_j),     rating = 400 log10 p  (points as Elo's; the question stands at 0)

Who answers a question rightly beats it, and beats everyone who does not; whoever fails loses to it. A rating of 0 is
thus an even chance on this axis, and ratings of different axes can be compared. PRIOR wins and losses against the
question keep every rating finite. Unlike Elo's updates the estimate does not depend on the order of the rounds.

Fitted by minorisation-maximisation, p_i <- W_i / sum_j n_ij / (p_i + p_j): Hunter 2004, Annals of Statistics 32,
equation 3; the model is Bradley and Terry's, Biometrika 39, 1952.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PRIOR = 0.5
POINTS = 400.0
TOLERANCE = 1e-10
MOST_STEPS = 100_000


def win_table(answers: Sequence[Sequence[bool]], prior: float = PRIOR) -> list[list[float]]:
    """[i][j]: wins of i over j; the last player is the question. answers: [question][competitor], whether right."""
    players = len(answers[0])
    wins = [[0.0] * (players + 1) for _ in range(players + 1)]
    for one in range(players):
        wins[one][players] = wins[players][one] = prior
    for right in answers:
        for one in range(players):
            winner, loser = (one, players) if right[one] else (players, one)
            wins[winner][loser] += 1
            for other in range(players):
                wins[one][other] += right[one] and not right[other]
    return wins


def ratings(answers: Sequence[Sequence[bool]], prior: float = PRIOR) -> list[float]:
    """Points of each competitor. answers: [question][competitor], whether right; at least one question."""
    wins = win_table(answers, prior)
    players = len(wins)
    strength = [1.0] * players
    for _ in range(MOST_STEPS):
        new = [
            sum(wins[one])
            / sum(
                (wins[one][other] + wins[other][one]) / (strength[one] + strength[other])
                for other in range(players)
                if other != one
            )
            for one in range(players)
        ]
        scaled = [value / new[-1] for value in new]
        moved = max(abs(math.log(a / b)) for a, b in zip(scaled, strength, strict=True))
        strength = scaled
        if moved < TOLERANCE:
            break
    return [POINTS * math.log10(value) for value in strength[:-1]]
