"""Attention and feed-forward layers set from counts, without backpropagation (the seed's level 5).

Layer by layer, of a bigram model: what reads is set by hand and by counts, and what it writes is solved for.

    skip-bigram attention   layer l looks o = l + 1 places back, whatever stands there: queries and keys are one
                            constant vector each, turned by rotary positions so that scores are largest at o; values are
                            the stream
    n-gram feed-forward     a unit for each of the pairs (token before, token) that are followed least as expected, by
                            sum_w (N - n)^2 / (n + 1); gate and up tell its pair from all text by the mean and the
                            covariance (Fisher 1936)
    what is written         B of x += B f, f [k] what comes in: the one Fisher scoring step from B = 0 (Nelder and
                            Wedderburn 1972) of a softmax regression on f through the head H [v d],
                            B^T = (sum f f^T)^-1 (sum f (H_y - sum_w p_w H_w)^T) (mean cov_p H)^-1

N counts what followed, n = sum p(w | context) what the model as it is expects: what it says already is not said twice.
The step has no rate, but is one of a linear regression: it is scaled by what of SCALES does best on training rows that
nothing was counted on; 0 silences it. All is written through the head, which stays: where the bigram table is flat
there is little to write with.

Refuses grouped keys and other mixings than softmax, and linears that are not stored as matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.data.mix import Batch
from bloomery.errors import TrainingError
from bloomery.model.dense import Block, Transformer
from bloomery.model.layers import Attention, FeedForward, Linear, Softmax

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
PASSES = 2 * len(SCALES) // 10 + 5
"""Through the text, for a layer; scales are tried on a tenth of it."""
RIDGE = 1e-3
"""Relative to the mean of the diagonal."""
MARGIN = 8.0
"""By which the score of every other place is lower at least."""
SHARPNESS = 8.0
"""Of a unit's gate: its argument goes from -4 to 4 between the mean of all text and that of its pair."""
ROWS = 32
"""At once."""


def check(model: Transformer) -> None:
    """Raises TrainingError for a model whose layers cannot be set."""
    for name, module in model.named_modules():
        if isinstance(module, Attention) and (
            not isinstance(module.mixing, Softmax) or module.heads != module.kv_heads
        ):
            what = "other than softmax attention with a key for every query head"
            raise TrainingError(name, what, "attention: softmax, and as many kv_heads as heads")
        if isinstance(module, Attention | FeedForward):
            for part, linear in module.named_children():
                if part != "mixing" and not isinstance(linear, Linear):
                    raise TrainingError(
                        f"{name}.{part}", f"a {type(linear).__name__}", "a stored matrix", "model: {system: dense}"
                    )


@torch.no_grad()
def set_layers(model: Transformer, counted: Batch, reserved: Batch, *, layers: int) -> list[tuple[float, float]]:
    """The scales (of attention, of feed-forward) that the first `layers` layers were given; others are left alone.

    counted: training rows. reserved: others, from which the model, which should be a bigram model, was not made."""
    check(model)
    text, found = Text(model, counted), []
    for block in (cast(Block, block) for block in list(model.blocks)[:layers]):
        _look_back(model, block, len(found) + 1, text)
        attention = _write(model, cast(Linear, block.attention.output), text, Text(model, reserved))
        _tell_pairs(model, block, text)
        found.append((attention, _write(model, cast(Linear, block.feed_forward.down), text, Text(model, reserved))))
    return found


def split(rows: Batch, share: float = 0.1) -> tuple[Batch, Batch]:
    """The rows without the last `share` of them, and those."""
    at = len(rows.tokens) - max(1, int(share * len(rows.tokens)))
    return part(rows, slice(None, at)), part(rows, slice(at, None))


def part(rows: Batch, which: slice) -> Batch:
    return Batch(rows.tokens[which], rows.targets[which], None if rows.mask is None else rows.mask[which])


def joined(batches: Iterable[Batch]) -> Batch:
    """All rows in one."""
    each = list(batches)
    masks = [torch.ones_like(one.tokens, dtype=torch.bool) if one.mask is None else one.mask for one in each]
    return Batch(
        torch.cat([one.tokens for one in each]), torch.cat([one.targets for one in each]), torch.cat(masks)
    )  # fmt: skip


