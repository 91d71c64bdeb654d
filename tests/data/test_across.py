"""The same text under several sets' names: found against a plain comparison of all documents."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bloomery.data.across import document_keys, shared_documents
from bloomery.data.split import SHORTEST_LINE
from bloomery.stages.prepare import parse_data, prepare
from support.command import write_text

PARTS = ("a:train", "a:val", "b:train", "b:val", "c:train")
SAMPLES = [f"text {n} that is rather long" for n in range(6)] + ["short", " short\n"]
TEXTS = st.lists(st.sampled_from(SAMPLES), max_size=5)


@given(st.fixed_dictionaries(dict.fromkeys(PARTS, TEXTS)))
def test_shared_documents_against_a_plain_comparison(parts: dict[str, list[str]]) -> None:
    found = shared_documents({part: document_keys(texts) for part, texts in parts.items()})
    for one in PARTS:
        for other in PARTS:
            same = {a.strip() for a in parts[one] for b in parts[other] if a.strip() == b.strip()}
            expected = len([text for text in same if len(text) >= SHORTEST_LINE]) if one[0] != other[0] else 0
            assert found.get(one, {}).get(other, 0) == expected


def test_the_same_files_with_other_shares_are_seen_when_prepared(tmp_path: Path) -> None:
    write_text(tmp_path / "text")
    data = {
        "tokenizer": {"kind": "bytes"},
        "corpus": {"source": "text", "folder": "text", "split": {"train": "70%", "val": "30%"}},
        "again": {"source": "text", "folder": "text", "split": {"val": "40%", "train": "60%"}},
        "alike": {"source": "text", "folder": "text", "split": {"train": "70%", "val": "30%"}},
    }
    prepared = prepare(parse_data(data), tmp_path / "data", roots=[tmp_path])
    names = {part: set(prepared.part(part).names) for part in prepared.parts()}
    across = prepared.manifest["across"]
    for one in names:
        for other in names:
            if one.partition(":")[0] != other.partition(":")[0]:
                assert across.get(one, {}).get(other, 0) == len(names[one] & names[other])
    assert across["again:val"]["corpus:train"] > 0
    assert "corpus:train" not in across["alike:val"]
