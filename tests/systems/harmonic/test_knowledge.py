"""Facts go to the specialists where a model knows less than it concludes, and the whole is scored again (seed 8.3)."""

from bloomery.data.prepared import Prepared
from bloomery.evaluate.cascade.routing import FACT, OTHER, Relevance, packets_of, route, words_of
from bloomery.evaluate.gauntlet.item import Item
from bloomery.evaluate.gauntlet.source import items_of
from bloomery.stages.gauntlet import _chosen, judged
from bloomery.systems.harmonic.cascade import asked_of
from support.cascades import card

FORGE = {"model": {}, "reader": {"packets": ["x"]}}


def test_a_model_without_facts_is_scored_again_with_who_knows_them(asked_data: Prepared) -> None:
    """Two who know all answers of some categories and say nothing in the others, routed by the prompts of train."""
    asked, others = asked_of(asked_data, "skills:train")
    own = Relevance.of({"reader": packets_of(asked)})
    routed = Relevance.of(own.packets, Relevance.of({FACT: packets_of(asked), OTHER: packets_of(others)}))
    items = _chosen(items_of(asked_data.part("skills:test"), asked_data.tokenizer), None)
    made = card(FORGE, routing="idf")

    def scores(relevance: Relevance) -> dict[str, float]:
        def answer(item: Item) -> str:
            first = route(made, relevance, words_of(item.prompt), {})[0]
            return item.reference if (first == "reader") == (item.category == "factual") else ""

        found = judged(items, {}, answer, "x").measurements
        return {one.name: one.value for one in found if one.who == "candidate"}

    before, after = scores(own), scores(routed)
    assert before["factual/accuracy"] == 0
    assert before["factual/behind_reasoning"] == 1
    assert after["factual/accuracy"] == 1
    assert after["factual/behind_reasoning"] == 0
    assert after["all/accuracy"] > before["all/accuracy"]
    assert sum(after[f"{one}/accuracy"] for one in items) >= len(items) - 0.5, "few others are taken for facts"
