"""Examples from files of others: prompt and response by field or from conversations, and the good ones kept."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.data.corpus import Document
from bloomery.data.distil import Distilled, quality
from bloomery.data.files import Fields, JsonLines
from bloomery.errors import BloomeryError, DataError
from bloomery.stages.prepare import parse_data, prepare

GOOD = "The capital of France is Paris, which lies on the Seine."
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello to you."},
    {"role": "user", "content": "Which city lies on the Seine?"},
    {"role": "assistant", "content": GOOD},
]


def write(file: Path, *records: Any) -> Path:
    content = "".join(json.dumps(record) + "\n" for record in records)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(content.encode()))
    else:
        file.write_text(content)
    return file


def test_prompt_and_response_are_fields_and_the_category_a_field_or_the_file(tmp_path: Path) -> None:
    write(tmp_path / "math.jsonl", {"q": "1 + 1?", "a": "2", "kind": "sum"})
    write(tmp_path / "deep" / "code.jsonl.gz", {"q": "def f():\n", "a": "    pass", "kind": "python"})
    fields = Fields(category="kind", prompt="q", response="a")
    by_field = list(JsonLines(tmp_path, fields).documents())
    assert by_field == [
        Document("deep/code.jsonl.gz#1", "def f():\n    pass", "python", prompt=9),
        Document("math.jsonl#1", "1 + 1? 2", "sum", prompt=6),
    ]
    by_file = JsonLines(tmp_path, Fields(prompt="q", response="a"), category_by_file=True)
    assert [one.category for one in by_file.documents()] == ["code", "math"]
    with pytest.raises(DataError, match="no field 'answer'"):
        list(JsonLines(tmp_path, Fields(prompt="q", response="answer")).documents())


def test_every_answer_of_a_conversation_is_an_example_and_they_never_part(tmp_path: Path) -> None:
    file = write(tmp_path / "log.jsonl", {"messages": TALK, "kind": "chat"})
    first, second = JsonLines(file, Fields(messages="messages", category="kind")).documents()
    assert first.text == "system: Be brief.\nuser: Hello\nassistant: Hello to you."
    assert second.text[: second.prompt] == (
        "system: Be brief.\nuser: Hello\nassistant: Hello to you.\nuser: Which city lies on the Seine?\nassistant:"
    )
    assert second.text[second.prompt :] == f" {GOOD}"
    assert (first.name, second.name) == ("log.jsonl#1.2", "log.jsonl#1.4")
    assert first.group == second.group == "log.jsonl#1"
    assert first.category == "chat"
    for broken in ({"messages": "hi"}, {"messages": [{"role": "user"}]}, {"messages": ["hi"]}, 3, {}):
        with pytest.raises(DataError):
            list(JsonLines(write(tmp_path / "b.jsonl", broken), Fields(messages="messages")).documents())


@pytest.mark.parametrize(
    ("prompt", "response", "part", "value"),
    [
        ("Where?", "Paris", "length", 0.25),
        ("Where?", "x" * 16_000, "length", 0.5),
        ("Where?", "round and round we go " * 8, "repetition", 5 / 37),  # of 37 runs of four words 5 are different
        ("Where?", "I'm sorry, but I cannot say where that is.", "refusal", 0.0),
        ("Where?", "I can\u2019t help with that question, sadly.", "refusal", 0.0),
        ("Say where Paris lies in France", "Say where Paris lies in France", "echo", 0.0),
        ("a b c d e f", "a b c d x y z u v w", "echo", 1 - 2 / 8),
        ("Write f", "Here: ```python\ndef f(:\n``` and ```python\nx = 1\n```", "code", 0.5),
        ("Write f", "Here it goes on and on: ```python\nx = (1", "code", 0.0),
        ("Write f", f"```python\n{'-' * 20_000}1\n```", "code", 0.0),  # more than the parser's stack holds
    ],
)  # fmt: skip
def test_each_part_of_the_quality_by_hand(prompt: str, response: str, part: str, value: float) -> None:
    found = quality(prompt, response)
    assert found[part] == pytest.approx(value)
    assert all(0 <= one <= 1 for one in found.values())
    assert min(quality("Which city?", GOOD).values()) == 1.0


def test_what_is_dropped_is_counted_by_its_reason(tmp_path: Path) -> None:
    pairs = [
        {"q": "Which city?", "a": GOOD}, {"q": "Which city?", "a": "Paris"}, {"q": "Which?", "a": "Sorry, I cannot."},
        {"q": "Why?", "a": "As an AI, I have no opinions on such things."}, {"q": "Who?", "a": f"Somebody. {GOOD}"},
    ]  # fmt: skip
    source = Distilled(JsonLines(write(tmp_path / "log.jsonl", *pairs), Fields(prompt="q", response="a")), 0.5)
    for _ in range(2):
        assert [one.name for one in source.documents()] == ["log.jsonl#1", "log.jsonl#5"]
        assert source.told() == {"kept": 2, "dropped": {"length": 1, "refusal": 2}}


def test_in_a_plan_the_counts_stand_in_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "a.jsonl", *({"messages": TALK, "n": n} for n in range(20)))
    source = {
        "source": "jsonl",
        "folder": "logs",
        "messages": "messages",
        "category_by": "file",
        "distil": {"at_least": "70%"},
    }
    split = {"train": "80%", "val": "20%"}
    data = {"tokenizer": {"kind": "bytes"}, "logs": {**source, "split": split}}
    prepared = prepare(parse_data(data), tmp_path / "data", roots=[tmp_path])
    assert prepared.manifest["sets"]["logs"]["distilled"] == {"kept": 20, "dropped": {"length": 20}}
    part = prepared.part("logs:train")
    assert set(part.categories) == {"a"}
    assert (part.prompts > 0).all()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prompt": "q"}, "go together"),
        ({"prompt": "q", "response": "a", "messages": "m"}, "either"),
        ({"prompt": "q", "response": "a", "deduplicate": "lines"}, "deduplicate"),
        ({"distil": {}}, "distil"),
        ({"category": "kind", "category_by": "file"}, "category_by"),
    ],
)
def test_keys_that_mean_nothing_together_are_refused(keys: dict[str, Any], said: str) -> None:
    data = {"tokenizer": {"kind": "bytes"}, "pairs": {"source": "jsonl", "file": "a.jsonl", **keys}}
    with pytest.raises(BloomeryError, match=said):
        parse_data(data)
