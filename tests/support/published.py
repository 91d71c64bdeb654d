"""Small benchmark files in the form in which the real ones are published. All questions are made up here."""

import json
from pathlib import Path
from typing import Any


def write(folder: Path) -> Path:
    """Two MMLU subjects (one file with a header and numbers, the rest as first published), and the other benchmarks."""
    _subject(folder, "anatomy", header=True)
    _subject(folder, "astronomy", header=False)
    lines(folder / "hellaswag" / "hellaswag_val_part.jsonl", [_ending(number) for number in range(9)])
    lines(folder / "arc" / "ARC-Challenge-Dev.jsonl", [_science(number) for number in range(12)])
    answers = {"It melts.": 1, "It sings.": 0, "It flies away.": 0}
    truthful = [
        {"question": f"What does iron do at {number} degrees?", "mc1_targets": answers,
         "mc2_targets": {"It glows.": 1, "It sings.": 0, "It melts.": 1}}
        for number in range(1500, 1507)
    ]  # fmt: skip
    (folder / "truthfulqa").mkdir(parents=True)
    (folder / "truthfulqa" / "mc_task.json").write_text(json.dumps(truthful))
    lines(folder / "gsm8k" / "train.jsonl", [_sum(number) for number in range(310)])
    lines(folder / "winogrande" / "train_xs.jsonl", [_pronoun(number) for number in range(8)])
    lines(folder / "winogrande" / "train_s.jsonl", [_pronoun(number) for number in range(20)])
    lines(folder / "humaneval" / "HumanEval.jsonl", [_function(number) for number in range(3)])
    return folder


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _subject(folder: Path, name: str, *, header: bool) -> None:
    for split, count in (("test", 8), ("dev", 5)):
        rows = ["question,choice0,choice1,choice2,choice3,answer"] if header else []
        for number in range(count):
            answer = str(number % 4) if header else "ABCD"[number % 4]
            rows.append(f'"In {name}, what is {split} {number}?",one,two,three,"four, or so",{answer}')
        file = folder / "mmlu" / split / f"{name}_{split}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(rows) + "\n")


def _ending(number: int) -> dict[str, Any]:
    endings = [f"melts {number} bars.", "goes home [title] early.", "sings.", "looks at the wall for a long time."]
    return {"ind": number, "activity_label": "Smelting", "ctx_a": "A smelter fills the oven.", "ctx_b": "the smelter",
            "ctx": "A smelter fills the oven. the smelter", "endings": endings, "label": number % 4}  # fmt: skip


def _science(number: int) -> dict[str, Any]:
    labels = "ABCD" if number % 2 else "1234"
    texts = ("ore", "coal", "slag", "air")
    choices = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    return {"id": f"s{number}", "question": {"stem": f"What is put in {number}th?", "choices": choices},
            "answerKey": labels[number % 4]}  # fmt: skip


def _sum(number: int) -> dict[str, Any]:
    return {"question": f"What is {number} and 1?", "answer": f"{number} + 1 = {number + 1}\n#### {number + 1}"}


def _pronoun(number: int) -> dict[str, Any]:
    return {"qID": str(number), "sentence": f"Ann gave Eve {number} bars because _ had too many.",
            "option1": "Ann", "option2": "Eve", "answer": str(1 + number % 2)}  # fmt: skip


def _function(number: int) -> dict[str, Any]:
    return {"task_id": f"HumanEval/{number}", "prompt": f'def add_{number}(x):\n    """x and {number}."""\n',
            "canonical_solution": f"    return x + {number}\n", "entry_point": f"add_{number}",
            "test": f"def check(candidate):\n    assert candidate(2) == 2 + {number}\n"}  # fmt: skip
