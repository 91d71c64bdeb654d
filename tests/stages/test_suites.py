"""Suites judge artifacts: perplexity against the definition, samples that anyone can draw again."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Trained

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import Artifact, seal, unseal
from bloomery.engine.stage import SuiteResult
from bloomery.evaluate.perplexity import perplexity
from bloomery.evaluate.progress import heard_by
from bloomery.evaluate.scoring import Request, score_all
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.stages import models
from bloomery.stages.suites import Generation, GenerationSettings, Perplexity, PerplexitySettings


def model_of(trained: Trained) -> Artifact:
    return unseal(trained.result.outputs["model"])


def judged(suite: Perplexity | Generation, config: object, trained: Trained, data: Prepared) -> SuiteResult:
    assert isinstance(config, PerplexitySettings | GenerationSettings)
    return suite.run(config, model_of(trained), data.folder, device="cpu", threads=1)


def test_perplexity_is_the_mean_surprise_of_every_token(trained: Trained, data: Prepared) -> None:
    config = PerplexitySettings(data="corpus:val", context=4096, items=3)
    found = {one.name: one for one in judged(Perplexity(), config, trained, data).measurements}
    assert set(found) == set(Perplexity().emits(config))
    model = models.load_model(trained.result.outputs["model"])
    part = data.part("corpus:val")
    nats, tokens, size = 0.0, 0, 0
    for index in [number * part.documents // 3 for number in range(3)]:
        document = np.concatenate(([part.end_of_document], part.document(index))).astype(np.int64)
        with torch.inference_mode():
            logits = model(torch.from_numpy(document[None, :-1])).logits
        surprise = -torch.log_softmax(logits[0].double(), -1)
        nats += float(surprise[torch.arange(len(document) - 1), torch.from_numpy(document[1:])].sum())
        tokens += len(document) - 1
        size += int(part.byte_counts[index])
    loss = found["loss"]
    assert loss.value == pytest.approx(nats / tokens, rel=1e-5)
    assert found["perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert found["bits_per_byte"].value == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert loss.n == 3
    assert loss.interval is not None
    assert loss.interval.low < loss.value < loss.interval.high
    around = found["perplexity"].interval
    assert around is not None
    assert (around.low, around.high) == pytest.approx((math.exp(loss.interval.low), math.exp(loss.interval.high)))
    assert loss.items is not None
    assert sum(loss.items.weights) == tokens


def test_an_n_gram_table_is_judged_by_the_same_suite(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    from tiny import context, settings

    from bloomery.stages.baselines import NGramBaseline, NGramSettings
    from bloomery.stages.training import tokens_read

    ctx = context(data, tmp_path)
    folder = NGramBaseline().fit(NGramSettings(order=2), tokens_read(trained.context, settings()), ctx).outputs["model"]
    config = PerplexitySettings(data="corpus:val", context=32)
    result = Perplexity().run(config, seal(folder, "bigram", "model"), data.folder, device="cpu", threads=1)
    mine = judged(Perplexity(), config, trained, data).measurements[0]
    assert 0.5 < result.measurements[0].value < 5
    assert result.measurements[0].items is not None
    assert mine.items is not None
    assert result.measurements[0].items.key == mine.items.key  # they can be paired


def test_with_caches_their_weights_come_from_the_part_that_is_not_judged(
    trained: Trained, data: Prepared, tmp_path: Path
) -> None:
    from bloomery.evaluate.cached_loss import cached_perplexity, fit_caches
    from bloomery.evaluate.ngram import NGram
    from bloomery.evaluate.ngram_cache import Cached
    from bloomery.stages.baselines import NGRAM_CARD

    asked = {"data": "corpus:val", "context": 32, "items": 3, "normalised": 1e-6}
    config = PerplexitySettings.model_validate({**asked, "caches": {"windows": [30, 300], "longest_history": 2}})
    found = judged(Perplexity(), config, trained, data).measurements[0]
    model, how = models.load_model(trained.result.outputs["model"]), dict[str, Any](context=32, max_documents=3)
    caches = fit_caches(model, data.part("corpus:dev"), windows=(30, 300), longest=2, **how)
    assert found.value == cached_perplexity(model, caches, data.part("corpus:val"), **how).loss
    plain = judged(Perplexity(), PerplexitySettings.model_validate(asked), trained, data).measurements[0]
    assert found.value < plain.value
    assert found.items is not None
    assert plain.items is not None
    assert found.items.key == plain.items.key
    table = Cached.fit(
        NGram.fit([np.asarray(data.part("corpus").tokens)], order=3, vocab=257, end_of_document=256),
        [np.concatenate(([256], data.part("corpus:dev").document(0))).astype(np.int64)],
    )
    table.save(tmp_path)
    (tmp_path / NGRAM_CARD).write_text("{}")
    artifact = seal(tmp_path, "table", "model")
    values = [
        Perplexity().run(one, artifact, data.folder, device="cpu", threads=1).measurements[0].value
        for one in (config, PerplexitySettings.model_validate(asked))
    ]
    assert values[0] == values[1], "a table with caches gets no second ones"


def test_samples_are_the_same_every_time_and_open_with_docstrings(trained: Trained, data: Prepared) -> None:
    config = GenerationSettings(prompts=2, tokens=9)
    one, two = (judged(Generation(), config, trained, data) for _ in range(2))
    assert one.samples == two.samples
    assert len(one.samples) == 2
    assert all(prompt.startswith("def f") and prompt.endswith('"""Return the') for prompt, _ in one.samples)
    assert 0 <= one.measurements[0].value <= 1


