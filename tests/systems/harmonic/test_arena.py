"""The arena without a model: axes, ratings against the likelihood, what is asked, who wins, what is learned."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.prepared import Prepared
from bloomery.data.split import share_rule
from bloomery.errors import DataError
from bloomery.evaluate.gauntlet.generate import TEMPLATES, item_named
from bloomery.evaluate.gauntlet.item import CATEGORIES, Dice, Item
from bloomery.stages.prepare import parse_data, prepare
from bloomery.systems.harmonic.arena import Arena, Round, Rules
from bloomery.systems.harmonic.axes import AXES, DIFFICULTIES, axis_of, draw, size, some, training_side
from bloomery.systems.harmonic.ratings import POINTS, PRIOR, ratings

SKILLS = {"source": "gauntlet", "examples": 800, "split_by": "tuple", "split": {"train": 0.8, "val": 0.1, "test": 0.1}}


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    data = {"tokenizer": {"kind": "bytes"}, "skills": SKILLS}
    return prepare(parse_data(data), tmp_path_factory.mktemp("skills") / "data")


# Axes


def test_there_are_at_least_83_axes_and_none_is_held_out() -> None:
    assert len(AXES) >= 83
    assert len({axis.name for axis in AXES}) == len(AXES)
    held_out = {one.full_name for one in TEMPLATES.values() if one.held_out}
    assert not held_out & {f"{axis.category}/{axis.template}" for axis in AXES}
    assert {axis.category for axis in AXES} == set(CATEGORIES)


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_every_axis_has_questions_that_its_checker_can_tell_apart(axis: Any) -> None:
    items = [draw(axis, Dice("test", axis.name, number), lambda key: True) for number in range(6)]
    assert {axis_of(item) for item in items} == {axis}
    assert len({item.key for item in items}) > 1
    assert not any(item.accepts("I do not know.") for item in items)
    if axis.category != "code":
        assert all(item.accepts(item.reference) for item in items)


def test_the_bands_of_a_template_are_thirds_in_the_order_of_size() -> None:
    for template in ("math/add", "reasoning/moved", "counting/things", "factual/weekday"):
        one = TEMPLATES[template]
        items = [item_named(f"{template} {_compact(one.draw(Dice(template, n)))}") for n in range(600)]
        bands = {band: [size(item) for item in items if axis_of(item).difficulty == band] for band in DIFFICULTIES}
        assert all(0.2 < len(sizes) / 600 < 0.47 for sizes in bands.values())
        assert max(bands["low"]) < min(bands["middle"])
        assert max(bands["middle"]) < min(bands["high"])


def _compact(parameters: Any) -> str:
    import json

    return json.dumps(list(parameters), separators=(",", ":"))


def test_some_axes_come_evenly_from_the_categories() -> None:
    for count in (1, 8, 24, 50, len(AXES)):
        chosen = some(count, Dice("some", count))
        assert len(set(chosen)) == count
        by_category = Counter(axis.category for axis in chosen)
        if count <= 50:
            assert max(by_category.values()) - min(by_category[one] for one in CATEGORIES) <= 1
    assert some(24, Dice(0)) != some(24, Dice(1))


def test_only_the_training_side_of_the_split_is_asked(skills: Prepared) -> None:
    """Judged by the whole set, not by the rule: what stands in another part, or would fall into one, is not asked."""
    side, rule = training_side(skills, "skills"), share_rule(SKILLS["split"])  # type: ignore[arg-type]
    elsewhere = {
        item_named(name).key for split in ("val", "test", "held_out") for name in skills.part(f"skills:{split}").names
    }
    assert not any(side(key) for key in elsewhere)
    assert all(side(item_named(name).key) for name in skills.part("skills:train").names)
    arena = played(Rules(0, 24, 40, 5, 8), skills, lambda item: ["", ""])
    items = [item_named(name) for one in arena.rounds for name in one.items]
    assert len(items) == 200
    assert {rule(item.key) for item in items} == {"train"}
    assert not {item.key for item in items} & elsewhere
    assert not any(item.held_out for item in items)
    assert len({item.key for item in items}) == len(items), "no question is asked twice"


def test_what_another_gauntlet_of_the_data_judges_is_not_asked_either(tmp_path: Path) -> None:
    """Two splits of the same questions: what one trains on, the other may hold out."""
    exam = {"source": "gauntlet", "examples": 800, "seed": 1, "split": {"train": 0.5, "dev": 0.1, "val": 0.4}}
    data = {"tokenizer": {"kind": "bytes"}, "skills": SKILLS, "exam": exam}
    both = prepare(parse_data(data), tmp_path / "data")
    side, rule = training_side(both, "skills"), share_rule(SKILLS["split"])  # type: ignore[arg-type]
    judged = {item_named(name).key for split in ("dev", "val", "held_out") for name in both.part(f"exam:{split}").names}
    assert sum(rule(key) == "train" for key in judged) > 50
    assert not any(side(key) for key in judged)
    assert any(side(item_named(name).key) for name in both.part("exam:train").names)


def test_a_set_that_is_no_gauntlet_has_no_training_side(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for number in range(40):
        (tmp_path / "text" / f"{number}.txt").write_text(f"text {number}\n")
    data = {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "text"}}
    prepared = prepare(parse_data(data), tmp_path / "data", roots=[tmp_path])
    with pytest.raises(DataError, match="its source is text"):
        training_side(prepared, "corpus")


# Ratings


def log_likelihood(points: np.ndarray, answers: list[tuple[bool, ...]]) -> float:
    """Written down from the model: every match of every question, and PRIOR matches against the question."""
    strength = np.append(points * math.log(10) / POINTS, 0.0)
    question = len(strength) - 1

    def beats(i: int, j: int) -> float:
        return -math.log1p(math.exp(strength[j] - strength[i]))

    total = sum(PRIOR * (beats(i, question) + beats(question, i)) for i in range(question))
    for right in answers:
        for i, good in enumerate(right):
            total += beats(i, question) if good else beats(question, i)
            total += sum(beats(i, j) for j, other in enumerate(right) if good and not other)
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[st.booleans()] * n), min_size=1, max_size=12)))
def test_ratings_maximise_the_likelihood(answers: list[tuple[bool, ...]]) -> None:
    """The likelihood is concave, so where every coordinate's slope is zero is the maximum."""
    found = np.array(ratings(answers))
    for at in range(len(found)):
        step = np.zeros(len(found))
        step[at] = 1e-3
        slope = (log_likelihood(found + step, answers) - log_likelihood(found - step, answers)) / 2e-3
        assert abs(slope) < 1e-5


