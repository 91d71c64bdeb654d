"""One attempt of one stage: a cell for every party and seed, the suites on their artifacts, and the evidence.

Finished cells with the same fingerprint are not run again, within this run folder and whatever the attempt.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bloomery.engine import cells, parties
from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.cells import CANDIDATE, CONTROL
from bloomery.engine.evaluations import declared_by_suites, evaluate, retold
from bloomery.engine.handing import Outputs, share, share_seed, wanted
from bloomery.engine.history import Cell
from bloomery.engine.session import Meter, Session
from bloomery.engine.stage import Stage, StageContext, StageResult, Stopped
from bloomery.errors import NonFinite, PlanError
from bloomery.measure import Emitted, Measurement
from bloomery.plan.canon import digest
from bloomery.plan.metrics import ENGINE
from bloomery.plan.schema import Plan, StageSpec


class CellFailed(Exception):
    """Training in a cell could not go on (non-finite values). The stage's evidence stays incomplete."""


@dataclass(slots=True)
class Attempt:
    session: Session
    plan: Plan
    stage: StageSpec
    handed: Mapping[str, Outputs]
    continue_attempts: Mapping[str, int] = field(default_factory=dict[str, int])
    """{stage: attempt}, by rules that say `from: checkpoint`: whose final training states a stage goes on from."""
    number: int = 0
    fingerprint: str = ""
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)
    failure: str | None = None

    # What is to be run

    @property
    def kind(self) -> Stage:
        assert self.stage.kind is not None
        return self.session.catalogue.kind(self.stage.kind)

    @property
    def seeds(self) -> tuple[int, ...]:
        return parties.seeds(self.plan, self.stage)

    @property
    def parties(self) -> tuple[str, ...]:
        return parties.parties(self.plan, self.stage)

    def config(self, who: str) -> BaseModel:
        return parties.settings(self.plan, self.stage, self.kind, who, vocab=self._vocab)

    @property
    def _vocab(self) -> int:
        return self.session.data.vocab if self.session.data else 0

    def inputs(self, who: str, seed: int) -> dict[str, Artifact]:
        """The artifacts that `needs` names, for one party and seed."""
        found: dict[str, Artifact] = {}
        for name, reference in self.stage.needs.items():
            if reference.startswith("inputs."):
                found[name] = self.session.adopted[reference.removeprefix("inputs.")]
                continue
            stage_id, output = wanted(self.session, self.plan, name, reference)
            if output == "passed":
                continue
            outputs = self.handed[stage_id]
            by_cell = outputs.get(output)
            if by_cell is None:
                raise PlanError(
                    f"stages.{self.stage.id}.needs.{name}",
                    f"'{reference}' was not handed on by stage '{stage_id}'",
                    expected="one of " + (", ".join(outputs) or "nothing"),
                )
            found[name] = share(by_cell, who, seed)
        return found

    def fingerprint_of(self, who: str, seed: int) -> str:
        return cells.cell_fingerprint(
            self.stage.kind or "",
            self.config(who).model_dump(mode="json"),
            inputs={name: artifact.digest for name, artifact in self.inputs(who, seed).items()},
            data=self.session.data.digest if self.session.data else None,
            seed=seed,
            system=self.plan.system,
            continue_from=self._state_digest(who, seed),
        )

    def _state_digest(self, who: str, seed: int) -> str | None:
        state = self._earlier_state(who, seed)
        return state.digest if state else None

    def _earlier_state(self, who: str, seed: int) -> Artifact | None:
        """The last attempt's final training state, if this is to go on from it and the inputs are the same."""
        number = self.continue_attempts.get(self.stage.id)
        if number is None or not self._all_left_a_state(number):
            return None
        cell = self.session.history.cell((self.stage.id, number, who, seed))
        if cell is None or "state" not in cell.outputs:
            return None
        same = dict(cell.inputs) == {name: found.digest for name, found in self.inputs(who, seed).items()}
        return cell.artifacts(self.session.folder)["state"] if same else None

    def _all_left_a_state(self, number: int) -> bool:
        """Whether every party and seed of that attempt ended: if one did not, all begin anew, on equal tokens."""
        ended = (
            self.session.history.cell((self.stage.id, number, who, seed)) for seed in self.seeds for who in self.parties
        )
        return all(cell is not None and "state" in cell.outputs for cell in ended)

    # Running

    def run(self) -> None:
        """Run whatever is not yet done. Raises Stopped; a failed cell is kept in `failure`."""
        self.session.stage = self.stage.id
        fingerprints = {(who, seed): self.fingerprint_of(who, seed) for seed in self.seeds for who in self.parties}
        self.fingerprint = digest({f"{who}-{seed}": value for (who, seed), value in fingerprints.items()})
        self.number = self.session.history.attempt(self.stage.id, self.fingerprint)
        if self.fingerprint not in self.session.history.attempts[self.stage.id]:
            self.session.emit(
                "stage_started",
                stage=self.stage.id,
                attempt=self.number,
                kind=self.stage.kind,
                fingerprint=self.fingerprint,
                cells=[{"who": who, "seed": seed} for who, seed in fingerprints],
            )
        self._tell_twin()
        try:
            for (who, seed), fingerprint in fingerprints.items():
                self.cells[who, seed] = self._run_cell(who, seed, fingerprint)
            for name in cells.baselines_of(self.plan, self.stage):
                for seed in self.seeds:
                    self.cells[f"baseline:{name}", seed] = self._fit_baseline(name, seed)
        except CellFailed as failure:
            self.failure = str(failure)

    def _tell_twin(self) -> None:
        if CONTROL not in self.parties or self.session.data is None:
            return
        control = self.plan.control
        assert control is not None
        candidate, twin = (
            self.kind.cost(self.config(who), system=self.plan.system, vocab=self._vocab).tally
            for who in (CANDIDATE, CONTROL)
        )
        if candidate is None or twin is None:
            return
        quantity = "flops_per_token" if control.match == "flops" else control.match
        wanted, got = candidate.total(quantity), twin.total(quantity)
        self.session.emit(
            "twin_solved",
            once=True,
            stage=self.stage.id,
            match=control.match,
            off_by=got / wanted - 1,
            patch=self.config(CONTROL).model_dump(mode="json").get("model", {}),
            candidate=candidate.to_json(),
            control=twin.to_json(),
        )

    def _run_cell(self, who: str, seed: int, fingerprint: str) -> Cell:
        config = self.config(who)
        inputs = self.inputs(who, seed)
        if finished := self._finished(who, seed, fingerprint):
            return finished
        if failure := self.session.history.failures.get(fingerprint):
            raise CellFailed(failure)
        ctx, meter = self._context(who, seed, inputs, fingerprint)
        return self._carry_out(ctx, meter, lambda: self.kind.run(ctx, config))

    def _fit_baseline(self, name: str, seed: int) -> Cell:
        settings = self.plan.baselines[name]
        kind = self.session.catalogue.baseline(settings.kind)
        config = kind.config_model().model_validate(settings.model_dump(exclude={"kind"}))
        stage, attempt = self._trainer()
        who = f"baseline:{name}"
        fingerprint = cells.cell_fingerprint(
            f"baseline/{settings.kind}",
            config.model_dump(mode="json"),
            inputs={"read by": attempt.fingerprint_of(CANDIDATE, share_seed(attempt.seeds, seed))},
            data=self.session.data.digest if self.session.data else None,
            seed=seed,
            system=self.plan.system,
            continue_from=None,
        )
        if finished := self._finished(who, seed, fingerprint):
            return finished
        ctx, meter = self._context(who, seed, {}, fingerprint)
        reader, _ = attempt._context(CANDIDATE, share_seed(attempt.seeds, seed), {}, "", quiet=True)
        tokens = stage.tokens_read(reader, attempt.config(CANDIDATE))
        return self._carry_out(ctx, meter, lambda: kind.fit(config, tokens, ctx))

    def _trainer(self) -> tuple[Stage, Attempt]:
        """The stage whose tokens the judged model has seen: this one, or the nearest before it that reads any."""
        attempt = self
        while not attempt.kind.fits_on(attempt.config(CANDIDATE)):
            reference = attempt.stage.needs.get("model", "").partition(".")[0]
            if reference not in self.handed:
                raise PlanError(
                    f"stages.{self.stage.id}", "a baseline has nothing to be fitted on", "a stage that reads tokens"
                )
            attempt = Attempt(self.session, self.plan, self.plan.stage(reference), self.handed, self.continue_attempts)
        return attempt.kind, attempt

    def _finished(self, who: str, seed: int, fingerprint: str) -> Cell | None:
        cell = self.session.history.finished_cell(fingerprint, self.session.folder)
        if cell and cell.key != (self.stage.id, self.number, who, seed):
            self.session.emit(
                "cell_reused", once=True, stage=self.stage.id, attempt=self.number, who=who, seed=seed, of=cell.key
            )
        if cell:
            self._remember(cell)
        return cell

    def _remember(self, cell: Cell) -> None:
        for artifact in cell.artifacts(self.session.folder).values():
            self.session.measured_of[artifact.digest] = tuple(cell.measurements.values())

    def _context(
        self, who: str, seed: int, inputs: Mapping[str, Artifact], fingerprint: str, *, quiet: bool = False
    ) -> tuple[StageContext, Meter]:
        session = self.session
        place: dict[str, Any] = {"stage": self.stage.id, "attempt": self.number, "who": who, "seed": seed}
        folder = session.folder / self.stage.id / str(self.number) / f"{who.replace(':', '-')}-seed{seed}"
        state = self._earlier_state(who, seed)
        meter = Meter(session, **place)
        ctx = StageContext(
            inputs=inputs,
            data=session.data.folder if session.data else None,
            workdir=folder,
            checkpoint=folder / "checkpoint",
            seed=seed,
            who=who,
            device=session.device,
            threads=session.threads,
            precision=session.precision,
            allow_changed=session.allow_changed,
            vocab=self._vocab,
            system=self.plan.system,
            continue_from=state.path if state else None,
            record=lambda measurement: session.emit("measured", sync=False, **place, measurement=measurement.to_json()),
            progress=lambda **facts: session.observe({"event": "progress", **place, **facts}),
            point=lambda **facts: session.emit("point", sync=False, **place, **facts),
            note=lambda event, **facts: session.emit(event, **place, **facts),
            stop_reason=session.stop_reason,
            spend=meter.spend,
        )
        if not quiet:
            folder.mkdir(parents=True, exist_ok=True)
            session.emit(
                "cell_started",
                **place,
                fingerprint=fingerprint,
                inputs={name: artifact.digest for name, artifact in inputs.items()},
            )
        return ctx, meter

    def _carry_out(self, ctx: StageContext, meter: Meter, work: Any) -> Cell:
        session = self.session
        place: dict[str, Any] = {"stage": self.stage.id, "attempt": self.number, "who": ctx.who, "seed": ctx.seed}
        if ctx.should_stop():
            raise Stopped
        _clear(ctx.workdir, keep=ctx.checkpoint)
        try:
            result: StageResult = work()
        except NonFinite as error:
            ctx.measure("train/non_finite", 1.0)
            session.emit("cell_failed", **place, error=str(error))
            raise CellFailed(str(error)) from error
        finally:
            meter.spend()
            meter.write()
        parents = tuple(artifact.digest for artifact in ctx.inputs.values())
        for name, output in result.outputs.items():
            tally = result.tallies.get(name)
            artifact = seal(output, f"{self.stage.id}.{name}", name, parents=parents, tally=tally)
            counted: dict[str, Any] = {"tally": tally.to_json()} if tally else {}
            session.emit(
                "artifact",
                **place,
                output=name,
                kind=artifact.kind,
                digest=artifact.digest,
                path=output.relative_to(session.folder).as_posix(),
                parents=list(parents),
                **counted,
            )
            if tally and name == "model":
                for quantity in ("stored", "active", "trainable", "frozen"):
                    ctx.measure(f"tally/parameters/{quantity}", tally.total(quantity))
                ctx.measure("tally/bytes", tally.bytes, unit="bytes")
        key = (self.stage.id, self.number, ctx.who, ctx.seed)
        spent: dict[str, Any] = dict(session.history.spent[key])
        for quantity, unit in (("wall_seconds", "seconds"), ("tokens", ""), ("flops", "")):
            ctx.measure(f"cost/{quantity}", spent[quantity.removeprefix("wall_")], unit=unit)
        session.emit("cell_finished", **place, hashes=dict(result.hashes), **spent)
        shutil.rmtree(ctx.checkpoint, ignore_errors=True)
        cell = session.history.cells[key]
        self._remember(cell)
        return cell

    # Handing on and judging

    def outputs(self) -> Outputs:
        """What this attempt hands on: its inputs, overlaid with its own outputs of the same names."""
        outputs = self.inputs_as_outputs()
        for (who, seed), cell in self.cells.items():
            if not who.startswith("baseline:"):
                for name, artifact in cell.artifacts(self.session.folder).items():
                    outputs.setdefault(name, {})[who, seed] = artifact
        return outputs

    def inputs_as_outputs(self) -> Outputs:
        outputs: Outputs = {}
        for seed in self.seeds:
            for who in self.parties:
                for name, artifact in self.inputs(who, seed).items():
                    outputs.setdefault(name, {})[who, seed] = artifact
        return outputs

    def declared(self) -> dict[str, Emitted]:
        declared = dict(ENGINE)
        declared |= self.kind.emits(self.config(CANDIDATE))
        return declared | declared_by_suites(self.session, self.plan)

    def evidence(self) -> list[Measurement]:
        """Everything measured for this attempt: by its kind, by the suites, of rivals and of earlier stages.

        Of a failed attempt only what its own cells measured."""
        evidence: list[Measurement] = []
        if self.failure:
            for cell in self.session.history.cells.values():
                if cell.key[:2] == (self.stage.id, self.number):
                    evidence += cell.measurements.values()
            return evidence
        handed = self.outputs().get("model", {})
        for (who, seed), cell in self.cells.items():
            evidence += [retold(measurement, who, seed) for measurement in cell.measurements.values()]
            rival = who.startswith("baseline:")
            model = cell.artifacts(self.session.folder).get("model") if rival else handed.get((who, seed))
            if model is not None:
                evidence += self._judged(model, who, seed, gated_only=rival)
        for reference in sorted(party for party in cells.named(self.stage) if party.startswith("stage:")):
            evidence += self._evidence_of_stage(reference)
        return evidence

    def _evidence_of_stage(self, reference: str) -> Iterator[Measurement]:
        for (who, seed), model in self.handed[reference.removeprefix("stage:")].get("model", {}).items():
            if who == CANDIDATE:
                for measurement in self.session.measured_of.get(model.digest, ()):
                    yield retold(measurement, reference, seed)
                yield from self._judged(model, reference, seed, gated_only=True)

    def _judged(self, model: Artifact, who: str, seed: int, *, gated_only: bool) -> Iterator[Measurement]:
        for suite in cells.suites_of(self.plan, self.stage, gated_only=gated_only):
            yield from evaluate(
                self.session, self.plan, suite, model, stage=self.stage.id, attempt=self.number, who=who, seed=seed
            )


def _clear(workdir: Path, *, keep: Path) -> None:
    """What a killed process left half-written; its checkpoint is all that counts."""
    for entry in workdir.iterdir():
        if entry != keep:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
