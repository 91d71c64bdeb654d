"""The `data` section of a plan: what it may say, and which parts it makes.

    data:
      tokenizer: {kind: bpe, vocab: 4096, protect: [digits]}         # or bytes, words, file
      corpus: {source: stdlib}                                       # any name; the default one is `corpus`
      books: {source: text, folder: books, split: {train: 90%, val: 10%}, deduplicate: lines}

Splits. By default every source has `train`, `dev` and `val` by the hash of the document's name (data/split.py). Where
the plan names `SET:test`, and only then, a further twentieth is taken out of `train` as `test`: `for_plan` finds out.
Shares under `split` replace all that.

Unknown keys, sources and presets, shares that do not sum to one, and a tokenizer that would be trained on text to be
judged on are refused, all at once. Nothing here loads torch, numpy or tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bloomery.data.presets import PRESETS
from bloomery.data.split import DEFAULT_SPLITS, ON_DEMAND, check_shares
from bloomery.errors import BloomeryError, DataError, PlanError, Problems, nearest
from bloomery.plan.problems import show, translate
from bloomery.plan.units import Bytes, Count, Share

GAUNTLET_HELD_OUT = "held_out"
"""evaluate.gauntlet.source.HELD_OUT, without loading it."""
Category = Literal["math", "factual", "reasoning", "counting", "code", "format", "instruct", "creative"]
SplitName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
SET_NAME = r"[A-Za-z][A-Za-z0-9_-]*"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BpeSettings(_Frozen):
    kind: Literal["bpe"]
    vocab: Count = Field(ge=257)
    """Ids, the 256 bytes and end_of_document included: the rows of the model's embedding."""
    protect: tuple[Literal["digits", "json_punctuation"], ...] = ()
    """Characters that never merge with others into one token."""
    fit_on: str = ""
    """`SET:SPLIT` that it is trained on; by default the train split of `corpus`, or of the first set."""


class WordsSettings(_Frozen):
    kind: Literal["words"]
    vocab: Count = Field(ge=258)
    min_count: Count = Field(default=1, ge=1)
    """A word that stands less often in the text that it is trained on is spelled, in bytes, as an unknown one is."""
    fit_on: str = ""


class BytesSettings(_Frozen):
    kind: Literal["bytes"]


class FileSettings(_Frozen):
    kind: Literal["file"]
    path: str
    """A Hugging Face tokenizer.json, or a folder that holds one."""
    end_of_document: str | None = None
    """The token that ends a document; found by itself where it has one of the usual names."""


TokenizerSettings = BpeSettings | WordsSettings | BytesSettings | FileSettings
TOKENIZERS: Mapping[str, type[TokenizerSettings]] = {
    "bpe": BpeSettings, "words": WordsSettings, "bytes": BytesSettings, "file": FileSettings,
}  # fmt: skip


class _Set(_Frozen):
    split: Mapping[SplitName, Share] | None = None
    """{split: share}, in place of the default rule."""
    deduplicate: Literal["lines"] | None = None
    """Drops every line of at least 20 characters that came before, in whichever document."""


class StdlibSettings(_Set):
    source: Literal["stdlib"]
    split_by: Literal["document"] = "document"


class DocstringsSettings(_Set):
    source: Literal["docstrings"]
    split_by: Literal["file"] = "file"


class FilesSettings(_Set):
    folder: str | None = None
    file: str | None = None
    licence: str = "unknown"
    """Recorded with every result."""
    may_be_empty: bool = False
    """Where nothing is there yet, it is to come, and no mistake; for what a stage takes where there is some."""


class TextSettings(FilesSettings):
    source: Literal["text"]
    files: str | None = None
    """A pattern such as `*.py`; by default text, Markdown and reStructuredText files."""
    document: Literal["file", "stretch", "paragraph", "line"] = "file"
    split_by: Literal["document"] = "document"


