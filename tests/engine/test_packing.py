"""Suites `through` codecs: what is packed once, under which names it is judged, and what a resumed run makes of it."""

import json
import shutil
from pathlib import Path

import pytest

from bloomery.engine.discover import Catalogue, System
from bloomery.errors import ArtifactError, BloomeryError
from support.furnace import Bench, Furnace, Ran, Rounded, below, grown, loss_of, stage

SUITES = {"size": {"kind": "size"}, "rare": {"kind": "size", "through": ["coarse", "fine"]}}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def left(value: float, step: float) -> float:
    return step * round(value / step)


def values(ran: Ran, stage_number: int = 0) -> list[tuple[str, float]]:
    conditions = ran.told("verdict")[stage_number]["conditions"]
    return [(one["metric"], one["value"]) for one in conditions]


def packs(ran: Ran) -> int:
    return len(ran.furnace.coarse.packed) + len(ran.furnace.fine.packed)


def folders(ran: Ran) -> list[str]:
    return sorted(folder.name for folder in (ran.folder / ".packed").iterdir())


def test_each_codec_is_judged_under_its_own_name(bench: Bench) -> None:
    bench.write(
        stage("only", config={"gain": 0.7}, gate=[below(101, "rare/coarse/loss"), below(99, "rare/fine/loss")]),
        suites=SUITES,
    )
    ran = bench.launch()
    value = grown(0.7, 0, 3)
    coarse, fine = left(value, 10), left(value, 0.5)
    assert coarse != fine != value
    assert values(ran) == [("rare/coarse/loss", loss_of(coarse)), ("rare/fine/loss", loss_of(fine))]
    assert ran.outcome.status == "passed"
    facts = {event["codec"]: event for event in ran.told("packed")}
    assert [facts[name]["bytes"] for name in ("coarse", "fine")] == [1, 20]
    assert facts["fine"]["bits_per_weight"] == 8 * 20 / 10
    notes = ran.told("note")
    assert len(notes) == 1
    assert "fine packs nothing of this model" in notes[0]["text"]
    assert [event["codec"] for event in ran.told("sample")] == ["coarse", "fine"]
    for event in facts.values():
        seal = json.loads((ran.folder / event["path"] / "artifact.json").read_text())
        assert (seal["digest"], seal["parents"], seal["kind"]) == (event["artifact"], [event["model"]], "model")


def test_of_a_wildcard_every_codec_must_pass(bench: Bench) -> None:
    value = grown(0.7, 0, 3)
    worst, best = sorted((loss_of(left(value, 10)), loss_of(left(value, 0.5))), reverse=True)
    for limit, expected in ((worst + 0.01, "passed"), ((worst + best) / 2, "failed"), (best / 2, "failed")):
        here = Bench(bench.root / expected / f"{limit:.3f}")
        here.write(stage("only", config={"gain": 0.7}, gate=[below(limit, "rare/*/loss")]), suites=SUITES)
        assert here.launch().outcome.status == expected


def test_the_control_is_packed_by_the_same_codec(bench: Bench) -> None:
    gate = [below(9, "rare/*/loss", relative_to="control")]
    control = {"twin": "dense", "set": {"gain": 3}}
    bench.write(stage("only", config={"gain": 0.7}, gate=gate), suites=SUITES, control=control, hypothesis="it grows")
    ran = bench.launch()
    own, other = grown(0.7, 0, 3), grown(3, 0, 3)
    expected = [loss_of(left(own, step)) / loss_of(left(other, step)) for step in (10, 0.5)]
    found = {part["metric"]: part["value"] for part in ran.told("verdict")[0]["conditions"]}
    assert found == pytest.approx(dict(zip(("rare/coarse/loss", "rare/fine/loss"), expected, strict=True)))
    assert packs(ran) == 4


def test_a_model_is_packed_and_judged_once_by_each_codec(bench: Bench) -> None:
    """By two stages that hand on the same model, by two suites that share a codec, and by one seed for another."""
    suites = {**SUITES, "also": {"kind": "size", "through": ["fine"]}}
    both = [below(99, "rare/*/loss"), below(99, "also/fine/loss"), below(99)]
    bench.write(stage("first", gate=both), stage("judge", "judge", needs={"model": "first"}, gate=both), suites=suites)
    ran = bench.launch()
    assert ran.verdicts() == [("first", 1, "pass"), ("judge", 1, "pass")]
    assert (ran.furnace.coarse.packed, ran.furnace.fine.packed) == ([grown(1, 0, 3)], [grown(1, 0, 3)])
    assert len(ran.furnace.size.judged) == 4  # plain, rare through two, also through one
    assert len(ran.told("packed")) == len(folders(ran)) == 2


def test_a_suite_that_gains_a_codec_judges_only_that(bench: Bench) -> None:
    only = stage("only", gate=[below(99, "rare/*/loss")])
    bench.write(only, suites={"rare": {"kind": "size", "through": ["fine"]}})
    bench.launch()
    bench.write(only, suites={"rare": {"kind": "size", "through": ["coarse", "fine"]}})
    ran = bench.launch()
    assert ran.furnace.size.judged == [left(grown(1, 0, 3), 10)]
    assert ran.furnace.fine.packed == []


