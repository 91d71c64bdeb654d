"""harmonic/packets as a stage: losses against a slow sum, controls, what is added while serving, kill and resume."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import SHAPE, Asked, ask, random_model, until_done
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_packets import COMMON, SUBJECTS

from bloomery.data.corpus import Document
from bloomery.data.prepared import Prepared
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import tokens_of
from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.discover import catalogue
from bloomery.errors import ArtifactError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.perplexity import batches
from bloomery.stages import models
from bloomery.stages.packets import DOCUMENTS, Additions, grown
from bloomery.stages.prepare import parse_data, prepare
from bloomery.systems.harmonic.packet_losses import halves, in_one_window, passages
from bloomery.systems.harmonic.packets import route
from bloomery.systems.harmonic.specialists import Packets, read_shelf, texts_of
from bloomery.systems.harmonic.tfidf import Retrieval

CONFIG: dict[str, Any] = {
    "specialists": 3, "tokens": 1920, "batch": 4, "context": 32, "precision": "fp32", "optimizer": {"lr": 0.1},
    "validation": {"split": "val", "documents": 6},
}  # fmt: skip


def write(folder: Path, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        for subject, words in SUBJECTS.items():
            draw = random.Random(f"{subject} {number}")
            said = [draw.choice(words if draw.random() < 0.7 else COMMON) for _ in range(40)]
            (folder / f"{subject}{number:02}.txt").write_text(" ".join(said) + "\n")


def library(folder: Path, numbers: range, added: Path | None = None) -> Prepared:
    write(folder / "manuals", numbers)
    data: dict[str, Any] = {
        "tokenizer": {"kind": "bytes"},
        "manuals": {"source": "text", "folder": "manuals", "split": {"train": "75%", "val": "25%"}},
    }
    if added is not None:
        data["added"] = {"source": "text", "folder": str(added), "split": {"train": "100%"}}
    return prepare(parse_data(data), folder / "data", roots=[folder])


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return library(tmp_path_factory.mktemp("library"), range(12))


@pytest.fixture(scope="module")
def start(shelves: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return random_model(shelves, tmp_path_factory.mktemp("start") / "model")


@pytest.fixture(scope="module")
def made(shelves: Prepared, start: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return ask(Packets(), shelves, tmp_path_factory.mktemp("made"), {"model": start}, CONFIG)


def nats(folder: Path, before: list[int], scored: list[int]) -> float:
    """Of the scored tokens, each read with all that stands before it."""
    model = models.load_model(folder)
    row, total = [256, *before, *scored], 0.0
    assert len(row) <= 33, "one window"
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([row[:-1]])).logits[0].double(), dim=-1)
    for at, target in enumerate(scored, start=len(before)):
        total -= float(logprobs[at, target])
    return total


def test_losses_are_those_of_a_slow_sum(shelves: Prepared, start: Artifact, made: Asked) -> None:
    tokenizer = shelves.tokenizer
    judged = halves(texts_of(shelves, "manuals:val"), 6)
    folder = made.folder / "experts"
    shelf = read_shelf(folder)
    relevance = shelf.relevance()
    sums = dict.fromkeys(("routed", "random", "one", "base", "retrieval"), 0.0)
    count = 0
    cut = list(slowly_cut([text for _, text in texts_of(shelves, "manuals:train")], 6))
    retrieval = Retrieval.of(cut)
    for document in judged:
        tokens = [*map(int, tokenizer.encode(document.text)), 256]
        first = len(tokenizer.encode(document.text[: document.prompt]))
        assert first > 16, "else the test says little"
        before, scored = tokens[first - 16 : first], tokens[first : first + 16]
        count += len(scored)
        each = [nats(folder / "members" / str(one), before, scored) for one in range(3)]
        sums["routed"] += each[route(relevance, 3, document.text[: document.prompt])]
        sums["random"] += sum(each) / 3
        sums["one"] += nats(made.folder / "one", before, scored)
        sums["base"] += nats(start.path, before, scored)
        found = list((cut[retrieval.best(document.text[: document.prompt])] + "\n\n").encode())
        sums["retrieval"] += nats(start.path, found + before[8:], scored)
    for name, total in sums.items():
        assert made.last(f"packets/{name}_loss").value == pytest.approx(total / count, rel=1e-4)
    for name in ("one", "retrieval"):
        over = made.last(f"packets/over_{name}").value
        assert over == pytest.approx((sums["routed"] - sums[name]) / count, abs=1e-4)


def slowly_cut(texts: list[str], size: int) -> Iterator[str]:
    for text in texts:
        rest = text
        while len(rest) > size:
            yield rest[:size]
            rest = rest[size:]
        yield text[-size:]


@given(st.lists(st.text("ab c\n", max_size=30), min_size=1, max_size=4), st.integers(1, 9))
def test_passages_are_all_of_a_text_and_as_long_as_it_allows(texts: list[str], size: int) -> None:
    ids = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    found = [bytes(one).decode() for one in passages(ids, size)]
    assert found == list(slowly_cut([text for text in texts if text], size))


@given(st.integers(16, 40), st.integers(1, 58), st.integers(1, 58), st.integers(1, 4))
def test_what_is_retrieved_is_in_sight_of_all_that_is_scored_and_the_same_is_scored_without_it(
    context: int, first: int, second: int, retrieved: int
) -> None:
    """Whatever the halves' lengths. The document counts up from 10, so that each of its tokens names its place."""
    text = "".join(chr(10 + place) for place in range(first + second))
    file = tokens_of("d", [Document("d", text, prompt=first)], BytesTokenizer())
    scored: list[list[int]] = []
    for found in ([], [7] * retrieved):
        before = min(first, context // 4 if found else context // 2)
        cut = in_one_window(file, context, [np.array(found, np.uint16)] if found else None)
        ((inputs, targets, slots),) = batches(cut, [0], context, context, 4096)
        assert inputs.shape[0] == 1
        assert inputs.shape[1] <= context, "one window, and one budget for all"
        scored.append(targets[slots == 0].tolist())
        sight = [256, *found, *range(10 + first - before, 10 + first)]
        assert inputs[0].tolist() == [*sight, *scored[-1][:-1]]
    assert scored[0] == scored[1] == file.document(0)[first : first + context // 2].tolist()


def test_it_measures_what_it_declares_and_every_control_is_there(made: Asked) -> None:
    declared = set(Packets().emits(Packets().config_model().model_validate(CONFIG)))
    assert {one.name for one in made.measured} == declared
    base = made.last("packets/base_loss").items
    assert base is not None
    scored = (base.key, base.weights)
    for name in ("routed", "random", "one", "retrieval", "base"):
        one = made.last(f"packets/{name}_loss")
        assert one.n == 6
        assert one.items is not None
        assert (one.items.key, one.items.weights) == scored, "the same tokens for all"
    assert made.last("packets/one_loss").value < made.last("packets/base_loss").value, "it has learned"
    assert made.last("packets/trained").value == 3
    assert made.last("packets/stored").value == 3 * made.last("packets/one_stored").value


def test_killed_and_gone_on_with_it_ends_the_same(
    shelves: Prepared, start: Artifact, made: Asked, tmp_path: Path
) -> None:
    cut, times = until_done(Packets(), shelves, tmp_path, {"model": start}, CONFIG)
    assert times >= 3
    assert {one.name: one.value for one in cut.measured} == {one.name: one.value for one in made.measured}
    for one in range(3):
        name = f"experts/members/{one}/model.safetensors"
        assert (tmp_path / name).read_bytes() == (made.folder / name).read_bytes()


def test_only_the_specialists_whose_packets_grew_are_trained_again(
    start: Artifact, made: Asked, tmp_path: Path
) -> None:
    """What a server was given while it ran, as a set that is added: it and the stage agree on who has grown."""
    shutil.copytree(made.folder / "experts", tmp_path / "given")
    given = seal(tmp_path / "given", "packets.experts", "experts")
    before = read_shelf(given.path)
    card = Card.model_validate({
        "cascade": 1, "name": "forge", "routing": "idf",
        "members": [{"name": str(one), "model": "x", "packets": ["x"]} for one in range(3)],
    })  # fmt: skip
    draw = random.Random("new")
    with Additions(tmp_path / "served", card, before.relevance()) as served:
        for number in range(6):
            served.add(f"{number}", " ".join(draw.choice(SUBJECTS["sea"]) for _ in range(40)))
    (place,) = grown(before.relevance(), tmp_path / "served")
    write(tmp_path / "more" / "manuals", range(12))
    more = library(tmp_path / "more", range(12), added=tmp_path / "served" / DOCUMENTS)
    config = {**CONFIG, "added": "added"}
    after = ask(Packets(), more, tmp_path / "after", {"model": start, "experts": given}, config)
    shelf = read_shelf(after.folder / "experts")
    assert shelf.grown(before) == (int(place),) == (before.places["sea00.txt"],)
    assert after.last("packets/trained").value == 1
    assert {name: shelf.places[name] for name in before.places} == dict(before.places)
    for one in range(3):
        name = f"experts/members/{one}/model.safetensors"
        same = (after.folder / name).read_bytes() == (made.folder / name).read_bytes()
        assert same == (str(one) != place)
    assert Packets().fits_on(Packets().config_model().model_validate(config)) == ("manuals:train", "added:train")
    again = ask(Packets(), more, tmp_path / "again", {"model": start, "experts": seal_of(after, tmp_path)}, config)
    assert again.last("packets/trained").value == 0, "nothing has grown since"


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_added_before_stays_whether_or_not_its_documents_are_still_there(
    start: Artifact, made: Asked, tmp_path: Path, *, kept: bool
) -> None:
    """Three additions in turn. Where a folder holds the newest only, what came before is known by `experts` alone."""
    config, before, texts = {**CONFIG, "added": "added"}, made, []
    for turn, subject in enumerate(("sea", "sea", "iron")):
        here, draw = tmp_path / str(turn), random.Random(f"new {turn}")
        texts.append(" ".join(draw.choice(SUBJECTS[subject]) for _ in range(40)))
        (here / "served").mkdir(parents=True)
        for number, text in enumerate(texts):
            if kept or number == turn:
                (here / "served" / f"news{number}.txt").write_text(text + "\n")
        given = seal_of(before, here)
        data = library(here, range(12), added=here / "served")
        before = ask(Packets(), data, here / "after", {"model": start, "experts": given}, config)
        assert before.last("packets/trained").value == 1
    experts = before.folder / "experts"
    shelf = read_shelf(experts)
    told = [(experts / "packets" / f"{one}.txt").read_text().split("\n\n") for one in range(3)]
    assert [len(several) for several in told] == [len(shelf.held_by(one)) for one in range(3)]
    for number, text in enumerate(texts):
        assert text in told[shelf.places[f"news{number}.txt"]]


def seal_of(made: Asked, folder: Path) -> Artifact:
    shutil.copytree(made.folder / "experts", folder / "newer")
    return seal(folder / "newer", "packets.experts", "experts")


def test_what_comes_in_must_fit(shelves: Prepared, start: Artifact, made: Asked, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "experts", tmp_path / "given")
    given = seal(tmp_path / "given", "packets.experts", "experts")
    with pytest.raises(ArtifactError, match="3 specialists come in"):
        ask(Packets(), shelves, tmp_path / "a", {"model": start, "experts": given}, {**CONFIG, "specialists": 4})
    with pytest.raises(ArtifactError, match="no packets here"):
        ask(Packets(), shelves, tmp_path / "b", {"model": start, "experts": start}, CONFIG)


def test_the_one_model_may_store_what_they_store_together(
    shelves: Prepared, start: Artifact, made: Asked, tmp_path: Path
) -> None:
    """A start of the width at which it does; from one of another size it is refused."""
    config = {**CONFIG, "one": "stored"}
    assert Packets().accepts(Packets().config_model().model_validate(config))["one"]
    with pytest.raises(ArtifactError, match="3 specialists"):
        ask(Packets(), shelves, tmp_path / "a", {"model": start, "one": start}, config)
    counted = {width: numbers(shelves, width) for width in range(18, 64, 2)}
    width = min(counted, key=lambda one: abs(counted[one] - 3 * numbers(shelves, 16)))
    shape = {**SHAPE, "heads": 1, "width": width}
    wide = models.build(shape, shelves.vocab, precision="fp32", seed=1)
    models.save(tmp_path / "wide", wide, shape, "fp32", shelves.tokenizer)
    rival = seal(tmp_path / "wide", "wide.model", "model")
    found = ask(Packets(), shelves, tmp_path / "b", {"model": start, "one": rival}, config)
    assert found.last("packets/one_stored").value == counted[width]
    assert found.last("packets/routed_loss").value == made.last("packets/routed_loss").value
    assert found.last("packets/one_loss").value != made.last("packets/one_loss").value


def test_a_specialist_of_a_few_words_reads_them_over_and_over(start: Artifact, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / "few" / "manuals").mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / "manuals" / f"{number}.txt").write_text(f"ore{number} slag")
    data = library(tmp_path / "few", range(4))
    made = ask(Packets(), data, tmp_path / "made", {"model": start}, {**CONFIG, "specialists": 5})
    assert made.last("packets/trained").value == 5


def numbers(data: Prepared, width: int) -> int:
    model = models.build({**SHAPE, "heads": 1, "width": width}, data.vocab, precision="fp32", seed=0)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"specialists": 16}, "15 steps for 16 specialists"),
        ({"specialists": 1}, "greater than or equal to 2"),
        ({"data": {"manuals": 0.5, "corpus": 0.5}}, "one set of documents"),
        ({"routing": "idf"}, "routing"),
        ({"context": 12}, "a context of 12; 16 at least"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Packets().config_model().model_validate({**CONFIG, **change})


def test_the_one_model_reads_as_much_as_the_specialists_together(
    shelves: Prepared, start: Artifact, tmp_path: Path
) -> None:
    """15 steps for 4 are 3 each, so the control trains 12."""
    spent: list[float] = []
    config = {**CONFIG, "specialists": 4}
    ask(Packets(), shelves, tmp_path, {"model": start}, config, spend=lambda *, tokens, flops: spent.append(tokens))
    assert sum(spent) == 2 * 12 * 4 * 32


def test_its_price_is_the_specialists_and_the_one_model() -> None:
    kind = catalogue.kind("harmonic/packets")
    config = kind.config_model().model_validate(CONFIG)
    model = {"system": "dense", "layers": 1, "width": 16, "heads": 2}
    cost = kind.cost(config, system="harmonic", vocab=257, model=model)
    assert cost.tokens == 2 * 1920
    assert kind.fits_on(config) == ("manuals:train",)
    assert json.loads(json.dumps(dict(kind.produces(config)))) == {"experts": "experts"}
