"""Calibration of the next-token distribution: does what is believed with 80 % come true in 80 % of the cases?

Of every token of held-out documents: confidence c (the highest probability), whether that token came, -log p(target),
and Brier's sum_v (p_v - [v = target])^2 (Brier 1950). Expected calibration error (Naeini et al. 2015; Guo et al. 2017):

    ECE = sum_bins (n_bin / n) |mean c - share that came|

over bins of equal width on (0, 1], or of equal mass: bounds are quantiles of c (Nguyen and O'Connor 2015). The plug-in
ECE is never below the true one on average, so a small n looks worse, not better.

An answer and a confidence of a model's own (`own`; model.interface.Answering) may stand in for the likeliest token and
its probability. How well confidence ranks, whatever its scale, is the area under the risk-coverage curve (Geifman and
El-Yaniv 2017): if only the k surest answers are kept, their share of errors is the risk at coverage k / n,

    AURC = mean over k of risk(k)        the share of all errors, for a confidence that says nothing

Of equal confidences each stands for all of them: the mean over their orders.

Temperature T divides the logits; it minimises -log p on documents that are not judged: of another part, or of the other
half of this one, so that either half is judged at the other's T. Searched on a grid of powers of 2^(1/6) from 1/4 to 4,
then by a parabola. Documents are the items. Refuses what perplexity refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.tokens import TokenFile
from bloomery.evaluate.perplexity import batches, spread
from bloomery.evaluate.resample import bootstrap_interval
from bloomery.measure import Interval, Items
from bloomery.model.interface import Answering, LanguageModel, Scorer

Reals = NDArray[np.float64]
TEMPERATURES = tuple(2.0 ** (step / 6) for step in range(-12, 13))
ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Predictions:
    """One row a token, in no order that matters."""

    document: NDArray[np.int64]
    confidence: Reals
    came: Reals
    """1 where the likeliest token is the one that came."""
    nats: Reals
    brier: Reals
    documents: int
    key: str

    def items(self, values: Reals) -> Items:
        """The mean of `values` over tokens, as items: documents."""
        sums = np.bincount(self.document, weights=values, minlength=self.documents)
        counts = np.bincount(self.document, minlength=self.documents).astype(np.float64)
        return Items(self.key, tuple(sums.tolist()), tuple(counts.tolist()))


def predict(
    scorer: LanguageModel | Scorer,
    tokens: TokenFile,
    *,
    context: int,
    temperatures: Sequence[float] | None = None,
    device: str = "cpu",
    max_documents: int | None = None,
    own: bool = False,
) -> Predictions:
    """Every token of the chosen documents, once. temperatures: one a chosen document; None: 1 for all. own: by answers
    of the model's own, where it has any."""
    chosen = spread(tokens.documents, max_documents)
    heat = torch.ones(len(chosen)) if temperatures is None else torch.tensor(temperatures, dtype=torch.float32)
    columns: list[list[Tensor]] = [[], [], [], [], []]
    for slots, logits, targets in scored_logits(scorer, tokens, chosen, context, device):
        logprobs = torch.log_softmax(logits / heat[slots][:, None], dim=-1)
        probabilities = logprobs.exp()
        wanted = logprobs.gather(1, targets[:, None])[:, 0]
        best, which = probabilities.max(dim=-1)
        brier = probabilities.square().sum(-1) - 2 * wanted.exp() + 1
        for column, values in zip(columns, (slots, best, which == targets, -wanted, brier), strict=True):
            column.append(values)
    slots, best, came, nats, brier = (torch.cat(column).numpy() for column in columns)
    if own and isinstance(scorer, Answering):
        came, best = own_answers(scorer, tokens, chosen, context)
    key = tokens.digest if len(chosen) == tokens.documents else f"{tokens.digest}:{len(chosen)}"
    real = np.float64
    return Predictions(
        slots, best.astype(real), came.astype(real), nats.astype(real), brier.astype(real), len(chosen), key
    )


def own_answers(scorer: Answering, tokens: TokenFile, chosen: list[int], context: int) -> tuple[Reals, Reals]:
    """Whether what it says came, and how sure it was, in the order of `scored_logits`."""
    came, sure = [], []
    for inputs, targets, slots in batches(tokens, chosen, context, context, 4096):
        said, confidence = scorer.answers(inputs)
        scored = slots >= 0
        came.append((said == targets)[scored].double())
        sure.append(confidence[scored].double())
    return torch.cat(came).numpy(), torch.cat(sure).numpy()