def test_a_resumed_run_packs_and_judges_nothing_again(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(99, "rare/*/loss")]), suites=SUITES)
    first = bench.launch()
    again = bench.launch()
    assert packs(first) == 2
    assert packs(again) == 0
    assert again.furnace.size.judged == []
    assert again.verdicts() == first.verdicts()
    assert len(again.told("packed")) == 2
    assert len(again.told("note")) == 1


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone", "no seal", "of another model", "half made"])
def test_what_is_not_whole_is_packed_again_and_not_judged_again(bench: Bench, damage: str) -> None:
    bench.write(stage("only", gate=[below(99, "rare/*/loss")]), suites=SUITES)
    before = bench.launch()
    fine = next(before.folder.glob(".packed/*-fine"))
    match damage:
        case "changed":
            (fine / "value.json").write_text('{"value": 1}')
        case "cut short":
            (fine / "value.json").write_text("")
        case "gone":
            shutil.rmtree(fine)
        case "no seal":
            (fine / "artifact.json").unlink()
        case "of another model":
            seal = json.loads((fine / "artifact.json").read_text())
            (fine / "artifact.json").write_text(json.dumps(seal | {"parents": ["0" * 64]}))
        case _:
            fine.rename(fine.with_name(fine.name + ".tmp"))
    after = bench.launch()
    assert after.furnace.fine.packed == [grown(1, 0, 3)]
    assert after.furnace.coarse.packed == []
    assert after.furnace.size.judged == []
    assert after.verdicts() == before.verdicts()
    assert folders(after) == folders(before)
    assert len({event["artifact"] for event in after.told("packed")}) == 2


def test_a_run_that_was_killed_while_packing_ends_as_one_that_was_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(stage("only", gate=[below(99, "rare/*/loss")]), suites=SUITES)

    class Killed(BaseException):
        pass

    def torn(self: Rounded, model: Path, target: Path) -> None:
        target.mkdir(parents=True)
        (target / "value.json").write_text('{"val')
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Rounded, "pack", torn)
        with pytest.raises(Killed):
            bench.launch()
    ran = bench.launch()
    assert ran.verdicts() == [("only", 1, "pass")]
    assert [name.rpartition("-")[2] for name in folders(ran)] == ["coarse", "fine"]


def test_a_run_that_should_stop_packs_nothing(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(99, "rare/*/loss")]), suites=SUITES)
    furnace = Furnace()
    ran = bench.launch(furnace=furnace, signalled=lambda: bool(furnace.coarse.packed))
    assert ran.outcome.status == "interrupted"
    assert furnace.fine.packed == []
    assert bench.launch().outcome.status == "passed"


def test_a_full_disk_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Rounded, model: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    bench.write(stage("only", gate=[below(99, "rare/*/loss")]), suites=SUITES)
    monkeypatch.setattr(Rounded, "pack", full)
    with pytest.raises(ArtifactError, match="No space left"):
        bench.launch()


def test_a_baseline_that_is_no_model_is_passed_over(bench: Bench) -> None:
    """Where it is compared by a suite without codecs only; `check` refuses the rest."""
    gate = [below(99, relative_to="baseline:mean"), below(99, "rare/*/loss")]
    bench.write(stage("only", gate=gate), suites=SUITES, baselines={"mean": {"kind": "mean"}})
    furnace = Furnace()
    furnace.mean.packable = False
    ran = bench.launch(furnace=furnace)
    assert ran.outcome.status == "passed"
    assert packs(ran) == 2
    assert not [event for event in ran.told("packed") if event["who"] != "candidate"]


def test_a_baseline_that_is_a_model_is_packed_as_well(bench: Bench) -> None:
    gate = [below(99, "rare/*/loss", relative_to="baseline:mean")]
    bench.write(stage("only", gate=gate), suites=SUITES, baselines={"mean": {"kind": "mean"}})
    ran = bench.launch()
    own, rival = grown(1, 0, 3), 1.0
    assert values(ran) == [
        (f"rare/{name}/loss", pytest.approx(loss_of(left(own, step)) / loss_of(left(rival, step))))
        for name, step in (("coarse", 10), ("fine", 0.5))
    ]


# What is installed


def with_system(monkeypatch: pytest.MonkeyPatch, **codecs: str) -> Catalogue:
    system = System("other", "a system", "first", config="none:none", build="none:none", codecs=codecs)
    monkeypatch.setattr("bloomery.engine.discover._entry_points", lambda: iter([system]))
    return Catalogue()


def test_a_system_brings_codecs_under_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_system(monkeypatch, coarse="support.furnace:Rounded")
    assert isinstance(found.codec("coarse"), Rounded)
    assert {"float", "bf16", "q8_0", "q4_0"} < set(found.codecs())
    with pytest.raises(BloomeryError, match="did you mean 'coarse'"):
        found.codec("course")


@pytest.mark.parametrize("name", ["q4_0", "a/b", "A", ""])
def test_a_codec_s_name_is_its_own_and_a_segment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(BloomeryError, match="a name of its own"):
        with_system(monkeypatch, **{name: "support.furnace:Rounded"}).codecs()
