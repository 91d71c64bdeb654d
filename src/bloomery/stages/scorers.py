"""Whatever an artifact holds, as something that can be judged: a network, a table, a memory. Torch is loaded inside.

A folder without weights says in a card of its own what opens it: `scorer.json`, {"kind": NAME, ...}. The catalogue
knows the names, the built-in ones and those that systems bring. An n-gram table has the card `ngram.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.engine.discover import catalogue
from bloomery.errors import ArtifactError
from bloomery.stages.baselines import NGRAM_CARD

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.model.interface import LanguageModel, Scorer

SCORER_CARD = "scorer.json"


def kind_of(folder: Path) -> str | None:
    """What opens the folder; None: it has weights, or nothing. Raises ArtifactError for a card that names no kind."""
    if (folder / NGRAM_CARD).is_file():
        return "ngram"
    card = folder / SCORER_CARD
    if not card.is_file():
        return None
    try:
        return str(json.loads(card.read_text())["kind"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(card), f"damaged ({error!r})", '{"kind": ...}', "run the stage again") from None


def open_scorer(folder: Path, *, device: str = "cpu") -> LanguageModel | Scorer:
    """Raises ArtifactError where the folder holds nothing that predicts, or no installed system can open it."""
    from bloomery.stages import models

    kind = kind_of(folder)
    return models.load_model(folder, device=device) if kind is None else catalogue.scorer(kind)(folder)


def scorer_of(folder: Path, prepared: Prepared, *, device: str) -> LanguageModel | Scorer:
    """The same, where it speaks the vocabulary of the data, else ArtifactError. A table is fitted beside its data."""
    from bloomery.stages import models

    if kind_of(folder) != "ngram":
        models.check_tokenizer(folder, prepared.tokenizer)
    return open_scorer(folder, device=device)
