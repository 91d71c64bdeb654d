"""Sources that read files: `text` (a file or a folder of them), `jsonl` and `parquet` (records with a text field).

A record may also be an example, with fields for prompt and response, or a conversation, a list of `{role, content}`: of
that every answer is an example, its prompt being `role: content` a line up to there and `assistant:` (as data/chat.py
has it by default). Their prompts are not learned from.

Names are posix paths relative to the folder, with the number of the record where a file holds several; so they are the
same on every machine. Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes U+FFFD. A missing file, a
record that is not one, a field that is not there and text that is not UTF-8 are refused with file and line.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from bloomery.data.corpus import Document
from bloomery.data.examples import joined
from bloomery.errors import DataError, MissingExtra, nearest

TEXT_PATTERNS = ("*.txt", "*.md", "*.rst")
Cut = Literal["file", "stretch", "paragraph", "line"]
STRETCH = 65536
"""Characters after which a stretch ends with its paragraph: some ten thousand words."""
_PARAGRAPH_END = re.compile(r"(?<=\n)(?:[ \t\r]*\n)+")


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a record make the document: `text`, or `prompt` and `response`, or `messages`. `category` and
    `group` may be absent."""

    text: str = "text"
    name: str | None = None
    category: str | None = None
    group: str | None = None
    prompt: str | None = None
    response: str | None = None
    messages: str | None = None

    def document(self, record: object, where: str, name: str, category: str = "") -> Document:
        """Raises DataError where a field is missing or the text is no text. category: where no field tells it."""
        prompt = self._text(record, self.prompt, where) if self.prompt else ""
        text = self._text(record, self.response or self.text, where)
        assert isinstance(record, Mapping)
        return Document(
            clean_text(str(self._field(record, self.name, where))) if self.name else name,
            joined(prompt, text) if self.response else text,
            clean_text(str(self._field(record, self.category, where))) if self.category else category,
            clean_text(str(self._field(record, self.group, where))) if self.group else "",
            len(prompt),
        )

    def documents(self, record: object, where: str, name: str, category: str) -> Iterator[Document]:
        """Of one record: one, or of a conversation as many as it has answers, which never part."""
        if self.messages is None:
            yield self.document(record, where, name, category)
            return
        turns = record.get(self.messages) if isinstance(record, Mapping) else None
        if not isinstance(record, Mapping) or not isinstance(turns, list):
            raise DataError(where, f"no list of messages under '{self.messages}'", "messages: [{role, content}, ...]")
        named = replace(self, messages=None).document({**record, self.text: ""}, where, name, category)
        before = ""
        for number, message in enumerate(turns):
            role, content = (self._text(message, key, f"{where}, message {number}") for key in ("role", "content"))
            prompt = f"{before}assistant:"
            if role == "assistant" and content.strip():
                text, group = joined(prompt, content), named.group or named.name
                yield Document(f"{named.name}.{number}", text, named.category, group, len(prompt))
            before += f"{role}: {content}\n"

    def _text(self, record: object, field: str, where: str) -> str:
        if not isinstance(record, Mapping):
            raise DataError(where, f"a {type(record).__name__}", "a record with fields: {...}")
        text = self._field(record, field, where)
        if not isinstance(text, str):
            raise DataError(where, f"the field '{field}' holds a {type(text).__name__}", "text")
        return clean_text(text)

    def _field(self, record: Mapping[Any, Any], field: str, where: str) -> Any:
        if field not in record:
            hint = nearest(field, (str(key) for key in record))
            raise DataError(where, f"no field '{field}'", "the same fields in every record", hint)
        return record[field]


