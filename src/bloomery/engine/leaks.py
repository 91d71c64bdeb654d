"""Text that a plan learns from in one data set and looks at in another. Pure; what is shared stands in `data_ready`.

Refused where a suite judges it: the model has read the answers. Told where it is merely held out.
"""

from __future__ import annotations

from collections.abc import Mapping

from bloomery.engine.discover import Catalogue
from bloomery.errors import DataError
from bloomery.plan.load import Loaded
from bloomery.plan.schema import Plan

Shared = Mapping[str, Mapping[str, int]]
"""{part: {part of another set: documents in both}}"""


def fitted_parts(plan: Plan, catalogue: Catalogue) -> frozenset[str]:
    """What the plan's stages learn from, as SET:SPLIT."""
    parts: set[str] = set()
    for stage in plan.stages:
        if stage.kind is not None:
            kind = catalogue.kind(stage.kind)
            config = kind.config_model().model_validate(dict(stage.config), context={"system": plan.system})
            parts.update(map(_whole, kind.fits_on(config)))
    return frozenset(parts)


def refuse_judged(loaded: Loaded, shared: Shared, fitted: frozenset[str]) -> None:
    """Raise DataError for the first suite whose documents a stage learns from under another set's name."""
    for name, suite in loaded.plan.suites.items():
        for key, part in ((key, _whole(part)) for key, part in suite.judged.items()):
            for source, documents in shared.get(part, {}).items():
                if source in fitted:
                    raise DataError(
                        loaded.where(f"suites.{name}.{key}"),
                        f"{documents} documents of {part} also stand in {source}, which a stage learns from",
                        "text that no stage learns from",
                        f"give '{source.partition(':')[0]}' and '{part.partition(':')[0]}' the same names and `split`, "
                        "or judge another part",
                    )


def notes(shared: Shared, fitted: frozenset[str]) -> list[str]:
    """One sentence for every part that is not learned from and shares documents with one that is."""
    return [
        f"{documents} documents of {part} also stand in {source}, which a stage learns from"
        for part, sources in sorted(shared.items())
        for source, documents in sorted(sources.items())
        if source in fitted and part not in fitted
    ]


def _whole(part: str) -> str:
    return part if ":" in part else f"{part}:train"