def test_a_single_competitor_has_a_closed_form() -> None:
    answers = [(True,)] * 7 + [(False,)] * 2
    assert ratings(answers)[0] == pytest.approx(400 * math.log10(7.5 / 2.5))
    assert ratings([(True,), (False,)]) == [pytest.approx(0.0, abs=1e-6)]


def test_ratings_do_not_depend_on_order_and_never_fall_with_a_right_answer() -> None:
    draws = np.random.default_rng(0)
    for _ in range(20):
        answers = [tuple(map(bool, row)) for row in draws.integers(0, 2, (8, 3))]
        assert ratings(answers) == pytest.approx(ratings(answers[::-1]), abs=1e-6)
        better = [(True, *row[1:]) for row in answers]
        assert ratings(better)[0] >= ratings(answers)[0] - 1e-6


# Rounds


def played(rules: Rules, skills: Prepared, say: Any) -> Arena:
    """say(item) -> an answer of each competitor."""
    arena = Arena(rules, training_side(skills, "skills"))
    for _ in range(rules.rounds):
        items = arena.next_questions()
        arena.play(items, list(zip(*map(say, items), strict=True)))
    return arena


def weak_at(*categories: str) -> Any:
    """The first competitor fails in these categories, the second in none but code, the third everywhere."""

    def say(item: Item) -> list[str]:
        able = "" if item.category == "code" else item.reference
        return ["" if item.category in (*categories, "code") else item.reference, able, "no"]

    return say


RULES = Rules(seed=3, axes=16, rounds=32, questions=3, weakest=4)


