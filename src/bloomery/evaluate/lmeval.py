"""lm-evaluation-harness 0.4.13 on local files: its prompts, few-shot rule, filters and metrics; our scoring.

Each task is the shipped task file with its data set replaced by local rows (lmeval_files.py), so that prompt and metric
are the harness's by construction and nothing touches the hub or a disk cache. The default task index is never built.
The loader of task files is private to the harness, so the version is pinned and checked.

Few-shot examples: the shipped rule (MMLU the first k of dev, others k drawn for each question). MMLU is the mean over
all questions of all subjects at hand, which is the harness's size-weighted mean. HumanEval's functions are run in our
own sandbox: the shipped task file fetches its metric from the hub, and would run them in this process's children.
Outcomes keep every item, so that two models judged on the same items can be paired.

Refuses another version of the harness, unknown tasks, and examples for a complete prompt (TruthfulQA, HumanEval).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import BloomeryError, DataError
from bloomery.evaluate.humaneval import Problem, solved
from bloomery.evaluate.lmeval_extra import check_version
from bloomery.evaluate.lmeval_files import Splits, read, subjects
from bloomery.evaluate.lmeval_model import Usage, adapter
from bloomery.model.interface import LanguageModel, Scorer

FEWSHOT_SEED = 1234
"""The harness's own default."""
TASK_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "winogrande": "winogrande/default.yaml",
    "humaneval": "humaneval/humaneval.yaml",
}
PARTS = {"truthfulqa": ("truthfulqa_mc1", "truthfulqa_mc2")}
"""Tasks of ours that are several of the harness; mmlu is one for each subject."""
METRICS = {"acc": "accuracy", "acc_norm": "accuracy_norm"}
FILTERS = {"strict-match": "strict_match", "flexible-extract": "flexible_extract"}
"""Where a task has several filters, they name the metric."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One metric of one task: a value for every item, and which items these were."""

    task: str
    """As it was asked for: `mmlu` for all of its subjects."""
    metric: str
    values: tuple[float, ...]
    key: str
    """Equal for the same questions with as many examples."""


def run(
    scorer: LanguageModel | Scorer,
    tokenizer: Tokenizer,
    tasks: Sequence[str],
    *,
    folder: Path | None,
    shots: Mapping[str, int],
    limit: int | None = None,
    window: int,
    device: str = "cpu",
    new_tokens: int | None = None,
) -> tuple[list[Outcome], Usage]:
    """folder: holds the files; None: the hub, over the network. shots: examples by task; the task file's own otherwise,
    else none. limit: at most so many items of a task (of a subject for MMLU), from the first on.

    Raises MissingExtra without the harness, DataError for files that are missing or wrong.
    """
    check_installed(hub=folder is None)
    parts = {part: task for task in tasks for part in parts_of(task, folder)}
    built = {part: build(part, folder, shots.get(task)) for part, task in parts.items()}
    usage = Usage()
    model = adapter(scorer, tokenizer, window=window, device=device, new_tokens=new_tokens, usage=usage)
    return gather(evaluate(model, built, limit), parts), usage


def check_installed(*, hub: bool = False) -> None:
    """Raise MissingExtra where the harness, in the version that is tested, is not installed; keep it offline and quiet.

    Environment variables are read by its dependencies when they are imported, which happens after this.
    """
    check_version()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not hub:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def parts_of(task: str, folder: Path | None) -> list[str]:
    """`mmlu` is all of its subjects: those in the folder, or those that the harness ships."""
    if task != "mmlu":
        return list(PARTS.get(task, (task,)))
    if folder is not None:
        return [f"mmlu_{subject}" for subject in subjects(folder)]
    return sorted(file.stem for file in (_shipped() / "mmlu" / "default").glob("mmlu_*.yaml"))


