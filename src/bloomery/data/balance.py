"""How much of what is learned is of each category, and the rule that none may crowd out the others.

A category's share is the sum over the parts of a mixture of (share of the part) x (its documents / the part's
documents). The rule (specs/harmonic.md, 5): no category above `at_most`, none below `at_least`, each with at least
`examples`. It refuses; it does not weigh anew: a category of five examples that is shown as often as a hundred is
learned by heart, which is what the rule is there to prevent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError


@dataclass(frozen=True, slots=True)
class Weight:
    examples: int
    share: float


def weigh(parts: Sequence[tuple[TokenFile, float]]) -> dict[str, Weight]:
    """{category: its weight} in a mixture of files and shares, in the order of the names."""
    examples = Counter[str]()
    shares: dict[str, float] = defaultdict(float)
    for file, share in parts:
        for category, count in Counter(file.categories).items():
            examples[category] += count
            shares[category] += share * count / file.documents
    return {name: Weight(examples[name], shares[name]) for name in sorted(examples)}


def check_balance(weights: Mapping[str, Weight], *, at_most: float, at_least: float, examples: int) -> None:
    """Raises DataError naming the first category that breaks the rule, and how."""
    for name, weight in weights.items():
        where = f"balance: category '{name}'" if name else "balance: documents without a category"
        told = f"{weight.share:.1%} of what is learned ({weight.examples} examples)"
        if weight.share > at_most:
            raise DataError(where, told, f"at most {at_most:.0%}", "give the others more examples, or this one fewer")
        if weight.examples < examples:
            raise DataError(where, told, f"at least {examples} examples", "make more of them, or leave it out")
        if weight.share < at_least:
            raise DataError(where, told, f"at least {at_least:.0%}", "give it more examples, or leave it out")


def room(
    weights: Mapping[str, Weight],
    part: TokenFile,
    share: float,
    category: str,
    wanted: int,
    *,
    most: float,
    least: float,
) -> int:
    """How many of `wanted` further examples of a category `part`, which has this share, can take before the category
    is above `most` of the mixture, or another one below `least`."""
    counts, total = Counter(part.categories), part.documents

    def then(name: str, more: int) -> float:
        own = counts[name] + (more if name == category else 0)
        return weights[name].share + share * (own / (total + more) - counts[name] / total)

    def fits(more: int) -> bool:
        others = (then(name, more) for name in counts if name != category)
        return then(category, more) <= most and all(other >= least for other in others)

    return max((more for more in range(wanted + 1) if fits(more)), default=0)
