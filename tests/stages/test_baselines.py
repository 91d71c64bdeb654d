"""A baseline has seen exactly the tokens that the model has read: no more, no fewer, each row once."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny import Trained, context, pretrain, settings

from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal
from bloomery.engine.discover import Catalogue
from bloomery.engine.stage import Cost
from bloomery.errors import PlanError
from bloomery.evaluate import ngram_counts
from bloomery.evaluate.ngram import HIGHEST_ORDER, NGram
from bloomery.evaluate.ngram_cache import Cached, open_table
from bloomery.evaluate.perplexity import spread
from bloomery.measure import Measurement
from bloomery.plan.check import check
from bloomery.plan.load import load as load_plan
from bloomery.stages.baselines import (
    BYTES_PER_COUNTED,
    NGRAM_CARD,
    PAIRS_AT_ONCE,
    KneserNeyBaseline,
    KneserNeySettings,
    NGramBaseline,
    NGramSettings,
)
from bloomery.stages.suites import Perplexity, PerplexitySettings
from bloomery.stages.training import batches, next_reading, readings_before, tokens_read


def counted(trained: Trained) -> Counter[tuple[int, int]]:
    """Pairs (token, next token) of every batch, by brute force."""
    pairs: Counter[tuple[int, int]] = Counter()
    config = settings()
    for reading in (*readings_before(trained.context), next_reading(trained.context, config)):
        reader = batches(trained.context, reading)
        for step in range(reading.steps):
            batch = reader.batch_at(step)
            pairs.update(zip(batch.tokens.flatten().tolist(), batch.targets.flatten().tolist(), strict=True))
    return pairs


@pytest.mark.parametrize("attempts", [1, 2])
def test_counts_are_those_of_the_batches(trained: Trained, data: Prepared, tmp_path: Path, attempts: int) -> None:
    if attempts == 2:
        trained = pretrain(data, tmp_path / "on", settings(), continue_from=trained.result.outputs["state"])
    tokens = tokens_read(trained.context, settings())
    folder = NGramBaseline().fit(NGramSettings(order=2), tokens, context(data, tmp_path / "fit")).outputs["model"]
    assert (folder / NGRAM_CARD).exists()
    table = NGram.load(folder)
    pairs = counted(trained)
    assert pairs.total() == attempts * 1280
    keys, counts = table._levels[0]
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == {
        first * data.vocab + second: count for (first, second), count in pairs.items()
    }
    logprobs = table.logprobs(torch.tensor([[ord("t")]]))
    assert float(logprobs[0, 0].exp().sum()) == pytest.approx(1)
    often = max(pairs, key=lambda pair: pairs[pair] if pair[0] == ord("t") else 0)[1]
    assert int(logprobs[0, 0].argmax()) == often
    assert float(logprobs[0, 0, often]) > -math.log(data.vocab)


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_further_epochs_are_no_further_evidence(
    data: Prepared, tmp_path: Path, packing: Literal["stream", "documents"]
) -> None:
    reader = Batches([(data.part("corpus"), 1.0)], batch=1, context=32, seed=0, packing=packing)
    once = round(1 / reader.epochs_after(1)[0])
    tables: list[NGram] = []
    for steps in (once, 2 * once, 2 * once + once // 2):
        ctx = context(data, tmp_path / str(steps))
        NGramBaseline().fit(NGramSettings(order=3), map(reader.batch_at, range(steps)), ctx)
        tables.append(NGram.load(ctx.workdir / "model"))
    plain = NGram.fit(
        map(reader.batch_at, range(once)), order=3, vocab=data.vocab, end_of_document=data.tokenizer.end_of_document
    )
    held_out = np.array(data.part("corpus:val").tokens, dtype=np.int64)
    for table in tables:
        assert np.array_equal(table.document_logprobs(held_out), plain.document_logprobs(held_out))
    assert reader.batch_at(once).origins != reader.batch_at(0).origins


def test_a_kneser_ney_model_of_the_same_order_is_the_same_table(
    trained: Trained, data: Prepared, tmp_path: Path
) -> None:
    plain, fitted = (
        kind.fit(config, tokens_read(trained.context, settings()), context(data, tmp_path / config.__class__.__name__))
        for kind, config in (
            (NGramBaseline(), NGramSettings(order=3)),
            (KneserNeyBaseline(), KneserNeySettings(order=3)),
        )
    )
    tables = [open_table(result.outputs["model"]) for result in (plain, fitted)]
    text = np.array(data.part("corpus:val").tokens, dtype=np.int64)
    assert np.array_equal(tables[0].document_logprobs(text), tables[1].document_logprobs(text))


@pytest.mark.parametrize(
    ("kind", "config"),
    [(NGramBaseline(), NGramSettings(order=3)), (KneserNeyBaseline(), KneserNeySettings(order=3))],
)
def test_it_looks_at_the_held_out_text_that_the_stage_looks_at(
    trained: Trained, data: Prepared, tmp_path: Path, kind: Any, config: Any
) -> None:
    """As gates on val/perplexity and train/tokens_per_second compare the two."""
    told: dict[str, Measurement] = {}
    ctx = context(data, tmp_path / "fit", record=lambda one: told.update({one.name: one}))
    ctx.judged = settings()
    table = open_table(kind.fit(config, tokens_read(trained.context, settings()), ctx).outputs["model"])
    own = [one for one in trained.measured if one.name == "val/perplexity"][-1]
    assert own.items is not None
    looked = told["val/perplexity"].items
    assert looked is not None
    assert (looked.key, looked.weights, told["val/loss"].n) == (own.items.key, own.items.weights, 2)
    assert isinstance(table, NGram)
    part, end = data.part("corpus:dev"), data.tokenizer.end_of_document
    rows = [np.concatenate(([end], part.document(n))).astype(np.int64) for n in spread(part.documents, 2)]
    nats = -np.concatenate([table.document_logprobs(row) for row in rows])
    assert told["val/perplexity"].value == pytest.approx(math.exp(nats.mean()))
    assert told["train/tokens_per_second"].value > 0


def test_what_is_tuned_is_the_best_on_its_part_and_caches_come_with_it(
    trained: Trained, data: Prepared, tmp_path: Path
) -> None:
    asked = {"order": "tuned", "cutoffs": "tuned", "tune_on": "corpus:dev", "caches": {"windows": [20, 200]}}
    config = KneserNeySettings.model_validate(asked)
    ctx = context(data, tmp_path)
    fitted = KneserNeyBaseline().fit(config, tokens_read(trained.context, settings()), ctx)
    folder = fitted.outputs["model"]
    card = json.loads((folder / NGRAM_CARD).read_text())
    losses = [trial["loss"] for trial in card["trials"]]
    assert losses == sorted(losses)
    assert (card["order"], card["cutoffs"]) == (card["trials"][0]["order"], card["trials"][0]["cutoffs"])
    model = open_table(folder)
    assert isinstance(model, Cached)
    assert fitted.tallies == {"model": model.tally()}
    assert (model.order, model.caches.windows, model.table.entries) == (card["order"], (20, 200), card["entries"])
    end = data.tokenizer.end_of_document
    part = data.part("corpus:dev")
    streams = [np.concatenate(([end], part.document(n))).astype(np.int64) for n in range(part.documents)]
    loss = -np.concatenate([model.table.document_logprobs(stream) for stream in streams]).mean()
    assert loss == pytest.approx(losses[0], abs=1e-14)
    judge = PerplexitySettings(data="corpus:val", context=32, normalised=1e-9)
    result = Perplexity().run(judge, seal(folder, "cached", "model"), data.folder, device="cpu", threads=1)
    held_out = data.part("corpus:val")
    own = [np.concatenate(([end], held_out.document(n))).astype(np.int64) for n in range(held_out.documents)]
    wanted = -np.concatenate([model.document_logprobs(stream) for stream in own]).mean()
    assert result.measurements[0].value == pytest.approx(wanted)


@pytest.mark.parametrize(
    "asked",
    [
        None,
        {"order": 7},
        {"order": 4, "cutoffs": [0, 1, 2]},
        {"order": 3, "cutoffs": [0, 0, 1], "caches": {"windows": [9, 99, 999]}, "tune_on": "corpus:dev"},
    ],
)
def test_every_table_sums_to_one(
    trained: Trained, data: Prepared, tmp_path: Path, asked: dict[str, Any] | None
) -> None:
    kind, config = (
        (NGramBaseline(), NGramSettings(order=5))
        if asked is None
        else (KneserNeyBaseline(), KneserNeySettings.model_validate(asked))
    )
    folder = kind.fit(config, tokens_read(trained.context, settings()), context(data, tmp_path)).outputs["model"]
    judge = PerplexitySettings(data="corpus:val", context=32, items=2, normalised=1e-9)
    assert Perplexity().run(judge, seal(folder, "table", "model"), data.folder, device="cpu", threads=1).measurements


def test_a_table_is_priced_by_what_it_counts() -> None:
    def seconds(tokens: int, **asked: Any) -> float:
        settings = KneserNeySettings.model_validate({"tune_on": "corpus:dev", "cutoffs": "tuned", **asked})
        cost = KneserNeyBaseline().cost(settings, tokens=tokens, built=Cost(tokens=tokens, flops=1e9), vocab=300)
        assert (cost.tokens, cost.flops) == (0, 0)
        assert cost.seconds is not None
        return cost.seconds

    assert seconds(2000, order=5) == 2 * seconds(1000, order=5)
    assert seconds(1000, order="tuned") == seconds(1000, order=HIGHEST_ORDER) > seconds(1000, order=5) > 0
    plain = NGramBaseline().cost(NGramSettings(order=5), tokens=1000, built=Cost(), vocab=300)
    assert plain.seconds == seconds(1000, order=5)


def test_a_table_of_pairs_is_priced_by_the_pairs_that_there_can_be() -> None:
    def held(order: int, tokens: int, vocab: int) -> int:
        cost = NGramBaseline().cost(NGramSettings(order=order), tokens=tokens, built=Cost(), vocab=vocab)
        tuned = KneserNeySettings(order=max(order, 2))
        if order > 1:
            assert KneserNeyBaseline().cost(tuned, tokens=tokens, built=Cost(), vocab=vocab) == cost
        return cost.weight_bytes // BYTES_PER_COUNTED // order

    assert PAIRS_AT_ONCE == ngram_counts.PAIRS_AT_ONCE
    assert held(2, 1000, 11_600) == 1000, "no more than were read"
    assert held(2, 5_200_000_000, 11_600) == 11_600**2 + PAIRS_AT_ONCE
    assert held(1, 5_200_000_000, 11_600) == 11_600 + PAIRS_AT_ONCE
    assert held(3, 5_000_000, 10) == 5_000_000, "above pairs every token is held while it counts"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"order": 8}, "less than or equal to 7"),
        ({"order": "tuned"}, "tune_on: corpus:dev"),
        ({"caches": {}}, "tune_on: corpus:dev"),
        ({"tune_on": "corpus:dev"}, "nothing to choose"),
        ({"bytes": "1 MiB"}, "limits what is tuned"),
        ({"cutoffs": [1, 1]}, "begin with 0"),
        ({"cutoffs": [0, 2, 1]}, "never fall"),
        ({"caches": {"windows": []}, "tune_on": "corpus:dev"}, "at least 1"),
        ({"bytes": "same"}, "limits what is tuned"),
        ({"caches": "as well"}, "'same'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KneserNeySettings.model_validate(asked)


def test_nothing_judges_or_learns_from_what_a_baseline_is_tuned_on(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    says = {"corpus:val": "the suite 'text' judges", "corpus:train": "stage 'pretrain' learns from"}
    for part, problems in (("corpus:dev", 0), ("corpus:val", 1), ("corpus:tune", 1), ("corpus:train", 1)):
        plan.write_text(TUNED.replace("PART", part))
        found = check(load_plan(plan), Catalogue()).problems
        assert len(found) == problems, found
        assert says.get(part, "") in " ".join(map(str, found))


SPLITS = {"corpus": ("train", "dev", "val"), "books": ("train", "val", "test")}


def suite(**settings: Any) -> PerplexitySettings:
    return PerplexitySettings.model_validate({"data": "corpus:val", **settings})


def test_the_same_caches_are_those_of_the_suite(tmp_path: Path) -> None:
    asked = KneserNeySettings.model_validate({"caches": "same"})
    windows = {"windows": [20, 200], "longest_history": 2}
    found = asked.followed([suite(), suite(caches=windows)], SPLITS, None)
    assert found == KneserNeySettings.model_validate({"caches": windows, "tune_on": "corpus:dev"})
    found = asked.followed([suite(data="books:test", caches=True), suite(data="books:test", caches={})], SPLITS, None)
    assert found == KneserNeySettings.model_validate({"caches": {}, "tune_on": "books:val"})
    own = KneserNeySettings.model_validate({"caches": "same", "order": "tuned", "tune_on": "books:test"})
    assert own.followed([suite(caches=True)], SPLITS, None).tune_on == "books:test"
    for several in ([], [suite()], [suite(caches=True), suite(caches=windows)]):
        with pytest.raises(PlanError, match="one suite with caches to be the same as"):
            asked.followed(several, SPLITS, None)


def test_the_same_bytes_are_the_judged_models() -> None:
    asked = KneserNeySettings.model_validate({"order": "tuned", "tune_on": "corpus:dev", "bytes": "same"})
    assert asked.followed([], SPLITS, 1234.5).bytes == 1234
    assert asked.followed([], SPLITS, None) == asked


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"caches: same": "caches: same"}, ""),
        ({"caches: true": "caches: false"}, "one suite with caches to be the same as; there are 0"),
        ({'"corpus:val", caches: true': '"corpus:dev", caches: true'}, ""),
        ({"caches: true": "caches: true, tune_on: corpus:val"}, "the suite 'text' is tuned on corpus:val, which the"),
        ({"caches: true": "caches: true, tune_on: corpus"}, "which stage 'pretrain' learns from"),
        ({"caches: true": "caches: true, tune_on: corpus:best"}, "no split 'best'"),
        ({"caches: true": "tune_on: corpus:dev"}, "with nothing to find"),
        ({"source: stdlib": "source: stdlib, split: {train: 90%, val: 10%}"}, "no split of corpus is left"),
    ],
)
def test_what_suites_and_tables_find_weights_on_is_checked(tmp_path: Path, edit: dict[str, str], said: str) -> None:
    text = TUNED.replace("order: tuned, tune_on: PART", "caches: same").replace(
        'data: "corpus:val"', 'data: "corpus:val", caches: true'
    )
    for before, after in edit.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "plan.yaml").write_text(text)
    found = check(load_plan(tmp_path / "plan.yaml"), Catalogue()).problems
    assert said in " ".join(map(str, found))
    assert bool(found) == bool(said), found


TUNED = """bloomery: 1
name: tuned
system: dense
hypothesis: a model beats a tuned table
variable: nothing
seeds: [0]
baselines: {kn: {kind: kneser_ney, order: tuned, tune_on: PART}}
data: {tokenizer: {kind: bytes}, corpus: {source: stdlib}}
suites: {text: {kind: perplexity, data: "corpus:val"}}
stages:
  - id: pretrain
    kind: pretrain
    config: {model: {layers: 1, width: 16, heads: 2}, tokens: 4096 tok, optimizer: {lr: 0.1}}
    gate: [{metric: text/loss, relative_to: "baseline:kn", op: "<", value: 1.0}]
"""
