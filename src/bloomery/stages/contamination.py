"""The suite `contamination`: how much of the evaluation data stands in the training data. It looks at no model.

    words/ngram_share, tokens/ngram_share   of all n-grams of the items: share that training text holds too
    words/item_share, tokens/item_share     of the items that have an n-gram: share with any (or `least`) of them in it
    too_short_share                         items with fewer than n words, of which nothing can be said

Without `data` every part that is not learned from is looked at, and names begin with it: `corpus_val/words/item_share`.
Intervals are over items, the documents of a part. Only prepared data is seen: not what a suite brings along itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.errors import DataError
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Share

if TYPE_CHECKING:
    from bloomery.data.overlap import Overlap
    from bloomery.data.prepared import Prepared


class ContaminationSettings(Frozen):
    data: str | None = None
    """The part that is judged on; without it every part outside of `train`."""
    train: tuple[str, ...] = ()
    """The parts that are learned from; without any, the `train` split of every set."""
    n: int = Field(default=13, ge=1)
    """Words in a row."""
    token_n: int | None = Field(default=None, ge=1)
    """Tokens in a row; without it as many as n words of the judged text are on average."""
    least: Share = 0.0
    """An item counts where more than this share of its n-grams is found; 0: where any is."""
    items: int | None = Field(default=None, ge=1)
    """At most this many items of each part, evenly spread."""


class Contamination:
    """Overlap of evaluation with training data, in n-grams of words and of tokens."""

    def config_model(self) -> type[BaseModel]:
        return ContaminationSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, ContaminationSettings)
        prefix = "" if config.data else "*/"
        names = [f"{unit}/{quantity}" for unit in ("words", "tokens") for quantity in ("ngram_share", "item_share")]
        return {f"{prefix}{name}": Emitted("share", "lower") for name in (*names, "too_short_share")}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared

        assert isinstance(config, ContaminationSettings)
        assert data is not None
        prepared = Prepared.open(data)
        learned = [_whole(part) for part in config.train] or _splits(prepared, "train")
        judged = [_whole(config.data)] if config.data else [
            part for part in prepared.parts() if part not in learned and prepared.documents(part)
        ]  # fmt: skip
        for part in judged:
            if part in learned:
                raise DataError(part, "is judged and learned from at once", "another part, or `train` without it")
        found: list[Measurement] = []
        for part, words, tokens in _overlaps(prepared, judged, learned, config):
            prefix = "" if config.data else part.replace(":", "_").replace("-", "_") + "/"
            key = prepared.part(part).digest
            found += [
                *_measured(f"{prefix}words", key, words, config),
                *_measured(f"{prefix}tokens", key, tokens, config),
            ]
            found.append(_share(f"{prefix}too_short_share", key, [float(not count) for count in words.grams]))
        return SuiteResult(tuple(found))


def _overlaps(
    prepared: Prepared, judged: Sequence[str], learned: Sequence[str], config: ContaminationSettings
) -> Iterator[tuple[str, Overlap, Overlap]]:
    """(part, words, tokens): training text is read once a unit, whatever the number of parts."""
    from bloomery.data import overlap as grams
    from bloomery.data.overlap import Overlap
    from bloomery.evaluate.perplexity import spread

    files = {part: prepared.part(part) for part in judged}
    chosen = {part: spread(file.documents, config.items) for part, file in files.items()}
    training = [prepared.part(part) for part in learned if prepared.documents(part)]
    words = grams.Words()
    documents = [files[part].document(index)[:-1] for part in judged for index in chosen[part]]
    items = {
        "words": [words(prepared.tokenizer.decode(document)) for document in documents],
        "tokens": [grams.token_hashes(document) for document in documents],
    }
    counted = {unit: max(1, sum(map(len, hashes))) for unit, hashes in items.items()}
    token_n = config.token_n or max(1, round(config.n * counted["tokens"] / counted["words"]))
    streams = {
        "words": (one for file in training for one in grams.documents_as_words(file, prepared.tokenizer, words)),
        "tokens": (one for file in training for one in grams.stream_of_tokens(file, token_n)),
    }
    lengths = {"words": config.n, "tokens": token_n}
    whole = {unit: grams.overlap(items[unit], streams[unit], lengths[unit]) for unit in items}
    start = 0
    for part in judged:
        end = start + len(chosen[part])
        own = {unit: Overlap(one.grams[start:end], one.found[start:end]) for unit, one in whole.items()}
        yield part, own["words"], own["tokens"]
        start = end


def _measured(prefix: str, key: str, found: Overlap, config: ContaminationSettings) -> Iterator[Measurement]:
    """Nothing where no item is long enough: a gate then says missing."""
    from bloomery.engine.intervals import items_interval

    kept = found.judged
    if not kept:
        return
    sums, weights = [float(found.found[place]) for place in kept], [float(found.grams[place]) for place in kept]
    items = Items(f"{key}:{prefix}", tuple(sums), tuple(weights))
    share, interval = sum(sums) / sum(weights), items_interval([items])
    yield Measurement(f"{prefix}/ngram_share", share, len(kept), interval, unit="share", items=items)
    hits = [float(hit > config.least * count) for hit, count in zip(sums, weights, strict=True)]
    yield _share(f"{prefix}/item_share", key, hits)


def _share(name: str, key: str, hits: Sequence[float]) -> Measurement:
    from bloomery.engine.intervals import wilson_interval

    n = len(hits)
    items = Items(f"{key}:{name}", tuple(hits), (1.0,) * n)
    return Measurement(name, sum(hits) / n, n, wilson_interval(sum(hits), n), unit="share", items=items)


def _splits(prepared: Prepared, split: str) -> list[str]:
    return [part for part in prepared.parts() if part.endswith(f":{split}")]


def _whole(part: str) -> str:
    return part if ":" in part else f"{part}:train"
