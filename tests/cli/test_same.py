"""Rivals that say `same`, through a real run: no more bytes than the judged model, and the caches that it is given."""

import json
from pathlib import Path

import pytest

from bloomery.data.prepared import Prepared
from bloomery.evaluate.ngram_cache import Cached, open_table
from bloomery.evaluate.perplexity import stream_of
from support.command import Command, tiny_plan

SPLIT = {"train": "60%", "dev": "20%", "val": "20%"}
RIVALS = {
    "small": {"kind": "kneser_ney", "order": 7, "cutoffs": "tuned", "tune_on": "corpus:dev", "bytes": "same"},
    "cached": {"kind": "kneser_ney", "order": 7, "caches": "same"},
    "plain": {"kind": "kneser_ney", "order": 7},
}
SUITES = {
    "text": {"kind": "perplexity", "data": "corpus:val", "context": 32},
    "again": {"kind": "perplexity", "data": "corpus:val", "context": 32, "caches": {"windows": [50]}},
}
GATE = [
    {"metric": "text/loss", "relative_to": "baseline:small", "op": "<", "value": 9},
    {"metric": "tally/bytes", "relative_to": "baseline:small", "op": ">=", "value": 1},
    {"metric": "again/loss", "relative_to": "baseline:cached", "op": "<", "value": 9},
    {"metric": "again/loss", "relative_to": "baseline:plain", "op": "<", "value": 9},
]


@pytest.mark.slow
def test_a_table_keeps_to_the_bytes_of_the_judged_model_and_has_its_caches(tmp_path: Path, bloomery: Command) -> None:
    tiny_plan(
        tmp_path,
        **{"data.corpus.split": SPLIT, "baselines": RIVALS, "suites": SUITES},
        **{"stages.0.gate": GATE, "stages.0.evaluate": []},
    )
    done = bloomery("run", "tiny.yaml", "--threads", "1")
    assert done.code == 0, done.out + done.err
    (file,) = tmp_path.glob("runs/test/tiny/events.jsonl")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    told = [one["measurement"] | {"who": one["who"]} for one in events if one["event"] == "measured"]
    measured = {(one["who"], one["name"]): one["value"] for one in told if one.get("step") is None}
    sizes = {who: value for (who, name), value in measured.items() if name == "tally/bytes"}
    assert sizes["baseline:small"] <= sizes["candidate"] < sizes["baseline:plain"]
    card = json.loads((folder(tmp_path, "small") / "ngram.json").read_text())
    assert max(trial["bytes"] for trial in card["trials"]) > sizes["candidate"] >= card["trials"][0]["bytes"]
    model = open_table(folder(tmp_path, "cached"))
    assert isinstance(model, Cached)
    assert (model.caches.windows, model.caches.longest) == ((50,), 3)
    data = next(file.parent for file in tmp_path.glob("**/manifest.json") if (file.parent / "tokenizer").is_dir())
    part = Prepared.open(data).part("corpus:dev")
    again = Cached.fit(model.table, [stream_of(part, index) for index in range(part.documents)], windows=(50,))
    assert again.caches.weights == pytest.approx(model.caches.weights)
    assert measured["baseline:plain", "again/loss"] == pytest.approx(measured["baseline:cached", "again/loss"])


def folder(root: Path, name: str) -> Path:
    return root / f"runs/test/tiny/pretrain/1/baseline-{name}-seed0/model"
