"""Writes parts of docs/plan.md and of READMEs, `<!-- begin NAME -->` to its end, and docs/claims.md, from the code.

    python docs/generate.py            # rewrite
    python docs/generate.py --check    # exit 1 where a part is not current

A test asserts that nothing is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import typer.core
import typer.main
from pydantic import BaseModel

from bloomery.cli.verbs import app
from bloomery.engine.discover import catalogue
from bloomery.model.config import DenseConfig
from bloomery.plan.jsonschema import key_table, plan_reference
from bloomery.plan.ledger import ledger
from bloomery.plan.metrics import ENGINE
from bloomery.quant.pack import FORMATS
from bloomery.report.claims import bundled, take_stock
from bloomery.report.claims_page import page as claims_page
from bloomery.stages.baselines import KneserNeySettings, NGramSettings
from bloomery.stages.builtin import BuiltinSettings
from bloomery.stages.calibrating import CalibrationSettings
from bloomery.stages.contamination import ContaminationSettings
from bloomery.stages.data_spec import SOURCES, TOKENIZERS
from bloomery.stages.finetune_settings import Balance, Formats, Topup, TuningValidation
from bloomery.stages.finetune_settings import Settings as Tuning
from bloomery.stages.gauntlet import GauntletSettings
from bloomery.stages.lmeval import LmEvalSettings
from bloomery.stages.origin import OriginSettings
from bloomery.stages.pretrain import Pretrain
from bloomery.stages.refusing import RefusalSettings
from bloomery.stages.settings import Init, Optimizer, Schedule, Training, Validation
from bloomery.stages.suites import GenerationSettings, PerplexitySettings
from bloomery.stages.system import SystemSettings
from bloomery.stages.training import METRICS

ROOT = Path(__file__).parent.parent
SYSTEMS = sorted((ROOT / "src" / "bloomery" / "systems").glob("*/README.md"))
PAGES = (ROOT / "docs" / "plan.md", ROOT / "README.md", *SYSTEMS)
CLAIMS = ROOT / "docs" / "claims.md"
INNER = (("cascade", "experts"), ("cascade", "last"), ("to_l2", "recover"))
"""Settings within those of a kind of harmonic."""
HEAD = ("| key | value | default | meaning |", "|---|---|---|---|", "")


def parts() -> dict[str, str]:
    """{name: Markdown}."""
    settings = [
        ("`pretrain` (`config`)", Training),
        ("`optimizer`", Optimizer),
        ("`schedule`", Schedule),
        ("`validation`", Validation),
        ("A dense `model`", DenseConfig),
        ("The suite `perplexity`", PerplexitySettings),
        ("The suite `generation`", GenerationSettings),
        ("The suite `builtin`", BuiltinSettings),
        ("The suite `gauntlet`", GauntletSettings),
        ("The suite `lmeval`", LmEvalSettings),
        ("The suite `calibration`", CalibrationSettings),
        ("The suite `refusal`", RefusalSettings),
        ("The suite `system`", SystemSettings),
        ("The suite `contamination`", ContaminationSettings),
        ("The suite `origin`", OriginSettings),
        ("The baseline `ngram`", NGramSettings),
        ("The baseline `kneser_ney`", KneserNeySettings),
    ]
    tuning = [
        _beside("`finetune` (`config`), beside the keys of `pretrain`", Tuning, Training),
        _beside("`validation` of `finetune`", TuningValidation, Validation),
        *(
            key_table(f"`{name}`", model)
            for name, model in (("balance", Balance), ("formats", Formats), ("topup", Topup))
        ),
    ]
    tables = [key_table(title, model) for title, model in settings]
    tables[1:1] = [key_table("`init`", Init)]
    tables[5:5] = tuning
    return {
        "keys": plan_reference(),
        "settings": "\n".join(map(_closed_up, tables)),
        "memories": "\n".join(map(_closed_up, _memories())),
        "harmonic": "\n".join(map(_closed_up, _harmonic())),
        "data": _together("kind", TOKENIZERS) + "\n" + _together("source", SOURCES),
        "metrics": _metrics(),
        "codecs": _codecs(),
        "verbs": _verbs(),
    }


def _beside(title: str, model: type[BaseModel], common: type[BaseModel]) -> str:
    """The keys that a model has beside those of another, or says something else about."""
    known = set(key_table("", common).splitlines()[3:])
    lines = [line for line in key_table(title, model).splitlines() if line in HEAD or line not in known]
    return "\n".join(line for line in lines if line != f"{title.split('`')[1]}.") + "\n"


def _memories() -> list[str]:
    """The settings of the stage kinds that the holographic system brings; none where it is not installed."""
    if "holographic" not in catalogue.systems():
        return []
    consolidate, theory, calibrate = (
        catalogue.kind(name).config_model() for name in ("consolidate", "holographic/theory", "calibrate")
    )
    inner = {name: theory.model_fields[name].default for name in ("store", "sleep", "episodes")}
    return [
        key_table("`consolidate` (`config`)", consolidate),
        _beside("`holographic/theory` (`config`), beside the keys of `consolidate`", theory, consolidate),
        *(key_table(f"`{name}`", type(default)) for name, default in inner.items()),
        key_table("`calibrate` (`config`)", calibrate),
    ]


def _harmonic() -> list[str]:
    """The same of the harmonic system's, but for `from_dense`, which its page describes."""
    if "harmonic" not in catalogue.systems():
        return []
    names = ("self_play", "capture", "gap_extraction", "packets", "cascade", "k0_blend", "to_l2", "to_l3")
    models = {name: catalogue.kind(f"harmonic/{name}").config_model() for name in names}
    inner = {name: models[kind].model_fields[name].annotation for kind, name in INNER}
    tables = [(f"`harmonic/{name}` (`config`)", model) for name, model in models.items()]
    tables += [(f"`{name}`", model) for name, model in inner.items() if isinstance(model, type)]
    return [_trained(title, model) for title, model in tables]


