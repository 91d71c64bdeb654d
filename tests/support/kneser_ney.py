"""Modified Kneser-Ney with cutoffs, and episodic caches, straight from the definitions: dictionaries, one at a time.

Chen and Goodman 1999, section 3 and equation 26; written apart from `bloomery.evaluate`, of which it imports nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

Gram = tuple[int, ...]


class Textbook:
    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        order: int,
        vocab: int,
        end: int | None = None,
        cutoffs: Sequence[int] = (),
    ) -> None:
        self.vocab, self.order = vocab, order
        raw: list[Counter[Gram]] = [Counter() for _ in range(order + 1)]
        for row in rows:
            for stop in range(2, len(row) + 1):
                for length in range(1, min(order, stop) + 1):
                    gram = tuple(row[stop - length : stop])
                    if end is None or end not in gram[1:-1]:
                        raw[length][gram] += 1
        self.adjusted: list[dict[Gram, int]] = [{}]
        for length in range(1, order + 1):
            before: dict[Gram, set[int]] = defaultdict(set)
            for gram in raw[length + 1] if length < order else ():
                before[gram[1:]].add(gram[0])
            self.adjusted.append({gram: len(before[gram]) or count for gram, count in raw[length].items()})
        self.discounts = [(0.0, *self._discounts(list(level.values()))) for level in self.adjusted]
        self.totals: list[Counter[Gram]] = [Counter() for _ in range(order + 1)]
        self.kept: list[dict[Gram, dict[int, int]]] = [defaultdict(dict) for _ in range(order + 1)]
        for length in range(1, order + 1):
            cutoff = cutoffs[min(length, len(cutoffs)) - 1] if cutoffs else 0
            for gram, count in self.adjusted[length].items():
                self.totals[length][gram[:-1]] += count
                if raw[length][gram] > cutoff:
                    self.kept[length][gram[:-1]][gram[-1]] = count

    @staticmethod
    def _discounts(counts: list[int]) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (counts.count(times) for times in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return 0.5, 1.0, 1.5
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 < d < i for i, d in enumerate(found, 1)) else (0.5, 1.0, 1.5)

    def discount(self, length: int, count: int) -> float:
        return self.discounts[length][min(count, 3)]

    def probability(self, history: Gram, token: int) -> float:
        """Of `token` after `history`, of which no more than order - 1 tokens are looked at."""
        history = history[max(0, len(history) - self.order + 1) :]
        lower = 1 / self.vocab if not history else self.probability(history[1:], token)
        length = len(history) + 1
        kept = self.kept[length].get(history)
        if not kept:
            return lower
        total = self.totals[length][history]
        shares = {one: (count - self.discount(length, count)) / total for one, count in kept.items()}
        return shares.get(token, 0.0) + (1 - sum(shares.values())) * lower


def cache_share(text: Sequence[int], at: int, window: int, history: int) -> dict[int, float] | None:
    """{token: share} of what followed the last `history` tokens of text[:at] among its last `window`; the first token
    of a text followed nothing. None where they did not occur."""
    if history > at:
        return None
    context = tuple(text[at - history : at])
    found: Counter[int] = Counter()
    for place in range(max(1, history, at - window), at):
        if tuple(text[place - history : place]) == context:
            found[text[place]] += 1
    total = sum(found.values())
    return {token: count / total for token, count in found.items()} if total else None
