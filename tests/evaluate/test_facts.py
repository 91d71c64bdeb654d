"""Prompts that ask for facts go to the nearest expert, all others as if nobody had told them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.evaluate.cascade.routing import CONNECTIONS, FACT, OTHER, Relevance, packets_of, route, words_of
from support.cascades import card

PACKETS = {"sea": "The mast of the boat.\n\nThe tide.", "iron": "The furnace smelts ore.\n\nAn anvil."}
ASKED = "Which month comes after the tide of May?\n\nWhich letter is called the anvil?"
OTHERS = "How many letters are in the anvil?\n\nIf the mast is longer than the tide, which is shorter?"
MEMBERS = {"model": {}, **{name: {"packets": [f"{name}.txt"]} for name in PACKETS}, "broad": {}}
FACTS = {"asked": "facts.txt", "others": "others.txt"}


def relevance(prompts: Relevance | None) -> Relevance:
    return Relevance.of({name: packets_of(text) for name, text in PACKETS.items()}, prompts)


def order(routing: str, prompts: Relevance | None, query: str, **more: object) -> tuple[str, ...]:
    made = card(MEMBERS, routing=routing, **more)
    weights = {name: [0.0] * CONNECTIONS for name in made.names}
    return route(made, relevance(prompts), words_of(query), weights)


KINDS = Relevance.of({FACT: packets_of(ASKED), OTHER: packets_of(OTHERS)})


@pytest.mark.parametrize("routing", ["ordered", "idf", "learned"])
def test_a_fact_goes_to_the_nearest_expert_first(routing: str) -> None:
    assert order(routing, None, "Which month comes after the anvil?")[0] == "model"
    assert order(routing, KINDS, "Which month comes after the anvil?")[0] == "iron"
    assert order(routing, KINDS, "Which month comes after the tide?")[0] == "sea"
    reasoned = "If the mast is longer than the anvil, which is shorter?"
    assert order(routing, KINDS, reasoned) == order(routing, None, reasoned)
    assert order(routing, KINDS, "Which month comes after the anvil?", most=1, last={"ngram": 2}) == ("iron", "ngram")


@given(st.text("abcdef ", max_size=20))
def test_everybody_is_asked_once_and_whoever_asks_what_nobody_knows_is_no_fact(query: str) -> None:
    found = order("idf", KINDS, query)
    assert sorted(found) == sorted(MEMBERS)
    if not words_of(query) & words_of(f"{ASKED} {OTHERS}"):
        assert found == order("idf", None, query)


def test_facts_without_anybody_to_answer_them_are_refused() -> None:
    with pytest.raises(ValueError, match="no member has packets"):
        card({"model": {}}, facts=FACTS)
    assert card(MEMBERS, facts=FACTS).facts is not None
