"""A memory is used as any model is: served, a member of a cascade, asked the gauntlet, scored as lm-eval asks, and from
the command line. What each gives is what its scorer gives without it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.data.chat import ChatTemplate
from bloomery.data.prepared import Prepared
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.engine.artifact import seal
from bloomery.evaluate.lmeval_model import greedy
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.scoring import Request, score_all
from bloomery.serve.source import Model
from bloomery.stages.gauntlet import GROUPS, Gauntlet, GauntletSettings
from bloomery.stages.prepare import parse_data, prepare
from bloomery.stages.scorers import open_scorer
from serve.conftest import Running, running
from support.cascades import card, cascade, table
from support.command import Command, write_text
from systems.holographic.test_kinds import DATA, Woken, wake

BYTES = BytesTokenizer()
VARIANTS: dict[str, dict[str, Any]] = {
    "attractor": {"variant": "attractor", "store": {"bytes": "8 MiB"}, "prototypes": [4]}, "v4": {"variant": "v4"},
}  # fmt: skip
PROMPT = "the furnace "
WISH: dict[str, Any] = {"max_tokens": 24, "seed": 4, "temperature": 0.7, "top_p": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("data")
    write_text(folder / "text", 60)
    return prepare(parse_data(DATA), folder / "data", roots=[folder])


@pytest.fixture(scope="module", params=VARIANTS)
def woken(request: pytest.FixtureRequest, data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Woken:
    return wake(data, tmp_path_factory.mktemp(request.param), **VARIANTS[request.param])


@pytest.fixture(scope="module")
def server(woken: Woken) -> Iterator[Running]:
    with running(beside=[Model("memory", open_scorer(woken.model), BYTES, ChatTemplate())]) as here:
        yield here


def alone(scorer: Any, prompt: str, **wishes: Any) -> tuple[str, list[float]]:
    """The text, and the natural-log probability of each of its tokens where they are asked for."""
    pieces = list(stream(scorer, BYTES, prompt, Sampling(**{**WISH, **wishes})))
    return "".join(piece.text for piece in pieces), [choice.logprob for piece in pieces for choice in piece.choices]


def complete(here: Running, **asked: Any) -> Any:
    found = here.http.post("/v1/completions", json={"model": "memory", "prompt": PROMPT, **WISH, **asked})
    assert found.status_code == 200, found.text
    return found


def events(answer: Any) -> list[dict[str, Any]]:
    *found, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", ""), answer.text
    return [json.loads(each.removeprefix("data: ")) for each in found]


def test_it_is_served_and_writes_and_streams_what_it_writes_alone(woken: Woken, server: Running) -> None:
    text, logprobs = alone(open_scorer(woken.model), PROMPT, logprobs=2)
    assert len(text) > 10
    found = complete(server, logprobs=2).json()["choices"][0]
    assert found["text"] == text
    assert found["logprobs"]["token_logprobs"] == pytest.approx(logprobs, abs=1e-4)
    assert [len(each) for each in found["logprobs"]["top_logprobs"]] == [2] * len(logprobs)
    several = events(complete(server, stream=True))
    assert "".join(each["choices"][0]["text"] for each in several) == text
    assert len(several) > 5
    assert server.idle()


def test_it_chats(woken: Woken, server: Running) -> None:
    asked = {"model": "memory", "messages": [{"role": "user", "content": "iron from"}], **WISH}
    found = server.http.post("/v1/chat/completions", json=asked).json()
    prompt, stop = "user: iron from\nassistant:", ("\nuser:", "\nsystem:")
    text, _ = alone(open_scorer(woken.model), prompt, stop=stop)
    assert found["choices"][0]["message"] == {"role": "assistant", "content": text}
    several = events(server.http.post("/v1/chat/completions", json={**asked, "stream": True}))
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in several) == text


def test_what_it_cannot_be_asked_is_refused_and_it_goes_on(server: Running) -> None:
    before = complete(server).json()["choices"][0]["text"]
    for body in (b"", b"{", b'{"model": "memory"}', b'{"model": "memory", "prompt": [257]}', b"\xff"):
        found = server.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
        assert found.status_code == 400
        assert found.json()["error"]["type"] == "invalid_request_error"
    found = server.http.post("/v1/completions", json={"model": "no memory", "prompt": PROMPT})
    assert found.status_code == 404
    assert complete(server).json()["choices"][0]["text"] == before


@pytest.mark.parametrize(("confidence", "answers"), [(0.0, "memory"), (1.0, "ngram")])
def test_as_a_member_of_a_cascade_it_answers_or_passes_on(
    confidence: float, answers: str, woken: Woken, tmp_path: Path
) -> None:
    scorer = open_scorer(woken.model)
    made = card({"memory": {"confidence": confidence}}, last={"ngram": 3})
    with (
        cascade(tmp_path / "votes", made, {"memory": scorer, "ngram": table()}) as one,
        running(several=[one]) as here,
    ):
        found = complete(here, model="forge").json()["choices"][0]
        assert found["bloomery"]["member"] == answers
        assert [each["member"] for each in found["bloomery"]["route"]] == ["memory", "ngram"][: 1 + int(confidence)]
        assert found["text"] == alone(scorer if answers == "memory" else table(), PROMPT)[0]
        assert here.idle()


def test_it_is_asked_the_gauntlet(woken: Woken, data: Prepared) -> None:
    asked = GauntletSettings(items=1)
    model = seal(woken.model, "wake.model", "model")
    found = Gauntlet().run(asked, model, data.folder, device="cpu", threads=1)
    own = {one.name: one for one in found.measurements if one.who == "candidate"}
    assert set(own) == set(Gauntlet().emits(asked))
    assert all(0 <= own[f"{group}/accuracy"].value <= 1 for group in GROUPS)
    assert own["all/accuracy"].n == len(GROUPS) - 2  # but for all and weakest


def test_it_is_scored_and_writes_as_lm_eval_asks(woken: Woken, data: Prepared) -> None:
    """Without the harness, which is one more wrapper (below)."""
    scorer: Any = open_scorer(woken.model)
    tokens = np.concatenate(([256], data.part("corpus:test").document(0)[:80])).astype(np.int64)
    each = scorer.document_logprobs(tokens)
    asked = [Request(tuple(tokens[:at].tolist()), tuple(tokens[at:stop].tolist())) for at, stop in ((1, 9), (30, 70))]
    found = score_all(scorer, asked, window=100)
    assert [one.logprob for one in found.scores] == pytest.approx([each[:8].sum(), each[29:69].sum()], abs=1e-6)
    written = list(greedy(scorer, tokens[:20].tolist(), 12, 257))
    history = tokens[:20].tolist()
    for token in written:
        row = scorer.logprobs(torch.tensor([history]))[0, -1]
        assert token == int(row.argmax())
        history.append(token)


@pytest.mark.filterwarnings("ignore")  # of the harness and what it brings
def test_lm_eval_s_adapter_takes_it(woken: Woken, data: Prepared) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install -e '.[eval]')")
    from lm_eval.api.instance import Instance

    from bloomery.evaluate.lmeval_model import adapter

    scorer: Any = open_scorer(woken.model)
    model = adapter(scorer, BYTES, window=100)
    pair = ("the furnace", " makes iron")
    whole = np.array([256, *"".join(pair).encode()])
    instances = [Instance("loglikelihood", {}, pair, 0)]
    (logprob, _), *_ = model.loglikelihood(instances)
    context = len(pair[0].encode())
    own = scorer.document_logprobs(whole[1:])  # the harness puts nothing before a context
    assert logprob == pytest.approx(own[context - 1 :].sum(), abs=1e-6)
    asked = Instance("generate_until", {}, ("the furnace", {"until": ["\n"], "max_gen_toks": 8}), 0)
    (text,) = model.generate_until([asked])
    assert text == BYTES.decode(list(greedy(scorer, [*b"the furnace"], 8, 257))).split("\n")[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_of_it_writes_is_evaluated_and_has_a_report(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bloomery = Command(monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text", 60)
    config = {
        **VARIANTS[variant], "tokens": 3000, "sleep": {"every": 700},
        "validation": {"split": "val", "documents": 2},
    }  # fmt: skip
    plan = {
        "bloomery": 1, "name": "test/memory", "system": "holographic", "seeds": [0],
        "hypothesis": "A memory is a model.", "data": DATA,
        "suites": {
            "text": {"kind": "perplexity", "data": "corpus:test", "items": 4},
            "asked": {"kind": "gauntlet", "items": 1},
        },
        "stages": [{"id": "wake", "kind": "consolidate", "config": config, "evaluate": ["text", "asked"]}],
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    said = bloomery("run", "plan.yaml", "--threads", "1")
    assert said.code == 0, said.out + said.err
    folder = tmp_path / "runs/test/memory/wake/1/candidate-seed0/model"
    wrote = bloomery("generate", "test/memory", "--prompt", PROMPT, "--tokens", "16", "--seed", "3")
    own, _ = alone(open_scorer(folder), PROMPT, max_tokens=16, seed=3, temperature=0.6, top_p=0.95)
    assert wrote.out == f"{PROMPT}{own}\n"
    report = (tmp_path / "runs/test/memory/report.html").read_text()
    assert "memory/prototypes" in report
    assert "asked/all/accuracy" in report
