"""Files of memories and of what they predict, damaged in every way: one error, never a traceback of ours."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomery.errors import ArtifactError
from bloomery.evaluate.ngram_files import read_arrays, write_arrays
from bloomery.systems.holographic import attractor, exact_context, theory_files
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.config import PHASES, Theory
from bloomery.systems.holographic.exact_context import ExactContext
from bloomery.systems.holographic.scorer import FILE, AttractorScorer
from bloomery.systems.holographic.theory_memory import TheoryMemory
from systems.holographic.remembering import END, VOCAB, stream, text

Open = Callable[[Path], Any]
FREE = ("starts", "schemas", "tail", "heard", "asked")
"""Arrays of a length that nothing else tells."""


def lived(memory: Any) -> Any:
    for seed in range(2):
        memory.read(*stream(text(30, seed=seed)))
        memory.sleep(PHASES, np.random.default_rng(seed))
    memory.read(*stream(text(3, seed=3)))
    return memory


def attractors() -> Attractor:
    return lived(Attractor(Settings(VOCAB, store_bytes=4 << 20, timescales=(1, 2, 3), prototypes=(2,))))


def theory(variant: Any) -> Theory:
    return Theory(variant=variant, context=4, buffer=60, keep_every=1)


KINDS: dict[str, tuple[Callable[[Path], None], Open, str]] = {
    "attractor": (lambda folder: attractors().save(folder), attractor.open, attractor.FILE),
    "scorer": (lambda folder: attractors().scorer(text(4, seed=5)).save(folder), AttractorScorer.load, FILE),
    "exact_context": (
        lambda folder: lived(ExactContext(theory("exact_context"), VOCAB, END, 0)).save(folder),
        exact_context.open, exact_context.FILE,
    ),
    "v4": (
        lambda folder: lived(TheoryMemory(theory("v4"), VOCAB, END, 0)).save(folder),
        theory_files.open, theory_files.FILE,
    ),
    "prod": (
        lambda folder: lived(TheoryMemory(theory("prod"), VOCAB, END, 0)).save(folder),
        theory_files.open, theory_files.FILE,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Open, Path]:
    write, read, name = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write(folder)
    read(folder)
    return read, folder / name


def refused(read: Open, file: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as error:
        read(file.parent)
    said = error.value
    assert said.where == str(file)
    assert said.expected
    assert "again" in said.hint
    assert "\n" not in said.found
    return said


def changed(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Whole files that no memory of this version wrote."""
    names = sorted(arrays)
    for name in names if len(names) < 40 else random.Random(0).sample(names, 20):
        array = arrays[name]
        without = {key: value for key, value in arrays.items() if key != name}
        yield f"without {name}", without
        yield f"{name} as text", {**without, name: np.full(len(array), "x")}
        if name != "about":
            yield f"{name} with another axis", {**without, name: array[None]}
        if name not in (*FREE, "about") and len(array):
            yield f"{name} longer", {**without, name: np.concatenate((array, array[-1:]))}
    about = json.loads(arrays["about"].tobytes())

    def telling(told: Any) -> dict[str, np.ndarray]:
        return {**arrays, "about": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)}

    yield "about nothing", telling([])
    yield "about no JSON", {**arrays, "about": np.frombuffer(b"{", dtype=np.uint8)}
    for name, value in about.items():
        yield f"without about {name}", telling({key: one for key, one in about.items() if key != name})
        for other in (None, "x", -1, [1]):
            if not (name == "nested" or value == other):
                yield f"about {name} {other}", telling({**about, name: other})
    for name in about.get("settings", {}):
        settings = {key: one for key, one in about["settings"].items() if key != name}
        yield f"settings {name} as mapping", telling({**about, "settings": {**settings, name: {"x": 1}}})
    if "settings" in about:
        yield "settings of another version", telling({**about, "settings": {"x": 1}})


@pytest.mark.slow
def test_a_whole_file_of_another_shape_is_refused(saved: tuple[Open, Path], tmp_path: Path) -> None:
    read, file = saved
    arrays = read_arrays(file)
    tried = 0
    for what, other in changed(arrays):
        write_arrays(tmp_path, other, file.name)
        try:
            refused(read, tmp_path / file.name)
        except BaseException as error:
            raise AssertionError(what) from error
        tried += 1
    assert tried > 30


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped", "a folder", "no archive"])
def test_a_file_that_is_not_whole_is_refused(how: str, saved: tuple[Open, Path], tmp_path: Path) -> None:
    read, file = saved
    content = bytearray(file.read_bytes())
    other = tmp_path / file.name
    match how:
        case "missing":
            pass
        case "a folder":
            other.mkdir()
        case "flipped":
            for place in np.random.default_rng(0).integers(0, len(content), 8).tolist():
                content[place] ^= 0x41
            other.write_bytes(content)
        case _:
            other.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "no archive": b"words" * 99}[how])
    refused(read, other)
