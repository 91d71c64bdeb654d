"""Writes events.jsonl of a run that uses the whole grammar, in the engine's own shapes: arms and their sweeps, a retry,
a stage's own control, an optional stage, a loop, claims. Numbers are made up, and look like a small run's.

`python sample_grammar.py FOLDER` writes it, to be looked at.
"""

import importlib.util
import json
import math
import random
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("report_sample_run", Path(__file__).with_name("sample_run.py"))
base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(base)

PLAN = """bloomery: 1
name: harmonic/grammar
system: dense
hypothesis: A start from the corpus reaches a lower loss than a random one, at equal stored parameters and tokens.
variable: how weights are initialised
seeds: [0, 1]
budget: {wall: 30 min}
control: {twin: dense, match: stored, tolerance: 2%}
baselines: {bigram: {kind: ngram, order: 2}}
suites:
  text: {kind: perplexity, data: corpus:val}
stages:
  - id: pretrain
    kind: pretrain
    config: {tokens: 1M tok, optimizer: {lr: 0.02}}
    arms:
      random: {}
      corpus: {set: {model.init: corpus}}
      spectral: {set: {model.init: spectral, optimizer.weight_decay: 0.02}}
      unscaled: {set: {model.init: unscaled}}
    candidate: best
    sweep: {optimizer.lr: [0.005, 0.02, 0.08]}
    select: {lowest: val/loss}
    gate:
      - {metric: text/loss, relative_to: control, op: "<=", value: 1.0, confidence: 0.95}
      - {metric: text/loss, relative_to: arm:random, op: "<", value: 1.0}
      - {metric: text/loss, relative_to: "baseline:bigram", op: "<", value: 1.0}
    on_fail:
      - {name: longer, because: the loss was still falling, set: {tokens: 2M tok}}
  - id: tune
    kind: finetune
    needs: {model: pretrain}
    config: {tokens: 200k tok}
    control: {set: {objective.curriculum: none}}
    gate:
      - {metric: text/loss, relative_to: control, as: difference, op: "<=", value: 0}
  - id: compress
    kind: harmonic/to_l2
    needs: {model: tune}
    optional: true
    gate:
      - {metric: text/loss, relative_to: "stage:tune", op: "<=", value: 1.05}
  - id: pack
    kind: quantise
    needs: {model: compress, condition: compress.passed}
    optional: true
  - id: sleep
    repeat: 3
    needs: {model: compress}
    stages:
      - id: consolidate
        kind: consolidate
        needs: {model: sleep}
        gate:
          - {metric: text/loss, relative_to: "stage:sleep", op: "<", value: 1.0}
claims:
  - id: corpus-start
    says: Starting from the corpus is better than a random start.
    source: specs/harmonic.md, section 3
    rows: [H-12]
    gate: [{metric: text/loss, of: "stage:pretrain", relative_to: arm:random, op: "<", value: 1.0, confidence: 0.95}]
  - id: beats-twin
    says: At equal stored parameters the loss is at least 3 % below the dense twin's.
    source: specs/harmonic.md, section 1
    rows: [H-01, H-02]
    gate: [{metric: text/loss, of: "stage:pretrain", relative_to: control, op: "<=", value: 0.97, confidence: 0.95}]
  - id: compresses
    says: After tuning, compression costs at most 5 % of the loss.
    source: specs/harmonic.md, section 5
    gate: [{metric: text/loss, of: "stage:compress", relative_to: "stage:tune", op: "<=", value: 1.05}]
  - id: curriculum
    says: The curriculum helps.
    source: specs/harmonic.md, section 4
    gate:
      - {metric: text/loss, of: "stage:tune", relative_to: control, as: difference, op: "<", value: 0, confidence: 0.95}
"""
PARTIES = {"arm:random": 3.742, "arm:corpus": 3.668, "arm:spectral": 3.701, "control": 3.731, "baseline:bigram": 4.333}
RATES = (0.005, 0.02, 0.08)
SWEPT = {"arm:random": (0.11, 0.0, 0.21), "arm:corpus": (0.12, 0.04, 0.0), "arm:spectral": (0.2, 0.0, 0.09),
         "control": (0.0, 0.07, 0.31)}  # fmt: skip
TALLIES = {"control": base.CONTROL}


def final_loss(who, seed, lower=0.0):
    return PARTIES[who] + (0.004, -0.004)[seed] - lower


