"""Run folders that answer rows of the claims ledger."""

import datetime
from pathlib import Path
from typing import Any

from bloomery.engine.verdict import ConditionResult, Verdict
from bloomery.measure import Interval
from bloomery.plan.schema import Condition


def verdict(status: str = "pass", value: float = -0.25, extra: int = 0) -> dict[str, Any]:
    """As the judge writes it: a difference to the control, after `extra` conditions that passed."""
    asked = Condition.model_validate(
        {"metric": "text/loss", "of": "stage:pretrain", "relative_to": "control", "as": "difference", "op": "<=",
         "value": 0}
    )  # fmt: skip
    one = ConditionResult(
        asked, status, "text/loss", "stage:pretrain", "control", value, Interval(value - 0.125, value + 0.125, 0.95),
        n=412, seeds=(0, 1), values=(value, value), candidate=3.5, reference=3.5 - value,
    )  # type: ignore[arg-type]  # fmt: skip
    passed = ConditionResult(
        asked, "pass", "text/perplexity", "stage:pretrain", "control", -1.0, n=9, candidate=40.0, reference=41.0
    )
    return Verdict(status, (*[passed] * extra, one)).to_json()  # type: ignore[arg-type]


class Runs:
    """Writes run folders below a root."""

    def __init__(self, root: Path, sample_run: Any) -> None:
        self.root, self.sample = root, sample_run

    def __call__(
        self, name: str, *claims: dict[str, Any], mode: str = "confirmatory", day: int = 0, plan: str | None = None
    ) -> None:
        log = self.sample.Log(self.root / name)
        log.clock += datetime.timedelta(days=day)
        self.sample.opened(log, name=plan or name, mode=mode, register=False)
        for one in claims:
            log("claim_judged", **one)
        self.sample.spent_and_finished(log, "passed")
        log.write()


def judged(claim: str = "first", rows: tuple[str, ...] = ("H-12",), status: str = "supported", **more: Any) -> dict:
    as_gate = {"supported": "pass", "refuted": "fail", "undecided": "inconclusive"}[status]
    return {
        "id": claim, "says": f"it says {claim}", "source": "the design", "rows": list(rows), "of": "stage:pretrain",
        "status": status, "reason": "", "verdict": verdict(as_gate), **more,
    }  # fmt: skip
