"""Carrying out a batch of cells that do not depend on each other: in turn here, or by engine.workers side by side.

A batch always ends as it would in turn, whatever finished first: a cell counts only if it is still wanted after the
failures that stand before it in the batch. So who is judged, on which evidence, and which remedy applies do not depend
on the number of workers. A cell with the fingerprint of a finished one is taken over, inside the batch too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from bloomery.engine.cellwork import CellFailed, Job, carry_out, finished
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import Stage

Result = Cell | CellFailed | None
"""None: no longer wanted after what failed before it."""
Wanted = Callable[[int, Collection[int]], bool]
"""Whether order `index` is still to be carried out, given which orders before it failed. More failures never make an
order wanted again."""


@dataclass(frozen=True, slots=True)
class Order:
    """A cell, and what does its work."""

    job: Job
    kind_name: str
    kind: Stage
    config: BaseModel


class Executor(Protocol):
    def execute(self, session: Session, orders: Sequence[Order], wanted: Wanted) -> list[Result]:
        """The result of each order. Raises Stopped when the engine asks for it, after all cells saved."""
        ...

    def close(self) -> None: ...


class InTurn:
    """One after the other, in this process."""

    def execute(self, session: Session, orders: Sequence[Order], wanted: Wanted) -> list[Result]:
        results: list[Result] = []
        failed: list[int] = []
        for index, order in enumerate(orders):
            if not wanted(index, failed):
                results.append(None)
                continue
            try:
                results.append(_one(session, order))
            except CellFailed as failure:
                failed.append(index)
                results.append(failure)
        return results

    def close(self) -> None:
        pass


def _one(session: Session, order: Order) -> Cell:
    known = finished(session, order.job)
    return known or carry_out(session, order.job, lambda ctx: order.kind.run(ctx, order.config))
