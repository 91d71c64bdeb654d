"""From a plan's `data` to the prepared folder: opens the sources that it names and has data/build.py do the work.

Relative paths are looked for in `roots` (the plan's folder), the working directory and $BLOOMERY_DATA. Importing this
module loads neither torch nor numpy nor tokenizers; sources and the tokenizer load what they need when they are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.data.corpus import Docstrings, Source, StandardLibrary
from bloomery.data.distil import Distilled
from bloomery.data.files import TEXT_PATTERNS, Fields, JsonLines, ParquetFiles, TextFiles, ToCome
from bloomery.data.hub import HubDataset
from bloomery.data.presets import PRESETS, Preset
from bloomery.data.split import SplitRule, bucket_rule, share_rule
from bloomery.errors import DataError
from bloomery.stages.data_spec import (
    BpeSettings,
    BytesSettings,
    DataSpec,
    DocstringsSettings,
    FileSettings,
    FilesSettings,
    GauntletSettings,
    HubSettings,
    JsonlSettings,
    ParquetSettings,
    SetSettings,
    StdlibSettings,
    TextSettings,
    WordsSettings,
    parse_data,
    resolve_fit_on,
)

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared

__all__ = ["DataSpec", "open_sources", "parse_data", "planned_vocab", "prepare", "prepare_for_run"]


_TOLD = ("documents", "bytes", "sha256", "overlap", "distilled")


def open_sources(spec: DataSpec, roots: Sequence[Path] = ()) -> dict[str, Source]:
    """{set: its source}, nothing read yet. Raises DataError for a path that does not exist."""
    return {name: _source(f"data.{name}", each, roots) for name, each in spec.sets.items()}


def planned_vocab(spec: DataSpec, roots: Sequence[Path] = ()) -> int:
    """Rows of the model's embedding, known before any text is read."""
    if isinstance(spec.tokenizer, BytesSettings):
        return 257
    if isinstance(spec.tokenizer, FileSettings):
        from bloomery.data.tokenizer import load_tokenizer

        path = find_path("data.tokenizer.path", spec.tokenizer.path, roots)
        return load_tokenizer(path, end=spec.tokenizer.end_of_document).vocab
    return spec.tokenizer.vocab


def find_path(where: str, path: str, roots: Sequence[Path] = ()) -> Path:
    """`path` itself, or below the first of `roots`, the working directory and $BLOOMERY_DATA that has it.

    Raises DataError with the places where it was looked for.
    """
    given = Path(path).expanduser()
    places = [*roots, Path.cwd(), *(Path(found) for found in [os.environ.get("BLOOMERY_DATA")] if found)]
    candidates = [given] if given.is_absolute() else list(dict.fromkeys(place / given for place in places))
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise DataError(where, f"'{path}' does not exist", looked, "set BLOOMERY_DATA, or write the whole path")


def _source(where: str, settings: SetSettings, roots: Sequence[Path]) -> Source:
    match settings:
        case StdlibSettings():
            return StandardLibrary()
        case DocstringsSettings():
            return Docstrings()
        case HubSettings():
            return _hub(settings)
        case GauntletSettings():
            from bloomery.evaluate.gauntlet.source import GauntletItems

            shares = None if settings.shares is None else tuple((name, float(n)) for name, n in settings.shares.items())
            return GauntletItems(settings.examples, settings.seed, shares)
        case _:
            pass
    key, path = ("folder", settings.folder) if settings.folder is not None else ("file", settings.file)
    try:
        root = find_path(f"{where}.{key}", path or "", roots)
    except DataError:
        if not settings.may_be_empty:
            raise
        root = Path(path or "")
    files = _files(settings, root)
    source = ToCome(files) if settings.may_be_empty else files
    if not isinstance(settings, JsonlSettings) or settings.distil is None:
        return source
    return Distilled(source, float(settings.distil.at_least), settings.distil.shortest)


def _files(
    settings: TextSettings | JsonlSettings | ParquetSettings, root: Path
) -> TextFiles | JsonLines | ParquetFiles:
    if isinstance(settings, TextSettings):
        patterns = (settings.files,) if settings.files else TEXT_PATTERNS
        return TextFiles(root, patterns, settings.document, settings.licence)
    group = None if settings.split_by == "document" else settings.split_by
    fields = Fields(settings.text, settings.name, settings.category, group)
    if not isinstance(settings, JsonlSettings):
        return ParquetFiles(root, fields, licence=settings.licence)
    fields = replace(fields, prompt=settings.prompt, response=settings.response, messages=settings.messages)
    return JsonLines(root, fields, licence=settings.licence, category_by_file=settings.category_by == "file")


