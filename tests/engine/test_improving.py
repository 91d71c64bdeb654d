"""Cycles without end, on a furnace without fire: what each begins with, what is kept, what a kill does."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine import improving
from bloomery.engine.artifact import digest_of
from bloomery.engine.events import EventLog, read_events
from bloomery.engine.improving import Ending, Improver, read_record
from bloomery.engine.launch import Launch, launch
from bloomery.engine.rundir import Lock
from bloomery.errors import ArtifactError, PlanError, Problems
from bloomery.plan.cycle import Held, loop_of
from bloomery.plan.load import load
from support.furnace import Bench, Furnace, below, grown, stage, value_in

GATE = [below(1, relative_to="stage:loop")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def loop(*stages: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"id": "loop", "repeat": 1, "needs": {"model": "base"}, "stages": list(stages), **keys}


def more(**keys: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"needs": {"model": "loop"}, "gate": GATE, **keys}
    return stage("more", **given)


def ready(bench: Bench, *stages: dict[str, Any], keep: int = 3, **keys: Any) -> Improver:
    """Of a run of `stages`, which has ended."""
    bench.write(*(stages or (stage("base"), loop(more()))), **keys)
    assert bench.launch().outcome.exit_code == 0
    loaded = load(bench.root / "plan.yaml")
    folder = bench.runs / "test/walk"
    return Improver(
        bench.runs, "test/walk", loaded, improving.what_the_run_left(folder, loaded),
        improving.what_is_beside(folder, loaded), keep,
    )  # fmt: skip


@dataclass
class Done:
    """A cycle carried out in this process."""

    code: int

    def poll(self) -> int | None:
        return self.code

    def ask_to_save(self) -> None:
        raise AssertionError("it has ended")

    def wait(self) -> int:
        return self.code


def at_once(folder: Path, lock: int) -> Done:
    loaded = improving.read_cycle(folder)
    root = folder.parents[loaded.plan.name.count("/")]
    outcome = launch(loaded, Furnace(), Launch(root, "cpu", 1, lambda event: None, lambda: False))  # type: ignore[arg-type]
    return Done(outcome.exit_code)


def no_sleep(seconds: float) -> None:
    raise AssertionError("nobody else needs the machine")


def improve(one: Improver, work: improving.Work = at_once, cycles: int | None = 1, **keys: Any) -> Ending:
    given: dict[str, Any] = {"stop": lambda: None, "busy": lambda running: "", "sleep": no_sleep, **keys}
    return improving.improve(one, work, cycles=cycles, **given)


def verdicts(one: Improver) -> list[tuple[int, str]]:
    return [(cycle.number, cycle.verdict) for cycle in read_record(one.folder).cycles]


def best(one: Improver) -> float:
    """What the pointer names, which must be what it says."""
    held = read_record(one.folder).held["model"]
    assert digest_of(held.folder) == held.digest
    return value_in(held.folder)


def told(one: Improver, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(one.folder / improving.LOG) if event["event"] == name]


def test_each_cycle_begins_with_what_the_last_promoted_one_left_and_with_a_seed_of_its_own(bench: Bench) -> None:
    one = ready(bench)
    value = grown(1, 0, 3, start=grown(1, 0, 3))
    assert improve(one, cycles=3).code == 0
    for seed in (1, 2, 3):
        value = grown(1, seed, 3, start=value)
    assert best(one) == value
    assert verdicts(one) == [(1, "promoted"), (2, "promoted"), (3, "promoted")]
    assert read_record(one.folder).promoted == 3


def test_a_cycle_that_does_not_pass_is_rolled_back_and_the_next_begins_where_it_did(bench: Bench) -> None:
    """The gate asks for less than 0.75 of the loss that it began with; how much one step adds hangs on the seed."""
    one = ready(bench, stage("base"), loop(more(config={"steps": 1}, gate=[below(0.75, relative_to="stage:loop")])))
    held = grown(1, 0, 3)  # in the run, one step of seed 0 was not enough
    expected = []
    for seed in (1, 2, 3):
        after = grown(1, seed, 1, start=held)
        passes = (1 + held) / (1 + after) < 0.75
        expected.append((seed, "promoted" if passes else "rolled back"))
        held = after if passes else held
    assert {word for _, word in expected} == {"promoted", "rolled back"}, "else nothing is shown here"
    improve(one, cycles=3)
    assert verdicts(one) == expected
    assert best(one) == held
    undone = next(event for event in told(one, "cycle_judged") if event["verdict"] == "rolled back")
    assert undone["why"].startswith("more: ")


def test_before_any_promotion_there_is_no_pointer_and_every_cycle_begins_with_what_the_run_left(bench: Bench) -> None:
    one = ready(bench, stage("base"), loop(more(gate=[below(0)])))
    assert improve(one, cycles=2).code == 0
    assert verdicts(one) == [(1, "rolled back"), (2, "rolled back")]
    assert not (one.folder / improving.POINTER).exists()
    begun = [event["holds"]["model"] for event in told(one, "cycle_begun")]
    assert begun == [one.start["model"].digest] * 2


def test_what_a_cycle_takes_from_a_stage_outside_it_comes_from_the_run(bench: Bench) -> None:
    inner = stage("more", needs={"model": "other"}, gate=[below(1, relative_to="stage:loop")])
    one = ready(bench, stage("other", config={"gain": 9}), stage("base"), loop(inner))
    improve(one)
    assert best(one) == grown(1, 1, 3, start=grown(9, 0, 3))


def test_several_seeds_are_others_in_every_cycle(bench: Bench) -> None:
    one = ready(bench, stage("base"), loop(more(seeds=[4, 6])), seeds=[0, 1])
    seen = [one.cycle(number, one.start).plan for number in (1, 2, 3)]
    assert [plan.seeds for plan in seen] == [(2, 3), (4, 5), (6, 7)]
    assert [plan.stages[0].stages[0].seeds for plan in seen] == [(7, 9), (10, 12), (13, 15)]
    assert all(plan.hypothesis is None for plan in seen)


def test_a_plan_without_a_loop_is_a_cycle_as_a_whole(bench: Bench) -> None:
    one = ready(bench)
    file = bench.write(
        stage("more", needs={"model": "inputs.model"}, gate=[below(1, "grow/loss", relative_to="stage:start")]),
        name="test/other", inputs={"model": {"folder": "nowhere"}},
    )  # fmt: skip
    text = json.loads(file.read_text())
    text["stages"].insert(0, stage("start", "judge", needs={"model": "inputs.model"}))
    text["stages"][1]["gate"] = [below(1, relative_to="stage:start")]
    file.write_text(json.dumps(text))
    other = Improver(one.root, one.run, load(file), one.start)
    improve(other)
    assert best(other) == grown(1, 1, 3, start=value_in(one.start["model"].folder))


# Ends


DECIDING = ("cell_finished", "verdict", "loop_ended", "run_finished")


class Killed(BaseException):
    """As SIGKILL: nothing runs after it."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], Iterator[int]]:
    """The moments before which a kill may come: every file that the improver puts in place, all that it says, and of
    what the cycle's run says that which decides something. Kills elsewhere in a run are test_resume's."""
    writes = count(1)
    wanted: list[int | None] = [None]
    write, replace = EventLog.write, improving.write_atomically

    def moment() -> None:
        if next(writes) == wanted[0]:
            raise Killed

    def spied_write(log: EventLog, event: str, **facts: Any) -> Any:
        if log.file.name == improving.LOG or event in DECIDING:
            moment()
        return write(log, event, **facts)

    def spied_replace(file: Path, content: bytes) -> None:
        moment()
        replace(file, content)

    monkeypatch.setattr(EventLog, "write", spied_write)
    monkeypatch.setattr(improving, "write_atomically", spied_replace)

    def set_to(moment: int | None) -> Iterator[int]:
        nonlocal writes
        writes, wanted[0] = count(1), moment
        return writes

    return set_to


