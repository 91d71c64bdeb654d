"""Published files become the rows that the hub has: known rows, and what is refused."""

from pathlib import Path

import pytest

from bloomery.errors import DataError
from bloomery.evaluate.lmeval_files import READERS, read, subjects
from support import published
from support.real import ABSENT, REAL

COUNTS = {
    "mmlu_anatomy": ("test", 135),
    "hellaswag": ("validation", 200),
    "arc_challenge": ("validation", 294),
    "truthfulqa_mc1": ("validation", 120),
    "gsm8k": ("test", 300),
    "winogrande": ("validation", 160),
    "humaneval": ("test", 20),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write(tmp_path_factory.mktemp("benchmarks"))


def test_mmlu_answers_are_numbers_whichever_form_the_file_has(folder: Path) -> None:
    assert subjects(folder) == ["anatomy", "astronomy"]
    for subject in ("anatomy", "astronomy"):
        rows = read(f"mmlu_{subject}", folder)
        assert [row["answer"] for row in rows["test"]] == [0, 1, 2, 3, 0, 1, 2, 3]
        assert rows["test"][3] == {
            "question": f"In {subject}, what is test 3?",
            "choices": ["one", "two", "three", "four, or so"],
            "answer": 3,
        }
        assert len(rows["dev"]) == 5


def test_arc_rows_have_the_hubs_form(folder: Path) -> None:
    rows = read("arc_challenge", folder)
    assert set(rows) == {"validation"}
    assert rows["validation"][2] == {
        "question": "What is put in 2th?",
        "choices": {"text": ["ore", "coal", "slag", "air"], "label": ["1", "2", "3", "4"]},
        "answerKey": "3",
    }


def test_truthfulqa_has_its_right_answers_first(folder: Path) -> None:
    (row, *_) = read("truthfulqa_mc1", folder)["validation"]
    assert row["mc1_targets"] == {"choices": ["It melts.", "It sings.", "It flies away."], "labels": [1, 0, 0]}
    assert row["mc2_targets"] == {"choices": ["It glows.", "It melts.", "It sings."], "labels": [1, 1, 0]}


def test_what_is_judged_is_not_among_the_examples(folder: Path) -> None:
    sums = read("gsm8k", folder)
    assert len(sums["test"]) == 300
    assert [row["question"] for row in sums["train"]] == [f"What is {number} and 1?" for number in range(10)]
    pronouns = read("winogrande", folder)
    assert len(pronouns["validation"]) == 8
    assert not [row for row in pronouns["train"] if row in pronouns["validation"]]
    assert len(pronouns["train"]) == 12


def test_official_splits_are_used_where_they_are(tmp_path: Path) -> None:
    published.write(tmp_path)
    row = {"question": "Q", "answer": "#### 1"}
    published.lines(tmp_path / "gsm8k" / "test.jsonl", [row])
    dev = {"sentence": "_ slept.", "option1": "Ann", "option2": "Eve", "answer": "1"}
    published.lines(tmp_path / "winogrande" / "dev.jsonl", [dev])
    assert read("gsm8k", tmp_path)["test"] == [row]
    assert len(read("gsm8k", tmp_path)["train"]) == 310
    assert read("winogrande", tmp_path)["validation"] == [dev]


@pytest.mark.parametrize("task", ["mmlu_anatomy", *READERS])
def test_a_folder_without_the_files_is_refused(task: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="BLOOMERY_DATA"):
        read(task, tmp_path)
    with pytest.raises(DataError, match="SUBJECT_test"):
        subjects(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("mmlu/test/anatomy_test.csv", "What?,one,two,three,0\n"),
        ("mmlu/test/anatomy_test.csv", "What?,one,two,three,four,E\n"),
        ("hellaswag/hellaswag_val_part.jsonl", '{"ctx": 3}\n'),
        ("arc/ARC-Challenge-Dev.jsonl", '{"question": "What?"}\n'),
        ("truthfulqa/mc_task.json", "[3]"),
        ("gsm8k/train.jsonl", "not json\n"),
        ("winogrande/train_s.jsonl", "[]\n"),
        ("humaneval/HumanEval.jsonl", '{"prompt": "def f():"}\n'),
    ],
)
def test_other_forms_are_refused(file: str, content: str, tmp_path: Path) -> None:
    published.write(tmp_path)
    (tmp_path / file).write_text(content)
    task = {"mmlu": "mmlu_anatomy", "arc": "arc_challenge", "truthfulqa": "truthfulqa_mc2"}.get(
        (family := file.split("/")[0]), family
    )
    with pytest.raises(DataError, match="published form"):
        read(task, tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("task", COUNTS)
def test_the_published_files_are_read_whole(task: str) -> None:
    split, count = COUNTS[task]
    assert len(read(task, REAL)[split]) == count
