"""Packets that come while a cascade serves: placed as by a brute force, kept through kills, told who has grown."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine.events import read_events
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.cascade.routing import CONNECTIONS, Relevance, packets_of, route, words_of
from bloomery.stages.packets import DOCUMENTS, LARGEST, PLACES, Additions, grown, identity
from support.cascades import card

OWN = {
    "iron": "The furnace smelts ore and slag.\n\nA hammer and an anvil shape the bloom.",
    "sea": "The mast and the keel of a sail boat.\n\nThe tide lifts the anchor of the boat.",
    "bread": "Flour and yeast make the dough.\n\nThe oven bakes a crust on the loaf.",
}
FORGE = card(
    {"model": {}, **{name: {"packets": [f"{name}.txt"]} for name in OWN}}, routing="idf"
)  # members without packets keep their place


def relevance(texts: Mapping[str, str] = OWN) -> Relevance:
    return Relevance.of({name: packets_of(text) for name, text in texts.items()})


def first_expert(additions: Additions, query: str) -> str:
    weights = {name: [0.0] * CONNECTIONS for name in FORGE.names}
    return route(FORGE, additions.relevance, words_of(query), weights)[1]


def slow_place(held: Mapping[str, list[set[str]]], text: str) -> str:
    """Whose packets say most of what is rare in it, word by word; idf of the first packets only."""
    import math
    import re

    first = [words for name in OWN for words in (set(re.findall(r"\w+", p.lower())) for p in OWN[name].split("\n\n"))]
    asked = set(re.findall(r"\w+", text.lower()))

    def idf(word: str) -> float:
        return math.log((1 + len(first)) / (1 + sum(word in one for one in first)))

    whole = sum(map(idf, asked))
    scores = {
        name: sum(idf(w) * sum(w in one for one in several) / len(several) for w in asked) / whole if whole else 0.0
        for name, several in held.items()
    }
    return max(scores, key=lambda name: round(scores[name], 12))


def test_what_comes_is_routed_at_once_to_whom_it_is_nearest(tmp_path: Path) -> None:
    with Additions(tmp_path, FORGE, relevance()) as additions:
        query = "Where does the quartermaster keep the astrolabe?"
        assert first_expert(additions, query) == "iron", "nobody knows, and it was declared first"
        told = additions.add("stores.txt", "The quartermaster keeps the astrolabe by the mast of the boat.")
        assert (told["member"], told["new"]) == ("sea", True)
        assert first_expert(additions, query) == "sea"
        again = additions.add("copy.txt", "The quartermaster  keeps the astrolabe\nby the mast of the boat.")
        assert again == {"id": told["id"], "name": "copy.txt", "member": "sea", "new": False}
        held = {one.member: one for one in additions.holdings()}
        assert [name for name, one in held.items() if one.grown] == ["sea"]
        assert (held["sea"].packets, held["sea"].added) == (3, 1)
        known = additions.add("known.txt", "Flour and yeast make the dough.")
        assert (known["member"], known["new"]) == ("bread", False), "it is one of its own"
    assert grown(relevance(), tmp_path) == ("sea",)


WORDS = sorted({word for text in OWN.values() for word in words_of(text)} | {"astrolabe", "xylem"})
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), max_size=8)


@given(TEXTS, st.data())
def test_every_place_is_that_of_a_slow_search_and_stays_through_any_kill(texts: list[str], data: st.DataObject) -> None:
    """A kill: only a beginning of the log is there, or the last document without its line."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = {one: [set(words) for words in packets_of(text)] for one, text in OWN.items()}
        with Additions(folder, FORGE, relevance()) as additions:
            for text in texts:
                told = additions.add("x", text)
                if told["new"]:
                    assert told["member"] == slow_place(held, text)
                    held[told["member"]].append(set(words_of(text)))
            expected = additions.relevance
        log = folder / PLACES
        content = log.read_bytes() if log.exists() else b""
        lines = content.splitlines(keepends=True)
        if lines:
            log.write_bytes(content[: len(content) - data.draw(st.integers(0, len(lines[-1])))])
        (folder / DOCUMENTS).mkdir(exist_ok=True)
        (folder / DOCUMENTS / ".half.txt.1.tmp").write_text("half a pack")
        with Additions(folder, FORGE, relevance()) as additions:
            assert additions.relevance == expected
            assert not list((folder / DOCUMENTS).glob(".*"))
        for one, text in ((identity(text), text) for text in texts):
            file = folder / DOCUMENTS / f"{one}.txt"
            assert not file.exists() or file.read_text() == text


def test_many_at_once_are_each_kept_once(tmp_path: Path) -> None:
    texts = [f"the astrolabe number {number} hangs by the mast" for number in range(24)]
    seen: list[bool] = []
    with Additions(tmp_path, FORGE, relevance()) as additions:

        def put() -> None:
            for text in texts:
                additions.add("x", text)
                held = additions.relevance.packets["sea"]
                seen.append(words_of(text) in held and len(set(held)) == len(held))

        threads = [threading.Thread(target=put) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 96
    assert len(read_events(tmp_path / PLACES)) == 24
    assert len(list((tmp_path / DOCUMENTS).glob("*.txt"))) == 24


def test_a_cascade_made_since_has_learned_it(tmp_path: Path) -> None:
    text = "The quartermaster keeps the astrolabe by the mast of the boat."
    with Additions(tmp_path, FORGE, relevance()) as additions:
        additions.add("x", text)
        additions.add("y", "Yeast in the dough of the baker.")
    since = relevance({**OWN, "sea": f"{OWN['sea']}\n\n{text}"})
    assert grown(since, tmp_path) == ("bread",)
    with Additions(tmp_path, FORGE, since) as additions:
        assert [one.member for one in additions.holdings() if one.grown] == ["bread"]
    fewer = card({"model": {}, "iron": {"packets": ["a"]}, "bread": {"packets": ["b"]}}, routing="idf")
    without = relevance({name: OWN[name] for name in ("iron", "bread")})
    with Additions(tmp_path, fewer, without) as additions:
        assert {one.member: one.added for one in additions.holdings()} == {"iron": 1, "bread": 1}
        assert (additions.folder / PLACES).read_text().count('"member":"iron"') == 1


def test_what_is_no_packet_is_refused_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Additions(tmp_path, FORGE, relevance()) as additions:
        before = additions.relevance
        for text in ("", " .,;\n", "word " * LARGEST):
            with pytest.raises(DataError):
                additions.add("x", text)

        def full(*_: object, **__: object) -> None:
            raise ArtifactError("disk", "full")

        monkeypatch.setattr(additions._log, "write", full)
        with pytest.raises(ArtifactError):
            additions.add("x", "the mast of the ship")
        assert additions.relevance is before
        assert not list((tmp_path / DOCUMENTS).glob("*.txt"))
        with pytest.raises(ArtifactError, match="another process"), Additions(tmp_path, FORGE, relevance()):
            pass
    plain = Additions(tmp_path / "plain", card({"model": {}}), Relevance.of({}))
    with plain, pytest.raises(DataError, match="none of its members has packets"):
        plain.add("x", "the mast")
    (tmp_path / PLACES).write_text(json.dumps({"event": "packet", "id": "1"}) + "\n" + '{"event": "x"}\n')
    with pytest.raises(ArtifactError, match="lacks 'name'"):
        grown(relevance(), tmp_path)
