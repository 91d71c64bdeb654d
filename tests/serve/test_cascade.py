"""Several behind one name: answers against those of a cascade without a server, and members that fail in every way."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import BytesTokenizer, train_bpe
from bloomery.evaluate.cascade.answering import Reader, answer
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.model.dense import Transformer
from bloomery.serve.batching import Load
from bloomery.serve.cascade import Texts
from bloomery.serve.source import Question, Reading
from support.cascades import Broken, Stuck, card, cascade, table
from support.scorers import Constant, Uniform
from support.writers import writer

BYTES = BytesTokenizer()
Start = Callable[..., Any]


@pytest.fixture
def forge(start: Start, tmp_path: Path) -> Callable[..., Any]:
    """A server with one cascade, `forge`, of these members."""

    @contextmanager
    def run(
        made: Card, models: Mapping[str, Any], *, server: Mapping[str, Any] | None = None, **more: Any
    ) -> Iterator[Any]:
        with cascade(tmp_path / "votes", made, models, **more) as one, start(several=[one], **(server or {})) as here:
            yield here
            assert here.idle()

    return run


def complete(here: Any, **asked: Any) -> httpx.Response:
    return here.http.post("/v1/completions", json={"model": "forge", "prompt": "ore", "seed": 4, **asked})


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def asked(load: Load) -> int:
    """The first of several that come one by one may keep the others waiting."""
    return load.running + load.waiting


def streamed(answer: httpx.Response) -> list[dict[str, Any]]:
    *found, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", ""), answer.text
    return [json.loads(each.removeprefix("data: ")) for each in found]


def steps(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["member"], each["outcome"]) for each in told["route"]]


MODELS = {"one": writer(1), "two": writer(2), "ngram": table()}


def made(first: float, second: float) -> Card:
    return card({"one": {"confidence": first}, "two": {"confidence": second}}, last={"ngram": 3})


@pytest.mark.slow
@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.9), (0.5, 0.5)])
def test_it_answers_as_the_cascade_without_a_server(forge: Any, thresholds: tuple[float, float]) -> None:
    chosen = made(*thresholds)
    readers = {name: Reader(model, BYTES) for name, model in MODELS.items()}
    with forge(chosen, MODELS) as here:
        for seed in range(4):
            wish = {"max_tokens": 12, "temperature": 0.9, "top_p": 0.95, "seed": seed}
            alone = answer(chosen, readers, chosen.names, "ore", Sampling(logprobs=0, **wish))
            choice = complete(here, **wish).json()["choices"][0]
            told = choice["bloomery"]
            assert (choice["text"], told["member"]) == (alone.text, alone.member)
            assert tuple(steps(told)) == alone.route
            assert told["confidence"] == pytest.approx(alone.confidence, rel=1e-4)
            assert choice["logprobs"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("hold", "threshold"), [(1, 0.06), (3, 0.06), (40, 0.45)])
def test_a_stream_is_judged_by_the_tokens_that_are_held_back(forge: Any, hold: int, threshold: float) -> None:
    chosen = made(threshold, threshold).model_copy(update={"hold": hold})
    with forge(chosen, MODELS) as here:
        members = set()
        for seed in range(12):
            wish = Sampling(max_tokens=12, temperature=0.9, top_p=0.95, seed=seed, logprobs=0)
            for name in chosen.names:
                pieces = list(stream(MODELS[name], BYTES, "ore", wish))
                first = [each.logprob or 0.0 for each in pieces[:hold]]
                if math.exp(sum(first) / len(first)) >= chosen.threshold(name):
                    break
            found = streamed(complete(here, max_tokens=12, temperature=0.9, top_p=0.95, seed=seed, stream=True))
            assert "".join(each["choices"][0]["text"] for each in found) == "".join(each.text for each in pieces)
            told = found[-1]["choices"][0].pop("bloomery")
            assert told["member"] == name
            assert told["confidence"] == pytest.approx(
                math.exp(sum(each.logprob or 0.0 for each in pieces) / len(pieces)), rel=1e-4
            )
            assert all("bloomery" not in each["choices"][0] for each in found)
            members.add(name)
        assert len(members) > 1


def test_a_table_of_counts_writes_and_streams_as_generate_does(forge: Any) -> None:
    with forge(card({"first": {}}), {"first": table(4)}) as here:
        text = "".join(
            each.text
            for each in stream(table(4), BYTES, "the f", Sampling(max_tokens=30, seed=4, temperature=0.7, top_p=1))
        )
        wish = {"prompt": "the f", "max_tokens": 30, "temperature": 0.7}
        assert complete(here, **wish).json()["choices"][0]["text"] == text
        found = streamed(complete(here, stream=True, **wish))
        assert "".join(each["choices"][0]["text"] for each in found) == text
        assert len(found) > 5
        assert found[-1]["choices"][0]["bloomery"]["member"] == "first"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError("no memory"), MemoryError()], ids=["nan", "error", "memory"])
def test_a_member_that_breaks_off_falls_through(forge: Any, stream: bool, error: Exception | None) -> None:
    chosen = card({"bad": {}, "good": {}})
    with forge(chosen, {"bad": Broken(error, after=3), "good": Constant(257, ord("k"))}) as here:
        found = complete(here, max_tokens=5, stream=stream)
        last = streamed(found)[-1] if stream else found.json()
        text = "".join(each["choices"][0]["text"] for each in streamed(found)) if stream else last["choices"][0]["text"]
        assert text == "kkkkk"
        assert steps(last["choices"][0]["bloomery"]) == [("bad", "failed"), ("good", "answered")]
        assert here.outcomes() == {("bad", "failed"): 1, ("good", "answered"): 1}


@pytest.mark.parametrize("stream", [False, True])
def test_a_member_that_hangs_falls_through_and_is_left(forge: Any, stream: bool) -> None:
    stuck = Stuck(free=2)
    chosen = card({"stuck": {"timeout_seconds": 0.3}, "good": {}})
    with forge(chosen, {"stuck": stuck, "good": Constant(257, ord("k"))}) as here:
        found = complete(here, max_tokens=5, stream=stream)
        last = streamed(found)[-1] if stream else found.json()
        assert steps(last["choices"][0]["bloomery"]) == [("stuck", "timeout"), ("good", "answered")]
        assert here.outcomes() == {("stuck", "timeout"): 1, ("good", "answered"): 1}
        assert here.desk.load().running == 1  # it is still in there
        assert not here.desk._asked
        stuck.go.set()
        assert here.idle()
        assert here.metric("cancelled_total") == 1


def test_a_full_queue_falls_through_and_a_full_cascade_is_429(forge: Any) -> None:
    stuck, other = Stuck(), Stuck()
    chosen = card({"a": {}, "b": {}})
    answers: list[httpx.Response] = []
    with forge(chosen, {"a": stuck, "b": other}, server={"slots": 1, "queue": 1}) as here:
        ask = lambda: answers.append(complete(here, max_tokens=2))  # noqa: E731
        threads: list[threading.Thread] = []
        for busy in range(1, 5):  # one in the slot and one in the queue of each
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            until(lambda busy=busy: here.desk.load().waiting + here.desk.load().running == busy)
        for more in ({}, {"stream": True}):
            refused = complete(here, **more)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        stuck.go.set()
        other.go.set()
        for thread in threads:
            thread.join()
        routes = sorted(tuple(steps(each.json()["choices"][0]["bloomery"])) for each in answers)
        assert routes == [(("a", "answered"),)] * 2 + [(("a", "full"), ("b", "answered"))] * 2
        assert here.outcomes() == {("a", "answered"): 2, ("a", "full"): 4, ("b", "answered"): 2, ("b", "full"): 2}


@pytest.mark.parametrize("stream", [False, True])
def test_if_the_last_fails_the_surest_of_the_unsure_answers(forge: Any, stream: bool) -> None:
    chosen = card({"vague": {"confidence": 0.9}, "vaguer": {"confidence": 0.9}, "bad": {}})
    models = {"vague": writer(1), "vaguer": Uniform(257), "bad": Broken()}
    with forge(chosen, models) as here:
        found = complete(here, max_tokens=9, stream=stream)
        last = streamed(found)[-1] if stream else found.json()
        told = last["choices"][0]["bloomery"]
        assert steps(told) == [
            ("vague", "unsure"), ("vaguer", "unsure"), ("bad", "failed"), ("vague", "answered"),
        ]  # fmt: skip
        assert told["confidence"] > 1 / 257


def test_if_everybody_fails_it_is_an_error_that_names_them(forge: Any) -> None:
    with forge(card({"a": {}, "b": {}}), {"a": Broken(), "b": Broken(RuntimeError("x"))}) as here:
        found = complete(here)
        assert (found.status_code, found.json()["error"]["type"]) == (500, "server_error")
        assert "a (failed), b (failed)" in found.json()["error"]["message"]
        last = complete(here, stream=True).text.split("\n\n")[-2]
        assert "a (failed), b (failed)" in json.loads(last.removeprefix("data: "))["error"]["message"]
        assert complete(here, model="tiny", max_tokens=2).status_code == 200


@pytest.mark.parametrize("how", ["failed", "timeout"])
def test_what_was_sent_is_not_taken_back(forge: Any, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = itertools.count()  # one when it is asked, then one for each token from the second to the sixth
    monkeypatch.setattr(Card, "timeout", lambda self, name: 60.0 if next(timers) < 5 else 0.01)
    bad: Any = Broken(RuntimeError("no memory"), after=6) if how == "failed" else Stuck(free=6)
    chosen = card({"bad": {}, "good": {}}, hold=2)
    with forge(chosen, {"bad": bad, "good": Constant(257, ord("k"))}) as here:
        *begun, last, _ = complete(here, max_tokens=20, stream=True, logprobs=0).text.split("\n\n")
        assert len([each for each in begun if json.loads(each.removeprefix("data: "))["choices"]]) >= 2
        message = json.loads(last.removeprefix("data: "))["error"]["message"]
        assert message.startswith("bad: ")
        assert here.outcomes() == {("bad", how): 1}
        if how == "timeout":
            bad.go.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_whoever_is_asked(forge: Any, stream: bool) -> None:
    stuck = Stuck()
    chosen = card({"vague": {"confidence": 0.9}, "stuck": {}})
    with forge(chosen, {"vague": Uniform(257), "stuck": stuck}) as here:
        asked_for = {"model": "forge", "prompt": "ore", "max_tokens": 20, "stream": stream, "n": 3}
        body = json.dumps({**asked_for, "seed": 4})  # else one might end at its first token, not be left
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", int(here.url.rsplit(":", 1)[1]))) as client:
            client.sendall(f"{head}\r\n\r\n{body}".encode())
            until(lambda: asked(here.desk.workers["forge/stuck"].load()) == 3)
        until(lambda: not here.desk._asked)
        stuck.go.set()
        assert here.idle()
        assert here.desk.workers["forge/stuck"].cancelled == 3
        assert here.outcomes()["vague", "unsure"] == 3


def test_every_text_of_a_request_goes_its_own_way(forge: Any) -> None:
    chosen = card({"vague": {"confidence": 0.05}, "good": {}})
    with forge(chosen, {"vague": writer(1), "good": Constant(257, ord("k"))}) as here:
        found = complete(here, prompt=["ore", "iron", "coal"], n=4, max_tokens=6).json()["choices"]
        told = [each["bloomery"] for each in found]
        assert {each["member"] for each in told} == {"vague", "good"}
        assert len({each["id"] for each in told}) == 12
        assert all((each["text"] == "k" * 6) == (each["bloomery"]["member"] == "good") for each in found)


def test_each_member_reads_by_its_own_tokenizer_and_template(forge: Any, tmp_path: Path) -> None:
    bpe = train_bpe(["the furnace makes iron from ore " * 20], vocab=300)
    models = {"bytes": Broken(), "bpe": writer(3, vocab=bpe.vocab)}
    template = ChatTemplate("{% for m in messages %}<{{ m.content }}>{% endfor %}", "t", ("e",))
    more = {"tokenizers": {"bpe": bpe}, "templates": {"bpe": template}}
    wish = {"max_tokens": 9, "temperature": 0.8, "seed": 1}
    with forge(card({"bytes": {}, "bpe": {}}), models, **more) as here:
        for prompt in ("ore", [*b"ore"]):  # ids are those of the first
            found = complete(here, prompt=prompt, **wish).json()
            own = "".join(each.text for each in stream(models["bpe"], bpe, "ore", Sampling(top_p=1, **wish)))
            assert found["choices"][0]["text"] == own
        asked = {"model": "forge", "messages": [{"role": "user", "content": "ore"}], **wish}
        found = here.http.post("/v1/chat/completions", json=asked).json()["choices"][0]
        own = "".join(each.text for each in stream(models["bpe"], bpe, "<ore>", Sampling(top_p=1, stop=("e",), **wish)))
        assert found["message"]["content"] == own
        assert found["bloomery"]["member"] == "bpe"
        assert complete(here, prompt=[300]).status_code == 400


def test_who_has_no_room_is_passed_over(forge: Any) -> None:
    bpe = train_bpe(["ore " * 200], vocab=300)
    models = {"bytes": Constant(257, ord("k")), "bpe": writer(3, vocab=bpe.vocab)}
    with forge(card({"bytes": {}, "bpe": {}}), models, tokenizers={"bpe": bpe}, server={"context": 64}) as here:
        found = complete(here, prompt="ore " * 30, max_tokens=8).json()["choices"][0]["bloomery"]
        assert steps(found) == [("bytes", "unfit"), ("bpe", "answered")]
        assert complete(here, prompt="xyzq" * 30, max_tokens=8).status_code == 400


def test_logprobs_are_given_where_they_are_asked_for(forge: Any) -> None:
    with forge(made(0.0, 0.0), MODELS) as here:
        found = complete(here, max_tokens=4, logprobs=2).json()["choices"][0]
        own = [
            c
            for p in stream(
                MODELS["one"], BYTES, "ore", Sampling(max_tokens=4, seed=4, temperature=1, top_p=1, logprobs=2)
            )
            for c in p.choices
        ]
        assert found["logprobs"]["token_logprobs"] == pytest.approx([each.logprob for each in own], abs=1e-4)


def test_packets_route(forge: Any) -> None:
    expert = {"packets": ["x"]}
    chosen = card({"smith": expert, "cook": expert}, routing="idf")
    models = {"smith": Constant(257, ord("s")), "cook": Constant(257, ord("c"))}
    packets = {"smith": "iron ore\n\nsteel", "cook": "bread\n\nbutter"}
    with forge(chosen, models, packets=packets) as here:
        assert complete(here, prompt="some bread", max_tokens=3).json()["choices"][0]["text"] == "ccc"
        assert complete(here, prompt="some iron", max_tokens=3).json()["choices"][0]["text"] == "sss"
        messages = [
            {"role": "user", "content": "iron"},
            {"role": "assistant", "content": "ore"},
            {"role": "user", "content": "bread?"},
        ]
        asked = {"model": "forge", "messages": messages, "max_tokens": 3}
        assert here.http.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"] == "ccc"


def test_it_is_listed_and_a_stopping_server_says_so(forge: Any) -> None:
    stuck = Stuck()
    with forge(card({"a": {}, "b": {}}), {"a": stuck, "b": Uniform(257)}) as here:
        assert [each["id"] for each in here.http.get("/v1/models").json()["data"]] == ["tiny", "forge"]
        here.desk.workers["forge/a"]._closed = True
        found = complete(here)
        assert (found.status_code, found.json()["error"]["message"]) == (503, "the server is stopping")
        assert not here.desk._asked
        here.desk.workers["forge/a"]._closed = False


def test_models_beside_it_are_as_they_were(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with forge(made(0.5, 0.5), MODELS) as here:
        found = complete(here, model="tiny", max_tokens=5).json()["choices"][0]
        assert set(found) == {"index", "finish_reason", "logprobs", "text"}
        assert isinstance(here.model, Transformer)


class Flaky:
    """Random numbers for probabilities, and now and then an exception or numbers that are none."""

    vocab = 257

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.draw.random() < 0.05:
            raise RuntimeError("for no reason")
        if self.draw.random() < 0.03:
            return torch.full((*tokens.shape, 257), math.nan)
        weights = torch.tensor([[[self.draw.random() ** 8 for _ in range(257)]] * tokens.shape[1]])
        return torch.log_softmax(20 * weights, -1)


class Recorded:
    """In place of the desk: what was asked, to be answered by hand."""

    context = 100

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def submit(self, jobs: Any, worker: str = "") -> None:
        self.asked += jobs

    def leave(self, jobs: Any) -> None:
        pass


def test_who_reads_slowly_makes_no_member_late(tmp_path: Path) -> None:
    """The clock is that of the member: what came in time waits, however long the client takes."""

    async def read() -> tuple[list[str], Any]:
        desk: Any = Recorded()
        chosen = card({"a": {"timeout_seconds": 0.2}}, hold=1)
        with cascade(tmp_path, chosen, {"a": Constant(257, 0)}) as made:
            wish = Question({"a": Reading([1, 2])}, "hi"), Sampling(max_tokens=3)
            texts = Texts(desk, made, [wish], streamed=True)
            ((_, tell),) = desk.asked
            tell(Piece("one ", logprob=-0.1))
            told: list[str] = []
            async for found in texts.rounds():
                told += [event.text for _, event in found if isinstance(event, Piece)]
                if len(told) == 1:
                    tell(Piece("two ", logprob=-0.1))
                    await asyncio.sleep(0.3)  # the client, while the clock of the member runs out
                    tell(Piece("three", logprob=-0.1, finish="length"))
            return told, made.outcomes

    told, outcomes = asyncio.run(read())
    assert told == ["one ", "two ", "three"]
    assert {outcome for _, outcome in outcomes} == {"answered"}


@pytest.mark.slow
def test_a_crowd_that_comes_and_goes_leaves_nothing(forge: Any) -> None:
    members = {"a": {"confidence": 0.9}, "b": {"confidence": 0.05, "timeout_seconds": 0.05}, "c": {}}
    chosen = card(members, last={"ngram": 3}, routing="learned", hold=2)
    models = {"a": Flaky(1), "b": Flaky(2), "c": Flaky(3), "ngram": table()}
    done: list[dict[str, Any]] = []

    def client(here: Any, seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(6):
            asked = {"prompt": draw.choice(["ore", "iron and", ""]), "max_tokens": draw.randint(1, 20), "n": 2}
            stream = draw.random() < 0.5
            body = {"model": "forge", "seed": draw.randrange(99), "stream": stream, **asked}
            with here.http.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code == 200 and draw.random() < 0.3:
                    continue  # goes away
                text = answer.read().decode()
            if answer.status_code == 200:
                lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")] if stream else [text]
                chunks = [json.loads(line) for line in lines]
                done.extend(c["bloomery"] for each in chunks for c in each.get("choices", ()) if "bloomery" in c)
            elif answer.status_code == 500:
                assert "no member could answer" in text
            else:
                assert answer.status_code == 429, text

    with forge(chosen, models, server={"slots": 2, "queue": 2}) as here:
        threads = [threading.Thread(target=client, args=(here, seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for each in [*threads]:
            each.join()
        assert here.idle()
        assert len(done) > 20
        assert len({each["id"] for each in done}) == len(done)
        for told in done:
            assert told["route"][-1] == {
                "member": told["member"],
                "outcome": "answered",
                "confidence": told["confidence"],
            }
            assert here.http.post("/v1/feedback", json={"id": told["id"], "score": 0.5}).status_code == 200
        outcomes = here.outcomes()
        assert sum(count for (_, outcome), count in outcomes.items() if outcome == "answered") >= len(done)
        assert {"failed", "unsure", "answered"} <= {outcome for _, outcome in outcomes}
