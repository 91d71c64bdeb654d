"""A catalogue for tests of the plan side: two stage kinds, a suite, a baseline and a corpus, all pure and tiny."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bloomery.errors import DataError, Problems, nearest
from bloomery.measure import Emitted
from bloomery.plan.units import Tokens


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Optimizer(Closed):
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=0.02, gt=0)


class Schedule(Closed):
    name: Literal["cosine", "warm_restart"] = "cosine"
    warmup: str = "5%"


class Validation(Closed):
    split: str = "dev"


class Model(Closed):
    layers: int = Field(ge=1)
    width: int = 64


class PretrainConfig(Closed):
    model: Model
    tokens: Tokens
    data: Any = "corpus"
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    validation: Validation = Validation()


class Pretrain:
    def config_model(self) -> type[BaseModel]:
        return PretrainConfig

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        names = ("train/loss", "train/plateau", "train/tokens_per_second", "train/non_finite", "val/loss")
        return {name: Emitted() for name in names}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, PretrainConfig)
        return tuple(config.data) if isinstance(config.data, dict) else (config.data,)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        assert isinstance(before, PretrainConfig)
        assert isinstance(after, PretrainConfig)
        return "another width" if before.model.width != after.model.width else ""

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, PretrainConfig)
        return (f"corpus:{config.validation.split}",)


class EvaluateConfig(Closed):
    pass


class Evaluate:
    def config_model(self) -> type[BaseModel]:
        return EvaluateConfig

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {"quality/score": Emitted()}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        return ()

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return ""


class PerplexityConfig(Closed):
    data: str
    items: int | None = None


class Perplexity:
    def config_model(self) -> type[BaseModel]:
        return PerplexityConfig

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {name: Emitted("", "lower") for name in ("loss", "perplexity", "bits_per_byte")} | {
            "accuracy": Emitted("share", "higher")
        }


class NGram(Closed):
    order: int = Field(default=2, ge=1, le=9)


class FakeCatalogue:
    def kinds(self) -> Mapping[str, Any]:
        return {"pretrain": Pretrain(), "evaluate": Evaluate()}

    def suites(self) -> Mapping[str, Any]:
        return {"perplexity": Perplexity()}

    def baselines(self) -> Mapping[str, type[BaseModel]]:
        return {"ngram": NGram}

    def packable_baselines(self) -> tuple[str, ...]:
        return ()

    def codecs(self) -> tuple[str, ...]:
        return ("float", "q8_0", "q4_0")

    def systems(self) -> Mapping[str, str]:
        return {"dense": "the reference", "harmonic": "generated weights"}

    def check_data(self, data: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        problems, splits = [], {}
        for name, settings in data.items():
            known = {"tokenizer": ("kind", ["bpe", "bytes"])}.get(name, ("source", ["stdlib", "text"]))
            found = settings.get(known[0])
            if found not in known[1]:
                where = f"{name}.{known[0]}"
                problems.append(DataError(where, f"unknown {known[0]} '{found}'", hint=nearest(str(found), known[1])))
            elif name != "tokenizer":
                splits[name] = ("train", "dev", "val")
        if problems:
            raise Problems(problems)
        return splits