def build(task: str, folder: Path | None, shots: int | None) -> Any:
    """The harness's task object over local rows. task: as the harness calls it."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    file = _shipped() / TASK_FILES.get(task, f"mmlu/default/{task}.yaml")
    if not file.is_file():
        raise DataError("lm-eval", f"no task '{task}'", "mmlu_SUBJECT, or one of " + ", ".join(TASK_FILES))
    loaded = load_yaml(file, resolve_func=task != "humaneval")
    config = {key: value for key, value in loaded.items() if key not in ("tag", "group", "task_alias")}
    if config.get("num_fewshot") == 0 and shots:
        raise DataError("lm-eval", f"{shots} examples for {task}", "0: its prompt brings its own")
    if shots is not None:
        config["num_fewshot"] = shots
    config.setdefault("num_fewshot", 0)
    if task == "humaneval":
        config |= _in_our_sandbox()
    if folder is not None:
        config |= _local(config, read(task, folder))
    try:
        built = ConfigurableTask(config=config)
    except BloomeryError:
        raise
    except Exception as error:  # datasets and huggingface_hub raise many kinds, none of them their users' own
        raise DataError(
            f"lm-eval task {task}", f"cannot be set up: {error}", hint="is there a network? else give a folder"
        ) from error
    built.set_fewshot_seed(seed=FEWSHOT_SEED)
    return built


def _in_our_sandbox() -> dict[str, Any]:
    """What replaces HumanEval's metric and filter: pass@1 of the one greedy completion."""

    def process_results(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
        problem = Problem(row["task_id"], row["prompt"], row["entry_point"], row["test"])
        return {"pass_rate": float(solved(problem, results[0]).passed)}

    metric = {"metric": "pass_rate", "aggregation": "mean", "higher_is_better": True}
    return {"metric_list": [metric], "process_results": process_results, "filter_list": None, "unsafe_code": False}


def _local(config: Mapping[str, Any], rows: Splits) -> dict[str, Any]:
    """What replaces the hub's data set. A split that there are no rows of is none."""
    import datasets

    def custom_dataset(**unused: Any) -> Any:
        return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})

    splits = {key: name for key in ("training_split", "validation_split", "test_split") if (name := config.get(key))}
    absent = {key: None for key, name in splits.items() if name not in rows}
    return {"custom_dataset": custom_dataset, "dataset_kwargs": None, **absent}


def evaluate(model: Any, built: Mapping[str, Any], limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """{task: samples} as the harness logs them, one for each item and filter. Draws nothing from global generators."""
    from lm_eval.evaluator import evaluate as harness

    _enough(built)
    task_dict = {"tasks": dict(built), "groups": {}, "group_map": {}}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be turned off
        found = harness(lm=model, task_dict=task_dict, limit=limit, bootstrap_iters=0, log_samples=True)
    assert found is not None
    return found["samples"]


def _enough(built: Mapping[str, Any]) -> None:
    """Raise DataError where there are fewer rows to draw examples from than are wanted."""
    for name, task in built.items():
        if wanted := task.config.num_fewshot or 0:
            rows, spare = len(task.sampler.df), 0 if task.fewshot_cfg.sampler == "first_n" else 1
            if rows < wanted + spare:
                raise DataError(
                    f"lm-eval task {name}", f"{rows} rows to take {wanted} examples from", f"{wanted + spare} or more"
                )


def gather(samples: Mapping[str, Sequence[Mapping[str, Any]]], parts: Mapping[str, str]) -> list[Outcome]:
    """Values by task and metric; the parts of a task one after the other, in the order of their names."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    hashes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for part in sorted(samples):
        for sample in samples[part]:
            for metric in sample["metrics"]:
                name = (parts[part], _name(part, metric, sample["filter"]))
                values[name].append(float(sample[metric]))
                hashes[name].append(sample["doc_hash"] + sample["prompt_hash"])
    return [
        Outcome(*name, tuple(found), hashlib.sha256(" ".join([*name, *hashes[name]]).encode()).hexdigest()[:32])
        for name, found in values.items()
    ]


def _name(part: str, metric: str, filtered: str) -> str:
    """`mc1` of truthfulqa_mc1, or the filter's name, or the metric's in whole words."""
    if part.startswith("truthfulqa_"):
        return part.removeprefix("truthfulqa_")
    return FILTERS.get(filtered, METRICS.get(metric, metric))


def _shipped() -> Path:
    import lm_eval.tasks

    return Path(str(lm_eval.tasks.__file__)).parent
