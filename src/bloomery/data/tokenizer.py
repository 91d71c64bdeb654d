"""Text to token ids and back. Every tokenizer here but a foreign `file` is lossless: decode(encode(text)) == text.

`bytes`: UTF-8 bytes, 256 of them. `bpe`: byte-level byte-pair encoding through `tokenizers` (Sennrich 2016; GPT-2's
byte alphabet), without normalisation. `words`: the most frequent words, spaces attached, all else as bytes. `file`: a
Hugging Face tokenizer.json. Each has one further id, `end_of_document`, which no text can produce; it stands after
every document, and so also before the next one.

The digest is the sha256 of the canonical content. Stored as JSON; a damaged or foreign file is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bloomery.errors import DataError, nearest

Ids = NDArray[np.unsignedinteger[Any]]
T = TypeVar("T")

END_OF_DOCUMENT = "<|end_of_document|>"
KNOWN_ENDS = (END_OF_DOCUMENT, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "[SEP]")
PROTECTIONS = {"digits": r"\d", "json_punctuation": r'[{}\[\]:,"]'}
"""What `protect` can name: these characters never merge with others into one token."""

_CARD = "bloomery_tokenizer.json"
_MODEL = "tokenizer.json"
_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+")


class Tokenizer(Protocol):
    kind: str
    vocab: int
    """Size of the table that a model needs: ids run from 0 to vocab - 1. Some may be unused."""
    digest: str
    end_of_document: int

    def encode(self, text: str) -> Ids: ...
    def encode_many(self, texts: Sequence[str]) -> list[Ids]: ...
    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; end_of_document and unused ids give nothing, broken UTF-8 gives U+FFFD."""
        ...

    def save(self, folder: Path) -> None: ...


def id_type(vocab: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest type that holds every id."""
    return np.uint16 if vocab <= 2**16 else np.uint32


class BytesTokenizer:
    """One id per UTF-8 byte; 256 is end_of_document."""

    kind = "bytes"
    vocab = 257
    end_of_document = 256
    digest = hashlib.sha256(b"bytes 257").hexdigest()

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(i for i in map(int, ids) if i < 256).decode(errors="replace")

    def save(self, folder: Path) -> None:
        _save_card(folder, self)


class WordsTokenizer:
    """Ids 0 to 255 are bytes, 256 is end_of_document, then the words by falling frequency."""

    kind = "words"
    end_of_document = 256

    def __init__(self, words: Sequence[str], vocab: int) -> None:
        self.words = tuple(words)
        self.vocab = vocab
        self.digest = _digest({"kind": "words", "vocab": vocab, "words": self.words})
        self._ids = {word: 257 + rank for rank, word in enumerate(self.words)}
        assert len(self._ids) == len(self.words) <= vocab - 257

    def encode(self, text: str) -> Ids:
        ids: list[int] = []
        for piece in _WORD.findall(text):
            known = self._ids.get(piece)
            if known is None:
                ids.extend(piece.encode())
            else:
                ids.append(known)
        return np.array(ids, dtype=id_type(self.vocab))

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        out = bytearray()
        for i in map(int, ids):
            if i < 256:
                out.append(i)
            elif 257 <= i < 257 + len(self.words):
                out.extend(self.words[i - 257].encode())
        return out.decode(errors="replace")

    def save(self, folder: Path) -> None:
        _save_card(folder, self, words=self.words)


class FastTokenizer:
    """A `tokenizers` model: our own byte-level BPE (kind `bpe`), or anybody's tokenizer.json (kind `file`)."""

    def __init__(self, content: str, *, kind: str, vocab: int | None = None, end: str | int | None = None) -> None:
        """content: tokenizer.json as text. vocab: at least its table. end: the token (or id) that ends documents.

        Raises DataError where the content is no tokenizer, or has no token that ends a document.
        """
        from tokenizers import Tokenizer as Fast

        try:
            self._fast = Fast.from_str(content)
            self.digest = _digest({"kind": kind, "vocab": vocab, "end": end, "content": json.loads(content)})
        except Exception as error:  # the library raises bare Exception
            raise DataError(_MODEL, f"not a tokenizer ({error})", "a Hugging Face tokenizer.json") from None
        self._fast.encode_special_tokens = True  # text that spells a special token stays text
        self._fast.no_padding()
        self._fast.no_truncation()
        self._content = content
        self._least_vocab = vocab
        self.kind = kind
        self._end = end
        table = self._fast.get_vocab(with_added_tokens=True)
        self.vocab = max(vocab or 0, 1 + max(table.values()))
        self.end_of_document = _end_of_document(table, end)

    def encode(self, text: str) -> Ids:
        return np.array(self._fast.encode(text, add_special_tokens=False).ids, dtype=id_type(self.vocab))

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        encodings = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=id_type(self.vocab)) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._fast.decode([int(i) for i in ids], skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MODEL).write_text(self._content, encoding="utf-8")
        _save_card(folder, self, end=self._end, least_vocab=self._least_vocab)


