"""k0: a model begins as the bigram model of the tokens that it is going to learn from (`init: {kind: k0}`).

Embedding and head are those of `bigram`; the blocks add nothing at first, since the linear at the end of each of their
residual branches is silenced. Without `tokens` only those of the stage itself are counted, so that a comparison stays
one on the same tokens. Works on any model in the dense frame, the dense control included; refuses others.

While the model trains, `init/cosine` and `init/head_cosine` say how far it has left its start: the mean over tokens of
the cosine between a row now and then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from bloomery.engine.stage import Begun
from bloomery.measure import Emitted
from bloomery.stages.settings import Init


class K0Settings(Init):
    method: Literal["normaware+fit", "normaware", "ppmi+fit", "ppmi", "naive", "bias"] = "normaware+fit"
    """normaware: factors that expect the model's norm. ppmi: the same of positive log-odds. naive: factors that do not.
    bias: the unigram alone. +fit: then fitted to the table."""
    iterations: int = Field(default=60, ge=1)
    """Of Adam, in the fit."""
    shuffle: bool = False
    """Count the same tokens in a random order: the control, in which no pair says anything. `init/excess_loss` is then
    above the table of that order."""
    centres: Literal["random", "kmeans_svd"] = "random"
    """Where a generated linear's components lie. kmeans_svd: the input coordinates of sines at k-means centres of the
    embedding that the singular vectors gave; other bases refuse it, and dense linears have none."""


class K0:
    of_trained = False

    def config_model(self) -> type[BaseModel]:
        return K0Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {"init/cosine": Emitted(), "init/head_cosine": Emitted()}

    def flops(self, config: BaseModel, *, vocab: int, width: int) -> float:
        """Of the products with the whole table: nine in a sketch of four power iterations, three in the head, three an
        iteration of the fit."""
        assert isinstance(config, K0Settings)
        products = 0 if config.method == "bias" else 12 + 3 * config.iterations * config.method.endswith("+fit")
        return 2.0 * products * vocab * vocab * width

    def begin(self, config: BaseModel, model: Any, tokens: Iterator[Any], *, seed: int, end: int) -> Begun:
        from bloomery.stages.baselines import distinct
        from bloomery.systems.harmonic import bigram, k0_init

        assert isinstance(config, K0Settings)
        frame = k0_init.frame_of(model)
        rows = distinct(tokens)
        if config.shuffle:
            rows = iter([bigram.shuffled(rows, seed=seed)])
        table, scorer = bigram.count(rows, vocab=frame.vocab, end=end)
        method, _, fitted = config.method.partition("+")
        iterations = config.iterations if fitted else 0
        k0_init.apply(frame, k0_init.solve(frame, table, method=method, iterations=iterations, seed=seed))
        if config.centres == "kmeans_svd":
            k0_init.place_centres(frame, table, seed=seed)
        return Begun({"embedding": frame.embedding, "head": frame.head_weight()}, scorer)

    def look(self, config: BaseModel, model: Any, remembered: Mapping[str, Any]) -> Mapping[str, float]:
        from bloomery.systems.harmonic import k0_init

        frame = k0_init.frame_of(model)
        if "embedding" not in remembered:
            return {}
        return {
            "init/cosine": k0_init.mean_cosine(frame.embedding, remembered["embedding"]),
            "init/head_cosine": k0_init.mean_cosine(frame.head_weight(), remembered["head"]),
        }
