"""Memories woken, slept, calibrated and judged as stages, and begun again wherever they were stopped."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact, digest_of, seal
from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.errors import ArtifactError
from bloomery.evaluate.decoding import Streamed, decoding
from bloomery.measure import Measurement
from bloomery.stages.builtin import Builtin
from bloomery.stages.calibrating import Calibration, CalibrationSettings
from bloomery.stages.exporting import export
from bloomery.stages.origin import Origin, OriginSettings
from bloomery.stages.prepare import parse_data, prepare
from bloomery.stages.scorers import open_scorer
from bloomery.stages.suites import Perplexity, PerplexitySettings
from bloomery.systems.holographic import waking
from bloomery.systems.holographic.kinds import Calibrate, Consolidate, Theory
from bloomery.systems.holographic.variants import open_model
from support.command import write_text

DATA = {
    "tokenizer": {"kind": "bytes"},
    "corpus": {
        "source": "text", "folder": "text", "split": {"train": "60%", "val": "10%", "tune": "10%", "test": "20%"}
    },
}  # fmt: skip
CONFIG = {
    "tokens": 3000, "sleep": {"every": 700}, "validation": {"split": "val", "documents": 2, "every": "50%"},
}  # fmt: skip
OF_THEORY = {"context": 16, "episodes": {"buffer": 80}}
ATTRACTOR = {"variant": "attractor", "store": {"bytes": "8 MiB"}, "prototypes": [4]}
THEORIES: tuple[dict[str, Any], ...] = ({"variant": "v4"}, {"variant": "prod"}, {"variant": "exact_context"})
GROUNDED: tuple[dict[str, Any], ...] = (
    {"variant": "prod", "tokens_as": "svd", "prior": "decayed"},
    {"variant": "v4", "tokens_as": "class", "prior": "factorised", "grace_every": 2},
)
VARIANTS = (*THEORIES, *GROUNDED, {"tokens_as": "random_matrices"}, ATTRACTOR)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("data")
    write_text(folder / "text", 60)
    return prepare(parse_data(DATA), folder / "data", roots=[folder])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "CHUNK", 256)


@dataclass
class Woken:
    context: StageContext
    result: StageResult | None
    measured: list[Measurement] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def model(self) -> Path:
        assert self.result is not None
        return self.result.outputs["model"]


def wake(data: Prepared, folder: Path, *, kind: Any = None, stop_after: int | None = None, **changes: Any) -> Woken:
    """stop_after: how often the engine is asked whether to stop before it says so."""
    measured: list[Measurement] = []
    events: list[tuple[str, dict[str, Any]]] = []
    asked = 0

    def reason() -> Any:
        nonlocal asked
        asked += 1
        return "signal" if stop_after is not None and asked > stop_after else None

    folder.mkdir(parents=True, exist_ok=True)
    ctx = StageContext(
        inputs={}, data=data.folder, workdir=folder, checkpoint=folder / "checkpoint", seed=3, who="candidate",
        device="cpu", threads=1, precision="fp32", vocab=data.vocab, system="holographic", record=measured.append,
        note=lambda event, **facts: events.append((event, facts)), stop_reason=reason,
    )  # fmt: skip
    kind = kind or (Consolidate() if changes.get("variant") == "attractor" else Theory())
    own = {} if changes.get("variant") == "attractor" else OF_THEORY
    config = kind.config_model().model_validate({**CONFIG, **own, **changes}, context={"system": "holographic"})
    try:
        result = kind.run(ctx, config)
    except Stopped:
        result = None
    else:
        promised = kind.emits(config)
        assert {one.name for one in measured} <= set(promised)
        for name, output in result.outputs.items():
            seal(output, f"wake.{name}", name)
    return Woken(ctx, result, measured, events)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_it_predicts_a_distribution_and_says_the_same_in_three_ways(
    changes: dict[str, Any], data: Prepared, tmp_path: Path
) -> None:
    """Of documents, of all prefixes at once, and token by token."""
    scorer = open_model(wake(data, tmp_path, **changes).model)
    part = data.part("corpus:test")
    tokens = np.concatenate(([part.end_of_document], part.document(0)[:60])).astype(np.int64)
    every = scorer.logprobs(torch.from_numpy(tokens[None, :-1]))[0]
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(len(tokens) - 1).double(), atol=1e-9, rtol=0)
    own = scorer.document_logprobs(tokens)
    np.testing.assert_allclose(own, every.gather(1, torch.from_numpy(tokens[1:, None]))[:, 0], atol=1e-9)
    stream = scorer.stream()
    for place, token in enumerate(tokens[:-1].tolist()):
        stream.push(token)
        np.testing.assert_allclose(stream.probabilities(), every[place].exp(), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [*THEORIES, *GROUNDED, ATTRACTOR], ids=str)
def test_stopped_anywhere_and_begun_again_it_ends_with_the_same_bytes(
    changes: dict[str, Any], data: Prepared, tmp_path: Path
) -> None:
    """Stops at five places, among them in the middle between two sleeps."""
    whole = wake(data, tmp_path / "whole", **changes)
    for number, more in enumerate((2, 1, 3, 4)):
        stopped = wake(data, tmp_path / "halting", stop_after=more, **changes)
        assert stopped.result is None, number
        saved = json.loads((tmp_path / "halting" / "checkpoint" / waking.PROGRESS).read_text())
        assert 0 < saved["position"] < 3000
    ended = wake(data, tmp_path / "halting", **changes)
    assert ended.result is not None
    assert whole.result is not None
    assert ended.result.hashes == whole.result.hashes
    assert digest_of(ended.model) == digest_of(whole.model)
    assert len(list((tmp_path / "halting" / "checkpoint").glob("at-*"))) == 1


def test_another_run_s_memory_is_refused(data: Prepared, tmp_path: Path) -> None:
    assert wake(data, tmp_path, stop_after=3).result is None
    with pytest.raises(ArtifactError, match="other settings"):
        wake(data, tmp_path, context=8)


def test_sleeps_come_at_their_cadence_and_tell_their_token(data: Prepared, tmp_path: Path) -> None:
    woken = wake(data, tmp_path)
    assert [facts["step"] for name, facts in woken.events if name == "slept"] == [700, 1400, 2100, 2800]
    looks = [one.step for one in woken.measured if one.name == "memory/prototypes"]
    assert looks == [1500, 3000]
    assert not [1 for name, _ in wake(data, tmp_path / "awake", sleep=None).events if name == "slept"]


def test_it_keeps_within_its_bytes_and_says_what_it_forgot(data: Prepared, tmp_path: Path) -> None:
    small: dict[str, Any] = {"store": {"bytes": "96 KiB"}, "tokens": 9000, "keep_every": 1}
    small["timescales"] = [1, 2, 4, 8, 12, 16]
    for name, variant in (("v4", "v4"), ("prod", "prod"), ("exact", "exact_context")):
        woken = wake(data, tmp_path / name, variant=variant, **small)
        told = {one.name: one.value for one in woken.measured}
        assert told["memory/store_bytes"] <= 98304, name
        assert told["memory/forgotten_share"] > 0, name
        assert open_model(woken.model).tally().bytes <= 98304, name


def test_half_of_the_memory_reads_to_the_end_and_says_what_it_forgot(tmp_path: Path) -> None:
    """Of the bytes that it takes where there is room; of letters of a chain, in which short histories are enough."""
    draw = np.random.default_rng(0)
    odds = draw.dirichlet(np.full(26, 0.2), 26)
    (tmp_path / "text").mkdir()
    for number in range(60):
        letters = [number % 26]
        for _ in range(800):
            letters.append(int(draw.choice(26, p=odds[letters[-1]])))
        (tmp_path / f"text/{number:02}.txt").write_text("".join(chr(97 + one) for one in letters))
    data = prepare(parse_data(DATA), tmp_path / "data", roots=[tmp_path])
    how: dict[str, Any] = {"variant": "attractor", "prototypes": [4], "tokens": 24_000, "sleep": {"every": 6000}}
    told: list[dict[str, float]] = []
    notes: list[list[str]] = []
    room = 3 * 2**20
    for name in ("whole", "half"):
        woken = wake(data, tmp_path / name, store={"bytes": room}, **how)
        assert woken.result is not None
        told.append({one.name: one.value for one in woken.measured})
        assert max(one.value for one in woken.measured if one.name == "memory/store_bytes") <= room
        notes.append([facts["text"] for event, facts in woken.events if event == "note"])
        room = int(told[0]["memory/store_bytes"]) // 2
    whole, half = told
    assert whole["memory/forgotten_share"] == 0 < half["memory/forgotten_share"] < 1
    share = f"{half['memory/forgotten_share']:.0%}"
    assert notes == [[], [f"store.bytes was full: {share} of what was stored is forgotten"]]
    assert half["memory/entries"] < whole["memory/entries"]
    assert half["val/perplexity"] < 1.1 * whole["val/perplexity"]


def test_weights_are_found_on_text_of_their_own(data: Prepared, tmp_path: Path) -> None:
    woken = wake(data, tmp_path / "wake", keep_every=1)
    model = Artifact("wake.model", "model", digest_of(woken.model), woken.model)
    measured: list[Measurement] = []
    folder = tmp_path / "calibrate"
    folder.mkdir()
    ctx = StageContext(
        inputs={"model": model}, data=data.folder, workdir=folder, checkpoint=folder / "checkpoint", seed=0,
        who="candidate", device="cpu", threads=1, precision="fp32", vocab=data.vocab, system="holographic",
        record=measured.append,
    )  # fmt: skip
    config = Calibrate().config_model().model_validate({"data": "corpus:tune"})
    result = Calibrate().run(ctx, config)
    told = {one.name: one.value for one in measured}
    assert told["calibrate/loss"] <= told["calibrate/loss_before"] + 1e-3
    part = data.part("corpus:tune")
    read = [batch.targets.numel() for batch in Calibrate().tokens_read(ctx, config)]
    assert sum(read) == len(part)
    weights = open_model(result.outputs["model"]).parts.weights()  # pyright: ignore
    assert weights.sum() == pytest.approx(1)


def test_a_rival_is_fitted_on_the_tokens_that_were_read(data: Prepared, tmp_path: Path) -> None:
    """Document by document: their number, and no document that was not read."""
    woken = wake(data, tmp_path, kind=Consolidate(), variant="v4", tokens=2000)
    config = Consolidate().config_model().model_validate({**CONFIG, **OF_THEORY, "variant": "v4", "tokens": 2000})
    batches = list(Consolidate().tokens_read(woken.context, config))
    assert sum(batch.targets.numel() for batch in batches) == 2000
    stream = waking.Stream(data.part("corpus:train"), woken.context.seed)
    tokens, begins = stream.piece(0, 2000)
    assert np.concatenate([batch.targets[0] for batch in batches]).tolist() == tokens.tolist()
    assert np.cumsum([0, *(batch.targets.numel() for batch in batches[:-1])]).tolist() == begins.tolist()


def test_pieces_of_the_stream_are_the_stream(data: Prepared) -> None:
    stream = waking.Stream(data.part("corpus:train"), 5)
    whole, begins = stream.piece(0, len(stream))
    assert begins.tolist() == stream.starts[:-1].tolist()
    for cut in (1, 7, 100, len(stream) - 1):
        one, two = stream.piece(0, cut), stream.piece(cut, len(stream))
        assert np.concatenate((one[0], two[0])).tolist() == whole.tolist()
        assert np.concatenate((one[1], two[1] + cut)).tolist() == begins.tolist()


def test_everything_generic_takes_its_model(data: Prepared, tmp_path: Path) -> None:
    woken = wake(data, tmp_path / "wake")
    model = seal(woken.model, "wake.model", "model")
    found = Perplexity().run(
        PerplexitySettings(data="corpus:test", normalised=1e-9, items=3), model, data.folder, device="cpu", threads=1
    )
    assert 1 < found.measurements[1].value < 257
    config = (
        Builtin()
        .config_model()
        .model_validate({"tasks": ["word_order"], "contexts": [16], "items": 4, "data": "corpus:test"})
    )
    assert Builtin().run(config, model, data.folder, device="cpu", threads=1).measurements
    assert isinstance(decoding(open_scorer(woken.model), slots=2, length=9), Streamed)
    asked = OriginSettings(data="corpus:test", tokens=64, passages=8)
    from_ = Origin().run(asked, model, data.folder, device="cpu", threads=1).measurements
    told = {one.name: one.value for one in from_}
    assert told["over_unigram"] == pytest.approx(told["accuracy"] - told["unigram"])
    assert told["chance"] == pytest.approx(1 / data.part("corpus:test").documents)
    own = CalibrationSettings(data="corpus:test", confidence="own", items=3)
    said = Calibration().run(own, model, data.folder, device="cpu", threads=1).measurements
    assert {one.name for one in said} == set(Calibration().emits(own))
    with pytest.raises(ArtifactError, match="holographic"):
        export(woken.model, tmp_path / "out", "safetensors")


def test_the_control_is_a_dense_model_of_as_many_bytes(data: Prepared, tmp_path: Path) -> None:
    kind = Theory()
    small: dict[str, Any] = {"store": {"bytes": "256 KiB"}, "tokens": 600}
    config = kind.config_model().model_validate({**CONFIG, **OF_THEORY, **small})
    patch = kind.twin(config, system="holographic", vocab=data.vocab, match="bytes", tolerance=0.05)
    assert patch is not None
    woken = wake(data, tmp_path, kind=kind, **small, **patch)
    assert woken.result is not None
    assert woken.result.tallies["model"].bytes == pytest.approx(256 * 1024, rel=0.05)


def test_exact_context_is_witten_and_bell(data: Prepared, tmp_path: Path) -> None:
    """Against the recursion over dictionaries."""
    woken = wake(data, tmp_path, variant="exact_context", timescales=[1, 2], keep_every=1)
    text, begins = waking.Stream(data.part("corpus:train"), 3).piece(0, 3000)
    part = data.part("corpus:test")
    end, vocab = part.end_of_document, data.vocab
    follows: dict[tuple[int, ...], dict[int, int]] = {}
    history: list[int] = []
    for place, token in enumerate(text.tolist()):
        history = [end] if place in begins else history
        for length in (1, 2):
            mine = follows.setdefault((length, *history[-length:]), {})
            mine[token] = mine.get(token, 0) + 1
        history.append(token)
    asked = np.concatenate(([end], part.document(1)[:40])).astype(np.int64)
    expected = []
    for place in range(1, len(asked)):
        p = (int((text == asked[place]).sum()) + 1) / (len(text) + vocab)
        for length in (1, 2):
            mine = follows.get((length, *asked[:place][-length:].tolist()))
            if mine:
                total, kinds = sum(mine.values()), len(mine)
                p = (mine.get(int(asked[place]), 0) + kinds * p) / (total + kinds)
        expected.append(p)
    found = np.exp(open_model(woken.model).document_logprobs(asked))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
