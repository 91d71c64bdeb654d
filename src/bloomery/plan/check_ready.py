"""What suites need that is not here: an extra, files. `check` warns of it. A run does not begin without it where a gate
or a rule asks for the suite, and leaves the suite out where it is only reported.

It is asked first and not when the suite runs, which may be after days of training.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from bloomery.errors import BloomeryError
from bloomery.plan.cast import deciding_suites
from bloomery.plan.catalogue import Catalogue, Needing
from bloomery.plan.load import Loaded
from bloomery.plan.look import Look


def check(look: Look) -> None:
    for name, error, decides in unready(look.loaded, look.catalogue):
        what = "so a run of it does not begin" if decides else "so a run leaves it out: nothing is decided by it"
        look.warn(("suites", name), f"cannot be measured here, {what}; {lacking(error)}", error.hint)


def lacking(error: BloomeryError) -> str:
    return f"{error.where}: {error.found}" + (f", {error.expected} wanted" if error.expected else "")


def unready(loaded: Loaded, catalogue: Catalogue) -> Iterator[tuple[str, BloomeryError, bool]]:
    """(suite, what it lacks, whether anything is decided by it). Wrong settings are not its concern."""
    deciding = deciding_suites(loaded.plan.stages)
    for name, suite in loaded.plan.suites.items():
        kind = catalogue.suites().get(suite.kind)
        if not isinstance(kind, Needing):
            continue
        settings = {key: value for key, value in loaded.raw["suites"][name].items() if key not in ("kind", "through")}
        try:
            kind.ready(kind.config_model().model_validate(settings, context={"system": loaded.plan.system}))
        except ValidationError:
            continue
        except BloomeryError as error:
            yield name, error, name in deciding
