"""Caps on memory and disk are held: read seldom, in words, and at a checkpoint from which a run goes on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.budget import Held, Ledger
from bloomery.engine.gauge import Gauge, peak_memory, size_of
from bloomery.plan.schema import Budget
from support.furnace import Bench, stage

MIB = 2**20


def test_the_peak_grows_with_what_was_held_and_stays() -> None:
    script = (
        "from bloomery.engine.gauge import peak_memory\n"
        "before = peak_memory(); block = bytearray(b'x' * 2**26); grown = peak_memory(); del block\n"
        "print(before, grown, peak_memory())"
    )
    held = bytearray(b"x" * 2**28)  # which is not the child's, whatever started it
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    before, grown, after = map(int, out.split())
    assert before < 2**28 <= peak_memory()
    assert 2**26 <= grown - before < 2**28
    assert after >= grown
    assert len(held) == 2**28


def test_the_size_of_a_folder_against_a_plain_walk(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b/c", "b/d/e", ".hidden/f")):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (1000 * number + 7))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    files = [Path(root) / name for root, _, names in os.walk(tmp_path) for name in names]
    assert size_of(tmp_path) == sum(file.lstat().st_size for file in files)
    assert size_of(tmp_path / "nowhere") == 0


class Machine:
    """A clock that is set, and how often the rest was asked for."""

    def __init__(self) -> None:
        self.time, self.memory, self.size = 0.0, 10 * MIB, 0
        self.asked: list[str] = []

    def gauge(self) -> Gauge:
        def memory() -> int:
            self.asked.append("memory")
            return self.memory

        def size(folder: Path) -> int:
            self.asked.append(folder.name)
            return self.size

        return Gauge(Path("run"), memory=memory, size=size, clock=lambda: self.time)


def test_it_looks_seldom() -> None:
    machine, ledger = Machine(), Ledger()
    gauge = machine.gauge()
    for moment in range(3000):  # thirty seconds of steps of 10 ms
        machine.time = moment / 100
        gauge.look(ledger, "a")
    assert machine.asked.count("memory") == 30
    assert machine.asked.count("run") == machine.asked.count("a") == 3
    gauge.look(ledger, "a", now=True)
    assert machine.asked[-3:] == ["memory", "run", "a"]


def test_a_peak_that_an_earlier_stage_left_is_not_held_against_a_stage() -> None:
    machine = Machine()
    ledger = Ledger(Budget(), {"b": Budget.model_validate({"memory": "8 MiB"})})
    gauge = machine.gauge()
    gauge.look(ledger, "b")
    assert ledger.exceeded("b") is None
    machine.memory += 1
    gauge.look(ledger, "b", now=True)
    assert ledger.exceeded("b") == "stage b: memory: 10 MiB at the peak, the cap is 8 MiB"
    assert ledger.exceeded("a") is None


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({"memory": "2 GiB"}, "memory: 3 GiB at the peak, the cap is 2 GiB"),
        ({"disk": "900 MiB"}, "disk: 1 GiB in the run folder, the cap is 900 MiB"),
        ({"memory": "3 GiB", "disk": "1 GiB"}, None),
    ],
)
def test_what_is_held_is_said(caps: dict[str, str], said: str | None) -> None:
    ledger = Ledger(Budget.model_validate(caps), {"a": Budget.model_validate(caps)})
    assert ledger.exceeded("a") is None
    ledger.hold("a", memory=Held(3 * 1024 * MIB, 0), disk=Held(1024 * MIB, 0))
    assert ledger.exceeded("a") == said
    assert ledger.spent["memory_bytes"] == 3 * 1024 * MIB
    ledger.caps = Budget()
    ledger.hold("a", memory=Held(0, 3 * 1024 * MIB), disk=Held(0, 1024 * MIB))
    assert ledger.exceeded("a") == (said and f"stage a: {said}")


@pytest.mark.parametrize(
    ("cap", "of_stage"), [({"memory": "1 MiB"}, False), ({"disk": "500 B"}, False), ({"disk": "50 B"}, True)]
)
def test_a_cap_stops_a_run_and_a_raised_one_lets_it_go_on(cap: dict[str, str], of_stage: bool, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    what = next(iter(cap))
    keys: dict[str, Any] = {"budget": {} if of_stage else cap}
    own: dict[str, Any] = {"budget": cap} if of_stage else {}
    bench.write(stage("early", config={"steps": 1}), stage("only", config={"steps": 3}, **own), seeds=[0, 1], **keys)
    ran = bench.launch()
    assert ran.outcome.exit_code == 3
    assert f"{what}: " in ran.outcome.reason
    assert ran.outcome.reason.startswith("stage only: ") == of_stage
    assert ran.told("run_finished")[-1]["reason"] == ran.outcome.reason
    assert ran.told("budget_spent")[-1][f"{what}_bytes"] > 0
    bench.write(stage("early", config={"steps": 1}), stage("only", config={"steps": 3}), seeds=[0, 1])
    again = bench.launch()
    assert again.outcome.status == "passed"
    whole = Bench(tmp_path / "whole")
    whole.write(stage("early", config={"steps": 1}), stage("only", config={"steps": 3}), seeds=[0, 1])
    assert again.hashes() == whole.launch().hashes()
