"""The suite `builtin`: questions that need no other library and no network, asked of anything with `logprobs`.

    task                 measures                                 asked of
    choice               accuracy, accuracy_norm, chance          held-out text, or a file
    continuation         accuracy, chance                         held-out text
    exact_match          accuracy, chance                         a file
    completion           pass_rate, isolated                      own functions, or a file
    perplexity           loss, and CATEGORY/loss                  held-out text
    induction            accuracy, chance                         the vocabulary
    associative_recall   accuracy, chance                         the vocabulary
    bracket_depth        accuracy, chance, depth_D/accuracy       the vocabulary
    word_order           accuracy, chance                         held-out text
    permutation          difference                               held-out text

Metric names are TASK/QUANTITY. Of the tasks below `completion` each of `contexts`, if any are given, is measured by
itself, as TASK_CONTEXT/QUANTITY. Shares have a Wilson interval and their items, so that two models on the same
questions are compared pairwise. `chance` is what answering blindly is worth (evaluate/questions.py), known exactly.

Refuses a file of another format, text that is too short, and `exact_match` without a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.measure import Emitted, Interval, Items, Measurement
from bloomery.plan.schema import Frozen
from bloomery.stages.scorers import scorer_of

if TYPE_CHECKING:
    from bloomery.evaluate.questions import Question

Task = Literal[
    "choice", "continuation", "exact_match", "completion",
    "perplexity", "induction", "associative_recall", "bracket_depth", "word_order",
    "permutation",
]  # fmt: skip
WITH_CONTEXT = ("perplexity", "induction", "associative_recall", "bracket_depth", "word_order", "permutation")
DEFAULT_CONTEXT = 64
DEPTHS = (1, 2, 4, 8)
"""Those of evaluate/probes.py, which loads torch."""


class BuiltinSettings(Frozen):
    tasks: tuple[Task, ...] = Field(min_length=1)
    data: str = "corpus:val"
    """The part that text is taken from."""
    items: int = Field(default=200, ge=1)
    """At most this many questions of every task (documents, of perplexity)."""
    contexts: tuple[int, ...] = ()
    """Tokens before the answer, each measured by itself; none: 64, and no number in the names."""
    files: Mapping[Literal["choice", "exact_match", "completion"], str] = {}
    """{task: a file of JSON lines}, read in place of text: `completion` as HumanEval publishes it."""
    tokens: int = Field(default=128, ge=1)
    """At most, of every completion."""
    timeout: float = Field(default=10.0, gt=0)
    """Seconds for the check of one completion."""
    seed: int = 0
    """Which questions are drawn."""

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks) or len(set(self.contexts)) < len(self.contexts):
            raise ValueError("every task and every context once")
        if any(context < 16 for context in self.contexts):
            raise ValueError("contexts of at least 16 tokens")
        if "exact_match" in self.tasks and "exact_match" not in self.files:
            raise ValueError("exact_match needs a file: files: {exact_match: PATH}")
        if unused := sorted(set(self.files) - set(self.tasks)):
            raise ValueError(f"a file for '{unused[0]}', which is not among the tasks")
        return self

    def labels(self) -> list[tuple[str, Task, int]]:
        """(name in metrics, task, context) of all that is measured."""
        found: list[tuple[str, Task, int]] = []
        for task in self.tasks:
            if task in WITH_CONTEXT and self.contexts:
                found.extend((f"{task}_{context}", task, context) for context in self.contexts)
            else:
                found.append((task, task, DEFAULT_CONTEXT))
        return found


class Builtin:
    """Every task of the settings, on one artifact."""

    def config_model(self) -> type[BaseModel]:
        return BuiltinSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, BuiltinSettings)
        emitted: dict[str, Emitted] = {}
        for label, task, _ in config.labels():
            if task == "perplexity":
                emitted[f"{label}/loss"] = emitted[f"{label}/*/loss"] = Emitted("nats_per_token", "lower")
            elif task == "completion":
                emitted[f"{label}/pass_rate"] = Emitted("", "higher")
                emitted[f"{label}/isolated"] = Emitted()
            elif task == "permutation":
                emitted[f"{label}/difference"] = Emitted("nats_per_token", "higher")
            else:
                emitted[f"{label}/accuracy"] = Emitted("", "higher")
                emitted[f"{label}/chance"] = Emitted()
            if task == "choice":
                emitted[f"{label}/accuracy_norm"] = Emitted("", "higher")
            if task == "bracket_depth":
                emitted |= {f"{label}/depth_{depth}/accuracy": Emitted("", "higher") for depth in DEPTHS}
        return emitted

    def ready(self, config: BaseModel) -> None:
        """Its files."""
        assert isinstance(config, BuiltinSettings)
        for task in config.files:
            _file(config, task)

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models

        assert isinstance(config, BuiltinSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        return judged(config, scorer_of(model.path, prepared, device=device), prepared, device)


def judged(config: BuiltinSettings, scorer: Any, prepared: Any, device: str = "cpu") -> SuiteResult:
    """What a LanguageModel or Scorer is worth by these settings; `prepared`: data.prepared.Prepared."""
    measured: list[Measurement] = []
    samples: list[tuple[str, str]] = []
    for label, task, context in config.labels():
        if task == "perplexity":
            measured += _perplexity(label, context, config, scorer, prepared, device)
        elif task == "completion":
            found, told = _completion(label, config, scorer, prepared.tokenizer, device)
            measured += found
            samples += told
        elif task == "permutation":
            measured.append(_permuted(label, context, config, scorer, prepared, device))
        else:
            measured += _answered(label, _questions(task, context, config, prepared), scorer, device)
    return SuiteResult(tuple(measured), tuple(samples))


def _questions(task: str, context: int, config: BuiltinSettings, prepared: Any) -> list[Question]:
    from bloomery.evaluate import passages, probes

    tokenizer, count, seed = prepared.tokenizer, config.items, config.seed
    if task in probes.SYNTHETIC:
        return probes.SYNTHETIC[task](tokenizer, context, count, seed)
    if task == "exact_match":
        return passages.exact_from(_file(config, "exact_match"), tokenizer, count)
    if task == "choice" and "choice" in config.files:
        return passages.choice_from(_file(config, "choice"), tokenizer, count)
    part = prepared.part(config.data)
    if task == "word_order":
        return probes.word_order(part, context, count, seed)
    asked = passages.choice if task == "choice" else passages.continuation
    return asked(part, tokenizer, count, seed)


def _answered(label: str, questions: Sequence[Question], scorer: Any, device: str) -> list[Measurement]:
    from bloomery.evaluate.questions import answer, chance, key_of

    answers = answer(scorer, questions, device=device)
    key, blind = key_of(questions), chance(questions)
    measured = [_share(f"{label}/accuracy", answers.right, key)]
    if answers.by_length:
        measured.append(_share(f"{label}/accuracy_norm", answers.by_length, key))
    measured.append(Measurement(f"{label}/chance", blind, len(questions), Interval(blind, blind)))
    for group in sorted({question.group for question in questions} - {""}):
        own = [right for right, one in zip(answers.right, questions, strict=True) if one.group == group]
        measured.append(_share(f"{label}/{group}/accuracy", own, f"{key}:{group}"))
    return measured


def _permuted(
    label: str, context: int, config: BuiltinSettings, scorer: Any, prepared: Any, device: str
) -> Measurement:
    """What the order of the words before a target is worth to the model (evaluate/permuted.py)."""
    from bloomery.engine.intervals import items_interval
    from bloomery.evaluate.permuted import differences, key_of, pairs

    asked = pairs(prepared.part(config.data), prepared.tokenizer, context, config.items, config.seed)
    found = differences(scorer, asked, device=device)
    items = Items(key_of(asked), tuple(found), (1.0,) * len(found))
    mean = sum(found) / len(found)
    name, interval = f"{label}/difference", items_interval([items]) if len(found) > 1 else None
    return Measurement(name, mean, len(found), interval, unit="nats_per_token", items=items)


def _share(name: str, right: Sequence[bool], key: str) -> Measurement:
    from bloomery.engine.intervals import wilson_interval

    n = len(right)
    items = Items(key, tuple(float(one) for one in right), (1.0,) * n)
    return Measurement(name, sum(right) / n, n, wilson_interval(sum(right), n), items=items)


def _perplexity(
    label: str, context: int, config: BuiltinSettings, scorer: Any, prepared: Any, device: str
) -> list[Measurement]:
    """Loss of held-out documents, of all and of each category, in windows of `context` tokens."""
    from bloomery.evaluate.perplexity import perplexity, spread

    part = prepared.part(config.data)
    found = perplexity(scorer, part, context=context, device=device, max_documents=config.items).items()
    measured = [_loss(f"{label}/loss", found)]
    names = [_segment(part.categories[index]) for index in spread(part.documents, config.items)]
    for category in sorted(set(names)):
        rows = [row for row, name in enumerate(names) if name == category]
        own = Items(
            f"{found.key}:{category}",
            tuple(found.sums[row] for row in rows),
            tuple(found.weights[row] for row in rows),
        )
        measured.append(_loss(f"{label}/{category}/loss", own))
    return measured


def _loss(name: str, items: Items) -> Measurement:
    from bloomery.engine.intervals import items_interval

    value, count = sum(items.sums) / sum(items.weights), len(items.sums)
    interval = items_interval([items]) if count > 1 else None
    return Measurement(name, value, count, interval, unit="nats_per_token", items=items)


def _segment(category: str) -> str:
    """A category as a segment of a metric's name."""
    return re.sub(r"[^a-z0-9]+", "_", category.lower()).strip("_") or "none"


