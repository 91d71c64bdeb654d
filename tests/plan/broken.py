"""Plans with one mistake each. `BROKEN` is [(id, YAML text, what the one error must say)]; `GOOD` is without mistakes.

An entry of `_EDITS` is (id, the text of GOOD that is replaced, its replacement, line:column or line, what is said).
"""

GOOD = """\
bloomery: 1
name: test/good
system: harmonic
hypothesis: A harmonic model is no worse than a dense one of equal size.
variable: how linear weights are stored
seeds: [0, 1]
budget: {wall: 8 min, tokens: 30M tok, memory: 4 GiB}
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
      model: {layers: 4, width: 256}
      tokens: 1M tok
      optimizer: {name: adamw, lr: 0.02}
      schedule: {name: cosine, warmup: 5%}
    gate:
      - {metric: text/loss, relative_to: control, op: "<=", value: 1.00}
      - {metric: text/loss, relative_to: baseline:bigram, op: "<", value: 1.00}
    on_fail:
      - name: plateau
        when: [{metric: train/plateau, op: ">=", value: 1}]
        set: {optimizer.lr: 0.04}
        from: checkpoint
        because: learning rate too low
  - id: judge
    kind: evaluate
    needs: {model: pretrain}
    gate: [{metric: text/perplexity, op: "<", value: 60}]
"""

_JUDGE_GATE = '    gate: [{metric: text/perplexity, op: "<", value: 60}]\n'

