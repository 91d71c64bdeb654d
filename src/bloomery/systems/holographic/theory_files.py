"""A theory's memory on disk, `theory.npz`: all that it would go on from, the same bytes for the same history.

Token matrices are not in it where the seed draws them again; those of a text are. Refuses what is missing, damaged, or
of another shape than its settings say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bloomery.evaluate.ngram_files import write_arrays
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.recall import Cells, Counted, Satellites
from bloomery.systems.holographic.saved import fitting, reading, whole, within
from bloomery.systems.holographic.sleeping import Attractors, Waiting
from bloomery.systems.holographic.theory_memory import TheoryMemory

FILE = "theory.npz"
COUNTERS = ("seen", "slept", "replayed", "offered", "taken")
SHARES = ("basins", "coded", "survived")
FIELDS: Mapping[type, tuple[str, ...]] = {
    Cells: ("keys", "states", "targets"), Satellites: ("keys", "sums"), Counted: ("keys", "tokens", "counts")
}  # fmt: skip
GROUNDED = ("svd", "class")
I8, F8 = np.int64, np.float64


def save(memory: TheoryMemory, folder: Path) -> None:
    """Raises ArtifactError where the folder cannot be written to."""
    sleeper, own = memory.sleeper, memory.sleeper.attractors
    about = {
        "settings": memory.settings.model_dump(mode="json"), "vocab": memory.vocab, "end": memory.end,
        "seed": memory.seed, "position": memory.position, "stored": memory.stored, "dropped": memory.dropped,
        "sleeper": {name: getattr(sleeper, name) for name in (*COUNTERS, *SHARES)},
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        "unigrams": memory.unigrams, "memory": memory.memory.numpy(), "asked": memory.asked, "tail": memory.tail,
        "heard": memory.heard,
        "calibrated": np.zeros(0) if memory.calibrated is None else memory.calibrated,
        "prototypes": own.states.numpy(), "signatures": own.signatures.numpy(),
        "support": own.support, "radius": own.radius,
        "follower_counts": np.array([len(one) for one, _ in own.followers], dtype=np.int64),
        "follower_tokens": np.concatenate([np.zeros(0, dtype=np.int64), *(one for one, _ in own.followers)]),
        "follower_shares": np.concatenate([np.zeros(0), *(one for _, one in own.followers)]),
        "forms": np.array(sorted(sleeper.forms), dtype=np.int64).reshape(-1, len(memory.memory)),
        "form_counts": np.array([sleeper.forms[one] for one in sorted(sleeper.forms)], dtype=np.int64),
        **_waiting("waiting", sleeper.waiting), **_waiting("recent", memory.recent),
    }  # fmt: skip
    if memory.settings.tokens_as in GROUNDED:
        arrays["matrices"] = memory.matrices.numpy()
    for name, store in memory.stores().items():
        arrays |= {f"{name}_{field}": getattr(store, field) for field in FIELDS[type(store)]}
    write_arrays(folder, arrays, FILE)


def open(folder: Path) -> TheoryMemory:
    """What was saved in the folder. Raises ArtifactError where it is missing or damaged."""
    with reading(folder / FILE) as (arrays, about):
        vocab, end, seed, position, stored, dropped = whole(
            about, "vocab", "end", "seed", "position", "stored", "dropped"
        )
        memory = TheoryMemory(Theory.model_validate(about["settings"]), vocab, end, seed)
        _check(memory, arrays)
        memory.position, memory.stored, memory.dropped = position, stored, dropped
        memory.unigrams, memory.tail, memory.asked = arrays["unigrams"], arrays["tail"], arrays["asked"]
        memory.heard = arrays["heard"]
        memory.memory = torch.from_numpy(arrays["memory"])
        if memory.settings.tokens_as in GROUNDED:
            memory.matrices = torch.from_numpy(arrays["matrices"])
        memory.calibrated = arrays["calibrated"] if len(arrays["calibrated"]) else None
        sleeper = memory.sleeper
        for name, value in zip(COUNTERS, whole(about["sleeper"], *COUNTERS), strict=True):
            setattr(sleeper, name, value)
        for name in SHARES:
            setattr(sleeper, name, float(about["sleeper"][name]))
        ends = np.cumsum(arrays["follower_counts"])[:-1]
        followers = zip(
            np.split(arrays["follower_tokens"], ends), np.split(arrays["follower_shares"], ends), strict=True
        )
        sleeper.attractors = Attractors(
            torch.from_numpy(arrays["prototypes"]), torch.from_numpy(arrays["signatures"]), arrays["support"],
            arrays["radius"], list(followers) if len(arrays["support"]) else [],
        )  # fmt: skip
        forms = (tuple(one) for one in arrays["forms"].tolist())
        sleeper.forms = Counter(dict(zip(forms, arrays["form_counts"].tolist(), strict=True)))
        sleeper.waiting, memory.recent = _awaited("waiting", arrays), _awaited("recent", arrays)
        for name, store in memory.stores().items():
            for field in FIELDS[type(store)]:
                setattr(store, field, arrays[f"{name}_{field}"])
    return memory


def _check(memory: TheoryMemory, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises KeyError or ValueError where an array is not one of this memory's."""
    n, parts = len(memory.memory), 1 + len(memory.names)
    wanted: dict[str, Any] = {
        "unigrams": (I8, (memory.vocab,)), "memory": (F8, (n,)), "asked": (F8, ("a", parts)), "tail": (I8, ("t",)),
        "heard": (I8, ("h",)),
        "calibrated": (F8, ("c",)), "prototypes": (F8, ("p", n)), "signatures": (F8, ("p", n)),
        "support": (F8, ("p",)), "radius": (F8, ("p",)), "follower_counts": (I8, ("p",)),
        "follower_tokens": (I8, ("f",)), "follower_shares": (F8, ("f",)), "forms": (I8, ("m", n)),
        "form_counts": (I8, ("m",)),
    }  # fmt: skip
    if memory.settings.tokens_as in GROUNDED:
        wanted["matrices"] = (F8, (memory.vocab, n))
    for name in ("waiting", "recent"):
        wanted |= {f"{name}_{each}": (F8, (name, n)) for each in ("states", "signatures")}
        wanted |= {f"{name}_{each}": (I8, (name,)) for each in ("targets", "positions")}
    kinds = {"keys": np.uint64, "states": np.float32, "sums": F8, "targets": np.int32, "tokens": np.int32,
             "counts": np.int32}  # fmt: skip
    for name, store in memory.stores().items():
        for field in FIELDS[type(store)]:
            wanted[f"{name}_{field}"] = (kinds[field], (name, n) if field in ("states", "sums") else (name,))
    fitting(arrays, wanted)
    if len(arrays["calibrated"]) not in (0, parts):
        raise ValueError(f"'calibrated' holds {len(arrays['calibrated'])} weights, not {parts}")
    if (arrays["follower_counts"] < 1).any() or arrays["follower_counts"].sum() != len(arrays["follower_tokens"]):
        raise ValueError("'follower_counts' do not add up")
    for name in wanted:
        if name.endswith(("tokens", "targets")) or name in ("tail", "heard"):
            within(name, arrays[name], memory.vocab)
        elif name.endswith("keys") and (arrays[name][1:] < arrays[name][:-1]).any():
            raise ValueError(f"'{name}' are not sorted")


def _waiting(name: str, these: Waiting) -> dict[str, NDArray[Any]]:
    return {
        f"{name}_states": these.states.numpy(), f"{name}_signatures": these.signatures.numpy(),
        f"{name}_targets": these.targets, f"{name}_positions": these.positions,
    }  # fmt: skip


def _awaited(name: str, arrays: Mapping[str, NDArray[Any]]) -> Waiting:
    states, signatures = (torch.from_numpy(arrays[f"{name}_{each}"]) for each in ("states", "signatures"))
    return Waiting(states, signatures, arrays[f"{name}_targets"], arrays[f"{name}_positions"])
