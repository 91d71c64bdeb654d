"""Writes events.jsonl as the engine would, for runs that end in different ways; numbers like the quickstart's.

`python sample_run.py FOLDER` writes one run folder for every kind, to be looked at.
"""

import datetime
import json
import math
import random
import sys
from pathlib import Path

LONG = "ab12" * 16
PLAN_TEXT = """bloomery: 1
name: harmonic/quickstart
system: harmonic
hypothesis: A harmonic transformer reaches the loss of a dense one with as many stored parameters, or lower.
variable: how linear weights are stored
seeds: [0, 1]
budget: {wall: 8 min, memory: 4 GiB}
control: {twin: dense, match: stored, tolerance: 2%, set: {optimizer.lr: 0.06}}
baselines: {bigram: {kind: ngram, order: 2}}
data:
  tokenizer: {kind: bpe, vocab: 2048}
  corpus: {source: stdlib}
suites:
  text: {kind: perplexity, data: corpus:val}
stages:
  - id: pretrain
    kind: pretrain
    config:
      model: {layers: 4, width: 256, heads: 4, basis: sine, compression: 10}
      tokens: 1M tok
      optimizer: {name: adamw, lr: 0.02, weight_decay: 0.1}
    gate:
      - {metric: text/loss, relative_to: control, as: difference, op: "<=", value: 0}
      - {metric: text/loss, relative_to: baseline:bigram, op: "<", value: 1.00}
"""
HYPOTHESIS = "A harmonic transformer reaches the loss of a dense one with as many stored parameters, or lower."
PROMPTS = ('def load(path):\n    """Read a JSON file', "class Queue:\n")
WRITTEN = {
    "candidate": (
        ' and return the object.\n\n    """\n    with open(path, "rb") as file:\n        return self._read(file)\n',
        '    """Create a queue of a given size.\n\n    def __init__(self, maxsize=0):\n        self.lock = None\n',
    ),
    "control": (
        '.\n\n    """\n    if path is None:\n        path = path.path\n    return path\n',
        "    def __init__(self, queue):\n        self._queue = queue\n        self._queue = self._queue\n",
    ),
}


def group(stored, flops=0.0, bits=32.0):
    return {"stored": stored, "active": stored, "frozen": 0, "buffers": 0, "bits": bits, "flops_per_token": flops}


CANDIDATE = {
    "groups": {
        "embedding": group(524_288, 1_048_576),
        "attention": group(104_860, 5_100_000),
        "feed_forward": group(211_352, 10_300_000),
        "norm": group(2_304),
    },
    "dense_equivalent": 3_688_704,
}
CONTROL = {
    "groups": {
        "embedding": group(229_376, 458_752),
        "attention": group(200_704, 1_900_000),
        "feed_forward": group(408_576, 4_200_000),
        "norm": group(1_008),
    },
    "dense_equivalent": None,
}
FINAL = {"candidate": (3.717, 3.713), "control": (3.743, 3.737), "baseline:bigram": (4.333, 4.333)}
STEPS, TOKENS = 976, 1_000_000


class Log:
    """Events with a clock that only this file moves."""

    def __init__(self, folder):
        self.folder, self.lines = folder, []
        self.clock = datetime.datetime(2026, 11, 21, 9, 0, tzinfo=datetime.UTC)

    def __call__(self, event, elapsed=0.2, /, **facts):
        self.clock += datetime.timedelta(seconds=elapsed)
        self.lines.append({"event": event, "time": self.clock.isoformat(timespec="milliseconds"), **facts})

    def write(self, torn=""):
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        (self.folder / "events.jsonl").write_text(text + torn)
        return self.folder


