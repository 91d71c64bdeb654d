"""Registration: written once, amended in the open, and any tampering is seen."""

import json
import sys
from pathlib import Path

import pytest

from bloomery.errors import ArtifactError, PlanError
from bloomery.plan.load import Loaded, load_text
from bloomery.plan.registration import amend, changes, read, register, state

sys.path.insert(0, str(Path(__file__).parent))
from broken import GOOD  # pyright: ignore[reportMissingImports]


def loaded(*edits: tuple[str, str], overrides: tuple[str, ...] = ()) -> Loaded:
    text = GOOD
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return load_text(text, Path("plan.yaml"), overrides)


CHANGED = ('op: "<", value: 60', 'op: "<", value: 50')


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "registration.jsonl"


def test_a_plan_is_registered_once(log: Path) -> None:
    plan = loaded()
    assert state(log, plan) == "unregistered"
    first = register(log, plan, commit="abc123")
    assert state(log, plan) == "registered"
    assert register(log, plan) == first
    assert read(log) == (first,)
    assert first.commit == "abc123"
    assert first.digest == plan.digest
    assert first.time.endswith("+00:00")
    assert first.hypothesis.startswith("A harmonic model")
    assert first.control.startswith("dense twin")
    assert first.prediction[0] == "pretrain: text/loss, candidate divided by control, <= 1 (mean over seeds)"
    assert len(first.prediction) == 3
    assert first.fail_conditions[0].startswith("pretrain, plateau: if train/plateau >= 1")
    assert first.event()["event"] == "registered"
    assert json.loads(first.canonical)["name"] == "test/good"


def test_prose_and_layout_are_free_but_meaning_is_not(log: Path) -> None:
    register(log, loaded())
    assert state(log, loaded(("seeds: [0, 1]", "# more\nseeds:\n  - 0\n  - 1"))) == "registered"
    assert state(log, loaded(CHANGED)) == "changed"
    assert changes(log, loaded(CHANGED)) == ["stages.judge.gate.0.value"]


def test_a_changed_plan_needs_an_amendment_with_a_reason(log: Path) -> None:
    first = register(log, loaded())
    with pytest.raises(PlanError, match=r"stages\.judge\.gate\.0\.value") as caught:
        register(log, loaded(CHANGED))
    assert "--amend" in caught.value.hint
    with pytest.raises(PlanError, match="an empty reason"):
        amend(log, loaded(CHANGED), " ")
    second = amend(log, loaded(CHANGED), "the bar was a guess")
    assert second.before == first.digest
    assert second.changed == ("stages.judge.gate.0.value",)
    assert second.event() == {
        "event": "amended", "why": "the bar was a guess", "before": first.digest, "after": second.digest,
        "changed": ["stages.judge.gate.0.value"],
    }  # fmt: skip
    assert state(log, loaded(CHANGED)) == "registered"
    assert state(log, loaded()) == "changed"
    assert read(log) == (first, second)
    with pytest.raises(PlanError, match="is what is registered"):
        amend(log, loaded(CHANGED), "again")


def test_what_is_written_is_never_rewritten(log: Path) -> None:
    register(log, loaded())
    before = log.read_bytes()
    amend(log, loaded(CHANGED), "why")
    assert log.read_bytes().startswith(before)


@pytest.mark.parametrize("plan", [loaded(overrides=("seeds=[3]",)), loaded((GOOD.splitlines()[3] + "\n", ""))])
def test_exploratory_plans_are_never_registered(log: Path, plan: Loaded) -> None:
    assert state(log, plan) == "exploratory"
    with pytest.raises(PlanError):
        register(log, plan)
    assert not log.exists()


def test_an_amendment_needs_a_registration(log: Path) -> None:
    with pytest.raises(PlanError, match="not registered"):
        amend(log, loaded(), "why")


@pytest.mark.parametrize(
    "tamper",
    [
        lambda text: text[: len(text) // 2] + "\n",
        lambda text: text.replace('\\"value\\":60', '\\"value\\":70'),
        lambda text: text.replace('"digest"', '"digst"'),
        lambda text: text + text,
        lambda text: "[]\n",
    ],
)
def test_a_log_that_was_touched_is_refused(log: Path, tamper) -> None:
    register(log, loaded())
    log.write_text(tamper(log.read_text()))
    with pytest.raises(ArtifactError) as caught:
        read(log)
    assert caught.value.where.startswith(f"{log}:")


@pytest.mark.parametrize("kept", [1, 100, -1])
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_append(log: Path, kept: int) -> None:
    register(log, loaded())
    log.write_bytes(log.read_bytes()[:kept])
    assert read(log) == ()
    assert state(log, loaded()) == "unregistered"
    first = register(log, loaded())
    whole = log.read_bytes()
    amend(log, loaded(CHANGED), "why")
    log.write_bytes(log.read_bytes()[: kept if kept < 0 else len(whole) + kept])
    assert read(log) == (first,)
    second = amend(log, loaded(CHANGED), "said again")
    assert read(log) == (first, second)
    assert log.read_bytes().startswith(whole)


def test_a_log_without_its_first_line_is_refused(log: Path) -> None:
    register(log, loaded())
    amend(log, loaded(CHANGED), "why")
    log.write_text(log.read_text().splitlines(keepends=True)[1])
    with pytest.raises(ArtifactError, match="digest"):
        read(log)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ArtifactError, match="cannot be written"):
        register(tmp_path / "runs" / "registration.jsonl", loaded())