def results(one: Improver) -> Any:
    hashes = {}
    for number in (1, 2):
        for event in read_events(one.folder / str(number) / "events.jsonl"):
            if event["event"] == "cell_finished":
                hashes[number, event["stage"], event["seed"]] = event["hashes"]
    record = read_record(one.folder)
    return (one.folder / improving.POINTER).read_text(), hashes, [(c.number, c.verdict, c.why) for c in record.cycles]


@pytest.mark.slow
def test_killed_before_any_write_and_started_again_it_ends_as_if_undisturbed(
    bench: Bench, killed_at: Callable[[int | None], Iterator[int]]
) -> None:
    one = ready(bench)
    moments = killed_at(None)
    improve(one, cycles=2)
    most = next(moments) - 1
    expected = results(one)
    assert most == 2 + 2 * (4 + len(DECIDING))
    for moment in range(1, most + 1):
        shutil.rmtree(one.folder)
        killed_at(moment)
        with pytest.raises(Killed):
            improve(one, cycles=2)
        killed_at(None)
        if left := 2 - len(verdicts(one)):
            improve(one, cycles=left)
        assert results(one) == expected, moment


@pytest.mark.parametrize(
    ("code", "ending", "why"),
    [(3, 3, "it needed more memory than it may take"), (-9, 2, "its process ended with -9")],
)
def test_a_process_that_ends_otherwise_is_rolled_back_and_ends_the_improver(
    bench: Bench, code: int, ending: int, why: str
) -> None:
    one = ready(bench)
    assert improve(one, lambda folder, lock: Done(code), cycles=5).code == ending
    assert verdicts(one) == [(1, "rolled back")]
    assert told(one, "cycle_judged")[0]["why"] == why
    improve(one)
    assert verdicts(one) == [(1, "rolled back"), (2, "promoted")]


