"""Training by category: what is read, how each category fares, and further examples for those that fall behind.

At a look, category c falls behind if  loss_c > loss_over_mean x mean over categories of their losses
(specs/harmonic.md, 5); a loss is nats per token of the responses. It is then given `add` further examples, read from
the next step on, but never so many that `balance` is broken. What was added is carried in the training state, so a
stage that is killed goes on bit for bit. A category's accuracy is the share of its examples whose whole response the
model would write greedily: a lower bound of what a checker accepts, at the price of the same forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from bloomery.engine.stage import StageContext
from bloomery.errors import DataError
from bloomery.measure import Emitted, Items
from bloomery.stages.finetune_settings import Balance, Settings
from bloomery.stages.material import Material
from bloomery.stages.training import LOSS, Addition, Reading, next_reading

if TYPE_CHECKING:
    from bloomery.data.mix import Batch, Batches
    from bloomery.data.tokens import TokenFile
    from bloomery.evaluate.perplexity import PerplexityResult

METRICS = {
    "val/*/loss": LOSS,
    "val/*/accuracy": Emitted("", "higher"),
    "train/topped_up": Emitted("", "lower"),
}


class Served:
    """The batches of a reading: those of a mixture that grows. Every prefix of what was added has its own order of
    rows, so that after an addition some rows come again sooner and others later."""

    def __init__(self, material: Material, reading: Reading, seed: int) -> None:
        self._material, self._reading, self._seed = material, reading, seed
        self.added = list(reading.added)
        self._made: dict[int, Batches] = {}

    def batch_at(self, step: int) -> Batch:
        count = sum(one.step <= step for one in self.added)
        if count not in self._made:
            self._made = {count: self._batches(self.added[:count])}
        return self._made[count].batch_at(step)

    def _batches(self, added: Sequence[Addition]) -> Batches:
        from bloomery.data.mix import Batches

        reading = self._reading
        return Batches(
            self._material.parts(added),
            batch=reading.batch,
            context=reading.context,
            seed=self._seed,
            packing=reading.packing,
            first_step=reading.first_step,
        )

    def carried(self) -> dict[str, Any]:
        return {"added": [asdict(one) for one in self.added]}

    def restore(self, carried: Mapping[str, Any]) -> None:
        self.added = [Addition(**one) for one in carried["added"]]
        self._made = {}


class Tuning:
    """Of one cell. Raises DataError where its data cannot be read, or breaks the balance."""

    def __init__(self, ctx: StageContext, config: Settings) -> None:
        from bloomery.data.prepared import Prepared

        assert ctx.data is not None
        self._ctx, self._config = ctx, config
        reading = next_reading(ctx, config, config.formats.model_dump())
        self._material = Material(ctx.data, ctx.inputs, reading.data, reading.formats)
        for note in self._material.notes:
            ctx.note("note", text=note)
        self._validation = Prepared.open(ctx.data).part(config.validation_part)
        self.documents = _chosen(self._validation, config.validation.examples)
        if config.topup is not None and self.documents is None:
            found = f"{config.validation_part} has no prompts and responses"
            raise DataError("topup", found, "categories of examples to be looked at", "data: a set of examples")
        if config.topup is not None and self.documents is not None:
            known = set(self._material.parts()[0][0].categories)
            for category in (self._validation.categories[index] for index in self.documents):
                if category not in known:
                    found = f"'{category}' is looked at, and '{self._material.first}' has no examples of it"
                    raise DataError("topup", found, "every category that is looked at")
        self.batches = Served(self._material, reading, ctx.seed)
        self._reading = reading
        check_balance(self._material, config.balance)
        for category in self._weak():
            self._add(category, 0)

    @property
    def reading(self) -> Reading:
        return replace(self._reading, added=tuple(self.batches.added))

    @property
    def signature(self) -> dict[str, Any]:
        """What a resumed stage must find unchanged, beside what every stage must."""
        return {"made": self._material.digests} if self._material.digests else {}

    def looked(self, result: PerplexityResult, at: Mapping[str, Any]) -> None:
        """Measures every category, and adds examples to those that fall behind."""
        if self.documents is None:
            return
        places: dict[str, list[int]] = {}
        for place, index in enumerate(self.documents):
            places.setdefault(self._validation.categories[index], []).append(place)
        losses: dict[str, float] = {}
        for category, own in places.items():
            sums, counts = ([each[place] for place in own] for each in (result.loss_sums, result.token_counts))
            items = Items(f"{result.key}:{category}", tuple(sums), tuple(map(float, counts)))
            losses[category] = sum(sums) / sum(counts)
            name = f"val/{segment(category)}"
            self._ctx.measure(f"{name}/loss", losses[category], n=len(own), unit=LOSS.unit, items=items, **at)
            exact = [float(result.exact[place]) for place in own]
            items = Items(f"{result.key}:{category}", tuple(exact), tuple(1.0 for _ in exact))
            self._ctx.measure(f"{name}/accuracy", sum(exact) / len(exact), n=len(exact), items=items, **at)
        if self._config.topup is not None:
            self._top_up(losses, at)

    def _top_up(self, losses: Mapping[str, float], at: Mapping[str, Any]) -> None:
        assert self._config.topup is not None
        if at["step"] < self._config.steps:
            for category in behind(losses, self._config.topup.loss_over_mean):
                self._add(category, at["step"])
        self._ctx.measure("train/topped_up", sum(one.count for one in self.batches.added), **at)

    def _weak(self) -> list[str]:
        """Categories that the attempt before was bad at, by its own looks: what a suite found is what gates judge, and
        must not choose what is learned from."""
        topup = self._config.topup
        if topup is None or not topup.below or not self._ctx.previous or self.documents is None:
            return []
        found: list[str] = []
        for category in dict.fromkeys(self._validation.categories[index] for index in self.documents):
            told = self._ctx.previous.get(f"val/{segment(category)}/accuracy")
            if told is not None and told < topup.below:
                found.append(category)
        return found

    def _add(self, category: str, step: int) -> None:
        from bloomery.data.balance import room, weigh

        assert self._config.topup is not None
        parts = self._material.parts(self.batches.added)
        count, balance = self._config.topup.add, self._config.balance
        if balance is not None:
            weights = weigh(parts)
            if category in weights:
                count = room(weights, *parts[0], category, count, most=balance.at_most, least=balance.at_least)
        if count:
            self.batches.added.append(Addition(step, category, count))
        self._ctx.note("note", text=f"{category} falls behind at step {step}: {count} further examples")


def check_balance(material: Material, rule: Balance | None) -> None:
    """Raises DataError where a mixture breaks the rule. What is added later is bounded where it is added."""
    from bloomery.data.balance import check_balance, weigh

    if rule is not None:
        check_balance(weigh(material.parts()), at_most=rule.at_most, at_least=rule.at_least, examples=rule.examples)


def behind(losses: Mapping[str, float], loss_over_mean: float) -> list[str]:
    """Categories whose loss is more than `loss_over_mean` times the mean of all."""
    mean = sum(losses.values()) / len(losses)
    return [category for category, loss in losses.items() if loss > loss_over_mean * mean]


def segment(category: str) -> str:
    """A category as a part of a metric's name."""
    return re.sub("[^a-z0-9]+", "_", category.lower()).strip("_") or "none"


def _chosen(file: TokenFile, most: int) -> list[int] | None:
    """Places of at most `most` documents of each category, evenly spread; None where there are no prompts."""
    from bloomery.evaluate.perplexity import spread

    if not file.prompts.any():
        return None
    places: dict[str, list[int]] = {}
    for index, category in enumerate(file.categories):
        places.setdefault(category, []).append(index)
    return [own[place] for own in places.values() for place in spread(len(own), most)]
