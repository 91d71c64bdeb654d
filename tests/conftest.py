"""What holds for every test: one thread, no network, shapes checked, and few examples of every property."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; sums depend on it to the last bit
os.environ["MPLBACKEND"] = "agg"
os.environ.pop("BLOOMERY_RUNS", None)

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
OFFLINE = TESTS / "support" / "offline"

sys.path.insert(0, str(TESTS))  # `support` is for tests only
sys.path.insert(0, str(OFFLINE))
os.environ["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), str(SOURCE)])
import support.real  # noqa: E402  it reads BLOOMERY_DATA, which no plan under test is to see

os.environ.pop("BLOOMERY_DATA", None)
sys.modules.pop("sitecustomize", None)  # the interpreter may have come with one of its own

import pytest  # noqa: E402
import sitecustomize  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

import support.shapes  # noqa: E402

CHECKED = ("model", "train", "evaluate", "quant")
install_import_hook([f"bloomery.{part}" for part in CHECKED], "support.shapes.checked")

settings.register_profile(
    "here", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.register_profile("few", settings.get_profile("ci"), max_examples=3)  # where the same is tested beside it
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))


LONGEST = (
    "systems/harmonic/test_tour.py", "engine/test_grammar_ends.py", "systems/holographic/test_killed.py",
    "systems/harmonic/test_roadmap.py",
)  # fmt: skip
"""Begun first, the longest first: at the end one worker would still be at work on them, and the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """File by file, since modules share fixtures."""
    place = {TESTS / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def _every_test() -> None:
    sitecustomize.block()
    support.shapes.next_test()
