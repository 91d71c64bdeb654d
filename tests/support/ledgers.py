"""The claims ledger as it was before any verdict was recorded, and with recorded verdicts of a test's own."""

from dataclasses import replace
from typing import Any

from bloomery.plan.ledger import Ledger, Row, ledger


def with_recorded(recorded: dict[str, Any], waits_for: dict[str, str] | None = None) -> Ledger:
    """The ledger of the package with these verdicts ({row: fields of each}) and reasons, and no others."""

    def changed(row: Row) -> Row:
        fields = {
            **row.model_dump(),
            "recorded": recorded.get(row.id, ()),
            "waits_for": (waits_for or {}).get(row.id, ""),
        }
        return Row.model_validate(fields)

    return replace(
        ledger(),
        chapters=tuple(
            chapter.model_copy(update={"rows": tuple(map(changed, chapter.rows))}) for chapter in ledger().chapters
        ),
    )


def bare() -> Ledger:
    return with_recorded({})