def curve(log, place, final, tokens, label=""):
    """Points and looks of one cell; `label` for a trial, which is another draw of the same."""
    noise, shared = random.Random(f"{place['who']}{label}{place['seed']}"), random.Random(place["seed"])
    for step in range(0, 401, 8):
        share = step / 400
        loss = final + 3.6 * math.exp(-share * 14) + 0.7 * (1 - share) ** 1.6 * (1 - math.exp(-share * 14))
        loss += shared.gauss(0, 0.05) + noise.gauss(0, 0.012)
        log("point", 0.08, **place, step=step, tokens=int(tokens * share), loss=loss, lr=0.02 * (1 - 0.9 * share),
            tokens_per_second=21_000.0, gradient_norm=0.5)  # fmt: skip
        if step and step % 100 == 0:
            smooth = final + 0.02 + 0.7 * (1 - share) ** 1.6 + noise.gauss(0, 0.003)
            interval = [smooth - 0.04, smooth + 0.04, 0.95]
            base.measured(log, place, "val/loss", smooth, interval=interval, step=step, n=60)


def cell(log, stage, attempt, who, seed, final, *, tokens=1_000_000, tally=None, fails=""):
    place = {"stage": stage, "attempt": attempt, "who": who, "seed": seed}
    log("cell_started", **place, fingerprint=f"{stage}{attempt}{who}{seed}", inputs={})
    if fails:
        base.measured(log, place, "val/loss", 8.1, step=100)
        base.measured(log, place, "train/non_finite", 1.0)
        log("spent", 4, **place, tokens=tokens / 4, flops=4e12, seconds=9.0)
        log("cell_failed", **place, error=fails)
        return
    curve(log, place, final, tokens)
    spent = {"tokens": float(tokens), "flops": 4.4e13, "seconds": tokens / 21_000}
    log("spent", 8, **place, **spent)
    digest = f"{stage}{attempt}{who}{seed}".encode().hex()[:60]
    log("artifact", **place, output="model", kind="model", digest=digest, path=f"{stage}/{attempt}/x", parents=[],
        **({"tally": tally} if tally else {}))  # fmt: skip
    log("cell_finished", **place, hashes={"weights": digest}, **spent)


def judged(log, stage, attempt, who, seed, loss):
    place = {"stage": stage, "attempt": attempt, "who": who, "seed": seed}
    base.measured(log, place, "text/loss", loss, interval=[loss - 0.055, loss + 0.055, 0.95], n=412)
    base.measured(log, place, "text/bits_per_byte", loss / math.log(2) / 3.39, n=412)
    log("evaluated", 2, **place, suite="5" * 64, artifact="a" * 64, name="text")


def relative(reference, value, threshold, op, status, interval, comparison, losses, **keys):
    of = keys.pop("of", "candidate")
    asked = {"metric": "text/loss", "relative_to": reference, "op": op, "value": threshold, **keys}
    out = {
        "condition": asked, "status": status, "metric": "text/loss", "of": of, "relative_to": reference, "value": value,
        "interval": [*interval, 0.95], "n": 412, "seeds": [0, 1], "values": [value - 0.001, value + 0.001],
        "candidate": losses[0], "reference": losses[1], "comparison": comparison,
        "words": f"text/loss of {of} / {reference} {op} {threshold}: {value}", "note": "",
    }  # fmt: skip
    return {**out, "confidence": keys["confidence"]} if "confidence" in keys else out


