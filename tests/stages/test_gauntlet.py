"""The gauntlet as data, as a suite, and in a run: parts that share no tuple, scores against a brute force, a gate."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.data.prepared import Prepared
from bloomery.data.tokens import write_token_file
from bloomery.engine.artifact import seal
from bloomery.engine.intervals import wilson_interval
from bloomery.errors import BloomeryError, DataError, PlanError
from bloomery.evaluate.gauntlet.item import CATEGORIES, Item
from bloomery.evaluate.gauntlet.rivals import best_constant, solves
from bloomery.evaluate.gauntlet.source import HELD_OUT, GauntletItems, items_of, with_held_out
from bloomery.evaluate.ngram import NGram
from bloomery.measure import Measurement
from bloomery.stages import data_spec
from bloomery.stages.baselines import NGRAM_CARD
from bloomery.stages.gauntlet import GROUPS, Gauntlet, GauntletSettings, _constants, _own, _prepared, judged, likeliest
from bloomery.stages.prepare import parse_data, prepare
from support.command import Command, tiny_plan

SKILLS = {"source": "gauntlet", "examples": 800, "split_by": "tuple", "split": {"train": 0.8, "val": 0.1, "test": 0.1}}
DATA: dict[str, Any] = {"tokenizer": {"kind": "bpe", "vocab": 600}, "skills": SKILLS}


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(parse_data(DATA), tmp_path_factory.mktemp("skills") / "data")


def of(prepared: Prepared, split: str) -> list[Item]:
    return items_of(prepared.part(f"skills:{split}"), prepared.tokenizer)


@pytest.mark.slow
def test_the_parts_share_no_tuple_and_held_out_templates_stand_nowhere_else(skills: Prepared) -> None:
    assert skills.splits("skills") == ("train", "val", "test", "held_out")
    parts = {split: of(skills, split) for split in skills.splits("skills")}
    assert sum(map(len, parts.values())) == 880
    assert 0.74 < len(parts["train"]) / 800 < 0.86
    keys = [item.key for items in parts.values() for item in items]
    assert len(set(keys)) == len(keys)
    templates = {split: {(item.category, item.template) for item in items} for split, items in parts.items()}
    assert not templates["held_out"] & (templates["train"] | templates["val"] | templates["test"])
    assert {item.category for item in parts["test"]} == {item.category for item in parts["held_out"]} == set(CATEGORIES)


def test_it_is_made_the_same_again_and_kept(skills: Prepared, tmp_path: Path) -> None:
    again = prepare(parse_data(DATA), tmp_path / "data")
    assert again.digest == skills.digest
    made = (tmp_path / "data" / "manifest.json").stat().st_mtime_ns
    assert prepare(parse_data(DATA), tmp_path / "data").digest == skills.digest
    assert (tmp_path / "data" / "manifest.json").stat().st_mtime_ns == made
    other = prepare(parse_data({**DATA, "skills": {**SKILLS, "seed": 1}}), tmp_path / "other")
    assert other.digest != skills.digest
    assert other.manifest["sets"]["skills"]["provenance"]["seed"] == 1


def test_a_prompt_is_cut_where_tokens_end(skills: Prepared) -> None:
    """What is learned after a prompt is what is asked for after it."""
    for item in of(skills, "test"):
        prompt, whole = skills.tokenizer.encode(item.prompt), skills.tokenizer.encode(item.text)
        assert whole[: len(prompt)].tolist() == prompt.tolist(), item.text
        assert skills.tokenizer.decode(whole[len(prompt) :]) == f" {item.reference}"


def test_documents_that_are_no_items_or_of_another_version_are_refused(skills: Prepared, tmp_path: Path) -> None:
    documents = list(GauntletItems(80).documents())
    part = write_token_file(tmp_path / "some.tokens", documents[:5], skills.tokenizer)
    assert [item.name for item in items_of(part, skills.tokenizer)] == [one.name for one in documents[:5]]
    from dataclasses import replace

    changed = [*documents[:4], replace(documents[4], text=documents[4].text + "!")]
    part = write_token_file(tmp_path / "changed.tokens", changed, skills.tokenizer)
    with pytest.raises(DataError, match="not what this version builds"):
        items_of(part, skills.tokenizer)
    part = write_token_file(tmp_path / "other.tokens", [replace(documents[0], name="a.txt")], skills.tokenizer)
    with pytest.raises(DataError, match="is no item of the gauntlet"):
        items_of(part, skills.tokenizer)


def test_the_rule_keeps_held_out_items_apart_whatever_it_says() -> None:
    rule = with_held_out(lambda group: "train")
    found = Counter(rule(one.group) for one in GauntletItems(800).documents())
    assert found == {"train": 800, HELD_OUT: 80}
    assert data_spec.GAUNTLET_HELD_OUT == HELD_OUT
    assert data_spec.Category.__args__ == CATEGORIES  # pyright: ignore[reportAttributeAccessIssue]


BROKEN = [
    ({"split": {"train": 0.9, "held_out": 0.1}}, "skills.split.held_out", "whole templates"),
    ({"shares": {"math": 0.5, "factual": 0.4}}, "skills.shares", "sum to 0.9"),
    ({"shares": {"maths": 1.0}}, "skills.shares", "maths"),
    ({"examples": 10}, "skills.examples", "10"),
    ({"examples": 50_000}, "skills.examples", "40000"),
    ({"deduplicate": "lines"}, "skills.deduplicate", "lines"),
    ({"split_by": "prompt"}, "skills.split_by", "prompt"),
]


@pytest.mark.parametrize(("change", "where", "found"), BROKEN)
def test_what_the_data_cannot_mean_is_refused(change: dict[str, Any], where: str, found: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_data({**DATA, "skills": {**SKILLS, **change}})
    assert caught.value.where.startswith(where)
    assert found in f"{caught.value.where} {caught.value.found} {caught.value.expected}"


def test_the_default_split_has_its_held_out_part_too() -> None:
    spec = parse_data({"tokenizer": {"kind": "bytes"}, "skills": {"source": "gauntlet"}})
    assert spec.splits() == {"skills": ("train", "dev", "val", "test", "held_out")}
    assert spec.for_plan("skills:test").prepared_splits() == {"skills": ("train", "dev", "val", "test", "held_out")}


# The suite


def half_right(item: Item) -> str:
    """Right for every other item, by the length of its prompt."""
    return item.reference if len(item.prompt) % 2 else "I do not know."


def chosen(skills: Prepared, split: str) -> dict[str, list[Item]]:
    items = of(skills, split)
    return {category: [item for item in items if item.category == category] for category in CATEGORIES}


def found(skills: Prepared, answer: Any) -> dict[tuple[str, str], Measurement]:
    constants = _constants(_prepared(skills, "skills:test")[1])
    result = judged(chosen(skills, "test"), constants, answer, skills.part("skills:test").digest)
    return {(one.who, one.name): one for one in result.measurements}


def test_it_measures_what_it_declares_with_n_and_interval(skills: Prepared) -> None:
    measured = found(skills, half_right)
    declared = set(Gauntlet().emits(GauntletSettings(data="skills:test")))
    assert {name for who, name in measured if who == "candidate"} == declared
    assert {name for who, name in measured if who != "candidate"} == {f"{group}/accuracy" for group in GROUPS}
    assert {who for who, _ in measured} == {"candidate", "baseline:best_constant"}
    assert Gauntlet().brings(GauntletSettings(data="skills:test")) == ("best_constant",)
    for one in measured.values():
        assert one.n >= 5
        assert one.items is not None
        assert len(one.items.sums) == one.n
        assert one.interval is not None
        assert one.interval.low <= one.value <= one.interval.high


@pytest.mark.slow
def test_scores_are_those_of_a_brute_force(skills: Prepared) -> None:
    measured, train = found(skills, half_right), chosen(skills, "train")
    right, constant = [], []
    for category, items in chosen(skills, "test").items():
        mine = [len(item.prompt) % 2 for item in items]
        fitted = best_constant(train[category])
        rival = [int(solves(fitted, item)) for item in items]
        one = measured["candidate", f"{category}/accuracy"]
        assert one.value == pytest.approx(np.mean(mine))
        assert (one.n, one.interval) == (len(items), wilson_interval(sum(mine), len(items)))
        assert measured["candidate", f"{category}/best_constant"].value == pytest.approx(np.mean(rival))
        assert measured["baseline:best_constant", f"{category}/accuracy"].value == pytest.approx(np.mean(rival))
        assert measured["candidate", f"{category}/margin"].value == pytest.approx(np.mean(mine) - np.mean(rival))
        right.append(mine)
        constant.append(rival)
    together = measured["candidate", "all/accuracy"]
    assert together.value == pytest.approx(np.mean(np.concatenate(right)))
    assert together.n == sum(map(len, right))
    assert measured["candidate", "weakest/accuracy"].value == pytest.approx(min(map(np.mean, right)))
    assert measured["baseline:best_constant", "weakest/accuracy"].value == pytest.approx(min(map(np.mean, constant)))
    shares = {category: np.mean(one) for category, one in zip(CATEGORIES, right, strict=True)}
    behind = measured["candidate", "factual/behind_reasoning"]
    assert behind.value == pytest.approx(shares["reasoning"] - shares["factual"])


@pytest.mark.slow
def test_right_answers_earn_everything_and_the_constants_no_margin(skills: Prepared) -> None:
    """Programs are run for this; their share is one item in eight."""
    best = found(skills, lambda item: item.reference)
    assert all(best["candidate", f"{group}/accuracy"].value == 1 for group in GROUPS)
    constants = _constants(_prepared(skills, "skills:test")[1])
    constant = found(skills, lambda item: constants[item.category].reference)
    for category in set(CATEGORIES) - {"code"}:
        assert constant["candidate", f"{category}/margin"].value == 0
    nothing = found(skills, lambda item: "")
    assert nothing["candidate", "all/accuracy"].value == 0


@pytest.mark.slow
def test_two_models_are_paired_over_the_same_items_only(skills: Prepared) -> None:
    one, two = found(skills, half_right), found(skills, lambda item: "")
    for name in ("math/accuracy", "all/accuracy", "all/margin"):
        first, second = one["candidate", name].items, two["candidate", name].items
        assert first is not None
        assert second is not None
        assert first.key == second.key
    a, b = one["candidate", "math/accuracy"].items, one["candidate", "code/accuracy"].items
    assert a is not None
    assert b is not None
    assert a.key != b.key


@pytest.mark.parametrize("data", ["skills", "skills:train"])
def test_constants_are_not_judged_on_what_they_were_fitted_on(skills: Prepared, data: str) -> None:
    with pytest.raises(BloomeryError, match="constants are fitted on"):
        _prepared(skills, data)


@pytest.mark.slow
def test_without_data_it_asks_its_own_questions_and_fits_constants_on_others() -> None:
    asked, others = _own()
    assert not {item.key for item in asked} & {item.key for item in others}
    assert {item.category for item in asked} == {item.category for item in others} == set(CATEGORIES)
    assert min(Counter(item.category for item in asked).values()) >= 80
    assert (asked, others) == _own()


def test_a_table_of_counts_answers_with_the_likeliest_tokens_after_the_whole_prompt(
    skills: Prepared, tmp_path: Path
) -> None:
    tokenizer, part = skills.tokenizer, skills.part("skills:train")
    end = tokenizer.end_of_document
    table = NGram.fit([np.asarray(part.tokens)], order=3, vocab=tokenizer.vocab, end_of_document=end)
    for item in of(skills, "test")[:6]:
        row = [end, *tokenizer.encode(item.prompt).tolist()]
        answer: list[int] = []
        while len(answer) < 12:
            answer.append(int(table.logprobs(torch.tensor([row + answer]))[0, -1].argmax()))
            if answer[-1] == end:
                break
        assert likeliest(table, tokenizer, item.prompt, 12) == tokenizer.decode([one for one in answer if one != end])
    table.save(tmp_path / "table")
    (tmp_path / "table" / NGRAM_CARD).write_text("{}")
    config = GauntletSettings(data="skills:test", items=1)
    model = seal(tmp_path / "table", "trigram", "model")
    result = Gauntlet().run(config, model, skills.folder, device="cpu", threads=1)
    assert len(result.samples) == len(CATEGORIES)
    assert all(one.n in (1, 2, 8) for one in result.measurements)


# In a run


def plan(folder: Path, **changes: Any) -> Path:
    """Pretraining on the gauntlet, finetuning on it, and gates on what the suite measures and brings."""
    no_worse = {"as": "difference", "op": ">=", "value": -1}
    gate = [
        {"metric": "gauntlet/*/accuracy", "relative_to": "baseline:best_constant", **no_worse},
        {"metric": "gauntlet/all/margin", "op": ">=", "value": -1},
        {"metric": "gauntlet/all/accuracy", "relative_to": "stage:pretrain", **no_worse},
    ]
    config = {"tokens": "512 tok", "batch": 4, "context": 64, "precision": "fp32"}
    config |= {"data": "skills", "packing": "documents", "validation": {"split": "val", "documents": 2}}
    model = {"layers": 1, "width": 16, "heads": 2}
    return tiny_plan(
        folder,
        **{
            "data": {"tokenizer": {"kind": "bpe", "vocab": 400}, "skills": SKILLS},
            "suites": {
                "gauntlet": {"kind": "gauntlet", "data": "skills:test", "items": 1},
                "unseen": {"kind": "gauntlet", "data": "skills:held_out", "items": 1},
            },
            "baselines": {},
            "stages": [
                {"id": "pretrain", "kind": "pretrain", "config": {"model": model, **config}},
                {
                    "id": "tune", "kind": "finetune", "needs": {"model": "pretrain"}, "config": config,
                    "evaluate": ["unseen"], "gate": gate,
                },
            ],
            **changes,
        },
    )  # fmt: skip


@pytest.fixture
def bloomery(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def events(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "runs").rglob("events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_a_plan_tunes_on_it_and_is_judged_against_the_rival_that_the_suite_brings(
    bloomery: Command, tmp_path: Path
) -> None:
    file = plan(tmp_path)
    said = bloomery("run", file, "--threads", "1")
    assert said.code == 0, said.out + said.err
    told = events(tmp_path)
    verdict = [event for event in told if event["event"] == "verdict" and event["stage"] == "tune"][-1]
    results = [one for one in verdict["conditions"] if one["metric"].startswith("gauntlet/")]
    compared = [one for one in results if "baseline:best_constant" in json.dumps(one)]
    assert {one["metric"] for one in compared} == {f"gauntlet/{group}/accuracy" for group in GROUPS}
    assert {one["status"] for one in results} == {"pass"}
    measured = [event["measurement"] for event in told if event["event"] == "measured"]
    names = {(one["name"], one["who"]) for one in measured}
    assert ("unseen/math/accuracy", "candidate") in names
    assert ("gauntlet/math/accuracy", "baseline:best_constant") in names
    samples = [event for event in told if event["event"] == "sample"]
    assert all(event["prompt"].startswith("Q: ") for event in samples)
    before = len(told)
    said = bloomery("run", file, "--threads", "1")
    assert said.code == 0, said.out + said.err
    again = events(tmp_path)[before:]
    assert not [event for event in again if event["event"] in ("measured", "evaluated")]


def test_check_knows_the_rival_and_refuses_another(bloomery: Command, tmp_path: Path) -> None:
    assert bloomery("check", plan(tmp_path)).code == 0
    condition = {"metric": "gauntlet/math/accuracy", "op": ">", "value": 1, "relative_to": "baseline:constant"}
    gate = {"stages.1.gate": [condition]}
    said = bloomery("check", plan(tmp_path, **gate))
    assert said.code == 2
    assert "no baseline 'constant'" in said.out + said.err
    condition["relative_to"] = "baseline:best_constant"
    assert bloomery("check", plan(tmp_path, **gate)).code == 0
    both = {**gate, "baselines": {"best_constant": {"kind": "ngram"}}}
    said = bloomery("check", plan(tmp_path, **both))
    assert said.code == 2
    assert "two baselines 'best_constant'" in said.out + said.err
    condition["metric"] = "gauntlet/maths/accuracy"
    said = bloomery("check", plan(tmp_path, **gate))
    assert "does not measure gauntlet/maths/accuracy" in said.out + said.err
