"""Tuning by category: what is read, who is given further examples, what stays frozen, and going on exactly."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained, context, pretrain, settings

from bloomery.data.balance import check_balance, room, weigh
from bloomery.data.examples import Example, documents_of, write_examples
from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import tokens_of
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.stage import StageContext, Stopped
from bloomery.errors import ArtifactError, DataError, TrainingError
from bloomery.evaluate.gauntlet.generate import TEMPLATES, item_named
from bloomery.evaluate.gauntlet.item import CATEGORIES
from bloomery.evaluate.perplexity import perplexity
from bloomery.measure import Measurement
from bloomery.plan.canon import digest
from bloomery.stages import models, training
from bloomery.stages.finetune import Finetune, Settings
from bloomery.stages.material import Material, examples_of
from bloomery.stages.prepare import parse_data, prepare
from bloomery.stages.training import Addition
from bloomery.stages.tuning import Tuning, behind, segment

SPLIT = {"train": 0.8, "val": 0.1, "test": 0.1}
DATA: dict[str, Any] = {
    "tokenizer": {"kind": "bpe", "vocab": 500},
    "skills": {"source": "gauntlet", "examples": 800, "split_by": "tuple", "split": SPLIT},
}
TUNE: dict[str, Any] = {
    "data": "skills", "tokens": 4096, "batch": 4, "context": 64, "precision": "fp32", "optimizer": {"lr": 0.05},
    "validation": {"split": "val", "every": "25%", "examples": 3},
}  # fmt: skip
MADE = [
    Example(f"Q: How many letters has {'x' * n}?\nA:", str(n), "counting", {"round": n}) for n in range(1, 30)
]  # fmt: skip


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(parse_data(DATA), tmp_path_factory.mktemp("skills") / "data")


@pytest.fixture(scope="module")
def base(skills: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = settings(data="skills", validation={"split": "val", "documents": 2}, tokens=256)
    return pretrain(skills, tmp_path_factory.mktemp("base"), config)


def tune_settings(**changes: Any) -> Settings:
    return Settings.model_validate({**TUNE, **changes}, context={"system": "dense"})


def made(folder: Path, examples: list[Example] = MADE) -> Any:
    write_examples(folder, examples, {"kind": "test"})
    return seal(folder, "play.data", "data")


def material_of(ctx: StageContext, shares: Mapping[str, float]) -> Material:
    assert ctx.data is not None
    return Material(ctx.data, ctx.inputs, shares, {})


def tune(data: Prepared, folder: Path, config: Settings, base: Trained, **more: Any) -> Trained:
    measured: list[Measurement] = []
    inputs = {"model": unseal(base.result.outputs["model"]), **more.pop("inputs", {})}
    ctx = context(data, folder, record=measured.append, inputs=inputs, **more)
    result = Finetune().run(ctx, config)
    for name, output in result.outputs.items():
        seal(output, f"tune.{name}", name)
    return Trained(ctx, result, measured)


def stopping(after: int) -> Callable[[], str | None]:
    left = iter(range(after))
    return lambda: None if next(left, None) is not None else "signal"


# What is read


def test_every_category_is_looked_at_and_together_they_are_the_loss(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    tuned = tune(skills, tmp_path, tune_settings(tokens=256), base)
    network = models.load_model(tuned.result.outputs["model"])
    file = skills.part("skills:val")
    sums: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for category in CATEGORIES:
        own = [index for index, name in enumerate(file.categories) if name == category]
        chosen = [own[place * len(own) // 3] for place in range(3)] if len(own) > 3 else own
        alone = perplexity(network, file, context=64, documents=chosen)
        assert tuned.last(f"val/{category}/loss") == pytest.approx(alone.loss, rel=1e-5)
        assert tuned.last(f"val/{category}/accuracy") == sum(alone.exact) / len(alone.exact)
        sums[category], tokens[category] = math.fsum(alone.loss_sums), alone.tokens  # pyright: ignore
    assert tuned.last("val/loss") == pytest.approx(sum(sums.values()) / sum(tokens.values()), rel=1e-5)
    declared = Finetune().emits(tune_settings())
    assert {"val/*/loss", "val/*/accuracy", "train/topped_up"} <= set(declared)


def test_made_data_is_mixed_in_by_its_share_and_not_learned_twice(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    config = tune_settings(data={"skills": "75%", "won": "25%"})
    inputs = {"won": made(tmp_path / "won")}
    tuned = tune(skills, tmp_path / "work", config, base, inputs=inputs)
    assert Finetune().accepts(config) == {"skills": False, "won": False, "model": True, "state": False}
    won = tokens_of("won", documents_of(MADE, "won"), skills.tokenizer)
    by_hand = Batches(
        [(skills.part("skills:train"), 0.75), (won, 0.25)], batch=4, context=64, seed=0, packing="documents"
    )
    read = list(training.tokens_read(tuned.context, config))
    assert len(read) == config.steps
    for step, batch in enumerate(read):
        expected = by_hand.batch_at(step)
        assert batch.tokens.equal(expected.tokens)
        assert batch.mask.equal(expected.mask)
    other = tune(skills, tmp_path / "other", tune_settings(), base)
    assert other.result.hashes != tuned.result.hashes


def test_a_stage_that_made_nothing_leaves_its_share_to_the_others(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    said: list[str] = []
    config = tune_settings(data={"skills": "75%", "won": "25%"})
    tuned = tune(
        skills, tmp_path / "work", config, base, inputs={"won": made(tmp_path / "won", [])},
        note=lambda event, **facts: said.append(facts.get("text", "")),
    )  # fmt: skip
    assert (
        tuned.result.hashes["weights"] == tune(skills, tmp_path / "b", tune_settings(), base).result.hashes["weights"]
    )
    assert any("won: no examples" in text for text in said)
    only = context(skills, tmp_path / "c", inputs={"won": made(tmp_path / "none", [])})
    with pytest.raises(DataError, match="no examples"):
        material_of(only, {"won": 1.0})


def test_made_examples_that_ask_what_is_held_out_are_left_out(skills: Prepared, tmp_path: Path) -> None:
    """The same question, and the same tuple in other words: a template of a family asks what another one does."""
    held = examples_of(skills.part("skills:test"), skills.tokenizer)[:5]
    kept = examples_of(skills.part("skills:train"), skills.tokenizer)[:7]
    same = replace(kept[0], prompt=held[0].prompt, origin={"round": 1})
    reworded = replace(kept[1], prompt="Q: In other words?\nA:", origin={"item": held[1].origin["item"]})
    spaced = replace(
        kept[2], prompt=held[2].prompt + "\n", origin={"round": 2}
    )  # white space is one token with what follows
    merged = replace(kept[3], prompt=held[3].prompt, response=held[3].response.lstrip() + "s", origin={"round": 3})
    asked = [*held, *kept, same, reworded, spaced, merged]
    ctx = context(skills, tmp_path / "c", inputs={"won": made(tmp_path / "won", asked)})
    material = material_of(ctx, {"skills": 0.5, "won": 0.5})
    assert material.parts()[1][0].documents == len(kept)
    assert material.notes == ["won: 9 of 16 examples ask what is held out"]


def test_a_name_that_is_a_set_and_an_input_is_refused(skills: Prepared, tmp_path: Path) -> None:
    ctx = context(skills, tmp_path / "c", inputs={"skills": made(tmp_path / "won")})
    with pytest.raises(DataError, match="also a set"):
        material_of(ctx, {"skills": 1.0})


# Balance


def test_weights_are_counted_over_the_mixture() -> None:
    def file(**counts: int) -> Any:
        examples = [Example(f"{n}?", "x", name, {"n": n}) for name, count in counts.items() for n in range(count)]
        return tokens_of("x", documents_of(examples, "x"), BytesTokenizer())

    parts = [(file(math=30, code=10), 0.8), (file(code=5, format=15), 0.2)]
    weights = weigh(parts)
    assert {name: (one.examples, pytest.approx(one.share)) for name, one in weights.items()} == {
        "code": (15, 0.25), "format": (15, 0.15), "math": (30, 0.6),
    }  # fmt: skip
    check_balance(weights, at_most=0.6 + 1e-9, at_least=0.15 - 1e-9, examples=15)
    for rule, said in (
        ({"at_most": 0.5}, "'math'"), ({"at_least": 0.2}, "'format'"), ({"examples": 16}, "'code'"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            check_balance(weights, **{"at_most": 0.7, "at_least": 0.0, "examples": 1, **rule})  # pyright: ignore
    for least in (0.12, 0.149):  # format is diluted too where a part that holds it grows
        more = room(weights, *parts[1], "code", 100, most=1.0, least=least)
        shares = [
            weigh([parts[0], (file(code=5 + extra, format=15), 0.2)])["format"].share for extra in (more, more + 1)
        ]
        assert [share >= least for share in shares] == [True, False]
    more = room(weights, *parts[0], "code", 100, most=0.4, least=0.0)
    counted = [
        weigh([(file(math=30, code=10 + extra), 0.8), parts[1]])["code"].share <= 0.4 for extra in (more, more + 1)
    ]
    assert counted == [True, False]


def test_a_plan_out_of_balance_is_refused_before_training(skills: Prepared, base: Trained, tmp_path: Path) -> None:
    balance = {"at_most": "30%", "at_least": "3%", "examples": 20}
    tune(skills, tmp_path / "a", tune_settings(tokens=256, balance=balance), base)
    config = tune_settings(data={"skills": "70%", "won": "30%"}, balance=balance)
    with pytest.raises(DataError, match=r"(?s)category 'counting'.*at most 30%") as error:
        tune(skills, tmp_path / "b", config, base, inputs={"won": made(tmp_path / "won")})
    assert error.value.exit_code == 2
    assert not (tmp_path / "b" / "checkpoint").exists()


# Further examples


def test_who_falls_behind() -> None:
    assert behind({"a": 1.0, "b": 1.0, "c": 1.0, "d": 5.0}, 2.0) == ["d"]
    assert behind({"a": 1.0, "b": 1.0, "c": 1.0, "d": 3.0}, 2.0) == []  # exactly twice the mean is not more
    assert segment("Maths & Physics") == "maths_physics"


def test_further_examples_are_new_tuples_of_the_split_and_of_no_held_out_template(
    skills: Prepared, tmp_path: Path
) -> None:
    material = material_of(context(skills, tmp_path / "c"), {"skills": 1.0})
    added = [Addition(3, "math", 40), Addition(5, "code", 60), Addition(9, "math", 30)]
    file = material.parts(added)[0][0]
    own = skills.part("skills:train")
    further = [item_named(name) for name in file.names[own.documents :]]
    assert [one.category for one in further] == ["math"] * 40 + ["code"] * 60 + ["math"] * 30
    everywhere = {item_named(name).key for part in skills.parts() for name in skills.part(part).names}
    keys = [one.key for one in further]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & everywhere
    assert not any(TEMPLATES[f"{one.category}/{one.template}"].held_out for one in further)
    from bloomery.data.split import share_rule

    assert {share_rule(SPLIT)(key) for key in keys} == {"train"}
    again = material_of(context(skills, tmp_path / "c"), {"skills": 1.0}).parts(added[:1])[0][0]
    assert again.names[own.documents :] == file.names[own.documents : own.documents + 40]


def test_of_other_sets_the_categorys_own_examples_are_read_once_more(tmp_path: Path) -> None:
    lines = [{"prompt": f"{n}?", "response": str(n), "kind": "even" if n % 2 == 0 else "odd"} for n in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"source": "jsonl", "file": "pairs.jsonl", "prompt": "prompt", "response": "response", "category": "kind"}
    data = {"tokenizer": {"kind": "bytes"}, "pairs": {**source, "split": SPLIT}}
    pairs = prepare(parse_data(data), tmp_path / "data", roots=[tmp_path])
    material = material_of(context(pairs, tmp_path / "c"), {"pairs": 1.0})
    own = pairs.part("pairs:train")
    odd = [name for name, category in zip(own.names, own.categories, strict=True) if category == "odd"]
    file = material.parts([Addition(0, "odd", len(odd) + 2), Addition(1, "odd", 1)])[0][0]
    assert list(file.names[own.documents :]) == [*odd, *odd[:3]]
    with pytest.raises(DataError, match="no examples of 'prime'"):
        material.parts([Addition(0, "prime", 1)])


def test_a_category_without_examples_to_read_more_of_is_refused_at_the_start(tmp_path: Path) -> None:
    source = {"source": "jsonl", "file": "pairs.jsonl", "prompt": "prompt", "response": "response", "category": "kind"}
    data = {"tokenizer": {"kind": "bytes"}, "pairs": {**source, "split": {"train": 0.7, "val": 0.3}}}

    def with_odd(line: int) -> Prepared:
        kinds = ["odd" if n == line else "even" for n in range(40)]
        lines = [{"prompt": f"{n}?", "response": str(n), "kind": kind} for n, kind in enumerate(kinds)]
        (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return prepare(parse_data(data), tmp_path / f"data{line}", roots=[tmp_path])

    prepared = (with_odd(line) for line in range(40))
    pairs = next(one for one in prepared if "odd" in one.part("pairs:val").categories)
    config = tune_settings(data="pairs", topup=TOPUP, validation={"split": "val"})
    with pytest.raises(DataError, match="'odd' is looked at"):
        Tuning(context(pairs, tmp_path / "c"), config)


def test_the_order_of_the_parts_is_part_of_every_digest() -> None:
    """The first is what is looked at and topped up, and a mapping's digest knows no order."""
    one, other = (tune_settings(data=data) for data in ({"b": "50%", "a": "50%"}, {"a": "50%", "b": "50%"}))
    dumped = [each.model_dump(mode="json") for each in (one, other)]
    assert digest(dumped[0]) != digest(dumped[1])
    assert digest(dumped[1]) == digest({**dumped[1], "data": {"a": 0.5, "b": 0.5}})
    for config, dump in ((one, dumped[0]), (other, dumped[1])):
        again = Settings.model_validate(json.loads(json.dumps(dump, sort_keys=True)), context={"system": "dense"})
        assert list(again.data) == list(config.data)


