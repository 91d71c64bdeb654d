"""The attractor variant as a scorer: the words' ladder with everything else mixed in, normalised over the vocabulary.

    p = mixture of the words' back-off recursion and of c_j:  a token ladder's p(w), or p(class) p(w | class)

One probability for targets (`document_logprobs`), all of them for generation (`stream`): the candidates of every rung
get their share and all others what it leaves, so that mass is exact. A history reaches back to a document's
end_of_document. Refuses files that are damaged.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import DataError
from bloomery.evaluate.decoding import read_through
from bloomery.evaluate.ngram_cache import Cached, cached_from
from bloomery.evaluate.ngram_files import read_arrays, write_arrays
from bloomery.measure import Group, Tally
from bloomery.systems.holographic.attractors import Attractors, Frozen, Reals, Step
from bloomery.systems.holographic.columns import narrowed, widened
from bloomery.systems.holographic.ladders import Ladder, contexts
from bloomery.systems.holographic.mixture import BUCKETS, Mixture
from bloomery.systems.holographic.prototypes import emission
from bloomery.systems.holographic.saved import fitting, reading, whole

FILE = "attractors.npz"
Alphabets = Sequence[Int[np.ndarray, " v"] | None]


class AttractorScorer:
    """Frozen tables and weights. The first ladder is the words'."""

    def __init__(
        self,
        vocab: int,
        ladders: Sequence[Ladder],
        stored: Mapping[str, Sequence[Frozen]],
        alphabets: Alphabets,
        times: Int[np.ndarray, " v"],
        mixture: Mixture | None = None,
    ) -> None:
        """alphabets: the class of every token in each clustering, None first. times: how often each token was read."""
        self.vocab, self.ladders, self.times = vocab, tuple(ladders), times
        self.alphabets = tuple(alphabets)
        sizes = [vocab if one is None else int(one.max()) + 1 for one in alphabets]
        self.attractors = [Attractors(one, stored[one.name], sizes[one.target]) for one in ladders]
        self._emission = [
            None if one is None else emission(times, one, size) for one, size in zip(alphabets, sizes, strict=True)
        ]
        self.order = 1 + max(ladder.reach for ladder in ladders)
        rungs, parts = len(ladders[0].rungs), len(ladders) - 1
        self.mixture = mixture or Mixture.alone(rungs, parts)

    def fitted(self, documents: Iterable[Int[np.ndarray, " n"]], *, nested: bool) -> AttractorScorer:
        """With weights found on documents [n + 1], end_of_document first, that the tables have not read."""
        held_out = [document for document in documents if len(document) > 1]
        if not held_out:
            raise DataError("tune", "no tokens to find weights on", "at least one document")
        found = [self._parts(document) for document in held_out]
        steps = [
            Step(*(np.concatenate(column) for column in zip(*(one[0][rung] for one in found), strict=True)))
            for rung in range(len(self.ladders[0].rungs))
        ]
        parts = np.asfortranarray(np.concatenate([one[1] for one in found]))
        made = copy.copy(self)  # tables and their indices are shared
        made.mixture = Mixture.fit(steps, parts, self.vocab, nested=nested)
        return made

    def _parts(self, tokens: Int[np.ndarray, " n"]) -> tuple[list[Step], Float[np.ndarray, "n j"]]:
        tokens = np.asarray(tokens, dtype=np.int64)
        own = np.arange(1, len(tokens))
        steps: list[Step] = []
        parts = np.empty((len(tokens) - 1, len(self.ladders) - 1), order="F")
        for number, one in enumerate(self.attractors):
            hashes = [each[1:] for each in contexts(one.ladder, tokens, self.alphabets)]
            table, spread = self.alphabets[one.ladder.target], self._emission[one.ladder.target]
            targets = tokens[1:] if table is None else table[tokens[1:]]
            if number == 0:
                steps = list(one.steps(hashes, targets, own))
                continue
            p = one.probabilities(hashes, targets, own)
            parts[:, number - 1] = p if spread is None else p * spread[tokens[1:]]
        return steps, parts

    def document_probabilities(self, tokens: Int[np.ndarray, " n"]) -> Reals:
        """Probability [n] of each token after the first of tokens [n + 1], given those before it."""
        return self.mixture.probabilities(*self._parts(tokens), self.vocab)

    def document_logprobs(self, tokens: Int[np.ndarray, " n"]) -> Reals:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        return np.log(self.document_probabilities(tokens))

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        return read_through(self, tokens)

    def stream(self) -> Stream:
        """A reader for one token after another."""
        return Stream(self)

    def after(self, history: Sequence[int]) -> Reals:
        """[v]: of every token after the last `order - 1` of a text, or all of it where it is shorter."""
        tokens = np.array((*history, 0), dtype=np.int64)
        parts = np.empty((len(self.ladders) - 1, self.vocab))
        for number, one in enumerate(self.attractors[1:]):
            p = one.after(self._places(one, tokens))
            table, spread = self.alphabets[one.ladder.target], self._emission[one.ladder.target]
            parts[number] = p if table is None or spread is None else p[table] * spread
        first = self.attractors[0]
        out = np.full(self.vocab, 1 / self.vocab)
        for number, at in enumerate(self._places(first, tokens)):
            rung = first.rungs[number]
            if at >= 0:
                rung.onto(out, at)
            total = np.array([rung.totals[at] if at >= 0 else 0])
            row = int(self.mixture.row(number, total)[0])
            if row >= 0:
                weights = self.mixture.weights[number][row]
                out *= weights[0]
                out += weights[1:] @ parts
        return out

    def _places(self, one: Attractors, tokens: Int[np.ndarray, " n"]) -> list[int]:
        hashes = contexts(one.ladder, tokens, self.alphabets)
        return [
            rung.place(context[-1]) if len(tokens) - 1 >= max((lag for lag, _ in features), default=0) else -1
            for rung, features, context in zip(one.rungs, one.ladder.rungs, hashes, strict=True)
        ]

    def features(self, tokens: Int[np.ndarray, " n"]) -> Reals:
        """How many of tokens [n] each prototype stands for, one clustering after the other; those of none, first."""
        known = [one for one in self.alphabets if one is not None]
        counts = [np.bincount(one[tokens], minlength=int(one.max()) + 1) for one in known]
        return np.concatenate(counts or [np.array([len(tokens)])]).astype(np.float64)

    @property
    def entries(self) -> int:
        return sum(len(rung.stored.keys) for one in self.attractors for rung in one.rungs)

    def tally(self) -> Tally:
        """As stored: 64-bit keys, counts of one byte (with place and value apart for what is 255 and more), a class of
        two bytes for each token and clustering, times read, weights."""
        entries = self.entries
        large = sum(int((rung.stored.counts >= 255).sum()) for one in self.attractors for rung in one.rungs)
        clusterings = sum(one is not None for one in self.alphabets)
        table = Group(entries, entries, bits=8 * (9 * entries + 12 * large) / max(1, entries))
        tokens = self.vocab * (1 + clusterings)
        words = Group(tokens, tokens, bits=8 * (4 + 2 * clusterings) / (1 + clusterings))
        weights = Group(self.mixture.weights.size, self.mixture.weights.size, bits=64)
        return Tally({"table": table, "tokens": words, "weights": weights})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is stored."""
        about = {
            "vocab": self.vocab,
            "nested": self.mixture.nested,
            "ladders": [[one.name, one.rungs, one.target] for one in self.ladders],
        }
        arrays: dict[str, NDArray[Any]] = {
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            "times": self.times.astype(np.uint32),
            "weights": self.mixture.weights,
        }
        for number, table in enumerate(self.alphabets[1:], start=1):
            assert table is not None
            arrays[f"classes_{number}"] = table.astype(np.uint16)
        for one in self.attractors:
            for number, rung in enumerate(one.rungs):
                name = f"{one.ladder.name}_{number}"
                arrays[f"{name}_keys"] = rung.stored.keys
                arrays[f"{name}_discounts"] = np.array(rung.stored.discounts)
                arrays |= narrowed(f"{name}_counts", rung.stored.counts)
        return arrays

    def save(self, folder: Path) -> None:
        """Write `attractors.npz` into the folder; whole or not at all."""
        write_arrays(folder, self.arrays(), FILE)

    @staticmethod
    def load(folder: Path) -> AttractorScorer:
        """Raises ArtifactError where the file is missing or damaged."""
        with reading(folder / FILE, "calibrate it again") as (arrays, about):
            ladders, clusterings = _ladders(about), sum(name.startswith("classes_") for name in arrays)
            _check(arrays, about, ladders, clusterings)
            stored = {
                one.name: [
                    Frozen(
                        arrays[f"{one.name}_{number}_keys"],
                        widened(f"{one.name}_{number}_counts", arrays),
                        tuple(map(float, arrays[f"{one.name}_{number}_discounts"])),  # pyright: ignore[reportArgumentType]
                    )
                    for number in range(len(one.rungs))
                ]
                for one in ladders
            }
            alphabets = [None, *(arrays[f"classes_{n}"].astype(np.int64) for n in range(1, clusterings + 1))]
            mixture = Mixture(arrays["weights"], bool(about["nested"]))
            return AttractorScorer(
                about["vocab"], ladders, stored, alphabets, arrays["times"].astype(np.int64), mixture
            )


def _ladders(about: Mapping[str, Any]) -> list[Ladder]:
    """Raises ValueError where rungs do not rest on one another."""
    found: list[Ladder] = []
    for name, rungs, target in about["ladders"]:
        features = tuple(tuple((int(lag), int(which)) for lag, which in rung) for rung in rungs)
        if not features or not all(set(low) < set(high) for low, high in pairwise(features)):
            raise ValueError(f"the rungs of '{name}' do not rest on one another")
        found.append(Ladder(str(name), features, int(target)))
    if not found:
        raise ValueError("no ladders")
    return found


def _check(
    arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], ladders: Sequence[Ladder], clusterings: int
) -> None:
    """Raises KeyError or ValueError where an array is not one of these ladders'."""
    (vocab,) = whole(about, "vocab")
    wanted: dict[str, Any] = {
        "times": (np.uint32, (vocab,)),
        "weights": (np.float64, (len(ladders[0].rungs), BUCKETS, len(ladders))),
        **{f"classes_{number}": (np.uint16, (vocab,)) for number in range(1, clusterings + 1)},
    }
    for one in ladders:
        if not one.alphabets <= set(range(clusterings + 1)):
            raise ValueError(f"'{one.name}' looks at more than {clusterings} clusterings")
        for key in (f"{one.name}_{number}" for number in range(len(one.rungs))):
            wanted |= {
                f"{key}_keys": (np.uint64, (key,)), f"{key}_discounts": (np.float64, (3,)),
                f"{key}_counts": (np.uint8, (key,)), f"{key}_counts_at": (np.int64, (f"{key} large",)),
                f"{key}_counts_large": (np.uint32, (f"{key} large",)),
            }  # fmt: skip
    fitting(arrays, wanted)
    for name in (name for name in wanted if name.endswith("_keys")):
        if (arrays[name][1:] <= arrays[name][:-1]).any():
            raise ValueError(f"'{name}' do not rise")


def open_scorer(folder: Path) -> AttractorScorer | Cached:
    """What `AttractorScorer.save(folder)` or `Cached.save(folder, FILE)` wrote. Raises ArtifactError where it is
    missing or damaged."""
    scorer = AttractorScorer.load(folder)
    return cached_from(scorer, read_arrays(folder / FILE), folder / FILE) or scorer


class Stream:
    """Reads a text token by token, with the numbers of `AttractorScorer.document_logprobs` up to rounding."""

    def __init__(self, scorer: AttractorScorer) -> None:
        self._scorer = scorer
        self._history: list[int] = []

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._history = [*self._history, int(token)][-(self._scorer.order - 1) :]

    def probabilities(self) -> Reals:
        """[v]: of every token that may come next."""
        return self._scorer.after(self._history)
