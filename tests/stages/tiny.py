"""A prepared corpus of bytes and a context to run stages in, without an engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal
from bloomery.engine.stage import StageContext, StageResult
from bloomery.measure import Measurement
from bloomery.stages.prepare import parse_data, prepare
from bloomery.stages.pretrain import Pretrain, Settings
from support.command import write_text

DATA = {
    "tokenizer": {"kind": "bytes"},
    "corpus": {"source": "text", "folder": "text", "split": {"train": "70%", "dev": "10%", "val": "20%"}},
}
CONFIG: Mapping[str, Any] = {
    "model": {"layers": 1, "width": 16, "heads": 2},
    "tokens": 1280,
    "batch": 4,
    "context": 32,
    "precision": "fp32",
    "optimizer": {"lr": 0.1},
    "validation": {"every": "50%", "documents": 2},
}


def prepared(folder: Path) -> Prepared:
    write_text(folder / "text")
    return prepare(parse_data(DATA), folder / "data", roots=[folder])


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({**CONFIG, **changes}, context={"system": "dense"})


@dataclass
class Trained:
    context: StageContext
    result: StageResult
    measured: list[Measurement] = field(default_factory=list)

    def last(self, name: str) -> float:
        return [one.value for one in self.measured if one.name == name][-1]


def context(data: Prepared, folder: Path, *, seed: int = 0, **more: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    given = {"inputs": {}, "system": "dense", "device": "cpu", "threads": 1, "who": "candidate", "precision": "fp32"}
    given |= more
    return StageContext(
        data=data.folder, workdir=folder, checkpoint=folder / "checkpoint", seed=seed, vocab=data.vocab, **given
    )


def pretrain(data: Prepared, folder: Path, config: Settings, *, seed: int = 0, **more: Any) -> Trained:
    measured: list[Measurement] = []
    ctx = context(data, folder, seed=seed, record=measured.append, **more)
    result = Pretrain().run(ctx, config)
    for name, output in result.outputs.items():
        seal(output, f"pretrain.{name}", name)
    return Trained(ctx, result, measured)
