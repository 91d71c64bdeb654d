"""The log of votes is the whole truth: what is opened again has the same weights, whatever was cast, undone or torn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.feedback import TooMany, Unknown
from bloomery.stages import feedback
from bloomery.stages.feedback import ANSWERED, SERVED, VOTES, WEIGHTS, Ledger

CARD = Card.model_validate({
    "cascade": 1, "name": "forge", "members": [{"name": "a", "model": "x"}, {"name": "b", "model": "y"}],
    "learning": {"step": 0.4, "low": -1, "high": 0.5},
})  # fmt: skip


def told(member: str) -> dict[str, Any]:
    return {"id": "ignored", "member": member, "confidence": 0.5, "route": [{"member": member, "outcome": "answered"}]}


ACTS = st.lists(
    st.tuples(st.sampled_from(["vote", "vote", "undo", "reopen"]), st.integers(0, 4), st.floats(-1, 1)), max_size=25
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS, st.randoms(use_true_random=False))
def test_restarting_changes_no_weight(tmp_path_factory: pytest.TempPathFactory, acts: Any, draw: random.Random) -> None:
    folder = tmp_path_factory.mktemp("votes")
    with Ledger(folder, CARD) as fresh:
        nothing = fresh.weights
    ledger = Ledger(folder, CARD).__enter__()
    for which in range(5):
        ledger.answered(f"x{which}", (0, 1 + which), told("ab"[which % 2]))
    cast: list[str] = []
    for act, which, score in acts:
        if act == "vote":
            cast.append(ledger.vote(f"x{which}", score)["event"])
        elif act == "undo" and cast:
            ledger.undo(cast.pop(draw.randrange(len(cast))))
        before = ledger.weights
        if act == "reopen":
            ledger.__exit__()
            ledger = Ledger(folder, CARD).__enter__()
            assert ledger.weights == before
        stored = json.loads((folder / WEIGHTS).read_text())["weights"]
        assert {name: tuple(row) for name, row in stored.items()} == ledger.weights
    draw.shuffle(cast)
    for event in cast:
        ledger.undo(event)
    assert ledger.weights == nothing
    ledger.__exit__()


def test_an_answer_has_no_more_votes_than_are_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("x", (0, 7), told("a"))
        ledger.answered("y", (0, 7), told("a"))
        events = [ledger.vote("x", 1)["event"] for _ in range(feedback.MOST_VOTES)]
        weights = ledger.weights
        with pytest.raises(TooMany):
            ledger.vote("x", -1)
        assert ledger.weights == weights
        ledger.vote("y", 1)
        ledger.undo(events[3])
        ledger.vote("x", -1)
        assert ledger.weights != weights


def served(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / SERVED).read_text().splitlines()]


def test_what_was_voted_down_is_kept_with_its_correction_while_the_vote_stands(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD, texts=True) as ledger:
        for number in range(4):
            ledger.answered(f"x{number}", (0, 7), told("a"), (f"Q: {number}?\nA:", f" {number + 1}"))
        ledger.vote("x0", 1)
        plain = ledger.vote("x1", -0.5)["event"]
        ledger.vote("x2", -1, "two")
        ledger.vote("x3", -1, "tree")
        assert ledger.vote("x3", -1, "three")["replaces"]
        rows = served(tmp_path)
        assert [(row["answer"], row["prompt"], row["said"], row["response"], row["score"]) for row in rows] == [
            ("x1", "Q: 1?\nA:", " 2", "", -0.5), ("x2", "Q: 2?\nA:", " 3", "two", -1),
            ("x3", "Q: 3?\nA:", " 4", "three", -1),
        ]  # fmt: skip
        for score, answer in ((0.5, "x1"), (-1, "x9")):
            with pytest.raises((DataError, Unknown)):
                ledger.vote(answer, score, "what is right")
    (tmp_path / SERVED).unlink()
    with Ledger(tmp_path, CARD, texts=True) as ledger:
        assert served(tmp_path) == rows, "the log is the truth"
        ledger.vote("x0", -1)
        ledger.undo(plain)
        assert [row["answer"] for row in served(tmp_path)] == ["x2", "x3", "x0"]
        ledger.vote("x2", 1)
        assert [row["answer"] for row in served(tmp_path)] == ["x3", "x0"]


def test_texts_are_kept_where_that_is_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("x", (0, 7), told("a"), ("What is it?", " Slag."))
        ledger.vote("x", -1)
        with pytest.raises(DataError, match="no text"):
            ledger.vote("x", -1, "Ore.")
    assert not [file for file in tmp_path.iterdir() if "Slag" in file.read_text() or file.name == SERVED]


def test_the_log_of_answers_stays_short_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "ANSWERS", 10)
    with Ledger(tmp_path, CARD) as ledger:
        for number in range(95):
            ledger.answered(f"x{number}", (0,), told("a"))
            assert len((tmp_path / ANSWERED).read_bytes().splitlines()) <= 20
        ledger.vote("x94", 1)
        ledger.vote("x85", 1)
        with pytest.raises(Unknown):
            ledger.vote("x84", 1)


def test_a_torn_line_is_a_vote_that_was_not_cast(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("x", (0, 7), told("a"))
        ledger.vote("x", 1)
        kept = ledger.weights
        ledger.vote("x", -1)
    log = tmp_path / VOTES
    log.write_bytes(log.read_bytes()[:-20])
    with Ledger(tmp_path, CARD) as ledger:
        assert ledger.weights == kept
        ledger.vote("x", -1)
    with Ledger(tmp_path, CARD) as ledger:
        assert ledger.weights != kept


@pytest.mark.parametrize(
    "line",
    [
        {"event": "vote"},
        {"event": "undo", "vote": "nobody"},
        {"event": "vote", "id": "e", "answer": "x", "member": "a", "connections": [0, 999], "score": 1},
        {"event": "vote", "id": "e", "answer": "x", "member": "a", "connections": [0], "score": 5000},
        {"event": "vote", "id": "e", "answer": "x", "member": "a", "connections": [0], "score": "good"},
        {"event": "elected"},
    ],
)
def test_a_line_that_is_no_vote_is_one_error(tmp_path: Path, line: dict[str, Any]) -> None:
    (tmp_path / VOTES).write_text(json.dumps(line) + "\n")
    with pytest.raises(ArtifactError, match=f"{VOTES}:1"):
        Ledger(tmp_path, CARD).__enter__()
    (tmp_path / VOTES).unlink()
    with Ledger(tmp_path, CARD):  # and its lock was let go
        pass


def test_two_servers_do_not_write_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.engine.rundir.ORPHANS_LEAVE_WITHIN_SECONDS", 0.0)
    with Ledger(tmp_path, CARD), pytest.raises(ArtifactError, match="another process"):
        Ledger(tmp_path, CARD).__enter__()


def test_answers_are_remembered_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "ANSWERS", 3)
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("voted", (0,), told("a"))
        ledger.vote("voted", 1)
        for number in range(8):
            ledger.answered(f"x{number}", (0,), told("a"))
    with Ledger(tmp_path, CARD) as ledger:
        assert len((tmp_path / ANSWERED).read_text().splitlines()) == 3
        for known in ("x5", "x6", "x7", "voted"):
            ledger.vote(known, 0.5)
        with pytest.raises(Unknown):
            ledger.vote("x4", 0.5)


def test_a_member_that_left_keeps_its_votes_for_its_return(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("x", (0, 3), told("b"))
        ledger.vote("x", 1)
        before = ledger.weights
    alone = CARD.model_copy(update={"members": CARD.members[:1]})
    with Ledger(tmp_path, alone) as ledger:
        assert set(ledger.weights) == {"a"}
    with Ledger(tmp_path, CARD) as ledger:
        assert ledger.weights == before


def test_nothing_of_a_text_is_stored(tmp_path: Path) -> None:
    with Ledger(tmp_path, CARD) as ledger:
        ledger.answered("x", (0, 3), told("b"))
        ledger.vote("x", 1)
    line = json.loads((tmp_path / ANSWERED).read_text())
    assert set(line) == {"event", "time", "answer", "member", "confidence", "route", "connections"}
