"""The suite `lmeval`: lm-evaluation-harness tasks from local files, with the shipped prompts and metrics.

    suites:
      known: {kind: lmeval, tasks: [mmlu, hellaswag], shots: {mmlu: 5}, limit: 200, folder: benchmarks}

measures known/mmlu/accuracy, known/hellaswag/accuracy, known/hellaswag/accuracy_norm and known/truncated_share, each
with its interval over items: Wilson's for yes and no, Student's for truthfulqa/mc2. Comparisons are paired by item.
Needs the extra `eval`. With a limit, or where a folder lacks an official split (evaluate/lmeval_files.py), numbers are
not the published ones. Nor is every one of them at chance for a model that knows nothing: `accuracy` adds up tokens, so
it favours short answers, and in ARC these are wrong more often than not; gate on `accuracy_norm` there.

Refuses tasks and shots that it does not know when the plan is read, and a missing extra before anything is judged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import Artifact
from bloomery.engine.intervals import items_interval, wilson_interval
from bloomery.engine.stage import SuiteResult
from bloomery.errors import DataError, nearest
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.schema import Frozen
from bloomery.stages.scorers import kind_of, open_scorer

if TYPE_CHECKING:
    from bloomery.evaluate.lmeval import Outcome

METRICS: Mapping[str, tuple[str, ...]] = {
    "mmlu": ("accuracy",),
    "hellaswag": ("accuracy", "accuracy_norm"),
    "arc_challenge": ("accuracy", "accuracy_norm"),
    "truthfulqa": ("mc1", "mc2"),
    "winogrande": ("accuracy",),
    "gsm8k": ("strict_match", "flexible_extract"),
    "humaneval": ("pass_rate",),
}
"""What the harness measures on each task; `mmlu_SUBJECT` as on mmlu."""
WITHOUT_SHOTS = ("truthfulqa", "humaneval")
"""Their prompts are complete."""


class LmEvalSettings(Frozen):
    tasks: tuple[str, ...] = Field(min_length=1)
    shots: Mapping[str, int] = Field(default_factory=dict)
    """Examples in the prompt, by task. Otherwise what the task file says: 5 for gsm8k, none for the others."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many items of a task (of each subject of mmlu), from the first on."""
    folder: str | None = None
    """Holds mmlu/, hellaswag/ and so on; else $BLOOMERY_DATA."""
    hub: bool = False
    """Take the data sets from the Hugging Face hub, over the network, in place of a folder."""
    context: int = Field(default=1024, ge=2)
    """Tokens that the model sees at once. What is longer loses its beginning: see truncated_share."""
    new_tokens: int | None = Field(default=None, ge=1)
    """At most so many are generated, where a task generates; else what the task file says, or 256; never more than
    half of the context."""

    @model_validator(mode="after")
    def _tasks_are_known(self) -> Self:
        for task in self.tasks:
            if task not in METRICS and re.fullmatch(r"mmlu_[a-z_]+", task) is None:
                raise ValueError(f"no task '{task}'; {nearest(task, (*METRICS, 'mmlu_SUBJECT'))}")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("a task stands twice")
        if "mmlu" in self.tasks and any(task.startswith("mmlu_") for task in self.tasks):
            raise ValueError("mmlu holds its subjects: name it or them")
        for task, shots in self.shots.items():
            if task not in self.tasks:
                raise ValueError(f"shots for '{task}', which is no task here; {nearest(task, self.tasks)}")
            if shots < 0 or (shots and task in WITHOUT_SHOTS):
                raise ValueError(f"{shots} shots for {task}; at least 0, and 0 for {' and '.join(WITHOUT_SHOTS)}")
        if self.hub and self.folder is not None:
            raise ValueError("hub and folder exclude each other")
        return self


class LmEval:
    """A model, or an n-gram baseline, through the harness's own loop."""

    def config_model(self) -> type[BaseModel]:
        return LmEvalSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, LmEvalSettings)
        names = [f"{task}/{metric}" for task in config.tasks for metric in METRICS.get(task, METRICS["mmlu"])]
        return {name: Emitted("", "higher") for name in names} | {"truncated_share": Emitted("", "lower")}

    def ready(self, config: BaseModel) -> None:
        """The extra, and files of every task."""
        from bloomery.evaluate.lmeval_extra import check_version
        from bloomery.evaluate.lmeval_files import look_for

        assert isinstance(config, LmEvalSettings)
        check_version()
        if not config.hub:
            look_for(config.tasks, _folder(config.folder))

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate import lmeval
        from bloomery.stages import models

        assert isinstance(config, LmEvalSettings)
        lmeval.check_installed(hub=config.hub)
        folder = None if config.hub else _folder(config.folder)
        models.use_threads(threads)
        scorer = open_scorer(model.path, device=device)
        if kind_of(model.path) == "ngram":
            assert data is not None
            tokenizer = Prepared.open(data).tokenizer
        else:
            tokenizer = models.tokenizer_of(model.path)
        outcomes, usage = lmeval.run(
            scorer, tokenizer, config.tasks, folder=folder, shots=config.shots, limit=config.limit,
            window=config.context, device=device, new_tokens=config.new_tokens,
        )  # fmt: skip
        found = [_measured(one) for one in outcomes]
        cut = usage.truncated / usage.requests
        interval = wilson_interval(usage.truncated, usage.requests)
        return SuiteResult((*found, Measurement("truncated_share", cut, usage.requests, interval)))


def _measured(outcome: Outcome) -> Measurement:
    items = Items(outcome.key, outcome.values, (1.0,) * len(outcome.values))
    interval = items_interval([items])
    value = sum(outcome.values) / len(outcome.values)
    return Measurement(f"{outcome.task}/{outcome.metric}", value, len(outcome.values), interval, items=items)


def _folder(given: str | None) -> Path:
    from bloomery.stages.prepare import find_path

    if given is not None:
        return find_path("suites: folder", given)
    if found := os.environ.get("BLOOMERY_DATA"):
        return Path(found)
    raise DataError("suites: folder", "is not given, and BLOOMERY_DATA is not set", "a folder with the tasks' files")
