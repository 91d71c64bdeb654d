"""The baseline frozen_random through a real run: linears as drawn, the rest trained on what the candidate read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.engine.discover import catalogue
from bloomery.stages import models
from support.command import Command, tiny_plan

SHAPE = {"system": "harmonic", "layers": 1, "width": 16, "heads": 2, "compression": 1.5}
GATE = [{"metric": "text/loss", "relative_to": "baseline:frozen", "op": "<", "value": 9}]
PLAN = {"baselines": {"frozen": {"kind": "frozen_random"}}, "stages.0.evaluate": [], "stages.0.gate": GATE}


@pytest.fixture(autouse=True)
def _harmonic() -> None:
    if "harmonic" not in catalogue.systems():
        pytest.skip("the harmonic system is not installed")


def test_only_what_is_not_a_linear_has_learned_at_the_price_of_the_judged_model(
    tmp_path: Path, bloomery: Command
) -> None:
    tiny_plan(tmp_path, **{"stages.0.config.model": SHAPE}, **PLAN)
    done = bloomery("run", "tiny.yaml", "--threads", "1")
    assert done.code == 0, done.out + done.err
    (folder,) = tmp_path.glob("runs/test/tiny/pretrain/1/baseline-frozen-seed0/model")
    found = models.load_model(folder)
    drawn = models.build({**SHAPE, "frozen": True}, found.vocab, precision="fp32", seed=0)
    same = {n for n, p in found.named_parameters() if torch.equal(p, drawn.get_parameter(n))}
    assert same == {n for n, p in drawn.named_parameters() if not p.requires_grad}
    assert all(".attention." in name or ".feed_forward." in name for name in same)
    assert len(same) == 7 * 3
    finished = {who: (one["tokens"], one["flops"]) for who, one in ended(tmp_path).items()}
    assert finished["baseline:frozen"] == pytest.approx(finished["candidate"]), "gradients flow through what is frozen"
    assert min(finished["candidate"]) > 0
    (file,) = tmp_path.glob("runs/test/tiny/events.jsonl")
    told = {one["event"]: one for one in map(json.loads, file.read_text().splitlines())}
    spent, planned = told["budget_spent"], told["budget_planned"]
    assert (spent["tokens"], spent["flops"]) == pytest.approx((planned["tokens"], planned["flops"]))


def ended(folder: Path) -> dict[str, dict[str, Any]]:
    """{who: what is written of its cell}."""
    (file,) = folder.glob("runs/test/tiny/events.jsonl")
    every = map(json.loads, file.read_text().splitlines())
    return {one["who"]: one for one in every if one["event"] == "cell_finished"}


def test_a_system_without_frozen_linears_is_told(tmp_path: Path, bloomery: Command) -> None:
    tiny_plan(tmp_path, **PLAN)
    done = bloomery("run", "tiny.yaml", "--threads", "1")
    assert done.code == 2, done.out + done.err
    assert "a dense model, whose linears cannot be frozen" in done.out + done.err
