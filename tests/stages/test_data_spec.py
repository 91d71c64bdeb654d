"""What `data` may say: good plans parse, each mistake is one error with its key path, and nothing heavy is imported."""

import subprocess
import sys
from typing import Any

import pytest

from bloomery.errors import BloomeryError, PlanError, Problems
from bloomery.stages.prepare import parse_data

BYTES = {"kind": "bytes"}


def test_the_quickstart_has_the_splits_of_the_specification_and_test_on_demand() -> None:
    spec = parse_data({"tokenizer": {"kind": "bpe", "vocab": 2048}, "corpus": {"source": "stdlib"}})
    assert spec.splits() == {"corpus": ("train", "dev", "val", "test")}
    assert spec.prepared_splits() == {"corpus": ("train", "dev", "val")}
    quickstart = {"suites": {"text": {"data": "corpus:val"}}, "says": "never looks at the corpus:tests"}
    assert spec.for_plan(quickstart).to_json() == spec.to_json()
    asked = spec.for_plan({"suites": {"text": {"data": "corpus:test"}}})
    assert asked.prepared_splits() == {"corpus": ("train", "dev", "val", "test")}
    assert asked.to_json() != spec.to_json()


def test_an_on_demand_split_is_found_wherever_a_plan_names_it() -> None:
    spec = parse_data({"tokenizer": BYTES, "corpus": {"source": "stdlib"}, "notes": {"source": "docstrings"}})
    for plan in (
        {"stages": [{"config": {"fit_on": ["x", "notes:test"]}}]},
        {"stages": ({"arms": {"a": {"set": {"data": {"notes:test": 1}}}}},)},
    ):
        assert spec.for_plan(plan).wanted == {"notes": ("test",)}


def test_an_on_demand_split_that_a_stage_validates_on_is_made() -> None:
    spec = parse_data({"tokenizer": BYTES, "corpus": {"source": "stdlib"}})
    for settings in ({"validation": {"split": "test"}}, {"validation.split": "test"}):
        assert spec.for_plan({"stages": [{"config": settings}]}).wanted == {"corpus": ("test",)}
    assert spec.for_plan({"stages": [{"config": {"validation": {"split": "dev"}}}]}).wanted == {}


def test_shares_replace_the_default_rule() -> None:
    split = {"train": "80%", "val": "8%", "tune": 0.04, "test": "2/25"}
    data = {
        "tokenizer": {"kind": "words", "vocab": "16k"},
        "corpus": {"source": "text", "folder": "text", "split": split},
    }
    spec = parse_data(data)
    assert spec.splits() == spec.prepared_splits() == {"corpus": ("train", "val", "tune", "test")}
    assert spec.for_plan("corpus:test").wanted == {}
    assert spec.tokenizer.vocab == 16_000


