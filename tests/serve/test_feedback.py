"""Votes over HTTP: what they change, what they refuse, and that nothing a client sends is a 500."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.engine.events import EventLog, read_events
from bloomery.errors import ArtifactError
from bloomery.serve.wire import LONGEST_CORRECTION
from support.cascades import card, cascade
from support.scorers import Constant, Uniform

MODELS = {"smith": Constant(257, ord("s")), "cook": Constant(257, ord("c"))}
LEARNED = card({"smith": {}, "cook": {}}, routing="learned", learning={"step": 0.5})


@pytest.fixture
def here(start: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    with cascade(tmp_path, LEARNED, MODELS) as one, start(several=[one], api_key=None, max_body=20_000) as running:
        running.folder = tmp_path
        yield running


def ask(here: Any, prompt: str) -> dict[str, Any]:
    asked = {"model": "forge", "prompt": prompt, "max_tokens": 2}
    return here.http.post("/v1/completions", json=asked).json()["choices"][0]["bloomery"]


def vote(here: Any, answer: str, score: Any) -> Any:
    return here.http.post("/v1/feedback", json={"id": answer, "score": score})


def weights(here: Any) -> dict[str, list[float]]:
    """As they lie on disk."""
    return json.loads((here.folder / "weights.json").read_text())["weights"]


def test_votes_change_who_is_asked_and_undoing_changes_it_back(here: Any) -> None:
    first = ask(here, "bread")
    assert first["member"] == "smith"
    untouched = weights(here)
    bad = vote(here, first["id"], "bad").json()
    assert (bad["object"], bad["model"], bad["id"], bad["member"], bad["score"], bad["replaces"]) == (
        "feedback", "forge", first["id"], "smith", -1.0, None,
    )  # fmt: skip
    assert sum(value < 0 for value in weights(here)["smith"]) == 2
    assert ask(here, "bread")["member"] == "smith"  # a tie goes to who was declared first
    other = vote(here, ask(here, "bread")["id"], -0.2).json()
    second = ask(here, "bread")
    assert second["member"] == "cook"
    assert vote(here, second["id"], "good").json()["score"] == 1.0
    for event in (bad["event"], other["event"]):
        undone = here.http.delete(f"/v1/feedback/{event}")
        assert undone.status_code == 200
        assert (undone.json()["object"], undone.json()["deleted"]) == ("feedback.deleted", True)
        assert here.http.delete(f"/v1/feedback/{event}").status_code == 404
    assert weights(here)["smith"] == untouched["smith"]
    assert weights(here)["cook"] != untouched["cook"]


def test_a_second_vote_replaces_the_first_and_undoing_it_brings_that_back(here: Any) -> None:
    answer = ask(here, "iron")["id"]
    good = vote(here, answer, 0.5).json()
    after_good = weights(here)
    bad = vote(here, answer, -1).json()
    assert bad["replaces"] == good["event"]
    assert min(weights(here)["smith"]) == -0.5
    here.http.delete(f"/v1/feedback/{bad['event']}")
    assert weights(here) == after_good
    events = read_events(here.folder / "votes.jsonl")
    assert [each["event"] for each in events] == ["vote", "vote", "undo"]
    assert [(each["before"][0], each["after"][0]) for each in events] == [(0, 0.25), (0.25, -0.5), (-0.5, 0.25)]


def test_it_is_streamed_chat_too_that_can_be_voted_on(here: Any) -> None:
    asked = {"model": "forge", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "stream": True}
    last = here.http.post("/v1/chat/completions", json=asked).text.split("\n\n")[-3]
    told = json.loads(last.removeprefix("data: "))["choices"][0]["bloomery"]
    assert vote(here, told["id"], 1).status_code == 200


def test_what_is_voted_down_is_kept_to_the_letter_where_texts_are_kept(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    chat = [{"role": "user", "content": "bread?"}]
    card_of_two = card({"smith": {"confidence": 1}, "cook": {}}, routing="ordered")
    models = {"smith": Uniform(257), "cook": Constant(257, ord("c"))}
    with (
        cascade(tmp_path, card_of_two, models, texts=True) as one,
        start(several=[one], api_key=None, max_body=10 * LONGEST_CORRECTION) as here,
    ):
        whole = here.http.post("/v1/chat/completions", json={"model": "forge", "messages": chat, "max_tokens": 2})
        streamed = {"model": "forge", "prompt": "iron", "max_tokens": 3, "stream": True}
        last = here.http.post("/v1/completions", json=streamed).text.split("\n\n")[-3]
        told = [
            whole.json()["choices"][0]["bloomery"],
            json.loads(last.removeprefix("data: "))["choices"][0]["bloomery"],
        ]
        assert all("prompt" not in one and "said" not in one for one in told)
        sent = {"id": told[0]["id"], "score": "bad", "correction": "A loaf."}
        for longer, status in ((0, 200), (1, 400)):
            longest = {**sent, "correction": "ö" * (LONGEST_CORRECTION + longer)}
            assert here.http.post("/v1/feedback", json=longest).status_code == status
        assert here.http.post("/v1/feedback", json=sent).status_code == 200
        assert vote(here, told[1]["id"], -0.25).status_code == 200
        wrong = here.http.post("/v1/feedback", json={"id": told[1]["id"], "score": "good", "correction": "Ore."})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "correction")
        assert "not voted down; expected: a score below 0" in wrong.json()["error"]["message"]
    rows = [json.loads(line) for line in (tmp_path / "served.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["said"], row["response"]) for row in rows] == [
        ("user: bread?\nassistant:", "cc", "A loaf."), ("iron", "ccc", ""),
    ]  # fmt: skip


def test_a_correction_that_cannot_be_kept_is_refused(here: Any) -> None:
    sent = {"id": ask(here, "bread")["id"], "score": -1, "correction": "A loaf."}
    found = here.http.post("/v1/feedback", json=sent)
    assert found.status_code == 400
    assert "--keep-texts" in found.json()["error"]["message"]
    assert read_events(here.folder / "votes.jsonl") == []


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"id": "ans-0", "score": 1}, 404),
        ({"id": "ans-0"}, 400),
        ({"score": 1}, 400),
        ({"id": "", "score": 1}, 400),
        ({"id": "x" * 101, "score": 1}, 400),
        ({"id": "\ud800", "score": 1}, 400),
        ({"id": "REAL", "score": 1.01}, 400),
        ({"id": "REAL", "score": float("nan")}, 400),
        ({"id": "REAL", "score": "fine"}, 400),
        ({"id": "REAL", "score": None}, 400),
        ({"id": "REAL", "score": 10**400}, 400),
    ],
)
def test_mistakes(here: Any, asked: dict[str, Any], status: int) -> None:
    if asked.get("id") == "REAL":
        asked = {**asked, "id": ask(here, "x")["id"]}
    body = json.dumps(asked)
    found = here.http.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    assert found.status_code == status
    assert set(found.json()["error"]) == {"message", "type", "param", "code"}
    assert read_events(here.folder / "votes.jsonl") == []


def test_what_cannot_be_stored_is_503_and_changes_nothing(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask(here, "x")["id"]
    cast = vote(here, answer, 1).json()["event"]
    before = weights(here)

    def full(self: EventLog, event: str, **facts: Any) -> Any:
        raise ArtifactError("votes.jsonl", "no space left")

    monkeypatch.setattr(EventLog, "write", full)
    found = vote(here, answer, -1)
    assert (found.status_code, found.json()["error"]["type"]) == (503, "server_error")
    assert here.http.delete(f"/v1/feedback/{cast}").status_code == 503
    assert ask(here, "y")["member"] == "smith"  # an answer does not need the log
    monkeypatch.undo()
    assert weights(here) == before
    assert vote(here, answer, 1).json()["replaces"] == cast
    assert here.http.delete(f"/v1/feedback/{cast}").status_code == 200


def test_a_key_and_a_size_are_asked_for_as_elsewhere(start: Callable[..., Any], tmp_path: Path) -> None:
    with cascade(tmp_path, LEARNED, MODELS) as one, start(several=[one], api_key="iron", max_body=500) as running:
        assert vote(running, "x", 1).status_code == 401
        assert running.http.delete("/v1/feedback/x").status_code == 401
        key = {"authorization": "Bearer iron"}
        sent = {"id": "x", "score": 1, "note": "x" * 600}
        assert running.http.post("/v1/feedback", json=sent, headers=key).status_code == 413
        assert running.http.post("/v1/feedback", json={"id": "x", "score": 1}, headers=key).status_code == 404
        assert running.http.delete("/v1/feedback/x", headers=key).status_code == 404
        text = running.http.get("/metrics", headers=key).text
        assert 'path="/v1/feedback",status="404"} 2' in text


def test_without_a_cascade_nothing_is_known(server: Any) -> None:
    assert server.http.post("/v1/feedback", json={"id": "x", "score": 1}).status_code == 404


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["good", "bad", "REAL", "\ud800", "\0", 1e308, -0.0, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["id", "score", "x"]), VALUES, max_size=3) | VALUES)
def test_bodies_of_any_kind(here: Any, body: Any) -> None:
    if isinstance(body, dict) and body.get("id") == "REAL":
        body["id"] = ask(here, "x")["id"]
    found = here.http.post("/v1/feedback", content=json.dumps(body), headers={"content-type": "application/json"})
    assert found.status_code in (200, 400, 404), found.text
    if found.status_code != 200:
        assert found.json()["error"]["message"]


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.text(max_size=40))
def test_bytes_and_paths_of_any_kind(here: Any, body: bytes, event: str) -> None:
    found = here.http.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 400
    path = "".join(f"%{each:02x}" for each in event.encode())
    assert here.http.delete(f"/v1/feedback/{path}").status_code in (307, 404, 405)
