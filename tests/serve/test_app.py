"""What the server answers, over a socket: texts against `stream` alone, limits, errors, and clients that go away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.model.dense import Transformer

BYTES = BytesTokenizer()


def alone(model: Transformer, prompt: str, **wishes: Any) -> tuple[str, str | None]:
    pieces = list(stream(model, BYTES, prompt, Sampling(**({"temperature": 1.0, "top_p": 1.0} | wishes))))
    return "".join(piece.text for piece in pieces), pieces[-1].finish


def complete(server: Any, **asked: Any) -> httpx.Response:
    return server.http.post("/v1/completions", json={"model": "tiny", "prompt": "ore", "seed": 4, **asked})


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    *found, last, end = response.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    return [json.loads(each.removeprefix("data: ")) for each in found]


def test_models_health_and_metrics(server: Any) -> None:
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert [each["id"] for each in server.http.get("/v1/models").json()["data"]] == ["tiny"]
    before = server.metric("completion_tokens_total")
    used = complete(server, max_tokens=9, temperature=0).json()["usage"]
    assert server.metric("completion_tokens_total") == before + used["completion_tokens"]
    text = server.http.get("/metrics").text
    assert 'bloomery_requests_total{path="/v1/completions",status="200"}' in text
    assert "# TYPE bloomery_first_token_seconds histogram" in text
    assert server.metric("first_token_seconds_count") >= 1


@pytest.mark.parametrize(
    "wishes",
    [{}, {"temperature": 0.0}, {"top_k": 5, "min_p": 0.01}, {"repetition_penalty": 1.3}, {"stop": ["e", "\n"]}],
)
def test_a_completion_is_the_text_alone(server: Any, wishes: dict[str, Any]) -> None:
    own = {**wishes, "stop": tuple(wishes.get("stop", ()))}
    text, finish = alone(server.model, "ore", max_tokens=30, seed=4, **own)
    found = complete(server, max_tokens=30, **wishes).json()
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == (text, finish)
    assert found["usage"]["prompt_tokens"] == 4
    streamed = chunks(complete(server, max_tokens=30, stream=True, **wishes))
    assert "".join(each["choices"][0]["text"] for each in streamed) == text
    assert [each["choices"][0]["finish_reason"] for each in streamed][-1] == finish
    assert len({each["id"] for each in streamed}) == 1


def test_several_prompts_and_choices(server: Any) -> None:
    found = complete(server, prompt=["ore", "iron"], n=2, max_tokens=8).json()
    expected = [alone(server.model, p, max_tokens=8, seed=s)[0] for p in ("ore", "iron") for s in (4, 5)]
    assert [each["text"] for each in found["choices"]] == expected
    assert [each["index"] for each in found["choices"]] == [0, 1, 2, 3]
    streamed = chunks(complete(server, prompt=["ore", "iron"], n=2, max_tokens=8, stream=True))
    texts = [""] * 4
    for each in streamed:
        texts[each["choices"][0]["index"]] += each["choices"][0]["text"]
    assert texts == expected


def test_token_ids_are_the_text_that_they_spell(server: Any) -> None:
    texts = [
        complete(server, prompt=prompt, max_tokens=8).json()["choices"][0]["text"]
        for prompt in ("ore", [*b"ore"], [256, *b"ore"])
    ]
    assert len(set(texts)) == 1
    assert complete(server, prompt=[257]).status_code == 400


def test_chat_is_the_rendered_text_and_ends_before_the_user_speaks(server: Any) -> None:
    messages = [
        {"role": "system", "content": "be iron"},
        {"role": "user", "content": [{"type": "text", "text": "ore?"}]},
    ]
    asked = {"model": "tiny", "messages": messages, "seed": 1, "max_completion_tokens": 12}
    found = server.http.post("/v1/chat/completions", json=asked).json()
    prompt = "system: be iron\nuser: ore?\nassistant:"
    text, finish = alone(server.model, prompt, max_tokens=12, seed=1, stop=("\nuser:", "\nsystem:"))
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"] == {"role": "assistant", "content": text}
    assert found["choices"][0]["finish_reason"] == finish
    streamed = chunks(server.http.post("/v1/chat/completions", json={**asked, "stream": True}))
    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in streamed) == text


def test_a_stored_template_writes_the_prompt(start: Callable[..., Any]) -> None:
    template = ChatTemplate("{% for m in messages %}<{{ m.content }}>{% endfor %}", "t", ())
    with start(template=template) as here:
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "seed": 1, "max_tokens": 9}
        found = here.http.post("/v1/chat/completions", json=asked).json()
        assert found["choices"][0]["message"]["content"] == alone(here.model, "<a>", max_tokens=9, seed=1)[0]


def test_logprobs_are_the_streams(server: Any) -> None:
    wishes = {"max_tokens": 10, "temperature": 1.0, "top_p": 1.0, "seed": 4, "logprobs": 2}
    choices = [c for piece in stream(server.model, BYTES, "ore", Sampling(**wishes)) for c in piece.choices]
    found = complete(server, **wishes).json()["choices"][0]["logprobs"]
    assert found["token_logprobs"] == pytest.approx([choice.logprob for choice in choices], abs=1e-4)
    assert found["text_offset"] == [choice.offset for choice in choices]
    assert [len(each) for each in found["top_logprobs"]] == [2] * len(choices)


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"model": "other"}, 404, "'other' is not served here; there is tiny"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 300}, 400, "more than the 256 of the context"),
        ({"prompt": "x" * 300}, 400, "301 tokens of prompt"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 9}, 400, "n:"),
        ({"stop": [""]}, 400, "stop"),
        ({"echo": True}, 400, "echo is not supported"),
        ({"logit_bias": {"1": 5}}, 400, "logit_bias is not supported"),
        ({"best_of": 3}, 400, "best_of"),
        ({"prompt": "\ud800"}, 400, "prompt"),
        ({"prompt": None}, 400, "prompt"),
        ({"seed": 2**70}, 400, "seed"),
    ],
)
def test_mistakes_have_openais_error_body(server: Any, asked: dict[str, Any], status: int, said: str) -> None:
    body = json.dumps({"model": "tiny", "prompt": "ore", **asked})
    found = server.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert found.status_code == status, found.text
    error = found.json()["error"]
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 9000, b'{"model": NaN}', b"9" * 9000])
def test_what_is_no_json_is_a_mistake(server: Any, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions"):
        found = server.http.post(path, content=body, headers={"content-type": "application/json"})
        assert found.status_code == 400
        assert found.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_413_announced_or_not(server: Any) -> None:
    large = json.dumps({"model": "tiny", "prompt": "x" * 21_000}).encode()
    whole = server.http.post("/v1/completions", content=large)
    assert (whole.status_code, whole.json()["error"]["code"]) == (413, "request_too_large")
    parts = server.http.post("/v1/completions", content=(large[i : i + 4000] for i in range(0, len(large), 4000)))
    assert parts.status_code == 413


def test_a_client_that_still_sends_sees_why_it_is_refused(server: Any) -> None:
    """With unread bytes in it the connection would be reset, and the answer be lost."""
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n" + b"x" * 20_000)
        time.sleep(0.2)
        for _ in range(4):
            client.sendall(b"x" * 5_000)
            time.sleep(0.02)
        said = b""
        while part := client.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 413")
    assert said.endswith(b"}")


def test_a_body_that_does_not_arrive_is_408(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.serve.gate.BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n\r\n{")
        assert client.recv(20).startswith(b"HTTP/1.1 408")


def test_other_paths_are_counted_as_one(server: Any) -> None:
    for path in ("/secret", "/v1/secret"):
        server.http.get(path)
    text = server.http.get("/metrics").text
    assert "secret" not in text
    assert 'path="other",status="404"' in text


def test_other_paths_and_methods_have_error_bodies(server: Any) -> None:
    assert server.http.get("/v2/models").json()["error"]["message"] == "Not Found"
    assert server.http.get("/v1/completions").status_code == 405


def test_a_key_is_asked_for(start: Callable[..., Any]) -> None:
    with start(api_key="iron") as here:
        for sent in ({}, {"authorization": "Bearer iro"}, {"authorization": "Basic iron"}, {"authorization": "iron"}):
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                found = here.http.get(path, headers=sent)
                assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
        assert here.http.get("/v1/models", headers={"authorization": "Bearer iron"}).status_code == 200
        assert here.http.get("/healthz").status_code == 200
        assert here.http.get("/").status_code == 200


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    forward = Transformer.forward

    def slow(self: Transformer, *given: Any, **more: Any) -> Any:
        time.sleep(seconds)
        return forward(self, *given, **more)

    monkeypatch.setattr(Transformer, "forward", slow)


def test_a_full_queue_is_429_and_the_server_still_answers(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly(monkeypatch, 0.05)
    found: list[httpx.Response] = []
    with start(slots=1, queue=1) as here:
        ask = lambda: found.append(complete(here, max_tokens=20, temperature=0))  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        while not found:
            time.sleep(0.01)
        began = time.monotonic()
        assert here.http.get("/healthz").status_code == 200
        assert time.monotonic() - began < 0.5  # though the model is busy
        for thread in threads:
            thread.join()
        assert here.idle()
    refused = [each for each in found if each.status_code == 429]
    assert sorted(each.status_code for each in found) == [200, 200, 429, 429, 429]
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
    assert refused[0].json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_goes_away_ends_its_text(server: Any, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    slowly(monkeypatch, 0.02)
    before = server.metric("cancelled_total")
    body = json.dumps({"model": "tiny", "prompt": "ore", "max_tokens": 200, "stream": streamed, "top_k": 1, "n": 3})
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
        client.sendall(f"{head}\r\n\r\n{body}".encode())
        while server.desk.load().running < 3:
            time.sleep(0.005)
        if streamed:
            assert client.recv(20).startswith(b"HTTP/1.1 200")
    assert server.idle(2)
    assert server.metric("cancelled_total") == before + 3


def test_a_model_that_breaks_off_is_a_500_and_the_next_request_is_answered(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Transformer, *given: Any, **more: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(Transformer, "forward", broken)
    found = complete(server)
    assert (found.status_code, found.json()["error"]["type"]) == (500, "server_error")
    streamed = complete(server, stream=True)
    assert "no memory" in json.loads(streamed.text.removeprefix("data: "))["error"]["message"]
    monkeypatch.undo()
    assert complete(server).status_code == 200
    assert server.idle()
