"""Whatever a client sends, the answer is never a 500, has OpenAI's error body, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cascades import card, cascade, table
from support.writers import writer

pytestmark = pytest.mark.slow

BASES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "tiny", "prompt": "ore", "max_tokens": 2, "stop": ["a"], "n": 1, "logprobs": 1},
    "/v1/chat/completions": {
        "model": "tiny", "messages": [{"role": "user", "content": "ore"}], "max_tokens": 2, "seed": 1, "logprobs": True,
        "top_logprobs": 2, "response_format": {"type": "text"},
    },
}  # fmt: skip
FIELDS = (
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p",
    "repetition_penalty", "seed", "stop", "n", "stream", "stream_options", "logprobs", "top_logprobs", "echo", "suffix",
    "best_of", "logit_bias", "tools", "response_format", "presence_penalty", "unheard_of",
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["tiny", "forge", "\ud800", "\0", "", "text", "user", 1e308, 5e-324, -0.0, 257, 256])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "\ud800", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def here(start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    members = {"vague": writer(), "ngram": table()}
    made = card({"vague": {"confidence": 0.5}}, last={"ngram": 3}, routing="learned")
    folder = tmp_path_factory.mktemp("votes")
    with cascade(folder, made, members) as one, start(max_body=20_000, context=64, several=[one]) as running:
        yield running


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


def post(here: Any, path: str, body: bytes, kind: str = "application/json") -> httpx.Response:
    return here.http.post(path, content=body, headers={"content-type": kind})


@MANY
@given(
    st.sampled_from(sorted(BASES)),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3),
    st.sets(st.sampled_from(FIELDS), max_size=2),
    st.randoms(use_true_random=False),
)
def test_fields_of_any_kind(
    here: Any, path: str, changes: dict[str, Any], without: set[str], draw: random.Random
) -> None:
    base = copy.deepcopy(BASES[path]) | {"model": draw.choice(["tiny", "forge"])}
    asked = {name: value for name, value in base.items() if name not in without} | changes
    answer = post(here, path, json.dumps(asked).encode())
    check(answer)
    if answer.status_code == 200 and asked.get("stream") in (True, 1, "true", "on", "yes", "1", "t", "y"):
        assert '"error"' not in answer.text
    assert here.idle()


@MANY
@given(st.sampled_from(sorted(BASES)), st.binary(max_size=60), st.sampled_from(["application/json", "text/plain", "x"]))
def test_bodies_of_any_bytes(here: Any, path: str, body: bytes, kind: str) -> None:
    check(post(here, path, body, kind))


@MANY
@given(st.data())
def test_bodies_that_are_torn_or_changed_in_one_place(here: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(BASES)))
    body = bytearray(json.dumps(BASES[path]).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        del body[at:]
    else:
        body[at] = data.draw(st.integers(0, 255))
    check(post(here, path, bytes(body)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_bytes_that_are_no_http(here: Any, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(here.url.rsplit(":", 1)[1])), timeout=5) as client:
        client.sendall(sent + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(100)
    assert b" 500 " not in answer.split(b"\r\n")[0]
    assert here.http.get("/healthz").status_code == 200


@pytest.mark.slow
def test_the_description_holds_under_schemathesis(here: Any) -> None:
    """Requests drawn from /openapi.json, valid and not: no answer is a server error, or one that is not described."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import status_code_conformance

    schema = schemathesis.openapi.from_url(f"{here.url}/openapi.json")
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
        def ask(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error, status_code_conformance])

        ask()
        asked.append((operation.method.upper(), operation.path))
    posted = {("POST", f"/v1/{path}") for path in ("completions", "chat/completions", "feedback")}
    assert posted | {("DELETE", "/v1/feedback/{event}")} <= set(asked)
    assert here.idle()
