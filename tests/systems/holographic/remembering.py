"""A small text and slow, obvious dictionaries that the attractor variant is held against."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from bloomery.evaluate.ngram_counts import discounts_of
from bloomery.systems.holographic.ladders import Ladder

VOCAB = 12
END = 11
Key = tuple[tuple[int, ...], int]


def text(count: int, seed: int = 0, length: int = 40) -> list[np.ndarray]:
    """Documents of a skewed Markov chain, each [n + 1] between ends."""
    random = np.random.default_rng(7)
    table = random.dirichlet(np.full(END, 0.3), END * END)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        out = [0, 1]
        for _ in range(int(random.integers(length // 2, length))):
            out.append(int(random.choice(END, p=table[out[-2] * END + out[-1]])))
        found.append(np.array([END, *out[2:], END]))
    return found


def stream(documents: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """As a token file has them, one end before the first: tokens, and where documents begin."""
    tokens = np.concatenate([documents[0][:1], *(one[1:] for one in documents)])
    lengths = [len(one) - 1 for one in documents]
    return tokens, 1 + np.cumsum([0, *lengths[:-1]])


class Dictionaries:
    """A ladder by dictionaries of tuples: modified Kneser-Ney over its rungs, one probability at a time."""

    def __init__(
        self,
        ladder: Ladder,
        documents: list[np.ndarray],
        alphabets: Sequence[np.ndarray | None],
        size: int,
        cutoffs: list[int] | None = None,
    ) -> None:
        self.ladder, self.size, self.alphabets = ladder, size, alphabets
        raw: list[Counter[Key]] = [Counter() for _ in ladder.rungs]
        before: list[dict[Key, set[tuple[int, ...]]]] = [defaultdict(set) for _ in ladder.rungs]
        for document in documents:
            for place in range(1, len(document)):
                target = self.symbol(ladder.target, document[place])
                below = None
                for rung in range(len(ladder.rungs)):
                    context = self.context(rung, document[:place])
                    if context is None:
                        break
                    raw[rung][context, target] += 1
                    if below is not None:
                        before[rung - 1][below, target].add(context)
                    below = context
        self.levels = [
            {key: len(before[rung][key]) or times for key, times in counts.items()} for rung, counts in enumerate(raw)
        ]
        self.discounts = [discounts_of(np.array(list(level.values()))) for level in self.levels]
        self.kept = [
            {key for key, times in counts.items() if times > (cutoffs or [0] * len(raw))[rung]}
            for rung, counts in enumerate(raw)
        ]

    def symbol(self, alphabet: int, token: int) -> int:
        table = self.alphabets[alphabet]
        return int(token if table is None else table[token])

    def context(self, rung: int, history: np.ndarray) -> tuple[int, ...] | None:
        features = self.ladder.rungs[rung]
        if max((lag for lag, _ in features), default=0) > len(history):
            return None
        return tuple(self.symbol(alphabet, history[-lag]) for lag, alphabet in features)

    def probability(self, history: np.ndarray, target: int, rung: int | None = None) -> float:
        rung = len(self.levels) - 1 if rung is None else rung
        if rung < 0:
            return 1 / self.size
        lower = self.probability(history, target, rung - 1)
        context = self.context(rung, history)
        own = {key: count for key, count in self.levels[rung].items() if key[0] == context}
        kept = {key: count for key, count in own.items() if key in self.kept[rung]}
        if context is None or not kept:
            return lower
        discount = {key: self.discounts[rung][min(count, 3) - 1] for key, count in kept.items()}
        total = sum(own.values())
        share = (kept[context, target] - discount[context, target]) / total if (context, target) in kept else 0.0
        return share + (total - sum(kept.values()) + sum(discount.values())) / total * lower