def risk_coverage(confidence: Reals, came: Reals) -> Reals:
    """risk(k) [n] of the k surest answers, k from 1 on."""
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], 1 - came[order]
    starts = np.flatnonzero(np.r_[True, np.diff(sorted_confidence) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    alike = np.repeat(np.add.reduceat(wrong, starts) / sizes, sizes)
    return np.cumsum(alike) / np.arange(1, len(order) + 1)


def areas(found: Predictions, draws: int = 200) -> tuple[tuple[float, Interval | None], tuple[float, Interval | None]]:
    """AURC, and how far it is above a blind choice's (the share of errors); percentile bootstraps over documents."""

    def both(confidence: Reals, came: Reals) -> tuple[float, float]:
        area = float(risk_coverage(confidence, came).mean())
        return area, area - float(1 - came.mean())

    values = both(found.confidence, found.came)
    if found.documents < 2:
        return (values[0], None), (values[1], None)
    rows = [np.flatnonzero(found.document == one) for one in range(found.documents)]
    generator, drawn = np.random.default_rng(0), list[tuple[float, float]]()
    for _ in range(draws):
        which = np.concatenate([rows[one] for one in generator.integers(found.documents, size=found.documents)])
        if len(which):
            drawn.append(both(found.confidence[which], found.came[which]))
    bounds = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    first, second = (
        (value, Interval(min(low, value), max(high, value), 0.95) if low < high else None)
        for value, low, high in zip(values, *bounds.tolist(), strict=True)
    )
    return first, second


def heat_curve(
    scorer: LanguageModel | Scorer,
    tokens: TokenFile,
    *,
    context: int,
    device: str = "cpu",
    max_documents: int | None = None,
) -> Reals:
    """Sum of -log p [documents, temperatures] of each document at each of TEMPERATURES."""
    chosen = spread(tokens.documents, max_documents)
    sums = torch.zeros(len(chosen), len(TEMPERATURES), dtype=torch.float64)
    for slots, logits, targets in scored_logits(scorer, tokens, chosen, context, device):
        wanted = logits.gather(1, targets[:, None])[:, 0]
        for column, heat in enumerate(TEMPERATURES):
            nats = torch.logsumexp(logits / heat, dim=-1) - wanted / heat
            sums[:, column].index_add_(0, slots, nats.double())
    return sums.numpy()


def best_temperature(curve: Reals) -> float:
    """The T with the lowest of sums [temperatures]: a parabola in log T through the grid's best and its neighbours."""
    at = int(np.argmin(curve))
    if not 0 < at < len(curve) - 1:
        return TEMPERATURES[at]
    left, middle, right = curve[at - 1 : at + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(TEMPERATURES[at] * 2 ** (shift / 6))


def best_temperatures(curves: Reals) -> Reals:
    """One for each row of sums [d, temperatures]."""
    return np.array([best_temperature(curve) for curve in curves])


def cross_fitted(curve: Reals) -> list[float]:
    """For each document of sums [documents, temperatures]: the T of the half that it is not in."""
    even, odd = curve[0::2].sum(0), curve[1::2].sum(0)
    if len(curve) < 2:
        return [1.0] * len(curve)
    pair = (best_temperature(odd), best_temperature(even))
    return [pair[document % 2] for document in range(len(curve))]


def width_bins(confidence: Reals, bins: int) -> NDArray[np.int64]:
    """The bin ((b - 1)/bins, b/bins] of each confidence, counted from 0."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def mass_bins(confidence: Reals, bins: int) -> NDArray[np.int64]:
    """Bins that hold as many tokens each, as far as equal confidences allow."""
    bounds = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.searchsorted(bounds, confidence, side="left").astype(np.int64)


def bin_table(found: Predictions, which: NDArray[np.int64], bins: int) -> Reals:
    """[documents, 2 bins]: tokens in the bin, then the sum of confidence - came, of each document."""
    place = found.document * bins + which
    size = found.documents * bins
    counts = np.bincount(place, minlength=size).reshape(-1, bins)
    gaps = np.bincount(place, weights=found.confidence - found.came, minlength=size).reshape(-1, bins)
    return np.concatenate((counts, gaps), axis=1).astype(np.float64)


def calibration_error(sums: Reals) -> Reals:
    """ECE [d] of sums [d, 2 bins]: since n_bin |mean gap| = |sum of gaps|, the bins' counts only give n."""
    bins = sums.shape[1] // 2
    return np.abs(sums[:, bins:]).sum(1) / sums[:, :bins].sum(1)


def ece(found: Predictions, bins: int, *, equal_mass: bool = False) -> tuple[float, Interval | None]:
    """The error and its interval, over documents; bounds of bins are kept while documents are drawn anew."""
    which = (mass_bins if equal_mass else width_bins)(found.confidence, bins)
    table = bin_table(found, which, bins)
    value = float(calibration_error(table.sum(0, keepdims=True))[0])
    return value, bootstrap_interval(table, calibration_error)


def scored_logits(
    scorer: LanguageModel | Scorer, tokens: TokenFile, chosen: list[int], context: int, device: str
) -> Iterator[tuple[Int[Tensor, " n"], Float[Tensor, "n v"], Int[Tensor, " n"]]]:
    """(place of the document among the chosen, float32 logits, target) of every token, some hundred at a time."""
    if isinstance(scorer, LanguageModel):
        scorer.eval()
    for inputs, targets, slots in batches(tokens, chosen, context, context, 4096):
        scored = slots >= 0
        with torch.inference_mode():
            if isinstance(scorer, LanguageModel):
                rows = scorer(inputs.to(device), project=False).hidden[scored.to(device)]
            else:
                rows = scorer.logprobs(inputs.to(device))[scored.to(device)]
            parts = zip(
                slots[scored].split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), targets[scored].split(ROWS_AT_ONCE),
                strict=True,
            )  # fmt: skip
            for place, some, wanted in parts:
                logits = scorer.project(some) if isinstance(scorer, LanguageModel) else some
                yield place, logits.to("cpu", torch.float32), wanted
