"""Packets for a running server, by POST and by folder, while others ask it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from bloomery.evaluate.cascade.routing import Relevance, packets_of
from bloomery.serve.cascade import Cascade
from bloomery.serve.packets import LARGEST_FILE, Inbox
from bloomery.serve.source import Model
from bloomery.stages.feedback import Ledger
from bloomery.stages.packets import Additions
from support.cascades import BYTES, ChatTemplate, card
from support.scorers import Constant

OWN = {"iron": "The furnace smelts the ore.\n\nAn anvil shapes iron.", "sea": "The mast of the boat.\n\nThe tide."}
FORGE = card({name: {"packets": [f"{name}.txt"]} for name in OWN}, routing="idf")
LETTERS = {"iron": "i", "sea": "s"}
NEWS = "The quartermaster keeps the astrolabe by the mast of the boat."
QUERY = "Which quartermaster keeps an astrolabe?"


@pytest.fixture
def here(start: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    relevance = Relevance.of({name: packets_of(text) for name, text in OWN.items()})
    models = [Model(name, Constant(257, ord(letter)), BYTES, ChatTemplate()) for name, letter in LETTERS.items()]
    with (
        Ledger(tmp_path / "votes", FORGE) as ledger,
        Additions(tmp_path / "packets", FORGE, relevance) as shelf,
    ):
        inbox = Inbox(tmp_path / "inbox" / "forge", shelf)
        one = Cascade(FORGE, models, relevance, ledger, shelf)
        with start(several=[one], api_key=None, max_body=20_000, inboxes=[inbox]) as running:
            running.inbox = inbox.folder
            yield running


def asked(here: Any, prompt: str = QUERY) -> tuple[str, str]:
    sent = {"model": "forge", "prompt": prompt, "max_tokens": 2}
    choice = here.http.post("/v1/completions", json=sent).json()["choices"][0]
    return choice["bloomery"]["member"], choice["text"]


def grown(here: Any) -> list[str]:
    return [one["member"] for one in here.http.get("/v1/packets").json()["data"] if one["grown"]]


def post(here: Any, **sent: Any) -> Any:
    return here.http.post("/v1/packets", json={"model": "forge", "name": "news", "text": NEWS, **sent})


def test_what_is_posted_is_answered_by_the_nearest_at_once(here: Any) -> None:
    assert asked(here) == ("iron", "ii")
    assert grown(here) == []
    told = post(here).json()
    assert (told["object"], told["model"], told["member"], told["new"]) == ("packet", "forge", "sea", True)
    assert asked(here) == ("sea", "ss")
    assert asked(here, "Who smelts the ore in a furnace?")[0] == "iron"
    assert grown(here) == ["sea"]
    assert post(here).json()["new"] is False
    assert 'path="/v1/packets",status="200"' in here.http.get("/metrics").text.replace('" ', '"')


@pytest.mark.slow
def test_what_lies_in_the_folder_is_taken_when_it_is_whole(here: Any) -> None:
    here.inbox.mkdir(parents=True)
    (here.inbox / "news.txt").write_text(NEWS)
    (here.inbox / ".hidden.txt").write_text("The furnace of the hidden smelter.")
    (here.inbox / "broken.txt").write_bytes(b"\xff\xfe")
    end = time.monotonic() + 60
    while not grown(here) and time.monotonic() < end:
        time.sleep(0.05)
    assert grown(here) == ["sea"]
    assert asked(here) == ("sea", "ss")
    assert (here.inbox / "news.txt").exists()


def test_a_file_that_still_grows_is_waited_for(tmp_path: Path) -> None:
    relevance = Relevance.of({name: packets_of(text) for name, text in OWN.items()})
    with Additions(tmp_path / "packets", FORGE, relevance) as shelf:
        inbox = Inbox(tmp_path / "in", shelf)
        assert inbox.look() == []
        inbox.folder.mkdir()
        file = inbox.folder / "a.txt"
        file.write_text("The mast")
        assert inbox.look() == []
        file.write_text("The mast and the keel of the boat")
        assert inbox.look() == []
        (added,) = inbox.look()
        assert added["name"] == "a.txt"
        assert inbox.look() == []
        file.write_text("The mast and the keel of the boat, and the tide that lifts it")
        inbox.look()
        (changed,) = inbox.look()
        assert changed["id"] != added["id"]
        assert frozenset(["the", "mast", "and", "keel", "of", "boat"]) in shelf.relevance.packets["sea"]


def test_who_asks_meanwhile_gets_answers_and_what_is_confirmed_is_routed(here: Any) -> None:
    """Four clients post, four ask: every answer is a whole one, and every packet is found once it was confirmed."""
    wrong: list[Any] = []

    def write(client: int) -> None:
        for number in range(6):
            name = f"astrolabe{client}x{number}"
            told = post(here, text=f"The {name} hangs by the mast of the boat.")
            if told.status_code != 200 or asked(here, f"Where is {name}?")[0] != "sea":
                wrong.append(told.text)

    def read() -> None:
        for _ in range(12):
            member, text = asked(here, "Who smelts the ore in a furnace?")
            if (member, text) != ("iron", "ii"):
                wrong.append((member, text))

    threads = [threading.Thread(target=write, args=(client,)) for client in range(4)]
    threads += [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    held = {one["member"]: one["added"] for one in here.http.get("/v1/packets").json()["data"]}
    assert held == {"iron": 0, "sea": 24}


@pytest.mark.parametrize(
    ("sent", "status"),
    [({"model": "tiny"}, 404), ({"text": " . "}, 400), ({"text": 3}, 400), ({"name": ""}, 400), ({"name": None}, 400)],
)
def test_what_is_no_packet_is_refused(here: Any, sent: dict[str, Any], status: int) -> None:
    said = post(here, **sent)
    assert said.status_code == status
    assert said.json()["error"]["message"]
    assert grown(here) == []


def test_a_pipe_and_a_file_too_large_are_not_read(tmp_path: Path) -> None:
    class Shelf:
        def add(self, name: str, text: str) -> dict[str, Any]:
            raise AssertionError(name)

    os.mkfifo(tmp_path / "pipe.txt")
    with (tmp_path / "large.txt").open("wb") as stream:
        stream.truncate(LARGEST_FILE + 1)
    inbox = Inbox(tmp_path, cast(Any, Shelf()))
    assert [inbox.look(), inbox.look()] == [[], []]
