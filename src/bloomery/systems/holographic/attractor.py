"""The attractor variant: a memory that counts while awake and makes prototypes of what it counted while asleep.

Awake it counts the words' and the skip ladders, at once. It keeps the day, what it has read since it last slept.
Asleep, `non_rem` gives tokens their prototypes, `rem` tries pairs of them as schemas on the day, which the prototypes'
own ladders have not counted yet, `replay` counts the day into those ladders, `prune` forgets as a full store would, and
`merge` puts together prototypes that a schema joins. A day longer than LONGEST_DAY tokens is replayed awake where there
are prototypes, and loses its beginning where there are none.

Two histories cut into reads in different ways leave the same memory: counting goes by chunks of the stream, not of the
call. `scorer` freezes the tables for prediction. Refuses damaged files and a budget that is too small.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from pydantic import TypeAdapter

from bloomery.errors import DataError
from bloomery.evaluate.ngram_files import write_arrays
from bloomery.measure import Group, Tally
from bloomery.systems.holographic import dreams
from bloomery.systems.holographic.attractors import freeze
from bloomery.systems.holographic.columns import arrays_of, put_back, wanted
from bloomery.systems.holographic.counting import KEPT, Counting
from bloomery.systems.holographic.ladders import Ladder, contexts, longest, words
from bloomery.systems.holographic.saved import fitting, reading, whole, within
from bloomery.systems.holographic.scorer import AttractorScorer
from bloomery.systems.holographic.store import Items

FILE = "memory.npz"
LONGEST_DAY = 1 << 23
"""Tokens, of 4 bytes each."""
CUTOFFS = {3: 1}
"""Of a context of so many tokens and more: what was read at most so often is not frozen."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an attractor memory is; all of it is written beside the memory."""

    vocab: int
    store_bytes: int = 256 << 20
    timescales: tuple[int, ...] = (1, 2, 3, 5, 7)
    """Orders of n-grams; 1 and 2 are needed, prototypes are made of them."""
    prototypes: tuple[int, ...] = (64, 256)
    """Of each clustering; none: no prototypes at all."""
    classes_back: int = 3
    """Classes of history that the prototypes' ladders look at."""
    skip: bool = True
    recombine: str = "prototypes"
    """Or random_matrices, the control of REM: schemas are found in noise."""
    seed: int = 0

    def ladders(self) -> tuple[Ladder, ...]:
        made = [words(self.timescales)]
        if self.skip:
            made.append(Ladder("skip", ((), ((2, 0),), ((2, 0), (3, 0)))))
        for number, _ in enumerate(self.prototypes, start=1):
            history = tuple(tuple((lag, number) for lag in range(1, back + 1)) for back in range(self.classes_back + 1))
            made.append(Ladder(f"classes{number}", history, target=number))
            made.append(Ladder(f"history{number}", history[:-1]))
        return tuple(made)