def _end_of_document(table: dict[str, int], end: str | int | None) -> int:
    if isinstance(end, int) and end in table.values():
        return end
    for name in KNOWN_ENDS if end is None else (str(end),):
        if name in table:
            return table[name]
    found = "no token that ends a document" if end is None else f"no token {end!r}"
    hint = nearest(str(end), table) if end else "name it: {kind: file, path: ..., end_of_document: '</s>'}"
    raise DataError(_MODEL, found, "one of " + " ".join(KNOWN_ENDS), hint)


def train_bpe(texts: Iterable[str], vocab: int, *, protect: Sequence[str] = ()) -> FastTokenizer:
    """A byte-level BPE with `vocab` ids: end_of_document, the 256 bytes, then merges. Deterministic.

    A corpus too small for so many merges leaves ids unused. Raises DataError for a vocab below 257 or an unknown
    protection.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Fast

    _check_vocab(vocab, 257)
    steps: list[Any] = []
    for name in protect:
        if name not in PROTECTIONS:
            raise DataError("tokenizer.protect", f"unknown protection '{name}'", hint=nearest(name, PROTECTIONS))
        steps.append(pre_tokenizers.Split(Regex(PROTECTIONS[name]), behavior="isolated"))
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(texts, trainer)
    return FastTokenizer(fast.to_str(), kind="bpe", vocab=vocab, end=END_OF_DOCUMENT)


def train_words(texts: Iterable[str], vocab: int, *, min_count: int = 1) -> WordsTokenizer:
    """The vocab - 257 most frequent words that the texts hold min_count times, ties in alphabetical order; all others
    are spelled. A model of texts in which no word is spelled does not learn to spell. Raises DataError for a vocab
    below 258."""
    _check_vocab(vocab, 258)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text))
    kept = [word for word, count in counts.items() if count >= min_count]
    ranked = sorted(kept, key=lambda word: (-counts[word], word))
    return WordsTokenizer(ranked[: vocab - 257], vocab)


def _check_vocab(vocab: int, least: int) -> None:
    if vocab < least:
        raise DataError(
            "tokenizer.vocab", f"{vocab} ids", f"at least {least}: the 256 bytes, end of document, and more"
        )


def load_tokenizer(path: Path, *, end: str | None = None) -> Tokenizer:
    """A folder written by `save`, or any Hugging Face tokenizer.json (or a folder that holds one).

    Raises DataError where it is missing, damaged, or not what its digest says.
    """
    card_file = path / _CARD
    if not card_file.is_file():
        model = path / _MODEL if path.is_dir() else path
        return FastTokenizer(_read(model), kind="file", end=end)
    try:
        card = json.loads(_read(card_file))
        tokenizer = _from_card(card, path)
        found, expected = tokenizer.digest, card["digest"]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DataError(str(card_file), f"damaged ({error!r})", hint="delete the prepared data and run again") from None
    if found != expected:
        raise DataError(str(path), f"digest {found[:12]}", f"{expected[:12]}, as saved", "the tokenizer was changed")
    return tokenizer


def _from_card(card: dict[str, Any], folder: Path) -> Tokenizer:
    if card["kind"] == "bytes":
        return BytesTokenizer()
    if card["kind"] == "words":
        return WordsTokenizer(card["words"], card["vocab"])
    return FastTokenizer(_read(folder / _MODEL), kind=card["kind"], vocab=card["least_vocab"], end=card["end"])


def _save_card(folder: Path, tokenizer: Tokenizer, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    card = {"kind": tokenizer.kind, "vocab": tokenizer.vocab, "end_of_document": tokenizer.end_of_document}
    content = json.dumps({**card, "digest": tokenizer.digest, **more}, ensure_ascii=False, indent=1)
    (folder / _CARD).write_text(content, encoding="utf-8")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(str(file), "does not exist", "a tokenizer.json, or a folder that holds one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(file), f"cannot be read ({error})") from None


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def batches_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, for `encode_many`."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
