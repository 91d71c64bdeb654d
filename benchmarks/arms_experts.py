"""Three experts over contexts that `holographic_arms.py` tries beside the attractors: each a distribution over words.

    context    x = [v(t1), decay v(t2), ..., decay^(LAGS - 1) v(tLAGS), sum_i FADING^i v(ti)], ti the token i before,
               v(t) its vector of unit length (prototypes.vectors); nothing from before the document's beginning
    Readout    p(w) ~ read(w)^a exp(y . v(w) / T) for a predicted vector y, summed over all of the vocabulary
    Ridge      y = B [x, 1], B = (X'X + lambda I)^-1 X'Y, Y the vectors of the next tokens
    Memory     y = W k. delta: W += rate (v - W k) k' (Widrow and Hoff 1960; Schlag et al. 2021), additive: W += v k',
               token by token; here both by chunks, with the same result: within one, U = (I + rate L)^-1 (V - K W'),
               L the products k_i . k_j of j < i; the control has no L and no W in it
    Neighbours p(w) ~ sum of exp(-|x - x_i|^2 / T) over the contexts x_i that w came after

Neighbours look among the contexts whose last token is of the same class as the query's: a coarse index of one probe,
exact within a cell, of which at most CELL contexts drawn at random are kept. Vectors of the next token are centred
for Ridge and Memory, and what they predict is scaled to a mean square of one, so that one grid of T serves all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

Tokens = Int[np.ndarray, " n"]
Reals = NDArray[np.float64]
LAGS, DECAY, FADING = 4, 0.7, 0.9
CELL = 8192
CHUNK = 128
ROWS = 256


def before(tokens: Tokens, lags: int) -> Int[Tensor, "n lags"]:
    """The tokens before each after the first of [n + 1], the nearest first; -1 before the beginning."""
    padded = np.concatenate((np.full(lags - 1, -1), tokens))
    return torch.from_numpy(np.stack([padded[lags - lag : len(padded) - lag] for lag in range(1, lags + 1)], axis=1))


def faded(values: Float[Tensor, "n d"], rate: float) -> Float[Tensor, "n d"]:
    """sum_i rate^i values[n - i], i from zero on."""
    steps = torch.arange(CHUNK, dtype=torch.float32)
    within = (rate ** (steps[:, None] - steps)).tril()
    out, carried = torch.empty_like(values), torch.zeros(values.shape[1])
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        size = len(part)
        out[start : start + size] = within[:size, :size] @ part + rate ** (steps[:size, None] + 1) * carried
        carried = out[start + size - 1]
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """Token vectors [v d] and what contexts are made of them."""

    vectors: Float[Tensor, "v d"]

    def lagged(self, tokens: Int[Tensor, "n lags"]) -> Float[Tensor, "n f"]:
        weights = DECAY ** torch.arange(tokens.shape[1])
        known = self.vectors[tokens.clamp_min(0)] * ((tokens >= 0) * weights)[:, :, None]
        return known.flatten(1)

    def whole(self, tokens: Tokens) -> Float[Tensor, "n f"]:
        """With the faded sum, of every context of tokens [n + 1]."""
        read = self.vectors[torch.from_numpy(tokens[:-1])]
        return torch.cat((self.lagged(before(tokens, LAGS)), (1 - FADING) * faded(read, FADING)), dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    vectors: Float[Tensor, "v d"]
    log_read: Float[Tensor, " v"]
    """Log share of each token in what was read, one made-up reading each."""
    temperature: float = 0.25
    prior: float = 1.0

    def everything(self, predicted: Float[Tensor, "n d"]) -> Float[Tensor, "n v"]:
        return torch.softmax(predicted @ self.vectors.T / self.temperature + self.prior * self.log_read, dim=1)

    def of(self, predicted: Float[Tensor, "n d"], targets: Tokens) -> Reals:
        """Probability [n] of each target."""
        out = np.empty(len(targets))
        keys, bias = (self.vectors / self.temperature).T.contiguous(), self.prior * self.log_read
        scores = torch.empty(ROWS, len(bias))
        for start in range(0, len(targets), ROWS):
            part = torch.from_numpy(targets[start : start + ROWS])
            rows = scores[: len(part)]
            torch.addmm(bias, predicted[start : start + ROWS], keys, out=rows)
            # Scores are small, and a maximum over the vocabulary takes longer than the sum.
            assert float(rows.max() if start == 0 else 0) < 80
            own = rows.gather(1, part[:, None])[:, 0].double()
            out[start : start + ROWS] = torch.exp(own - rows.exp_().sum(1).double().log()).numpy()
        return out


@dataclass(slots=True, eq=False)
class Ridge:
    """Sums of what was read, in float64, and B for the lambda that was asked for last."""

    contexts: Contexts
    mean: Float[Tensor, " d"]
    squares: Float[Tensor, "f f"] = field(init=False)
    products: Float[Tensor, "f d"] = field(init=False)
    scale: float = 1.0

    def __post_init__(self) -> None:
        size = (1 + LAGS) * self.contexts.vectors.shape[1] + 1
        self.squares = torch.zeros(size, size, dtype=torch.float64)
        self.products = torch.zeros(size, len(self.mean), dtype=torch.float64)

    def _rows(self, tokens: Tokens) -> Float[Tensor, "n f"]:
        x = self.contexts.whole(tokens)
        return torch.cat((x, torch.ones(len(x), 1)), dim=1)

    def read(self, documents: Iterable[Tokens]) -> None:
        for tokens in documents:
            x = self._rows(tokens)
            self.squares += (x.T @ x).double()
            self.products += (x.T @ (self.contexts.vectors[torch.from_numpy(tokens[1:])] - self.mean)).double()

    def solved(self, penalty: float) -> Float[Tensor, "f d"]:
        """penalty: lambda as a share of the mean of the diagonal of X'X."""
        diagonal = penalty * self.squares.diagonal().mean() * torch.eye(len(self.squares), dtype=torch.float64)
        found = torch.linalg.solve(self.squares + diagonal, self.products)
        mean_square = (found * (self.squares @ found)).sum() / self.squares[-1, -1]
        return (found / mean_square.sqrt()).float()

    def predicted(self, tokens: Tokens, solution: Float[Tensor, "f d"]) -> Float[Tensor, "n d"]:
        return self._rows(tokens) @ solution


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Unit keys [n dimension]: random signs bound by products, one code each for the last one, two and three tokens
    (`bound`), or cosines of random projections of the context (Rahimi and Recht 2007: `cosines`)."""

    contexts: Contexts
    codes: Float[Tensor, "v dimension"]
    projections: Float[Tensor, "f dimension"]
    phases: Float[Tensor, " dimension"]
    kind: str

    @staticmethod
    def drawn(contexts: Contexts, dimension: int, kind: str, seed: int) -> Keys:
        generator = torch.Generator().manual_seed(seed)
        tokens, width = contexts.vectors.shape
        codes = 2.0 * torch.randint(0, 2, (tokens, dimension), generator=generator) - 1
        projections = 1.5 * torch.randn((1 + LAGS) * width, dimension, generator=generator)
        return Keys(contexts, codes, projections, 2 * torch.pi * torch.rand(dimension, generator=generator), kind)

    def of(self, tokens: Tokens) -> Float[Tensor, "n dimension"]:
        if self.kind == "cosines":
            found = torch.cos(self.contexts.whole(tokens) @ self.projections + self.phases)
        else:
            lags = before(tokens, 3)
            product = self.codes[lags[:, 0]]
            found = product.clone()
            for lag in (1, 2):
                known = (lags[:, lag] >= 0)[:, None]
                product = product * self.codes[lags[:, lag].clamp_min(0)].roll(lag, dims=1) * known
                found += product
        return found / torch.linalg.vector_norm(found, dim=1, keepdim=True)


def recalled(
    weights: Float[Tensor, "d k"], keys: Float[Tensor, "n k"], values: Float[Tensor, "n d"], rate: float, rule: str
) -> Float[Tensor, "n d"]:
    """What W k says at each token before it is learned. `weights` is changed in place. rule: delta, additive."""
    out = torch.empty_like(values)
    for start in range(0, len(keys), CHUNK):
        k, v = keys[start : start + CHUNK], values[start : start + CHUNK]
        known = k @ weights.T
        alike = (k @ k.T).tril(-1)
        if rule == "delta":
            unit = torch.eye(len(k)) + rate * alike
            v = torch.linalg.solve_triangular(unit, v - known, upper=False, unitriangular=True)
        out[start : start + CHUNK] = known + rate * (alike @ v)
        weights += rate * (v.T @ k)
    return out


@dataclass(slots=True, eq=False)
class Memory:
    """One associative memory W [d dimension] and how it learns."""

    keys: Keys
    values: Float[Tensor, "v d"]
    """What stands for each token: its centred vector, or a random code."""
    rate: float
    rule: str
    weights: Float[Tensor, "d dimension"] = field(init=False)
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.weights = torch.zeros(self.values.shape[1], self.keys.codes.shape[1])

    def read(self, documents: Sequence[Tokens]) -> None:
        said = torch.zeros(0)
        for tokens in documents:
            said = recalled(self.weights, self.keys.of(tokens), self._own(tokens), self.rate, self.rule)
        self.scale = float(said.square().sum(1).mean().rsqrt())

    def _own(self, tokens: Tokens) -> Float[Tensor, "n d"]:
        return self.values[torch.from_numpy(tokens[1:])]

    def predicted(self, tokens: Tokens, fast: float | None = None) -> Float[Tensor, "n d"]:
        """fast: the rate at which it goes on learning in this document, and forgets it after."""
        keys = self.keys.of(tokens)
        if fast is None:
            return self.scale * (keys @ self.weights.T)
        return self.scale * recalled(self.weights.clone(), keys, self._own(tokens), fast, self.rule)


@dataclass(slots=True, eq=False)
class Neighbours:
    """Contexts as their last `lags` tokens and the next, cell by cell."""

    contexts: Contexts
    classes: Int[np.ndarray, " v"]
    lags: int
    log_read: Float[Tensor, " v"]
    cells: dict[int, tuple[Int[Tensor, "m lags"], Int[Tensor, " m"]]] = field(default_factory=dict)

    def read(self, documents: Iterable[Tokens], seed: int) -> None:
        held = [(before(tokens, self.lags), torch.from_numpy(tokens[1:])) for tokens in documents]
        tokens, following = (torch.cat(one) for one in zip(*held, strict=True))
        own, random = self.classes[tokens[:, 0].numpy()], np.random.default_rng(seed)
        order = np.argsort(own, kind="stable")
        for number, places in zip(*_runs(own, order), strict=True):
            kept = np.sort(random.choice(places, CELL, replace=False)) if len(places) > CELL else places
            self.cells[int(number)] = (tokens[kept], following[kept])

    @property
    def count(self) -> int:
        return sum(len(following) for _, following in self.cells.values())

    def of(self, tokens: Int[Tensor, "n lags"], targets: Tokens, temperatures: Sequence[float]) -> Reals:
        """[temperatures n]: of each target after its context. Where a cell is empty: the share read."""
        out = np.tile(self.log_read.exp().double().numpy()[targets], (len(temperatures), 1))
        own = self.classes[tokens[:, 0].numpy()]
        for number, places in zip(*_runs(own, np.argsort(own, kind="stable")), strict=True):
            if int(number) in self.cells:
                self._cell(int(number), places, tokens, targets, temperatures, out)
        return out

    def _cell(
        self, number: int, places: Tokens, tokens: Tensor, targets: Tokens, temperatures: Sequence[float], out: Reals
    ) -> None:
        stored, following = self.cells[number]
        there = self.contexts.lagged(stored)
        for start in range(0, len(places), ROWS):
            rows = places[start : start + ROWS]
            near = self.distances(self.contexts.lagged(tokens[rows]), there)
            same = torch.from_numpy(targets[rows])[:, None] == following
            for at, temperature in enumerate(temperatures):
                weights = near.div(-temperature).exp_()
                out[at, rows] = ((weights * same).sum(1).double() / weights.sum(1).double()).numpy()

    @staticmethod
    def distances(queries: Float[Tensor, "n f"], there: Float[Tensor, "m f"]) -> Float[Tensor, "n m"]:
        """Squares, less the smallest of each query, which changes no share."""
        found = torch.addmm(there.square().sum(1), queries, there.T, alpha=-2)
        return found - found.min(1, keepdim=True).values


def _runs(own: Tokens, order: Tokens) -> tuple[Tokens, list[Tokens]]:
    """The classes that are there, and the places of each."""
    numbers, begins = np.unique(own[order], return_index=True)
    return numbers, np.split(order, begins[1:])
