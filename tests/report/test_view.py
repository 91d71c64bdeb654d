"""The view against what a reader of events.jsonl would find by hand."""

import json
import shutil

import pytest

from bloomery.errors import ArtifactError
from bloomery.report.view import RunView


def rewritten(source, target, change):
    """A copy of a run whose list of events went through `change`."""
    shutil.copytree(source, target)
    lines = [json.loads(line) for line in (source / "events.jsonl").read_text().splitlines() if line.endswith("}")]
    (target / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    return RunView.read(target)


def test_counts_what_the_log_holds(folders, views):
    lines = [json.loads(line) for line in (folders["passing"] / "events.jsonl").read_text().splitlines()]
    attempt = views["passing"].stages[0].last
    assert sum(len(cell.points) for cell in attempt.cells) == sum(line["event"] == "point" for line in lines)
    assert len(attempt.measurements) == sum(line["event"] == "measured" for line in lines)
    assert [(cell.who, cell.seed) for cell in attempt.cells] == [
        (who, seed) for who in ("candidate", "control", "baseline:bigram") for seed in (0, 1)
    ]
    assert views["passing"].status == "passed"
    assert views["passing"].exit_code == 0


def test_a_run_without_events_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="holds no run"):
        RunView.read(tmp_path)


def test_points_written_again_after_a_kill_win(folders, views):
    cell = views["interrupted"].stages[0].last.cells[0]
    steps = [point.step for point in cell.points]
    assert steps == sorted(set(steps))
    written = [json.loads(line) for line in (folders["interrupted"] / "events.jsonl").read_text().splitlines()[:-1]]
    for step in (320, 400):
        losses = [
            line["loss"] for line in written if line["event"] == "point" and line["seed"] == 0
            and line["who"] == "candidate" and line["step"] == step
        ]  # fmt: skip
        assert len(losses) == 2
        assert next(point.loss for point in cell.points if point.step == step) == losses[-1]


def test_spans_tell_kill_from_interrupt_from_end(views):
    assert [(span.who, span.ended) for span in views["interrupted"].spans] == [
        ("candidate", "killed"), ("candidate", "finished"), ("control", "interrupted"),
    ]  # fmt: skip


@pytest.mark.slow
def test_every_prefix_of_a_log_can_be_read(folders, sample_run, tmp_path):
    """A run can be killed after any line, and in the middle of any line."""
    text = (folders["failing"] / "events.jsonl").read_text()
    lines = text.splitlines(keepends=True)
    told = [number for number, line in enumerate(lines) if '"point"' not in line]
    for number in told:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "events.jsonl").write_text("".join(lines[: number + 1]) + lines[min(number + 1, len(lines) - 1)][:17])
        view = RunView.read(folder)
        assert view.status == ("failed" if number == len(lines) - 1 else "unfinished")


def test_a_reused_control_brings_its_evidence_along(views):
    first, second = views["failing"].stages[0].attempts
    assert {cell.state for cell in second.cells if cell.who == "control"} == {"reused"}
    assert second.final("text/loss", "control") == first.final("text/loss", "control")
    assert [cell.points for cell in second.cells if cell.who == "control"] == [
        cell.points for cell in first.cells if cell.who == "control"
    ]
    assert second.tally_of("control") == first.tally_of("control")
    assert second.twin is not None


def test_not_promoted_and_skipped_stages(views):
    stages = {stage.id: stage for stage in views["failing"].stages}
    assert stages["l2"].last.not_promoted
    assert stages["l3"].attempts == ()
    assert stages["l3"].skipped == "l2 did not pass"


def test_values_on_the_way_are_not_final(views):
    attempt = views["interrupted"].stages[0].last
    assert attempt.along("val/loss", "control")[0]
    assert attempt.final("val/loss", "control") == {}
    assert attempt.final("val/loss", "candidate")[0].step == 960


def test_amendments_know_whether_results_had_been_seen(views, folders, tmp_path):
    (late,) = views["amended"].amendments
    assert late.after_results

    def amend_first(lines):
        amended = [line for line in lines if line["event"] == "amended"]
        rest = [line for line in lines if line["event"] != "amended"]
        return [rest[0], *amended, *rest[1:]]

    (early,) = rewritten(folders["amended"], tmp_path / "early", amend_first).amendments
    assert not early.after_results


@pytest.mark.parametrize(
    ("changed", "path", "touches"),
    [
        ("stages.pretrain.gate[0].value", "stages.pretrain", True),
        ("stages[0].gate", "stages.pretrain", True),
        ("stages.0.config.tokens", "stages.pretrain", True),
        ("stages.pretrain2.gate", "stages.pretrain", False),
        ("stages.1.gate", "stages.pretrain", False),
        ("hypothesis", "hypothesis", True),
        ("budget.wall", "budget", True),
    ],
)
def test_amendments_stand_beside_what_they_touch(folders, tmp_path, changed, path, touches):
    def change(lines):
        return [{**line, "changed": [changed]} if line["event"] == "amended" else line for line in lines]

    assert bool(rewritten(folders["amended"], tmp_path / "run", change).touching(path)) is touches


def test_registrations_beside_the_events_are_found(tmp_path, sample_run):
    """`bloomery register` before the run writes only registration.jsonl."""
    from bloomery.plan.canon import digest

    folder = sample_run.unfinished(tmp_path / "run")
    record = {
        "plan": "tiny", "digest": digest({"a": 1}), "time": "2026-11-20T10:00:00+00:00", "commit": None,
        "hypothesis": "it helps", "variable": "a", "control": "none", "prediction": ["x"], "fail_conditions": [],
        "canonical": '{"a":1}', "changed": [],
    }  # fmt: skip
    (folder / "registration.jsonl").write_text(json.dumps(record) + "\n")
    view = RunView.read(folder)
    assert view.registration is not None
    assert view.registration.hypothesis == "it helps"
    assert view.timeline[0].event == "registered"


def test_spending_after_the_last_total_counts(tmp_path, sample_run):
    folder = sample_run.unfinished(tmp_path / "run")
    with (folder / "events.jsonl").open("a") as stream:
        for event, tokens in (("spent", 100.0), ("budget_spent", 100.0), ("spent", 50.0)):
            stream.write(json.dumps({"event": event, "time": "2026-11-21T09:00:01Z", "tokens": tokens}) + "\n")
    assert RunView.read(folder).spent["tokens"] == 150
