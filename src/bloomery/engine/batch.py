"""A batch of cells that workers carry out side by side: what is next, what is no longer wanted, how it ended.

It ends as it would in turn (engine.executing). An error ends it at once: what runs is asked to save, and the run can go
on when the error is mended.
"""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.engine.cellwork import CellFailed, Underway, finished
from bloomery.engine.executing import Order, Result, Wanted
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import Stopped


class Batch:
    def __init__(self, session: Session, orders: Sequence[Order], wanted: Wanted) -> None:
        self._session, self._orders, self._wanted = session, orders, wanted
        self._results: dict[int, Cell | CellFailed] = {}
        self._errors: dict[int, Exception] = {}
        self._new: set[int] = set()
        """Orders that are known not to be done already."""
        self.running: dict[int, Underway] = {}

    def wanted(self, index: int) -> bool:
        """As far as is known now. What is not wanted now will not be."""
        return self._wanted(index, [one for one in self._failed if one < index])

    @property
    def _failed(self) -> list[int]:
        return [index for index, result in self._results.items() if isinstance(result, CellFailed)]

    @property
    def broken(self) -> bool:
        """Whether an error ends it."""
        return any(self.wanted(index) for index in self._errors)

    def waiting(self) -> int:
        """How many more cells could be begun now, at most."""
        return sum(self._open(index) for index in range(len(self._orders)))

    def next(self) -> int | None:
        """The first order that can be begun; those that are done already are taken over on the way."""
        for index, order in enumerate(self._orders):
            if self._open(index):
                if index in self._new:
                    return index
                try:
                    known = finished(self._session, order.job)
                except CellFailed as failure:
                    self._results[index] = failure
                    continue
                if known is None:
                    self._new.add(index)
                    return index
                self._results[index] = known
        return None

    def _open(self, index: int) -> bool:
        """A cell that is the same as a running one waits for it."""
        if index in self._results or index in self._errors or index in self.running or not self.wanted(index):
            return False
        fingerprint = self._orders[index].job.fingerprint
        return all(cell.job.fingerprint != fingerprint for cell in self.running.values())

    def begin(self, index: int) -> tuple[Order, Underway]:
        order = self._orders[index]
        cell = self.running[index] = Underway(self._session, order.job)
        cell.clear()
        return order, cell

    def end(self, index: int, how: Cell | CellFailed | Exception | None) -> None:
        """None: it saved, because it was asked to stop."""
        del self.running[index]
        self._new.clear()
        if isinstance(how, Cell | CellFailed):
            self._results[index] = how
        elif how is not None:
            self._errors[index] = how

    def break_off(self, error: Exception) -> None:
        """No further order can be begun."""
        index = self.next()
        if index is not None:
            self._errors[index] = error

    def outcome(self) -> list[Result]:
        """Of every order. Raises the first error, or Stopped, where an order that is wanted was not carried out."""
        results: list[Result] = []
        failed: list[int] = []
        for index in range(len(self._orders)):
            if not self._wanted(index, failed):
                results.append(None)
                continue
            if index not in self._results:
                raise self._errors[min(self._errors)] if self._errors else Stopped
            result = self._results[index]
            results.append(result)
            if isinstance(result, CellFailed):
                failed.append(index)
        return results
