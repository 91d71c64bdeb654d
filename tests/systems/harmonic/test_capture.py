"""harmonic/capture and harmonic/gap_extraction, asked of one who remembers half of what is asked."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from asked import DATA, ask, manuals, until_done
from pydantic import ValidationError

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact
from bloomery.engine.discover import catalogue
from bloomery.errors import DataError
from bloomery.evaluate.gauntlet.generate import item_named
from bloomery.evaluate.gauntlet.item import Item
from bloomery.evaluate.gauntlet.source import items_of
from bloomery.plan.metrics import matches
from bloomery.stages.feedback import Ledger
from bloomery.stages.prepare import parse_data, prepare
from bloomery.systems.harmonic import capture, gap_extraction
from bloomery.systems.harmonic.gap_extraction import overlap, questions_of
from support.cascades import card

Memory = dict[str, str]
IGNORANT = "I do not know."
FORGE = card({"smith": {}})


def items(data: Prepared) -> list[Item]:
    return items_of(data.part("skills:train"), data.tokenizer)


def questions(data: Prepared) -> list[dict[str, Any]]:
    part = data.part("manuals")
    return list(questions_of(part, data.tokenizer, range(part.documents)))


@pytest.fixture
def memory(asked_data: Prepared, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """{prompt: answer} of every second item and every second question; whoever is asked remembers these alone."""
    known = {one.prompt: one.reference for one in items(asked_data)[::2]}
    known |= {one["prompt"]: one["answer"] for one in questions(asked_data)[::2]}

    def writer_of(folder: Path, tokenizer: Any, device: str) -> Any:
        def write(prompts: Any, samplings: Any) -> list[str]:
            ends = (" " + known.get(prompt, IGNORANT) for prompt in prompts)
            tokens = (tokenizer.encode(text)[: one.max_tokens] for text, one in zip(ends, samplings, strict=True))
            return [tokenizer.decode(some) for some in tokens]

        return write

    for module in (capture, gap_extraction):
        monkeypatch.setattr(module, "writer_of", writer_of)
    return known


def test_they_are_found_and_say_what_they_do() -> None:
    for name, config, part in (
        ("capture", {"data": "skills", "score_below": 0.5}, "skills:train"),
        ("gap_extraction", {"data": "manuals", "questions": 300}, "manuals:train"),
    ):
        kind = catalogue.kind(f"harmonic/{name}")
        settings = kind.config_model().model_validate(config)
        assert kind.fits_on(settings) == (part,)
        assert kind.produces(settings) == {"data": "data"}
        assert kind.accepts(settings) == {"model": True}
        assert kind.cost(settings, system="harmonic", vocab=300).flops == 0
        with pytest.raises(ValidationError):
            kind.config_model().model_validate({**config, "questions": 0})


@pytest.mark.slow
def test_exactly_what_was_answered_wrongly_is_captured(
    asked_data: Prepared, know_nothing: Artifact, memory: Memory, tmp_path: Path
) -> None:
    asked = ask(capture.kind(), asked_data, tmp_path, {"model": know_nothing}, {"questions": 10_000})
    train = items(asked_data)
    assert asked.last("capture/asked").value == len(train)
    assert [example.origin["item"] for example in asked.examples] == [one.name for one in train[1::2]]
    assert asked.last("capture/examples").value == len(asked.examples)
    assert asked.last("capture/score").value == pytest.approx(1 - len(asked.examples) / len(train))
    for example in asked.examples:
        item = item_named(example.origin["item"])
        assert (example.prompt, example.response, example.category) == (item.prompt, item.reference, item.category)
        assert example.origin["said"].strip() == IGNORANT


@pytest.mark.slow
def test_another_model_is_asked_other_items(
    asked_data: Prepared, know_nothing: Artifact, memory: Memory, tmp_path: Path
) -> None:
    config = {"questions": 60}
    one = ask(capture.kind(), asked_data, tmp_path / "one", {"model": know_nothing}, config)
    again = ask(capture.kind(), asked_data, tmp_path / "again", {"model": know_nothing}, config)
    seeded = ask(capture.kind(), asked_data, tmp_path / "seeded", {"model": know_nothing}, config, seed=1)
    assert one.examples == again.examples != seeded.examples


def test_what_was_voted_down_is_asked_again_or_learned_as_it_was_corrected(
    know_nothing: Artifact, asked_data: Prepared, memory: Memory, tmp_path: Path
) -> None:
    """As a server leaves it: a known question and an unknown one, one in a chat, a corrected one, one that nobody
    knows. All are the checker's to judge that a checker has; those that the gauntlet keeps for judging teach nothing.
    """
    known, wrong, chatted, twice = items(asked_data)[0], *items(asked_data)[1:6:2]
    votes = tmp_path / "feedback/cascade"
    held_out = items_of(asked_data.part("skills:test"), asked_data.tokenizer)[0]
    prompts = [
        (held_out.prompt, held_out.reference), (f"user: {held_out.task.question}\nassistant:", held_out.reference),
        (known.prompt, ""), (wrong.prompt, "Whatever."), (f"user: {chatted.task.question}\nassistant:", ""),
        (twice.prompt, ""), (f"{twice.prompt} ", ""), ("What is slag?", "What is left of the ore."), ("Why?", ""),
    ]  # fmt: skip
    with Ledger(votes, FORGE, texts=True) as ledger:
        for number, (prompt, correction) in enumerate(prompts):
            told = {"id": "", "member": "smith", "confidence": 0.5, "route": []}
            ledger.answered(f"ans-{number}", (0, 1), told, (prompt, " Because."))
            ledger.vote(f"ans-{number}", -1, correction)
    record = {
        "source": "jsonl", "file": "feedback/cascade/served.jsonl", "name": "answer", "prompt": "prompt",
        "response": "response", "category": "category", "split": {"train": 1}, "may_be_empty": True,
    }  # fmt: skip
    manuals(tmp_path / "manuals")
    data = prepare(parse_data({**DATA, "served": record}), tmp_path / "data", roots=[tmp_path])
    config = {"questions": 1, "served": "served"}
    asked = ask(capture.kind(), data, tmp_path / "asked", {"model": know_nothing}, config)
    assert capture.kind().fits_on(capture.Settings.model_validate(config)) == ("skills:train", "served:train")
    drawn = int(asked.last("capture/asked").value)
    assert drawn == asked.last("capture/score").n == 1, "what is served says nothing of the share"
    found = [one for one in asked.examples if "served" in one.origin]
    assert [(one.prompt, one.response, one.category) for one in found] == [
        *((one.prompt, one.reference, one.category) for one in (wrong, chatted, twice)),
        ("What is slag?", "What is left of the ore.", "instruct"),
    ]  # fmt: skip
    assert (asked.last("capture/served").value, asked.last("capture/from_served").value) == (len(prompts), 4)
    votes.joinpath("served.jsonl").unlink()
    none = prepare(parse_data({**DATA, "served": record}), tmp_path / "none", roots=[tmp_path])
    alone = ask(capture.kind(), none, tmp_path / "alone", {"model": know_nothing}, config)
    assert alone.last("capture/served").value == 0


def test_of_several_answers_the_share_counts(asked_data: Prepared, know_nothing: Artifact, tmp_path: Path) -> None:
    asked = ask(capture.kind(), asked_data, tmp_path, {"model": know_nothing}, {"questions": 3, "answers": 2})
    assert len(asked.examples) == 3
    assert {example.origin["score"] for example in asked.examples} == {0.0}


def test_gaps_are_what_was_not_answered_each_with_document_and_span(
    asked_data: Prepared, know_nothing: Artifact, memory: Memory, tmp_path: Path
) -> None:
    every = questions(asked_data)
    assert len({one["prompt"] for one in every}) == len(every) > 70
    asked = ask(gap_extraction.kind(), asked_data, tmp_path, {"model": know_nothing}, {"questions": 1000})
    assert asked.last("gaps/asked").value == len(every)
    assert asked.last("gaps/documents").value == asked_data.documents("manuals")
    part = asked_data.part("manuals")
    texts = {name: asked_data.tokenizer.decode(part.document(at)[:-1]) for at, name in enumerate(part.names)}
    for example in asked.examples:
        origin = example.origin
        span = texts[origin["document"]][origin["start"] : origin["end"]]
        assert example.response in " ".join(span.split())
    gaps = [one["prompt"] for one in every if one["prompt"] not in memory]
    assert Counter(example.prompt for example in asked.examples) == Counter(gaps)
    assert asked.last("gaps/answered").value == pytest.approx(1 - len(gaps) / len(every))


def f1(said: str, wanted: str) -> float:
    """As SQuAD's own script has it: precision and recall, word by word."""
    one, other = (
        [word for word in re.sub(r"[^\w\s]", " ", text.lower()).split() if word not in ("a", "an", "the")]
        for text in (said, wanted)
    )
    left, shared = list(other), 0
    for word in one:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(one), shared / len(other)
    return 2 * precision * recall / (precision + recall)


