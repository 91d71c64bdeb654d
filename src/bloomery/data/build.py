"""Makes a prepared data folder: reads every source once, trains the tokenizer on train text, writes token files.

Documents go to spool files by split as they are read, so a stream is read once and memory stays small; then the
tokenizer is trained on the spooled train split and every split is encoded. All happens in a folder beside `out`, which
takes its place when whole. A folder that was made from the same spec and the same text is kept as it is.

The manifest records for every other split which share of its lines (of at least 20 characters) also stands in train,
and how many documents stand in parts of several sets (across.py).
Refuses an empty train split, but of a set that `may_be_empty`, a folder that holds something else, and a disk that is
full: then nothing is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.data.across import document_keys, shared_documents
from bloomery.data.corpus import Census, Document, Source, take_census
from bloomery.data.distil import Distilled
from bloomery.data.prepared import FORMAT, MANIFEST, TOKENIZER, Prepared, digest_of_manifest, parse_part
from bloomery.data.split import LineDeduplicator, SplitRule, line_keys
from bloomery.data.tokenizer import BytesTokenizer, Tokenizer, load_tokenizer, train_bpe, train_words
from bloomery.data.tokens import write_token_file
from bloomery.errors import ArtifactError, DataError

Progress = Callable[..., None]
_SAY_EVERY = 500


@dataclass(frozen=True, slots=True)
class SetRecipe:
    source: Source
    rule: SplitRule
    splits: tuple[str, ...]
    deduplicate: bool = False
    remote: bool = False
    """Not read again only to see whether it changed."""
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerRecipe:
    kind: str
    vocab: int = 0
    protect: tuple[str, ...] = ()
    min_count: int = 1
    file: Path | None = None
    end_of_document: str | None = None
    fit_on: str = "corpus:train"
    max_bytes: int = 100_000_000
    """Text that a tokenizer is trained on at most, from the start of the split."""


def build(
    out: Path, sets: Mapping[str, SetRecipe], tokenizer: TokenizerRecipe, spec: Mapping[str, Any], progress: Progress
) -> Prepared:
    """Make `out`, or keep it if it is the same already. `spec` is recorded and compared.

    Raises DataError for what sources and tokenizers refuse, ArtifactError where `out` cannot be written.
    """
    kept = _kept(out, sets, spec)
    if kept is not None:
        return kept
    _remove_abandoned(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        _fill(temporary, sets, tokenizer, spec, progress)
        _put_in_place(temporary, out)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(
            str(out),
            f"data cannot be written: {error.strerror or error}",
            hint="free some space or choose another --runs folder; nothing half-written is left",
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Prepared.open(out)


def _kept(out: Path, sets: Mapping[str, SetRecipe], spec: Mapping[str, Any]) -> Prepared | None:
    if not out.exists():
        return None
    if not (out / MANIFEST).exists():
        if any(out.iterdir()):
            raise ArtifactError(
                str(out), "holds other files", "an empty folder, or prepared data", "choose another place"
            )
        return None
    try:
        prepared = Prepared.open(out, verify=True)
    except DataError:
        return None  # damaged: made anew from the corpus
    if "across" not in prepared.manifest:
        return None  # made before that was looked at
    if prepared.manifest["spec"] != json.loads(json.dumps(spec)):
        return None
    for name, recipe in sets.items():
        record = prepared.manifest["sets"][name]
        if record["provenance"] != recipe.source.provenance():
            return None
        if not recipe.remote and record["sha256"] != take_census(recipe.source).sha256:
            return None
    return prepared


def _fill(
    folder: Path, sets: Mapping[str, SetRecipe], recipe: TokenizerRecipe, spec: Mapping[str, Any], progress: Progress
) -> None:
    records: dict[str, dict[str, Any]] = {}
    for name, each in sets.items():
        records[name] = _spool(folder / name, name, each, progress)
    progress(doing="training the tokenizer", kind=recipe.kind, vocab=recipe.vocab)
    tokenizer = _tokenizer(folder, sets, recipe)
    tokenizer.save(folder / TOKENIZER)
    across = _across(folder, sets)
    for name, each in sets.items():
        records[name]["overlap"] = _overlap(folder / name, each.splits)
        for split in each.splits:
            records[name]["splits"][split] = _encode(folder / name, split, tokenizer)
            progress(doing="encoding", set=name, split=split, tokens=records[name]["splits"][split]["tokens"])
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "spec": spec,
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab": tokenizer.vocab,
            "digest": tokenizer.digest,
            "end_of_document": tokenizer.end_of_document,
        },
        "sets": records,
        "across": across,
    }
    manifest["digest"] = digest_of_manifest(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def _spool(folder: Path, name: str, recipe: SetRecipe, progress: Progress) -> dict[str, Any]:
    """Read the source once, into one spool file a split; returns what is known of the text so far."""
    folder.mkdir()
    census, lines = Census(), LineDeduplicator()
    seen: set[str] = set()
    filled: set[str] = set()
    with contextlib.ExitStack() as stack:
        spools = {
            split: stack.enter_context(_spool_of(folder, split).open("w", encoding="utf-8")) for split in recipe.splits
        }
        for document in recipe.source.documents():
            census.count(document)
            if document.name in seen:
                raise DataError(
                    f"data.{name}", f"two documents are called '{document.name}'", "a name for each document"
                )
            seen.add(document.name)
            split = recipe.rule(document.group or document.name)
            text = lines.clean(document.text) if recipe.deduplicate else document.text
            filled.add(split)
            json.dump([document.name, text, document.category, "", document.prompt], spools[split])
            spools[split].write("\n")
            if census.documents % _SAY_EVERY == 0:
                progress(doing="reading", set=name, documents=census.documents, bytes=census.bytes)
    progress(doing="reading", set=name, documents=census.documents, bytes=census.bytes)
    if not census.documents and not recipe.may_be_empty:
        raise DataError(f"data.{name}", "the source gave no documents", "at least one")
    if "train" in recipe.splits and "train" not in filled and not recipe.may_be_empty:
        raise DataError(
            f"data.{name}",
            f"all {census.documents} documents fell into other splits than train",
            "some text to train on",
            "give shares under `split`, or cut files into more documents with `document: paragraph`",
        )
    record: dict[str, Any] = {"provenance": recipe.source.provenance(), **census.to_json(), "splits": {}}
    if isinstance(recipe.source, Distilled):
        record["distilled"] = recipe.source.told()
    if recipe.deduplicate:
        record["duplicate_lines_dropped"] = lines.dropped
    return record


def _spool_of(folder: Path, split: str) -> Path:
    return folder / f"{split}.spool"


def _read_spool(folder: Path, split: str) -> Iterator[Document]:
    with _spool_of(folder, split).open(encoding="utf-8") as stream:
        for line in stream:
            yield Document(*json.loads(line))


def _tokenizer(folder: Path, sets: Mapping[str, SetRecipe], recipe: TokenizerRecipe) -> Tokenizer:
    if recipe.kind == "bytes":
        return BytesTokenizer()
    if recipe.file is not None:
        return load_tokenizer(recipe.file, end=recipe.end_of_document)
    name, split = parse_part(recipe.fit_on)
    assert split in sets[name].splits
    if _spool_of(folder / name, split).stat().st_size == 0:
        raise DataError(
            "data.tokenizer.fit_on", f"no documents in {name}:{split}, on which the tokenizer is to be trained",
            "a part with text", "name another part: `fit_on: SET:SPLIT`",
        )  # fmt: skip

    def texts() -> Iterator[str]:
        left = recipe.max_bytes
        for document in _read_spool(folder / name, split):
            left -= len(document.text.encode())
            if left < 0:
                return
            yield document.text

    if recipe.kind == "words":
        return train_words(texts(), recipe.vocab, min_count=recipe.min_count)
    return train_bpe(texts(), recipe.vocab, protect=recipe.protect)


def _encode(folder: Path, split: str, tokenizer: Tokenizer) -> dict[str, Any]:
    """Turn a spool into a token file, and remove the spool. An empty part has no file."""
    spool = _spool_of(folder, split)
    if spool.stat().st_size == 0:
        spool.unlink()
        return {"documents": 0, "tokens": 0, "bytes": 0, "digest": ""}
    file = write_token_file(folder / f"{split}.tokens", _read_spool(folder, split), tokenizer)
    spool.unlink()
    return {
        "documents": file.documents,
        "tokens": len(file),
        "bytes": int(file.byte_counts.sum()),
        "digest": file.digest,
    }


def _across(folder: Path, sets: Mapping[str, SetRecipe]) -> dict[str, dict[str, int]]:
    if len(sets) < 2:
        return {}
    return shared_documents(
        {
            f"{name}:{split}": document_keys(document.text for document in _read_spool(folder / name, split))
            for name, each in sets.items()
            for split in each.splits
        }
    )


def _overlap(folder: Path, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """{split: lines, how many of them stand in train word for word, and their share}; nothing without a train split."""
    if "train" not in splits:
        return {}
    keys = {
        split: [key for document in _read_spool(folder, split) for key in line_keys(document.text)]
        for split in splits
        if split != "train"
    }
    wanted = {key for found in keys.values() for key in found}
    shared: set[int] = set()
    for document in _read_spool(folder, "train"):
        shared.update(wanted.intersection(line_keys(document.text)))
    out: dict[str, dict[str, float]] = {}
    for split, found in keys.items():
        copies = sum(key in shared for key in found)
        out[split] = {"lines": len(found), "in_train": copies, "share": copies / len(found) if found else 0.0}
    return out


def _put_in_place(temporary: Path, out: Path) -> None:
    """Rename; where another process has just made the same, theirs stays."""
    with contextlib.suppress(DataError):
        if Prepared.open(out, verify=True).manifest == Prepared.open(temporary).manifest:
            shutil.rmtree(temporary)
            return
    aside = temporary.with_suffix(".old")
    if out.exists():
        os.rename(out, aside)
    os.rename(temporary, out)
    shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(out: Path) -> None:
    """Folders that a killed process left beside `out`."""
    for left in (*out.parent.glob(f".{out.name}.*.tmp"), *out.parent.glob(f".{out.name}.*.old")):
        process = left.name.rsplit(".", 2)[1]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()
