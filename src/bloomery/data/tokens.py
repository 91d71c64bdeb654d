"""The token file: one split's tokens, memory-mapped, with a JSON sidecar that names its documents.

Binary, little-endian: a 64-byte header (magic, version, bytes per token, vocab, end_of_document, number of tokens,
number of documents), then the tokens (uint16, uint32 above 65,536 ids), padded to 8 bytes, then `starts` (documents
+ 1) and `byte_counts` (documents) as int64. Every document is followed by end_of_document. The digest is the sha256 of
all that and of names, categories and prompts.

A document may open with a prompt (Document.prompt): `prompts` counts its tokens, which are read and neither learned
from nor judged; its `byte_counts` are those of the rest. Where the prompt's last token and the first of the rest are
one in the text as a whole, that token counts as the rest. Only a file that has prompts names them in its sidecar.

`open` always compares magic, header and size, so that a file cut short is refused before anything is read; `verify`
recomputes the digest. Written beside and renamed, the sidecar last: a token file is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import Ids, Tokenizer, batches_of, id_type
from bloomery.errors import DataError

_MAGIC = b"BLOOMTOK"
_VERSION = 1
_HEADER = struct.Struct("<8sIIIIqq24x")  # 64 bytes
_DOCUMENTS_AT_ONCE = 256
_DAMAGED = "delete the prepared data and run again: it is made anew from the corpus"


@dataclass(frozen=True, slots=True, eq=False)
class TokenFile:
    """A corpus part as tokens. Document i is tokens[starts[i] : starts[i + 1]], its end_of_document included."""

    path: Path
    tokens: NDArray[Any]
    starts: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    """UTF-8 bytes of each document's text after its prompt: what bits per byte are divided by."""
    names: tuple[str, ...]
    categories: tuple[str, ...]
    vocab: int
    end_of_document: int
    tokenizer_digest: str
    digest: str
    prompts: NDArray[np.int64]
    """Tokens of each document's prompt."""

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def documents(self) -> int:
        return len(self.names)

    def document(self, index: int) -> NDArray[Any]:
        """The tokens of a document, its end_of_document last."""
        return self.tokens[self.starts[index] : self.starts[index + 1]]

    def learned(self) -> NDArray[np.bool_] | None:
        """Which tokens stand outside prompts; None where there are no prompts, and all do."""
        if not self.prompts.any():
            return None
        place = np.arange(len(self)) - np.repeat(self.starts[:-1], np.diff(self.starts))
        return place >= np.repeat(self.prompts, np.diff(self.starts))

    @staticmethod
    def open(path: Path) -> TokenFile:
        """Map the file; raises DataError where it is missing, cut short, or does not fit its sidecar."""
        card = _read_card(path)
        try:
            size = path.stat().st_size
            with path.open("rb") as stream:
                header = stream.read(_HEADER.size)
        except FileNotFoundError:
            raise DataError(str(path), "does not exist", "a token file beside its sidecar", _DAMAGED) from None
        except OSError as error:
            raise DataError(str(path), f"cannot be read ({error.strerror})") from None
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise DataError(str(path), "no token file: its first bytes are wrong", hint=_DAMAGED)
        _, version, width, vocab, end, n_tokens, n_documents = _HEADER.unpack(header)
        if version != _VERSION:
            raise DataError(str(path), f"format {version}", f"format {_VERSION}", _DAMAGED)
        starts_at = _starts_at(n_tokens, width)
        expected = starts_at + 8 * (2 * n_documents + 1)
        if size != expected or n_tokens < 0 or n_documents < 0:
            raise DataError(str(path), f"{size} bytes", f"{expected} bytes, by its header", f"cut short; {_DAMAGED}")
        try:
            names, categories = tuple(card["names"]), tuple(card["categories"])
            tokenizer_digest, digest = str(card["tokenizer"]), str(card["digest"])
            prompts = np.array(card.get("prompts", [0] * n_documents), dtype=np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(str(_card_of(path)), f"damaged ({error!r})", hint=_DAMAGED) from None
        if not len(names) == len(categories) == len(prompts) == n_documents:
            raise DataError(
                str(_card_of(path)), f"{len(names)} names", f"{n_documents}, as in the token file", _DAMAGED
            )
        tokens: NDArray[Any] = _map(path, f"<u{width}", _HEADER.size, n_tokens)
        numbers = np.array(_map(path, "<i8", starts_at, 2 * n_documents + 1), dtype=np.int64)
        starts, byte_counts = numbers[: n_documents + 1], numbers[n_documents + 1 :]
        if starts[0] != 0 or starts[-1] != n_tokens or (np.diff(starts) < 1).any():
            raise DataError(str(path), "its document bounds are not in order", hint=_DAMAGED)
        if (prompts < 0).any() or (prompts >= np.diff(starts)).any():
            raise DataError(str(_card_of(path)), "a prompt as long as its document", hint=_DAMAGED)
        return TokenFile(
            path, tokens, starts, byte_counts, names, categories, vocab, end, tokenizer_digest, digest, prompts
        )

    def verify(self) -> None:
        """Recompute the digest; raises DataError where the content is not what was written."""
        hasher = hashlib.sha256()
        with self.path.open("rb") as stream:
            header = stream.read(_HEADER.size)
            while chunk := stream.read(1 << 20):
                hasher.update(chunk)
        if _finish(hasher, header, self.names, self.categories, self.prompts.tolist()) != self.digest:
            raise DataError(str(self.path), "content differs from its digest", self.digest[:12], _DAMAGED)


def _map(path: Path, dtype: str, offset: int, count: int) -> NDArray[Any]:
    if count == 0:
        return np.zeros(0, dtype=dtype)  # an empty range cannot be mapped
    # a plain view: slicing the memmap class itself costs ten times as much
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,)).view(np.ndarray)


