"""The builtin suite on real artifacts and hand-made scorers: what it measures is declared, has n, interval, items."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny import Trained, context, settings

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.intervals import wilson_interval
from bloomery.errors import BloomeryError
from bloomery.evaluate.perplexity import perplexity
from bloomery.measure import Measurement
from bloomery.plan.metrics import find, well_formed
from bloomery.stages import models
from bloomery.stages.builtin import WITH_CONTEXT, Builtin, BuiltinSettings, judged
from bloomery.stages.prepare import parse_data, prepare
from support.scorers import Constant, Copying, Saying, Uniform

ALL = ("choice", "continuation", "exact_match", "completion", *WITH_CONTEXT)
EXACT = '{"context": "2+2=", "answer": "4"}\n{"context": "1+1=", "answer": "2"}\n'


@pytest.fixture
def exact(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "exact.jsonl").write_text(EXACT)
    return {"exact_match": str(tmp_path / "exact.jsonl")}


def by_name(measurements: tuple[Measurement, ...]) -> dict[str, Measurement]:
    found = {one.name: one for one in measurements}
    assert len(found) == len(measurements)
    return found


def check_all(config: BuiltinSettings, found: dict[str, Measurement]) -> None:
    declared = Builtin().emits(config)
    assert all(well_formed(f"suite/{name}") for name in found)
    assert all(find(name, declared) for name in found), found.keys()
    assert all("*" in name or name in found for name in declared), declared.keys() - found.keys()
    for one in found.values():
        assert one.n >= 1
        assert one.interval is not None or one.n == 1
        if one.interval is not None:
            assert one.interval.low <= one.value <= one.interval.high
        if one.name.endswith(("accuracy", "accuracy_norm", "pass_rate")):
            assert one.items is not None
            assert sum(one.items.sums) / one.n == pytest.approx(one.value)
            assert len(one.items.sums) == one.n
            assert one.interval == wilson_interval(sum(one.items.sums), one.n)


@pytest.mark.slow
def test_everything_is_measured_on_a_model_and_the_same_again(
    trained: Trained, data: Prepared, exact: dict[str, str]
) -> None:
    config = BuiltinSettings(tasks=ALL, items=5, contexts=(16, 40), files=exact, tokens=8)
    model = unseal(trained.result.outputs["model"])
    result = Builtin().run(config, model, data.folder, device="cpu", threads=1)
    found = by_name(result.measurements)
    check_all(config, found)
    assert found["exact_match/accuracy"].n == 2
    assert found["induction_40/accuracy"].n == 5
    assert found["completion/pass_rate"].value == 0
    assert len(result.samples) == 2
    assert result.samples[0][0].startswith("def ")
    again = Builtin().run(config, model, data.folder, device="cpu", threads=1)
    assert again == result
    other = by_name(judged(config.model_copy(update={"seed": 1}), Uniform(data.vocab), data).measurements)
    for name, one in found.items():
        if one.items is not None and not name.startswith(("exact", "perplexity")):
            assert other[name].items is not None
            assert one.items.key != other[name].items.key, name  # other questions are never paired


def test_an_n_gram_table_answers_the_same_questions(
    trained: Trained, data: Prepared, tmp_path: Path, exact: dict[str, str]
) -> None:
    from bloomery.stages.baselines import NGramBaseline, NGramSettings
    from bloomery.stages.training import tokens_read

    read = tokens_read(trained.context, settings())
    folder = NGramBaseline().fit(NGramSettings(order=3), read, context(data, tmp_path)).outputs["model"]
    config = BuiltinSettings(tasks=ALL, items=4, files=exact, tokens=4)
    table = Builtin().run(config, seal(folder, "ngram", "model"), data.folder, device="cpu", threads=1)
    check_all(config, by_name(table.measurements))
    mine = Builtin().run(config, unseal(trained.result.outputs["model"]), data.folder, device="cpu", threads=1)
    for one, other in zip(table.measurements, mine.measurements, strict=True):
        assert one.name == other.name
        if one.items is not None:
            assert other.items is not None
            assert one.items.key == other.items.key


@pytest.mark.parametrize("token", [None, ord("e")])
def test_who_knows_nothing_is_at_the_chance_that_is_told(token: int | None, data: Prepared) -> None:
    scorer = Uniform(data.vocab) if token is None else Constant(data.vocab, token)
    tasks = ("choice", "induction", "associative_recall", "bracket_depth", "word_order")
    found = by_name(judged(BuiltinSettings(tasks=tasks, items=300, contexts=(24,)), scorer, data).measurements)
    for name, one in found.items():
        if name.endswith(("accuracy", "accuracy_norm")):
            chance = found[name.split("/")[0] + "/chance"].value
            assert chance == 0.25
            wide = wilson_interval(one.value * one.n, one.n, 0.999)
            assert wide.low <= chance <= wide.high, (name, one.value)


def test_who_copies_exactly_has_all_of_induction_and_recall(data: Prepared) -> None:
    config = BuiltinSettings(tasks=("induction", "associative_recall"), items=30, contexts=(16, 64))
    found = by_name(judged(config, Copying(data.vocab), data).measurements)
    assert [one.value for name, one in found.items() if name.endswith("accuracy")] == [1.0] * 4
    assert found["induction_64/accuracy"].interval == wilson_interval(30, 30)


def test_right_programs_and_right_answers_have_all(data: Prepared, exact: dict[str, str]) -> None:
    from bloomery.evaluate import functions

    texts = [f"{problem.prompt}{solution}\ndef " for problem, solution in functions.problems(6)]
    knows = Saying(data.vocab, [[256, *text.encode()] for text in (*texts[:-1], "2+2=4", "1+1=3")])
    config = BuiltinSettings(tasks=("completion", "exact_match"), items=6, tokens=90, files=exact)
    found = by_name(judged(config, knows, data).measurements)
    assert found["completion/pass_rate"].value == pytest.approx(5 / 6)
    assert found["completion/isolated"].value in range(4)
    assert found["exact_match/accuracy"].value == 0.5
    assert found["exact_match/chance"].value == 0.5


def test_problems_and_choices_come_from_files(data: Prepared, tmp_path: Path) -> None:
    test = "def check(candidate):\\n    assert candidate(2) == 4\\n"
    (tmp_path / "problems.jsonl").write_text(
        f'{{"task_id": "a", "prompt": "def f(x):\\n", "entry_point": "f", "test": "{test}"}}\n'
    )
    (tmp_path / "choice.jsonl").write_text('{"context": "ore is", "options": [" iron", " tin"], "answer": 1}\n')
    files = {"completion": str(tmp_path / "problems.jsonl"), "choice": str(tmp_path / "choice.jsonl")}
    knows = Saying(data.vocab, [[256, *b"def f(x):\n    return x * x", 256], [256, *b"ore is tin"]])
    found = by_name(
        judged(BuiltinSettings(tasks=("completion", "choice"), files=files, tokens=30), knows, data).measurements
    )
    assert found["completion/pass_rate"].value == 1
    assert found["choice/accuracy"].value == found["choice/accuracy_norm"].value == 1
    assert found["choice/chance"].value == 0.5


def test_loss_by_category_and_context_is_the_loss_of_those_documents(trained: Trained, tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        f'{{"text": "{" ".join(draw.choice(("iron", "ore", "slag")) for _ in range(30))}", "kind": "{kind}"}}'
        for number in range(12)
        for kind in ("Prose!", "code 2", "")[: 2 + number % 2]
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    spec = {"source": "jsonl", "file": "rows.jsonl", "category": "kind", "split": {"val": 1}}
    mixed = prepare(parse_data({"tokenizer": {"kind": "bytes"}, "corpus": spec}), tmp_path / "data", roots=[tmp_path])
    part = mixed.part("corpus:val")
    model = models.load_model(trained.result.outputs["model"])
    config = BuiltinSettings(tasks=("perplexity",), contexts=(16, 128))
    found = by_name(judged(config, model, mixed).measurements)
    check_all(config, found)
    assert {name.split("/")[1] for name in found if name.count("/") == 2} == {"prose", "code_2", "none"}
    for size in (16, 128):
        whole = perplexity(model, part, context=size)
        assert found[f"perplexity_{size}/loss"].value == pytest.approx(whole.loss)
        for category, raw in (("prose", "Prose!"), ("code_2", "code 2")):
            kept = [index for index in range(part.documents) if part.categories[index] == raw]
            expected = math.fsum(whole.loss_sums[i] for i in kept) / sum(whole.token_counts[i] for i in kept)
            one = found[f"perplexity_{size}/{category}/loss"]
            assert one.value == pytest.approx(expected)
            assert one.n == len(kept) == 12
    assert found["perplexity_16/loss"].value != found["perplexity_128/loss"].value


@pytest.mark.parametrize(
    "wrong",
    [{"tasks": []}, {"tasks": ["choices"]}, {"tasks": ["choice", "choice"]}, {"tasks": ["induction"], "contexts": [8]},
     {"tasks": ["exact_match"]}, {"tasks": ["choice"], "files": {"completion": "x"}}, {"tasks": ["choice"], "items": 0},
     {"tasks": ["induction"], "contexts": [64, 64]}, {"tasks": ["choice"], "files": {"induction": "x"}}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BuiltinSettings.model_validate(wrong)


def test_a_file_that_is_not_there_is_the_user_s_mistake(data: Prepared) -> None:
    config = BuiltinSettings(tasks=("choice",), files={"choice": "nowhere.jsonl"})
    with pytest.raises(BloomeryError, match=r"nowhere\.jsonl"):
        judged(config, Uniform(data.vocab), data)
