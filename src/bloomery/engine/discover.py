"""Finds what is installed: stage kinds, inits, suites, codecs, baselines and systems; loads each only when it is used.

Everything is named as "module:name" and imported lazily, so that listing costs nothing. Bundled systems are the
folders of bloomery/systems; others come through the entry-point group `bloomery.systems`, each a System.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from bloomery.engine.stage import BaselineKind, Codec, InitKind, Stage, SuiteKind
from bloomery.errors import PlanError, nearest

KINDS = {
    "pretrain": "bloomery.stages.pretrain:Pretrain",
    "finetune": "bloomery.stages.finetune:Finetune",
    "evaluate": "bloomery.stages.evaluate:Evaluate",
}
SUITES = {
    "perplexity": "bloomery.stages.suites:Perplexity",
    "generation": "bloomery.stages.suites:Generation",
    "lmeval": "bloomery.stages.lmeval:LmEval",
    "builtin": "bloomery.stages.builtin:Builtin",
    "calibration": "bloomery.stages.calibrating:Calibration",
    "origin": "bloomery.stages.origin:Origin",
    "refusal": "bloomery.stages.refusing:Refusal",
    "system": "bloomery.stages.system:System",
    "contamination": "bloomery.stages.contamination:Contamination",
    "gauntlet": "bloomery.stages.gauntlet:Gauntlet",
}
CODECS = {
    "float": "bloomery.stages.codecs:float_codec",
    "bf16": "bloomery.stages.codecs:bf16_codec",
    "q8_0": "bloomery.stages.codecs:q8_0_codec",
    "q4_0": "bloomery.stages.codecs:q4_0_codec",
}
SCORERS = {
    "ngram": "bloomery.evaluate.ngram_cache:open_table",
}
"""How a folder without weights is opened: function(folder) -> Scorer (stages/scorers.py)."""
BASELINES = {
    "ngram": "bloomery.stages.baselines:NGramBaseline",
    "frozen_random": "bloomery.stages.frozen_random:FrozenRandom",
    "kneser_ney": "bloomery.stages.baselines:KneserNeyBaseline",
}


@dataclass(frozen=True, slots=True)
class System:
    """What one folder of systems/ offers. `config` and `build` are "module:name"; `plans` is a folder beside it."""

    name: str
    summary: str
    state: str
    """In one word for the table of systems: complete, first, or planned."""
    config: str = ""
    """A pydantic model of the architecture, importable without torch, with `tally(vocab)` in closed form. Empty, as
    `build` is then: the system has no network."""
    build: str = ""
    """function(config, vocab, *, compute_dtype) -> LanguageModel"""
    kinds: Mapping[str, str] = field(default_factory=dict)
    common_kinds: Mapping[str, str] = field(default_factory=dict)
    """Stage kinds under their own names, which no other kind may have: for any plan of any system."""
    suites: Mapping[str, str] = field(default_factory=dict)
    codecs: Mapping[str, str] = field(default_factory=dict)
    """Under their own names, which no other codec may have: they are segments of metric names, a-z 0-9 _."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    scorers: Mapping[str, str] = field(default_factory=dict)
    """What opens an artifact without weights: function(folder) -> Scorer. Under their own names, as codecs."""
    inits: Mapping[str, str] = field(default_factory=dict)
    """Ways to begin a model's weights (`init.kind`), under their own names, which no other init may have."""


DENSE = System(
    name="dense",
    summary="the reference transformer: control and template",
    state="complete",
    config="bloomery.model.config:DenseConfig",
    build="bloomery.model.dense:build",
)


