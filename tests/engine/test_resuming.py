"""A run that goes on elsewhere: what it keeps of the machine that it began on, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.devices import find_device
from bloomery.engine.resuming import CHANGES, check_data
from bloomery.errors import ArtifactError, BloomeryError
from bloomery.train import checkpoint
from support.furnace import Bench, Ran, stage

NATIVE = "bloomery.stages.training.native_precision"


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.train.device.reported_name", lambda device: "NVIDIA H100 80GB HBM3")


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


def test_another_device_that_is_allowed_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only", config={"steps": 4}))
    launch(bench, monkeypatch, "bf16", steps=2, device="cuda")
    ran = launch(bench, monkeypatch, "fp32", steps=1, device="cpu", allow_changed=("device",))
    assert [event["allowed_changes"] for event in ran.told("resumed")] == [["device"]]
    assert [(ctx.device, ctx.precision, ctx.allow_changed) for ctx in ran.furnace.grow.told] == [
        ("cpu", "bf16", ("device",))
    ]
    # From here on it is a run of the cpu: to stay there needs no leave, to go back does.
    with pytest.raises(ArtifactError, match="this is cuda"):
        bench.launch(device="cuda")
    ran = launch(bench, monkeypatch, "fp32", device="cpu")
    assert ran.outcome.status == "passed"
    assert ran.told("resumed")[-1]["allowed_changes"] == []


def test_a_change_that_nothing_asks_for_is_refused_before_anything(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only"))
    with pytest.raises(BloomeryError) as refused:
        bench.launch(allow_changed=("devize",))
    for words in ("--allow-changed", "'devize'", "device, data, world, batch", "did you mean 'device'?"):
        assert words in str(refused.value)
    assert not bench.runs.exists()


def test_the_hint_of_a_checkpoint_names_only_what_can_be_allowed() -> None:
    assert {*checkpoint.MAY_CHANGE, "device"} == set(CHANGES)
    for key in (*checkpoint.MAY_CHANGE, "seed"):
        with pytest.raises(ArtifactError) as refused:
            checkpoint.check_signature({key: 1}, {key: 2}, "here")
        assert (f"--allow-changed {key}" in str(refused.value)) == (key in CHANGES)


def data_ready(digest: str) -> dict[str, Any]:
    return {"event": "data_ready", "digest": digest}


def opened(plan: str, event: str = "resumed") -> dict[str, Any]:
    return {"event": event, "digest": plan}


@pytest.mark.parametrize(
    ("events", "same"),
    [
        ([], False),
        ([opened("p", "run_opened"), data_ready("d")], True),
        ([opened("p", "run_opened"), data_ready("x"), opened("p"), data_ready("d")], True),
        ([opened("q", "run_opened"), data_ready("x")], False),  # the plan was amended
        ([opened("q", "run_opened"), data_ready("x"), opened("p")], False),
        ([opened("p", "run_opened"), data_ready("x")], None),
        ([opened("p", "run_opened"), data_ready("d"), opened("p"), data_ready("x"), opened("p")], None),
    ],
)
def test_the_same_plan_wants_the_same_text(events: list[dict[str, Any]], same: bool | None) -> None:
    if same is None:
        with pytest.raises(ArtifactError, match="--allow-changed data"):
            check_data(events, "d", "p", "here")
        assert check_data(events, "d", "p", "here", ["data"]) is False
    else:
        assert check_data(events, "d", "p", "here") is same


# What the device costs


def test_a_gpu_is_priced_by_what_its_driver_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("only"), budget={"money": "1 USD"})
    ran = launch(bench, monkeypatch, "bf16", device="cuda")
    assert ran.outcome.status == "passed"
    spent = ran.told("budget_spent")[-1]
    assert spent["money"] == pytest.approx(spent["seconds"] / 3600 * find_device("h100").usd_per_hour)


def test_a_cap_on_money_is_refused_where_nothing_has_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.train.device.reported_name", lambda device: "Abacus 9000")
    bench = Bench(tmp_path)
    for keys, own in (({"budget": {"money": "1 USD"}}, {}), ({}, {"budget": {"money": "1 USD"}})):
        bench.write(stage("only", **own), **keys)
        with pytest.raises(BloomeryError) as refused:
            bench.launch(device="cuda")
        for words in ("budget.money", "cuda (Abacus 9000) has no price", "h100", "BLOOMERY_DEVICES", "reported"):
            assert words in str(refused.value)
        assert not bench.runs.exists()
    bench.write(stage("only"))
    ran = launch(bench, monkeypatch, "bf16", device="cuda")
    assert ["has no price, so money" in event["text"] for event in ran.told("note")] == [True]
    assert ran.told("budget_spent")[-1]["money"] == 0
