"""Loading: precedence, `extends`, `set`, `--set`, `fraction`, and where values stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.errors import PlanError, Problems
from bloomery.plan.canon import canonical
from bloomery.plan.load import load, load_text, resolve

sys.path.insert(0, str(Path(__file__).parent))
from broken import GOOD  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_plan_is_loaded_with_the_place_of_every_value() -> None:
    loaded = load_text(GOOD, Path("plan.yaml"))
    assert loaded.plan.name == "test/good"
    assert loaded.plan.budget.wall == 480
    assert loaded.plan.stage("judge").needs == {"model": "pretrain"}
    assert loaded.where("stages.judge.kind") == "plan.yaml:33:5: stages.judge.kind"
    assert loaded.where("stages.pretrain.config.optimizer.lr").startswith("plan.yaml:21:32")
    assert loaded.where("stages.pretrain.config.no.such").startswith("plan.yaml:18:5")
    assert not loaded.exploratory


def test_comments_order_and_spelling_do_not_change_the_digest() -> None:
    one = load_text(GOOD, Path("a.yaml"))
    other = GOOD.replace("wall: 8 min, tokens: 30M tok", "tokens: 30000k tok, wall: 480 s").replace("2%", "0.02")
    head, tail = other.split("seeds: [0, 1]\n")
    same = load_text("# a comment\n" + head + tail + "seeds: [0, 1]\n", Path("b.yaml"))
    assert same.digest == one.digest
    assert load_text(GOOD.replace("lr: 0.02", "lr: 0.03"), Path("a.yaml")).digest != one.digest


def test_precedence_from_weak_to_strong(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD)
    child = write(
        tmp_path,
        "child.yaml",
        "extends: base.yaml\nname: test/child\nseeds: [5]\n"
        "set:\n  stages.pretrain.config.optimizer.lr: 0.1\n  budget.wall: 1 h\n  control.set.optimizer.lr: 0.3\n",
    )
    loaded = load(child)
    assert loaded.plan.seeds == (5,)
    assert loaded.plan.name == "test/child"
    assert loaded.plan.stage("pretrain").config["optimizer"] == {"name": "adamw", "lr": 0.1}
    assert loaded.plan.budget.wall == 3600
    assert loaded.plan.control is not None
    assert loaded.plan.control.set == {"optimizer.lr": 0.3}
    assert loaded.extends == (tmp_path / "base.yaml",)
    assert loaded.where("stages.pretrain.config.optimizer.lr").startswith(f"{child}:5:")
    assert loaded.where("stages.judge.kind").startswith(f"{tmp_path / 'base.yaml'}:33:")
    stronger = load(
        child, ["stages.pretrain.config.optimizer.lr=0.2", "seeds=[7, 8]", "stages.pretrain.gate.0.value=1.5"]
    )
    assert stronger.plan.stage("pretrain").config["optimizer"]["lr"] == 0.2
    assert stronger.plan.seeds == (7, 8)
    assert stronger.plan.stage("pretrain").gate[0].value == 1.5  # pyright: ignore
    assert stronger.exploratory
    assert stronger.digest != loaded.digest
    patched = resolve(stronger, [("pretrain", {"optimizer.lr": 0.4}), ("judge", {"stages.pretrain.seeds": [1]})])
    assert patched.stage("pretrain").config["optimizer"]["lr"] == 0.4
    assert patched.stage("pretrain").seeds == (1,)
    assert stronger.plan.stage("pretrain").config["optimizer"]["lr"] == 0.2


def test_keys_given_here_replace_whole_keys(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD)
    loaded = load(write(tmp_path, "child.yaml", "extends: base.yaml\nname: test/c\nbudget: {memory: 1 GiB}\n"))
    assert loaded.plan.budget.wall is None
    assert loaded.plan.budget.memory == 1024**3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: self.yaml\nname: test/x\n", "a circle: self.yaml -> self.yaml"),
        ("extends: nowhere.yaml\nname: test/x\nstages: []\n", "no such file"),
        ("extends: base.yaml\n", "a name of its own"),
        ("extends: [base.yaml]\nname: test/x\n", "a list of 1"),
        ("extends: base.yaml\nname: test/x\nset: [1]\n", "a list of 1"),
        ("extends: base.yaml\nname: test/x\nset: {stages.pretrian.seeds: [1]}\n", "did you mean 'pretrain'?"),
        ("extends: base.yaml\nname: test/x\nset: {stages.judge: 1}\n", "a whole stage"),
        ("extends: base.yaml\nname: test/x\nset: {name.x: 1}\n", "holds no keys"),
        ("extends: base.yaml\nname: test/x\nset: {stages.judge.gate.7.value: 1}\n", "a number from 0 to 0"),
        ("extends: base.yaml\nname: test/x\nset: {a..b: 1}\n", "is not a path"),
    ],
)
def test_mistakes_in_extends_and_set_have_their_line(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "base.yaml", GOOD)
    with pytest.raises(Problems) as caught:
        load(write(tmp_path, "self.yaml", text))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "self.yaml") + ":")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds", "not an assignment"),
        ("seeds=[1", "not YAML"),
        ("stages.nobody.seeds=[1]", "no stage 'nobody'"),
        ("budget.wall=5 GiB", "has the unit 'GiB'"),
        ("sedes=[1]", "did you mean 'seeds'?"),
        ("extends=x", "cannot be set"),
    ],
)
def test_mistakes_on_the_command_line_say_so(override: str, said: str) -> None:
    with pytest.raises(Problems) as caught:
        load_text(GOOD, Path("plan.yaml"), [override])
    assert str(caught.value).startswith(f"--set {override}")
    assert said in str(caught.value)


def test_fraction_multiplies_tokens_everywhere_and_nothing_else() -> None:
    text = GOOD.replace("name: test/good", "name: test/good\nfraction: 1/1000").replace("lr: 0.04", "tokens: 2M tok")
    plan = load_text(text, Path("plan.yaml")).plan
    assert plan.stage("pretrain").config["tokens"] == "1000 tok"
    assert plan.budget.tokens == 30_000
    assert plan.budget.memory == 4 * 1024**3
    assert plan.stage("pretrain").config["model"]["width"] == 256
    assert load_text(GOOD, Path("plan.yaml"), ["fraction=1/10"]).plan.stage("pretrain").config["tokens"] == "100000 tok"


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such"):
        load(tmp_path / "none.yaml")
    with pytest.raises(PlanError, match="a folder"):
        load(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="UTF-8"):
        load(binary)


def test_python_names_of_keys_are_no_keys() -> None:
    with pytest.raises(Problems, match="unknown key 'from_'"):
        load_text(GOOD.replace("from: checkpoint", "from_: checkpoint"), Path("plan.yaml"))


def test_the_canonical_form_holds_no_trace_of_how_the_plan_was_made(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD)
    loaded = load(write(tmp_path, "child.yaml", "extends: base.yaml\nname: test/good2\nset: {seeds: [3]}\n"))
    direct = load_text(GOOD.replace("test/good", "test/good2").replace("[0, 1]", "[3]"), Path("x.yaml"))
    assert canonical(loaded.plan) == canonical(direct.plan)


def test_plans_are_loaded_and_checked_without_torch() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/plan')\n"
        "from pathlib import Path\nfrom broken import GOOD\nfrom fake_catalogue import FakeCatalogue\n"
        "from bloomery.plan.check import check\nfrom bloomery.plan.load import load_text\n"
        "import bloomery.plan.registration, bloomery.plan.jsonschema\n"
        "assert not check(load_text(GOOD, Path('plan.yaml')), FakeCatalogue()).problems\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "src"})
