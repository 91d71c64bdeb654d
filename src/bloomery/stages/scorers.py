"""Whatever an artifact holds, as something that can be judged: a network, or a count table. Torch is loaded inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.stages.baselines import NGRAM_CARD

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.ngram import NGram
    from bloomery.evaluate.ngram_cache import Cached
    from bloomery.model.interface import LanguageModel


def scorer_of(folder: Path, prepared: Prepared, *, device: str) -> LanguageModel | NGram | Cached:
    """Raises ArtifactError where the folder holds no model, or one that speaks another vocabulary than the data."""
    from bloomery.stages import models

    if (folder / NGRAM_CARD).exists():
        from bloomery.evaluate.ngram_cache import open_table

        return open_table(folder)
    models.check_tokenizer(folder, prepared.tokenizer)
    return models.load_model(folder, device=device)