def pretrain(log, attempt, lower, verdict, conditions):
    arms = ["arm:random", "arm:corpus", "arm:spectral", "arm:unscaled"]
    cells = [{"who": who, "seed": seed} for seed in (0, 1) for who in (*arms, "control")]
    log("stage_started", stage="pretrain", attempt=attempt, kind="pretrain", fingerprint=f"{attempt}" * 64, cells=cells)
    at = {"stage": "pretrain", "attempt": attempt}
    tokens = 1_000_000 * attempt
    for who in (*arms, "control"):
        if who == "control":
            rest(log, attempt, arms[:3], lower, tokens)
            values = [final_loss(who, 0, lower) + 0.02 for who in arms[:3]]
            log("candidate_chosen", **at, candidate="arm:corpus", arms=arms, metric="val/loss", better="lower",
                values=[*values, None], index=1)  # fmt: skip
            log("twin_solved", stage="pretrain", patch={"width": 112, "heads": 4, "layers": 4},
                candidate=base.CANDIDATE, control=base.CONTROL, match="stored", off_by=-0.0037)  # fmt: skip
        diverges = "step 61: the loss is not a number" if who == "arm:unscaled" else ""
        losses = [final_loss(who, 0, lower) + more for more in SWEPT[who]] if not diverges else [0.0] * 3
        for number, loss in enumerate(losses):
            tally = TALLIES.get(who, base.CANDIDATE)
            cell(log, "pretrain", attempt, f"{who}~{number}", 0, loss, tokens=tokens, tally=tally, fails=diverges)
        best = None if diverges else min(range(3), key=lambda place: losses[place])
        log("sweep_chosen", **at, who=who, seed=0, trials=[{"optimizer.lr": rate} for rate in RATES],
            chosen=None if best is None else {"optimizer.lr": RATES[best]}, metric="val/loss", better="lower",
            values=[None] * 3 if diverges else [loss + 0.02 for loss in losses], index=best)  # fmt: skip
        if best is not None:
            log("cell_reused", **at, who=who, seed=0, of=["pretrain", attempt, f"{who}~{best}", 0])
    cell(log, "pretrain", attempt, "control", 1, final_loss("control", 1, lower), tokens=tokens, tally=base.CONTROL)
    for seed in (0, 1):
        place = {**at, "who": "baseline:bigram", "seed": seed}
        log("cell_started", **place, fingerprint="b1" * 32, inputs={})
        log("cell_finished", 1.5, **place, hashes={}, tokens=float(tokens), seconds=1.5, flops=0.0)
        for who in (*arms[:3], "control", "baseline:bigram"):
            judged(log, "pretrain", attempt, who, seed, final_loss(who, seed, 0.0 if who.startswith("b") else lower))
    log("verdict", 1, **at, status=verdict, conditions=conditions)


def rest(log, attempt, arms, lower, tokens):
    for who in arms:
        cell(log, "pretrain", attempt, who, 1, final_loss(who, 1, lower), tokens=tokens, tally=base.CANDIDATE)


def small(log, stage, kind, whos, conditions, verdict, losses):
    """A stage of one attempt with one cell a party and seed."""
    cells = [{"who": who, "seed": seed} for seed in (0, 1) for who in whos]
    log("stage_started", stage=stage, attempt=1, kind=kind, fingerprint=stage, cells=cells)
    for seed in (0, 1):
        for who in whos:
            cell(log, stage, 1, who, seed, losses[who] + (0.003, -0.003)[seed], tokens=200_000, tally=base.CANDIDATE)
            judged(log, stage, 1, who, seed, losses[who] + (0.003, -0.003)[seed])
    log("verdict", 1, stage=stage, attempt=1, status=verdict, conditions=conditions)


def claim(log, name, status, conditions, *, reason="", would_need="", says="", source="", rows=(), of="stage:pretrain"):
    log("claim_judged", id=name, says=says, source=source, rows=list(rows), of=of, status=status, reason=reason,
        would_need=would_need,
        verdict={"status": {"supported": "pass", "refuted": "fail"}.get(status, "inconclusive"),
                 "conditions": conditions})  # fmt: skip


def after_pretrain(log):
    own = relative("control", -0.012, 0, "<=", "pass", (-0.031, 0.007), "not worse", (3.571, 3.583),
                   **{"as": "difference"})  # fmt: skip
    small(log, "tune", "finetune", ["candidate", "control"], [own], "pass", {"candidate": 3.571, "control": 3.583})
    log("decision", stage="tune", attempt=1, action="go_on", because="the gate passed")
    worse = relative("stage:tune", 1.094, 1.05, "<=", "fail", (1.081, 1.107), "worse", (3.907, 3.571))
    small(log, "compress", "harmonic/to_l2", ["candidate"], [worse], "fail", {"candidate": 3.907})
    log("decision", stage="compress", attempt=1, action="not_promoted",
        because="the gate's verdict is fail; the stage has no remedies; the stage is optional")  # fmt: skip
    log("stage_skipped", stage="pack", attempt=0, why="compress did not pass")
    before = 3.571
    for number, loss in enumerate((3.541, 3.529, 3.536), start=1):
        stage, kept = f"sleep-{number}-consolidate", loss < before
        status, ratio = ("pass" if kept else "fail"), round(loss / before, 4)
        found = relative("stage:sleep", ratio, 1.0, "<", status, (ratio - 0.004, ratio + 0.004),
                         "not worse" if kept else "undecided", (loss, before))  # fmt: skip
        small(log, stage, "consolidate", ["candidate"], [found], status, {"candidate": loss})
        why = "the gate's verdict is fail; the stage has no remedies"
        if kept:
            log("decision", stage=stage, attempt=1, action="go_on", because="the gate passed")
            log("cycle_ended", stage="sleep", cycle=number, kept=True)
            before = loss
        else:
            log("cycle_ended", stage="sleep", cycle=number, kept=False, at="consolidate", why=why)
            ended = f"sleep ended: cycle {number} did not pass at consolidate"
            log("loop_ended", stage="sleep", cycles=2, of=3, why=ended)
            log("decision", stage=stage, attempt=1, action="not_promoted", because=f"{why}; the cycle is undone")


