"""Where the developers' public data lies, which is no part of the project: tests that read it skip where it is absent.

Imported by conftest.py before it takes BLOOMERY_DATA from the environment, so that no plan under test looks there.
"""

import os
from pathlib import Path

KEPT = "BLOOMERY_TESTS_DATA"
"""Hands it on to the processes of pytest-xdist, which begin when BLOOMERY_DATA is gone."""
BESIDE = Path(__file__).parents[3] / "shared" / "data"
REAL = Path(os.environ.get("BLOOMERY_DATA") or os.environ.get(KEPT) or BESIDE)
os.environ[KEPT] = str(REAL)
ABSENT = "the developers' data is not here (BLOOMERY_DATA)"
