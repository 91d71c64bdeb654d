"""What modified Kneser-Ney reaches on the very tokens that a stage of a plan trains on, without training anything.

    python benchmarks/kneser_ney_reference.py                # the stages of STAGES; seconds each
    python benchmarks/kneser_ney_reference.py --orders 5

Each table is fitted on the distinct tokens that the candidate's cell of that seed reads, as the plan's own baseline is,
and scored on all of corpus:val in the windows of the plan's suite `text`. Order 2 is the plans' bigram.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

STAGES = {
    "harmonic/claims-core": ("l1", "arm:sine"),
    "harmonic/bases": ("ten", "arm:sine"),
    "harmonic/roadmap": ("pretrain", "candidate"),
}
RESULTS = Path(__file__).parent / "results" / "kneser_ney_reference.json"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, nargs="+", default=[2, 5, 7])
    arguments.add_argument("--data", type=Path, default=Path("runs/.data"))
    options = arguments.parse_args()
    found = [row for plan, (stage, who) in STAGES.items() for row in rows(plan, stage, who, options)]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def rows(plan_name: str, stage_id: str, who: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One for each order and seed, printed as it comes."""
    from bloomery.data.prepared import Prepared
    from bloomery.engine import parties
    from bloomery.engine.discover import catalogue
    from bloomery.engine.stage import StageContext
    from bloomery.evaluate.ngram import NGram
    from bloomery.evaluate.ngram_counts import Counts
    from bloomery.evaluate.perplexity import perplexity
    from bloomery.plan.find import find_plan
    from bloomery.plan.load import load, resolve
    from bloomery.stages import training
    from bloomery.stages.baselines import distinct
    from bloomery.stages.prepare import prepare_for_run

    loaded = load(find_plan(plan_name))
    plan = resolve(loaded)
    roots = [loaded.source.parent]
    _, (folder, _, vocab) = prepare_for_run(plan.data, options.data, lambda **_: None, plan=loaded.raw, roots=roots)
    prepared, stage = Prepared.open(folder), plan.stage(stage_id)
    kind = catalogue.kind(str(stage.kind))
    config = parties.settings(plan, stage, kind, who, vocab=vocab)
    context = (plan.suites["text"].model_extra or {})["context"]
    found = []
    for order in options.orders:
        for seed in plan.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                ctx = StageContext(
                    inputs={}, data=folder, workdir=Path(scratch), checkpoint=Path(scratch) / "checkpoint", seed=seed,
                    who=who, device="cpu", threads=1, precision=training.native_precision("cpu"), vocab=vocab,
                    system=plan.system,
                )  # fmt: skip
                read = distinct(kind.tokens_read(ctx, config))
                end = prepared.tokenizer.end_of_document
                counts = Counts.of(read, order=order, vocab=vocab, end_of_document=end)
            table = NGram.of(counts)
            loss = perplexity(table, prepared.part("corpus:val"), context=context).loss
            row = {"plan": plan_name, "stage": stage_id, "order": order, "seed": seed, "loss": round(loss, 4),
                   "entries": table.entries, "bytes": int(table.tally().bytes)}  # fmt: skip
            print(json.dumps(row), flush=True)
            found.append(row)
    return found


if __name__ == "__main__":
    main()