def opened(log, name="harmonic/quickstart", mode="confirmatory", overrides=None, text=PLAN_TEXT, register=True):
    log(
        "run_opened",
        run=name,
        plan=name,
        digest=LONG,
        source="quickstart",
        mode=mode,
        overrides=overrides or {},
        argv=["bloomery", "run", "quickstart"],
        plan_text=text,
        provenance={
            "bloomery": "0.1.0", "commit": "ec24291f0c", "dirty": False, "python": "3.11.9", "torch": "2.13.0+cpu",
            "platform": "Linux-6.1-x86_64", "processor": "2 cores", "threads": 2, "device": "cpu",
        },
    )  # fmt: skip
    if register:
        log(
            "registered",
            digest=LONG,
            commit="ec24291f0c",
            hypothesis=HYPOTHESIS,
            variable="how linear weights are stored",
            control="dense twin, stored parameters matched within 2 %",
            prediction=["text/loss - control <= 0", "text/loss / bigram baseline < 1"],
            fail_conditions=["text/loss - control > 0, mean over seeds 0 and 1"],
        )
    log("budget_planned", tokens=4_000_000, flops=1.42e14, seconds=280.0, kwh=0.004, money=0.001, caps={"wall": 480.0})
    log("walk_started", walk=1, patches=[])
    log("data_ready", 3.0, digest="dd" * 32, documents=1412, tokens=6_310_000, bytes=21_400_000,
        provenance={"source": "stdlib", "python": "3.11.9", "licence": "PSF-2.0"}, tokenizer="bpe 2048")  # fmt: skip


def train(log, who, seed, *, stage="pretrain", attempt=1, first=0, last=STEPS, shift=0.0, finish=True, resumed=False):
    """One cell: curve, held-out points, artifact."""
    shared, noise = random.Random(f"batches {seed}"), random.Random(f"{who}{seed}{attempt}")
    place = {"stage": stage, "attempt": attempt, "who": who, "seed": seed}
    rate = 17_500 if who == "candidate" else 41_000
    if not resumed:
        log("cell_started", **place, fingerprint="f1" * 32, step=0, inputs={})
    final = FINAL[who][seed] + shift
    for step in range(0, last + 1, 8):
        share = step / STEPS
        loss = final + 3.9 * math.exp(-share * 14) + 0.75 * (1 - share) ** 1.6 * (1 - math.exp(-share * 14))
        loss += shared.gauss(0, 0.055) + noise.gauss(0, 0.012)
        if step >= first:
            log("point", 8 * TOKENS / STEPS / rate, **place, step=step, tokens=step * TOKENS // STEPS, loss=loss,
                lr=0.02 * min(1, share / 0.05) * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2),
                tokens_per_second=rate * noise.uniform(0.97, 1.02), gradient_norm=noise.uniform(0.4, 0.7))  # fmt: skip
        if step % 120 == 0 and step >= first:
            smooth = (
                final + 3.9 * math.exp(-share * 14) + 0.75 * (1 - share) ** 1.6 * (1 - math.exp(-share * 14)) + 0.03
            )
            smooth += noise.gauss(0, 0.01)
            measured(log, place, "val/loss", smooth, interval=[smooth - 0.05, smooth + 0.05, 0.95], step=step, n=60)
    if not finish:
        return
    parts = {"spent": {"tokens": TOKENS, "seconds": TOKENS / rate, "flops": 5.1e13 if who == "candidate" else 2.04e13}}
    log("artifact", **place, output="model", kind="model", digest=f"{who[:2]}{seed}" * 16,
        path=f"{stage}/{attempt}/{who}-seed{seed}/model", parents=[],
        tally=CANDIDATE if who == "candidate" else CONTROL)  # fmt: skip
    measured(log, place, "train/plateau", 0.0)
    log(
        "cell_finished", **place, hashes={"weights": f"{who[:2]}{seed}a" * 12, "optimiser": "0f" * 32}, **parts["spent"]
    )


def measured(log, place, name, value, *, interval=None, step=None, n=1, unit=""):
    one = {"name": name, "value": value, "n": n, "who": place["who"], "seed": place["seed"]}
    if interval:
        one["interval"] = interval
    if step is not None:
        one["step"] = step
    log("measured", 0.01, **place, measurement={**one, **({"unit": unit} if unit else {})})


