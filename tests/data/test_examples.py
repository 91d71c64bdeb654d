"""Made data: what is written is what is read, whoever wrote it, and nothing untraceable gets in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data.examples import (
    CARD,
    EXAMPLES,
    Example,
    documents_of,
    joined,
    read_examples,
    write_examples,
)
from bloomery.errors import DataError

ONE = Example("Q: 2 + 2\nA:", "4", "math", {"item": "math/add [2,2]"})
OTHER = Example('def f(x):\n    """Twice."""\n', "    return 2 * x\n", "code", {"item": "code/number_1", "round": 3})


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    card = write_examples(tmp_path / "data", [ONE, OTHER, ONE], {"kind": "self_play", "dropped": {"repeated": 2}})
    assert read_examples(tmp_path / "data") == [ONE, OTHER, ONE]
    assert card["examples"] == 3
    assert card["categories"] == {"code": 1, "math": 2}
    assert json.loads((tmp_path / "data" / CARD).read_text())["made_by"]["dropped"] == {"repeated": 2}


@given(
    st.lists(st.tuples(st.text(), st.text().filter(str.strip), st.dictionaries(st.text(), st.integers(), min_size=1)))
)
def test_any_text_survives(drawn: list[tuple[str, str, dict[str, int]]]) -> None:
    import tempfile

    examples = [Example(prompt, response, "any", origin) for prompt, response, origin in drawn]
    with tempfile.TemporaryDirectory() as folder:
        write_examples(Path(folder) / "data", examples, {})
        assert read_examples(Path(folder) / "data") == examples


def test_the_content_does_not_tell_who_wrote_it(tmp_path: Path) -> None:
    cards = [write_examples(tmp_path / name, [ONE, OTHER], {"kind": name}) for name in ("a", "b")]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert write_examples(tmp_path / "c", [OTHER, ONE], {"kind": "a"})["sha256"] != cards[0]["sha256"]


def test_as_documents_they_know_where_the_prompt_ends() -> None:
    one, other = documents_of([ONE, OTHER], "won")
    assert (one.name, other.name) == ("won#0", "won#1")
    assert one.text == "Q: 2 + 2\nA: 4"
    assert one.text[: one.prompt] == ONE.prompt
    assert other.text[other.prompt :] == OTHER.response  # after white space nothing is put between
    assert joined("", "all of it") == "all of it"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"response": " \n"}, "response"), ({"category": ""}, "category"), ({"origin": {}}, "origin")],
)
def test_what_cannot_be_learned_or_traced_is_refused(wrong: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        write_examples(tmp_path / "data", [ONE, replace(ONE, **wrong)], {})
    assert not (tmp_path / "data").exists()


def test_none_at_all_are_allowed(tmp_path: Path) -> None:
    assert write_examples(tmp_path / "data", [], {})["examples"] == 0
    assert read_examples(tmp_path / "data") == []


def test_a_folder_that_was_changed_is_refused(tmp_path: Path) -> None:
    write_examples(tmp_path, [ONE], {})
    (tmp_path / EXAMPLES).write_text((tmp_path / EXAMPLES).read_text().replace('"4"', '"5"'))
    with pytest.raises(DataError, match="card"):
        read_examples(tmp_path)
    (tmp_path / CARD).unlink()
    with pytest.raises(DataError, match="no examples can be read"):
        read_examples(tmp_path)
