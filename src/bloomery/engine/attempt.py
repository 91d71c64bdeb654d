"""One attempt of one stage: trials of its sweep, a cell for every party and seed, the candidate, the rivals.

Arms run first, and find their own best swept values; then the candidate is known, and with it the twin that is solved
for it, which finds its own best values too. Finished cells with the same fingerprint are not run again, within this run
folder and whatever the attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bloomery.engine import cells, parties
from bloomery.engine.artifact import Artifact
from bloomery.engine.cellwork import CellFailed, Job
from bloomery.engine.choosing import choose
from bloomery.engine.evaluations import declared_by_suites
from bloomery.engine.evidence import Cast
from bloomery.engine.executing import Order, Result, Wanted
from bloomery.engine.fitting import Maker, fit_baseline
from bloomery.engine.handing import Outputs, share, wanted
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import Stage
from bloomery.engine.watching import watched_of
from bloomery.errors import PlanError
from bloomery.measure import Emitted, Measurement
from bloomery.plan import cast
from bloomery.plan.canon import digest
from bloomery.plan.cast import BASELINE, CANDIDATE, CONTROL
from bloomery.plan.metrics import ENGINE
from bloomery.plan.schema import Plan, StageSpec

Patch = Mapping[str, Any]


@dataclass(slots=True)
class Attempt:
    session: Session
    plan: Plan
    stage: StageSpec
    handed: Mapping[str, Outputs]
    """What earlier stages have handed on, and what loops hold, as this attempt finds it."""
    continue_attempts: Mapping[str, int] = field(default_factory=dict[str, int])
    """{stage: attempt}, by rules that say `from: checkpoint`: whose final training states a stage goes on from."""
    makers: Mapping[Path, Maker] = field(default_factory=dict[Path, Maker])
    """{folder of a model: who made it}, of the attempts before this one."""
    parties: tuple[str, ...] = field(init=False)
    """Everyone that runs the stage: its arms or the candidate, and the control."""
    number: int = 0
    fingerprint: str = ""
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict[tuple[str, int], Cell])
    """{(party, seed): cell} of those that ended."""
    candidate: str = CANDIDATE
    """The party that is judged and handed on; of `best`, the first arm until one is chosen."""
    chosen: dict[str, Patch] = field(default_factory=dict[str, Patch])
    """{party: its best swept values}"""
    failed: dict[str, str] = field(default_factory=dict[str, str])
    """{party: why it has no result}"""
    lost: dict[str, tuple[int, Cell]] = field(default_factory=dict[str, tuple[int, Cell]])
    """{party: (seed, the cell that failed)}, for what it measured before; of a sweep without any good value, the last
    trial."""
    _from: tuple[int | None] | None = None
    """What `_continued` has found."""
    failure: str | None = None
    """Why the attempt could not be carried out: the candidate's failure, or the control's."""

    def __post_init__(self) -> None:
        self.parties = cast.parties(self.plan, self.stage)
        self.candidate = cast.fixed_candidate(self.stage) or cast.arms(self.stage)[0]

    # What is to be run

    @property
    def kind(self) -> Stage:
        assert self.stage.kind is not None
        return self.session.catalogue.kind(self.stage.kind)

    @property
    def seeds(self) -> tuple[int, ...]:
        return cast.seeds(self.plan, self.stage)

    @property
    def cast(self) -> Cast:
        """Who took part, for the judge."""
        arms = cast.arms(self.stage) if self.stage.arms else ()
        return Cast(self.candidate, arms, frozenset(self.failed))

    def config(self, who: str, swept: Patch | None = None) -> BaseModel:
        """A party's settings, with its chosen swept values or with these."""
        judged = (self.candidate, self.chosen.get(self.candidate, {}))
        values = self.chosen.get(who, {}) if swept is None else swept
        return parties.settings(self.plan, self.stage, self.kind, who, vocab=self._vocab, swept=values, judged=judged)

    @property
    def _vocab(self) -> int:
        return self.session.data.vocab if self.session.data else 0

    def inputs(self, who: str, seed: int) -> dict[str, Artifact]:
        """The artifacts that `needs` names, for one party and seed."""
        found: dict[str, Artifact] = {}
        for name, text in cast.needs_of(self.stage, who).items():
            if text.startswith("inputs."):
                found[name] = self.session.adopted[text.removeprefix("inputs.")]
                continue
            one = wanted(self.session, self.plan, name, text)
            if one.output == "passed":
                continue
            if not one.among(self.handed):
                outputs = ", ".join(self.handed[one.stage]) or "nothing"
                raise PlanError(
                    f"stages.{self.stage.id}.needs.{name}",
                    f"'{text}' was not handed on by stage '{one.stage}'",
                    expected=f"one of {outputs}",
                )
            source = one.party if one.party != CANDIDATE else cast.takes_from(self.stage, who)
            found[name] = share(self.handed[one.stage][one.output], source, seed)
        return found

    def job(self, who: str, seed: int, *, swept: Patch | None = None, label: str = "") -> Job:
        """The cell of a party and seed; with `swept` and a label, a trial of the sweep."""
        inputs, state = self.inputs(who, seed), self._earlier_state(who, seed)
        watched = watched_of(self.stage, who)
        fingerprint = cells.cell_fingerprint(
            self.stage.kind or "",
            self.config(who, swept).model_dump(mode="json"),
            inputs={name: artifact.digest for name, artifact in inputs.items()},
            data=self.session.data.digest if self.session.data else None,
            seed=seed,
            system=self.plan.system,
            continue_from=state.digest if state else None,
            stop_if=[one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in watched],
        )
        return Job(
            self.stage.id, self.number, label or who, seed, fingerprint, self.plan.system,
            inputs=inputs, continue_from=state, previous=self._earlier_evidence(who, seed), stop_if=watched,
            declared=self.declared() if watched else {},
        )  # fmt: skip

    def _earlier_state(self, who: str, seed: int) -> Artifact | None:
        """The last attempt's final training state, if this is to go on from it."""
        number = self._continued()
        cell = self._cell_of(number, who, seed) if number is not None else None
        return cell.artifacts(self.session.folder)["state"] if cell is not None else None

    def _earlier_evidence(self, who: str, seed: int) -> dict[str, float]:
        """What the attempt to go on from measured of this party: its own looks, and what suites found in its model."""
        number, history = self._continued(), self.session.history
        cell = self._cell_of(number, who, seed) if number is not None else None
        if cell is None:
            return {}
        found = {one.name: one.value for one in cell.measurements.values()}
        digests = {artifact.digest for artifact in cell.artifacts(self.session.folder).values()}
        for (_, digest_of_model), several in history.evaluations.items():
            if digest_of_model in digests:
                found |= {one.name: one.value for one in several if not one.who.startswith(BASELINE)}
        return found

    def _continued(self) -> int | None:
        """The attempt to go on from, if every party and seed of it ended and has the same inputs now: if one has not,
        all begin anew, on equal tokens."""
        if self._from is None:
            number = self.continue_attempts.get(self.stage.id)
            every = ((who, seed) for seed in self.seeds for who in self.parties)
            ended = number is not None and all(self._cell_of(number, *one) is not None for one in every)
            self._from = (number if ended else None,)
        return self._from[0]

    def _cell_of(self, number: int, who: str, seed: int) -> Cell | None:
        """The cell of an earlier attempt, if it left a state and its inputs are those of now."""
        cell = self.session.history.cell((self.stage.id, number, who, seed))
        if cell is None or "state" not in cell.outputs:
            return None
        return cell if dict(cell.inputs) == {name: one.digest for name, one in self.inputs(who, seed).items()} else None

    # Running

    def run(self) -> None:
        """Run whatever is not yet done. Raises Stopped; what keeps the attempt from its end is kept in `failure`."""
        self.session.stage = self.stage.id
        self._begin()
        waits = CONTROL in self.parties and (self.stage.sweep or cast.fixed_candidate(self.stage) is None)
        first = tuple(who for who in self.parties if not (waits and who == CONTROL))
        try:
            self._round(first)
            self._decide()
            self._tell_twin()
            if waits:
                self._round((CONTROL,))
            for name in cast.baselines(self.plan, self.stage):
                for seed in self.seeds:
                    self.cells[f"{BASELINE}{name}", seed] = fit_baseline(self, name, seed)
        except CellFailed as failure:
            self.failure = str(failure)

    def _begin(self) -> None:
        """Number the attempt by what it is, as far as that is known before it runs."""
        plans = {f"{who}-{seed}": self.job(who, seed).fingerprint for seed in self.seeds for who in self.parties}
        chosen_by = self.stage.model_dump(mode="json", include={"sweep", "select", "candidate"}, exclude_defaults=True)
        self.fingerprint = digest(plans | ({"chosen by": chosen_by} if chosen_by else {}))
        self.number = self.session.history.attempt(self.stage.id, self.fingerprint)
        if self.fingerprint not in self.session.history.attempts[self.stage.id]:
            told = [{"who": who, "seed": seed} for seed in self.seeds for who in self.parties]
            self.session.emit(
                "stage_started",
                stage=self.stage.id,
                attempt=self.number,
                kind=self.stage.kind,
                fingerprint=self.fingerprint,
                cells=told,
            )

    def _round(self, several: Sequence[str]) -> None:
        """The trials of these parties, then their cells. What is in one batch may be carried out side by side."""
        self._sweep([who for who in several if cast.is_swept(self.plan, self.stage, who)])
        places = [(who, seed) for seed in self.seeds for who in several if who not in self.failed]

        def wanted(index: int, failed: Collection[int]) -> bool:
            lost = {*self.failed, *(places[one][0] for one in failed)}
            return places[index][0] not in lost and not self._ends(lost)

        orders = [self._order(self.job(who, seed), self.config(who)) for who, seed in places]
        for (who, seed), result in zip(places, self._execute(orders, wanted), strict=True):
            if isinstance(result, CellFailed):
                self._lose(who, seed, result)
            elif result is not None:
                self.cells[who, seed] = result

    def _sweep(self, several: Sequence[str]) -> None:
        """Find each party's best value on the first seed; an attempt that goes on from another keeps that one's."""
        earlier = self._continued()
        if earlier is not None:
            for who in several:
                self.chosen[who] = self.session.history.chosen.get((self.stage.id, earlier, who), {})
            return
        seed, points = self.seeds[0], cast.trials(self.stage)
        trials = [(who, number) for who in several for number in range(len(points))]

        def wanted(index: int, failed: Collection[int]) -> bool:
            left = {who for place, (who, _) in enumerate(trials) if place not in failed}
            return not self._ends({*self.failed, *several} - left)

        orders = [
            self._order(
                self.job(who, seed, swept=points[number], label=f"{who}~{number}"), self.config(who, points[number])
            )
            for who, number in trials
        ]
        results = self._execute(orders, wanted)
        for place, who in enumerate(several):
            own = results[place * len(points) : (place + 1) * len(points)]
            self._choose_value(who, points, [result for result in own if result is not None])

    def _choose_value(self, who: str, points: Sequence[Patch], results: Sequence[Cell | CellFailed]) -> None:
        offered = [
            () if isinstance(cell, CellFailed) else [replace(one, who=who) for one in cell.measurements.values()]
            for cell in results
        ]
        assert self.stage.select is not None
        choice = choose(self.stage.select, offered, self.declared())
        picked = None if choice.index is None else points[choice.index]
        self.session.emit(
            "sweep_chosen", once=True, stage=self.stage.id, attempt=self.number, who=who, seed=self.seeds[0],
            trials=[dict(point) for point in points], chosen=None if picked is None else dict(picked),
            **choice.to_json(),
        )  # fmt: skip
        if picked is not None:
            self.chosen[who] = picked
            return
        why = next((f": {one}" for one in results if isinstance(one, CellFailed)), "")
        last = results[-1].cell if isinstance(results[-1], CellFailed) else results[-1]
        self._lose(who, self.seeds[0], CellFailed(f"no value of the sweep gave {choice.metric}{why}", last))

    def _order(self, job: Job, config: BaseModel) -> Order:
        return Order(job, self.stage.kind or "", self.kind, config)

    def _execute(self, orders: Sequence[Order], wanted: Wanted) -> list[Result]:
        return self.session.executor.execute(self.session, orders, wanted)

    def _ends(self, failed: Collection[str]) -> bool:
        """Whether there is no attempt without these: the candidate, the control, or all that may become candidate."""
        fixed = cast.fixed_candidate(self.stage)
        return CONTROL in failed or fixed in failed or all(arm in failed for arm in cast.arms(self.stage))

    def _lose(self, who: str, seed: int, failure: CellFailed) -> None:
        """An arm that fails is out; without the candidate or the control there is no attempt."""
        self.failed[who] = str(failure)
        if failure.cell is not None:
            self.lost[who] = (seed, failure.cell)
        if self._ends(self.failed):
            raise failure

    def _decide(self) -> None:
        """Which arm is judged and handed on."""
        if not self.stage.arms:
            return
        facts: dict[str, Any] = {}
        if cast.fixed_candidate(self.stage) is None:
            assert self.stage.select is not None
            arms = cast.arms(self.stage)
            offered = [() if arm in self.failed else self._measured_by(arm) for arm in arms]
            choice = choose(self.stage.select, offered, self.declared(), seeds=self.seeds)
            if choice.index is None:
                raise CellFailed(f"no arm measured {choice.metric}")
            self.candidate, facts = arms[choice.index], {"arms": list(arms), **choice.to_json()}
        self.session.emit(
            "candidate_chosen", once=True, stage=self.stage.id, attempt=self.number, candidate=self.candidate, **facts
        )

    def _measured_by(self, who: str) -> list[Measurement]:
        return [
            replace(one, who=who, seed=seed)
            for (party, seed), cell in self.cells.items()
            if party == who
            for one in cell.measurements.values()
        ]

    def _tell_twin(self) -> None:
        control = self.plan.control
        if CONTROL not in self.parties or self.stage.control is not None or control is None:
            return
        if self.session.data is None:
            return
        candidate, twin = (
            self.kind.cost(self.config(who), system=self.plan.system, vocab=self._vocab).tally
            for who in (self.candidate, CONTROL)
        )
        if candidate is None or twin is None:
            return
        quantity = "flops_per_token" if control.match == "flops" else control.match
        asked, got = candidate.total(quantity), twin.total(quantity)
        self.session.emit(
            "twin_solved",
            once=True,
            stage=self.stage.id,
            match=control.match,
            off_by=got / asked - 1,
            patch=self.config(CONTROL).model_dump(mode="json").get("model", {}),
            candidate=candidate.to_json(),
            control=twin.to_json(),
        )

    # Handing on

    def made(self) -> dict[Path, Maker]:
        """{folder of a model: its maker}, of every party that ended."""
        return {
            models["model"].path: Maker(self, who, seed)
            for (who, seed), cell in self.cells.items()
            if not who.startswith(BASELINE) and "model" in (models := cell.artifacts(self.session.folder))
        }

    def outputs(self) -> Outputs:
        """What this attempt hands on: of every party that ended its inputs, overlaid with its own outputs of the same
        names."""
        outputs = self.inputs_as_outputs()
        for by_cell in outputs.values():
            for who, seed in list(by_cell):
                party = self.candidate if who == CANDIDATE else who
                if party in self.failed or (party, seed) not in self.cells:
                    del by_cell[who, seed]
        for (who, seed), cell in self.cells.items():
            if who.startswith(BASELINE):
                continue
            for name, artifact in cell.artifacts(self.session.folder).items():
                outputs.setdefault(name, {})[who, seed] = artifact
                if who == self.candidate:
                    outputs[name][CANDIDATE, seed] = artifact
        return outputs

    def inputs_as_outputs(self) -> Outputs:
        """What a stage that is not promoted hands on instead."""
        outputs: Outputs = {}
        for seed in self.seeds:
            for who in dict.fromkeys((CANDIDATE, *self.parties)):
                for name, artifact in self.inputs(self.candidate if who == CANDIDATE else who, seed).items():
                    outputs.setdefault(name, {})[who, seed] = artifact
        return outputs

    def declared(self) -> dict[str, Emitted]:
        declared = dict(ENGINE)
        declared |= self.kind.emits(self.config(self.candidate, {}))
        return declared | declared_by_suites(self.session, self.plan)