def evaluated(log, who, seed, *, stage="pretrain", attempt=1, shift=0.0):
    place = {"stage": stage, "attempt": attempt, "who": who, "seed": seed}
    loss = FINAL[who][seed] + shift
    measured(log, place, "text/loss", loss, interval=[loss - 0.06, loss + 0.06, 0.95], n=412)
    measured(log, place, "text/bits_per_byte", loss / math.log(2) / 3.39, n=412)
    measured(log, place, "text/perplexity", math.exp(loss), n=412)
    if who in WRITTEN and seed == 0:
        for prompt, text in zip(PROMPTS, WRITTEN[who], strict=True):
            log("sample", **place, prompt=prompt, text=text)


def against_control(status="pass", value=-0.025, low=-0.052, high=0.002, comparison="not worse", shift=0.0):
    return {
        "condition": {"metric": "text/loss", "relative_to": "control", "as": "difference", "op": "<=", "value": 0},
        "status": status, "metric": "text/loss", "of": "candidate", "relative_to": "control",
        "value": value, "interval": [low, high, 0.95], "n": 412,
        "seeds": [0, 1], "values": [value - 0.001, value + 0.001],
        "candidate": 3.715 + shift, "reference": 3.740, "comparison": comparison,
        "words": f"text/loss is {value:+.3f} against control",
    }  # fmt: skip


def against_bigram():
    return {
        "condition": {"metric": "text/loss", "relative_to": "baseline:bigram", "op": "<", "value": 1},
        "status": "pass", "metric": "text/loss", "of": "candidate", "relative_to": "baseline:bigram",
        "value": 0.8574, "interval": [0.846, 0.869, 0.95], "n": 412, "seeds": [0, 1], "values": [0.8578, 0.8569],
        "candidate": 3.715, "reference": 4.333, "comparison": "better", "words": "text/loss is 0.857 of bigram",
    }  # fmt: skip


def spent_and_finished(log, status, tokens=4_000_000, reason=""):
    log("budget_spent", tokens=tokens, flops=1.43e14, seconds=261.0, kwh=0.0038, money=0.0011)
    log("run_finished", status=status, exit_code={"passed": 0, "failed": 1, "budget": 3}[status], reason=reason)


def started(log, stage="pretrain", attempt=1):
    cells = [{"who": who, "seed": seed} for seed in (0, 1) for who in ("candidate", "control")]
    log("stage_started", stage=stage, attempt=attempt, kind="pretrain", fingerprint=f"{attempt}" * 64, cells=cells)
    log("twin_solved", stage=stage, patch={"width": 112, "heads": 4}, candidate=CANDIDATE, control=CONTROL,
        match="stored", off_by=-0.0037)  # fmt: skip


def passing(folder):
    log = Log(folder)
    opened(log)
    started(log)
    for seed in (0, 1):
        for who in ("candidate", "control"):
            train(log, who, seed)
    for seed in (0, 1):
        place = {"stage": "pretrain", "attempt": 1, "who": "baseline:bigram", "seed": seed}
        log("cell_started", **place, fingerprint="b1" * 32, inputs={})
        log("cell_finished", 1.5, **place, hashes={}, tokens=TOKENS, seconds=1.5, flops=0.0)
    for seed in (0, 1):
        for who in FINAL:
            evaluated(log, who, seed)
    log("verdict", 2, stage="pretrain", attempt=1, status="pass", conditions=[against_control(), against_bigram()])
    log("decision", stage="pretrain", attempt=1, action="go_on", reason="the gate passed")
    spent_and_finished(log, "passed")
    return log.write()