class Text:
    """Rows, and what the model makes of them."""

    def __init__(self, model: Transformer, rows: Batch) -> None:
        self.model, self.rows = model, rows

    def read(self, into: nn.Module) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(x, pairs, targets, p) of the learned positions n of some rows at a time: x [n k] is what comes into the
        linear or norm `into`, pairs [n] the token before * v + token (-1 in the first place), p [n v]."""
        held: list[Tensor] = []
        hook = into.register_forward_pre_hook(lambda _module, inputs: held.append(inputs[0]))
        try:
            for first in range(0, len(self.rows.tokens), ROWS):
                some, device = slice(first, first + ROWS), self.model.embedding.device
                tokens, targets = self.rows.tokens[some].to(device), self.rows.targets[some].to(device)
                mask = self.rows.mask
                learned = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask[some].to(device)
                logits = self.model(tokens).logits
                assert logits is not None
                pairs = F.pad(tokens[:, :-1] * self.model.vocab + tokens[:, 1:], (1, 0), value=-1)
                p = torch.softmax(logits[learned].float(), dim=-1)
                yield held.pop()[learned].float(), pairs[learned], targets[learned], p
        finally:
            hook.remove()

    def loss(self) -> float:
        total, count = 0.0, 0
        for _, _, targets, p in self.read(self.model.norm):
            total -= float(p.gather(-1, targets[:, None]).log().sum())
            count += len(targets)
        return total / max(count, 1)


def _write(model: Transformer, linear: Linear, text: Text, reserved: Text) -> float:
    """Set `linear`, which adds nothing yet, and return its scale."""
    linear.weight.zero_()
    head, inputs, width = _head(model), linear.weight.shape[1], model.config.width
    gram, cross = head.new_zeros(inputs, inputs), head.new_zeros(inputs, width)
    spread, expected, count = head.new_zeros(width, width), head.new_zeros(model.vocab), 0
    for x, _, targets, p in text.read(linear):
        said = p @ head
        gram += x.t() @ x
        cross += x.t() @ (head[targets] - said)
        spread -= said.t() @ said
        expected += p.sum(0)
        count += len(x)
    spread += head.t() @ (expected[:, None] * head)
    step = _solve(spread / count, _solve(gram, cross).t())
    losses = []
    for scale in SCALES:
        linear.weight.copy_(scale * step)
        losses.append(reserved.loss())
    best = SCALES[losses.index(min(losses))]
    linear.weight.copy_(best * step)
    return best


def _head(model: Transformer) -> Float[Tensor, "v d"]:
    """What reads the stream where its root mean square is one."""
    return model.head_weight().float() * model.norm.weight.float()


def _solve(gram: Float[Tensor, "d d"], right: Float[Tensor, "d k"]) -> Float[Tensor, "d k"]:
    ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), device=gram.device)
    return torch.linalg.solve(gram.double() + ridge, right.double()).float()


def _moments(text: Text, into: nn.Module) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean of x, and of x x^T."""
    mean, square, count = 0.0, 0.0, 0
    for x, *_ in text.read(into):
        mean, square, count = mean + x.sum(0), square + x.t() @ x, count + len(x)
    return cast(Tensor, mean) / count, cast(Tensor, square) / count


def _look_back(model: Transformer, block: Block, offset: int, text: Text) -> None:
    """Every head reads what stands `offset` places before."""
    attention, half = block.attention, block.attention.head_width // 2
    mean, square = _moments(text, cast(Linear, attention.query))
    one = _solve(square, mean[:, None])[:, 0]  # x . one is about 1, whatever stands there
    turn = model.config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    # Pairs of features that turn slowly tell no places apart, but weigh a key by how far its constant is from one.
    places = torch.arange(1, text.rows.tokens.shape[1] + 1, dtype=torch.float64)
    apart = (1 - torch.cos(places[:, None] * turn)).cumsum(1).amin(0)
    used = int((apart / torch.arange(1, half + 1)).argmax()) + 1
    strength = (MARGIN / apart[used - 1] * attention.head_width**0.5).sqrt() * (torch.arange(half) < used)
    key = torch.cat((strength, torch.zeros(half)))
    query = torch.cat((strength * torch.cos(offset * turn), -strength * torch.sin(offset * turn)))
    for linear, vector in ((attention.query, query), (attention.key, key)):
        every_head = vector.repeat(attention.heads).to(one)
        cast(Linear, linear).weight.copy_(every_head[:, None] * one)
    cast(Linear, attention.value).weight.copy_(torch.eye(model.config.width))


def _tell_pairs(model: Transformer, block: Block, text: Text) -> None:
    """Units whose gate's argument is SHARPNESS / 2 at its pair's mean and -SHARPNESS / 2 at that of all text."""
    part, vocab, units = block.feed_forward, model.vocab, model.config.feed_forward_width
    gate, up = cast(Linear, part.gate), cast(Linear, part.up)
    mean, square = _moments(text, gate)
    means = _unexpected(text, gate, _frequent(text.rows, vocab, 4 * units), units)
    one, apart = _solve(square, mean[:, None])[:, 0], means - mean
    found = _solve(square - torch.outer(mean, mean), apart.t()).t()
    found = found / (apart * found).sum(1, keepdim=True).clamp(min=1e-6)
    for linear in (gate, up):
        linear.weight.zero_()
    gate.weight[: len(means)] = SHARPNESS * (found - ((found @ mean)[:, None] + 0.5) * one)
    up.weight[: len(means)] = one / F.silu(torch.tensor(SHARPNESS / 2))


def _unexpected(text: Text, into: nn.Module, pairs: Int[Tensor, " k"], units: int) -> Float[Tensor, "u d"]:
    """Means of x over those of `pairs` that are followed least as expected."""
    vocab, device = text.model.vocab, text.model.embedding.device
    pairs = pairs.to(device)
    observed, expected = torch.zeros(len(pairs), vocab, device=device), torch.zeros(len(pairs), vocab, device=device)
    sums = torch.zeros(len(pairs), text.model.config.width, device=device)
    for x, ended, targets, p in text.read(into):
        place = torch.searchsorted(pairs, ended).clamp(max=len(pairs) - 1)
        known = pairs[place] == ended
        place = place[known]
        observed += torch.bincount(place * vocab + targets[known], minlength=observed.numel()).view_as(observed)
        expected.index_add_(0, place, p[known])
        sums.index_add_(0, place, x[known])
    best = ((observed - expected).square() / (expected + 1)).sum(1).topk(min(units, len(pairs))).indices
    return sums[best] / observed[best].sum(1, keepdim=True).clamp(min=1)


def _frequent(rows: Batch, vocab: int, most: int) -> Int[Tensor, " k"]:
    """The most frequent pairs of neighbours, as first * vocab + second, in order of that number."""
    pairs, times = torch.unique(rows.tokens[:, :-1] * vocab + rows.tokens[:, 1:], return_counts=True)
    return pairs[times.topk(min(most, len(pairs))).indices].sort().values
