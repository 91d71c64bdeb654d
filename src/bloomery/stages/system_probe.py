"""A process of its own that measures one model, and nothing that came before it.

    python -m bloomery.stages.system_probe MODEL_FOLDER RESULT_FILE SETTINGS

SETTINGS: JSON with prompt, tokens, repeats, device, threads. The result is a Usage as JSON; a mistake of the user's is
{"error": ...}, which the suite says again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from bloomery.errors import BloomeryError


def probe(model: Path, result: Path, settings: str) -> None:
    from bloomery.evaluate.system import measure
    from bloomery.stages import models
    from bloomery.stages.scorers import open_scorer

    wanted = json.loads(settings)
    models.use_threads(wanted.pop("threads"))
    try:
        told = asdict(measure(open_scorer(model, device=wanted["device"]), **wanted))
    except BloomeryError as error:
        told = {"error": [error.where, error.found, error.expected, error.hint]}
    result.write_text(json.dumps(told))


if __name__ == "__main__":
    probe(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
