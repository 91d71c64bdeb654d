"""A plan that uses the whole grammar; its mistakes, one each, with the place and what is said; what is warned about."""

PLAN = """\
bloomery: 1
name: test/grammar
system: harmonic
seeds: [0, 1, 2]
control: {twin: dense, set: {schedule.warmup: 1%}}
baselines: {bigram: {kind: ngram, order: 2}}
data:
  tokenizer: {kind: bpe, vocab: 2048}
  corpus: {source: stdlib}
suites:
  text: {kind: perplexity, data: corpus:val}
stages:
  - id: shape
    kind: pretrain
    config: {model: {layers: 4}, tokens: 1M tok}
    arms:
      four: {set: {model.width: 32}}
      eight: {}
    sweep: {optimizer.lr: [0.01, 0.02]}
    select: {lowest: val/loss}
    candidate: best
    gate: [{metric: text/loss, relative_to: control, op: "<", value: 1.1}]
    stop_if: [{metric: val/loss, op: ">", value: 9, after: 50%}]
    on_fail: [{name: longer, set: {tokens: 2M tok}, because: too short}]
  - id: settle
    repeat: 2
    needs: {model: shape}
    stages:
      - {id: further, kind: finetune, needs: {model: settle}, config: {model: {layers: 4}, tokens: 1M tok}}
  - id: last
    kind: evaluate
    needs: {model: settle}
    gate:
      - {metric: text/loss, relative_to: "baseline:bigram", op: "<", value: 1}
      - {metric: text/accuracy, op: ">", value: 0}
claims:
  - {id: wider, says: s, source: t, gate: [
      {of: stage:shape@eight, metric: text/loss, relative_to: "arm:four", op: "<", value: 1}]}
"""

ARMS = "      four: {set: {model.width: 32}}\n      eight: {}\n"
EIGHT = "      eight: {}\n"
SWEEP = "    sweep: {optimizer.lr: [0.01, 0.02]}\n"
SELECT = "    select: {lowest: val/loss}\n"
GATE = '    gate: [{metric: text/loss, relative_to: control, op: "<", value: 1.1}]\n'
FURTHER = (
    "      - {id: further, kind: finetune, needs: {model: settle}, config: {model: {layers: 4}, tokens: 1M tok}}\n"
)
CLAIM = 'of: stage:shape@eight, metric: text/loss, relative_to: "arm:four"'
STOP = 'stop_if: [{metric: val/loss, op: ">", value: 9, after: 50%}]'
TWO_OF = (
    '{of: stage:shape, metric: text/loss, op: "<", value: 1}, {of: stage:last, metric: text/loss, op: "<", value: 1}'
)

