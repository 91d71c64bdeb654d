"""Embedding and head in closed form from the bigram table of the training tokens: what K0 begins a model with.

A transformer whose blocks add nothing is a bigram model, logits(t) = head norm(embedding[t]). With p(w | t) the
smoothed table, p(w) its marginal, pi(t) how often t comes before another token, and M = log p(w | t) / p(w):

    features   F = rows of M V of root mean square one; V: right singular vectors of diag(sqrt(pi)) M, the d - 1 largest
    head       H = (F^T diag(pi) F + ridge)^-1 F^T diag(pi) M, and log p(w) as a bias
    bias       there is no such parameter: feature 0 is the same for every token, and its column of the head is the bias
    fit        Adam on sum_t pi(t) sum_w -p(w | t) log softmax(...)

Rows are normalised before the head is fitted, because the model's norm does it anyhow: factors that ignore it are worse
than a unigram (`naive`: H = S V^T as the singular values have it). With one matrix for both, logits are norm(E[t]) g
E[w] with the gains g of the last norm, so only the symmetric part of M can be had: E and the signs of g from its
eigenvectors, the bias from two features, (1 + b)(1 + b') / 2 - (1 - b)(1 - b') / 2 = b + b'. Refuses vocabularies whose
table would not fit into memory. Source: specification of the harmonic system, 2.2; Levy and Goldberg 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.data.mix import Batch
from bloomery.errors import TrainingError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_counts import runs

LARGEST_VOCAB = 8192
"""Of which a table of float32 takes 256 MiB."""
OVERSAMPLING, POWER_ITERATIONS = 16, 4
RIDGE = 1e-4
"""Relative to the mean square of a feature, which is one."""
FIT_RATE = 0.05
"""Of Adam, at its highest; features and bias are of scale one."""


@dataclass(frozen=True, slots=True)
class BigramTable:
    """p(w | t): rows are the token before. All in the dtype of `log_probability`."""

    log_probability: Float[Tensor, "v v"]
    weight: Float[Tensor, " v"]
    """pi: how often each token came before another, plus one; sums to one."""

    @property
    def unigram(self) -> Float[Tensor, " v"]:
        """log p(w), the marginal of the table."""
        return torch.logsumexp(self.log_probability + self.weight.log()[:, None], dim=0)

    def log_odds(self, *, positive: bool = False) -> Float[Tensor, "v v"]:
        """M; positive: zero where it is below (PPMI)."""
        odds = self.log_probability - self.unigram
        return odds.clamp(min=0.0) if positive else odds

    def entropy(self) -> Float[Tensor, ""]:
        """Nats per token that the table itself needs for tokens that follow it."""
        return -(self.weight[:, None] * self.log_probability.exp() * self.log_probability).sum()


@dataclass(frozen=True, slots=True)
class Factors:
    """What the model is given. `head` is None where the embedding serves as head too; `gain` is the last norm's."""

    embedding: Float[Tensor, "v d"]
    head: Float[Tensor, "v d"] | None
    gain: Float[Tensor, " d"]

    def logits(self, epsilon: float) -> Float[Tensor, "v v"]:
        """Of the model whose blocks add nothing, for every token."""
        mean_square = self.embedding.square().mean(dim=1, keepdim=True)
        hidden = self.embedding * torch.rsqrt(mean_square + epsilon) * self.gain
        return hidden @ (self.embedding if self.head is None else self.head).T

    def loss(self, table: BigramTable, epsilon: float) -> Float[Tensor, ""]:
        """Nats per token under the table; the table's own entropy is the least."""
        log_softmax = torch.log_softmax(self.logits(epsilon), dim=1)
        return -(table.weight[:, None] * table.log_probability.exp() * log_softmax).sum()


def count(batches: Iterable[Batch], *, vocab: int, end: int) -> tuple[BigramTable, NGram]:
    """The table of distinct training rows, in float32, and the n-gram scorer that it is the table of.

    Raises TrainingError for a vocabulary above LARGEST_VOCAB."""
    if vocab > LARGEST_VOCAB:
        raise TrainingError(
            "init.kind", f"k0 keeps tables of vocabulary x vocabulary, here {vocab:,}", f"at most {LARGEST_VOCAB:,}",
            "a smaller vocabulary, or init.kind: random",
        )  # fmt: skip
    rows = list(batches)
    scorer = NGram.fit(rows, order=2, vocab=vocab, end_of_document=end)
    table = scorer.logprobs(torch.arange(vocab)[:, None])[:, 0].float()
    seen = np.zeros(vocab, dtype=np.int64)
    for row in rows:
        learned = slice(None) if row.mask is None else row.mask
        seen += np.bincount(row.tokens[learned].flatten().numpy(), minlength=vocab)
    weight = torch.from_numpy((seen + 1) / (seen + 1).sum()).float()
    return BigramTable(table, weight), scorer


