"""The suite `gauntlet`: what a model answers to the items of a prepared part, and what constant answers would earn.

For every category in the part, for `all` of them and for the `weakest`:

    accuracy       of the model, at temperature 0                       weakest: of the category where it is lowest
    best_constant  of the answer that solves most items of the set's own train part
    another_item   of the reference of another item of the category
    margin         accuracy - best_constant, on the same items

and `factual/behind_reasoning`, the accuracy of `reasoning` less that of `factual`, where the part has both: relative to
a control, `as: difference`, it says whether a model has lost more of what it knew than of how it concludes.

It brings `baseline:best_constant`: the same answers as a rival's `accuracy`, so that a gate can ask for
`gauntlet/*/accuracy, relative_to: baseline:best_constant, as: difference`.

An answer may be as long as the longest reference of its category, and SLACK tokens more. Shares are over items, with
Wilson intervals; margins are paired. Without `data`, questions of its own are asked, a fifth of OWN_EXAMPLES, by the
hash of their tuples; constants are fitted on the rest. Refuses a part that does not come from `source: gauntlet`, or is
what the constants are fitted on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from bloomery.engine.artifact import Artifact
from bloomery.engine.intervals import items_interval, paired_interval
from bloomery.engine.stage import SuiteResult
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.gauntlet.item import CATEGORIES, Item
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.cast import BASELINE
from bloomery.plan.schema import Frozen
from bloomery.stages.scorers import kind_of, open_scorer

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.model.interface import Streaming

SLACK = 8
OWN_EXAMPLES = 4000
RIVAL = "best_constant"
GROUPS = (*CATEGORIES, "all", "weakest")
BEHIND = "factual/behind_reasoning"


class GauntletSettings(Frozen):
    data: str | None = None
    """A part of a gauntlet: `skills:test`, or `skills:held_out` (templates that no other part has). None: questions
    made now, which a model that learned from a gauntlet may have seen."""
    items: int | None = Field(default=None, ge=1)
    """At most this many of each category, evenly spread; None: all."""


class Gauntlet:
    """Generated questions in eight categories, each with a checker."""

    def config_model(self) -> type[BaseModel]:
        return GauntletSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        every = {f"{group}/{name}": emitted for group in GROUPS for name, emitted in _QUANTITIES.items()}
        return {**every, BEHIND: Emitted("", "lower")}

    def brings(self, config: BaseModel) -> tuple[str, ...]:
        return (RIVAL,)

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.gauntlet.generate import VERSION
        from bloomery.stages import models

        assert isinstance(config, GauntletSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        tokenizer = prepared.tokenizer
        asked, others = _own() if config.data is None else _prepared(prepared, config.data)
        chosen = _chosen(asked, config.items)
        write = _writer(model.path, tokenizer, device)
        longest = {category: _longest(items, tokenizer) for category, items in chosen.items()}

        def answer(item: Item) -> str:
            return write(item.prompt, longest[item.category])

        digest = f"gauntlet {VERSION}" if config.data is None else prepared.part(config.data).digest
        return judged(chosen, _constants(others), answer, digest)


_QUANTITIES = {
    "accuracy": Emitted("", "higher"),
    "best_constant": Emitted("", "lower"),
    "another_item": Emitted("", "lower"),
    "margin": Emitted("", "higher"),
}


def _prepared(prepared: Prepared, data: str) -> tuple[list[Item], list[Item]]:
    """The items of a part, and those that constants are fitted on: the train part of the set."""
    from bloomery.data.prepared import parse_part
    from bloomery.evaluate.gauntlet.source import items_of

    name, split = parse_part(data)
    if split == "train" or "train" not in prepared.splits(name):
        found = f"{name}:{split}" if split == "train" else f"'{name}' has no part 'train'"
        raise DataError(f"data.{name}", found, "another part than train, which constants are fitted on")
    both = (prepared.part(part) for part in (data, f"{name}:train"))
    asked, others = (items_of(part, prepared.tokenizer) for part in both)
    return asked, others


def _own() -> tuple[list[Item], list[Item]]:
    """As `_prepared`, without any data."""
    from bloomery.evaluate.gauntlet.generate import generate

    asked: list[Item] = []
    others: list[Item] = []
    for item in generate(OWN_EXAMPLES):
        fifth = int(hashlib.sha256(item.key.encode()).hexdigest()[:8], 16) % 5 == 0
        if not item.held_out:
            (asked if fifth else others).append(item)
    return asked, others


def _chosen(items: Sequence[Item], limit: int | None) -> dict[str, list[Item]]:
    """{category: its items}, those that are there, in the order of CATEGORIES."""
    from bloomery.evaluate.perplexity import spread

    return {
        category: [several[index] for index in spread(len(several), limit)]
        for category, several in _by_category(items).items()
    }


def _constants(items: Sequence[Item]) -> dict[str, Item]:
    """{category: the best constant answer, as the item whose reference it is}."""
    from bloomery.evaluate.gauntlet.rivals import best_constant

    return {category: best_constant(several) for category, several in _by_category(items).items()}


def _by_category(items: Sequence[Item]) -> dict[str, list[Item]]:
    found = {category: [item for item in items if item.category == category] for category in CATEGORIES}
    return {category: several for category, several in found.items() if several}


def _writer(folder: Path, tokenizer: Tokenizer, device: str) -> Callable[[str, int], str]:
    """(prompt, most tokens) -> what the model, table of counts or cascade in this folder writes at temperature 0."""
    from bloomery.evaluate.cascade.card import CARD
    from bloomery.evaluate.sample import generate
    from bloomery.model.interface import Streaming
    from bloomery.stages import models

    if (folder / CARD).exists():
        return _cascade(folder, device)
    if kind_of(folder) != "ngram":
        models.check_tokenizer(folder, tokenizer)
    network = open_scorer(folder, device=device)
    if isinstance(network, Streaming):
        return lambda prompt, most: likeliest(network, tokenizer, prompt, most)
    return lambda prompt, most: generate(network, tokenizer, prompt, max_tokens=most, temperature=0)


def _cascade(folder: Path, device: str) -> Callable[[str, int], str]:
    """By its own routes, before any vote; members have their own tokenizers."""
    from bloomery.evaluate.cascade.answering import answer
    from bloomery.evaluate.cascade.routing import CONNECTIONS, route, words_of
    from bloomery.evaluate.sampling import Sampling
    from bloomery.stages.cascades import member_folders, open_cascade, read_cascade

    def elsewhere(name: object) -> Path:
        raise ArtifactError(str(folder), "a member lies elsewhere", "a cascade that a stage wrote, with its members")

    declared = read_cascade(folder)
    card = declared.card
    readers, relevance = open_cascade(declared, member_folders(declared, elsewhere, elsewhere), device=device)
    weights = {name: [0.0] * CONNECTIONS for name in card.names}

    def write(prompt: str, most: int) -> str:
        order = route(card, relevance, words_of(prompt), weights)
        sampling = Sampling(max_tokens=most, temperature=0.0, logprobs=0)
        return answer(card, readers, order, prompt, sampling).text

    return write


def likeliest(table: Streaming, tokenizer: Tokenizer, prompt: str, most: int) -> str:
    """What a scorer without weights writes, always the likeliest token."""
    stream, written = table.stream(), list[int]()
    for token in (tokenizer.end_of_document, *map(int, tokenizer.encode(prompt))):
        stream.push(token)
    while len(written) < most:
        token = int(stream.probabilities().argmax())
        if token == tokenizer.end_of_document:
            break
        written.append(token)
        stream.push(token)
    return tokenizer.decode(written)


def _longest(items: Sequence[Item], tokenizer: Tokenizer) -> int:
    return SLACK + max(len(tokenizer.encode(f" {item.reference}")) for item in items)


@dataclass(frozen=True, slots=True)
class _Scores:
    """1 or 0 for each item of a group."""

    key: str
    model: tuple[float, ...]
    constant: tuple[float, ...]
    other: tuple[float, ...]

    def items(self, scores: tuple[float, ...]) -> Items:
        return Items(self.key, scores, tuple(1.0 for _ in scores))

    @property
    def accuracy(self) -> float:
        return sum(self.model) / len(self.model)


def judged(
    chosen: Mapping[str, Sequence[Item]], constants: Mapping[str, Item], answer: Callable[[Item], str], digest: str
) -> SuiteResult:
    """What `answer` earns on {category: items}. digest: of the part that the items stand in."""
    from bloomery.evaluate.gauntlet.rivals import others, solves
    from bloomery.evaluate.progress import counted

    scores: dict[str, _Scores] = {}
    samples: list[tuple[str, str]] = []
    for category, items in chosen.items():
        answers = [answer(item) for item in counted(items, f"answers in {category}")]
        samples.append((items[0].prompt, answers[0]))
        constant = constants.get(category)
        scores[category] = _Scores(
            f"{digest}:{category}:{len(items)}",
            tuple(float(item.accepts(text)) for item, text in zip(items, answers, strict=True)),
            tuple(float(constant is not None and solves(constant, item)) for item in items),
            tuple(float(solves(other, item)) for other, item in zip(others(items), items, strict=True)),
        )
    return SuiteResult(tuple(_measurements(scores, digest)), tuple(samples))


def _measurements(scores: Mapping[str, _Scores], digest: str) -> list[Measurement]:
    together = _Scores(
        f"{digest}:all:{','.join(str(len(one.model)) for one in scores.values())}",
        tuple(one for each in scores.values() for one in each.model),
        tuple(one for each in scores.values() for one in each.constant),
        tuple(one for each in scores.values() for one in each.other),
    )
    weakest = min(scores.values(), key=lambda one: one.accuracy)
    found: list[Measurement] = []
    for name, one in {**scores, "all": together, "weakest": weakest}.items():
        mine, constant = one.items(one.model), one.items(one.constant)
        found += [
            _share(f"{name}/accuracy", mine),
            _share(f"{name}/best_constant", constant),
            _share(f"{name}/another_item", one.items(one.other)),
            _margin(f"{name}/margin", mine, constant),
        ]
    if {"factual", "reasoning"} <= scores.keys():
        found.append(_behind(scores["reasoning"], scores["factual"], digest))
    least = min(scores.values(), key=lambda one: sum(one.constant) / len(one.constant))
    for name, one in {**scores, "all": together, "weakest": least}.items():
        found.append(replace(_share(f"{name}/accuracy", one.items(one.constant)), who=f"{BASELINE}{RIVAL}"))
    return found


def _behind(ahead: _Scores, behind: _Scores, digest: str) -> Measurement:
    """As the mean of one sample of all their items, of which each category has half the say."""
    n = len(ahead.model) + len(behind.model)
    sums = [n / len(ahead.model) * score for score in ahead.model]
    sums += [-n / len(behind.model) * score for score in behind.model]
    items = Items(f"{digest}:{BEHIND}:{len(ahead.model)}:{n}", tuple(sums), tuple(1.0 for _ in sums))
    return Measurement(BEHIND, sum(sums) / n, n, items_interval([items]), items=items)


def _share(name: str, items: Items) -> Measurement:
    n = len(items.sums)
    return Measurement(name, sum(items.sums) / n, n, items_interval([items]), items=items)


def _margin(name: str, mine: Items, constant: Items) -> Measurement:
    n = len(mine.sums)
    differences = tuple(a - b for a, b in zip(mine.sums, constant.sums, strict=True))
    interval = paired_interval([(mine, constant)], "difference")
    return Measurement(name, sum(differences) / n, n, interval, items=Items(mine.key, differences, mine.weights))