def test_the_overlap_is_squads() -> None:
    for said, wanted in (("The tower of stones!", "a tower of 3 stones"), ("", "x"), ("x x y", "x y y"), ("no", "yes")):
        assert overlap(said, wanted) == pytest.approx(f1(said, wanted))


def test_no_more_gaps_than_were_asked_for(
    asked_data: Prepared, know_nothing: Artifact, memory: Memory, tmp_path: Path
) -> None:
    asked = ask(gap_extraction.kind(), asked_data, tmp_path, {"model": know_nothing}, {"questions": 7})
    assert len(asked.examples) == asked.last("gaps/examples").value == 7
    assert 13 <= asked.last("gaps/asked").value <= 28, "half are known, and at most four are asked for each"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "config"), [(capture.kind(), {"questions": 150}), (gap_extraction.kind(), {})])
def test_killed_and_gone_on_with_they_end_the_same(
    kind: Any,
    config: dict[str, Any],
    asked_data: Prepared,
    know_nothing: Artifact,
    memory: dict[str, str],
    tmp_path: Path,
) -> None:
    whole = ask(kind, asked_data, tmp_path / "whole", {"model": know_nothing}, config)
    cut, times = until_done(kind, asked_data, tmp_path / "cut", {"model": know_nothing}, config)
    assert times >= 1
    assert cut.examples == whole.examples
    assert {one.name: one.value for one in cut.measured} == {one.name: one.value for one in whole.measured}
    declared = kind.emits(kind.config_model().model_validate(config))
    assert all(any(matches(one.name, name) for name in declared) for one in whole.measured)
    assert {one.name for one in whole.measured} == set(declared)


def test_other_data_is_refused(asked_data: Prepared, know_nothing: Artifact, memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no item of the gauntlet"):
        ask(capture.kind(), asked_data, tmp_path / "a", {"model": know_nothing}, {"data": "manuals"})
    with pytest.raises(DataError, match="no set 'manual'"):
        ask(gap_extraction.kind(), asked_data, tmp_path / "b", {"model": know_nothing}, {"data": "manual"})
