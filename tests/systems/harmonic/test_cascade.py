"""harmonic/cascade: what it writes can be opened, routes by its packets, and is judged by the gauntlet."""

from pathlib import Path
from typing import Any

import pytest
from asked import SHAPE, ask, manuals, random_model

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.discover import catalogue
from bloomery.evaluate.cascade.routing import CONNECTIONS, route, words_of
from bloomery.evaluate.sample import generate
from bloomery.plan.check import check
from bloomery.plan.load import load_text
from bloomery.stages import models
from bloomery.stages.cascades import member_folders, open_cascade, read_cascade
from bloomery.stages.gauntlet import Gauntlet, GauntletSettings, _writer
from bloomery.systems.harmonic.cascade import Cascade

EXPERTS = {"packets": 2, "routing": "idf", "tokens": 512, "batch": 4, "context": 32}
CONFIG: dict[str, Any] = {"experts": EXPERTS, "last": {"ngram": 3}, "feedback": "hebbian"}


def nowhere(name: object) -> Path:
    raise AssertionError(name)


def test_it_is_found_and_takes_what_the_plan_says() -> None:
    kind = catalogue.kind("harmonic/cascade")
    written = {"experts": {"packets": 16, "routing": "idf"}, "last": {"ngram": 5}, "feedback": "hebbian"}
    config = kind.config_model().model_validate(written)
    assert kind.accepts(config) == {"model": True, "fallback": True, "experts": False}
    assert kind.produces(config) == {"model": "model", "experts": "experts"}
    assert kind.fits_on(config) == ("manuals:train",)
    assert kind.cost(config, system="harmonic", vocab=300, model=SHAPE).flops > 0


@pytest.mark.slow
def test_what_it_writes_opens_routes_and_answers(asked_data: Prepared, know_nothing: Artifact, tmp_path: Path) -> None:
    fallback = random_model(asked_data, tmp_path / "fallback", seed=1)
    inputs = {"model": know_nothing, "fallback": fallback}
    made = ask(Cascade(), asked_data, tmp_path / "sure", inputs, {**CONFIG, "confidence": 0})
    folder = made.folder / "model"
    declared = read_cascade(folder)
    card = declared.card
    assert card.names == ("model", "expert0", "expert1", "fallback", "last")
    assert card.routing == "learned"
    readers, relevance = open_cascade(declared, member_folders(declared, nowhere, nowhere), device="cpu")
    weights = {name: [0.0] * CONNECTIONS for name in card.names}
    for place in (0, 1):
        text = (folder / "packets" / f"expert{place}.txt").read_text().split("\n\n")[0]
        order = route(card, relevance, words_of(text), weights)
        assert order[:2] == ("model", f"expert{place}")
        assert order[-2:] == ("fallback", "last")
    assert set(readers) == set(card.names)
    assert {one.name for one in made.measured} == set(Cascade().emits(Cascade().config_model().model_validate(CONFIG)))

    tokenizer, prompt = asked_data.tokenizer, "Q: How many?\nA:"
    alone = {
        name: generate(models.load_model(one.path), tokenizer, prompt, max_tokens=6, temperature=0)
        for name, one in inputs.items()
    }
    assert alone["model"] != alone["fallback"]
    assert _writer(folder, tokenizer, "cpu")(prompt, 6) == alone["model"], "who need not be sure is taken at once"
    unsure = ask(Cascade(), asked_data, tmp_path / "unsure", inputs, {**CONFIG, "confidence": 1})
    assert _writer(unsure.folder / "model", tokenizer, "cpu")(prompt, 6) == alone["fallback"]

    artifact = seal(folder, "cascade.model", "model")
    config = GauntletSettings(data="skills:test", items=1)
    result = Gauntlet().run(config, artifact, asked_data.folder, device="cpu", threads=1)
    assert {"all/accuracy", "weakest/accuracy"} <= {one.name for one in result.measurements}


def test_a_cascade_needs_experts_of_its_own() -> None:
    for change in ({"experts": {"packets": 1}}, {"last": {"ngram": 6}}, {"feedback": "none"}, {"confidence": 2}):
        with pytest.raises(ValueError, match=next(iter(change))):
            Cascade().config_model().model_validate({**CONFIG, **change})


PLAN = """bloomery: 1
name: test/cascade
system: harmonic
hypothesis: experts answer better
variable: nothing
seeds: [0]
data: {tokenizer: {kind: bytes}, manuals: {source: text, folder: manuals}}
suites: {text: {kind: perplexity, data: "manuals:PART"}}
stages:
  - id: base
    kind: pretrain
    config: {model: {layers: 1, width: 16, heads: 2, basis: sine, compression: 4}, data: manuals, tokens: 4096 tok,
             optimizer: {lr: 0.1}}
    gate: [{metric: text/loss, op: "<", value: 9}]
  - id: answer
    kind: harmonic/cascade
    needs: {model: base, fallback: base}
    config: {experts: {packets: 16, tokens: TOKENS, batch: 8, context: 128}}
    sweep: {experts.packets: [2, 4]}
    select: {lowest: packets/routed_loss}
    gate: [{metric: text/loss, op: "<", value: 9}]
"""


@pytest.mark.parametrize(
    ("tokens", "part", "said"),
    [
        ("40k", "test", []),
        ("4k", "test", ["3 steps for 16 specialists"]),
        ("40k", "val", ["packets/routed_loss is looked at on manuals:val, which the suite 'text' judges on"]),
    ],
)
def test_check_says_what_cannot_be(tmp_path: Path, tokens: str, part: str, said: list[str]) -> None:
    manuals(tmp_path / "manuals")
    written = PLAN.replace("TOKENS", tokens).replace("PART", part)
    problems = check(load_text(written, tmp_path / "plan.yaml"), catalogue).problems
    assert len(problems) == len(said), problems
    assert all(one in str(problem) for one, problem in zip(said, problems, strict=True)), problems