def _trained(title: str, model: type[BaseModel]) -> str:
    """With what every gradient stage is told left out."""
    return (
        _beside(f"{title}, beside the keys of `pretrain`", model, Training)
        if issubclass(model, Training)
        else (key_table(title, model))
    )


def _closed_up(table: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", table)


def _together(tag: str, models: Mapping[str, type[BaseModel]]) -> str:
    """One table for models that share most of their keys: which of them has which key."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, model in models.items():
        for line in key_table(name, model).splitlines():
            cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
            if line.startswith("| `") and cells[0] != f"`{tag}`":
                rows.setdefault(cells, []).append(name)
    lines = [f"| key | {tag} | value | default | meaning |", "|---|---|---|---|---|"]
    for (key, value, default, meaning), names in rows.items():
        whose = "every" if len(names) == len(models) else ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {key} | {whose} | {value} | {default} | {meaning.rstrip('| ')} |")
    kinds = ", ".join(f"`{name}`" for name in models)
    return f"`{tag}` is one of {kinds}.\n\n" + "\n".join(lines) + "\n"


def _metrics() -> str:
    lines = ["| metric | measured by | unit | better |", "|---|---|---|---|"]
    declared = [(name, found, "every stage") for name, found in ENGINE.items()]
    declared += [(name, found, f"`{Pretrain.__name__.lower()}`") for name, found in METRICS.items()]
    for name, found, by in declared:
        lines.append(f"| `{name}` | {by} | {found.unit.replace('_', ' ')} | {found.better} |")
    return "\n".join(lines) + "\n"


def _codecs() -> str:
    lines = ["| codec | bits of a packed weight | a row must be a multiple of | what is written |", "|---|---|---|---|"]
    for name, form in FORMATS.items():
        lines.append(f"| `{name}` | {form.bits:g} | {form.block} | {form.summary} |")
    return "\n".join(lines) + "\n"


def _verbs() -> str:
    lines = ["| verb | what it does |", "|---|---|"]
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    for name, verb in command.commands.items():
        if not verb.hidden:
            lines.append(f"| `{name}` | {verb.help} |")
    return "\n".join(lines) + "\n"


def rendered(page: str) -> str:
    """The page with its generated parts anew."""
    known = parts()

    def anew(old: re.Match[str]) -> str:
        return f"<!-- begin {old[1]} -->\n\n{known[old[1]]}\n<!-- end {old[1]} -->"

    return re.sub(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", anew, page, flags=re.DOTALL)


def claims() -> str:
    """The claims ledger as a page, with the bundled plans that name its rows and without any run."""
    return claims_page(ledger(), take_stock(ledger(), bundled()))


def main() -> int:
    """0, or with --check 1 where a page is not current."""
    stale = False
    for path in (*PAGES, CLAIMS):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = claims() if path == CLAIMS else rendered(before)
        stale |= before != after
        if "--check" not in sys.argv[1:]:
            path.write_text(after, encoding="utf-8")
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