def failing(folder):
    """A retry from the checkpoint that does not help, an optional stage that is not promoted, one that is skipped."""
    log = Log(folder)
    opened(log)
    started(log)
    for seed in (0, 1):
        for who in ("candidate", "control"):
            train(log, who, seed, shift=0.09 if who == "candidate" else 0.0)
    for seed in (0, 1):
        for who in FINAL:
            evaluated(log, who, seed, shift=0.09 if who == "candidate" else 0.0)
    first = against_control("fail", 0.065, 0.031, 0.098, "worse", 0.09)
    log("verdict", 2, stage="pretrain", attempt=1, status="fail", conditions=[against_bigram(), first])
    log("decision", stage="pretrain", attempt=1, action="retry", rule="plateau", reason="first rule that applies",
        because="learning rate too low for component parameters",
        set={"schedule.name": "warm_restart", "optimizer.lr": 0.03}, **{"from": "checkpoint"})  # fmt: skip
    log("walk_started", walk=2, patches=[{"stage": "pretrain", "rule": "plateau", "set": {"optimizer.lr": 0.03},
                                          "because": "learning rate too low"}])  # fmt: skip
    log("stage_started", stage="pretrain", attempt=2, kind="pretrain", fingerprint="2" * 64, cells=[])
    for seed in (0, 1):
        train(log, "candidate", seed, attempt=2, shift=0.05)
        log("cell_reused", stage="pretrain", attempt=2, who="control", seed=seed, of=["pretrain", 1, "control", seed])
        evaluated(log, "candidate", seed, attempt=2, shift=0.05)
    log("checkpoint_fallback", stage="pretrain", attempt=2, who="candidate", seed=1, step=512,
        why="the latest checkpoint was cut short; the one before it was used")  # fmt: skip
    second = against_control("fail", 0.025, -0.004, 0.055, "undecided", 0.05)
    log("verdict", 2, stage="pretrain", attempt=2, status="fail", conditions=[against_bigram(), second])
    log("decision", stage="pretrain", attempt=2, action="go_on", rule="unproven", reason="worth seeing",
        because="the next stage is worth seeing; the failed gate stays failed")  # fmt: skip
    log("stage_started", stage="l2", attempt=1, kind="harmonic/to_l2", fingerprint="3" * 64, cells=[])
    log("cell_started", stage="l2", attempt=1, who="candidate", seed=0, fingerprint="c" * 64, inputs={})
    log(
        "cell_finished",
        14,
        stage="l2",
        attempt=1,
        who="candidate",
        seed=0,
        hashes={},
        tokens=200_000,
        seconds=14.0,
        flops=1e13,
    )
    measured(log, {"stage": "l2", "attempt": 1, "who": "candidate", "seed": 0}, "text/loss", 4.11, n=412)
    worse = {
        "condition": {"metric": "text/loss", "relative_to": "stage:pretrain", "op": "<=", "value": 1.05},
        "status": "fail", "metric": "text/loss", "of": "candidate", "relative_to": "stage:pretrain", "value": 1.094,
        "interval": [1.081, 1.107, 0.95], "n": 412,
        "seeds": [0], "values": [1.094], "candidate": 4.11, "reference": 3.757,
        "comparison": "worse", "words": "text/loss is 1.094 of stage pretrain",
    }  # fmt: skip
    absent = {
        "condition": {"metric": "gauntlet/all/accuracy", "op": ">", "value": 0.6}, "status": "missing",
        "metric": "gauntlet/all/accuracy", "of": "candidate", "note": "gauntlet/all/accuracy was not measured",
    }  # fmt: skip
    log("verdict", stage="l2", attempt=1, status="fail", conditions=[worse, absent])
    log("decision", stage="l2", attempt=1, action="not_promoted", reason="optional stage whose gate failed")
    log("stage_skipped", stage="l3", attempt=0, why="l2 did not pass")
    spent_and_finished(log, "failed", reason="gates failed at pretrain", tokens=6_200_000)
    return log.write()


def interrupted(folder, torn='{"event":"point","sta'):
    """Killed once, stopped once, resumed, and now stopped again in the middle of a line."""
    log = Log(folder)
    opened(log)
    started(log)
    train(log, "candidate", 0, last=400, finish=False)
    opened(log, register=False)
    log("resumed", stage="pretrain", who="candidate", seed=0, step=320)
    log(
        "cell_started", stage="pretrain", attempt=1, who="candidate", seed=0, fingerprint="f1" * 32, step=320, inputs={}
    )
    train(log, "candidate", 0, first=320, resumed=True)
    train(log, "control", 0, last=200, finish=False)
    log("budget_spent", tokens=1_200_000, flops=5e13, seconds=70.0)
    log("interrupted", signal="SIGINT")
    return log.write(torn)


