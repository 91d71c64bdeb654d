"""Benchmark files as their authors publish them, read into the rows that lm-evaluation-harness gets from the hub.

    mmlu/{test,dev}/SUBJECT_{test,dev}.csv     hellaswag/hellaswag_{val,train}*.jsonl   truthfulqa/mc_task*.json
    arc/ARC-Challenge-{Train,Dev,Test}*.jsonl  gsm8k/{train,test}.jsonl                 winogrande/{dev,train_*}.jsonl
    humaneval/HumanEval*.jsonl

Rows are {split: [row]}, with the split names of the harness's task files. What a folder lacks is made up for where it
can honestly be, and then the numbers are not the published ones: ARC without Test is judged on Dev; GSM8K without test
on the last 300 rows of train; WinoGrande without dev on its smallest train file. Examples never come from judged rows,
but where there is no train file at all the harness draws them from the judged split, without the row that is asked.

Refuses files that are missing or have other columns.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.errors import DataError

Row = dict[str, Any]
Splits = dict[str, list[Row]]

GSM8K_HELD_OUT = 300
"""Rows at the end of train.jsonl that are judged where there is no test.jsonl."""


def read(task: str, folder: Path) -> Splits:
    """Rows of `task` (`mmlu_anatomy`, `hellaswag`...) below `folder`. Raises DataError."""
    family = "mmlu" if task.startswith("mmlu_") else task
    try:
        return _mmlu(folder / "mmlu", task.removeprefix("mmlu_")) if family == "mmlu" else READERS[family](folder)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, csv.Error) as error:
        what = f"not the published form ({type(error).__name__}: {error})"
        raise DataError(str(folder), f"the files of {task} are {what}", "files as their authors publish them") from None
    except OSError as error:
        raise DataError(str(folder), f"the files of {task} cannot be read: {error}") from None


def look_for(tasks: Iterable[str], folder: Path) -> None:
    """Raise DataError where a task's files are missing or not what they should be. `mmlu`: any subject does."""
    for task in tasks:
        if task == "mmlu":
            subjects(folder)
        else:
            read("truthfulqa_mc1" if task == "truthfulqa" else task, folder)


def subjects(folder: Path) -> list[str]:
    """MMLU subjects of which both files are there. Raises DataError where there is none."""
    found = sorted(file.name.removesuffix("_test.csv") for file in (folder / "mmlu" / "test").glob("*_test.csv"))
    found = [subject for subject in found if _dev(folder / "mmlu", subject).is_file()]
    if not found:
        raise _missing(folder, "mmlu/test/SUBJECT_test.csv and mmlu/dev/SUBJECT_dev.csv")
    return found


def _dev(folder: Path, subject: str) -> Path:
    return folder / "dev" / f"{subject}_dev.csv"


def _mmlu(folder: Path, subject: str) -> Splits:
    test, dev = folder / "test" / f"{subject}_test.csv", _dev(folder, subject)
    for file in (test, dev):
        if not file.is_file():
            raise _missing(folder, f"{file.parent.name}/{file.name}")
    return {"test": list(_questions(test)), "dev": list(_questions(dev))}


def _questions(file: Path) -> Iterator[Row]:
    """question, four choices, and the answer as a letter or as a number from 0; a header line is passed over."""
    with file.open(newline="", encoding="utf-8") as lines:
        for question, *choices, answer in csv.reader(lines):
            if (question, answer) != ("question", "answer"):
                if len(choices) != 4:
                    raise ValueError(f"{len(choices)} choices in {file.name}")
                number = "ABCD".index(answer) if answer.isalpha() else int(answer)
                yield {"question": question, "choices": choices, "answer": number}


def _hellaswag(folder: Path) -> Splits:
    def rows(file: Path) -> list[Row]:
        keys = ("activity_label", "ctx_a", "ctx_b", "endings", "label")
        return [{key: row[key] for key in keys} for row in _lines(file)]

    judged = _one(folder / "hellaswag", "hellaswag_val*.jsonl")
    return _with_train(folder / "hellaswag", "hellaswag_train*.jsonl", rows, {"validation": rows(judged)})