class _Fields(_Set):
    text: str = "text"
    name: str | None = None
    category: str | None = None
    split_by: str = "document"
    """`document`, or a field: documents with the same value in it never part."""


class DistilSettings(_Frozen):
    at_least: Share = 0.5
    """The quality that an example needs to be kept: its lowest part (data/distil.py)."""
    shortest: int = Field(default=20, ge=1)
    """Characters of a response below which its part `length` falls."""


class JsonlSettings(_Fields, FilesSettings):
    source: Literal["jsonl"]
    prompt: str | None = None
    """Fields of examples, in place of `text`."""
    response: str | None = None
    messages: str | None = None
    """The field of a conversation, `[{role, content}, ...]`: every answer of the `assistant` is an example."""
    category_by: Literal["field", "file"] = "field"
    """file: the category is the file's name, not a field."""
    distil: DistilSettings | None = None
    """Keeps the good examples only; what is dropped is counted."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> JsonlSettings:
        if (self.prompt is None) != (self.response is None):
            raise ValueError("`prompt` and `response` go together")
        examples = self.response is not None or self.messages is not None
        if self.response is not None and self.messages is not None:
            raise ValueError("either `prompt` and `response`, or `messages`")
        if examples and self.deduplicate is not None:
            raise ValueError("lines cannot be dropped from examples: leave out `deduplicate`")
        if self.distil is not None and not examples:
            raise ValueError("`distil` is for examples: name `prompt` and `response`, or `messages`")
        if self.category_by == "file" and self.category is not None:
            raise ValueError("either the field `category`, or `category_by: file`")
        return self


class ParquetSettings(_Fields, FilesSettings):
    source: Literal["parquet"]


class HubSettings(_Set):
    source: Literal["hub"]
    name: str
    """A preset (tinystories, wikipedia, ...), or `owner/name`."""
    config: str | None = None
    hub_split: str | None = None
    """Which of the data set's own splits is read; ours are cut from it."""
    revision: str | None = None
    text: str | None = None
    category: str | None = None
    split_by: str = "document"
    licence: str | None = None
    max_documents: Count | None = None
    max_bytes: Bytes | None = None


class GauntletSettings(_Frozen):
    source: Literal["gauntlet"]
    examples: Count = Field(default=8000, ge=80, le=40_000)
    """Items of the eight categories together; those of held-out templates, the split `held_out`, come on top."""
    seed: int = Field(default=0, ge=0)
    shares: Mapping[Category, Share] | None = None
    """{category: share of the items}, where they are not to be equal."""
    split_by: Literal["tuple"] = "tuple"
    split: Mapping[SplitName, Share] | None = None
    """{split: share}, in place of the default rule."""
    deduplicate: None = None


SetSettings = (
    StdlibSettings
    | DocstringsSettings
    | TextSettings
    | JsonlSettings
    | ParquetSettings
    | HubSettings
    | GauntletSettings
)
SOURCES: Mapping[str, type[SetSettings]] = {
    "stdlib": StdlibSettings, "docstrings": DocstringsSettings, "text": TextSettings, "jsonl": JsonlSettings,
    "parquet": ParquetSettings, "hub": HubSettings, "gauntlet": GauntletSettings,
}  # fmt: skip


def _always(settings: SetSettings) -> tuple[str, ...]:
    """Splits that a source has whatever its shares."""
    return (GAUNTLET_HELD_OUT,) if isinstance(settings, GauntletSettings) else ()


