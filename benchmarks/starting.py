"""What a start costs before the first step of training: of a plan that begins, and of one that was killed and goes on.

    python benchmarks/starting.py [PLAN]

Runs PLAN (harmonic/tour) in a folder that is thrown away, each time in a process of its own that ends, as SIGKILL would
end it, when its first cell begins to work; prints that process's CPU seconds and its peak of memory. The first start of
all prepares the data. On a machine that knows the plan's models (stages.counted), as every second start does.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

from bloomery.cli import main
from bloomery.engine.cellwork import Underway

STARTS = ("begun", "gone on with", "gone on with", "gone on with")


def ended(_: Underway) -> None:
    """In place of Underway.clear, the first thing that is done with a cell."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{time.process_time():.1f} s, {peak:.0f} MB, compiler {'' if 'torch._dynamo' in sys.modules else 'not '}loaded"
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    if "run" in sys.argv:
        Underway.clear = ended
        main()
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", *(sys.argv[1:] or ["harmonic/tour"]), "--runs", folder, "--threads", "1", "--device", "cpu"]
        for how in STARTS:
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
            print(f"{how}: {done.stdout.splitlines()[-1]}", flush=True)
