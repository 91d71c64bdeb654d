"""What the plan side asks of whatever is installed. Implemented by engine.discover; a plan is checked against it.

Nothing here imports torch: a kind's Config, `emits` and `produces` are pure and cheap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from bloomery.measure import Emitted


class KindInfo(Protocol):
    """A stage kind as `check` sees it. `config_model` types what stands under `config`."""

    def config_model(self) -> type[BaseModel]: ...
    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        """Full metric names (`train/plateau`, `val/loss`); a `*` segment stands for any one segment."""
        ...

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        """{output: artifact kind}, for example {"model": "model", "state": "state"}."""
        ...

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        """{input name: required}: what `needs` may name."""
        ...

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        """The parts of data (`corpus:train`) that this stage learns from; no suite may judge one of them."""
        ...

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        """Why a final state of `before` cannot be gone on from with `after`: `another shape: ...`; empty if it can."""
        ...


@runtime_checkable
class Looking(Protocol):
    """A kind that looks at held-out data on its way may say so; nothing chosen by what it saw is judged on the same."""

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        """The parts of data (`corpus:dev`) on which it measures while it trains; what `select` chooses by."""
        ...


class SuiteInfo(Protocol):
    def config_model(self) -> type[BaseModel]: ...
    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        """Metric names without the suite's own: `loss`, `bits_per_byte`."""
        ...


@runtime_checkable
class Bringing(Protocol):
    """A suite may bring rivals of its own, and measure them beside the candidate (`who` = baseline:NAME)."""

    def brings(self, config: BaseModel) -> Collection[str]:
        """Names of baselines (`best_constant`), each with some of the metrics that the suite emits."""
        ...


@runtime_checkable
class Needing(Protocol):
    """A suite may need what is not part of the project: an extra, files."""

    def ready(self, config: BaseModel) -> None:
        """Raises BloomeryError where it is not here. Quick, and known before anything is trained."""
        ...


@runtime_checkable
class Tuning(Protocol):
    """A suite may find weights of its own, on a part that nothing is fitted on and no suite judges."""

    def tunes_on(self, config: BaseModel, splits: Mapping[str, Sequence[str] | None]) -> str | None:
        """That part, of the data sets' known splits; None where there is nothing to find. Raises PlanError."""
        ...


@runtime_checkable
class Following(Protocol):
    """Settings of a baseline that may say `same`: as the judged model has it, or as the plan's suites do."""

    def followed(
        self, suites: Sequence[BaseModel], splits: Mapping[str, Sequence[str] | None], size: float | None
    ) -> BaseModel:
        """The settings with what it stands for; `size`: the judged model's bytes, None before there is one. Raises
        PlanError where nothing is there to follow."""
        ...


class Catalogue(Protocol):
    def kinds(self) -> Mapping[str, KindInfo]:
        """{"pretrain": ..., "harmonic/to_l2": ...}: a system's kinds carry its name."""
        ...

    def suites(self) -> Mapping[str, SuiteInfo]: ...
    def codecs(self) -> Collection[str]:
        """What `through` may name; each is one segment of a metric's name."""
        ...

    def baselines(self) -> Mapping[str, type[BaseModel]]: ...
    def packable_baselines(self) -> Collection[str]:
        """Kinds of baselines whose result a codec can pack."""
        ...

    def systems(self) -> Mapping[str, str]:
        """{name: one-line summary}."""
        ...

    def check_data(self, data: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        """{set name: its splits}; raises BloomeryError or Problems whose `where` is a key path below `data`."""
        ...