def test_the_second_half_is_played_where_the_first_competitor_failed(skills: Prepared) -> None:
    arena = played(RULES, skills, weak_at("math", "counting"))
    first, second = arena.rounds[:16], arena.rounds[16:]
    assert Counter(one.axis for one in first) == {axis.name: 1 for axis in arena.axes}
    weak = {axis.name for axis in arena.axes if axis.category in ("math", "counting", "code")}
    assert {one.axis for one in second} == {axis.name for axis in arena.weakest()} <= weak
    counts = Counter(one.axis for one in second)
    assert max(counts.values()) == min(counts.values()) == 4


def test_winners_give_their_checked_answers_and_references_stand_in_where_nobody_is_right(skills: Prepared) -> None:
    arena = played(Rules(3, 16, 32, 3, 6), skills, weak_at("math"))
    lessons = arena.lessons()
    weakest = {axis.name for axis in arena.weakest()}
    asked = [name for one in arena.rounds if one.axis in weakest for name in one.items]
    assert [lesson.example.origin["item"] for lesson in lessons] == asked
    for lesson in lessons:
        item = item_named(lesson.example.origin["item"])
        assert lesson.example.prompt == item.prompt
        assert lesson.example.category == item.category
        assert lesson.example.response == item.reference, "which its own checker accepts"
        expected = "reference" if item.category == "code" else 1 if item.category == "math" else None
        assert expected in (None, lesson.example.origin["winner"])
        assert lesson.won == (item.category != "code")
    silent = played(Rules(3, 16, 32, 3, 6, references=False), skills, weak_at("math"))
    assert len(silent.lessons()) == sum(lesson.won for lesson in lessons)


def test_the_winner_is_the_best_of_those_who_are_right(skills: Prepared) -> None:
    """Competitor 2 is right more often; both are right on every third question."""

    def say(item: Item) -> list[str]:
        kind = len(item.prompt) % 3 if item.category != "code" else 2
        return ["", item.reference if kind == 0 else "", item.reference if kind < 2 else ""]

    arena = played(Rules(1, 8, 24, 4, 8), skills, say)
    points = arena.ratings()
    for lesson in arena.lessons():
        winner = lesson.example.origin["winner"]
        if winner != "reference":
            better = [
                rating > points[lesson.example.origin["axis"]][winner]
                for rating in points[lesson.example.origin["axis"]]
            ]
            one = arena.rounds[lesson.example.origin["round"]]
            place = one.items.index(lesson.example.origin["item"])
            assert one.right[winner][place]
            assert not any(above and own[place] for above, own in zip(better, one.right, strict=True))


def test_the_yield_counts_what_only_others_answered(skills: Prepared) -> None:
    arena = played(RULES, skills, weak_at("math", "counting"))
    random, directed = arena.news()
    assert len(random) == len(directed) == 48
    by_hand = [item_named(name).category in ("math", "counting") for one in arena.rounds for name in one.items]
    assert random + directed == by_hand
    assert np.mean(directed) > np.mean(random)


def test_undirected_rounds_are_random_twice(skills: Prepared) -> None:
    rules = Rules(3, 16, 64, 1, 4, directed=False)
    arena = played(rules, skills, weak_at("math"))
    assert len({one.axis for one in arena.rounds[32:]}) > 8
    assert {lesson.example.origin["round"] for lesson in arena.lessons()} == set(range(32, 64))


@pytest.mark.slow
def test_the_same_seed_and_answers_give_the_same_arena_and_it_goes_on_from_any_round(skills: Prepared) -> None:
    whole = played(RULES, skills, weak_at("math"))
    assert whole.rounds == played(RULES, skills, weak_at("math")).rounds
    assert whole.rounds != played(Rules(4, 16, 32, 3, 4), skills, weak_at("math")).rounds
    again = Arena(RULES, training_side(skills, "skills"))
    for one in whole.rounds[:20]:
        again.add(Round.from_json(one.to_json()))
    say = weak_at("math")
    while len(again.rounds) < RULES.rounds:
        items = again.next_questions()
        again.play(items, list(zip(*map(say, items), strict=True)))
    assert again.rounds == whole.rounds
    assert again.lessons() == whole.lessons()
