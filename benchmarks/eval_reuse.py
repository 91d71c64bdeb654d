"""How many tokens a model reads to answer lm-evaluation-harness tasks, against one forward pass a request.

    BLOOMERY_DATA=... python benchmarks/eval_reuse.py [--items 40]

Two small dense models: one whose cache can be cut back (crop), and the same one allowed only to copy its state, as a
recurrence would (snapshot). Tokens are counted with padding; the one-by-one column is exact. CPU seconds are of scoring
alone, the slow way on the same requests. Needs the extra `eval` and the tasks' files. The target is that of issue 4:
MMLU with five examples reads at least 8 times fewer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import Tokenizer, train_bpe
from bloomery.evaluate import lmeval
from bloomery.evaluate.lmeval_model import adapter
from bloomery.evaluate.scoring import Request, fed, score_all
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer

RESULTS = Path(__file__).parent / "results" / "eval_reuse.json"
TARGET = 8.0
WINDOW = 2048
TASKS = (("mmlu", 5), ("mmlu", 0), ("truthfulqa", 0), ("hellaswag", 0), ("arc_challenge", 0), ("arc_challenge", 5),
         ("winogrande", 0), ("winogrande", 5))  # fmt: skip
VOCAB = 4096


class Asked:
    """Keeps the requests of a task, and answers none of them truly."""

    vocab = VOCAB

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.requests: list[Request] = []
        self.model = adapter(self, tokenizer, window=WINDOW)  # type: ignore[arg-type]
        self.model._loglikelihood_tokens = self._keep

    def _keep(self, requests: list[Any], **unused: Any) -> list[tuple[float, bool]]:
        self.requests += [Request(tuple(context), tuple(continuation)) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)


def requests(task: str, shots: int, folder: Path, items: int, tokenizer: Tokenizer) -> list[Request]:
    asked = Asked(tokenizer)
    built = {part: lmeval.build(part, folder, shots) for part in lmeval.parts_of(task, folder)}
    lmeval.evaluate(asked.model, built, items)
    return asked.requests


def one_by_one(model: Transformer, wanted: list[Request]) -> list[float]:
    found = []
    with torch.inference_mode():
        for request in wanted:
            tokens = fed(request, WINDOW)
            count = len(request.continuation)
            logprobs = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits[0, -count:].float(), dim=-1)
            found.append(float(logprobs.gather(1, torch.tensor(tokens[-count:])[:, None]).double().sum()))
    return found


def row(task: str, shots: int, folder: Path, items: int, tokenizer: Tokenizer, timed: int) -> dict[str, Any]:
    wanted = requests(task, shots, folder, items, tokenizer)
    torch.manual_seed(0)
    model = Transformer(DenseConfig(layers=2, width=128, heads=4), VOCAB).eval()
    start = time.process_time()
    crop = score_all(model, wanted, window=WINDOW)
    seconds = time.process_time() - start
    model.sharing = "snapshot"
    snapshot = score_all(model, wanted, window=WINDOW)
    some = wanted[:timed]
    start = time.process_time()
    slow = one_by_one(model, some)
    slow_seconds = (time.process_time() - start) * len(wanted) / len(some)
    worst = max(abs(one.logprob / two - 1) for one, two in zip(crop.scores, slow, strict=False))
    each = sum(len(fed(request, WINDOW)) - 1 for request in wanted)
    found = {
        "task": task, "shots": shots, "requests": len(wanted), "tokens_one_by_one": each, "tokens": crop.tokens,
        "times_fewer": round(each / crop.tokens, 2), "tokens_snapshot": snapshot.tokens,
        "times_fewer_snapshot": round(each / snapshot.tokens, 2), "passes": crop.passes,
        "truncated": sum(len(one.context) + len(one.continuation) > WINDOW + 1 for one in wanted),
        "cpu_seconds": round(seconds, 2), "cpu_seconds_one_by_one": round(slow_seconds, 2),
        "largest_relative_difference": float(f"{worst:.1e}"),
    }  # fmt: skip
    print(
        f"{task:<14} {shots:>5} {len(wanted):>8,} {each:>10,} {crop.tokens:>9,} {found['times_fewer']:>6.1f}x"
        f" {snapshot.tokens:>9,} {found['times_fewer_snapshot']:>6.1f}x"
        f" {seconds:>7.1f} {slow_seconds:>9.1f} {worst:>9.1e}"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--items", type=int, default=40, help="of each task, and of each subject of MMLU")
    parser.add_argument("--timed", type=int, default=100, help="requests that are also scored one by one")
    options = parser.parse_args()
    if "BLOOMERY_DATA" not in os.environ:
        sys.exit("set BLOOMERY_DATA to the folder that holds mmlu/, hellaswag/ and so on")
    folder = Path(os.environ["BLOOMERY_DATA"])
    torch.set_num_threads(1)
    lmeval.check_installed()
    tokenizer = train_bpe((document.text for document in StandardLibrary().documents()), VOCAB)
    print(f"{'task':<14} {'shots':>5} {'requests':>8} {'one by one':>10} {'crop':>9} {'':>7} {'snapshot':>9} {'':>7}"
          f" {'CPU s':>7} {'by one':>9} {'differ':>9}")  # fmt: skip
    rows = [row(task, shots, folder, options.items, tokenizer, options.timed) for task, shots in TASKS]
    first = rows[0]["times_fewer"]
    print(f"MMLU 5-shot: {first:.1f} times fewer, the target is {TARGET:g}: {'met' if first >= TARGET else 'MISSED'}")
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(), "python": platform.python_version(),
        "torch": torch.__version__, "lm_eval": lmeval.VERSION, "items": options.items, "window": WINDOW,
        "vocab": VOCAB, "target_times_fewer": TARGET, "met": first >= TARGET, "tasks": rows,
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
