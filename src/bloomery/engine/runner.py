"""The only loop over stages: resolve, run, judge, prescribe, record; and after a prescription, from the top again.

A walk goes through the stages in order. A retry adds its patch to the plan and begins the next walk, in which every
stage with an unchanged fingerprint is skipped with its verdict. Resuming is the same walk over the finished cells.
Claims are answered when the last walk has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from bloomery.engine import claiming, gate
from bloomery.engine.attempt import Attempt
from bloomery.engine.fitting import Maker
from bloomery.engine.gathering import gather
from bloomery.engine.handing import Outputs, Wanted, wanted
from bloomery.engine.loops import Loops
from bloomery.engine.prescribe import GoOn, NotPromoted, Retry, Stop, next_attempt
from bloomery.engine.session import Session
from bloomery.engine.stage import Stopped
from bloomery.plan import cast
from bloomery.plan.load import Loaded, resolve
from bloomery.plan.patch import patched_stage
from bloomery.plan.schema import Plan, Rule, StageSpec

EXIT_CODES = {"passed": 0, "failed": 1, "budget": 3, "interrupted": 130}

Status = Literal["passed", "failed", "budget", "interrupted"]


@dataclass(frozen=True, slots=True)
class Outcome:
    status: Status
    reason: str = ""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]


@dataclass(slots=True)
class _Prescribed:
    """What rules have done so far in this run."""

    patches: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    used: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    continue_attempt: dict[str, int] = field(default_factory=dict)

    def add(self, stage: StageSpec, rule: Rule, attempts: Mapping[str, int]) -> None:
        self.patches.append((stage.id, rule.set))
        self.used[stage.id, rule.name] += 1
        self.said.append({"stage": stage.id, "rule": rule.name, "set": dict(rule.set), "because": rule.because})
        targets = {patched_stage(stage.id, path)[0] for path in rule.set} or {stage.id}
        for target in targets:
            if rule.from_ == "checkpoint" and target in attempts:
                self.continue_attempt[target] = attempts[target]
            else:
                self.continue_attempt.pop(target, None)


class Runner:
    """Carries out one plan in one run folder. Everything it learns is in the events when `run` returns."""

    def __init__(self, loaded: Loaded, session: Session) -> None:
        self._loaded, self._session = loaded, session
        self._handed: dict[str, Outputs] = {}
        self._promoted: dict[str, bool] = {}
        self._attempts: dict[str, int] = {}
        self._makers: dict[Path, Maker] = {}
        """{folder of a model: who made it in this walk}"""
        self._last: dict[str, Attempt] = {}
        """{stage as its author calls it: its last own attempt in any walk}"""
        self._failed_gates: list[str] = []
        self._loops = Loops(session, self._handed)

    def run(self) -> Outcome:
        prescribed = _Prescribed()
        try:
            for walk in count(1):
                self._session.emit("walk_started", once=True, walk=walk, patches=prescribed.said)
                retry = self._walk(resolve(self._loaded, prescribed.patches), prescribed)
                if isinstance(retry, Outcome):
                    self._answer_claims()
                    return self._end(retry)
                stage, rule = retry
                prescribed.add(stage, rule, self._attempts)
        except Stopped:
            if self._session.signalled():
                return self._end(Outcome("interrupted"))
            return self._end(Outcome("budget", self._session.ledger.exceeded(self._session.stage) or ""))
        raise AssertionError("a plan ends")

    def _answer_claims(self) -> None:
        for claim in self._loaded.plan.claims:
            answer = claiming.answer(claim, {**self._last, **self._loops.cycles()}, self._handed)
            self._session.emit("claim_judged", once=True, **answer.to_json())

    def _end(self, outcome: Outcome) -> Outcome:
        spent: dict[str, Any] = dict(self._session.ledger.spent)
        self._session.emit("budget_spent", **spent)
        if outcome.status == "interrupted":
            self._session.emit("interrupted")
        else:
            self._session.emit(
                "run_finished", status=outcome.status, exit_code=outcome.exit_code, reason=outcome.reason
            )
        return outcome

    def _walk(self, plan: Plan, prescribed: _Prescribed) -> Outcome | tuple[StageSpec, Rule]:
        self._handed, self._promoted, self._failed_gates, self._makers = {}, {}, [], {}
        loops = self._loops = Loops(self._session, self._handed)
        for stage in plan.stages:
            attempt = Attempt(self._session, plan, stage, dict(self._handed), prescribed.continue_attempt, self._makers)
            absent = loops.closed(stage) or self._absent(attempt)
            if why := absent or self._unproven(attempt):
                self._promoted[stage.id] = False
                if not absent:
                    self._handed[stage.id] = loops.came_in(plan, stage) if stage.repeat else self._instead(attempt)
                self._session.emit("stage_skipped", once=True, stage=stage.id, attempt=0, why=why)
                if stage.repeat is None:
                    loops.passed_over(stage)
                continue
            if stage.repeat is not None:
                loops.begin(plan, stage)
                self._promoted[stage.id] = True
                continue
            attempt.run()
            self._makers |= attempt.made()
            self._attempts[stage.id] = attempt.number
            self._last[stage.written_id] = attempt
            evidence = gather(attempt)
            declared = attempt.declared()
            verdict = gate.judge(stage.gate, evidence, declared, seeds=attempt.seeds, cast=attempt.cast)
            if attempt.failure:
                verdict = gate.failed(verdict, attempt.failure)
            self._session.emit("verdict", once=True, stage=stage.id, attempt=attempt.number, **verdict.to_json())
            used = {rule.name: prescribed.used[stage.id, rule.name] for rule in stage.on_fail}
            decision = next_attempt(stage, verdict, evidence, used, declared, attempt.cast)
            if stage.cycle is not None and isinstance(decision, Stop) and decision.rule is None:
                decision = NotPromoted(f"{decision.reason}; the cycle is undone")
                loops.undo(stage, decision.reason)
            self._tell(stage, attempt.number, decision)
            if isinstance(decision, Retry):
                return stage, decision.rule
            if isinstance(decision, Stop):
                return Outcome("failed", f"stage {stage.id}: {decision.reason}")
            self._hand_on(stage, attempt, decision, verdict.status == "pass")
            loops.passed_over(stage, kept=isinstance(decision, NotPromoted) or verdict.passed)
        if self._failed_gates:
            return Outcome("failed", "gates failed at " + ", ".join(self._failed_gates))
        return Outcome("passed")

    def _absent(self, attempt: Attempt) -> str:
        """Why a stage cannot run: something it needs does not exist, because an optional stage was not promoted."""
        for one in self._wants(attempt):
            if one.output != "passed" and not one.among(self._handed):
                party = "" if one.party == cast.CANDIDATE else f" of {one.party}"
                return f"{one.stage}.{one.output}{party} is absent: {one.stage} was not promoted"
        return ""

    def _unproven(self, attempt: Attempt) -> str:
        """Which stage that was to pass first did not. Forced, it runs all the same, and that is told."""
        wanted_first = dict.fromkeys(one.stage for one in self._wants(attempt) if one.output == "passed")
        unmet = [f"{one} did not pass" for one in wanted_first if not self._promoted.get(one, False)]
        if not self._session.force:
            return unmet[0] if unmet else ""
        for why in unmet:
            self._session.emit("note", once=True, text=f"forced: stage {attempt.stage.id} runs though {why} (--force)")
        return ""

    def _wants(self, attempt: Attempt) -> Iterator[Wanted]:
        stage = attempt.stage
        texts = [(name, text) for who in attempt.parties for name, text in cast.needs_of(stage, who).items()]
        for name, text in dict.fromkeys(texts):
            if not text.startswith("inputs."):
                yield wanted(self._session, attempt.plan, name, text)

    def _instead(self, attempt: Attempt) -> Outputs:
        """The inputs of a stage that is not promoted, or not tried, under the names of its outputs."""
        names = set(attempt.kind.produces(attempt.config(attempt.candidate)))
        return {name: found for name, found in attempt.inputs_as_outputs().items() if name in names or not names}

    def _hand_on(self, stage: StageSpec, attempt: Attempt, decision: GoOn | NotPromoted, passed: bool) -> None:
        """Own outputs, or where the stage was not promoted its inputs under the same names."""
        promoted = isinstance(decision, GoOn)
        self._promoted[stage.id] = promoted and passed
        if promoted and not passed and stage.cycle is None:
            self._failed_gates.append(stage.id)
        self._handed[stage.id] = attempt.outputs() if promoted else self._instead(attempt)

    def _tell(self, stage: StageSpec, attempt: int, decision: GoOn | Retry | NotPromoted | Stop) -> None:
        facts: dict[str, Any] = {"stage": stage.id, "attempt": attempt, "action": decision.action}
        facts["because"] = decision.reason
        if isinstance(decision, Retry):
            facts |= {"set": dict(decision.rule.set), "from": decision.rule.from_}
        if decision.rule is not None:
            facts["rule"] = decision.rule.name
        self._session.emit("decision", once=True, **facts)