def unfinished(folder):
    """Nothing but a start: not one stage has begun."""
    log = Log(folder)
    log("run_opened", run="tiny", plan="tiny", digest=LONG, source="tiny.yaml", mode="exploratory",
        overrides={"stages.pretrain.config.tokens": "100k tok"}, argv=[], plan_text="", provenance={})  # fmt: skip
    return log.write()


def amended(folder):
    """A passing run whose gate was loosened after results had been seen. No control."""
    log = Log(folder)
    opened(log)
    log("stage_started", stage="pretrain", attempt=1, kind="pretrain", fingerprint="1" * 64, cells=[])
    for seed in (0, 1):
        train(log, "candidate", seed)
        evaluated(log, "candidate", seed)
    log("interrupted", signal="SIGTERM")
    log("amended", 3600, why="the bigram table was fitted on too few tokens, so the bar moves to an absolute one",
        before=LONG, after="cd34" * 16, changed=["stages.pretrain.gate[1].value", "hypothesis"])  # fmt: skip
    opened(log, register=False)
    one = {
        "condition": {"metric": "text/loss", "op": "<", "value": 4.0, "confidence": 0.95}, "status": "pass",
        "metric": "text/loss", "of": "candidate", "value": 3.715, "interval": [3.66, 3.77, 0.95], "n": 412,
        "seeds": [0, 1], "values": [3.717, 3.713], "candidate": 3.715, "confidence": 0.95,
        "words": "text/loss is 3.715",
    }  # fmt: skip
    log("verdict", stage="pretrain", attempt=1, status="pass", conditions=[one])
    log("decision", stage="pretrain", attempt=1, action="go_on", reason="the gate passed")
    spent_and_finished(log, "passed")
    return log.write()


def hostile(folder):
    """Every text that a stranger may have written tries to leave its element."""
    evil = '"><script>alert(1)</script><img src=http://example.org/x onerror=alert(2)>'
    log = Log(folder)
    opened(log, name=evil, text=f"name: {evil}")
    log("registered", digest=evil, commit=evil, hypothesis=evil, variable=evil, control=evil, prediction=[evil],
        fail_conditions={evil: evil})  # fmt: skip
    log("amended", why=evil, before=evil, after=evil, changed=[evil])
    log("stage_started", stage=evil, attempt=1, kind=evil, fingerprint=evil, cells=[])
    for step in range(0, 80, 8):
        log(
            "point", stage=evil, attempt=1, who=f"arm:{evil}", seed=0, step=step, tokens=step * 1000, loss=5 - step / 50
        )
    log("sample", stage=evil, attempt=1, who="candidate", seed=0, prompt=evil, text=evil)
    log("artifact", stage=evil, attempt=1, who="candidate", seed=0, output="model", kind="model", digest=evil,
        path=evil, parents=[],
        tally={"groups": {evil: group(100), "$x^2$": group(3)}, "dense_equivalent": 900})  # fmt: skip
    bad = {**against_control("fail"), "note": evil, "words": evil, "comparison": evil, "metric": f"{evil}$\\frac$"}
    log("verdict", stage=evil, attempt=1, status="fail", conditions=[bad])
    log("decision", stage=evil, attempt=1, action=evil, rule=evil, because=evil, set={evil: evil})
    log(evil, note=evil)
    spent_and_finished(log, "failed", reason=evil)
    return log.write()


KINDS = {
    "passing": passing,
    "failing": failing,
    "interrupted": interrupted,
    "unfinished": unfinished,
    "amended": amended,
    "hostile": hostile,
}

if __name__ == "__main__":
    for kind, make in KINDS.items():
        make(Path(sys.argv[1]) / kind)