def clean_text(text: str) -> str:
    """The text as UTF-8 can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class TextFiles:
    """A text file, or every file below a folder that fits one of `patterns`, in the order of the path.

    A file is one document, or is cut at newlines (`line`), at blank lines (`paragraph`), or at the first blank line
    after each STRETCH (`stretch`: a book as a few long documents); the pieces, joined, are the file again. The category
    is the first folder below the given one, if any.
    """

    root: Path
    patterns: Sequence[str] = TEXT_PATTERNS
    cut: Cut = "file"
    licence: str = "unknown"

    def documents(self) -> Iterator[Document]:
        for name, file in files_below(self.root, self.patterns):
            text = _read_text(file)
            category = name.split("/")[0] if "/" in name else ""
            if self.cut == "file":
                yield Document(name, text, category)
                continue
            for number, piece in enumerate(_pieces(text, self.cut)):
                yield Document(f"{name}#{number}", piece, category)

    def provenance(self) -> dict[str, Any]:
        return {"source": "text", "of": self.root.name, "document": self.cut, "licence": self.licence}


def _pieces(text: str, cut: Cut) -> list[str]:
    if cut == "line":
        return text.splitlines(keepends=True)
    least, ends = (STRETCH if cut == "stretch" else 1), [0]
    for match in _PARAGRAPH_END.finditer(text):
        if match.end() - ends[-1] >= least:
            ends.append(match.end())
    return [text[a:b] for a, b in pairwise((*ends, len(text))) if b > a]


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            str(file), f"not UTF-8 at byte {error.start}", "text in UTF-8", "convert it with iconv, or leave it out"
        ) from None
    except OSError as error:
        raise DataError(str(file), f"cannot be read ({error.strerror})") from None


@dataclass(frozen=True, slots=True)
class JsonLines:
    """One JSON object a line, in .jsonl or .jsonl.gz files, empty lines skipped. Names are FILE#LINE unless given."""

    root: Path
    fields: Fields = Fields()
    patterns: Sequence[str] = ("*.jsonl", "*.jsonl.gz")
    licence: str = "unknown"
    category_by_file: bool = False
    """The category is the file's name without its endings, not a field."""

    def documents(self) -> Iterator[Document]:
        for name, file in files_below(self.root, self.patterns):
            category = file.name.split(".")[0] if self.category_by_file else ""
            for number, line in self._lines(file):
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{file}:{number}", f"not JSON ({error})", "one JSON object a line") from None
                yield from self.fields.documents(record, f"{file}:{number}", f"{name}#{number}", category)

    @staticmethod
    def _lines(file: Path) -> Iterator[tuple[int, str]]:
        try:
            with (
                gzip.open(file, "rt", encoding="utf-8")
                if file.suffix == ".gz"
                else file.open(encoding="utf-8") as lines
            ):
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield number, line
        except UnicodeDecodeError as error:
            raise DataError(str(file), f"not UTF-8 ({error.reason})", "text in UTF-8") from None
        except (OSError, EOFError) as error:
            raise DataError(str(file), f"cannot be read ({error})") from None

    def provenance(self) -> dict[str, Any]:
        return {"source": "jsonl", "of": self.root.name, "licence": self.licence}


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Rows of .parquet files, a batch at a time. Needs the extra `parquet`. Names are FILE#ROW unless given."""

    root: Path
    fields: Fields = Fields()
    patterns: Sequence[str] = ("*.parquet",)
    licence: str = "unknown"

    def documents(self) -> Iterator[Document]:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise MissingExtra(
                "source: parquet", "pyarrow is not installed", hint="pip install 'bloomery[parquet]'"
            ) from None
        fields = (self.fields.text, self.fields.name, self.fields.category, self.fields.group)
        columns = [field for field in dict.fromkeys(fields) if field]
        for name, file in files_below(self.root, self.patterns):
            try:
                table = parquet.ParquetFile(file)
                known = table.schema_arrow.names
                for column in columns:
                    if column not in known:
                        raise DataError(str(file), f"no column '{column}'", hint=nearest(column, known))
                row = 0
                for batch in table.iter_batches(batch_size=1024, columns=columns):
                    for record in batch.to_pylist():
                        yield self.fields.document(record, f"{file}#{row}", f"{name}#{row}")
                        row += 1
            except (ArrowException, OSError) as error:
                raise DataError(str(file), f"cannot be read ({error})", "a Parquet file") from None

    def provenance(self) -> dict[str, Any]:
        return {"source": "parquet", "of": self.root.name, "licence": self.licence}


@dataclass(frozen=True, slots=True)
class ToCome:
    """Files that need not be there yet: while there are none, no documents."""

    source: TextFiles | JsonLines | ParquetFiles

    @property
    def licence(self) -> str:
        return self.source.licence

    def documents(self) -> Iterator[Document]:
        try:
            files_below(self.source.root, self.source.patterns)
        except NothingThere:
            return
        yield from self.source.documents()

    def provenance(self) -> dict[str, Any]:
        return self.source.provenance()


class NothingThere(DataError):
    """No file, where there may be one later."""


def files_below(root: Path, patterns: Sequence[str]) -> list[tuple[str, Path]]:
    """[(posix name, file)]: the file itself, or all below the folder that fit a pattern, by name.

    Raises NothingThere, and DataError for what is no pattern.
    """
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        raise NothingThere(str(root), "does not exist", "a file or folder with text")
    try:
        found = {file.relative_to(root).as_posix(): file for p in patterns for file in root.rglob(p) if file.is_file()}
    except (NotImplementedError, ValueError) as error:  # an absolute one; `a**`, or nothing at all
        raise DataError(
            " or ".join(patterns), f"no pattern of names below a folder ({error})", "such as `*.py` or `docs/*.md`"
        ) from None
    if not found:
        raise NothingThere(
            str(root), "holds no file that fits", " or ".join(patterns), "name another pattern: `files: '*.py'`"
        )
    return sorted(found.items())