@dataclass(frozen=True, slots=True)
class DataSpec:
    tokenizer: TokenizerSettings
    sets: Mapping[str, SetSettings]
    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{set: on-demand splits that the plan names}."""

    def splits(self) -> dict[str, tuple[str, ...]]:
        """{set: its splits}, with those that exist as soon as the plan names them."""
        return {
            name: (tuple(each.split) if each.split is not None else (*DEFAULT_SPLITS, *ON_DEMAND)) + _always(each)
            for name, each in self.sets.items()
        }

    def for_plan(self, plan: object) -> DataSpec:
        """The same data with the on-demand splits that `plan` names as `SET:SPLIT` or under `validation`."""
        named = {*_texts(plan), *(f"{name}:{split}" for split in _validated_on(plan) for name in self.sets)}
        wanted = {
            name: tuple(split for split in ON_DEMAND if f"{name}:{split}" in named)
            for name, each in self.sets.items()
            if each.split is None
        }
        return replace(self, wanted={name: splits for name, splits in wanted.items() if splits})

    def prepared_splits(self) -> dict[str, tuple[str, ...]]:
        """{set: the splits that `prepare` makes}."""
        return {
            name: (tuple(each.split) if each.split is not None else (*DEFAULT_SPLITS, *self.wanted.get(name, ())))
            + _always(each)
            for name, each in self.sets.items()
        }

    def to_json(self) -> dict[str, Any]:
        """What the prepared data depends on, as the manifest records it."""
        return {
            "tokenizer": self.tokenizer.model_dump(mode="json"),
            "sets": {name: each.model_dump(mode="json") for name, each in self.sets.items()},
            "splits": self.prepared_splits(),
        }


def parse_data(data: Mapping[str, Any]) -> DataSpec:
    """Checks a plan's `data`. Raises BloomeryError (several as Problems); `where` is a key path below `data`."""
    problems: list[BloomeryError] = []
    tokenizer = _parse(data, "tokenizer", "kind", TOKENIZERS, problems)
    sets: dict[str, SetSettings] = {}
    misspelt = _misspelt_tokenizer(data)
    for name in data:
        if name in ("tokenizer", misspelt):
            continue
        if not _is_set_name(name):
            problems.append(PlanError(str(name), "this cannot name a set", "a letter, then letters, digits, - or _"))
            continue
        found = _parse(data, name, "source", SOURCES, problems)
        if found is not None:
            sets[name] = found
            problems.extend(_sense(name, found))
    if not data.keys() - {"tokenizer", misspelt}:
        problems.append(PlanError("", "no text is named", "at least one set", "corpus: {source: stdlib}"))
    spec = DataSpec(tokenizer, sets) if tokenizer is not None else None
    if spec is not None and not problems and isinstance(tokenizer, BpeSettings | WordsSettings):
        problems.extend(_fit_on_problems(spec, tokenizer.fit_on))
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)
    assert spec is not None
    return spec


def _parse(data: Mapping[str, Any], key: str, tag: str, kinds: Mapping[str, Any], problems: list[BloomeryError]) -> Any:
    """The settings at data[key], of the class that its `tag` names, or None and a problem more."""
    if key not in data:
        meant = _misspelt_tokenizer(data)
        hint = f"is '{meant}' meant?" if meant else "tokenizer: {kind: bpe, vocab: 4096}"
        problems.append(PlanError("", f"'{key}' is missing", f"the key '{key}'", hint))
        return None
    raw = data[key]
    if not isinstance(raw, Mapping):
        problems.append(PlanError(key, f"found {show(raw)}", f"a mapping with the key '{tag}'"))
        return None
    kind = raw.get(tag)
    if not isinstance(kind, str) or kind not in kinds:
        where = f"{key}.{tag}" if tag in raw else key
        found = f"unknown {tag} {show(kind)}" if tag in raw else f"'{tag}' is missing"
        hint = nearest(str(kind), kinds)
        hint = hint if hint.startswith("did") else ""  # the names stand in `expected` already
        if tag == "source" and isinstance(kind, str) and kind in PRESETS:
            hint = f"did you mean {{source: hub, name: {kind}}}?"
        problems.append(PlanError(where, found, "one of: " + ", ".join(kinds), hint))
        return None
    try:
        return kinds[kind].model_validate(dict(raw))
    except ValidationError as error:
        problems.extend(translate(error, kinds[kind], data, {}, (key,)))
        return None


