"""Checks of what a plan works with: data and mixtures, suites, baselines, foreign inputs, budgets.

No suite judges a split that the judged model was fitted on; parts and files exist; caps can be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bloomery.errors import BloomeryError, PlanError, Problems, nearest
from bloomery.plan import metrics
from bloomery.plan.check_stages import parse_reference
from bloomery.plan.look import Look, Placed, asked
from bloomery.plan.problems import closest
from bloomery.plan.schema import Budget
from bloomery.plan.units import UnitError, format_count, format_seconds, parse_share
from bloomery.plan.yaml_text import KeyPath

_CAPS = ("wall", "tokens", "flops", "memory", "disk", "money")


def check(look: Look) -> None:
    _data(look)
    for name, suite in look.plan.suites.items():
        path: KeyPath = ("suites", name)
        if look.offered((*path, "kind"), suite.kind, look.catalogue.suites(), "suite kind"):
            settings = settings_of(look, "suites", name, ("kind", "through"))
            look.typed(path, look.catalogue.suites()[suite.kind].config_model(), settings)
        for key, part in suite.judged.items():
            part_exists(look, (*path, key), part)
        for index, codec in enumerate(suite.through):
            look.offered((*path, "through", index), codec, look.catalogue.codecs(), "codec")
            if codec in suite.through[:index]:
                look.problem((*path, "through", index), f"the codec {codec} a second time", "every codec once")
    for name, baseline in look.plan.baselines.items():
        path = ("baselines", name)
        if look.offered((*path, "kind"), baseline.kind, look.catalogue.baselines(), "baseline kind"):
            look.typed(path, look.catalogue.baselines()[baseline.kind], settings_of(look, "baselines", name, ("kind",)))
    for name in look.plan.inputs:
        _input(look, name)
    for placed in look.stages:
        _mixture(look, placed)
        _further(look, placed)
        _validation(look, placed)
    _fitted_on(look)
    _budgets(look)


def settings_of(look: Look, section: str, name: str, without: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in look.loaded.raw[section][name].items() if key not in without}


def _data(look: Look) -> None:
    """Let whatever reads data look at it; sources that nothing offers are set aside, and the rest looked at again."""
    rest = dict(look.plan.data)
    for _ in range(len(rest) + 1):
        try:
            look.splits.update(look.catalogue.check_data(rest))
            return
        except Problems as error:
            found = list(error.problems)
        except BloomeryError as error:
            found = [error]
        aside = {key for problem in found if (key := _not_offered(look, problem)) is not None}
        for problem in found:
            key = problem.where.removeprefix("data.").split(".")[0]
            if key not in aside:
                path = look.loaded.path("data." + problem.where.removeprefix("data.") if problem.where else "data")
                look.problems.append(
                    (path, PlanError(look.loaded.where(path), problem.found, problem.expected, problem.hint))
                )
                aside.add(key)
        if not aside & set(rest):
            return
        for key in aside & set(rest):
            look.splits[key] = None
            del rest[key]


def _not_offered(look: Look, problem: BloomeryError) -> str | None:
    """The key below `data` whose source or tokenizer kind nothing installed brings, unless it is a typo of one."""
    parts = problem.where.removeprefix("data.").split(".")
    if len(parts) != 2 or parts[1] not in ("source", "kind") or problem.hint.startswith("did you mean"):
        return None
    settings = look.plan.data.get(parts[0])
    name = settings.get(parts[1]) if isinstance(settings, Mapping) else None
    if not isinstance(name, str):
        return None
    what = "data source" if parts[1] == "source" else "tokenizer kind"
    look.absent(("data", *parts), f"{what} '{name}' is not offered by any installed system")
    return parts[0]


def part_exists(look: Look, path: KeyPath, text: str, further: Mapping[str, Any] | None = None) -> None:
    """`NAME` or `NAME:SPLIT` of the plan's data, or of what a stage's own inputs bring."""
    name, _, split = text.partition(":")
    known = [key for key in look.plan.data if key != "tokenizer"]
    if name in (further or {}):
        return
    if name not in known:
        expected = "a name under `data`" + (" or `needs`" if further is not None else "")
        look.problem(path, f"no data set '{name}'", expected, nearest(name, [*known, *(further or {})]))
        return
    splits = look.splits.get(name)
    if split and splits and split not in splits:
        look.problem(path, f"'{name}' has no split '{split}'", f"one of: {', '.join(splits)}", closest(split, splits))


def _mixture(look: Look, placed: Placed) -> None:
    """`config.data`: a part, or shares of parts that add up to one."""
    data = placed.spec.config.get("data")
    path: KeyPath = (*placed.path, "config", "data")
    if isinstance(data, str):
        part_exists(look, path, data, placed.spec.needs)
    if not isinstance(data, Mapping) or not data:
        return
    try:
        shares = {name: parse_share(share) for name, share in data.items()}
    except UnitError:
        return
    for name in shares:
        part_exists(look, (*path, name), str(name), placed.spec.needs)
    total = sum(shares.values())
    offered = placed.spec.kind in look.catalogue.kinds()
    if abs(total - 1) > 1e-6 and (not offered or placed.id in look.config):
        written = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        look.problem(path, f"shares that add up to {total:g}: {written}", "shares that add up to 1")


def _further(look: Look, placed: Placed) -> None:
    """Other settings that name a part which the kind says it is fitted on: `added`, `served`, `experts.data`."""
    parts = set(fits_on(look, placed))
    for path, text in _texts(placed.spec.config, ()):
        if path[0] != "data" and whole_name(text) in parts:
            part_exists(look, (*placed.path, "config", *path), text)


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, str(key)))


def missing_split(look: Look, placed: Placed, config: BaseModel) -> tuple[str, str, str] | None:
    """A stage that looks at held-out text while it trains (`validation.split`) needs the first of its sets to have it.

    Returns what was found, what was expected and a hint; None where all is well."""
    split = (config.model_dump().get("validation") or {}).get("split")
    parts = look.catalogue.kinds()[placed.spec.kind or ""].fits_on(config)
    name = parts[0].partition(":")[0] if parts else ""
    known = look.splits.get(name)
    if isinstance(split, str) and name in (placed.spec.needs or {}):
        what = f"'{placed.id}' looks at held-out text of '{name}', which a stage makes"
        return what, "a set of the plan's data as the first under `data`", "made examples after it"
    if not isinstance(split, str) or not known or split in known:
        return None
    hint = closest(split, known) or f"validation: {{split: {known[-1]}}}"
    what = f"'{placed.id}' looks at {name}:{split} while it trains, and '{name}' has no split '{split}'"
    return what, f"one of: {', '.join(known)}", hint


def _validation(look: Look, placed: Placed) -> None:
    config = look.config.get(placed.id)
    if config is None or (missing := missing_split(look, placed, config)) is None:
        return
    path: KeyPath = (*placed.path, "config")
    for key in ("validation", "split"):
        path = (*path, key) if (*path, key) in look.loaded.lines else path
    look.problem(path, *missing)


def _fitted_on(look: Look) -> None:
    """A suite must not judge a part that its stage, or one that the model comes from, was fitted on."""
    told: set[str] = set()
    for placed in look.stages:
        fitted = {part: stage for stage in line_of(look, placed) for part in fits_on(look, stage)}
        names = [metrics.source(found.condition.metric) for found in asked(placed)]
        for name in [*names, *placed.spec.evaluate]:
            suite = look.plan.suites.get(name)
            if suite is None or name in told:
                continue
            for key, part in ((key, whole_name(part)) for key, part in suite.judged.items()):
                if part in fitted:
                    told.add(name)
                    what = f"judges {part} for stage '{placed.id}', and stage '{fitted[part].id}' is fitted on it"
                    path: KeyPath = ("suites", name, key)
                    look.problem(path, what, "a part that no stage learns from", another_split(look, part))


def another_split(look: Look, part: str) -> str:
    name, _, split = part.partition(":")
    others = [other for other in look.splits.get(name) or () if other != split]
    return f"{name} also has: {', '.join(others)}" if others else ""


def fits_on(look: Look, placed: Placed) -> list[str]:
    config = look.config.get(placed.id)
    if config is None or placed.spec.kind is None:
        return []
    return [whole_name(part) for part in look.catalogue.kinds()[placed.spec.kind].fits_on(config)]


def whole_name(part: str) -> str:
    return part if ":" in part else f"{part}:train"


def line_of(look: Look, placed: Placed) -> list[Placed]:
    """The stage and all that its inputs come from; of a loop the stages of its cycles too."""
    found = {placed.id: placed}
    waiting = [placed]
    while waiting:
        one = waiting.pop()
        references = [parse_reference(text) for text in one.spec.needs.values()]
        sources = [look.stage(reference.stage) for reference in references if reference is not None]
        for source in (*sources, *(other for other in look.stages if other.loop is one)):
            if source is not None and source.id not in found:
                found[source.id] = source
                waiting.append(source)
    return list(found.values())


def _input(look: Look, name: str) -> None:
    foreign, path = look.plan.inputs[name], ("inputs", name)
    given = [kind for kind in ("file", "folder", "hub", "run") if getattr(foreign, kind) is not None]
    if len(given) != 1:
        found = "none of file, folder, hub, run" if not given else " and ".join(given)
        look.problem(path, found, "exactly one of file, folder, hub, run")
        return
    if given[0] in ("file", "folder"):
        _on_disk(look, name, given[0], str(getattr(foreign, given[0])))
    used = {text for placed in look.stages for text in placed.spec.needs.values()}
    if f"inputs.{name}" not in used:
        look.warn(path, f"no stage needs the input '{name}'")


def _on_disk(look: Look, name: str, what: str, text: str) -> None:
    path: KeyPath = ("inputs", name, what)
    place = look.loaded.source.parent / Path(text).expanduser()
    system = Path(text).parts[0] if Path(text).parts else ""
    if place.is_dir() if what == "folder" else place.is_file():
        return
    if place.exists():
        look.problem(path, f"'{text}' is a {'file' if what == 'folder' else 'folder'}", f"a {what}")
    elif system == look.plan.system and system not in look.catalogue.systems():
        look.absent(path, f"'{text}' comes with the system '{system}', which is not offered")
    else:
        look.problem(path, f"no {what} '{text}'", f"a {what}; relative paths begin at {look.loaded.source.parent}")


def _budgets(look: Look) -> None:
    _caps(look, look.plan.budget, ("budget",))
    for placed in look.stages:
        path: KeyPath = (*placed.path, "budget")
        _caps(look, placed.spec.budget, path)
        for cap in _CAPS:
            own, whole = getattr(placed.spec.budget, cap), getattr(look.plan.budget, cap)
            if own is not None and whole is not None and own > whole:
                look.problem((*path, cap), f"more than the plan's own cap, {_cap(cap, whole)}", "at most that")
    _tokens(look)


def _caps(look: Look, budget: Budget, path: KeyPath) -> None:
    for cap in _CAPS:
        if getattr(budget, cap) == 0:
            look.problem((*path, cap), "a cap of 0: nothing could run", "more than 0, or no cap")


def _cap(cap: str, value: float) -> str:
    return format_seconds(value) if cap == "wall" else format_count(int(value)) if cap == "tokens" else f"{value:g}"


def _tokens(look: Look) -> None:
    """The tokens of one walk are known; a cap below them would stop every run."""
    total = 0
    for placed in look.stages:
        config = look.config.get(placed.id)
        tokens = config.model_dump().get("tokens") if config is not None else None
        if not isinstance(tokens, int) or placed.loop is not None:
            continue
        asked_for = tokens * len(look.seeds(placed))
        total += asked_for
        cap = placed.spec.budget.tokens
        if cap is not None and 0 < cap < asked_for:
            what = f"{format_count(cap)} tok, but the stage asks for {format_count(asked_for)} over its seeds"
            look.problem((*placed.path, "budget", "tokens"), what, f"at least {format_count(asked_for)} tok")
    cap = look.plan.budget.tokens
    if cap is not None and 0 < cap < total:
        what = f"{format_count(cap)} tok, but one walk asks for {format_count(total)} without its control"
        look.problem(("budget", "tokens"), what, f"at least {format_count(total)} tok")
