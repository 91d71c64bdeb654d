"""How fast one training step is, next to transformers' LlamaForCausalLM of the same shape in a bare loop.

    python benchmarks/train_step.py                    # about 5 minutes on one core
    python benchmarks/train_step.py --no-compile --rounds 3

Both sides hold the same weights (copied over) and read the same random tokens. First the losses and gradients are
compared; only then do the contenders take turns, a round each, in one process; the best round by process CPU time
counts. Ours runs `bloomery.train.loop.train_step`, the code under `fit()`; theirs is forward, backward, clip, fused
AdamW, under torch.autocast(bfloat16) or in plain float32. Both sides run in both dtypes, so that each ratio is one of
equal precision; on a processor without bfloat16 instructions only those in float32 mean anything. Printed beside: the
matmul peak of this machine in both dtypes, and each contender's share of the better one (6 matmul parameters + 12
layers width context per token, PaLM's convention).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.train.compiling import compiled_forward
from bloomery.train.device import DTYPES, choose_dtype, multiplies_bfloat16, reproducibly
from bloomery.train.loop import FitConfig, train_step
from bloomery.train.optim import Optimisers, OptimizerConfig
from bloomery.train.parallel import World

LAYERS, WIDTH, HEADS, INNER, VOCAB, CONTEXT, BATCH = 6, 256, 4, 768, 8192, 256, 16
CLIP, RATE = 1.0, 1e-3
RESULTS = Path(__file__).parent / "results" / "train_step.json"


@dataclass(frozen=True, slots=True)
class RandomBatch:
    tokens: Tensor
    targets: Tensor
    mask: None = None
    segments: None = None


class Ours:
    def __init__(self, dtype: str, compile: bool, weights: dict[str, Tensor]) -> None:
        self.model = Transformer(
            DenseConfig(layers=LAYERS, width=WIDTH, heads=HEADS, feed_forward=INNER), VOCAB, compute_dtype=DTYPES[dtype]
        )
        self.model.load_state_dict(weights)
        self.config = FitConfig(1, optimizer=OptimizerConfig(lr=RATE, relative=False), clip=CLIP)
        self.optimisers = Optimisers(self.model, self.config.optimizer)
        self.forward = compiled_forward(self.model, compile)

    def step(self, batch: RandomBatch) -> float:
        return train_step(self.model, self.forward, batch, self.optimisers, self.config, 1.0, World(), 1)[0]


class Theirs:
    def __init__(self, dtype: str, compile: bool, weights: dict[str, Tensor]) -> None:
        self.model = llama(weights)
        self.dtype = DTYPES[dtype]
        self.call = torch.compile(self.model, dynamic=False) if compile else self.model
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

    def step(self, batch: RandomBatch) -> float:
        loss = their_loss(self.call, batch, self.dtype)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())


def llama(weights: dict[str, Tensor]) -> torch.nn.Module:
    """LlamaForCausalLM of our shape with our weights; tied embeddings, SDPA, no cache."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa",
        )
    )  # fmt: skip
    model.load_state_dict({their_name(name): value for name, value in weights.items()}, strict=False)
    model.tie_weights()
    return model.train()


