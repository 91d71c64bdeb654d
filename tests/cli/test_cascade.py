"""`bloomery serve --cascade`, as docs/serving.md has it: served, asked, voted on, undone, and served again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.command import Command, process

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def declared(**changes: str) -> str:
    """The page's cascade, of the run at hand."""
    found = re.search(r"^```yaml\n(# forge\.yaml\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    text = found[1].replace("quickstart", "test/tiny")
    for old, new in changes.items():
        text = re.sub(rf"(?m)^{old}: .*$", new, text)
    return text


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    started = process(["serve", *arguments, "--port", "0", "--threads", "1", "--device", "cpu"], folder)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        found = re.search(r"^serving forge at (http://127\.0\.0\.1:\d+) ", line)
        assert found, line + (started.communicate()[1] if started.poll() is not None else "")
        yield started, found[1]
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def ask(url: str, method: str = "POST", **asked: Any) -> Any:
    content = json.dumps(asked).encode() if asked else None
    request = urllib.request.Request(url, content, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_cascade_of_the_page(done: Path, tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text(declared())
    (tmp_path / "smith.txt").write_text("iron from ore\n\nthe furnace")
    arguments = ["--cascade", "forge.yaml", "--feedback", "feedback", "--runs", str(done / "runs")]
    votes = re.findall(r'^POST (/v1/feedback) (\{"id": .*\})$', PAGE, re.MULTILINE)
    undo = re.findall(r"^DELETE (/v1/feedback/)vote-", PAGE, re.MULTILINE)
    assert (len(votes), len(undo)) == (2, 1)
    weights = tmp_path / "feedback" / "forge" / "weights.json"
    with serving(tmp_path, *arguments) as (_, url):
        untouched = weights.read_text()
        wishes = {"model": "forge", "prompt": "the furnace", "max_tokens": 10, "seed": 1}
        choice = ask(f"{url}/v1/completions", **wishes)["choices"][0]
        told = choice["bloomery"]
        assert [each["member"] for each in told["route"]][-1] == told["member"]
        assert {"id", "member", "confidence", "route"} == set(told)
        vote = ask(f"{url}{votes[0][0]}", **{**json.loads(votes[0][1]), "id": told["id"]})
        assert vote["score"] == 1.0
        changed = weights.read_text()
        assert changed != untouched
    weights.unlink()
    with serving(tmp_path, *arguments, "--keep-texts") as (_, url):
        assert weights.read_text() == changed
        again = ask(f"{url}/v1/completions", **wishes)["choices"][0]
        assert again["text"] == choice["text"]
        corrected = {**json.loads(votes[1][1]), "id": again["bloomery"]["id"]}
        second = ask(f"{url}{votes[1][0]}", **corrected)
        (row,) = map(json.loads, (weights.parent / "served.jsonl").read_text().splitlines())
        assert (row["prompt"], row["response"]) == (wishes["prompt"], corrected["correction"])
        assert ask(f"{url}{undo[0]}{second['event']}", "DELETE")["deleted"]
        assert (weights.parent / "served.jsonl").read_text() == ""
        assert ask(f"{url}{undo[0]}{vote['event']}", "DELETE")["deleted"]
        assert weights.read_text() == untouched
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(f"{url}{undo[0]}{vote['event']}", "DELETE")


def test_the_fallback_is_the_runs_own_table(done: Path, tmp_path: Path) -> None:
    """Members that are never sure enough, so the table answers; and a member that is a table by its folder."""
    table = next((done / "runs" / "test" / "tiny").rglob("ngram.json")).parent
    members = (
        f"members: [{{name: sure, model: test/tiny, confidence: 1}}, {{name: again, model: {table}, confidence: 1}}]"
    )
    (tmp_path / "forge.yaml").write_text(f"cascade: 1\nname: forge\n{members}\nlast: {{ngram: test/tiny}}\n")
    with serving(tmp_path, "--cascade", "forge.yaml", "--runs", str(done / "runs")) as (_, url):
        asked = {"model": "forge", "prompt": "the fur", "max_tokens": 8, "seed": 5}
        told = ask(f"{url}/v1/completions", **asked)["choices"][0]["bloomery"]
        assert [(each["member"], each["outcome"]) for each in told["route"]] == [
            ("sure", "unsure"), ("again", "unsure"), ("ngram", "answered"),
        ]  # fmt: skip
        same = {each["member"]: each["confidence"] for each in told["route"]}
        assert same["again"] == pytest.approx(same["ngram"])  # the same table, the same seed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"routing": "rooting: idf"}, "did you mean 'routing'?"),
        ({"last": "last: {ngram: 5}"}, "no n-gram table of that order in test/tiny: its tables are of order 2"),
        ({"last": "last: {ngram: test/tniy}"}, "test/tiny"),
        ({"name": "name: test"}, "cannot be read: No such file"),
    ],
)
def test_mistakes_are_one_clear_error(
    done: Path, tmp_path: Path, bloomery: Command, changes: dict[str, str], said: str
) -> None:
    (tmp_path / "forge.yaml").write_text(declared(**changes))
    found = bloomery("serve", "--cascade", "forge.yaml", "--port", "0", "--runs", done / "runs")
    assert found.code == 2, found.err
    assert said in found.err
    assert "Traceback" not in found.err


def test_there_has_to_be_something_to_serve(done: Path, tmp_path: Path, bloomery: Command) -> None:
    assert "nothing to serve" in bloomery("serve").err
    alone = bloomery("serve", "test/tiny", "--keep-texts", "--port", "0", "--runs", done / "runs")
    assert (alone.code, "--keep-texts: no cascade is served" in alone.err) == (2, True)
    (tmp_path / "forge.yaml").write_text(declared())
    (tmp_path / "smith.txt").write_text("iron")
    two = ("--cascade", "forge.yaml", "--cascade", "forge.yaml")
    assert "two are called 'forge'" in bloomery("serve", *two, "--port", "0", "--runs", done / "runs").err
    mistyped = ("--cascade", "forge.yaml", "--packets", tmp_path / "inbx", "--port", "0", "--runs", done / "runs")
    assert "inbx has no folder for a cascade" in (found := bloomery("serve", *mistyped)).err
    assert found.code == 2