def test_a_budget_that_is_reached_is_exit_code_3(bench: Bench) -> None:
    one = ready(bench, budget={"tokens": 75})
    longer = Improver(one.root, one.run, load(bench.write(
        stage("base"), loop(more(config={"steps": 50})), budget={"tokens": 75})), one.start)  # fmt: skip
    assert improve(longer, cycles=5).code == 3
    assert "tokens" in told(one, "cycle_judged")[0]["why"]


def test_bad_input_leaves_the_cycle_open(bench: Bench) -> None:
    one = ready(bench)
    assert improve(one, lambda folder, lock: Done(2), cycles=5).code == 2
    assert verdicts(one) == []
    improve(one)
    assert verdicts(one) == [(1, "promoted")]


def test_only_one_improver_at_a_time(bench: Bench) -> None:
    one = ready(bench)
    with Lock(one.folder), pytest.raises(ArtifactError, match="another process"):
        improve(one)
    assert improve(one).code == 0


def test_a_stop_file_ends_it_and_keeps_it_from_starting(bench: Bench) -> None:
    one = ready(bench)

    def work(folder: Path, lock: int) -> Done:
        (one.folder / improving.STOP).touch()
        return at_once(folder, lock)

    ending = improve(one, work, cycles=None)
    assert (ending.code, verdicts(one)) == (0, [(1, "promoted")])
    assert "stop" in ending.why
    assert improve(one, lambda folder, lock: pytest.fail("nothing runs"), cycles=None).code == 0
    (one.folder / improving.STOP).unlink()
    assert improve(one).code == 0
    assert verdicts(one) == [(1, "promoted"), (2, "promoted")]


# Making way


@dataclass
class Slow:
    """A cycle that takes `looks` looks, and saves when it is asked to."""

    looks: int
    folder: Path
    asked: list[int] = field(default_factory=list)
    ends_anyway: bool = False

    def poll(self) -> int | None:
        self.looks -= 1
        return None if self.looks >= 0 else at_once(self.folder, 0).code

    def ask_to_save(self) -> None:
        self.asked.append(self.looks)

    def wait(self) -> int:
        return at_once(self.folder, 0).code if self.ends_anyway else 143


def scripted(*loads: str) -> Callable[[bool], str]:
    left = iter(loads)
    return lambda running: next(left, "")