def claims(log):
    sure = {"confidence": 0.95}
    better = relative("arm:random", 0.9802, 1.0, "<", "pass", (0.972, 0.989), "better", (3.588, 3.660), **sure)
    claim(log, "corpus-start", "supported", [better], says="Starting from the corpus is better than a random start.",
          source="specs/harmonic.md, section 3", rows=["H-12"])  # fmt: skip
    twin = relative("control", 0.9831, 0.97, "<=", "fail", (0.974, 0.992), "better", (3.588, 3.650), **sure)
    claim(log, "beats-twin", "refuted", [twin],
          says="At equal stored parameters the loss is at least 3 % below the dense twin's.",
          source="specs/harmonic.md, section 1", rows=["H-01", "H-02"])  # fmt: skip
    worse = relative("stage:tune", 1.094, 1.05, "<=", "fail", (1.081, 1.107), "worse", (3.907, 3.571))
    claim(log, "compresses", "refuted", [worse], says="After tuning, compression costs at most 5 % of the loss.",
          source="specs/harmonic.md, section 5", of="stage:compress")  # fmt: skip
    open_one = relative("control", -0.012, 0, "<", "inconclusive", (-0.031, 0.007), "undecided", (3.571, 3.583),
                        **{"as": "difference", "confidence": 0.95})  # fmt: skip
    claim(log, "curriculum", "undecided", [open_one], says="The curriculum helps.",
          source="specs/harmonic.md, section 4", reason="one end of [-0.028, 0.004] is not < 0", of="stage:tune",
          would_need="about 1,030 items (there were 412), or about 5 seeds (there were 2)")  # fmt: skip


def grammar(folder):
    log = base.Log(folder)
    base.opened(log, name="harmonic/grammar", text=PLAN)
    sure = {"confidence": 0.95}
    first = [
        relative("control", 0.9831, 1.0, "<=", "inconclusive", (0.962, 1.004), "undecided", (3.668, 3.731), **sure),
        relative("arm:random", 0.9802, 1.0, "<", "pass", (0.967, 0.994), "better", (3.668, 3.742)),
        relative("baseline:bigram", 0.8465, 1.0, "<", "pass", (0.835, 0.858), "better", (3.668, 4.333)),
    ]
    pretrain(log, 1, 0.0, "inconclusive", first)
    log("decision", stage="pretrain", attempt=1, action="retry", because="the loss was still falling", rule="longer",
        set={"tokens": "2M tok"}, **{"from": "start"})  # fmt: skip
    log("walk_started", walk=2, patches=[{"stage": "pretrain", "rule": "longer", "set": {"tokens": "2M tok"},
                                          "because": "the loss was still falling"}])  # fmt: skip
    second = [
        relative("control", 0.9831, 1.0, "<=", "pass", (0.974, 0.992), "better", (3.588, 3.650), **sure),
        relative("arm:random", 0.9802, 1.0, "<", "pass", (0.972, 0.989), "better", (3.588, 3.660)),
        relative("baseline:bigram", 0.8280, 1.0, "<", "pass", (0.816, 0.840), "better", (3.588, 4.333)),
    ]
    pretrain(log, 2, 0.08, "pass", second)
    log("decision", stage="pretrain", attempt=2, action="go_on", because="the gate passed")
    after_pretrain(log)
    claims(log)
    base.spent_and_finished(log, "passed", tokens=37_000_000)
    return log.write()


if __name__ == "__main__":
    print(json.dumps(str(grammar(Path(sys.argv[1])))))