def _arc(folder: Path) -> Splits:
    def rows(file: Path) -> list[Row]:
        return [
            {
                "question": row["question"]["stem"],
                "choices": {
                    "text": [choice["text"] for choice in row["question"]["choices"]],
                    "label": [choice["label"] for choice in row["question"]["choices"]],
                },
                "answerKey": row["answerKey"],
            }
            for row in _lines(file)
        ]

    place = folder / "arc"
    found = {
        split: rows(_one(place, f"ARC-Challenge-{name}*.jsonl"))
        for split, name in (("validation", "Dev"), ("test", "Test"))
        if list(place.glob(f"ARC-Challenge-{name}*.jsonl"))
    }
    if not found:
        raise _missing(place, "ARC-Challenge-Test.jsonl or ARC-Challenge-Dev.jsonl")
    return _with_train(place, "ARC-Challenge-Train*.jsonl", rows, found)


def _truthfulqa(folder: Path) -> Splits:
    file = _one(folder / "truthfulqa", "mc_task*.json")

    def targets(answers: Mapping[str, int]) -> Row:
        # The harness takes the first choice for the right one: a stable sort only moves it there if it is not.
        ordered = sorted(answers.items(), key=lambda pair: -pair[1])
        return {"choices": [text for text, _ in ordered], "labels": [label for _, label in ordered]}

    rows = json.loads(file.read_text(encoding="utf-8"))
    return {
        "validation": [
            {"question": row["question"]} | {name: targets(row[name]) for name in ("mc1_targets", "mc2_targets")}
            for row in rows
        ]
    }


def _gsm8k(folder: Path) -> Splits:
    def rows(file: Path) -> list[Row]:
        return [{key: row[key] for key in ("question", "answer")} for row in _lines(file)]

    train = rows(_one(folder / "gsm8k", "train.jsonl"))
    if (folder / "gsm8k" / "test.jsonl").is_file():
        return {"train": train, "test": rows(folder / "gsm8k" / "test.jsonl")}
    return {"train": train[:-GSM8K_HELD_OUT], "test": train[-GSM8K_HELD_OUT:]}


def _winogrande(folder: Path) -> Splits:
    def rows(file: Path) -> list[Row]:
        return [{key: row[key] for key in ("sentence", "option1", "option2", "answer")} for row in _lines(file)]

    place = folder / "winogrande"
    trains = sorted((rows(file) for file in place.glob("train_*.jsonl")), key=len)
    if (place / "dev.jsonl").is_file():
        return {"validation": rows(place / "dev.jsonl")} | ({"train": trains[-1]} if trains else {})
    if len(trains) < 2:
        raise _missing(place, "dev.jsonl, or two files train_SIZE.jsonl")
    return {"validation": trains[0], "train": [row for row in trains[-1] if row not in trains[0]]}


def _humaneval(folder: Path) -> Splits:
    keys = ("task_id", "prompt", "entry_point", "test")
    file = _one(folder / "humaneval", "HumanEval*.jsonl")
    return {"test": [{key: row[key] for key in keys} for row in _lines(file)]}


READERS: Mapping[str, Callable[[Path], Splits]] = {
    "hellaswag": _hellaswag,
    "arc_challenge": _arc,
    "truthfulqa_mc1": _truthfulqa,
    "truthfulqa_mc2": _truthfulqa,
    "gsm8k": _gsm8k,
    "winogrande": _winogrande,
    "humaneval": _humaneval,
}


def _with_train(place: Path, pattern: str, rows: Callable[[Path], list[Row]], found: Splits) -> Splits:
    return found | ({"train": rows(_one(place, pattern))} if list(place.glob(pattern)) else {})


def _lines(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _one(place: Path, pattern: str) -> Path:
    """The file of that name: the largest, where several fit."""
    found = sorted(place.glob(pattern), key=lambda file: (file.stat().st_size, file.name))
    if not found:
        raise _missing(place, pattern)
    return found[-1]


def _missing(place: Path, wanted: str) -> DataError:
    return DataError(str(place), f"no {wanted}", "the benchmark's files", "set folder, or BLOOMERY_DATA")
