"""What a whole plan costs on a device: its first walk, cell by cell, and what each remedy would add.

A remedy runs again the stage it patches and everything that depends on it. Parties and seeds are those that the runner
would run, the control included, and of baselines those kinds that tell a price (stage.PricedBaseline). Suites are small
beside training and are not priced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.engine import parties
from bloomery.engine.budget import Amounts, Price, overruns, price, total
from bloomery.engine.devices import Device
from bloomery.engine.discover import Catalogue, load
from bloomery.engine.stage import Cost, PricedBaseline
from bloomery.plan import cast
from bloomery.plan.load import Loaded, resolve
from bloomery.plan.schema import Plan, Rule, StageSpec


@dataclass(frozen=True, slots=True)
class Line:
    """One party of one stage: the cost of one cell, and the price of all its seeds."""

    stage: str
    who: str
    cells: int
    cost: Cost
    price: Price


@dataclass(frozen=True, slots=True)
class Remedy:
    """A rule, which stages it would run again, and what that adds at most each time."""

    stage: str
    rule: str
    uses: int
    again: tuple[str, ...]
    adds: Amounts


@dataclass(frozen=True, slots=True)
class PricedPlan:
    plan: str
    device: Device
    lines: tuple[Line, ...]
    remedies: tuple[Remedy, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def first_walk(self) -> Amounts:
        return sum((line.price.amounts for line in self.lines), Amounts())

    @property
    def worst_case(self) -> Amounts:
        return sum((remedy.adds for remedy in self.remedies for _ in range(remedy.uses)), self.first_walk)

    def sizes(self) -> list[dict[str, Any]]:
        """{stage, who, cells, seconds of one}: for whoever shows how much is left."""
        return [
            {"stage": line.stage, "who": line.who, "cells": line.cells,
             "seconds": line.price.amounts.seconds / line.cells}
            for line in self.lines
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "device": self.device.name,
            "first_walk": self.first_walk.to_json(),
            "worst_case": self.worst_case.to_json(),
            "stages": [
                {
                    "stage": line.stage,
                    "who": line.who,
                    "cells": line.cells,
                    "weight_bytes": line.cost.weight_bytes,
                    "gradient_bytes": line.cost.gradient_bytes,
                    "optimiser_bytes": line.cost.optimiser_bytes,
                    "activation_bytes": line.cost.activation_bytes,
                    "generated_bytes": line.cost.generated_bytes,
                    "largest_generated_bytes": line.cost.largest_generated_bytes,
                    "tally": line.cost.tally.to_json() if line.cost.tally else None,
                    **line.price.amounts.to_json(),
                }
                for line in self.lines
            ],
            "remedies": [
                {"stage": r.stage, "rule": r.rule, "uses": r.uses, "again": list(r.again), **r.adds.to_json()}
                for r in self.remedies
            ],
            "warnings": list(self.warnings),
        }


def price_plan(loaded: Loaded, catalogue: Catalogue, device: Device) -> PricedPlan:
    """Price a checked plan. Builds every model on the meta device; refuses nothing, warns plainly."""
    plan = resolve(loaded)
    lines = _lines(plan, catalogue, device, vocab_of(loaded))
    remedies = [
        _remedy(loaded, catalogue, device, stage, rule)
        for stage in plan.stages
        for rule in stage.on_fail
        if rule.then is None
    ]
    planned = total(line.price for line in lines)
    warnings = [f"the first walk alone: {words}" for words in overruns(planned, loaded.plan.budget)]
    warnings += [
        f"{line.stage} ({line.who}): about {line.cost.memory_bytes / 2**30:.3g} GiB are needed, "
        f"{device.title} has {device.memory / 2**30:.3g} GiB"
        for line in lines
        if not line.price.fits
    ]
    return PricedPlan(loaded.plan.name, device, tuple(lines), tuple(remedies), tuple(warnings))


def _lines(plan: Plan, catalogue: Catalogue, device: Device, vocab: int) -> list[Line]:
    lines: list[Line] = []
    for stage in plan.stages:
        if stage.repeat is not None:
            continue
        for who, number, cost in cell_costs(plan, stage, catalogue, vocab):
            one = price(cost, device)
            lines.append(Line(stage.id, who, number, cost, total([one] * number)))
        for name in cast.baselines(plan, stage):
            cost, number = _baseline_cost(plan, stage, catalogue, name, vocab), len(cast.seeds(plan, stage))
            if cost is not None:
                one = price(cost, device)
                lines.append(Line(stage.id, f"{cast.BASELINE}{name}", number, cost, total([one] * number)))
    return lines


def _baseline_cost(plan: Plan, stage: StageSpec, catalogue: Catalogue, name: str, vocab: int) -> Cost | None:
    """Of a cell that is fitted on what the judged model has read; None where the kind tells none."""
    settings = plan.baselines[name]
    kind = catalogue.baseline(settings.kind)
    if not isinstance(kind, PricedBaseline):
        return None
    config = kind.config_model().model_validate(settings.model_dump(exclude={"kind"}))
    tokens, built = 0, Cost()
    for maker, who in _makers(plan, stage):
        cost = _cost_of_one(plan, maker, catalogue, who, vocab)
        own = catalogue.kind(maker.kind or "")
        tokens += cost.tokens if own.fits_on(parties.settings(plan, maker, own, who, vocab=vocab)) else 0
        built = cost
    return kind.cost(config, tokens=tokens, built=built, vocab=vocab)


def _makers(plan: Plan, stage: StageSpec) -> Iterator[tuple[StageSpec, str]]:
    """The stage and its candidate, whoever makes the model or state that comes in, and so on; of loops no further."""
    one: StageSpec | None = stage
    who = cast.fixed_candidate(stage) or cast.arms(stage)[0]
    while one is not None and one.kind is not None:
        yield one, who
        needs = cast.needs_of(one, who)
        reference = cast.parse_reference(needs.get("model", needs.get("state", "")))
        source = next((each for each in plan.stages if reference and each.id == reference.stage), None)
        if reference is not None and source is not None:
            named = reference.party if reference.arm else cast.fixed_candidate(source)
            who = named if named in cast.parties(plan, source) else cast.arms(source)[0]
        one = source


def cell_costs(plan: Plan, stage: StageSpec, catalogue: Catalogue, vocab: int) -> list[tuple[str, int, Cost]]:
    """(who, number of cells, cost of one) for every party of a stage. Of a sweep every point runs on the first seed,
    and the best of them is that seed's cell."""
    seeds, points = len(cast.seeds(plan, stage)), len(cast.trials(stage))
    return [
        (
            who,
            seeds + (points - 1 if cast.is_swept(plan, stage, who) else 0),
            _cost_of_one(plan, stage, catalogue, who, vocab),
        )
        for who in cast.parties(plan, stage)
    ]