def _misspelt_tokenizer(data: Mapping[str, Any]) -> str | None:
    """The key that was meant to be `tokenizer`, where there is none: one mistake is one error."""
    for name, settings in data.items():
        is_set = not isinstance(settings, Mapping) or "source" in settings
        if "tokenizer" not in data and not is_set and nearest(str(name), ["tokenizer"]).startswith("did"):
            return name
    return None


def _is_set_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(SET_NAME, name) is not None


def _sense(name: str, settings: SetSettings) -> Iterable[BloomeryError]:
    """What a set's keys cannot mean together."""
    if settings.split is not None:
        try:
            check_shares(settings.split.items(), f"{name}.split")
        except DataError as error:
            yield PlanError(error.where, error.found, error.expected)
    if isinstance(settings, GauntletSettings):
        yield from _gauntlet_problems(name, settings)
    if isinstance(settings, FilesSettings) and (settings.folder is None) == (settings.file is None):
        yield PlanError(
            name, "exactly one of `folder` and `file` says where the text is", "folder: PATH, or file: PATH"
        )
    if isinstance(settings, HubSettings):
        preset = PRESETS.get(settings.name)
        if preset is None and settings.name.count("/") != 1:
            expected = "owner/name, or one of: " + ", ".join(PRESETS)
            yield PlanError(
                f"{name}.name", f"unknown preset '{settings.name}'", expected, nearest(settings.name, PRESETS)
            )
        if preset is not None and not preset.text:
            yield PlanError(f"{name}.name", f"'{settings.name}' cannot be streamed: {preset.about}", hint=preset.gated)


def _gauntlet_problems(name: str, settings: GauntletSettings) -> Iterable[BloomeryError]:
    if settings.split is not None and GAUNTLET_HELD_OUT in settings.split:
        found = f"the split '{GAUNTLET_HELD_OUT}' is made of whole templates, not by a share"
        yield PlanError(f"{name}.split.{GAUNTLET_HELD_OUT}", found, "other names; it is there in any case")
    if settings.shares is not None:
        try:
            check_shares(settings.shares.items(), f"{name}.shares")
        except DataError as error:
            yield PlanError(error.where, error.found, error.expected)


def _fit_on_problems(spec: DataSpec, fit_on: str) -> Iterable[BloomeryError]:
    name, split = resolve_fit_on(spec, fit_on).split(":")
    splits = spec.splits().get(name)
    if splits is None:
        yield PlanError("tokenizer.fit_on", f"no set '{name}'", "SET:SPLIT", nearest(name, spec.sets))
    elif split not in splits:
        where = "tokenizer.fit_on" if fit_on else f"{name}.split"
        found, expected = f"'{name}' has no split '{split}' for the tokenizer to be trained on", " or ".join(splits)
        yield PlanError(where, found, expected, "name another part: `tokenizer: {..., fit_on: SET:SPLIT}`")
    elif split in (*DEFAULT_SPLITS[1:], *ON_DEMAND):
        yield PlanError("tokenizer.fit_on", f"'{name}:{split}' is text to be judged on", f"{name}:train")


def resolve_fit_on(spec: DataSpec, fit_on: str) -> str:
    """`SET:SPLIT` that the tokenizer is trained on."""
    name = "corpus" if "corpus" in spec.sets else next(iter(spec.sets))
    reference = fit_on or name
    return reference if ":" in reference else f"{reference}:train"


def _validated_on(value: object) -> Iterable[str]:
    """Every `validation.split` in nested mappings and lists, as a key of its own or dotted, as in patches."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key).endswith("validation.split") and isinstance(inner, str):
                yield inner
            if str(key).endswith("validation") and isinstance(inner, Mapping) and isinstance(inner.get("split"), str):
                yield inner["split"]
            yield from _validated_on(inner)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for inner in value:
            yield from _validated_on(inner)


def _texts(value: object) -> Iterable[str]:
    """Every text in nested mappings, lists and models, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        yield from _texts(value.model_dump())
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)
