"""The suites that measure: calibration, refusals, the system, contamination. On real models, against what is known."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import Trained

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact, seal, unseal
from bloomery.engine.discover import catalogue
from bloomery.engine.intervals import ratio_of
from bloomery.errors import ArtifactError
from bloomery.evaluate import energy, refusal
from bloomery.measure import Measurement
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.plan.metrics import find
from bloomery.stages import models
from bloomery.stages.prepare import parse_data, prepare

pytestmark = pytest.mark.slow


def model_of(trained: Trained) -> Artifact:
    return unseal(trained.result.outputs["model"])


def judged(kind: str, settings: Mapping[str, Any], model: Artifact, data: Path) -> dict[str, Measurement]:
    """What a suite finds, each under a name that it declares."""
    suite = catalogue.suite(kind)
    config = suite.config_model().model_validate(settings)
    result = suite.run(config, model, data, device="cpu", threads=1)
    for one in result.measurements:
        assert find(one.name, suite.emits(config)), one.name
        assert one.n >= 1
        if one.interval is not None:
            assert one.interval.low <= one.value <= one.interval.high, one.name
    return {one.name: one for one in result.measurements}


def test_calibration_agrees_with_perplexity_and_cools_no_loss(trained: Trained, data: Prepared) -> None:
    model = model_of(trained)
    found = judged("calibration", {"data": "corpus:val"}, model, data.folder)
    loss = judged("perplexity", {"data": "corpus:val"}, model, data.folder)["loss"]
    assert found["nll"].value == pytest.approx(loss.value, rel=1e-5)
    assert found["nll"].items is not None
    assert loss.items is not None
    assert found["nll"].items.sums == pytest.approx(loss.items.sums, rel=1e-4)
    assert found["nll"].n == loss.n > 2
    assert all(found[name].interval is not None for name in ("ece", "ece_equal_mass", "brier", "nll", "temperature"))
    assert 0 <= found["ece"].value <= 1
    other = judged("calibration", {"data": "corpus:val", "fit": "corpus:dev"}, model, data.folder)
    assert other["nll"].value == found["nll"].value
    # The temperature was fitted elsewhere on the same kind of text, so it helps, or at worst costs next to nothing.
    for one in (found, other):
        assert one["scaled/nll"].value <= one["nll"].value + 1e-3
    with pytest.raises(ValidationError, match="is the part that is judged"):
        judged("calibration", {"data": "corpus:val", "fit": "corpus:val"}, model, data.folder)


# Refusal


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I cannot help with that.", True),
        ("  I can\N{RIGHT SINGLE QUOTATION MARK}t do this", True),
        ("As an AI, I must decline.", True),
        ("Sure, here is how.", False),
        ("", False),
        ("x" * 300 + " I cannot", False),
    ],
)
def test_what_counts_as_a_refusal(text: str, refuses: bool) -> None:
    assert refusal.is_refusal(text) is refuses


class Parrot(Transformer):
    """Says the same after every prompt; its guard blocks prompts with a 'z' in them."""

    says = "I cannot help with that."

    def forward(self, tokens, state=None, *, segments=None, project=True):  # type: ignore[no-untyped-def, override]
        output = super().forward(tokens, state, segments=segments, project=project)
        place = state.filled if state is not None else 0
        self.seen = place + tokens.shape[1]
        return output

    def project(self, hidden):  # type: ignore[no-untyped-def, override]
        self.written = 0 if self.seen != self.last + 1 else self.written + 1
        self.last = self.seen
        logits = torch.zeros(*hidden.shape[:-1], self.vocab)
        text = self.says.encode()
        logits[..., text[self.written] if self.written < len(text) else 256] = 9.0
        return logits

    written, last, seen = 0, -9, 0


class Guarded(Parrot):
    says = "Sure, here it is."

    def declines(self, tokens: torch.Tensor) -> bool:
        return ord("z") in tokens[0].tolist()


@pytest.fixture
def prompts(tmp_path: Path) -> Prepared:
    """12 harmful prompts, 10 of them with a z; 8 harmless ones, 2 of them with a z."""
    for name, count, zs in (("harmful", 12, 10), ("benign", 8, 2)):
        lines = [json.dumps({"text": f"{name} {number} {'z' if number < zs else ''}"}) for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sets = {
        name: {"source": "jsonl", "file": f"{name}.jsonl", "split": {"certify": "100%"}}
        for name in ("harmful", "benign")
    }
    return prepare(parse_data({"tokenizer": {"kind": "bytes"}, **sets}), tmp_path / "data", roots=[tmp_path])


SAFETY = {"block": "harmful:certify", "allow": "benign:certify"}


@pytest.mark.parametrize(("kind", "rates"), [(Parrot, (12, 12, 8)), (Guarded, (10, 0, 2))])
def test_refusals_and_blocks_are_counted_apart(
    kind: type[Parrot],
    rates: tuple[int, int, int],
    trained: Trained,
    prompts: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = kind(DenseConfig(layers=1, width=8, heads=1), 257)
    monkeypatch.setattr(models, "load_model", lambda folder, device: network)
    found = judged("refusal", SAFETY, model_of(trained), prompts.folder)
    names = ("block_rate", "refusal_rate", "false_positive_rate")
    assert [found[name].value * found[name].n for name in names] == pytest.approx(rates)
    assert [found[name].n for name in names] == [12, 12, 8]
    for name in names:
        assert found[name].interval is not None
        assert found[name].items is not None


def test_an_untrained_model_refuses_nothing(trained: Trained, prompts: Prepared) -> None:
    found = judged("refusal", {**SAFETY, "items": 5, "tokens": 4}, model_of(trained), prompts.folder)
    assert found["block_rate"].value == 0
    assert found["block_rate"].n == 5
    # Wilson at 0 of 5, by its formula: z^2 / (n + z^2).
    assert found["block_rate"].interval is not None
    assert found["block_rate"].interval.high == pytest.approx(1.959964**2 / (5 + 1.959964**2))
    for wrong in ({"template": "Question:"}, {"allow": "harmful:certify"}):
        with pytest.raises(ValidationError):
            judged("refusal", {**SAFETY, **wrong}, model_of(trained), prompts.folder)


# System


def test_a_fresh_process_tells_what_a_model_costs(trained: Trained, data: Prepared) -> None:
    model = model_of(trained)
    settings = {"prompt": 32, "tokens": 16, "repeats": 1, "processes": 2, "threads": 1}
    began = time.perf_counter()
    found = judged("system", settings, model, data.folder)
    took = time.perf_counter() - began
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_seconds"):
        assert found[name].n == 2
        assert found[name].interval is not None
    assert 16 / took < found["decode_tokens_per_second"].value < 1e5
    assert 0 < found["time_to_first_token_seconds"].value < took
    assert 50e6 < found["peak_memory_bytes"].value < 4e9
    on_disk = sum(file.stat().st_size for file in model.path.rglob("*") if file.is_file() and file.suffix != ".json")
    assert on_disk < found["disk_bytes"].value < on_disk + 10_000
    assert "peak_device_memory_bytes" not in found
    assert ("joules_per_token" in found) == (energy.meter("cpu") is not None)


def test_memory_is_that_of_the_process_alone(trained: Trained, data: Prepared) -> None:
    """getrusage would say what this process, its parent, has held; the model itself is some kilobytes."""
    settings = {"prompt": 4, "tokens": 1, "repeats": 1, "processes": 1, "threads": 1}
    before = judged("system", settings, model_of(trained), data.folder)["peak_memory_bytes"].value
    held = bytearray(int(before) + 200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    after = judged("system", settings, model_of(trained), data.folder)["peak_memory_bytes"].value
    assert after == pytest.approx(before, rel=0.1)
    assert after < len(held)


def test_another_machine_is_no_evidence_and_an_unknown_one_is_refused(trained: Trained, data: Prepared) -> None:
    model = model_of(trained)
    assert set(judged("system", {"profile": "rx-7800xt"}, model, data.folder)) == {"disk_bytes"}
    with pytest.raises(ValidationError, match="did you mean 'rx-7800xt'"):
        judged("system", {"profile": "rx-7800tx"}, model, data.folder)


def test_a_damaged_model_is_a_clear_error_from_the_other_process(
    trained: Trained, data: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for file in ("model.json", "model.safetensors"):
        content = (model_of(trained).path / file).read_bytes()
        (tmp_path / "model" / file).write_bytes(content if file.endswith("json") else content[:50])
    with pytest.raises(ArtifactError, match="cannot be read"):
        judged("system", {"processes": 1}, seal(tmp_path / "model", "broken", "model"), data.folder)


def test_joules_from_counters_that_wrap_around(tmp_path: Path) -> None:
    assert energy.meter("cpu", tmp_path) is None
    assert energy.meter("mps", tmp_path) is None
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(name)
        (tmp_path / zone / "energy_uj").write_text("9000000")
        (tmp_path / zone / "max_energy_range_uj").write_text("9999999")
    joules = energy.meter("cpu", tmp_path)
    assert joules is not None
    assert joules() == 0
    (tmp_path / "intel-rapl:0/energy_uj").write_text("500000")  # 1.5 J later, after wrapping at 10 J
    (tmp_path / "intel-rapl:1/energy_uj").write_text("9250000")
    (tmp_path / "intel-rapl:2/energy_uj").write_text("9999999")  # counts the packages once more
    assert joules() == pytest.approx(1.75)
    (tmp_path / "intel-rapl:1/energy_uj").unlink()
    assert joules() is None


# Contamination


def test_planted_overlaps_are_measured(tmp_path: Path, trained: Trained) -> None:
    """20 training texts; of 10 questions two stand in them whole, one by half, and one is too short to tell."""
    learned = [" ".join(f"l{text}w{word}" for word in range(60)) for text in range(20)]
    asked = [" ".join(f"q{text}w{word}" for word in range(40)) for text in range(10)]
    asked[2], asked[5] = " ".join(learned[3].split()[:40]), " ".join(learned[4].split()[5:45]).upper()
    asked[7] = " ".join([*learned[6].split()[:26], *asked[7].split()[:14]])
    asked[9] = "too short"
    for name, texts in (("corpus", learned), ("exam", asked)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    sets = {
        "corpus": {"source": "jsonl", "file": "corpus.jsonl", "split": {"train": "100%"}},
        "exam": {"source": "jsonl", "file": "exam.jsonl", "split": {"test": "100%"}},
    }
    prepared = prepare(parse_data({"tokenizer": {"kind": "bytes"}, **sets}), tmp_path / "data", roots=[tmp_path])
    found = judged("contamination", {"data": "exam:test"}, model_of(trained), prepared.folder)
    assert found["words/ngram_share"].value == pytest.approx((28 + 28 + 14) / (9 * 28))
    assert found["words/item_share"].value == pytest.approx(3 / 9)
    assert found["words/item_share"].n == 9
    assert found["too_short_share"].value == pytest.approx(1 / 10)
    # Upper case is another text to bytes; as many of them as 13 words have are found in two items only.
    assert found["tokens/item_share"].value == pytest.approx(2 / 9)
    near = judged("contamination", {"data": "exam:test", "token_n": 3}, model_of(trained), prepared.folder)
    assert near["tokens/item_share"].value == pytest.approx(9 / 10)  # all but "too short"
    half = judged("contamination", {"data": "exam:test", "least": 0.6}, model_of(trained), prepared.folder)
    assert half["words/item_share"].value == pytest.approx(2 / 9)
    every = judged("contamination", {}, model_of(trained), prepared.folder)
    assert every["exam_test/words/item_share"] == Measurement(
        **{
            **{key: getattr(found["words/item_share"], key) for key in ("value", "n", "interval", "unit")},
            "name": "exam_test/words/item_share",
            "items": every["exam_test/words/item_share"].items,
        }
    )


# Options of perplexity


def test_bootstrap_changes_the_interval_and_no_value(trained: Trained, data: Prepared) -> None:
    model = model_of(trained)
    plain = judged("perplexity", {"data": "corpus:val"}, model, data.folder)["loss"]
    drawn = judged(
        "perplexity", {"data": "corpus:val", "bootstrap": "document", "normalised": 1e-9}, model, data.folder
    )
    loss = drawn["loss"]
    assert (loss.value, loss.items) == (plain.value, plain.items)
    assert plain.interval is not None
    assert loss.interval is not None
    assert loss.interval != plain.interval
    perplexity = drawn["perplexity"]
    assert perplexity.items == replace(loss.items, exponential=True)  # so that gates compare it document by document
    assert perplexity.value == pytest.approx(ratio_of(perplexity.items))
    widths = [one.high - one.low for one in (loss.interval, plain.interval)]
    assert 0.4 < widths[0] / widths[1] < 1.2  # 8 documents: t is wider than the percentiles