def test_it_saves_and_waits_while_others_need_the_machine_and_goes_on_after(bench: Bench) -> None:
    one = ready(bench)
    begun: list[Slow] = []
    waits: list[float] = []

    def work(folder: Path, lock: int) -> Slow:
        begun.append(Slow(3, folder))
        return begun[-1]

    improve(one, work, busy=scripted("early", "early", "", "", "load", "load", "load", ""), sleep=waits.append)
    assert [len(slow.asked) for slow in begun] == [1, 0]
    assert [event["why"] for event in told(one, "paused")] == ["early", "load"]
    assert len(told(one, "continued")) == 2
    assert verdicts(one) == [(1, "promoted")]


def test_one_that_ends_while_it_is_asked_to_save_has_ended(bench: Bench) -> None:
    one = ready(bench)
    begun: list[Slow] = []

    def work(folder: Path, lock: int) -> Slow:
        begun.append(Slow(3, folder, ends_anyway=True))
        return begun[-1]

    improve(one, work, busy=scripted("", "load"), sleep=lambda seconds: None)
    assert (len(begun), verdicts(one)) == (1, [(1, "promoted")])


def test_a_signal_while_it_works_or_waits_ends_it(bench: Bench) -> None:
    one = ready(bench)
    asked = iter([None, None, None, 143])
    ending = improve(
        one, lambda folder, lock: Slow(9, folder), stop=lambda: next(asked, 143), sleep=lambda seconds: None
    )
    assert (ending.code, verdicts(one)) == (143, [])
    waiting = iter([None, None, 130])
    ending = improve(one, lambda folder, lock: pytest.fail("it waits"), busy=lambda running: "load",
                     stop=lambda: next(waiting, 130), sleep=lambda seconds: None)  # fmt: skip
    assert (ending.code, verdicts(one)) == (130, [])
    assert improve(one).code == 0


def test_a_cycle_that_somebody_else_stops_stops_the_improver(bench: Bench) -> None:
    one = ready(bench)
    assert improve(one, lambda folder, lock: Done(-15)).code == 143
    assert verdicts(one) == []


# What is left


def test_models_of_old_cycles_go_and_what_they_measured_stays(bench: Bench) -> None:
    one = ready(bench, keep=2)
    improve(one, cycles=2)
    value = best(one)
    bad = Improver(one.root, one.run, load(bench.write(stage("base"), loop(more(gate=[below(0)])))), one.start, keep=2)
    improve(bad, cycles=4)
    assert verdicts(one) == [(n, "promoted" if n < 3 else "rolled back") for n in range(1, 7)]
    assert best(one) == value, "the promoted one stays"
    whole = [n for n in range(1, 7) if list((one.folder / str(n)).glob("*/*/*/model"))]
    assert whole == [2, 5, 6]
    assert all((one.folder / str(n) / "events.jsonl").exists() for n in range(1, 7))


def test_a_run_whose_loop_left_nothing_is_one_clear_error(bench: Bench) -> None:
    bench.write(stage("base"), loop(more()))
    with pytest.raises(ArtifactError, match="left nothing"):
        improving.what_the_run_left(bench.runs / "test/walk", load(bench.root / "plan.yaml"))


def test_a_plan_without_a_cycle_or_with_two_is_refused(bench: Bench) -> None:
    with pytest.raises(PlanError, match="has no cycle"):
        loop_of(load(bench.write(stage("base"))))
    two = [{**loop(more(needs={"model": name})), "id": name} for name in ("a", "b")]
    with pytest.raises((PlanError, Problems), match="several loops"):
        loop_of(load(bench.write(stage("base"), *two)))


def test_a_loop_that_carries_what_the_run_did_not_leave_is_refused(bench: Bench) -> None:
    one = ready(bench)
    with pytest.raises(PlanError, match="carries 'model'"):
        one.cycle(1, {"experts": Held(Path(), "0" * 64)})


def test_a_damaged_pointer_is_one_clear_error(bench: Bench) -> None:
    one = ready(bench)
    improve(one)
    (one.folder / improving.POINTER).write_text('{"cycle": 1')
    with pytest.raises(ArtifactError, match="damaged"):
        read_record(one.folder)