_EDITS: list[tuple[str, str, str, str, str]] = [
    # YAML
    ("unclosed-brace", "seeds: [0, 1]\n", "seeds: [0, 1\n", "7:", "not YAML"),
    ("tab", "  - id: judge\n    kind", "  - id: judge\n\tkind", "33:", "tab"),
    ("duplicate-key", "    gate:\n", "    gate: []\n    gate:\n", "24:5", "'gate' a second time"),
    ("merge-key", "  tokenizer: {kind: bpe, vocab: 2048}", "  tokenizer: {<<: {}, kind: bpe}", "11:15", "merge key"),
    ("object-tag", "name: test/good", "name: !!python/object:os.system test/good", "2:", "tag"),
    ("not-finite", "lr: 0.02}", "lr: .nan}", "21:", "not a finite number"),
    ("unknown-alias", "seeds: [0, 1]", "seeds: *some", "6:", "undefined alias"),
    # The schema
    ("unknown-key", "hypothesis:", "hypotesis:", "4:1", "did you mean 'hypothesis'?"),
    ("unknown-stage-key", "    needs: {model", "    need: {model", "34:5", "did you mean 'needs'?"),
    ("missing-key", "name: test/good\n", "", "1:1", "'name' is missing"),
    ("misspelt-required", "{metric: text/perplexity,", "{metrc: text/perplexity,", "35:13", "did you mean 'metric'?"),
    ("wrong-unit", "wall: 8 min", "wall: 8 GiB", "7:10", "has the unit 'GiB'"),
    ("no-unit-at-all", "memory: 4 GiB", "memory: four", "7:", "'four' is not a quantity"),
    ("negative-budget", "tokens: 30M tok", "tokens: -5 tok", "7:", "negative"),
    ("share-above-one", "tolerance: 2%", "tolerance: 200%", "8:", "more than the whole"),
    ("wrong-type", "seeds: [0, 1]", "seeds: two", "6:", "a list"),
    ("wrong-choice", "match: stored", "match: storde", "8:", "did you mean 'stored'?"),
    ("wrong-operator", 'op: "<", value: 60', 'op: "=<", value: 60', "35:", "did you mean '<='?"),
    ("not-a-boolean", "    needs: {model", "    optional: yes\n    needs: {model", "34:", "true or false"),
    ("stage-without-kind", "    kind: evaluate\n", "", "32:", "without `kind`"),
    # What stands under config belongs to the kind
    ("unknown-setting", "lr: 0.02}", "lrr: 0.02}", "21:", "did you mean 'lr'?"),
    ("wrong-tokens", "      tokens: 1M tok", "      tokens: 1M sec", "20:", "has the unit 'M sec'"),
    ("no-layers", "{layers: 4, width", "{layers: 0, width", "19:", "greater than or equal to 1"),
    # References
    ("unknown-stage", "{model: pretrain}", "{model: pretrian}", "34:", "did you mean 'pretrain'?"),
    (
        "forward-need",
        "    kind: pretrain\n",
        "    kind: pretrain\n    needs: {model: later}\n",
        "18:",
        "no stage 'later'",
    ),
    ("cyclic-needs", "    kind: pretrain\n", "    kind: pretrain\n    needs: {model: judge}\n", "18:", "a circle"),
    ("needs-itself", "{model: pretrain}", "{model: judge}", "34:", "this stage itself"),
    ("unknown-output", "{model: pretrain}", "{model: pretrain.weights}", "34:", "hands on no 'weights'"),
    ("unknown-input", "{model: pretrain}", "{model: inputs.base}", "34:", "no input 'base'"),
    ("missing-input", "    needs: {model: pretrain}\n", "", "32:", "needs the input 'model'"),
    ("may-be-absent", "  - id: judge\n", "    optional: true\n  - id: judge\n", "35:", "may be absent"),
    ("duplicate-id", "  - id: judge", "  - id: pretrain", "32:", "a second stage 'pretrain'"),
    ("missing-file", "stages:\n", "inputs: {base: {file: no/such.bin}}\nstages:\n", "15:", "no file 'no/such.bin'"),
    ("unknown-suite", _JUDGE_GATE, "    evaluate: [txt]\n", "35:", "did you mean 'text'?"),
    ("kind-typo", "    kind: evaluate", "    kind: evalaute", "33:", "did you mean 'evaluate'?"),
    ("unknown-split", "data: corpus:val", "data: corpus:vla", "14:", "did you mean 'val'?"),
    # Conditions
    ("unknown-metric", "metric: train/plateau", "metric: train/plato", "28:", "nothing measures train/plato"),
    ("unknown-quantity", "text/perplexity", "text/perplexty", "35:", "did you mean 'text/perplexity'?"),
    (
        "no-split-to-validate-on",
        "      tokens: 1M tok",
        "      tokens: 1M tok\n      validation: {split: valid}",
        "21:20",
        "did you mean 'val'?",
    ),
    (
        "patch-no-split-to-validate-on",
        "{optimizer.lr: 0.04}",
        "{validation.split: vla}",
        "29:",
        "'corpus' has no split 'vla'",
    ),
    ("checkpoint-of-another-shape", "{optimizer.lr: 0.04}", "{model.width: 320}", "30:", "goes on from the state of"),
    ("no-metric-name", "text/perplexity", "Text-Loss", "35:", "no metric name"),
    (
        "duplicate-condition",
        "value: 60}]",
        'value: 60}, {metric: text/perplexity, op: "<", value: 9}]',
        "35:",
        "a second",
    ),
    (
        "no-control",
        "control: {twin: dense, match: stored, tolerance: 2%, set: {optimizer.lr: 0.06}}\n",
        "",
        "23:",
        "no control",
    ),
    ("unknown-baseline", "baseline:bigram", "baseline:bigrma", "25:", "did you mean 'baseline:bigram'?"),
    ("unknown-party", "relative_to: control", "relative_to: contol", "24:", "did you mean 'control'?"),
    ("later-stage", "relative_to: control", "relative_to: stage:judge", "24:", "'judge' comes later"),
    ("unit-of-a-loss", "value: 60}", "value: 60 min}", "35:", "is not in seconds"),
    ("misplaced-after", "value: 60}", "value: 60, after: 10%}", "35:", "only under `stop_if`"),
    # Rules and patches
    ("patch-unknown-key", "{optimizer.lr: 0.04}", "{optimizer.lrr: 0.04}", "29:", "did you mean 'optimizer.lr'?"),
    ("patch-bad-value", "{optimizer.lr: 0.04}", "{optimizer.lr: fast}", "29:", "'fast'"),
    ("patch-no-stage", "{optimizer.lr: 0.04}", "{stages.pretrian.seeds: [0]}", "29:", "did you mean 'pretrain'?"),
    ("rule-does-nothing", "        set: {optimizer.lr: 0.04}\n        from: checkpoint\n", "", "27:", "does nothing"),
    ("attempts-from-start", "        from: checkpoint\n", "        max_attempts: 3\n", "30:", "from: checkpoint"),
    ("control-with-tokens", "{optimizer.lr: 0.06}", "{tokens: 2M tok}", "8:", "tokens of its own"),
    # Data and budgets
    ("suite-on-training-data", "data: corpus:val", "data: corpus:train", "14:", "fitted on"),
    (
        "shares-below-one",
        "      tokens: 1M tok",
        "      data: {corpus: 90%}\n      tokens: 1M tok",
        "20:",
        "add up to 0.9",
    ),
    ("impossible-budget", "tokens: 30M tok", "tokens: 1M tok", "7:", "one walk asks for 2M"),
    ("no-budget-at-all", "wall: 8 min", "wall: 0 min", "7:", "nothing could run"),
    ("stage-cap-over-plan-cap", _JUDGE_GATE, "    budget: {wall: 1 h}\n", "35:", "the plan's own cap, 8 min"),
]


def _edited(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


PLACES = {name: line for name, _, _, line, _ in _EDITS}
"""{id: `line:` or `line:column` at which the error stands}."""

BROKEN: list[tuple[str, str, str]] = [(name, _edited(old, new), said) for name, old, new, _, said in _EDITS] + [
    ("empty", "", "an empty file"),
    ("a-list", "- 1\n- 2\n", "a list of 2"),
    ("two-documents", GOOD + "---\n" + GOOD, "a second document"),
    ("no-stages", GOOD.split("stages:")[0] + "stages: []\n", "at least 1"),
]
