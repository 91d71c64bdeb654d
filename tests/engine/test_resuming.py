"""A run that goes on elsewhere: what it keeps of the machine that it began on, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.errors import ArtifactError
from support.furnace import Bench, Ran, stage

NATIVE = "bloomery.stages.training.native_precision"


def launch(bench: Bench, monkeypatch: pytest.MonkeyPatch, native: str, steps: int | None = None, **more: Any) -> Ran:
    """On a machine that multiplies in `native`; interrupted after `steps`."""
    asked: list[str] = []
    monkeypatch.setattr(NATIVE, lambda device: asked.append(device) or native)
    left = None if steps is None else iter(range(steps + 1))
    ran = bench.launch(signalled=lambda: left is not None and next(left, None) is None, **more)
    assert len(asked) == 1
    return ran


@pytest.mark.parametrize(("began", "now", "said"), [("bf16", "fp32", "emulated"), ("fp32", "bf16", "would choose")])
def test_auto_means_what_it_meant_when_the_run_began(
    began: str, now: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("first", config={"steps": 2}), stage("second", config={"steps": 4}), seeds=[0, 1])
    first = launch(bench, monkeypatch, began, steps=4)
    assert first.outcome.status == "interrupted"
    assert not first.told("note")
    second = launch(bench, monkeypatch, now)
    assert second.outcome.status == "passed"
    handed = [ctx.precision for ran in (first, second) for ctx in ran.furnace.grow.told]
    assert len(handed) >= 4
    assert set(handed) == {began}
    assert [e["provenance"]["precision"] for e in second.events if "provenance" in e] == [began, began]
    assert [said in event["text"] for event in second.told("note")] == [True]


def test_a_run_from_before_it_was_recorded_takes_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only", config={"steps": 4}))
    log = launch(bench, monkeypatch, "bf16", steps=2).folder / "events.jsonl"
    log.write_text(log.read_text().replace('"precision":"bf16",', ""))
    assert {ctx.precision for ctx in launch(bench, monkeypatch, "fp32", steps=1).furnace.grow.told} <= {"fp32"}
    assert {ctx.precision for ctx in launch(bench, monkeypatch, "bf16").furnace.grow.told} == {"fp32"}


def test_another_kind_of_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only", config={"steps": 4}))
    before = launch(bench, monkeypatch, "bf16", steps=2, device="cuda:1").events
    with pytest.raises(ArtifactError) as refused:
        bench.launch(device="cpu")
    for words in ("device", "this is cpu", "cuda:1", "--device cuda:1"):
        assert words in str(refused.value)
    ran = launch(bench, monkeypatch, "bf16", device="cuda")
    assert ran.outcome.status == "passed"
    assert ran.events[: len(before)] == before