def test_what_is_written_is_weighed_by_a_table_that_is_not_the_writers(trained: Trained, data: Prepared) -> None:
    from support.kneser_ney import Textbook

    config = GenerationSettings(prompts=2, tokens=30, under="corpus:train")
    result = judged(Generation(), config, trained, data)
    found = {one.name: one for one in result.measurements}
    assert set(found) == set(Generation().emits(config))
    stream = [256, *np.asarray(data.part("corpus").tokens).tolist()]
    book, nats, count = Textbook([stream], 3, data.vocab, 256), 0.0, 0
    for prompt, text in result.samples:
        tokens = [256, *data.tokenizer.encode(prompt), *data.tokenizer.encode(text)]
        written = len(data.tokenizer.encode(text))
        for at in range(len(tokens) - written, len(tokens)):
            nats -= math.log(book.probability(tuple(tokens[max(0, at - 2) : at]), tokens[at]))
        count += written
    assert found["independent_loss"].value == pytest.approx(nats / count)
    words = [text.split() for _, text in result.samples]
    twos = [pair for each in words for pair in pairwise(each)]
    assert found["distinct_2"].value == pytest.approx(len(set(twos)) / len(twos) if twos else 0)


def test_text_without_docstrings_is_asked_by_how_it_opens(tmp_path: Path, trained: Trained) -> None:
    from bloomery.stages.prepare import parse_data, prepare

    (tmp_path / "text").mkdir()
    for number in range(9):
        (tmp_path / "text" / f"{number}.txt").write_text(f"Once upon a time number {number} met the furnace. " * 5)
    spec = parse_data(
        {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "text", "split": {"val": 1}}}
    )
    plain = prepare(spec, tmp_path / "data", roots=[tmp_path])
    result = judged(Generation(), GenerationSettings(prompts=2, tokens=3), trained, plain)
    assert [prompt[:23] for prompt, _ in result.samples] == ["Once upon a time number"] * 2


def test_evaluate_hands_its_model_on_and_reads_nothing(trained: Trained, data: Prepared, tmp_path: Path) -> None:
    from tiny import context

    from bloomery.stages.evaluate import Evaluate, Settings

    kind, config = Evaluate(), Settings()
    ctx = context(data, tmp_path)
    assert kind.run(ctx, config).outputs == {}
    assert kind.accepts(config) == {"model": True}
    assert list(kind.tokens_read(ctx, config)) == []
    assert kind.cost(config, system="dense", vocab=9).flops == 0


def test_the_long_loops_tell_of_themselves_to_the_end(data: Prepared) -> None:
    part = data.part("corpus:val")
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), part.vocab)
    heard: list[tuple[int, int, str]] = []
    with heard_by(lambda done, total, what: heard.append((done, total, what))):
        perplexity(model, part, context=32, batch_tokens=256)
        windows = len(heard)
        score_all(model, [Request((1, 2, number), (3,)) for number in range(200)], window=8)
    assert windows > 2
    assert {what for *_, what in heard[:windows]} == {"windows"}
    assert {what for *_, what in heard[windows:]} == {"continuations"}
    for several in (heard[:windows], heard[windows:]):
        done = [one for one, *_ in several]
        assert np.all(np.diff(done) > 0)
        assert done[-1] == several[-1][1]
