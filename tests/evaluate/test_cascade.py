"""Who is asked, whose answer is taken, what votes do: against formulas written out, and as properties of histories."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.errors import TrainingError
from bloomery.evaluate.cascade.answering import Reader, answer
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.confidence import Confidence
from bloomery.evaluate.cascade.feedback import Unknown, Vote, Votes, thousandths
from bloomery.evaluate.cascade.routing import CONNECTIONS, Relevance, connections_of, packets_of, route, words_of
from bloomery.evaluate.sampling import Sampling
from support.scorers import Constant, Uniform
from support.writers import writer

BYTES = BytesTokenizer()
NONE = Relevance.of({})


def card(*members: Any, **more: Any) -> Card:
    """Members by name, or by all that is said of them."""
    written = [{"model": "x", **({"name": each} if isinstance(each, str) else each)} for each in members]
    return Card.model_validate({"cascade": 1, "name": "forge", "members": written, **more})


# Cards


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cascade": 2}, "1"),
        ({"members": []}, "at least 1"),
        ({"members": [{"name": "a", "model": "x"}, {"name": "a", "model": "y"}]}, "two members are called 'a'"),
        ({"last": {"ngram": 2, "name": "a"}}, "two members are called 'a'"),
        ({"last": {"ngram": 6}}, "5"),
        ({"routing": "idf"}, "no member has packets"),
        ({"routing": "random"}, "ordered"),
        ({"learning": {"step": 2}}, "passes a bound at once"),
        ({"learning": {"low": 0}}, "less than 0"),
        ({"members": [{"name": "a", "model": "x", "confidence": float("nan")}]}, "finite"),
        ({"members": [{"name": "a/b", "model": "x"}]}, "pattern"),
        ({"members": [{"name": "a", "model": "x", "timeout_seconds": 0}]}, "greater than 0"),
        ({"unheard": 1}, "not permitted"),
    ],
)
def test_cards_that_mean_nothing(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Card.model_validate({"cascade": 1, "name": "f", "members": [{"name": "a", "model": "x"}]} | changes)


# Routing

TEXTS = {"smith": "Iron and steel.\n\nThe bellows and the furnace.", "cook": "Bread and butter, and the oven."}


def relevance_by_hand(texts: dict[str, str], member: str, prompt: str) -> float:
    """The formula of routing.py, word by word."""
    packets = {name: [set(p.lower().replace(".", "").replace(",", "").split()) for p in text.split("\n\n")]
               for name, text in texts.items()}  # fmt: skip
    every = [packet for several in packets.values() for packet in several]
    idf = {w: math.log((1 + len(every)) / (1 + sum(w in p for p in every))) for w in prompt.split()}
    best = max(sum(idf[w] for w in idf if w in packet) for packet in packets[member])
    return best / sum(idf.values())


@pytest.mark.parametrize(
    "prompt", ["iron furnace", "the bread of the smith", "iron", "nothing at all", "bellows and iron"]
)
def test_relevance_is_the_formula(prompt: str) -> None:
    relevance = Relevance.of({name: packets_of(text) for name, text in TEXTS.items()})
    for name in TEXTS:
        assert relevance(name, words_of(prompt)) == pytest.approx(relevance_by_hand(TEXTS, name, prompt), abs=1e-12)
    assert relevance("broad", words_of(prompt)) == 0
    assert relevance("smith", words_of("and")) == 0.0  # stands in most packets, and in no way tells them apart
    assert relevance("smith", frozenset()) == 0


def test_experts_share_their_places_and_the_others_keep_theirs() -> None:
    relevance = Relevance.of({name: packets_of(text) for name, text in TEXTS.items()})
    expert = {"packets": ["x.txt"]}
    made = card(
        "core", {"name": "smith", **expert}, "broad", {"name": "cook", **expert}, routing="idf", last={"ngram": 3}
    )
    ask = lambda prompt: route(made, relevance, words_of(prompt), {})  # noqa: E731
    assert ask("fresh bread") == ("core", "cook", "broad", "smith", "ngram")
    assert ask("fresh steel") == ("core", "smith", "broad", "cook", "ngram")
    assert ask("the weather") == ("core", "smith", "broad", "cook", "ngram")
    ordered = made.model_copy(update={"routing": "ordered"})
    assert route(ordered, relevance, words_of("fresh bread"), {}) == ("core", "smith", "broad", "cook", "ngram")
    few = made.model_copy(update={"most": 2})
    assert route(few, relevance, words_of("fresh bread"), {}) == ("core", "cook", "ngram")


def test_connections_are_stable_bounded_and_shared_by_words() -> None:
    some = connections_of(words_of("Iron from ORE"))
    assert some == connections_of(words_of("ore, iron; from!"))
    assert some[0] == 0
    assert connections_of(frozenset()) == (0,)
    assert all(0 <= each < CONNECTIONS for each in connections_of({f"w{n}" for n in range(5000)}))
    assert set(connections_of({"iron"})) <= set(some)


def test_votes_have_to_outweigh_the_distance_of_two_places() -> None:
    made = card("a", "b", routing="learned", last={"ngram": 2})
    votes = Votes(made.learning, made.names)
    words = words_of("iron ore")
    orders = []
    for number in range(7):
        orders.append(route(made, NONE, words, votes.weights()))
        votes.cast(Vote(str(number), f"answer {number}", "b", connections_of(words), 1000))
    assert orders == [("a", "b", "ngram")] * 6 + [("b", "a", "ngram")]  # half a place's distance, in steps of 0.1
    other = words_of("bread butter oven cake")
    assert route(made, NONE, other, votes.weights()) == ("a", "b", "ngram")


# Votes


def weights_from_scratch(made: Card, cast: Sequence[Vote], undone: set[str]) -> dict[str, tuple[float, ...]]:
    """The definition: of every answer the newest vote that was not undone, summed, then clipped."""
    newest: dict[str, Vote] = {}
    for vote in cast:
        if vote.event not in undone:
            newest[vote.answer] = vote
    sums = {name: [0] * CONNECTIONS for name in made.names}
    for vote in newest.values():
        for each in vote.connections:
            sums[vote.member][each] += vote.score
    low, high, step = made.learning.low, made.learning.high, made.learning.step
    return {name: tuple(min(high, max(low, step * each / 1000)) for each in row) for name, row in sums.items()}


HISTORIES = st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1), st.booleans()), max_size=40)


@given(HISTORIES, st.randoms(use_true_random=False))
def test_weights_depend_on_the_standing_votes_alone(history: list[Any], draw: random.Random) -> None:
    made = card("a", "b", learning={"step": 0.5, "low": -0.5, "high": 1.0})  # bounds are reached soon
    cast = [
        Vote(str(number), f"answer {which}", "ab"[which % 2], connections_of({f"w{which}", "ore"}), thousandths(score))
        for number, (which, score, _) in enumerate(history)
    ]
    undone = {vote.event for vote, (_, _, gone) in zip(cast, history, strict=True) if gone}
    expected = weights_from_scratch(made, cast, undone)
    at_the_end, at_once, backwards = (Votes(made.learning, made.names) for _ in range(3))
    for vote in cast:
        for votes in (at_the_end, at_once, backwards):
            votes.cast(vote)
        if vote.event in undone:
            without = at_once.weights_without(vote)
            assert at_once.undo(vote.event) == vote
            assert at_once.weights_at(vote) == without
    shuffled = sorted(undone)
    draw.shuffle(shuffled)
    for votes, order in ((at_the_end, shuffled), (backwards, shuffled[::-1])):
        for event in order:
            votes.undo(event)
    assert at_the_end.weights() == at_once.weights() == backwards.weights() == expected
    for vote in cast:
        if vote.event not in undone:
            at_the_end.undo(vote.event)
    assert at_the_end.weights() == Votes(made.learning, made.names).weights()


def test_a_step_is_bounded_and_touches_only_who_answered_what() -> None:
    made = card("a", "b")
    votes = Votes(made.learning, made.names)
    vote = Vote("e", "x", "a", (0, 5, 9), thousandths(-0.25))
    votes.cast(vote)
    found = votes.weights()
    assert {place: value for place, value in enumerate(found["a"]) if value} == {0: -0.025, 5: -0.025, 9: -0.025}
    assert not any(found["b"])
    for number in range(50):
        votes.cast(Vote(f"e{number}", f"x{number}", "a", (5,), 1000))
    assert votes.weights()["a"][5] == 1.0
    with pytest.raises(Unknown):
        votes.undo("nobody")
    with pytest.raises(ValueError, match="twice"):
        votes.cast(vote)


# Confidence


def test_confidence_is_the_geometric_mean() -> None:
    found = Confidence()
    assert found.value == 0
    for probability in (0.5, 0.125, 1.0):
        found.add(math.log(probability))
    assert found.value == pytest.approx((0.5 * 0.125) ** (1 / 3))


@pytest.mark.parametrize(
    ("tokens", "ended", "hold", "verdict"),
    [
        (2, False, None, "wait"),
        (2, False, 3, "wait"),
        (3, False, 3, "take"),
        (2, True, 3, "take"),
        (9, True, None, "take"),
    ],
)
def test_when_an_answer_is_judged(tokens: int, ended: bool, hold: int | None, verdict: str) -> None:
    found = Confidence(tokens, tokens * math.log(0.5))
    assert found.verdict(0.49, ended=ended, hold=hold) == verdict
    assert found.verdict(0.51, ended=ended, hold=hold) == ("wait" if verdict == "wait" else "fall")


# A whole cascade


class Broken:
    vocab = 257

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.full((*tokens.shape, 257), math.nan)


def test_an_answer_is_of_the_first_who_is_sure_enough() -> None:
    made = card({"name": "broken"}, {"name": "vague", "confidence": 0.5}, {"name": "sure", "confidence": 0.9}, "model")
    readers = {
        "broken": Reader(Broken(), BYTES), "vague": Reader(Uniform(257), BYTES),
        "sure": Reader(Constant(257, ord("k")), BYTES), "model": Reader(writer(), BYTES),
    }  # fmt: skip
    wish = Sampling(max_tokens=6, temperature=0.0, logprobs=0)
    found = answer(made, readers, made.names, "ore", wish)
    assert (found.text, found.member) == ("kkkkkk", "sure")
    assert found.route == (("broken", "failed"), ("vague", "unsure"), ("sure", "answered"))
    assert found.confidence == pytest.approx(1, abs=1e-4)
    last = answer(made, readers, ("broken", "vague"), "ore", wish)
    assert (last.member, last.confidence) == ("vague", pytest.approx(1 / 257))
    again = answer(made, readers, ("vague", "broken"), "ore", wish)  # nobody better is left
    assert (again.text, again.route) == (last.text, (("vague", "unsure"), ("broken", "failed"), ("vague", "answered")))
    with pytest.raises(TrainingError, match="broken failed"):
        answer(made, readers, ("broken",), "ore", wish)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_confidence_is_of_the_models_own_distribution(temperature: float) -> None:
    """Against one forward pass over prompt and answer, whatever the temperature and the limits were."""
    model = writer(3)
    said = (
        answer(card("m"), {"m": Reader(model, BYTES)}, ("m",), "ore", Sampling(
            max_tokens=5, temperature=temperature, top_k=40, repetition_penalty=1.3, seed=seed, logprobs=0))
        for seed in range(300)
    )  # fmt: skip
    found = next(each for each in said if each.text.isascii() and len(each.text) > 1)  # no byte was lost in showing it
    tokens = [256, *b"ore", *found.text.encode()]
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits
    assert logits is not None
    own = torch.log_softmax(logits[0].double(), -1)
    chosen = [float(own[place - 1, tokens[place]]) for place in range(4, len(tokens))]
    if len(chosen) < 5:  # it stopped by itself, which was a choice too
        chosen.append(float(own[-1, 256]))
    assert found.confidence == pytest.approx(math.exp(sum(chosen) / len(chosen)), rel=1e-4)
