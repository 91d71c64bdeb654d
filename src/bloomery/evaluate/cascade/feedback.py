"""Routing weights as a function of the votes that stand, and of nothing else.

    weight(m, c) = clip(step * sum of score(v), low, high),  v the standing votes on answers of m whose prompt has c

A vote is Hebbian (Hebb 1949): it strengthens, by step * score, exactly the connections between what was present in the
prompt and the member that answered. The clip is on the sum, not on each step: so the weights depend on the set of
standing votes only, and casting and undoing them in any order gives the same weights to the last bit. Votes beyond a
bound are not lost but wait behind it. Scores are counted in thousandths, as integers, whose sums are exact.

An answer has one standing vote: the newest that was not undone. A second vote replaces the first; undoing the second
brings the first back. Refuses votes on answers that nobody knows, and events that are none or are undone already.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from bloomery.evaluate.cascade.card import Learning
from bloomery.evaluate.cascade.routing import CONNECTIONS

UNIT = 1000
"""Parts of a score of 1."""


class Unknown(Exception):
    """There is no such answer, or no such vote, or it is undone already."""


class TooMany(Exception):
    """An answer has as many votes as are kept."""


@dataclass(frozen=True, slots=True)
class Vote:
    event: str
    """Its own id."""
    answer: str
    member: str
    """Who gave that answer."""
    connections: tuple[int, ...]
    """Of the prompt (routing.py)."""
    score: int
    """Thousandths, from -1000 to 1000."""


def thousandths(score: float) -> int:
    return round(score * UNIT)


@dataclass(slots=True)
class Votes:
    """All votes that were cast and not undone, and the weights that follow."""

    learning: Learning
    members: tuple[str, ...]
    _cast: dict[str, Vote] = field(default_factory=dict)
    _of_answer: dict[str, list[Vote]] = field(default_factory=dict)
    """In the order in which they were cast: the last one stands."""
    _sums: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * CONNECTIONS))

    def cast(self, vote: Vote) -> Vote | None:
        """Add a vote; the one that it replaces. Raises ValueError for one that was cast already."""
        if vote.event in self._cast:
            raise ValueError(f"{vote.event} twice")
        self._cast[vote.event] = vote
        several = self._of_answer.setdefault(vote.answer, [])
        before = several[-1] if several else None
        several.append(vote)
        self._change(before, vote)
        return before

    def undo(self, event: str) -> Vote:
        """Take a vote back, standing or replaced. Raises Unknown."""
        vote = self._cast.pop(event, None)
        if vote is None:
            raise Unknown(event)
        several = self._of_answer[vote.answer]
        stood = several[-1]
        several.remove(vote)
        self._change(stood, several[-1] if several else None)
        if not several:
            del self._of_answer[vote.answer]
        return vote

    def on(self, answer: str) -> Vote | None:
        """The vote that stands."""
        return several[-1] if (several := self._of_answer.get(answer)) else None

    def count(self, answer: str) -> int:
        """Of votes on an answer, those that were replaced among them."""
        return len(self._of_answer.get(answer, ()))

    def event(self, event: str) -> Vote:
        """Raises Unknown."""
        if event not in self._cast:
            raise Unknown(event)
        return self._cast[event]

    def weights(self) -> dict[str, tuple[float, ...]]:
        """CONNECTIONS numbers for each member of the cascade. Votes on former members wait for their return."""
        return {name: tuple(self._weight(each) for each in self._sums[name]) for name in self.members}

    def weights_at(self, vote: Vote) -> list[float]:
        """Of the connections that a vote is about."""
        return [self._weight(self._sums[vote.member][each]) for each in vote.connections]

    def weights_without(self, vote: Vote) -> list[float]:
        """What `weights_at` would be, were the vote undone."""
        several = self._of_answer[vote.answer]
        left = [each for each in several if each is not vote]
        change = (left[-1].score if left else 0) - several[-1].score
        return [self._weight(self._sums[vote.member][each] + change) for each in vote.connections]

    def _weight(self, total: int) -> float:
        return min(self.learning.high, max(self.learning.low, self.learning.step * total / UNIT))

    def _change(self, before: Vote | None, after: Vote | None) -> None:
        for vote, sign in ((before, -1), (after, 1)):
            if vote is not None:
                for each in vote.connections:
                    self._sums[vote.member][each] += sign * vote.score