# (name, edit: (old, new), words of the line that it stands on, what is said)
PROBLEMS = [
    # What is chosen, and by what
    ("sweep-without-select", (SELECT + "    candidate: best\n", ""), "sweep:", "nothing selects from"),
    ("best-without-select", (SWEEP + SELECT, ""), "candidate: best", "`best` of what"),
    ("select-of-nothing", (SWEEP + SELECT + "    candidate: best\n", SELECT), "select:", "nothing to select from"),
    ("select-neither", ("{lowest: val/loss}", "{}"), "select:", "neither `lowest` nor `highest`"),
    ("select-both", ("{lowest: val/loss}", "{lowest: val/loss, highest: val/loss}"), "select:", "both"),
    ("select-by-suite", ("lowest: val/loss", "lowest: text/loss"), "select:", "a suite's metric"),
    ("select-by-nothing", ("lowest: val/loss", "lowest: val/lozz"), "select:", "did you mean 'val/loss'?"),
    ("select-by-cost", ("lowest: val/loss", "lowest: cost/flops"), "select:", "does not measure cost/flops"),
    ("select-by-many", ("lowest: val/loss", 'lowest: "val/*"'), "select:", "several metrics"),
    ("select-by-name", ("lowest: val/loss", "lowest: loss"), "select:", "no metric name"),
    (
        "select-on-what-is-judged",
        ("tokens: 1M tok}\n    arms", "tokens: 1M tok, validation: {split: val}}\n    arms"),
        "select:",
        "the suite 'text' judges on",
    ),
    # What is swept
    ("sweep-of-nothing", ("[0.01, 0.02]", "[]"), "sweep:", "no values"),
    ("sweep-of-an-unknown-path", ("optimizer.lr: [", "optimizer.lrr: ["), "sweep:", "unknown key 'lrr'"),
    ("sweep-with-a-bad-second-value", ("0.02]", "fast]"), "sweep:", "fast"),
    ("sweep-of-one-value-twice", ("0.02]", "0.01]"), "sweep:", "a second time"),
    ("sweep-over-data", ("optimizer.lr: [0.01, 0.02]", "data: [corpus, corpus:dev]"), "sweep:", "not read the same"),
    (
        "sweep-that-all-arms-hide",
        (ARMS, "      four: {set: {optimizer: {lr: 1}}}\n      eight: {set: {optimizer.lr: 2}}\n"),
        "sweep:",
        "every arm of 'shape' sets",
    ),
    # Arms
    (
        "arm-called-best",
        (EIGHT, EIGHT + "      best: {set: {model.width: 16}}\n"),
        "best: {set",
        "a word of the grammar",
    ),
    (
        "arm-called-control",
        (EIGHT, EIGHT + "      control: {set: {model.width: 16}}\n"),
        "control: {set: {model",
        "a word of the grammar",
    ),
    ("arm-with-a-tilde", ("      eight: {}", "      eig~ht: {}"), "eig~ht", "matches"),
    ("no-such-candidate", ("candidate: best", "candidate: for"), "candidate: for", "did you mean 'four'?"),
    (
        "candidate-relative-to-itself",
        (f"    candidate: best\n{GATE}", f"    candidate: four\n{GATE.replace('control', 'arm:four')}"),
        "relative_to: arm:four",
        "relative to itself",
    ),
    ("negative-seed", ("seeds: [0, 1, 2]", "seeds: [0, -1, 2]"), "seeds:", "the seed -1"),
    ("negative-seed-of-a-rule", ("set: {tokens: 2M tok}", "set: {stages.last.seeds: [-1]}"), "longer", "not a list of"),
    # stop_if
    ("stop-relative", (STOP, STOP.replace("value: 9", "value: 9, relative_to: control")), "stop_if", "looked at alone"),
    ("stop-worst", (STOP, STOP.replace("value: 9", "value: 9, aggregate: worst")), "stop_if", "looked at alone"),
    ("stop-sure", (STOP, STOP.replace("value: 9", "value: 9, confidence: 90%")), "stop_if", "looked at alone"),
    ("stop-too-late", (STOP, STOP.replace("50%", "100%")), "stop_if", "after the last one"),
    ("stop-by-suite", (STOP, STOP.replace("val/loss", "text/loss")), "stop_if", "judges only what a stage has made"),
    ("stop-by-cost", (STOP, STOP.replace("val/loss", "cost/flops")), "stop_if", "only when the stage has ended"),
    ("stop-of-nobody", (STOP, STOP.replace("value: 9", "value: 9, of: arm:two")), "stop_if", "has no arm 'two'"),
    # Loops
    (
        "loop-in-a-loop",
        (FURTHER, "      - {id: deep, repeat: 2, needs: {model: settle}, stages: [\n  " + FURTHER.strip()[2:] + "]}\n"),
        "id: deep",
        "inside the loop",
    ),
    ("loop-id-taken", ("id: last", "id: settle-2-further"), "id: settle-2-further", "in a cycle of 'settle'"),
    (
        "loop-with-a-gate",
        ("    repeat: 2\n", "    repeat: 2\n    gate: [{metric: repeat/cycles, op: '>', value: 1}]\n"),
        "repeat/cycles",
        "never fails",
    ),
    (
        "loop-with-a-budget-that-nothing-would-keep",
        ("repeat: 2", "repeat: 2\n    budget: {tokens: 1k tok}"),
        "budget:",
        "`budget` of a loop",
    ),
    ("loop-with-seeds", ("repeat: 2", "repeat: 2\n    seeds: [7]"), "seeds: [7]", "`seeds` of a loop"),
    ("endless-loop", ("repeat: 2", "repeat: 1000000"), "repeat:", "at most 100"),
    (
        "patch-of-a-loop",
        ("set: {tokens: 2M tok}", "set: {stages.settle.config.tokens: 2M tok}"),
        "stages.settle",
        "is a loop",
    ),
    (
        "need-from-inside",
        ("    needs: {model: settle}\n    gate", "    needs: {model: further}\n    gate"),
        "needs: {model: further}\n",
        "inside the loop",
    ),
    # Claims
    (
        "claim-of-nothing",
        ("gate: [\n      {" + CLAIM + ', op: "<", value: 1}]', "gate: []"),
        "id: wider",
        "nothing could refute",
    ),
    (
        "claim-of-a-party",
        (CLAIM, CLAIM.replace("of: stage:shape@eight, ", "")),
        'metric: text/loss, relative_to: "arm',
        "in a claim",
    ),
    ("claim-of-no-arm", (CLAIM, CLAIM.replace("@eight", "@nine")), "@nine", "no arm 'nine'"),
    (
        "claim-of-an-output",
        (CLAIM, CLAIM.replace("shape@eight", "shape@eight.model")),
        "eight.model",
        "speaks of a stage",
    ),
    ("claim-against-itself", (CLAIM, CLAIM.replace("@eight", "@four")), "@four", "relative to itself"),
    (
        "claim-against-the-inside",
        (CLAIM, CLAIM.replace('"arm:four"', "stage:further")),
        "stage:further",
        "inside the loop",
    ),
    (
        "any-of-two-stages",
        ("{" + CLAIM + ', op: "<", value: 1}', "{any: [" + TWO_OF + "]}"),
        "stage:last",
        "alternatives about",
    ),
    (
        "valid-if-of-two-stages",
        ("source: t, gate", "source: t, valid_if: [{any: [" + TWO_OF + "]}], gate"),
        "stage:last",
        "alternatives about",
    ),
    ("claim-twice", (CLAIM, CLAIM + ', op: "<", value: 2}, {' + CLAIM), "arm:four", "a second condition"),
]