def _hub(settings: HubSettings) -> HubDataset:
    preset = PRESETS.get(settings.name) or Preset(settings.name, None, "text", "unknown", 0)
    group = None if settings.split_by == "document" else settings.split_by
    return HubDataset(
        preset.dataset,
        settings.config or preset.config,
        settings.hub_split or preset.split,
        settings.revision,
        Fields(settings.text or preset.text, None, settings.category or preset.category, group),
        settings.max_documents,
        settings.max_bytes,
        settings.licence or preset.licence,
        preset.gated,
    )


def prepare(
    spec: DataSpec,
    out: Path,
    *,
    progress: Callable[..., None] = lambda **facts: None,
    tokenizer_max_bytes: int = 100_000_000,
    roots: Sequence[Path] = (),
) -> Prepared:
    """Make the prepared data folder `out`, or keep the one that is there if it was made from the same spec and text.

    progress(doing=..., **facts) is called now and then. tokenizer_max_bytes: text that a tokenizer is trained on at
    most. Raises DataError, MissingExtra or ArtifactError; then `out` is as it was.
    """
    from bloomery.data.build import SetRecipe, TokenizerRecipe, build

    splits = spec.prepared_splits()
    sets: dict[str, SetRecipe] = {}
    for name, source in open_sources(spec, roots).items():
        settings = spec.sets[name]
        rule: SplitRule = (
            bucket_rule(spec.wanted.get(name, ())) if settings.split is None else share_rule(settings.split)
        )
        if isinstance(settings, GauntletSettings):
            from bloomery.evaluate.gauntlet.source import with_held_out

            rule = with_held_out(rule)
        sets[name] = SetRecipe(
            source, rule, splits[name], settings.deduplicate is not None, isinstance(settings, HubSettings),
            isinstance(settings, FilesSettings) and settings.may_be_empty,
        )  # fmt: skip
    chosen = spec.tokenizer
    if isinstance(chosen, FileSettings):
        path = find_path("data.tokenizer.path", chosen.path, roots)
        recipe = TokenizerRecipe("file", file=path, end_of_document=chosen.end_of_document)
    elif isinstance(chosen, BytesSettings):
        recipe = TokenizerRecipe("bytes")
    else:
        protect = chosen.protect if isinstance(chosen, BpeSettings) else ()
        recipe = TokenizerRecipe(
            chosen.kind,
            chosen.vocab,
            protect,
            chosen.min_count if isinstance(chosen, WordsSettings) else 1,
            fit_on=resolve_fit_on(spec, chosen.fit_on),
            max_bytes=tokenizer_max_bytes,
        )
    recorded = {**spec.to_json(), "tokenizer_max_bytes": tokenizer_max_bytes}
    return build(out, sets, recipe, json.loads(json.dumps(recorded)), progress)


def prepare_for_run(
    data: Mapping[str, Any],
    folder: Path,
    observe: Callable[..., None],
    *,
    plan: object = None,
    roots: Sequence[Path] = (),
) -> tuple[dict[str, Any], tuple[Path, str, int]]:
    """What the engine asks for: data below `folder`, shared by all runs that want the same.

    plan: the whole plan, searched for the splits that exist on demand. Returns the facts of the event `data_ready`, and
    (prepared folder, digest, vocab).
    """
    spec = parse_data(data).for_plan(plan if plan is not None else data)
    known = {name: source.provenance() for name, source in open_sources(spec, roots).items()}
    name = hashlib.sha256(json.dumps([spec.to_json(), known], sort_keys=True).encode()).hexdigest()[:16]
    prepared = prepare(spec, folder / name, progress=observe, roots=roots)
    sets = prepared.manifest["sets"]
    splits = [split for record in sets.values() for split in record["splits"].values()]
    facts: dict[str, Any] = {
        "digest": prepared.digest,
        **{what: sum(split[what] for split in splits) for what in ("documents", "tokens", "bytes")},
        "tokenizer": prepared.manifest["tokenizer"],
        "provenance": {
            name: {**record["provenance"], **{key: record[key] for key in _TOLD if key in record}}
            for name, record in sets.items()
        },
        "splits": {name: record["splits"] for name, record in sets.items()},
        "across": prepared.manifest["across"],
    }
    return facts, (prepared.folder, prepared.digest, prepared.vocab)