def _cost_of_one(plan: Plan, stage: StageSpec, catalogue: Catalogue, who: str, vocab: int) -> Cost:
    kind = catalogue.kind(stage.kind or "")
    config = parties.settings(plan, stage, kind, who, vocab=vocab)
    takes_one = kind.fits_on(config) and not getattr(config, "model", None)
    model = model_that_comes_in(plan, stage, catalogue, who, vocab) if takes_one else None
    if model is None:
        return kind.cost(config, system=plan.system, vocab=vocab)
    return kind.cost(config, system=plan.system, vocab=vocab, model=model)


def model_that_comes_in(
    plan: Plan, stage: StageSpec, catalogue: Catalogue, who: str, vocab: int
) -> Mapping[str, Any] | None:
    """The `model` setting of the stage whose model a party takes in, through whatever stages hand it on; None where
    no stage of the plan made it."""
    reference = cast.parse_reference(cast.needs_of(stage, who).get("model", ""))
    source = next((one for one in plan.stages if reference and one.id == reference.stage), None)
    if reference is None or source is None:
        return None
    party = reference.party if reference.arm else cast.takes_from(stage, who)
    party = party if party in cast.parties(plan, source) else cast.fixed_candidate(source) or cast.arms(source)[0]
    if source.kind is not None:
        config = parties.settings(plan, source, catalogue.kind(source.kind), party, vocab=vocab)
        made: Mapping[str, Any] | None = getattr(config, "model", None)
        if made:
            return made
    return model_that_comes_in(plan, source, catalogue, party, vocab)


def vocab_of(loaded: Loaded) -> int:
    """Rows of the embedding, known before the tokenizer is trained; 0 for a plan without data."""
    if not loaded.plan.data:
        return 0
    prepare = load("bloomery.stages.prepare:planned_vocab")
    return prepare(load("bloomery.stages.prepare:parse_data")(loaded.plan.data), [loaded.source.parent])


def _remedy(loaded: Loaded, catalogue: Catalogue, device: Device, stage: StageSpec, rule: Rule) -> Remedy:
    plan, patched = resolve(loaded), resolve(loaded, [(stage.id, rule.set)])
    changed: dict[str, bool] = {}
    for before, after in zip(plan.stages, patched.stages, strict=True):
        needed = cast.ancestors(patched, after)
        changed[after.id] = before != after or any(changed.get(one, False) for one in needed)
    if rule.from_ == "checkpoint" or not any(changed.values()):
        changed[stage.id] = True
    again = tuple(name for name, different in changed.items() if different)

    def same(line: Line) -> bool:
        """Whether a rival's settings and inputs are as before: then its cells are taken over."""
        if line.who.startswith(cast.BASELINE):
            return False
        before, after = plan.stage(line.stage), patched.stage(line.stage)
        upstream = any(one in again for one in cast.ancestors(patched, after))
        kind, vocab = catalogue.kind(after.kind or ""), vocab_of(loaded)
        settings = [
            parties.settings(plan, stage, kind, line.who, vocab=vocab)
            for plan, stage in ((plan, before), (patched, after))
        ]
        return not upstream and settings[0] == settings[1]

    adds = Amounts()
    judged = {one.id: cast.fixed_candidate(one) for one in patched.stages}
    for line in _lines(patched, catalogue, device, vocab_of(loaded)):
        if line.stage in again and not (line.who != judged[line.stage] and rule.from_ == "start" and same(line)):
            adds += line.price.amounts
    return Remedy(stage.id, rule.name, rule.max_attempts, again, adds)
