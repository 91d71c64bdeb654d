"""Plain TF-IDF retrieval: the document nearest to a query. The control of packets of specialists; pure, no model.

    vector of a text:  v_w = count(w) idf(w),   idf(w) = ln((1 + N) / (1 + documents with w)) + 1
    found:             argmax over documents of the cosine of their vector and the query's

(Salton and Buckley 1988, in the smoothed form that scikit-learn's TfidfVectorizer has by default). Ties go to the
document that was given first; a query without a known word finds the first one. Refuses no documents at all.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.errors import DataError


@dataclass(frozen=True, slots=True)
class Retrieval:
    postings: Mapping[str, Sequence[tuple[int, float]]]
    """{word: (document, what the word adds to its unit vector)}, in the order of documents."""
    idf: Mapping[str, float]
    documents: int

    @staticmethod
    def of(texts: Sequence[str]) -> Retrieval:
        """Raises DataError where there are none."""
        if not texts:
            raise DataError("documents", "there are none", "at least one to find")
        counts = [_counts(text) for text in texts]
        holding = Counter(word for each in counts for word in each)
        idf = {word: math.log((1 + len(texts)) / (1 + number)) + 1 for word, number in holding.items()}
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, each in enumerate(counts):
            weights = {word: count * idf[word] for word, count in each.items()}
            length = math.hypot(*weights.values())
            for word, weight in weights.items():
                postings[word].append((place, weight / length))
        return Retrieval(dict(postings), idf, len(texts))

    def best(self, query: str) -> int:
        """The place of the nearest document. The query's own length changes no order, and is left out."""
        scores = [0.0] * self.documents
        for word, count in _counts(query).items():
            for place, weight in self.postings.get(word, ()):
                scores[place] += count * self.idf[word] * weight
        return max(range(self.documents), key=lambda place: scores[place])


def _counts(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))