TOPUP = {"loss_over_mean": 1.001, "add": 30}
"""A little above the mean: with categories as unlike as these some are always behind."""


@pytest.mark.slow
def test_a_category_that_falls_behind_is_given_more_from_the_next_step_on(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    config = tune_settings(topup=TOPUP)
    tuned = tune(skills, tmp_path / "a", config, base)
    (reading,) = training.readings_in(tuned.result.outputs["state"])
    looks: dict[int, dict[str, float]] = {}
    for one in tuned.measured:
        if one.name.startswith("val/") and one.name.count("/") == 2 and one.name.endswith("/loss"):
            looks.setdefault(one.step or 0, {})[one.name.split("/")[1]] = one.value
    expected = [
        Addition(step, category, 30) for step, losses in looks.items() if step < config.steps
        for category, loss in losses.items() if loss > 1.001 * sum(losses.values()) / len(losses)
    ]  # fmt: skip
    assert list(reading.added) == expected
    assert expected
    assert tuned.last("train/topped_up") == 30 * len(expected)
    plain = list(training.tokens_read(tune(skills, tmp_path / "b", tune_settings(), base).context, tune_settings()))
    topped = list(training.tokens_read(tuned.context, config))
    first = expected[0].step
    same = [one.tokens.equal(other.tokens) for one, other in zip(plain, topped, strict=True)]
    assert all(same[:first])
    assert not all(same[first:])


@pytest.mark.slow
def test_stopped_with_made_data_and_topped_up_it_goes_on_bit_for_bit(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    """Before the first look, between two, and at the step of one."""
    config = tune_settings(
        data={"skills": "80%", "won": "20%"}, topup=TOPUP, formats={"multiple_choice": 20, "function_body": 10},
        freeze=["embedding"],
    )  # fmt: skip
    inputs = {"won": made(tmp_path / "won")}
    whole = tune(skills, tmp_path / "whole", config, base, inputs=inputs)
    for after in (2, 4, 4, 3):  # of 16 steps with looks at 4, 8, 12 and 16
        with pytest.raises(Stopped):
            tune(skills, tmp_path / "cut", config, base, inputs=inputs, stop_reason=stopping(after))
    gone_on = tune(skills, tmp_path / "cut", config, base, inputs=inputs)
    assert gone_on.result.hashes == whole.result.hashes
    records = [(one.result.outputs["state"] / training.READINGS).read_bytes() for one in (whole, gone_on)]
    assert records[0] == records[1]
    assert json.loads(records[0])[0]["added"]


def test_other_made_data_is_not_gone_on_with(skills: Prepared, base: Trained, tmp_path: Path) -> None:
    config = tune_settings(data={"skills": "80%", "won": "20%"})
    inputs = {"won": made(tmp_path / "won")}
    with pytest.raises(Stopped):
        tune(skills, tmp_path / "cut", config, base, inputs=inputs, stop_reason=stopping(5))
    with pytest.raises(ArtifactError, match="made"):
        tune(skills, tmp_path / "cut", config, base, inputs={"won": made(tmp_path / "other", MADE[:9])})


@pytest.mark.slow
def test_from_a_checkpoint_what_was_added_stays_and_weak_categories_get_more(
    skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    first = tune(skills, tmp_path / "a", tune_settings(topup=TOPUP), base)
    (before,) = training.readings_in(first.result.outputs["state"])
    previous = {f"val/{name}/accuracy": 0.9 for name in CATEGORIES} | {"val/math/accuracy": 0.59}
    previous |= {f"gauntlet/{name}/accuracy": 0.0 for name in CATEGORIES}  # what gates judge chooses nothing
    config = tune_settings(topup={"loss_over_mean": 99, "below": "60%", "add": 50})
    state = first.result.outputs["state"]
    second = tune(skills, tmp_path / "b", config, base, continue_from=state, previous=previous)
    one, two = training.readings_in(second.result.outputs["state"])
    assert one == before
    assert two.added == (*(replace(each, step=0) for each in before.added), Addition(0, "math", 50))
    assert two.first_step == before.steps
    assert len(list(training.tokens_read(second.context, config))) == 2 * config.steps
    by_looks = {f"val/{name}/accuracy": 1.0 for name in CATEGORIES} | {"val/code/accuracy": 0.5}
    third = tune(skills, tmp_path / "c", config, base, continue_from=state, previous=by_looks)
    assert training.readings_in(third.result.outputs["state"])[1].added[-1] == Addition(0, "code", 50)
    alone = tune(skills, tmp_path / "d", config, base, previous={})
    assert training.readings_in(alone.result.outputs["state"])[0].added == ()


@pytest.mark.slow
def test_a_top_up_never_breaks_the_balance(skills: Prepared, base: Trained, tmp_path: Path) -> None:
    balance = {"at_most": "14%", "at_least": "3%", "examples": 20}
    tuned = tune(skills, tmp_path, tune_settings(topup={**TOPUP, "add": 500}, balance=balance), base)
    (reading,) = training.readings_in(tuned.result.outputs["state"])
    assert reading.added
    assert all(one.count < 500 for one in reading.added)
    weights = weigh(material_of(tuned.context, reading.data).parts(reading.added))
    assert max(one.share for one in weights.values()) <= 0.14


# Freezing


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (["embedding"], lambda name: name.startswith("embedding")),
        (["attention", "*norm*"], lambda name: ".attention." in name or "norm" in name),
        (["blocks.0.*"], lambda name: name.startswith("blocks.0.")),
    ],
)
def test_what_is_frozen_comes_out_bit_for_bit_and_all_else_moves(
    named: list[str], kept: Callable[[str], bool], skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    tuned = tune(skills, tmp_path, tune_settings(tokens=512, freeze=named), base)
    before, after = (models.load_model(one.result.outputs["model"]).state_dict() for one in (base, tuned))
    unmoved = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert unmoved == {name for name in before if kept(name)}
    assert unmoved
    tally = tuned.result.tallies["model"]
    assert tally.total("frozen") == sum(before[name].numel() for name in unmoved)


@pytest.mark.parametrize(("named", "said"), [(["centres"], "'centres' is neither"), (["*"], "every parameter")])
def test_what_cannot_be_frozen_is_refused(
    named: list[str], said: str, skills: Prepared, base: Trained, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=said):
        tune(skills, tmp_path, tune_settings(freeze=named), base)


def test_other_frozen_parameters_are_no_going_on() -> None:
    assert Finetune().misfit(tune_settings(), tune_settings(freeze=["norm"])).startswith("other parameters")
    assert Finetune().misfit(tune_settings(freeze=["norm"]), tune_settings(freeze=["norm"])) == ""
