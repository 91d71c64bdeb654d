"""What a cascade's names stand for on the command line: runs, their stages, their n-gram baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.cli.machine import model_folder
from bloomery.cli.reading import view_of
from bloomery.errors import ArtifactError, BloomeryError, PlanError

if TYPE_CHECKING:
    from bloomery.serve.cascade import Cascade
    from bloomery.stages.cascades import Declared

PACKETS = "packets"
"""Below the votes of a cascade: what came while it was served."""


def open_cascades(
    files: Sequence[Path], root: Path, feedback: Path, *, texts: bool, device: str, held: ExitStack
) -> list[Cascade]:
    """Loaded, with the votes on them in FEEDBACK/NAME and what came to them in FEEDBACK/NAME/packets. texts: what is
    asked and answered is kept with the votes. held: closes those. Raises BloomeryError."""
    from bloomery.data.chat import chat_template
    from bloomery.serve.cascade import Cascade
    from bloomery.serve.source import Model
    from bloomery.stages.cascades import member_folders, open_cascade, read_cascade
    from bloomery.stages.feedback import Ledger
    from bloomery.stages.packets import Additions

    declared = [read_cascade(file) for file in files]
    names = [each.card.name for each in declared]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise BloomeryError("--cascade", f"two are called '{repeated}'", "each a name of its own: clients ask by it")
    opened: list[Cascade] = []
    for each in declared:
        folders = member_folders(each, lambda name: model_folder(name, root), lambda own: _table(own, root))
        readers, relevance = open_cascade(each, folders, device=device)
        models = [
            Model(name, reader.model, reader.tokenizer, chat_template(folders[name] / "tokenizer"))
            for name, reader in readers.items()
        ]
        ledger = held.enter_context(Ledger(feedback / each.card.name, each.card, texts=texts))
        shelf = None
        if relevance.packets:
            shelf = held.enter_context(Additions(feedback / each.card.name / PACKETS, each.card, relevance))
        opened.append(Cascade(each.card, models, relevance, ledger, shelf))
    return opened


def _table(declared: Declared, root: Path) -> Path:
    """The n-gram baseline of the wanted order in the first member's run, or of the highest order in the run named."""
    last, place = declared.card.last, declared.place("last", "ngram")
    assert last is not None
    run = declared.card.members[0].model if isinstance(last.ngram, int) else last.ngram
    try:
        tables = _tables(run, root)
    except ArtifactError as error:
        raise PlanError(place, error.found, "a run, or a folder with ngram.json", error.hint) from None
    order = last.ngram if isinstance(last.ngram, int) else max(tables, default=0)
    if order not in tables:
        there = f"its tables are of order {', '.join(map(str, sorted(tables)))}" if tables else "it has none"
        hint = (
            f"a plan with `baselines: {{fallback: {{kind: ngram, order: {order or 5}}}}}` that a gate names makes one"
        )
        raise PlanError(place, f"no n-gram table of that order in {run}: {there}", "a baseline of that run", hint)
    return tables[order]


def _tables(run: str, root: Path) -> dict[int, Path]:
    """{order: folder} of the baselines of RUN, or of the run of RUN/STAGE: first seed, last stage that has them."""
    from bloomery.stages.baselines import NGRAM_CARD

    try:
        view = view_of(run, root)
    except ArtifactError:
        if "/" not in run:
            raise
        view = view_of(run.rpartition("/")[0], root)
    found: dict[int, Path] = {}
    for stage in reversed(view.stages):
        for made in stage.shown.artifacts if stage.shown is not None else ():
            card = view.folder / made.path / NGRAM_CARD
            if made.who.startswith("baseline:") and card.is_file():
                try:
                    found.setdefault(int(json.loads(card.read_text())["order"]), card.parent)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise ArtifactError(str(card), f"cannot be read ({error})", "what its baseline wrote") from None
    return found
