"""Cascades as files: a declaration in YAML, or a folder with cascade.json that a stage left. One shape (the Card).

`read_cascade` reads either, `open_cascade` loads what it names, `write_cascade` makes a folder that needs nothing from
elsewhere. What a name stands for that is no folder beside the file (a run) is for the caller to find.

Refuses what the card refuses, each mistake with its line; members that are missing, changed since they were digested,
or without a tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bloomery.engine.artifact import SEAL, digest_of, write_atomically
from bloomery.errors import ArtifactError, PlanError, Problems
from bloomery.evaluate.cascade.card import CARD, Card
from bloomery.evaluate.cascade.routing import FACT, OTHER, Relevance, packets_of
from bloomery.plan.problems import show, translate, where
from bloomery.plan.yaml_text import KeyPath, Parsed, decode, parse
from bloomery.stages.baselines import NGRAM_CARD
from bloomery.stages.scorers import SCORER_CARD, open_scorer

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.evaluate.cascade.answering import Reader

MODEL_CARD, TOKENIZER = "model.json", "tokenizer"


@dataclass(frozen=True, slots=True)
class Declared:
    """A card, and where it was read."""

    card: Card
    file: Path
    parsed: Parsed

    def place(self, *path: str | int) -> str:
        """`forge.yaml:3:5: members.0.model`, for an error."""
        return where(self.parsed.value, self.parsed.marks, path)

    def beside(self, name: str) -> Path:
        """A path as the file means it."""
        return self.file.parent / name


def read_cascade(path: Path) -> Declared:
    """A YAML file, or a folder with cascade.json. Raises PlanError and Problems."""
    file = path / CARD if path.is_dir() else path
    try:
        content = file.read_bytes()
    except OSError as error:
        expected = f"a cascade: a YAML file, or a folder with {CARD}"
        raise PlanError(str(path), f"cannot be read: {error.strerror or error}", expected) from None
    parsed = parse(decode(content, str(file)), str(file))
    if not isinstance(parsed.value, dict):
        raise PlanError(str(file), f"found {show(parsed.value)}", "a mapping of keys to values: cascade, name, members")
    try:
        return Declared(Card.model_validate(parsed.value), file, parsed)
    except ValidationError as error:
        raise Problems(translate(error, Card, parsed.value, parsed.marks)) from None


def is_member(folder: Path) -> bool:
    """Whether a model of any kind or an n-gram table lies there."""
    return any((folder / card).is_file() for card in (MODEL_CARD, NGRAM_CARD, SCORER_CARD))


def member_folders(
    declared: Declared, find_model: Callable[[str], Path], find_table: Callable[[Declared], Path]
) -> dict[str, Path]:
    """{member: its folder}, checked. find_model, find_table: for what is no folder beside the file.

    Raises PlanError, ArtifactError."""
    found: dict[str, Path] = {}
    for number, member in enumerate(declared.card.members):
        path: KeyPath = ("members", number, "model")
        beside = declared.beside(member.model)
        try:
            folder = beside if is_member(beside) else find_model(member.model)
        except ArtifactError as error:
            raise PlanError(declared.place(*path), error.found, error.expected, error.hint) from None
        found[member.name] = _checked(folder, member.digest, declared.place(*path))
    if (last := declared.card.last) is not None:
        beside = declared.beside(last.ngram) if isinstance(last.ngram, str) else None
        folder = beside if beside is not None and (beside / NGRAM_CARD).is_file() else find_table(declared)
        found[last.name] = _checked(folder, last.digest, declared.place("last", "ngram"))
    return found


def open_cascade(
    declared: Declared, folders: Mapping[str, Path], *, device: str
) -> tuple[dict[str, Reader], Relevance]:
    """What answers for each member, and what its packets say. Raises ArtifactError, PlanError."""
    from bloomery.evaluate.cascade.answering import Reader
    from bloomery.stages import models

    readers: dict[str, Reader] = {}
    for name, folder in folders.items():
        readers[name] = Reader(open_scorer(folder, device=device), models.tokenizer_of(folder))
    return readers, relevance_of(declared)


def relevance_of(declared: Declared) -> Relevance:
    """What the packets of its members say, and which prompts ask for facts. Raises PlanError."""
    facts = declared.card.facts
    kinds = {} if facts is None else {FACT: ("asked", facts.asked), OTHER: ("others", facts.others)}
    prompts = {kind: packets_of(_text(declared, name, ("facts", key))) for kind, (key, name) in kinds.items()}
    packets = {
        member.name: [
            words
            for place, name in enumerate(member.packets)
            for words in packets_of(_text(declared, name, ("members", number, "packets", place)))
        ]
        for number, member in enumerate(declared.card.members)
        if member.packets
    }
    return Relevance.of(packets, Relevance.of(prompts) if prompts else None)


def write_cascade(
    folder: Path, card: Card, sources: Mapping[str, Path], packets: Mapping[str, str], tokenizer: Tokenizer
) -> None:
    """A folder with copies of the members, their digests, and the card. sources: {member: folder}, the last included.

    packets: {member: text, a packet a paragraph}, and by their names what else the card has in packets/. tokenizer: for
    tables that have none. Raises ArtifactError.
    """
    digests: dict[str, str] = {}
    try:
        for name in card.names:
            target = folder / "members" / name
            shutil.copytree(sources[name], target, ignore=shutil.ignore_patterns(SEAL))
            if not (target / TOKENIZER).is_dir():
                tokenizer.save(target / TOKENIZER)
            digests[name] = digest_of(target)
    except (OSError, shutil.Error) as error:
        raise ArtifactError(str(folder), f"cannot be written: {error}", hint="free some space and run again") from error
    for name, text in packets.items():
        write_atomically(folder / "packets" / f"{name}.txt", text.encode())
    record = card.model_dump(mode="json", exclude_none=True)
    for member in record["members"]:
        name = member["name"]
        member |= {"model": f"members/{name}", "digest": digests[name]}
        member["packets"] = [f"packets/{name}.txt"] if name in packets else []
    if card.last is not None:
        record["last"] |= {"ngram": f"members/{card.last.name}", "digest": digests[card.last.name]}
    write_atomically(folder / CARD, json.dumps(record, indent=1).encode())


def _checked(folder: Path, digest: str | None, place: str) -> Path:
    if not is_member(folder):
        raise PlanError(place, f"no model in {folder}", f"a folder with {MODEL_CARD} or {NGRAM_CARD}")
    if not (folder / TOKENIZER).is_dir():
        raise PlanError(place, f"no tokenizer in {folder}", "one beside the model", "run the stage that made it again")
    if digest is not None and (found := digest_of(folder)) != digest:
        raise PlanError(place, f"{folder} has digest {found[:12]}", f"{digest[:12]}", "its files were changed")
    return folder


def _text(declared: Declared, name: str, path: KeyPath) -> str:
    try:
        return declared.beside(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PlanError(declared.place(*path), f"'{name}' cannot be read: {reason}", "a text file in UTF-8") from None
