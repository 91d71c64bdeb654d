"""A tiny model with the data that it is asked about, and a stage of the loop run on it, without an engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.data.examples import Example, read_examples
from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.stage import StageContext, Stopped
from bloomery.measure import Measurement
from bloomery.stages import models
from bloomery.stages.prepare import parse_data, prepare

SKILLS = {"source": "gauntlet", "examples": 400, "split_by": "tuple", "split": {"train": 0.8, "val": 0.1, "test": 0.1}}
DATA = {
    "tokenizer": {"kind": "bpe", "vocab": 400, "fit_on": "skills:train"},
    "skills": SKILLS,
    "manuals": {"source": "text", "folder": "manuals", "split": {"train": "80%", "val": "20%"}},
}
SHAPE = {"system": "dense", "layers": 1, "width": 16, "heads": 2}


def manuals(folder: Path, documents: int = 30) -> Path:
    """Documents with sections and claims, each of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        (folder / f"{number:02}.txt").write_text(
            f"Return the ore of furnace {number}.\n\nA furnace{number} is a tower of {number + 3} stones.\n\n"
            f"Arguments:\n    heat: how hot furnace {number} becomes, at most {number * 10} degrees\n\n"
            f"Raises ValueError if furnace {number} is cold.\n"
        )
    return folder


def prepared_in(folder: Path) -> Prepared:
    manuals(folder / "manuals")
    return prepare(parse_data(DATA), folder / "data", roots=[folder])


def random_model(data: Prepared, folder: Path, seed: int = 0) -> Artifact:
    model = models.build(SHAPE, data.vocab, precision="fp32", seed=seed)
    models.save(folder, model, SHAPE, "fp32", data.tokenizer)
    return seal(folder, "base.model", "model")


@dataclass
class Asked:
    folder: Path
    measured: list[Measurement] = field(default_factory=list)

    def last(self, name: str) -> Measurement:
        return [one for one in self.measured if one.name == name][-1]

    @property
    def examples(self) -> list[Example]:
        return read_examples(self.folder / "data")


def ask(kind: Any, data: Prepared, folder: Path, inputs: dict[str, Artifact], config: Any, **more: Any) -> Asked:
    folder.mkdir(parents=True, exist_ok=True)
    asked = Asked(folder)
    given = {"device": "cpu", "threads": 1, "who": "candidate", "precision": "fp32", "system": "harmonic", "seed": 0}
    ctx = StageContext(
        data=data.folder, workdir=folder, checkpoint=folder / "checkpoint", vocab=data.vocab, inputs=inputs,
        record=asked.measured.append, **{**given, **more},
    )  # fmt: skip
    kind.run(ctx, kind.config_model().model_validate(config))
    return asked


def stopped_at(looks: int) -> Callable[[], str | None]:
    """A signal from the `looks`-th look on."""
    count = 0

    def stop() -> str | None:
        nonlocal count
        count += 1
        return "signal" if count >= looks else None

    return stop


def until_done(kind: Any, data: Prepared, folder: Path, inputs: dict[str, Artifact], config: Any) -> tuple[Asked, int]:
    """Stopped at the third look, gone on with and stopped again, each time two looks later; how often it was."""
    for times in range(100):
        try:
            return ask(kind, data, folder, inputs, config, stop_reason=stopped_at(3 + 2 * times)), times
        except Stopped:
            continue
    raise AssertionError("it does not end")
