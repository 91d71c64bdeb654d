"""The prepared data folder: one tokenizer, and one token file for each part of each named set.

    manifest.json   what it was made from (spec, provenance, licences), what it holds, and its digest
    tokenizer/      as `Tokenizer.save` writes it
    SET/SPLIT.tokens, SET/SPLIT.tokens.json

A part is named `SET:SPLIT`, or `SET` for `SET:train`. The digest is the sha256 over the tokenizer's digest and the
digests of all token files: two folders with one digest train alike. Made by stages/prepare.py, which renames it into
place when whole; a folder without a manifest is therefore no prepared data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.data.tokenizer import Tokenizer, load_tokenizer
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError, nearest

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
FORMAT = 1
EMPTY_PART = "give shares under `split`, or cut files into more documents with `document: paragraph`"
EMPTY_SET = "the whole set is still empty, as it may be: leave it out here until something has come"


@dataclass(frozen=True, slots=True)
class Prepared:
    folder: Path
    manifest: dict[str, Any]
    _tokenizers: list[Tokenizer] = field(default_factory=list, repr=False)

    @staticmethod
    def open(folder: Path, *, verify: bool = False) -> Prepared:
        """Read the manifest; with `verify`, recompute every digest. Raises DataError where it is missing or damaged."""
        file = folder / MANIFEST
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            ok = manifest["format"] == FORMAT and manifest["digest"] == digest_of_manifest(manifest)
        except FileNotFoundError:
            raise DataError(str(folder), "no prepared data here", hint="run the plan: it prepares its data") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(str(file), f"damaged ({error!r})", hint="delete this folder and run again") from None
        if not ok:
            raise DataError(
                str(file),
                "of another format, or changed by hand",
                f"format {FORMAT}",
                "delete this folder and run again",
            )
        prepared = Prepared(folder, manifest)
        if verify:
            assert prepared.tokenizer.digest
            for reference in prepared.parts():
                if prepared.documents(reference):
                    prepared.part(reference).verify()
        return prepared

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    @property
    def tokenizer(self) -> Tokenizer:
        """Loaded once. Raises DataError where it is damaged or not the one of the manifest."""
        if not self._tokenizers:
            tokenizer = load_tokenizer(self.folder / TOKENIZER)
            expected = self.manifest["tokenizer"]["digest"]
            if tokenizer.digest != expected:
                raise DataError(
                    str(self.folder / TOKENIZER), f"digest {tokenizer.digest[:12]}", f"{expected[:12]}, by the manifest"
                )
            self._tokenizers.append(tokenizer)
        return self._tokenizers[0]

    @property
    def vocab(self) -> int:
        return int(self.manifest["tokenizer"]["vocab"])

    def sets(self) -> tuple[str, ...]:
        return tuple(self.manifest["sets"])

    def splits(self, name: str) -> tuple[str, ...]:
        """The splits of a set. Raises DataError for an unknown set."""
        sets = self.manifest["sets"]
        if name not in sets:
            raise DataError(f"data.{name}", f"no set '{name}' was prepared", hint=nearest(name, sets))
        return tuple(sets[name]["splits"])

    def parts(self) -> tuple[str, ...]:
        """Every `SET:SPLIT`, empty ones included."""
        return tuple(f"{name}:{split}" for name in self.sets() for split in self.splits(name))

    def documents(self, reference: str) -> int:
        return int(self._record(reference)["documents"])

    def part(self, reference: str) -> TokenFile:
        """`SET:SPLIT`, or `SET` for its train split.

        Raises DataError for an unknown or empty part, and for a token file that is damaged or not the manifest's.
        """
        name, split = parse_part(reference)
        record = self._record(reference)
        if not record["documents"]:
            raise DataError(
                f"data.{name}",
                f"the part '{name}:{split}' is empty",
                "at least one document",
                EMPTY_PART if self.manifest["sets"][name]["documents"] else EMPTY_SET,
            )
        file = TokenFile.open(self.folder / name / f"{split}.tokens")
        if file.digest != record["digest"]:
            raise DataError(
                str(file.path), f"digest {file.digest[:12]}", f"{record['digest'][:12]}, by the manifest",
                "delete the prepared data and run again",
            )  # fmt: skip
        return file

    def _record(self, reference: str) -> Mapping[str, Any]:
        name, split = parse_part(reference)
        splits = self.splits(name)
        if split not in splits:
            raise DataError(f"data.{name}", f"no split '{split}'", " or ".join(splits), nearest(split, splits))
        return self.manifest["sets"][name]["splits"][split]


def parse_part(reference: str) -> tuple[str, str]:
    """`corpus:val` -> (corpus, val); `corpus` -> (corpus, train)."""
    name, _, split = reference.partition(":")
    return name, split or "train"


def digest_of_manifest(manifest: Mapping[str, Any]) -> str:
    """sha256 over the tokenizer's digest and, by name, the digest of every part."""
    outer = hashlib.sha256(f"tokenizer\0{manifest['tokenizer']['digest']}\n".encode())
    for name, record in sorted(manifest["sets"].items()):
        for split, part in sorted(record["splits"].items()):
            outer.update(f"{name}:{split}\0{part['digest']}\n".encode())
    return outer.hexdigest()
