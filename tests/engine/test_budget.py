"""Prices are arithmetic, the ledger is the sum of its events, and devices are the user's to edit."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine.budget import Amounts, Ledger, overruns, price, running, total
from bloomery.engine.devices import Device, find_device, load_devices, priced_as
from bloomery.engine.stage import Cost
from bloomery.errors import BloomeryError
from bloomery.plan.schema import Budget

DEVICE = Device(
    name="toy",
    title="toy",
    peak_flops={"bf16": 100.0, "fp32": 20.0},
    memory=1000,
    bandwidth=10,
    watts=500,
    utilisation=0.5,
    usd_per_kwh=0.2,
)


def test_a_price_is_flops_over_what_is_reached() -> None:
    found = price(Cost(tokens=7, flops=180_000, weight_bytes=400, optimiser_bytes=600, disk_bytes=3), DEVICE)
    assert found.hours == 1
    assert found.amounts == Amounts(7, 180_000, 3600, money=0.5 * 0.2, kwh=0.5)
    assert (found.memory_bytes, found.disk_bytes, found.fits) == (1000, 3, True)
    assert price(Cost(flops=180_000), DEVICE, dtype="fp32").hours == 5
    assert price(Cost(flops=180_000), DEVICE, dtype="fp8").hours == 5, "what a device lacks runs as its slowest"
    rented = DEVICE.model_copy(update={"usd_per_hour": 3.0})
    assert price(Cost(flops=180_000), rented).amounts.money == 3.0
    assert price(Cost(flops=1e9, seconds=7200.0), rented).amounts.money == 6.0
    assert not price(Cost(activation_bytes=1001), DEVICE).fits


def test_seven_billion_parameters_on_an_h100() -> None:
    """6 N D flops: 7B parameters, 140B tokens, 35 % of 989 TFLOP/s, 3.25 USD an hour; fp32 training does not fit."""
    cost = Cost(tokens=140 * 10**9, flops=6 * 7e9 * 140e9, weight_bytes=28e9, gradient_bytes=28e9, optimiser_bytes=56e9)
    found = price(cost, find_device("h100", {}))
    assert found.hours == pytest.approx(5.88e21 / 346.15e12 / 3600, rel=1e-4)
    assert found.amounts.money == pytest.approx(found.hours * 3.25)
    assert not found.fits
    assert price(cost, find_device("h200", {})).fits


def test_cells_add_up_and_memory_is_a_peak() -> None:
    cells = [price(Cost(tokens=1, flops=1000.0 * i, weight_bytes=100 * i, disk_bytes=5), DEVICE) for i in (1, 2, 3)]
    found = total(cells)
    assert (found.amounts.tokens, found.amounts.flops, found.amounts.seconds) == (3, 6000, 120)
    assert (found.memory_bytes, found.disk_bytes, found.fits) == (300, 15, True)
    assert total([]).amounts == Amounts()


def test_a_plan_that_will_not_keep_its_caps_is_told_which() -> None:
    planned = price(Cost(tokens=50, flops=5000, weight_bytes=2 * 2**30, disk_bytes=10), DEVICE)
    caps = Budget.model_validate({"wall": "2 min", "tokens": 40, "memory": "1 GiB", "disk": 10, "money": "1 USD"})
    assert overruns(planned, caps) == (
        "tokens: 50 tokens planned, the cap is 40 tokens",
        "memory: about 2 GiB planned, the cap is 1 GiB",
    )
    assert overruns(planned, Budget()) == ()


def test_a_cap_is_exceeded_when_more_than_it_is_spent() -> None:
    of_stage = Budget.model_validate({"tokens": 10})
    ledger = Ledger(Budget.model_validate({"wall": "1 min", "tokens": 100}), {"a": of_stage})
    ledger.spend(stage="b", tokens=90, seconds=60)
    assert ledger.exceeded() is None
    ledger.spend(stage="a", tokens=10)
    assert ledger.exceeded("a") is None
    ledger.spend(stage="a", tokens=1)
    assert ledger.exceeded("a") == "tokens: 101 tokens spent, the cap is 100 tokens"
    ledger.caps = Budget()
    assert ledger.exceeded() is None
    assert ledger.exceeded("b") is None
    assert ledger.exceeded("a") == "stage a: tokens: 11 tokens spent, the cap is 10 tokens"
    ledger.caps = Budget.model_validate({"money": 0})
    assert ledger.exceeded() is None
    ledger.spend(money=0.01)
    assert str(ledger.exceeded()).startswith("money: 0.01 USD")


SPENT = st.fixed_dictionaries(
    {"tokens": st.integers(0, 1000), "flops": st.integers(0, 10**9), "seconds": st.integers(0, 100)}
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), SPENT)), st.integers(0, 20), st.booleans())
def test_a_resumed_run_keeps_its_spending(
    spent: list[tuple[str, dict[str, int]]], killed_at: int, device: bool
) -> None:
    """Spend, write, be killed anywhere, restore, go on: the same as never having been killed."""
    on = DEVICE if device else None
    events: list[dict[str, Any]] = [{"event": "budget_planned", "tokens": 5, "flops": 6.0, "seconds": None, "caps": {}}]
    straight = Ledger(device=on)
    for stage, amounts in spent:
        straight.spend(stage=stage, **amounts)
        events.append({"event": "spent", "stage": stage, "attempt": 1, "who": "candidate", "seed": 0, **amounts})
    before, after = events[: killed_at + 1], spent[killed_at:]
    first = Ledger.restore(Budget(), before, device=on)
    resumed = Ledger.restore(Budget(), [*before, {"event": "budget_spent", **first.spent}], device=on)
    for stage, amounts in after:
        resumed.spend(stage=stage, **amounts)
    assert resumed.planned == Amounts(tokens=5, flops=6)
    assert resumed.spent == pytest.approx(straight.spent)
    for stage in "ab":
        assert resumed.spent_in(stage).to_json() == pytest.approx(straight.spent_in(stage).to_json())
    assert (resumed.spent["kwh"] > 0) == (device and resumed.spent["seconds"] > 0)


def test_what_was_spent_by_name_is_not_priced_again() -> None:
    ledger = Ledger(device=DEVICE)
    ledger.spend(seconds=3600, money=1.5)
    assert (ledger.spent["money"], ledger.spent["kwh"]) == (1.5, 0.0)


def test_the_table_is_whole() -> None:
    devices = load_devices({})
    assert set(devices) == {"cpu", "rtx-3060", "rx-7800xt", "m4", "a100", "h100", "h200"}
    for name, device in devices.items():
        assert device.name == name
        assert device.peak_flops["bf16"] >= device.peak_flops["fp32"] > device.bandwidth / 4
        assert 0.1 <= device.utilisation <= 0.5
        assert (device.usd_per_hour is not None) == (name in {"a100", "h100", "h200"})


REPORTED = {
    "rtx-3060": ("NVIDIA GeForce RTX 3060",),
    "rx-7800xt": ("AMD Radeon RX 7800 XT",),
    "m4": ("Apple M4",),
    "a100": ("NVIDIA A100-SXM4-80GB",),
    "h100": ("NVIDIA H100 80GB HBM3",),
    "h200": ("NVIDIA H200",),
}
OTHERS = ("NVIDIA GeForce RTX 3060 Ti", "NVIDIA GeForce RTX 3060 Laptop GPU", "Apple M4 Pro", "NVIDIA H100 PCIe", "cpu")


def test_every_device_is_known_by_what_its_driver_calls_it_and_has_a_price() -> None:
    for name, device in load_devices({}).items():
        assert running(device, 3600).money > 0
        for reported in REPORTED.get(name, ()):
            assert priced_as(reported, {}) == device
        assert (name in REPORTED) == (device.reported is not None)
    for reported in OTHERS:
        assert priced_as(reported, {}) is None


def test_a_user_may_say_what_a_device_is_called(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("devices: {m4: {reported: 'Apple M4( Pro)?$'}}")
    found = priced_as("Apple M4 Pro", {"BLOOMERY_DEVICES": str(mine)})
    assert found is not None
    assert found.name == "m4"


def test_a_device_that_is_not_there_is_answered_with_the_nearest() -> None:
    for name, hint in (("h10", "'h100'"), ("RTX_3060", "'rtx-3060'"), ("rx7800", "'rx-7800xt'")):
        with pytest.raises(BloomeryError, match=hint):
            find_device(name, {})


def test_the_user_s_file_is_laid_over_the_table(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "usd_per_kwh: 0.1\n"
        "devices:\n"
        "  h100: {usd_per_hour: 1.99, peak_flops: {bf16: 8e14}}\n"
        "  abacus: {peak_flops: {fp32: 3}, memory: 1 KiB, bandwidth: 1, watts: 80, utilisation: 90%}\n"
    )
    environment = {"BLOOMERY_DEVICES": str(mine)}
    h100 = find_device("h100", environment)
    assert (h100.usd_per_hour, h100.watts) == (1.99, 1275)
    assert h100.peak_flops == {"bf16": 8e14, "fp32": 67e12}
    abacus = find_device("abacus", environment)
    assert (abacus.title, abacus.memory, abacus.usd_per_hour, abacus.usd_per_kwh) == ("abacus", 1024, None, 0.1)
    assert find_device("h100", {}).usd_per_hour == 3.25


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("devices: {h100: {wats: 5}}", "devices.h100.wats", "did you mean 'watts'"),
        ("devices: {h100: {watts: -5}}", "devices.h100.watts", "greater than 0"),
        ("devices: {h100: {watts: .nan}}", "devices.h100.watts", ""),
        ("devices: {h100: {utilisation: 0}}", "devices.h100.utilisation", "greater than 0"),
        ("devices: {h100: {utilisation: 140%}}", "devices.h100.utilisation", "more than the whole"),
        ("devices: {h100: {memory: 3 parsecs}}", "devices.h100.memory", "parsecs"),
        ("devices: {h100: {reported: '('}}", "devices.h100.reported", "regular expression"),
        ("devices: {new: {watts: 5}}", "devices.new.peak_flops", "required"),
        ("devices: {h100: 5}", "devices.h100", "not a mapping"),
        ("devices: 5", "devices", "not a mapping"),
        ("device: {}", "device", "did you mean 'devices'"),
        ("- 1", "", "not a mapping"),
        ("devices: {h100: {watts: 1, watts: 2}}", "", "not readable as YAML"),
        ("a: [", "", "not readable as YAML"),
    ],
)
def test_mistakes_in_the_user_s_file_are_told_with_their_place(
    tmp_path: Path, text: str, where: str, found: str
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(BloomeryError) as told:
        load_devices({"BLOOMERY_DEVICES": str(mine)})
    assert str(mine) in told.value.where
    assert where in told.value.where
    assert found in str(told.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(BloomeryError, match=r"absent\.yaml"):
        load_devices({"BLOOMERY_DEVICES": "/nowhere/absent.yaml"})


def test_a_cpu_may_be_priced_by_what_was_measured_on_it() -> None:
    cpu = find_device("cpu", {}).measured({"bf16": 5e11}, memory=4 * 2**30)
    assert (cpu.peak_flops["bf16"], cpu.peak_flops["fp32"], cpu.memory) == (5e11, 200e9, 4 * 2**30)
    assert price(Cost(flops=2e11), cpu).amounts.seconds == pytest.approx(1.0)
    with pytest.raises(ValueError, match="greater than 0"):
        cpu.measured({"bf16": 0.0})