# (name, edits, words of the line, what is said)
WARNINGS = [
    ("one-value", [("[0.01, 0.02]", "[0.01]")], "sweep:", "there is nothing to choose"),
    (
        "control-that-keeps-its-value",
        [("set: {schedule.warmup: 1%}", "set: {optimizer.lr: 1}")],
        "control:",
        "finds no value of its own",
    ),
    (
        "own-control-that-keeps-its-value",
        [(GATE, "    control: {set: {optimizer: {lr: 1}}}\n" + GATE)],
        "control: {set",
        "finds no value of its own",
    ),
    (
        "two-arms-alike",
        [("eight: {}", "eight: {set: {model: {layers: 4, width: 32}}}")],
        "eight:",
        "same run as 'four'",
    ),
    (
        "a-loop-that-changes-nothing",
        [(FURTHER, "      - {id: further, kind: evaluate, needs: {model: settle}}\n")],
        "needs: {model: shape}",
        "every cycle begins with the same one",
    ),
    (
        "a-stop-inside-a-loop",
        [(FURTHER, FURTHER.replace("}}\n", "}, on_fail: [{name: end, then: stop, because: b}]}\n"))],
        "name: end",
        "ends the whole plan",
    ),
    (
        "a-patch-of-an-own-control",
        [
            (GATE, "    control: {set: {model.width: 16}}\n" + GATE),
            ("set: {tokens: 2M tok}", "set: {schedule.name: warm_restart}"),
        ],
        "name: longer",
        "of the control too",
    ),
    (
        "all-baselines",
        [('relative_to: "baseline:bigram"', 'relative_to: "baseline:*"')],
        "baseline:*",
        "fits bigram for 'last' (3 seeds each)",
    ),
    (
        "the-other-baselines",
        [
            (
                'relative_to: "baseline:bigram", op: "<", value: 1}',
                'relative_to: "baseline:bigram", op: "<", value: 1}'
                '\n      - {metric: text/perplexity, relative_to: "baseline:*", op: "<", value: 1}',
            ),
            ("order: 2}}", "order: 2}, trigram: {kind: ngram, order: 3}}"),
        ],
        "baseline:*",
        "fits trigram for 'last'",
    ),
    (
        "all-arms-judged",
        [
            ("candidate: best", "candidate: four"),
            ("relative_to: control", 'of: "arm:*", relative_to: control'),
            (CLAIM, CLAIM.replace("text/loss", "val/loss")),
        ],
        "arm:*",
        "lets 'text' judge arm:eight of 'shape' too",
    ),
    (
        "worst-of-what-has-no-items",
        [("{metric: text/accuracy, op:", "{metric: cost/flops, aggregate: worst, confidence: 95%, op:")],
        "cost/flops",
        "the worst of 3 seeds",
    ),
]