def their_name(name: str) -> str:
    """Our parameter name in their model: the two agree in layout, rotary pairs included."""
    for ours, theirs in (
        ("blocks.", "model.layers."), ("attention_norm", "input_layernorm"),
        ("feed_forward_norm", "post_attention_layernorm"), ("attention.query", "self_attn.q_proj"),
        ("attention.key", "self_attn.k_proj"), ("attention.value", "self_attn.v_proj"),
        ("attention.output", "self_attn.o_proj"), ("feed_forward.", "mlp."), (".gate.", ".gate_proj."),
        (".up.", ".up_proj."), (".down.", ".down_proj."),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return {"embedding": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}.get(name, name)


def their_loss(call: Callable[..., object], batch: RandomBatch, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = call(input_ids=batch.tokens).logits  # pyright: ignore[reportAttributeAccessIssue]
    return F.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten())


def equality(dtype: str, weights: dict[str, Tensor], batch: RandomBatch) -> dict[str, float]:
    """Loss of both, and how far apart their gradients are, before anything is timed."""
    from bloomery.train.objectives import summed_loss

    ours = Ours(dtype, False, weights)
    output = ours.forward(batch.tokens, None)
    objective, nats = summed_loss(ours.model, output, batch.targets, {})
    (objective / batch.targets.numel()).backward()
    theirs = llama(weights)
    loss = their_loss(theirs, batch, DTYPES[dtype])
    loss.backward()
    other = dict(theirs.named_parameters())
    mine = torch.cat([p.grad.flatten() for _, p in ours.model.named_parameters()]).double()  # pyright: ignore[reportOptionalMemberAccess]
    others = torch.cat([other[their_name(n)].grad.flatten() for n, _ in ours.model.named_parameters()]).double()  # pyright: ignore[reportOptionalMemberAccess]
    found = {
        "loss_ours": float(nats) / batch.targets.numel(),
        "loss_theirs": float(loss.detach()),
        "gradient_relative_error": float((mine - others).norm() / others.norm()),
        "gradient_cosine": float(F.cosine_similarity(mine, others, dim=0)),
    }
    tolerance = {"float32": (1e-4, 1e-3), "bfloat16": (5e-3, 5e-2)}[dtype]
    if abs(found["loss_ours"] - found["loss_theirs"]) > tolerance[0] or found["gradient_relative_error"] > tolerance[1]:
        raise SystemExit(f"not the same computation, nothing is timed: {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps per round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    with reproducibly(wanted.threads, "cpu"):
        torch.use_deterministic_algorithms(False)  # a bare loop has no such mode; ours is timed without it, too
        report = measure(wanted.rounds, wanted.steps, not wanted.no_compile)
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(report, indent=1) + "\n")


def measure(rounds: int, steps: int, compile: bool) -> dict[str, object]:
    load_before = os.getloadavg()[0]
    torch.manual_seed(0)
    tokens = torch.randint(0, VOCAB, (BATCH, CONTEXT + 1))
    batch = RandomBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    shape = DenseConfig(layers=LAYERS, width=WIDTH, heads=HEADS, feed_forward=INNER)
    weights = Transformer(shape, VOCAB).state_dict()
    flops = 3 * (shape.tally(VOCAB).flops_per_token + shape.attention_flops_per_token(CONTEXT))
    same = {name: equality(name, weights, batch) for name in ("float32", "bfloat16")}
    for name, found in same.items():
        print(f"equal in {name}: " + ", ".join(f"{key} {value:.6f}" for key, value in found.items()))
    kinds = [(dtype, compiled) for compiled in ([False, True] if compile else [False]) for dtype in same]
    contenders: dict[str, Ours | Theirs] = {}
    for dtype, compiled in kinds:
        contenders[contender_name("bloomery", dtype, compiled)] = Ours(dtype, compiled, weights)
        contenders[contender_name("transformers", dtype, compiled)] = Theirs(dtype, compiled, weights)
    for contender in contenders.values():
        contender.step(batch)
    best = dict.fromkeys(contenders, float("inf"))
    peaks = dict.fromkeys(("float32", "bfloat16"), 0.0)
    for _ in range(rounds):
        for name in peaks:
            peaks[name] = max(peaks[name], matmul_flops(DTYPES[name]))
        for name, contender in contenders.items():
            start = time.process_time()
            for _ in range(steps):
                contender.step(batch)
            best[name] = min(best[name], (time.process_time() - start) / steps)
    speed = {name: BATCH * CONTEXT / seconds for name, seconds in best.items()}
    share = {name: value * flops / max(peaks.values()) for name, value in speed.items()}
    print(f"matmul peak: {peaks['float32'] / 1e9:.0f} GFLOP/s float32, {peaks['bfloat16'] / 1e9:.0f} bfloat16")
    for name in contenders:
        print(f"{name:34} {speed[name]:8.0f} tokens/s  {share[name]:6.1%} of the matmul peak")
    ratios = {}
    for dtype, compiled in kinds:
        ours, theirs = (contender_name(who, dtype, compiled) for who in ("bloomery", "transformers"))
        ratios[f"{ours} over {theirs}"] = speed[ours] / speed[theirs]
        print(f"{ours} / {theirs}: {speed[ours] / speed[theirs]:.2f}")
    return {
        "shape": {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "feed_forward": INNER, "vocab": VOCAB,
                  "context": CONTEXT, "batch": BATCH, "threads": torch.get_num_threads()},
        "rounds": rounds, "precision_auto": choose_dtype("auto", "cpu").value,
        "machine": {"processor": processor(), "bfloat16": multiplies_bfloat16("cpu")[1], "torch": torch.__version__,
                    "load": [load_before, os.getloadavg()[0]]},
        "matmul_peak_flops": peaks, "equality": same, "tokens_per_cpu_second": speed,
        "share_of_matmul_peak": share, "ratios": ratios,
    }  # fmt: skip


def contender_name(who: str, dtype: str, compiled: bool) -> str:
    return f"{who} {dtype}{' compiled' if compiled else ''}"


def matmul_flops(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP per CPU second of one square product: measured between the rounds and by the same clock."""
    a = torch.ones(size, size, dtype=dtype)
    torch.mm(a, a)
    start = time.process_time()
    torch.mm(a, a)
    return 2.0 * size**3 / (time.process_time() - start)


def processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
