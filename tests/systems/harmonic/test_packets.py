"""Packets: assigned by what they say, routed as by a brute force, added to without moving what was there."""

import json
import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.errors import DataError
from bloomery.systems.harmonic.packets import ROOM, Shelf, gathered, route, shelve

SUBJECTS = {
    "iron": ["furnace", "ore", "slag", "smelt", "hammer", "anvil", "bloom", "bellows", "charcoal", "tongs"],
    "sea": ["sail", "mast", "keel", "harbour", "tide", "anchor", "rudder", "wave", "captain", "gull"],
    "bread": ["flour", "yeast", "oven", "crust", "dough", "knead", "salt", "loaf", "crumb", "baker"],
}
COMMON = ["the", "of", "and", "a", "in", "to", "is", "with", "for", "it"]


def text(subject: str, number: int) -> str:
    draw = random.Random(f"{subject} {number}")
    return " ".join(draw.sample(SUBJECTS[subject], 6) + draw.sample(COMMON, 6))


def packets(numbers: range = range(6)) -> dict[str, str]:
    return {f"{subject}{number}": text(subject, number) for number in numbers for subject in SUBJECTS}


def subject(name: str) -> str:
    return name.rstrip("0123456789")


def test_documents_of_one_file_are_one_packet() -> None:
    documents = [("a.py::f", "one"), ("b.py::g", "two"), ("a.py::h", "three"), ("c.txt", "four")]
    assert gathered(documents) == {"a.py": "one\n\nthree", "b.py": "two", "c.txt": "four"}


def test_packets_of_one_subject_come_together() -> None:
    shelf = shelve(packets(), 3)
    for one in range(3):
        assert len({subject(name) for name in shelf.held_by(one)}) == 1
        assert len(shelf.held_by(one)) == 6
    assert list(shelf.places) == list(packets())


def test_a_query_goes_to_the_specialist_of_its_subject_and_as_a_brute_force_says() -> None:
    shelf = shelve(packets(), 3)
    relevance = shelf.relevance()
    for name in SUBJECTS:
        query = "Is it the " + " and the ".join(SUBJECTS[name][:3]) + "?"
        found = route(relevance, 3, query)
        assert {subject(one) for one in shelf.held_by(found)} == {name}
        assert found == slow_route(packets(), shelf, query)


def test_packets_that_say_next_to_nothing_begin_no_specialist() -> None:
    shelf = shelve({**packets(), **{f"empty{n}": f"the x{n}" for n in range(6)}}, 3)
    for one in range(3):
        assert len({subject(name) for name in shelf.held_by(one)} - {"empty"}) == 1


def slow_route(texts: dict[str, str], shelf: Shelf, query: str) -> int:
    """The formula, word by word."""
    words = {name: set(re.findall(r"\w+", one.lower())) for name, one in texts.items()}

    def idf(word: str) -> float:
        return math.log((1 + len(words)) / (1 + sum(word in one for one in words.values())))

    asked = set(re.findall(r"\w+", query.lower()))
    best, place = -1.0, 0
    for specialist in range(shelf.specialists):
        for name in shelf.held_by(specialist):
            score = sum(idf(word) for word in asked if word in words[name])
            if score > best + 1e-12:
                best, place = score, specialist
    return place


def test_adding_moves_nothing_and_says_who_has_grown() -> None:
    shelf = shelve(packets(), 3)
    more = shelf.added({"sea90": text("sea", 90), "sea91": text("sea", 91)})
    assert {name: more.places[name] for name in shelf.places} == shelf.places
    sea = shelf.places["sea0"]
    assert more.grown(shelf) == (sea,)
    assert more.places["sea90"] == more.places["sea91"] == sea
    assert shelf.added({}).grown(shelf) == ()
    assert shelf.added({"sea0": text("sea", 0)}) == shelf, "what is there already is not added again"
    assert Shelf.from_json(json.loads(json.dumps(more.to_json()))) == more


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text("abc ", min_size=1, max_size=12), min_size=4, max_size=14),
    st.lists(st.text("abcd ", max_size=12), max_size=6),
    st.integers(1, 4),
)
def test_whatever_is_added_keeps_every_assignment_and_order_of_arrival_in_groups_does_not_matter(
    first: list[str], later: list[str], specialists: int
) -> None:
    shelf = shelve({f"p{n}": one for n, one in enumerate(first)}, specialists)
    assert {shelf.places[name] for name in shelf.places} == set(range(specialists)), "none is without a packet"
    assert max(len(shelf.held_by(one)) for one in range(specialists)) <= math.ceil(ROOM * len(first) / specialists)
    new = {f"q{n}": one for n, one in enumerate(later)}
    at_once = shelf.added(new)
    one_by_one = shelf
    for name, one in new.items():
        one_by_one = one_by_one.added({name: one})
    assert at_once == one_by_one
    assert {name: at_once.places[name] for name in shelf.places} == shelf.places
    assert set(at_once.grown(shelf)) == {at_once.places[name] for name in new}


def test_too_few_packets_and_changed_ones_are_refused() -> None:
    with pytest.raises(DataError, match="2 packets for 3"):
        shelve({"a": "x", "b": "y"}, 3)
    with pytest.raises(DataError, match="another text than before"):
        shelve(packets(), 3).added({"sea0": "something else"})
