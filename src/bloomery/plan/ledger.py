"""The claims ledger: every statement of the systems' seed documents that can be wrong, as rows (claims/*.yaml).

Plans name rows by id; runs answer them; report.claims joins the two. A file is refused whose rows do not add up to the
counts that it states, whose ids are not its letter's numbers from 01 upwards, or that repeats an id: a debt does not
disappear by an edit. `status` is what was known before any plan ran and never a verdict; a verdict that outlives its
run folder is `recorded`, with the page on which it stands or the sum that it follows from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from bloomery.errors import PlanError, nearest
from bloomery.plan.problems import translate
from bloomery.plan.schema import Frozen, Plan
from bloomery.plan.yaml_text import Parsed, decode, parse

FOLDER: Final = Path(__file__).with_name("claims")
LEGEND: Final = "legend.yaml"

Kind = Literal["arithmetic", "small", "large", "external"]
Known = Literal["supported", "refuted", "contradicts", "open"]
Verdict = Literal["supported", "refuted", "undecided"]
ARITHMETIC: Final = "arithmetic"
SEED: Final = "the seed"
RowId = Annotated[str, Field(pattern=r"^[A-Z]-\d{2,}$")]
Text = Annotated[str, Field(min_length=1)]
Amount = Annotated[int, Field(ge=0)]
Model = TypeVar("Model", bound=Frozen)


class Recorded(Frozen):
    """A verdict that needs no run folder: it was written down when there was one, or follows without any run."""

    verdict: Verdict
    by: Annotated[str, Field(pattern=rf"^({ARITHMETIC}|{SEED}|[\w/-]+\.(md|py))$")]
    """A page or test of this repository; `arithmetic`, which a test repeats; or `the seed`, to be read."""
    value: str = ""
    """Quoted to the letter from the page, quotations parted by `; `; of `arithmetic` the sum."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    why: Text

    @model_validator(mode="after")
    def _quotes_what_can_be_looked_up(self) -> Recorded:
        if not self.value and self.by != SEED:
            raise ValueError(f"a verdict by {self.by} without its value, which is quoted from there")
        return self

    @property
    def page(self) -> str:
        """The file, from the root of the repository; empty where there is none."""
        return self.by if self.by not in (ARITHMETIC, SEED) else ""

    @property
    def quotations(self) -> tuple[str, ...]:
        return tuple(part for part in self.value.split("; ") if part)


class Row(Frozen):
    """One claim. Texts are the ledger's own words; `legend.yaml` says what they mean."""

    id: RowId
    system: Text
    section: Text
    """Where the seed makes it."""
    claim: Text
    kind: Kind
    tested_by: Text
    known: Text
    status: Known
    """Before any plan ran."""
    control: str
    """What a verdict would be worthless without, beyond the controls due in every row."""
    recorded: tuple[Recorded, ...] = ()
    """The first stands for the row, unless a run answers it."""
    waits_for: str = ""
    """What would decide a row that has no verdict, or an undecided one."""

    @model_validator(mode="after")
    def _what_is_decided_waits_for_nothing(self) -> Row:
        if self.waits_for and self.recorded and self.recorded[0].verdict != "undecided":
            raise ValueError(f"{self.id} is {self.recorded[0].verdict} and still waits for something")
        return self


class Counts(Frozen):
    """What a file says that it holds."""

    rows: Amount
    kinds: Mapping[str, Amount]
    statuses: Mapping[str, Amount]