def shuffled(batches: Iterable[Batch], *, seed: int) -> Batch:
    """All their tokens as one row, in an order drawn from `seed`: as often as before, next to nothing in particular.

    What K0 makes of it is the control of K0: scales, warm-up and frequencies without any statistics of pairs.
    """
    tokens = np.concatenate([run for batch in batches for run in runs(batch)])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(tokens))[None]
    return Batch(tokens=order[:, :-1], targets=order[:, 1:])


def factorise(table: BigramTable, width: int, *, method: str, tied: bool, seed: int) -> Factors:
    """Without the fit. method: normaware, naive, ppmi, or bias: the unigram and nothing else. What is random, the
    sketches of the singular vectors (Halko et al. 2011), is drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _tied(table, width, method) if tied else _untied(table, width, method)


def _untied(table: BigramTable, width: int, method: str) -> Factors:
    odds = table.log_odds(positive=method == "ppmi")
    head = torch.zeros(len(odds), width)
    if method == "bias":
        features = _with_constant(torch.randn(len(odds), width - 1), table.weight)
    elif method == "naive":
        left, values, right = _svd(odds, width - 1)
        features = _with_constant(left * values.sqrt(), table.weight)
        head[:, 1:] = right * values.sqrt()
    else:
        _, _, right = _svd(odds * table.weight.sqrt()[:, None], width - 1)
        features = _with_constant(odds @ right, table.weight)
        weighted = features * table.weight[:, None]
        gram = weighted.T @ features + RIDGE * torch.eye(width)
        head = torch.linalg.solve(gram, weighted.T @ odds).T.contiguous()
    head[:, 0] += table.unigram
    return Factors(features, head, torch.ones(width))


def _tied(table: BigramTable, width: int, method: str) -> Factors:
    odds = table.log_odds(positive=method == "ppmi")
    left, values, right = _svd((odds + odds.T) / 2, width - 2)
    rows, signs = left * values.sqrt(), torch.sign((left * right).sum(dim=0))
    if method == "bias":
        rows, signs = torch.randn_like(rows), torch.zeros_like(signs)
    bias = table.unigram - (table.weight * table.unigram).sum()
    factors = torch.cat([torch.stack([1 + bias, 1 - bias], dim=1) / math.sqrt(2), rows], dim=1)
    signs = torch.cat([torch.tensor([1.0, -1.0]), signs])
    spread = factors.square().mean().sqrt()
    # The norm divides rows by their root mean square; the typical one goes into the gains.
    return Factors(factors, None, signs * spread)


def _svd(matrix: Float[Tensor, "m n"], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` largest singular values [k] and their vectors [m k], [n k]; zeros where the matrix has fewer."""
    sketch = min(width + OVERSAMPLING, *matrix.shape)
    missing = max(0, width - sketch)
    found = torch.svd_lowrank(matrix, q=sketch, niter=POWER_ITERATIONS)
    return tuple(torch.nn.functional.pad(one[..., :width], (0, missing)) for one in found)  # pyright: ignore[reportReturnType]


def _with_constant(rows: Float[Tensor, "v k"], weight: Float[Tensor, " v"]) -> Float[Tensor, "v d"]:
    """[1, rows] with every row of root mean square one. A row of nothing becomes the mean row: its constant feature
    would otherwise be scaled up, and the bias with it."""
    size = rows.norm(dim=1, keepdim=True)
    empty = size <= 1e-6 * size.max()
    rows = torch.where(empty, (weight[:, None] * rows).sum(dim=0), rows)
    rows = rows * (math.sqrt(rows.shape[1]) / rows.norm(dim=1, keepdim=True))
    return torch.cat([torch.ones(len(rows), 1), rows], dim=1)


def fit(factors: Factors, table: BigramTable, *, epsilon: float, iterations: int) -> Factors:
    """Adam on the loss under the whole table, its rate falling to zero as a cosine."""
    embedding, gain = factors.embedding.clone().requires_grad_(), factors.gain.clone()
    head = None if factors.head is None else factors.head.clone().requires_grad_()
    learned = [embedding, gain.requires_grad_() if head is None else head]
    optimiser = torch.optim.Adam(learned, lr=FIT_RATE, betas=(0.9, 0.95))
    for iteration in range(iterations):
        optimiser.param_groups[0]["lr"] = FIT_RATE * (1 + math.cos(math.pi * iteration / iterations)) / 2
        optimiser.zero_grad()
        Factors(embedding, head, gain).loss(table, epsilon).backward()
        optimiser.step()
    return Factors(embedding.detach(), None if head is None else head.detach(), gain.detach())
