"""Whether lm-evaluation-harness is installed, in the version that is tested. Loads nothing of it."""

from __future__ import annotations

import importlib.metadata

from bloomery.errors import MissingExtra

VERSION = "0.4.13"
"""The loader of its task files is private, so another version may differ anywhere."""


def check_version() -> None:
    """Raise MissingExtra."""
    hint = "pip install 'bloomery[eval]'"
    try:
        found = importlib.metadata.version("lm-eval")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("lm-eval", "is not installed", f"lm-eval {VERSION}", hint) from None
    if found != VERSION:
        raise MissingExtra("lm-eval", f"version {found}", f"{VERSION}, whose task files ours build on", hint)