BROKEN: list[tuple[dict[str, Any], str, str, str]] = [
    # data, where, found, hint or expected
    ({"tokenizer": BYTES}, "", "no text is named", "stdlib"),
    ({"corpus": {"source": "stdlib"}}, "", "'tokenizer' is missing", "kind: bpe"),
    ({"tokeniser": BYTES, "corpus": {"source": "stdlib"}}, "", "'tokenizer' is missing", "tokeniser"),
    ({"tokenizer": BYTES, "corpus": {"source": "stdlb"}}, "corpus.source", "unknown source 'stdlb'", "'stdlib'"),
    ({"tokenizer": BYTES, "corpus": {"source": "pg19"}}, "corpus.source", "unknown source", "source: hub, name: pg19"),
    ({"tokenizer": BYTES, "corpus": {}}, "corpus", "'source' is missing", "stdlib"),
    ({"tokenizer": BYTES, "corpus": "stdlib"}, "corpus", "found 'stdlib'", "a mapping"),
    ({"tokenizer": BYTES, "corpus": None}, "corpus", "found nothing", "a mapping"),
    ({"tokenizer": BYTES, "corpus": {"source": ["stdlib"]}}, "corpus.source", "a list", "stdlib"),
    ({"tokenizer": BYTES, "a/b": {"source": "stdlib"}}, "a/b", "cannot name a set", "letter"),
    ({"tokenizer": BYTES, 3: {"source": "stdlib"}}, "3", "cannot name a set", "letter"),
    ({"tokenizer": {"kind": "bpe"}, "c": {"source": "stdlib"}}, "tokenizer", "'vocab' is missing", "vocab"),
    ({"tokenizer": {"kind": "bpe", "vocab": "many"}, "c": {"source": "stdlib"}}, "tokenizer.vocab", "many", "4096"),
    ({"tokenizer": {"kind": "bpe", "vocab": 100}, "c": {"source": "stdlib"}}, "tokenizer.vocab", "100", "257"),
    (
        {"tokenizer": {"kind": "bpe", "vocab": 300, "protect": ["digit"]}, "c": {"source": "stdlib"}},
        "tokenizer.protect.0", "'digit'", "digits",
    ),
    ({"tokenizer": {"kind": "bqe", "vocab": 300}, "c": {"source": "stdlib"}}, "tokenizer.kind", "'bqe'", "'bpe'"),
    ({"tokenizer": BYTES, "c": {"source": "text", "foldr": "x"}}, "c.foldr", "unknown key 'foldr'", "'folder'"),
    ({"tokenizer": BYTES, "c": {"source": "text"}}, "c", "exactly one of", "folder"),
    ({"tokenizer": BYTES, "c": {"source": "text", "folder": "a", "file": "b"}}, "c", "exactly one of", "folder"),
    (
        {"tokenizer": BYTES, "c": {"source": "stdlib", "split": {"train": "80%", "val": "10%"}}},
        "c.split", "sum to 0.9", "1",
    ),
    ({"tokenizer": BYTES, "c": {"source": "stdlib", "split": {"train": "120%"}}}, "c.split.train", "120%", "share"),
    ({"tokenizer": BYTES, "c": {"source": "stdlib", "split": {"a": 1, "b": 0}}}, "c.split.b", "a share of 0", "above"),
    ({"tokenizer": BYTES, "c": {"source": "stdlib", "split": {}}}, "c.split", "sum to 0", "1"),
    ({"tokenizer": BYTES, "c": {"source": "stdlib", "split": {"../x": 1}}}, "c.split", "../x", ""),
    ({"tokenizer": BYTES, "c": {"source": "stdlib", "deduplicate": "words"}}, "c.deduplicate", "'words'", "lines"),
    ({"tokenizer": BYTES, "c": {"source": "hub", "name": "tinystory"}}, "c.name", "unknown preset", "'tinystories'"),
    ({"tokenizer": BYTES, "c": {"source": "hub", "name": "stack-v2"}}, "c.name", "cannot be streamed", "terms"),
    (
        {"tokenizer": {"kind": "bpe", "vocab": 300}, "c": {"source": "stdlib", "split": {"a": 0.5, "b": 0.5}}},
        "c.split", "no split 'train' for the tokenizer", "a or b",
    ),
    (
        {"tokenizer": {"kind": "bpe", "vocab": 300, "fit_on": "c:val"}, "c": {"source": "stdlib"}},
        "tokenizer.fit_on", "text to be judged on", "c:train",
    ),
    (
        {"tokenizer": {"kind": "bpe", "vocab": 300, "fit_on": "corpse"}, "corpus": {"source": "stdlib"}},
        "tokenizer.fit_on", "no set 'corpse'", "'corpus'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "where", "found", "help"), BROKEN)
def test_each_mistake_is_one_error_that_says_where_and_what_next(
    data: dict[str, Any], where: str, found: str, help: str
) -> None:
    with pytest.raises(BloomeryError) as caught:
        parse_data(data)
    error = caught.value
    assert isinstance(error, PlanError)
    assert error.where.startswith(where)
    assert found in error.found
    assert help in error.expected + error.hint


def test_all_mistakes_are_told_at_once() -> None:
    data = {
        "tokenizer": {"kind": "words", "vocab": 300, "protect": []},
        "corpus": {"source": "stdlb"},
        "books": {"source": "text", "folder": "x", "split": {"train": "99%"}},
    }
    with pytest.raises(Problems) as caught:
        parse_data(data)
    assert [problem.where for problem in caught.value.problems] == ["tokenizer.protect", "corpus.source", "books.split"]


def test_parsing_loads_nothing_heavy() -> None:
    program = (
        "import sys; from bloomery.stages.prepare import parse_data;"
        "parse_data({'tokenizer': {'kind': 'bpe', 'vocab': 2048}, 'corpus': {'source': 'stdlib'}}).splits();"
        "print([name for name in ('torch', 'numpy', 'tokenizers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
