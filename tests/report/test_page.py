"""The page as a stranger's browser would take it."""

import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from bloomery.report.markdown import inline, markdown
from bloomery.report.page import page, write_report
from bloomery.report.view import RunView

VOID = {"meta", "br", "hr", "col"}
LOADING = {"script", "img", "iframe", "object", "embed", "link", "video", "audio", "source", "base", "form", "image"}


class Reader(HTMLParser):
    """Elements, attributes and text; complains about anything that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.ids = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(views):
    return {kind: page(view) for kind, view in views.items()}


@pytest.mark.parametrize("kind", ["passing", "failing", "interrupted", "unfinished", "amended", "hostile", "grammar"])
def test_whole_small_and_alone(pages, kind):
    text = pages[kind]
    reader = Reader(text)
    assert reader.open == []
    assert len(text.encode()) < 1_500_000
    assert len(set(reader.ids)) == len(reader.ids)
    for tag, attributes in reader.elements:
        assert tag not in LOADING
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#")
                assert value[1:] in reader.ids
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#")
    assert "@import" not in text


@pytest.mark.parametrize("kind", ["passing", "failing", "hostile", "grammar"])
def test_readable_without_eyes_and_without_colours(pages, kind):
    reader = Reader(pages[kind])
    for tag, attributes in reader.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert not re.search(r"(fill|stroke): #", pages[kind])


def test_same_events_same_bytes(views, pages):
    assert page(views["failing"]) == pages["failing"]


def test_strangers_stay_text(pages):
    text = pages["hostile"]
    assert "<script" not in text
    assert "<img" not in text
    assert "<script>alert(1)</script>" in "".join(Reader(text).text)


def test_strangers_stay_text_in_markdown(views):
    text = markdown(views["hostile"])
    outside = re.sub(r"(?ms)^(`{3,})$.*?^\1$", "", text)
    assert "<script" not in outside
    assert "<img" not in outside
    assert inline("a|b <b> *c* [d](e) `f`") == "a\\|b &lt;b&gt; \\*c\\* \\[d\\](e) \\`f\\`"


def test_a_sample_cannot_end_its_code_block():
    from bloomery.report.markdown import fence

    assert fence("a\n```\nb").splitlines()[0] == "````"


def test_verdict_first_and_failed_before_passed(pages):
    text = "".join(Reader(pages["failing"]).text)
    assert text.index("Failed") < text.index("Predictions") < text.index("What was promised")
    cards = re.findall(r'class="card tone-(\w+)', pages["failing"])
    assert cards == ["fail", "fail", "missing", "pass"]


def test_not_worse_is_not_better(pages, views):
    for text in ("".join(Reader(pages["passing"]).text), markdown(views["passing"])):
        assert "not worse than its control" in text
        assert "not worse than control" in text
        assert "better than control" not in text
        assert "10x in the linears, 4.4x in total" in text
        assert "2.5x the control" in text


def test_amendment_stands_beside_its_gate(pages):
    card = pages["amended"].split('class="card', 1)[1].split("</section>", 1)[0]
    assert "Amended after results had been seen" in card
    assert "the bigram table was fitted on too few tokens" in card


def test_the_story_has_interruptions_notes_and_prescriptions(pages):
    text = "".join(Reader(pages["failing"]).text)
    for words in (
        "Prescription: plateau",
        "Checkpoint fallback",
        "Not promoted: l2",
        "Stage l3 skipped",
        "2nd look, after rule plateau",
    ):
        assert words in text
    assert "Run opened again" in "".join(Reader(pages["interrupted"]).text)


def test_report_is_written_with_its_twin(folders, tmp_path):
    folder = shutil.copytree(folders["unfinished"], tmp_path / "run")
    written = write_report(folder)
    assert written == folder / "report.html"
    assert written.read_text() == page(RunView.read(folder))
    assert (folder / "report.md").read_text().startswith("# Not finished: tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "report.html", "report.md"]


def test_what_was_allowed_to_change_is_a_warning(folders, tmp_path, pages):
    folder = shutil.copytree(folders["interrupted"], tmp_path / "run")
    resumed = {"event": "resumed", "time": "2026-11-20T10:00:00.000+00:00", "allowed_changes": ["device", "world"]}
    with (folder / "events.jsonl").open("w") as log:
        lines = (folders["interrupted"] / "events.jsonl").read_text().splitlines()
        log.write("\n".join([*lines[:-1], json.dumps(resumed)]) + "\n")
    text = page(RunView.read(folder))
    warned = re.findall(r'<p class="amendment">([^<]*allowed to find changed[^<]*)', text.split('id="environment"')[1])
    assert len(warned) == 1
    assert "device, world" in warned[0]
    assert "allowed to find changed: device, world" in markdown(RunView.read(folder))
    assert "allowed to find changed" not in pages["interrupted"]
