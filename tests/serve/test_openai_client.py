"""The official client, unchanged, against a server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from support.cascades import card, cascade, table
from support.scorers import Uniform

BYTES = BytesTokenizer()


@pytest.fixture(scope="module")
def here(start: Callable[..., Any]) -> Iterator[Any]:
    with start(api_key="iron") as running:
        yield running


@pytest.fixture
def client(here: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{here.url}/v1", api_key="iron", max_retries=0) as made:
        yield made


def alone(here: Any, prompt: str, **wishes: Any) -> str:
    return "".join(piece.text for piece in stream(here.model, BYTES, prompt, Sampling(**wishes)))


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_completions(here: Any, client: openai.OpenAI) -> None:
    wishes: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9, "top_p": 0.9, "seed": 2}
    expected = alone(here, "ore", **wishes)
    whole = client.completions.create(model="tiny", prompt="ore", **wishes)
    assert whole.choices[0].text == expected
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    streamed = client.completions.create(model="tiny", prompt="ore", stream=True, **wishes)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected


def test_chat(here: Any, client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "ore?"}]
    wishes: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9, "top_p": 0.9, "seed": 2}
    expected = alone(here, "user: ore?\nassistant:", stop=("\nuser:", "\nsystem:"), **wishes)
    more: Any = {"logprobs": True, "top_logprobs": 2, "extra_body": {"top_k": 0}}
    whole = client.chat.completions.create(model="tiny", messages=messages, **wishes, **more)
    assert whole.choices[0].message.content == expected
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in logprobs.content)
    streamed = client.chat.completions.create(
        model="tiny", messages=messages, stream=True, stream_options={"include_usage": True}, **wishes
    )
    chunks = list(streamed)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 12


def test_errors_are_the_clients_own(here: Any, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model="tiny", prompt="x", max_tokens=10_000)
    with (
        openai.OpenAI(base_url=f"{here.url}/v1", api_key="copper", max_retries=0) as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.models.list()


def test_what_a_cascade_tells_is_kept_and_can_be_voted_on(start: Callable[..., Any], tmp_path: Path) -> None:
    made = card({"vague": {"confidence": 0.9}}, last={"ngram": 3})
    with (
        cascade(tmp_path, made, {"vague": Uniform(257), "ngram": table()}) as one,
        start(several=[one]) as here,
        openai.OpenAI(base_url=f"{here.url}/v1", api_key="any", max_retries=0) as client,
    ):
        wishes: dict[str, Any] = {"model": "forge", "max_tokens": 5, "seed": 2}
        whole = client.completions.create(prompt="the f", **wishes)
        told: Any = whole.choices[0].model_extra
        assert told["bloomery"]["member"] == "ngram"
        assert [each["outcome"] for each in told["bloomery"]["route"]] == ["unsure", "answered"]
        assert 0 < told["bloomery"]["confidence"] <= 1
        messages: Any = [{"role": "user", "content": "ore?"}]
        chat: Any = client.chat.completions.create(messages=messages, **wishes)
        assert chat.choices[0].bloomery["member"] == "ngram"
        last: Any = list(client.chat.completions.create(messages=messages, stream=True, **wishes))[-1]
        assert last.choices[0].bloomery["member"] == "ngram"
        for answer in (told["bloomery"]["id"], chat.choices[0].bloomery["id"], last.choices[0].bloomery["id"]):
            vote = client.post("/feedback", body={"id": answer, "score": "good"}, cast_to=object)
            assert vote["id"] == answer  # type: ignore[index]
            client.delete(f"/feedback/{vote['event']}", cast_to=object)  # type: ignore[index]


def test_a_stream_that_is_closed_ends_the_text(here: Any, client: openai.OpenAI) -> None:
    streamed = client.completions.create(model="tiny", prompt="ore", max_tokens=250, stream=True)
    next(iter(streamed))
    streamed.close()
    assert here.idle()