class Chapter(Frozen):
    """The rows of one system."""

    system: Text
    counts: Counts
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _rows_know_their_system(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("rows"), list):
            return data
        rows = [{"system": data.get("system"), **row} if isinstance(row, Mapping) else row for row in data["rows"]]
        return {**data, "rows": rows}

    @model_validator(mode="after")
    def _adds_up(self) -> Chapter:
        letter = self.rows[0].id[0]
        for number, row in enumerate(self.rows, start=1):
            if row.id != f"{letter}-{number:02}":
                raise ValueError(f"row {number} is {row.id}, but ids are {letter}-01, {letter}-02, ..., without a gap")
        if self.counts.rows != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows, but the counts say {self.counts.rows}")
        kinds, statuses = Counter[str](row.kind for row in self.rows), Counter[str](row.status for row in self.rows)
        for found, stated in ((kinds, self.counts.kinds), (statuses, self.counts.statuses)):
            for name in {*found, *stated}:
                if found[name] != stated.get(name, 0):
                    raise ValueError(f"{found[name]} rows are {name}, but the counts say {stated.get(name, 0)}")
        return self

    @property
    def letter(self) -> str:
        return self.rows[0].id[0]


class Legend(Frozen):
    """What the words mean, and what several rows have in common."""

    systems: tuple[str, ...]
    """The files, in order."""
    about: Text
    use: Text
    words: Mapping[str, Text]
    kinds: Mapping[Kind, Text]
    statuses: Mapping[Known, Text]
    marks: Mapping[str, Text]
    waits_for: Mapping[str, Text]
    """Of a system whose rows have no reasons of their own yet: what they wait for."""
    notes: tuple[Text, ...]
    shared: tuple[Text, ...]
    sources: tuple[Text, ...]


@dataclass(frozen=True)
class Ledger:
    """All chapters, in the legend's order."""

    legend: Legend
    chapters: tuple[Chapter, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for chapter in self.chapters for row in chapter.rows)

    def by_id(self) -> dict[str, Row]:
        return {row.id: row for row in self.rows}

    def waits_for(self, row: Row) -> str:
        """What a row without a verdict waits for: its own reason, or that of its system."""
        return row.waits_for or ("" if row.recorded else self.legend.waits_for.get(row.system, ""))

    def hint(self, unknown: str) -> str:
        """What to write instead of an id that is no row: `H-7` and `h-07` mean H-07."""
        known = self.by_id()
        parts = re.fullmatch(r"([A-Za-z])[-_ ]?(\d+)", unknown.strip())
        if parts:
            likely = f"{parts[1].upper()}-{int(parts[2]):02}"
            if likely in known:
                return f"did you mean '{likely}'?"
            for chapter in self.chapters:
                if chapter.letter == parts[1].upper():
                    return f"the rows of {chapter.system} are {chapter.rows[0].id} to {chapter.rows[-1].id}"
        return nearest(unknown, known) or "bloomery claims"

    def counted_by(self, plan: str) -> tuple[Row, ...]:
        """The rows that pricing this plan settles: plain arithmetic, no run needed."""
        return tuple(row for row in self.rows if f"`bloomery budget {plan}`" in row.tested_by)

    def unnamed(self, system: str, plans: Iterable[Plan]) -> tuple[Row, ...]:
        """The rows of a system that no claim of its own plans names: none is left once it is complete."""
        named = {row for plan in plans if plan.system == system for claim in plan.claims for row in claim.rows}
        return tuple(row for row in self.rows if row.system == system and row.id not in named)


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a folder. Raises PlanError with the file and line of what does not add up."""
    legend = _read(folder / LEGEND, Legend)
    chapters = tuple(_read(folder / f"{system}.yaml", Chapter) for system in legend.systems)
    for system, chapter in zip(legend.systems, chapters, strict=True):
        if chapter.system != system:
            raise PlanError(str(folder / f"{system}.yaml"), f"the ledger of {chapter.system}", f"that of {system}")
    twice = [letter for letter, times in Counter(chapter.letter for chapter in chapters).items() if times > 1]
    if twice:
        raise PlanError(str(folder), f"two systems have the letter {twice[0]}", "a letter of its own for each")
    return Ledger(legend, chapters)


@cache
def ledger() -> Ledger:
    """The one that comes with the package."""
    return read_ledger(FOLDER)


def _read(file: Path, model: type[Model]) -> Model:
    parsed: Parsed = parse(decode(file.read_bytes(), str(file)), str(file))
    try:
        return model.model_validate(parsed.value)
    except ValidationError as error:
        raise translate(error, model, parsed.value, parsed.marks)[0] from None
