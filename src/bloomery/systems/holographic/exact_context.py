"""The control of everything that a theory's memory retrieves: an exact look-up of contexts, with back-off.

    p_n(w | h) = (c(h w) + T(h) p_(n-1)(w | shorter h)) / (c(h) + T(h))          (Witten and Bell 1991)

over the histories of `timescales`, the shortest first, ending in a unigram with one observation of each token made up;
c(h) counts what followed h, T(h) how many different tokens did. No weight is fitted, and each row sums to one. It is
given the samples that v4 stores: every `keep_every`-th token, histories within documents. When the byte budget is met
the rarest entries are forgotten. It has nothing to sleep on. Refuses token ids beyond the vocabulary, damaged files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.ngram_files import read_arrays, write_arrays
from bloomery.measure import Group, Tally
from bloomery.systems.holographic.config import Theory, refuse_too_little
from bloomery.systems.holographic.recall import Counted, window_keys

FILE = "exact_context.npz"
RECENT = 1024
FIELDS = ("keys", "tokens", "counts")


class ExactContext:
    """A Memory, and its own scorer."""

    def __init__(self, settings: Theory, vocab: int, end_of_document: int, seed: int) -> None:
        refuse_too_little(settings.variant, settings.store.bytes, vocab, settings.buffer)
        self.settings, self.vocab, self.end, self.seed = settings, vocab, end_of_document, seed
        self.lengths = tuple(sorted(settings.timescales))
        self.tables = [Counted() for _ in self.lengths]
        self.unigrams = np.zeros(vocab, dtype=np.int64)
        self.position = self.dropped = self.stored = 0
        self.tail = np.zeros(0, dtype=np.int64)
        self.recent_keys = np.zeros((0, len(self.lengths)), dtype=np.uint64)
        self.recent_targets = np.zeros(0, dtype=np.int64)

    def read(self, tokens: NDArray[np.integer[Any]], boundaries: NDArray[np.integer[Any]]) -> None:
        """Wake: stream tokens [n]; boundaries: where documents begin."""
        tokens = np.asarray(tokens, dtype=np.int64)
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= self.vocab):
            raise DataError("wake", f"token ids from {tokens.min()} to {tokens.max()}", f"0 to {self.vocab - 1}")
        begins = {int(one) for one in boundaries}
        edges = sorted({0, len(tokens), *begins})
        keys: list[NDArray[np.uint64]] = []
        for start, stop in pairwise(edges):
            if start in begins or not len(self.tail):
                self.tail = np.array([self.end])
            history = np.concatenate((self.tail, tokens[start:stop]))
            keys.append(self._keys(history[:-1])[len(self.tail) - 1 :])
            self.tail = history[-max(self.lengths) :]
        if not keys:
            return
        kept = np.arange(self.position, self.position + len(tokens)) % self.settings.keep_every == 0
        mine, targets = np.concatenate(keys)[kept], tokens[kept]
        for table, column in zip(self.tables, mine.T, strict=True):
            table.add(column, targets)
        self.unigrams += np.bincount(tokens, minlength=self.vocab)
        self.position += len(tokens)
        self.recent_keys = np.concatenate((self.recent_keys, mine))[-RECENT:]
        self.recent_targets = np.concatenate((self.recent_targets, targets))[-RECENT:]
        self._forget()

    def _keys(self, history: Int[np.ndarray, " t"]) -> NDArray[np.uint64]:
        return np.column_stack([window_keys(history, length) for length in self.lengths])

    def _forget(self) -> None:
        for table in reversed(self.tables):
            over = self.bytes - self.settings.store.bytes
            if over > 0:
                self.dropped += table.forget(max(0, len(table.keys) - -(-over // table.width)))

    @property
    def bytes(self) -> int:
        return 4 * self.vocab + sum(table.width * len(table.keys) for table in self.tables)

    def sleep(self, phases: Sequence[str], random: np.random.Generator) -> Mapping[str, float]:
        return {}

    # What it predicts

    def scorer(self) -> ExactContext:
        return self

    def fitted(self, documents: Sequence[NDArray[np.int64]], *, nested: bool) -> ExactContext:
        """Itself: it has no weights."""
        return self

    def document_logprobs(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        tokens = np.asarray(tokens, dtype=np.int64)
        keys, targets = self._keys(tokens[:-1]), tokens[1:]
        found = (self.unigrams[targets] + 1) / (self.unigrams.sum() + self.vocab)
        for table, column in zip(self.tables, keys.T, strict=True):
            own, times, kinds = table.of(column, targets)
            found = np.where(times > 0, (own + kinds * found) / np.maximum(times + kinds, 1), found)
        return np.log(found)

    def _after(self, keys: NDArray[np.uint64]) -> Float[np.ndarray, " v"]:
        found = (self.unigrams + 1) / (self.unigrams.sum() + self.vocab)
        for table, key in zip(self.tables, keys, strict=True):
            start, stop = np.searchsorted(table.keys, key, "left"), np.searchsorted(table.keys, key, "right")
            if stop > start:
                times, kinds = int(table.counts[start:stop].sum()), int(stop - start)
                found *= kinds / (times + kinds)
                found[table.tokens[start:stop]] += table.counts[start:stop] / (times + kinds)
        return found

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        rows = [[self._after(keys) for keys in self._keys(np.asarray(row))] for row in tokens.tolist()]
        return torch.from_numpy(np.log(np.array(rows))).to(tokens.device)

    def stream(self) -> ExactStream:
        return ExactStream(self)

    # What is told and kept

    def measures(self) -> Mapping[str, float]:
        entries = sum(len(table.keys) for table in self.tables)
        found = {
            "memory/store_bytes": float(self.bytes),
            "memory/entries": float(entries),
            "memory/forgotten_share": self.dropped / max(1, entries + self.dropped),
        }
        if len(self.recent_targets):
            said = np.full(len(self.recent_targets), -1)
            for table, column in zip(self.tables, self.recent_keys.T, strict=True):
                best = table.votes(column).best(len(said))
                said = np.where(best >= 0, best, said)
            found["memory/retrieval_seen"] = float((said == self.recent_targets).mean())
        return found

    def tally(self) -> Tally:
        entries = sum(len(table.keys) for table in self.tables)
        return Tally({"table": Group(self.vocab + 4 * entries, self.vocab + 4 * entries, bits=32)})

    def save(self, folder: Path) -> None:
        """Write `exact_context.npz` into the folder; the same bytes for the same history."""
        about = {
            "settings": self.settings.model_dump(mode="json"), "vocab": self.vocab, "end": self.end, "seed": self.seed,
            "position": self.position, "dropped": self.dropped,
        }  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            "unigrams": self.unigrams, "tail": self.tail,
            "recent_keys": self.recent_keys, "recent_targets": self.recent_targets,
        }  # fmt: skip
        for number, table in enumerate(self.tables):
            arrays |= {f"{field}_{number}": getattr(table, field) for field in FIELDS}
        write_arrays(folder, arrays, FILE)


class ExactStream:
    def __init__(self, memory: ExactContext) -> None:
        self._memory, self._tokens = memory, list[int]()

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._tokens.append(token)
        del self._tokens[: -max(self._memory.lengths)]

    def probabilities(self) -> NDArray[np.float64]:
        """[v]: of every token that may come next."""
        return self._memory._after(self._memory._keys(np.array(self._tokens))[-1])


def open(folder: Path) -> ExactContext:
    """What was saved in the folder. Raises ArtifactError where it is missing or damaged."""
    arrays = read_arrays(folder / FILE)
    try:
        about = json.loads(arrays["about"].tobytes())
        settings = Theory.model_validate(about["settings"])
        memory = ExactContext(settings, int(about["vocab"]), int(about["end"]), int(about["seed"]))
        memory.position, memory.dropped = int(about["position"]), int(about["dropped"])
        memory.unigrams, memory.tail = arrays["unigrams"], arrays["tail"]
        memory.recent_keys, memory.recent_targets = arrays["recent_keys"], arrays["recent_targets"]
        for number, table in enumerate(memory.tables):
            for field in FIELDS:
                setattr(table, field, arrays[f"{field}_{number}"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder / FILE), f"damaged ({error!r})", hint="wake it again") from None
    return memory