class Attractor:
    """See the module. `Memory` is its interface."""

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        """folder: of the files that large tables are mapped to while it works (mapped.py); None: all are in memory.
        What lasts is what `save` writes."""
        assert {1, 2} <= set(settings.timescales)
        self.settings, self.vocab = settings, settings.vocab
        self.counting = Counting(settings.ladders(), settings.store_bytes, folder)
        self._awake = [one.name for one in self.counting.ladders if one.alphabets == {0}]
        self._asleep = [one.name for one in self.counting.ladders if one.alphabets != {0}]
        self.alphabets: list[Int[np.ndarray, " v"] | None] = [None]
        self.schemas: list[tuple[int, int]] = []
        """Pairs of prototypes of the first clustering."""
        self.sleeps = 0
        self._pieces: list[NDArray[np.int32]] = []
        self._starts: list[int] = []
        """Where documents begin in the day."""
        self._length = 0
        self._counted = self._replayed = 1
        """Positions of the day up to which the waking ladders and those of prototypes have counted: the first token
        of all is history only."""
        self.tokens_read = 0

    def read(self, tokens: NDArray[np.integer[Any]], boundaries: NDArray[np.integer[Any]]) -> None:
        """Wake: stream tokens [n]; boundaries: where documents begin (indices into tokens). Raises DataError for ids
        beyond the vocabulary."""
        if not len(tokens):
            return
        if tokens.min() < 0 or tokens.max() >= self.vocab:
            raise DataError("wake", f"token ids from {tokens.min()} to {tokens.max()}", f"0 to {self.vocab - 1}")
        self._starts += (np.asarray(boundaries, dtype=np.int64) + self._length).tolist()
        self._pieces.append(np.asarray(tokens, dtype=np.int32).copy())
        self._length += len(tokens)
        self.tokens_read += len(tokens)
        while self._length - self._counted >= self.counting.chunk:
            self._count(self._awake, self._counted, self._counted + self.counting.chunk)
            self._counted += self.counting.chunk
            if self._counted - self._replayed > LONGEST_DAY:
                self._replay(self._counted - LONGEST_DAY // 2)

    def day(self) -> NDArray[np.int32]:
        """What was read since it slept, and before that as much history as a context may need."""
        self._pieces = [np.concatenate(self._pieces)] if self._pieces else [np.zeros(0, dtype=np.int32)]
        return self._pieces[0]

    def _count(self, names: Sequence[str], start: int, stop: int) -> None:
        if names and stop > start:
            starts = np.array(self._starts, dtype=np.int64)
            self.counting.count(names, self.day()[:stop], starts, start, self.alphabets)

    def _replay(self, stop: int) -> None:
        """Count the day up to here into the prototypes' ladders, and let go of what no context needs any more."""
        if len(self.alphabets) > 1:
            self._count(self._asleep, self._replayed, stop)
        self._replayed = max(self._replayed, stop)
        gone = max(0, min(self._replayed, self._counted) - self.counting.history - 1)
        if gone:
            self._pieces = [self.day()[gone:].copy()]
            # A document that began before what is left began long enough ago.
            self._starts = [one - gone for one in self._starts if one >= gone]
            self._length -= gone
            self._counted -= gone
            self._replayed -= gone

    def sleep(self, phases: Sequence[str], random: np.random.Generator) -> Mapping[str, float]:
        """phases: subset, in order, of dreams.PHASES. Returns what it did, metrics under memory/."""
        assert list(phases) == [one for one in dreams.PHASES if one in phases], phases
        self._count(self._awake, self._counted, self._length)
        self._counted = max(self._counted, self._length)
        self.sleeps += 1
        found: dict[str, float] = {}
        if "non_rem" in phases and self.settings.prototypes:
            found |= dreams.non_rem(self)
        if "rem" in phases and len(self.alphabets) > 1:
            found |= dreams.rem(self, random)
        if "replay" in phases:
            found["memory/replayed"] = float(max(0, self._length - self._replayed))
            self._replay(self._length)
        if "prune" in phases:
            found["memory/pruned"] = float(self.counting.forget(int(KEPT * self.settings.store_bytes)))
        if "merge" in phases and len(self.alphabets) > 1:
            found |= dreams.merge(self)
        return found

    def not_replayed(self) -> NDArray[np.int32]:
        """Tokens of the day that the prototypes' ladders have not counted."""
        return self.day()[min(self._replayed, self._length) :]

    def items(self, name: str, rung: int) -> Items:
        return self.counting.tables[name][rung].items()

    def times(self) -> Int[np.ndarray, " v"]:
        """How often each token was read."""
        everything = contexts(self.counting.ladders[0], np.zeros(1, dtype=np.int64), [None])[0]
        return self.counting.tables["words"][0].look_up(everything | np.arange(self.vocab, dtype=np.uint64))[0]

    def scorer(
        self,
        tune: Iterable[Int[np.ndarray, " n"]] = (),
        *,
        nested: bool = True,
        cutoffs: Mapping[int, int] = CUTOFFS,
        leave_out: Collection[str] = (),
    ) -> AttractorScorer:
        """What it predicts by now. tune: documents [n + 1], end_of_document first, to find weights on; without any the
        words' ladder stands alone. cutoffs: {context length from which: read at most so often}.
        leave_out: ladders that are not asked."""
        known = [
            one
            for one in self.counting.ladders
            if max(one.alphabets) < len(self.alphabets) and one.name not in leave_out
        ]
        stored = {
            one.name: [
                freeze(table.blocks(), table.forgotten, _cutoff(cutoffs, longest(features)))
                for features, table in zip(one.rungs, self.counting.tables[one.name], strict=True)
            ]
            for one in known
        }
        made = AttractorScorer(self.vocab, known, stored, self.alphabets, self.times())
        documents = list(tune)
        return made.fitted(documents, nested=nested) if documents else made

    def measures(self) -> Mapping[str, float]:
        counting = self.counting
        prototypes = 0 if len(self.alphabets) == 1 else int(_there(self.alphabets[1]).max())
        ever = counting.used + counting.dropped
        return {
            "memory/store_bytes": float(counting.bytes),
            "memory/entries": float(counting.used),
            "memory/day_bytes": 4.0 * self._length,
            "memory/prototypes": float(prototypes),
            "memory/schemas": float(len(self.schemas)),
            "memory/compression": counting.readings / max(1, counting.used),
            "memory/forgotten_share": counting.dropped / max(1, ever),
            "memory/sleeps": float(self.sleeps),
            **dreams.prototype_measures(self),
        }

    def tally(self) -> Tally:
        """As laid out: places of 16 bytes, filled or not; classes of 8 bytes, the day as a buffer."""
        places = self.counting.bytes // 16
        classes = self.vocab * (len(self.alphabets) - 1)
        return Tally(
            {
                "store": Group(places, places, buffers=self._length, bits=128),
                "prototypes": Group(classes, classes, bits=64),
            }
        )

    def save(self, folder: Path) -> None:
        """Write `memory.npz` into the folder; the same bytes for the same history."""
        about = {
            "settings": asdict(self.settings),
            "sleeps": self.sleeps,
            "length": self._length,
            "counted": self._counted,
            "replayed": self._replayed,
            "tokens_read": self.tokens_read,
            "readings": self.counting.readings,
            "clusterings": len(self.alphabets) - 1,
        }
        arrays: dict[str, NDArray[Any]] = {
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
            "day": self.day(),
            "starts": np.array(self._starts, dtype=np.int64),
            "schemas": np.array(self.schemas, dtype=np.int64).reshape(-1, 2),
        }
        for number, table in enumerate(self.alphabets[1:], start=1):
            arrays[f"classes_{number}"] = _there(table)
        for name, tables in self.counting.tables.items():
            for number, table in enumerate(tables):
                arrays |= arrays_of(table, f"{name}_{number}")
        write_arrays(folder, arrays, FILE)


def open(folder: Path, working: Path | None = None) -> Attractor:
    """The memory that was saved in the folder. working: see `Attractor`. Raises ArtifactError where it is damaged."""
    with reading(folder / FILE, working=working) as (arrays, about):
        settings = TypeAdapter(Settings).validate_python(about["settings"])
        whole(about["settings"], "vocab", "store_bytes", "classes_back", "seed")
        if not {1, 2} <= set(settings.timescales):
            raise ValueError(f"timescales {list(settings.timescales)}")
        memory = Attractor(settings, working)
        _check(memory, arrays, about)
        memory.sleeps, memory.tokens_read = about["sleeps"], about["tokens_read"]
        memory._length, memory._counted = about["length"], about["counted"]
        memory._replayed = about["replayed"]
        memory.counting.readings = about["readings"]
        memory._pieces, memory._starts = [arrays["day"]], arrays["starts"].tolist()
        memory.schemas = [(int(a), int(b)) for a, b in arrays["schemas"]]
        memory.alphabets += [arrays[f"classes_{n}"] for n in range(1, about["clusterings"] + 1)]
        for name, tables in memory.counting.tables.items():
            for number, table in enumerate(tables):
                put_back(table, f"{name}_{number}", arrays)
    return memory


def _check(memory: Attractor, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Raises KeyError or ValueError where an array is not one of this memory's."""
    whole(about, "sleeps", "tokens_read", "length", "counted", "replayed", "readings", "clusterings")
    vocab = memory.vocab
    needed: dict[str, Any] = {
        "day": (np.int32, (about["length"],)), "starts": (np.int64, ("s",)), "schemas": (np.int64, ("m", 2))
    }  # fmt: skip
    needed |= {f"classes_{number}": (np.int64, (vocab,)) for number in range(1, about["clusterings"] + 1)}
    for name, tables in memory.counting.tables.items():
        for number in range(len(tables)):
            needed |= wanted(f"{name}_{number}")
    fitting(arrays, needed)
    if about["clusterings"] not in (0, len(memory.settings.prototypes)):
        raise ValueError(f"{about['clusterings']} clusterings, not {len(memory.settings.prototypes)}")
    within("day", arrays["day"], vocab)
    for number in range(1, about["clusterings"] + 1):
        within(f"classes_{number}", arrays[f"classes_{number}"], vocab)


def _cutoff(cutoffs: Mapping[int, int], length: int) -> int:
    return max((most for first, most in cutoffs.items() if length >= first), default=0)


def _there(table: Int[np.ndarray, " v"] | None) -> Int[np.ndarray, " v"]:
    assert table is not None
    return table