def load(target: str) -> Any:
    """Import "module:name"."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


Found = TypeVar("Found")


class Catalogue:
    """What is installed, as plan.catalogue.Catalogue asks for it."""

    @cached_property
    def _systems(self) -> Mapping[str, System]:
        return {system.name: system for system in (DENSE, *_bundled(), *_entry_points())}

    @cached_property
    def _kinds(self) -> Mapping[str, Stage]:
        return {name: load(target)() for name, target in self._kind_targets().items()}

    @cached_property
    def _suites(self) -> Mapping[str, SuiteKind]:
        return self._collect(SUITES, "suites")

    @cached_property
    def _codecs(self) -> Mapping[str, Codec]:
        return self._collect_unprefixed(CODECS, "codecs", "a codec")

    @cached_property
    def _inits(self) -> Mapping[str, InitKind]:
        return self._collect_unprefixed({}, "inits", "an init")

    def _collect_unprefixed(self, builtin: Mapping[str, str], what: str, one: str) -> Mapping[str, Any]:
        """Found under their own names, in which no system stands."""
        return {name: load(target)() for name, target in self._unprefixed(builtin, what, one).items()}

    def _unprefixed(self, builtin: Mapping[str, str], what: str, one: str) -> Mapping[str, str]:
        targets = dict(builtin)
        for system in self._systems.values():
            offered: Mapping[str, str] = getattr(system, what)
            for name, target in offered.items():
                if name in targets or re.fullmatch(r"[a-z0-9_]+", name) is None:
                    expected = "a name of its own, of a-z 0-9 _"
                    raise PlanError(f"the system '{system.name}'", f"brings {one} '{name}'", expected)
                targets[name] = target
        return targets

    @cached_property
    def _baselines(self) -> Mapping[str, BaselineKind]:
        return self._collect(BASELINES, "baselines")

    def _collect(self, builtin: Mapping[str, str], what: str) -> Mapping[str, Any]:
        return {name: load(target)() for name, target in self._targets(builtin, what).items()}

    def _kind_targets(self) -> Mapping[str, str]:
        return self._targets(self._unprefixed(KINDS, "common_kinds", "a stage kind"), "kinds")

    def _targets(self, builtin: Mapping[str, str], what: str) -> Mapping[str, str]:
        targets = dict(builtin)
        for system in self._systems.values():
            offered: Mapping[str, str] = getattr(system, what)
            targets |= {f"{system.name}/{kind}": target for kind, target in offered.items()}
        return targets

    def target(self, kind: str) -> str:
        """Where a stage kind is found, "module:name": for another process to load it from."""
        return _get(self._kind_targets(), kind, "stage kind")

    def scorer(self, kind: str) -> Callable[[Path], Any]:
        """What opens a folder whose card names this kind. Raises PlanError where no system brings it."""
        return load(_get(self._unprefixed(SCORERS, "scorers", "a scorer"), kind, "scorer"))

    def kinds(self) -> Mapping[str, Stage]:
        return self._kinds

    def suites(self) -> Mapping[str, SuiteKind]:
        return self._suites

    def codecs(self) -> Mapping[str, Codec]:
        return self._codecs

    def inits(self) -> Mapping[str, InitKind]:
        return self._inits

    def baselines(self) -> Mapping[str, type[BaseModel]]:
        return {name: kind.config_model() for name, kind in self._baselines.items()}

    def packable_baselines(self) -> frozenset[str]:
        return frozenset(name for name, kind in self._baselines.items() if kind.packable)

    def systems(self) -> Mapping[str, str]:
        return {name: system.summary for name, system in self._systems.items()}

    def system(self, name: str) -> System:
        return _get(self._systems, name, "system")

    def kind(self, name: str) -> Stage:
        return _get(self._kinds, name, "stage kind")

    def suite(self, name: str) -> SuiteKind:
        return _get(self._suites, name, "suite kind")

    def codec(self, name: str) -> Codec:
        return _get(self._codecs, name, "codec")

    def init(self, name: str) -> InitKind:
        return _get(self._inits, name, "init")

    def baseline(self, name: str) -> BaselineKind:
        return _get(self._baselines, name, "baseline kind")

    def check_data(self, data: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        if not data:
            return {}
        return load("bloomery.stages.prepare:parse_data")(data).splits()


def _get(known: Mapping[str, Found], name: str, what: str) -> Found:
    try:
        return known[name]
    except KeyError:
        raise PlanError(name, f"no installed system offers this {what}", hint=nearest(name, known)) from None


def _bundled() -> Iterator[System]:
    package = Path(__file__).parent.parent / "systems"
    for module in sorted(pkgutil.iter_modules([str(package)]), key=lambda found: found.name):
        if module.ispkg:
            yield load(f"bloomery.systems.{module.name}:SYSTEM")


def _entry_points() -> Iterator[System]:
    for entry in importlib.metadata.entry_points(group="bloomery.systems"):
        yield entry.load()


catalogue = Catalogue()
"""The one catalogue of this process."""
