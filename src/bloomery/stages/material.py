"""What a finetuning stage reads: parts of the plan's data, examples that stages made, other formats, further examples.

A name under `data` that is also an input is made data (data/examples.py). What is asked in a part that no stage
learns from is left out of it, with a note: the same prompt, or an item of the same tuple. A stage may have made
nothing; then the others' shares grow. Formats and further examples join the first part, whose share stays.

Further examples of a category: of a gauntlet items made with further seeds, that the set's own rule sends to the split
which is learned from and whose tuples stand in no part of the set; of any other set, and where there are no more, the
category's own once more. Example number n of a category is the same whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.engine.artifact import Artifact
from bloomery.errors import DataError

if TYPE_CHECKING:
    from bloomery.data.corpus import Document
    from bloomery.data.examples import Example
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile
    from bloomery.stages.training import Addition

AT_ONCE = 200
"""Items of a category that are made with one seed."""
SEEDS = 50
"""Seeds that are tried for them."""


class Material:
    """Of one reading. Raises DataError for data that cannot be read, or where nothing is left."""

    def __init__(
        self, folder: Path, inputs: Mapping[str, Artifact], data: Mapping[str, float], formats: Mapping[str, int]
    ) -> None:
        """folder: the prepared data. inputs: {part: examples that a stage made}. data: {part: share}."""
        from bloomery.data.prepared import Prepared
        from bloomery.data.tokens import together, tokens_of

        self._prepared = Prepared.open(folder)
        self.notes: list[str] = []
        self.digests = {part: inputs[part].digest for part in data if part in inputs}
        files = {part: self._file(inputs, part) for part in data}
        kept = {part: file for part, file in files.items() if file.documents}
        if not kept:
            raise DataError("data", "no examples: no stage made any", "a part to learn from")
        self.notes += [f"{part}: no examples; the others' shares grow" for part in files if part not in kept]
        total = sum(data[part] for part in kept)
        self._parts = [(file, data[part] / total) for part, file in kept.items()]
        self.first = next(iter(kept))
        self._own = self._parts[0][0]
        self._further: dict[str, list[Document]] = {}
        self._streams: dict[str, Iterator[Document]] = {}
        self._pieces: dict[tuple[str, int, int], TokenFile] = {}
        if any(formats.values()):
            made = list(_formatted(self._own, self._prepared.tokenizer, formats))
            more = tokens_of("formats", made, self._prepared.tokenizer)
            self._parts[0] = (together(self._own, more), self._parts[0][1])

    def parts(self, added: Sequence[Addition] = ()) -> list[tuple[TokenFile, float]]:
        """(file, share of the rows) of all parts, with what was added to the first."""
        from bloomery.data.tokens import together

        (first, share), *others = self._parts
        counts: dict[str, int] = {}
        for one in added:
            wanted = (one.category, counts.get(one.category, 0), one.count)
            if wanted not in self._pieces:
                self._pieces[wanted] = self._more(*wanted)
            first = together(first, self._pieces[wanted])
            counts[one.category] = counts.get(one.category, 0) + one.count
        return [(first, share), *others]

    def _file(self, inputs: Mapping[str, Artifact], part: str) -> TokenFile:
        from bloomery.data.examples import documents_of, read_examples
        from bloomery.data.tokens import tokens_of

        if part not in inputs:
            return self._prepared.part(part)
        if part in self._prepared.sets():
            raise DataError(f"needs.{part}", f"'{part}' is also a set of the plan's data", "a name of its own")
        examples = read_examples(inputs[part].path)
        asked = _Asked(self._prepared)
        kept = [example for example in examples if not asked.has(example)]
        if len(kept) < len(examples):
            self.notes.append(f"{part}: {len(examples) - len(kept)} of {len(examples)} examples ask what is held out")
        return tokens_of(part, documents_of(kept, part), self._prepared.tokenizer)

    def _more(self, category: str, start: int, count: int) -> TokenFile:
        """Further examples number `start` up to `start + count` of a category."""
        from bloomery.data.tokens import selected, together, tokens_of

        made = self._generated(category, start + count)[start:]
        file = tokens_of(f"further {category}", made, self._prepared.tokenizer)
        if len(made) == count:
            return file
        own = [index for index, name in enumerate(self._own.categories) if name == category]
        if not own:
            raise DataError("topup", f"'{self.first}' has no examples of '{category}' to add", "the category in it")
        begin = start + len(made) - len(self._further[category])
        return together(file, selected(self._own, [own[(begin + n) % len(own)] for n in range(count - len(made))]))

    def _generated(self, category: str, count: int) -> list[Document]:
        """The first `count` documents that can be made of a category, or fewer: those there are."""
        name, _, split = self.first.partition(":")
        spec = self._prepared.manifest["spec"]["sets"].get(name, {})
        found = self._further.setdefault(category, [])
        if spec.get("source") == "gauntlet":
            if category not in self._streams:
                self._streams[category] = _fresh(self._prepared, name, split or "train", category)
            found += islice(self._streams[category], max(0, count - len(found)))
        return found[:count]


def _fresh(prepared: Prepared, name: str, split: str, category: str) -> Iterator[Document]:
    """Documents of a gauntlet set of tuples that stand in none of its parts, and that its rule sends to `split`."""
    from bloomery.data.split import ON_DEMAND, bucket_rule, share_rule
    from bloomery.evaluate.gauntlet.generate import generate
    from bloomery.evaluate.gauntlet.source import document_of_item

    spec = prepared.manifest["spec"]
    settings, splits = spec["sets"][name], spec["splits"][name]
    shares = settings["split"]
    rule = share_rule(shares) if shares else bucket_rule(one for one in splits if one in ON_DEMAND)
    taken = {
        _key(item)
        for other in prepared.splits(name)
        if prepared.documents(f"{name}:{other}")
        for item in prepared.part(f"{name}:{other}").names
        if item.startswith(f"{category}/")
    }
    for seed in range(1, SEEDS + 1):
        for item in generate(AT_ONCE, settings["seed"] + seed, {category: 1.0}):
            if not item.held_out and item.key not in taken and rule(item.key) == split:
                taken.add(item.key)
                yield document_of_item(item)


class _Asked:
    """What the parts of prompts and responses ask that no stage may learn from: all but `train`."""

    def __init__(self, prepared: Prepared) -> None:
        self._tokenizer = prepared.tokenizer
        self._prompts: set[str] = set()
        self._keys: set[str] = set()
        for reference in prepared.parts():
            if reference.endswith(":train") or not prepared.documents(reference):
                continue
            file = prepared.part(reference)
            for index, prompt in enumerate(file.prompts.tolist()):
                if prompt:
                    self._prompts.add(_said(self._tokenizer.decode(file.document(index)[:prompt])))
                    self._keys.add(_key(file.names[index]))

    def has(self, example: Example) -> bool:
        prompt, key = _said(example.prompt), _key(str(example.origin.get("item", "")))
        return (bool(prompt) and prompt in self._prompts) or (bool(key) and key in self._keys)


def _said(prompt: str) -> str:
    """Without the white space at its end, which may be one token with what follows."""
    return prompt.rstrip()


def _key(name: str) -> str:
    """The normalised tuple of a gauntlet item of this name; empty for any other name."""
    from bloomery.evaluate.gauntlet.generate import item_named

    try:
        return item_named(name).key
    except DataError:
        return ""


def _formatted(file: TokenFile, tokenizer: Tokenizer, formats: Mapping[str, int]) -> Iterator[Document]:
    from bloomery.data.examples import documents_of
    from bloomery.data.formats import function_body, multiple_choice

    examples = examples_of(file, tokenizer)
    made = multiple_choice(
        [(_kind(example), example) for example in examples], formats.get("multiple_choice", 0), _also_right
    )
    yield from documents_of(made, "multiple_choice")
    yield from documents_of(function_body(examples, formats.get("function_body", 0)), "function_body")


def examples_of(file: TokenFile, tokenizer: Tokenizer) -> list[Example]:
    """The prompts and responses of a file, as text; documents without a prompt are left out."""
    from bloomery.data.examples import Example

    found: list[Example] = []
    for index, prompt in enumerate(file.prompts.tolist()):
        if prompt:
            tokens = file.document(index)
            before, after = tokenizer.decode(tokens[:prompt]), tokenizer.decode(tokens[prompt:])
            if not before[-1:].isspace():
                after = after.removeprefix(" ")
            found.append(Example(before, after, file.categories[index], {"item": file.names[index]}))
    return found


def _kind(example: Example) -> str:
    """The template of a gauntlet item, else the category."""
    name = str(example.origin["item"])
    return name.partition(" ")[0] if _key(name) else example.category


def _also_right(example: Example, text: str) -> bool:
    """By the checker of a gauntlet item; of anything else nothing is known."""
    from bloomery.evaluate.gauntlet.generate import item_named

    name = str(example.origin["item"])
    return bool(_key(name)) and item_named(name).accepts(text)