def _completion(
    label: str, config: BuiltinSettings, scorer: Any, tokenizer: Any, device: str
) -> tuple[list[Measurement], list[tuple[str, str]]]:
    """pass@1 of greedy completions. Equal ones of one problem would be judged alike, so nothing is run twice."""
    from bloomery.evaluate import functions, humaneval, sandbox
    from bloomery.evaluate.completing import complete
    from bloomery.evaluate.progress import counted
    from bloomery.plan.canon import digest

    if "completion" in config.files:
        asked = humaneval.load_problems(_file(config, "completion"), config.items)
    else:
        asked = tuple(problem for problem, _ in functions.problems(config.items, config.seed))
    texts = [
        complete(scorer, tokenizer, one.prompt, max_tokens=config.tokens, device=device)
        for one in counted(asked, "completions")
    ]
    right = [
        humaneval.solved(problem, text, timeout=config.timeout).passed
        for problem, text in zip(asked, texts, strict=True)
    ]
    key = digest([[one.name, one.prompt, one.test] for one in asked])
    held = sandbox.isolation()
    isolated = float(held.network + held.processes + held.files)
    measured = [
        _share(f"{label}/pass_rate", right, key),
        Measurement(f"{label}/isolated", isolated, 1, Interval(isolated, isolated)),
    ]
    return measured, [(problem.prompt, text) for problem, text in zip(asked[:2], texts, strict=False)]


def _file(config: BuiltinSettings, task: Literal["choice", "exact_match", "completion"]) -> Path:
    from bloomery.stages.prepare import find_path

    return find_path(f"files.{task}", config.files[task])
