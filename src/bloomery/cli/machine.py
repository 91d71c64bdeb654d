"""`generate` and `doctor`: what a trained model says, and what this machine can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bloomery.cli.reading import find_run
from bloomery.errors import ArtifactError


def generate(name: str, prompt: str, root: Path, **wishes: Any) -> None:
    """`wishes`: fields of evaluate.sampling.Sampling. Text is printed as it comes."""
    from bloomery.evaluate.sample import stream
    from bloomery.evaluate.sampling import Sampling
    from bloomery.stages import models
    from bloomery.stages.scorers import open_scorer

    sampling = Sampling(**wishes)
    folder = model_folder(name, root)
    model, tokenizer = open_scorer(folder), models.tokenizer_of(folder)
    print(prompt, end="", flush=True)
    for piece in stream(model, tokenizer, prompt, sampling):
        print(piece.text, end="", flush=True)
    print()


def model_folder(name: str, root: Path) -> Path:
    """A model folder as given, or the candidate's of the last stage (or the one named) of a run, first seed."""
    if any((Path(name) / card).is_file() for card in ("model.json", "scorer.json")):
        return Path(name)
    run, stage = name, None
    try:
        folder = find_run(run, root)
    except ArtifactError:
        run, _, stage = name.rpartition("/")
        if not run:
            raise
        folder = find_run(run, root)
    from bloomery.report.view import RunView

    view = RunView.read(folder)
    found = [
        artifact
        for each in view.stages
        if stage in (None, each.id)
        for attempt in each.attempts
        for artifact in attempt.artifacts
        if artifact.output == "model" and artifact.who == "candidate"
    ]
    if not found:
        stages = ", ".join(each.id for each in view.stages)
        raise ArtifactError(
            name, "no model of this run or stage", f"one of the stages {stages}", f"bloomery status {run}"
        )
    last = found[-1].path.rsplit("/", 2)[0]
    first = next(artifact for artifact in found if artifact.path.startswith(last))
    return folder / first.path


def doctor(*, as_json: bool) -> None:
    import platform

    from bloomery import __version__
    from bloomery.engine.devices import load_devices
    from bloomery.engine.discover import catalogue
    from bloomery.engine.rundir import processor
    from bloomery.train.device import capabilities

    facts = {
        "bloomery": __version__,
        "python": platform.python_version(),
        "processor": processor(),
        "systems": catalogue.systems(),
        "stage kinds": sorted(catalogue.kinds()),
        "suites": sorted(catalogue.suites()),
        "codecs": sorted(catalogue.codecs()),
        "baselines": sorted(catalogue.baselines()),
        "priced devices": sorted(load_devices()),
        "paths": capabilities(),
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = [f"{key}: {text}" for key, text in value.items()]
        if isinstance(value, list) and name in ("systems", "paths"):
            print(f"{name}:")
            for line in value:
                print(f"  {line}")
        else:
            print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