def _starts_at(n_tokens: int, width: int) -> int:
    return (_HEADER.size + n_tokens * width + 7) // 8 * 8


def _card_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_card(path: Path) -> dict[str, Any]:
    file = _card_of(path)
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(str(file), "does not exist", "the sidecar of a token file", _DAMAGED) from None
    except (OSError, ValueError) as error:
        raise DataError(str(file), f"damaged ({error})", hint=_DAMAGED) from None
    if not isinstance(card, dict):
        raise DataError(str(file), "damaged (no mapping)", hint=_DAMAGED)
    return card


def _finish(hasher: Any, header: bytes, names: Iterable[str], categories: Iterable[str], prompts: Sequence[int]) -> str:
    hasher.update(header)
    named = [list(names), list(categories)]
    hasher.update(json.dumps([*named, list(prompts)] if any(prompts) else named).encode())
    return str(hasher.hexdigest())


def write_token_file(path: Path, documents: Iterable[Document], tokenizer: Tokenizer) -> TokenFile:
    """Encode the documents in order and write them atomically; returns the opened file.

    OSError (a full disk) passes through, with nothing left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w+b") as stream:
            card = _write(stream, documents, tokenizer)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        with temporary.open("w", encoding="utf-8") as text:
            json.dump(card, text, ensure_ascii=True)
            text.flush()
            os.fsync(text.fileno())
        os.replace(temporary, _card_of(path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return TokenFile.open(path)


def _write(stream: BinaryIO, documents: Iterable[Document], tokenizer: Tokenizer) -> dict[str, Any]:
    dtype = np.dtype(id_type(tokenizer.vocab)).newbyteorder("<")
    end = np.array([tokenizer.end_of_document], dtype=dtype).tobytes()
    starts, byte_counts = array("q", [0]), array("q")
    prompts: list[int] = []
    names: list[str] = []
    categories: list[str] = []
    hasher = hashlib.sha256()

    def put(content: bytes) -> None:
        stream.write(content)
        hasher.update(content)

    stream.write(bytes(_HEADER.size))
    for batch in batches_of(documents, _DOCUMENTS_AT_ONCE):
        for document, ids in zip(batch, tokenizer.encode_many([each.text for each in batch]), strict=True):
            put(ids.astype(dtype, copy=False).tobytes())
            put(end)
            starts.append(starts[-1] + len(ids) + 1)
            byte_counts.append(len(document.text[document.prompt :].encode()))
            prompts.append(_prompt_tokens(document, ids, tokenizer))
            names.append(document.name)
            categories.append(document.category)
    n_tokens = starts[-1]
    put(bytes(_starts_at(n_tokens, dtype.itemsize) - _HEADER.size - n_tokens * dtype.itemsize))
    put(np.array(starts, dtype="<i8").tobytes())
    put(np.array(byte_counts, dtype="<i8").tobytes())
    header = _HEADER.pack(
        _MAGIC, _VERSION, dtype.itemsize, tokenizer.vocab, tokenizer.end_of_document, n_tokens, len(names)
    )
    stream.seek(0)
    stream.write(header)
    return {
        "digest": _finish(hasher, header, names, categories, prompts),
        "tokenizer": tokenizer.digest,
        "tokens": n_tokens,
        "documents": len(names),
        "bytes": sum(byte_counts),
        "names": names,
        "categories": categories,
        **({"prompts": prompts} if any(prompts) else {}),
    }


def _prompt_tokens(document: Document, ids: Ids, tokenizer: Tokenizer) -> int:
    """How many of its tokens the prompt alone begins with too."""
    if not document.prompt:
        return 0
    alone = tokenizer.encode(document.text[: document.prompt])[: len(ids)]
    differs = np.flatnonzero(alone != ids[: len(alone)])
    return int(differs[0]) if len(differs) else len(alone)


def tokens_of(name: str, documents: Iterable[Document], tokenizer: Tokenizer) -> TokenFile:
    """A token file that lies in memory alone: examples that a stage was handed or makes for itself."""
    several = list(documents)
    ids = tokenizer.encode_many([each.text for each in several])
    prompts = [_prompt_tokens(each, found, tokenizer) for each, found in zip(several, ids, strict=True)]
    dtype = id_type(tokenizer.vocab)
    end = np.array([tokenizer.end_of_document], dtype=dtype)
    tokens = np.concatenate([part for each in ids for part in (each.astype(dtype), end)] or [end[:0]])
    names, categories = tuple(each.name for each in several), tuple(each.category for each in several)
    return TokenFile(
        Path(name),
        tokens,
        np.cumsum([0, *(len(each) + 1 for each in ids)], dtype=np.int64),
        np.array([len(each.text[each.prompt :].encode()) for each in several], dtype=np.int64),
        names,
        categories,
        tokenizer.vocab,
        tokenizer.end_of_document,
        tokenizer.digest,
        _finish(hashlib.sha256(tokens.tobytes()), name.encode(), names, categories, prompts),
        np.array(prompts, dtype=np.int64),
    )


def selected(file: TokenFile, indices: Sequence[int]) -> TokenFile:
    """These documents of a file, in this order and as often as named, in memory."""
    lengths = [len(file.document(index)) for index in indices]
    tokens = [file.document(index) for index in indices]
    digest = hashlib.sha256(f"{file.digest} {list(indices)}".encode()).hexdigest()
    return replace(
        file,
        tokens=np.concatenate([*tokens, file.tokens[:0]]),
        starts=np.cumsum([0, *lengths], dtype=np.int64),
        byte_counts=file.byte_counts[list(indices)],
        names=tuple(file.names[index] for index in indices),
        categories=tuple(file.categories[index] for index in indices),
        digest=digest,
        prompts=file.prompts[list(indices)],
    )


def together(first: TokenFile, *others: TokenFile) -> TokenFile:
    """The documents of several files as one, in memory, under the first one's name."""
    files = (first, *others)
    assert len({file.tokenizer_digest for file in files}) == 1
    bounds = np.cumsum([0, *(len(file) for file in files)])
    return replace(
        first,
        tokens=np.concatenate([file.tokens for file in files]),
        starts=np.concatenate([[0], *(file.starts[1:] + at for file, at in zip(files, bounds[:-1], strict=True))]),
        byte_counts=np.concatenate([file.byte_counts for file in files]),
        names=tuple(name for file in files for name in file.names),
        categories=tuple(category for file in files for category in file.categories),
        digest=hashlib.sha256(" ".join(file.digest for file in files).encode()).hexdigest(),
        prompts=np.concatenate([file.prompts for file in files]),
    )
