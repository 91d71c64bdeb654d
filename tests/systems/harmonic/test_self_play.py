"""harmonic/self_play as a stage: what it measures and hands on, killed and gone on with, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import ask, random_model, until_done
from pydantic import ValidationError

from bloomery.data.prepared import Prepared
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.engine.artifact import Artifact
from bloomery.engine.discover import catalogue
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.gauntlet.generate import item_named
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_cache import Cached
from bloomery.evaluate.sampling import Sampling
from bloomery.measure import Measurement
from bloomery.plan.metrics import matches
from bloomery.stages.baselines import NGRAM_CARD
from bloomery.stages.gauntlet import likeliest
from bloomery.stages.prepare import parse_data, prepare
from bloomery.systems.harmonic.asking import Diary, writer_of
from bloomery.systems.harmonic.axes import AXES, training_side
from bloomery.systems.harmonic.self_play import MOST_AXES, Settings, kind

CONFIG: dict[str, Any] = {"axes": 4, "rounds": 10, "questions": 2, "weakest": 2}


def test_it_is_found_and_its_pure_half_says_what_it_does() -> None:
    found = catalogue.kind("harmonic/self_play")
    config = found.config_model().model_validate({"axes": 24, "rounds": 100})
    assert found.produces(config) == {"data": "data"}
    assert found.accepts(config) == {"model": True, "rival": False}
    assert found.fits_on(config) == ("skills:train",)
    assert found.misfit(config, config)
    assert len(AXES) == MOST_AXES
    model = {"system": "dense", "layers": 2, "width": 32, "heads": 2}
    cost = found.cost(config, system="harmonic", vocab=300, model=model)
    twice = found.cost(Settings(axes=24, rounds=200), system="harmonic", vocab=300, model=model)
    assert twice.flops == 2 * cost.flops > 0
    assert cost.tokens == 0, "nothing is learned from"


def test_it_hands_on_checked_examples_of_the_training_side(
    asked_data: Prepared, know_nothing: Artifact, tmp_path: Path
) -> None:
    asked = ask(kind(), asked_data, tmp_path, {"model": know_nothing}, CONFIG)
    side = training_side(asked_data, "skills")
    assert asked.examples
    for example in asked.examples:
        item = item_named(example.origin["item"])
        assert example.prompt == item.prompt
        assert item.accepts(example.response)
        assert side(item.key)
    declared = kind().emits(Settings())
    assert all(any(matches(m.name, one) for one in declared) for m in asked.measured)
    names = {m.name for m in asked.measured}
    assert all(any(matches(name, one) for name in names) for one in declared)
    assert asked.last("play/examples").value == len(asked.examples)
    assert asked.last("play/accuracy").n == asked.last("play/yield").n == asked.last("play/random_yield").n == 10
    gain = asked.last("play/yield").value - asked.last("play/random_yield").value
    assert asked.last("play/yield_gain").value == pytest.approx(gain)


@pytest.mark.slow
def test_killed_and_gone_on_with_it_ends_the_same(asked_data: Prepared, know_nothing: Artifact, tmp_path: Path) -> None:
    whole = ask(kind(), asked_data, tmp_path / "whole", {"model": know_nothing}, CONFIG)
    cut, times = until_done(kind(), asked_data, tmp_path / "cut", {"model": know_nothing}, CONFIG)
    assert times >= 2
    assert cut.examples == whole.examples
    assert values(cut.measured) == values(whole.measured)


def values(measured: list[Measurement]) -> dict[str, float]:
    return {one.name: one.value for one in measured}


@pytest.mark.slow
def test_a_row_that_was_cut_short_is_played_again(asked_data: Prepared, know_nothing: Artifact, tmp_path: Path) -> None:
    whole = ask(kind(), asked_data, tmp_path, {"model": know_nothing}, CONFIG)
    rows = tmp_path / "checkpoint" / "rows.jsonl"
    content = rows.read_bytes()
    rows.write_bytes(content[: len(content) * 2 // 3])
    again = ask(kind(), asked_data, tmp_path, {"model": know_nothing}, CONFIG)
    assert again.examples == whole.examples
    assert rows.read_bytes() == content


@pytest.mark.slow
def test_another_model_or_seed_is_asked_other_questions_and_rivals_play_too(
    asked_data: Prepared, know_nothing: Artifact, tmp_path: Path
) -> None:
    few = {"axes": 2, "rounds": 4, "questions": 1, "weakest": 2}
    rival = random_model(asked_data, tmp_path / "rival", seed=1)
    one = ask(kind(), asked_data, tmp_path / "one", {"model": know_nothing, "rival": rival}, few)
    other = ask(kind(), asked_data, tmp_path / "other", {"model": rival}, few)
    seeded = ask(kind(), asked_data, tmp_path / "seeded", {"model": rival}, few, seed=1)
    asked = [{example.origin["item"] for example in each.examples} for each in (one, other, seeded)]
    assert not asked[0] & asked[1]
    assert not asked[1] & asked[2]
    import json

    rounds = [json.loads(line) for line in (tmp_path / "one" / "checkpoint" / "rows.jsonl").read_text().splitlines()]
    assert {len(each["answers"]) for each in rounds} == {6}, "two models at three settings"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"axes": 100}, "less than or equal to 99"),
        ({"weakest": 5}, "at most 4"),
        ({"rounds": 6}, "7 do"),
        ({"competitors": [{"temperature": 0.5}]}, "temperature 0"),
        ({"axis": 4}, "axis"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings.model_validate({**CONFIG, **change})


def test_other_data_and_other_vocabularies_are_refused(
    asked_data: Prepared, know_nothing: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="its source is text"):
        ask(kind(), asked_data, tmp_path / "a", {"model": know_nothing}, {**CONFIG, "data": "manuals"})
    with pytest.raises(DataError, match="no set 'skill'"):
        ask(kind(), asked_data, tmp_path / "b", {"model": know_nothing}, {**CONFIG, "data": "skill"})
    skills = {"source": "gauntlet", "examples": 400}
    other = prepare(parse_data({"tokenizer": {"kind": "bytes"}, "skills": skills}), tmp_path / "other")
    with pytest.raises(ArtifactError, match="tokenizer"):
        ask(kind(), other, tmp_path / "c", {"model": know_nothing}, CONFIG)


def test_a_table_answers_with_its_caches_and_speaks_its_own_vocabulary(asked_data: Prepared, tmp_path: Path) -> None:
    tokenizer = BytesTokenizer()
    end, text = tokenizer.end_of_document, [list(map(int, tokenizer.encode(one))) for one in ("ab" * 20, "z" * 40)]
    table, repeats = (np.array([end, *one]) for one in text)
    counted = NGram.fit([table], order=2, vocab=tokenizer.vocab, end_of_document=end)
    Cached.fit(counted, [repeats], windows=(20,), longest=1).save(tmp_path)
    (tmp_path / NGRAM_CARD).write_text("{}")
    tokenizer.save(tmp_path / "tokenizer")
    sampling = [Sampling(max_tokens=3, temperature=0.0, seed=0)]
    assert likeliest(counted, tokenizer, "zzzz", 3) != "zzz", "the table never saw it"
    assert writer_of(tmp_path, tokenizer, "cpu")(["zzzz"], sampling) == ["zzz"]
    with pytest.raises(ArtifactError, match="tokenizer"):
        writer_of(tmp_path, asked_data.tokenizer, "cpu")


def test_a_damaged_row_is_told_and_a_cut_one_counts_as_not_written(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for row in ({"a": 1}, [2]):
        diary.add(row)
    file = tmp_path / "rows.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"half')
    assert Diary(tmp_path).rows == [{"a": 1}, [2]]
    assert file.read_bytes() == whole
    for harmed in (whole.replace(b"}", b""), whole.replace(b"1", b"\xff")):
        file.write_bytes(harmed)
        with pytest.raises(ArtifactError, match=r"rows\.jsonl:1: damaged"):
            Diary(tmp_path)
        assert file.read_bytes() == harmed
