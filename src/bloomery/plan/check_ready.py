"""What suites need that is not here: an extra, files. `check` warns of it, and a run does not begin without it.

It is asked first and not when the suite runs, which may be after days of training.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from bloomery.errors import BloomeryError
from bloomery.plan.catalogue import Catalogue, Needing
from bloomery.plan.load import Loaded
from bloomery.plan.look import Look


def check(look: Look) -> None:
    for name, error in unready(look.loaded, look.catalogue):
        wanted = f", {error.expected} wanted" if error.expected else ""
        look.warn(("suites", name), f"cannot be measured here: {error.where}: {error.found}{wanted}", error.hint)


def unready(loaded: Loaded, catalogue: Catalogue) -> Iterator[tuple[str, BloomeryError]]:
    """(suite, what it lacks). Settings that are wrong are somebody else's concern."""
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
            yield name, error
