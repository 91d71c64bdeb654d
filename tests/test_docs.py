"""What the pages say is true: commands parse, plans check, examples run, links lead somewhere, tables are current.

Every fenced block of the pages below is executed or checked by its language; a block in a language that nothing here
knows fails. `toml` and plain blocks (drawings) are read only where a test needs them.
"""

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

import bloomery
from bloomery.cli.verbs import app, usage_error
from bloomery.engine.discover import catalogue
from bloomery.plan.check import check
from bloomery.plan.load import load_text
from bloomery.plan.schema import Plan
from bloomery.plan.yaml_text import parse

ROOT = Path(__file__).parent.parent
SYSTEMS = Path(bloomery.__file__).parent / "systems"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/bloomery/systems/*/README.md")]
)  # fmt: skip
CHECKED = {"bash", "yaml", "python", "toml", ""}
TOOLS = {"ruff", "basedpyright", "pre-commit", "source"}
"""Commands of others, of which only the name is checked."""

needs_harmonic = pytest.mark.skipif(not (SYSTEMS / "harmonic").is_dir(), reason="no systems are bundled here")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str | None = None) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2]))
    return [block for block in found if language is None or block.language == language]


def test_every_block_is_of_a_language_that_is_checked():
    assert len(blocks()) > 10
    assert [str(block) for block in blocks() if block.language not in CHECKED] == []


# Commands


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, words without quotes."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in shlex.split(line, comments=True):
            if word == "&&":
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_commands_are_ones_that_can_be_given(block: Block):
    for words in commands(block.text):
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        match words[0]:
            case "bloomery":
                parses(words[1:])
            case "pip":
                installs(words[1:])
            case "pytest":
                tests = [word for word in words[1:] if word not in ("-m", "slow", "not slow")]
                assert all((ROOT / file).is_file() for file in tests), words
            case "python" if words[1] == "-c":
                ast.parse(words[2])
            case "python" if words[1] == "-m":
                assert words[2] == "venv"
            case "python":
                assert (ROOT / words[1]).is_file(), words
                ast.parse((ROOT / words[1]).read_text(encoding="utf-8"))
            case tool:
                assert tool in TOOLS, words


def parses(words: list[str]) -> None:
    """The verb exists and takes these arguments and options; bundled plans and sets of values are real ones."""
    group = typer.main.get_command(app)
    verb = group.commands[words[0]]  # type: ignore[attr-defined]
    context = verb.make_context(words[0], words[1:])
    plan = context.params.get("plan")
    if plan == "quickstart" and not (SYSTEMS / "harmonic").is_dir():
        return
    if plan is not None and not plan.endswith(".yaml"):
        from bloomery.plan.load import load

        assert not check(load(plan, context.params.get("set") or []), catalogue).problems
        if "stage" in context.params:
            load(plan).plan.stage(context.params["stage"])


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(usage_error, match="--fast"):
        parses(["run", "quickstart", "--fast"])


def installs(words: list[str]) -> None:
    assert words[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for flag, value in pairwise(words):
        if flag == "-c":
            assert (ROOT / value).is_file()
        if flag == "-e":
            extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", value)
            assert extras, value
            assert set((extras[1] or "").split(",")) - {""} <= set(project["optional-dependencies"])


def readme_command(name: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- {name} command -->\n```bash\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_two_commands_that_are_promised_and_that_ci_runs():
    assert readme_command("quickstart") == "pip install -c constraints.txt -e . && bloomery run quickstart"
    assert readme_command("test") == "pip install -c constraints.txt -e '.[dev]' && pytest"
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    body = ci.read_text(encoding="utf-8")
    function = re.search(r"^readme\(\) \{\n.*?^\}\n", body, re.MULTILINE | re.DOTALL)
    assert function, "the function of .ci/run that reads README.md"
    for name in ("quickstart", "test"):
        done = subprocess.run(
            ["bash", "-c", f"{function[0]}\nreadme {name}"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == readme_command(name)


def test_every_dependency_is_pinned():
    pins = re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pins == sorted(set(pins))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=\[ ]", each)[0].lower().replace(".", "-").replace("_", "-") for each in wanted}
    assert names <= set(pins)


# Plans


def plain(text: str) -> dict[str, Any]:
    value = parse(text, "block").value
    assert isinstance(value, dict)
    return value


def problems_of(text: str) -> list[str]:
    report = check(load_text(text, ROOT / "README.md"), catalogue)
    return [str(one) for one in (*report.problems, *report.not_offered)]


@needs_harmonic
@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_plans_pass_check(block: Block):
    """A whole plan as it stands; a fragment laid over the quickstart's plan."""
    if block.text.startswith("# plan.yaml"):
        return  # of a system that is not installed here: test_the_system_of_the_guide
    if block.text.startswith("# forge.yaml"):
        return  # no plan: tests/cli/test_cascade.py serves it
    written = plain(block.text)
    if "bloomery" not in written:
        assert set(written) <= set(Plan.model_fields)
        written = {**plain((SYSTEMS / "harmonic/plans/quickstart.yaml").read_text(encoding="utf-8")), **written}
    assert problems_of(json.dumps(written)) == []


@needs_harmonic
def test_the_excerpt_in_the_readme_says_what_the_plan_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- plan excerpt -->\n```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    shipped = plain((SYSTEMS / "harmonic/plans/quickstart.yaml").read_text(encoding="utf-8"))
    assert_within(plain(found[1]), shipped, "plan")


def assert_within(part: Any, whole: Any, path: str) -> None:
    """Every value of `part` stands at the same place in `whole`; lists may be cut at their end."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{path}.{key}"
            assert_within(value, whole[key], f"{path}.{key}")
    elif isinstance(part, list):
        for place, value in enumerate(part):
            assert_within(value, whole[place], f"{path}.{place}")
    else:
        assert part == whole, path


# Python


@pytest.mark.slow
def test_the_system_of_the_guide(tmp_path: Path):
    """docs/writing-a-system.md, followed to the letter: files written, entry point installed, plan checked and run."""
    guide = ROOT / "docs" / "writing-a-system.md"
    written = [write_named(block, tmp_path) for block in blocks() if block.page == guide and block.language in FILES]
    assert len(written) == 6
    table = tomllib.loads(next(block.text for block in blocks("toml") if block.page == guide))
    installed = tmp_path / "low_rank-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: low-rank\nVersion: 0\n")
    lines = [f"{key} = {target}" for key, target in table["project"]["entry-points"]["bloomery.systems"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[bloomery.systems]", *lines, ""]))

    shell = next(block.text for block in blocks("bash") if block.page == guide)
    for words in [["python", "check_tally.py"], *commands(shell)]:
        command = [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]
        if words[:2] == ["bloomery", "run"]:
            command += ["--threads", "1"]
        paths = [str(tmp_path), str(Path(bloomery.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            check=False,
        )
        allowed = (0, 1) if words[:2] == ["bloomery", "run"] else (0,)
        assert done.returncode in allowed, f"{words}\n{done.stdout}\n{done.stderr}"
    run = tmp_path / "runs" / "low_rank" / "first"
    assert (run / "report.html").is_file()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    twin = next(event for event in events if event["event"] == "twin_solved")
    assert abs(twin["off_by"]) <= 0.1
    said = [event["measurement"] for event in events if "measurement" in event]
    measured = {(one["name"], one["who"]) for one in said}
    assert {("text/loss", "candidate"), ("text/loss", "control"), ("largest/weight", "candidate")} <= measured


FILES = ("python", "yaml")


def write_named(block: Block, folder: Path) -> Path:
    """The file that a block's first line names."""
    named = re.match(r"# (\S+\.(?:py|yaml))\n", block.text)
    assert named, f"{block}: the first line names no file"
    path = folder / named[1]
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    return path


def test_python_stands_only_where_it_is_run():
    assert {block.page.name for block in blocks("python")} == {"writing-a-system.md"}


# Text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not (SYSTEMS / "harmonic").is_dir() and "systems" in file.parts:
            continue
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_are_current():
    """The verbs of the README, the key tables of docs/plan.md, and all of docs/claims.md."""
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification
    assert specification.loader
    generate = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generate)
    for page in generate.PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(generate.parts()) & set(re.findall(r"<!-- begin (\w+) -->", text)), page
        assert generate.rendered(text) == text, f"{page.name} is stale: python docs/generate.py"
    claims = generate.CLAIMS.read_text(encoding="utf-8")
    assert generate.claims() == claims, "docs/claims.md is stale: python docs/generate.py"


def test_the_house_of_the_design_is_the_house():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawing = re.search(r"^```\nsrc/bloomery/\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert drawing
    folder = Path(bloomery.__file__).parent
    here = folder
    for line in textwrap.dedent(drawing[1].split("tests/", 1)[0]).splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        if not indent:
            here = folder / name if name.endswith("/") else folder
        path = (here if indent else folder) / name
        assert path.exists(), line


@needs_harmonic
def test_the_counts_in_the_readmes():
    """831,872 of 3,688,704, the control's 828,912, 10x and 4.4x: from the closed forms."""
    from bloomery.engine import parties
    from bloomery.plan.load import load
    from bloomery.stages.settings import architecture

    plan = load("harmonic/quickstart").plan
    stage, kind = plan.stage("pretrain"), catalogue.kind("pretrain")
    candidate, control = (
        architecture(parties.settings(plan, stage, kind, who, vocab=2048).model).tally(2048)  # type: ignore[attr-defined]
        for who in ("candidate", "control")
    )
    dense = architecture({"system": "dense", "layers": 4, "width": 256, "heads": 4}).tally(2048)  # type: ignore[attr-defined]
    linears = [sum(tally.groups[name].stored for name in ("attention", "feed_forward")) for tally in (dense, candidate)]
    assert candidate.dense_equivalent == dense.stored
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    own = (SYSTEMS / "harmonic" / "README.md").read_text(encoding="utf-8")
    for number in (candidate.stored, dense.stored, control.stored):
        assert f"{number:,}" in readme
    for number in (*linears, candidate.stored, dense.stored):
        assert f"{number:,}" in own
    assert f"{linears[0] / linears[1]:.0f}x fewer numbers in the linears" in readme
    assert f"{dense.stored / candidate.stored:.1f}x fewer in total" in readme


def test_exit_codes():
    from bloomery.engine.runner import EXIT_CODES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+)(?:, \d+)? \| (\w+)", readme, re.MULTILINE))
    assert {int(code) for code in table} == {2, *EXIT_CODES.values()}
