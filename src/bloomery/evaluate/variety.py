"""How varied a text is: words and n-grams that are not said again (Li et al. 2016, arXiv:1510.03055: distinct-n).

    distinct-n = different n-grams / n-grams, over all texts;  repetition = n-grams that stood before in the same text

A text shorter than n words has no n-gram; where no text has one, both are 0. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

Gram = tuple[str, ...]


def grams(text: str, n: int) -> list[Gram]:
    """Of its words, as white space parts them."""
    words = text.split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def distinct(texts: Sequence[str], n: int) -> tuple[float, int]:
    """The share of different n-grams among all, and of how many."""
    found = [gram for text in texts for gram in grams(text, n)]
    return (len(set(found)) / len(found) if found else 0.0), len(found)


def repetition(texts: Sequence[str], n: int) -> tuple[float, int]:
    """The share of n-grams that stood before in the same text, and of how many."""
    several = [grams(text, n) for text in texts]
    count = sum(map(len, several))
    return (sum(len(each) - len(set(each)) for each in several) / count if count else 0.0), count
