"""Every arm of harmonic/bases learns, as a smaller plan of the same arms: a fault of a basis shows in a minute."""

import json
from pathlib import Path

import pytest

from bloomery.plan.find import find_plan
from bloomery.plan.load import load, resolve
from bloomery.plan.yaml_text import parse
from bloomery.stages.settings import architecture
from support.command import finished, process, write_text

BASES = {"sine", "monarch", "kron", "lowrank", "hashed", "row_gauss", "row_scale_space", "row_gabor", "row_cos"}


def test_a_dense_arm_takes_as_many_operations_as_the_bases_that_save_them() -> None:
    for stage in resolve(load(find_plan("harmonic/bases"))).stages:
        arms = {name: arm.set for name, arm in stage.arms.items()}
        dense = architecture(arms["dense_flops"]["model"]).tally(257)
        for basis in ("lowrank", "monarch"):
            shape = {"system": "harmonic", **stage.config["model"], "basis": basis}
            assert architecture(shape).tally(257).flops_per_token == pytest.approx(dense.flops_per_token, rel=0.1)


@pytest.mark.slow
def test_every_arm_of_a_smaller_plan_learns(tmp_path: Path) -> None:
    plan = parse(find_plan("harmonic/bases").read_text(), "bases.yaml").value
    write_text(tmp_path / "text")
    split = {"train": "60%", "dev": "20%", "val": "20%"}
    plan |= {"seeds": [0], "data": {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "text",
                                                                               "split": split}}}  # fmt: skip
    plan["suites"]["text"]["items"] = 1
    for stage, compression in zip(plan["stages"], (3, 6), strict=True):
        del stage["sweep"], stage["select"]
        stage["config"] |= {"tokens": "3k tok", "batch": 4, "context": 32, "precision": "fp32"}
        stage["config"]["validation"] = {"every": "50%", "documents": 1}
        stage["config"]["model"] |= {"layers": 1, "width": 48, "heads": 2, "compression": compression}
        for name, width in (("dense", 48), ("dense_flops", 24)):
            stage["arms"][name]["set"]["model"] = {"system": "dense", "layers": 1, "width": width, "heads": 2}
        stage["on_fail"] = [{"name": "on", "then": "go_on", "because": "gates are not what is tested"}]
    (tmp_path / "small.yaml").write_text(json.dumps(plan))
    said = finished(process(["run", "small.yaml", "--threads", "1"], tmp_path))
    events = [json.loads(line) for line in (tmp_path / "runs/harmonic/bases/events.jsonl").read_text().splitlines()]
    looks: dict[tuple[str, str], list[float]] = {}
    for event in events:
        learns = event["event"] == "measured" and not event["who"].startswith("baseline:")
        if learns and event["measurement"]["name"] == "val/loss":
            looks.setdefault((event["stage"], event["who"]), []).append(event["measurement"]["value"])
    arms = {f"arm:{name}" for name in BASES | {"dense", "dense_flops", "row_gauss_wide", "frozen"}} | {"control"}
    taken_over = {("thirty", "arm:dense"), ("thirty", "arm:dense_flops")}  # the same cells as in `ten`
    expected = {(stage, who) for stage in ("ten", "thirty") for who in arms} - taken_over
    assert set(looks) == expected, said.out + said.err
    for whose, losses in looks.items():
        assert losses[-1] < losses[0] - 0.1, (whose, losses)
        assert losses[-1] < 4.5, (whose, losses)
