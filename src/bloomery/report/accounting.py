"""What the model stores and what it costs, next to its control: the lines of honest accounting.

All from the tallies and the finished cells. The dense equivalent is a claim and enters only the two lines that name it:
linears = (dense equivalent - rest) / (stored - rest), where rest is embedding, head and norms; total = dense
equivalent / stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.measure import Tally
from bloomery.report import wording
from bloomery.report.view import Attempt, RunView

NOT_LINEAR = frozenset({"embedding", "head", "norm"})
"""Groups that a structured layer does not touch."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """Ratios are candidate over control, except the two compressions; None where a side is unknown."""

    candidate: Tally
    control: Tally | None
    linear_compression: float | None
    total_compression: float | None
    stored_ratio: float | None
    flops_per_token_ratio: float | None
    flops_ratio: float | None
    """Measured over whole cells."""
    seconds_ratio: float | None
    """Measured over whole cells, per seed."""

    def compression_words(self) -> str:
        """`10x in the linears, 4.4x in total`; empty without a claim."""
        if self.total_compression is None or self.linear_compression is None:
            return ""
        return (
            f"{wording.times(self.linear_compression)} in the linears, {wording.times(self.total_compression)} in total"
        )

    def lines(self) -> tuple[str, ...]:
        out = []
        if self.total_compression is not None and self.linear_compression is not None:
            out.append(
                f"{self.compression_words()}: the linears store {wording.times(self.linear_compression)} fewer numbers "
                f"than dense ones of the same shape; embedding, head and norms are stored in full, so the whole model "
                f"is {wording.times(self.total_compression)} smaller, not more."
            )
        if self.control is not None and self.stored_ratio is not None:
            out.append(
                f"The candidate stores {wording.count(self.candidate.stored)} parameters "
                f"({wording.size(self.candidate.bytes)}), the control {wording.count(self.control.stored)} "
                f"({wording.size(self.control.bytes)}): a ratio of {self.stored_ratio:.3f}."
            )
        compute = self.flops_ratio or self.flops_per_token_ratio
        if compute is not None:
            seconds = (
                f" and took {wording.times(self.seconds_ratio)} its time on this machine" if self.seconds_ratio else ""
            )
            out.append(
                f"On the same tokens the candidate spent {wording.times(compute)} the control's FLOPs{seconds}. "
                + ("Equal parameters are not equal compute." if compute > 1.05 else "")
            )
        return tuple(line.strip() for line in out)


def account(view: RunView) -> Accounting | None:
    """Of the stage that the headline numbers come from; None where no model was counted."""
    stage = view.main_stage
    attempt = stage and stage.shown
    candidate = attempt and attempt.tally_of(attempt.candidate)
    if attempt is None or candidate is None:
        return None
    control = attempt.tally_of("control")
    rest = sum(group.stored for name, group in candidate.groups.items() if name in NOT_LINEAR)
    claim = candidate.dense_equivalent
    linears = candidate.stored - rest
    return Accounting(
        candidate,
        control,
        linear_compression=(claim - rest) / linears if claim and linears > 0 else None,
        total_compression=claim / candidate.stored if claim and candidate.stored else None,
        stored_ratio=_ratio(candidate.stored, control and control.stored),
        flops_per_token_ratio=_ratio(candidate.flops_per_token, control and control.flops_per_token),
        flops_ratio=_ratio(*(_mean(attempt, who, "flops") for who in (attempt.candidate, "control"))),
        seconds_ratio=_ratio(*(_mean(attempt, who, "seconds") for who in (attempt.candidate, "control"))),
    )


def _mean(attempt: Attempt, who: str, quantity: str) -> float | None:
    values = [
        getattr(cell, quantity) for cell in attempt.cells if cell.who == who and cell.state in ("finished", "reused")
    ]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None
