"""The suite `system`: memory, speed, bytes on disk and energy of a model in use, each in fresh processes.

Every process loads the model anew and measures (evaluate/system); n is the number of processes, the interval that of
their mean. Bytes on disk are counted once: exact, without an interval. What the machine does not tell is not measured,
so that a gate which asks for it says *missing*: joules without a counter, device memory without a device.

`profile` names the machine that the numbers are meant for: `laptop` is the one at hand; any other name stands in the
price table, and on a machine that is not this one nothing but the bytes on disk is measured: a speed of another machine
is no evidence. Refuses an unknown profile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import SEAL, Artifact
from bloomery.engine.devices import load_devices, priced_as
from bloomery.engine.intervals import mean_interval
from bloomery.engine.stage import SuiteResult
from bloomery.errors import ArtifactError, nearest
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import Frozen

HERE = "laptop"


class SystemSettings(Frozen):
    profile: str = HERE
    """The machine that the numbers are meant for: `laptop`, the one at hand, or a device of the price table."""
    prompt: int = Field(default=128, ge=1)
    """Tokens that are read."""
    tokens: int = Field(default=64, ge=1)
    """Tokens that are written."""
    repeats: int = Field(default=3, ge=1)
    """Of which each process takes the middle."""
    processes: int = Field(default=3, ge=1)
    """Fresh ones; an interval takes two."""
    threads: int | None = Field(default=None, ge=1)
    """For the CPU; without it those of the run."""

    @model_validator(mode="after")
    def _known(self) -> SystemSettings:
        known = [HERE, *load_devices()]
        if self.profile not in known:
            raise ValueError(f"no profile '{self.profile}'; {nearest(self.profile, known)}")
        return self


METRICS = {
    "prefill_tokens_per_second": Emitted("", "higher"),
    "decode_tokens_per_second": Emitted("", "higher"),
    "time_to_first_token_seconds": Emitted("seconds", "lower"),
    "peak_memory_bytes": Emitted("bytes", "lower"),
    "peak_device_memory_bytes": Emitted("bytes", "lower"),
    "joules_per_token": Emitted("", "lower"),
}


class System:
    """What a model costs to use."""

    def config_model(self) -> type[BaseModel]:
        return SystemSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {**METRICS, "disk_bytes": Emitted("bytes", "lower")}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        assert isinstance(config, SystemSettings)
        told: list[Mapping[str, Any]] = []
        if _is_here(config.profile, device):
            wanted = {
                "prompt": config.prompt, "tokens": config.tokens, "repeats": config.repeats, "device": device,
                "threads": config.threads or threads,
            }  # fmt: skip
            told = [_probed(model.path, wanted) for _ in range(config.processes)]
        found = [Measurement("disk_bytes", float(disk_bytes(model.path)), unit="bytes")]
        for name, emitted in METRICS.items():
            values = [one[name] for one in told if one[name] is not None]
            if values:
                mean = sum(values) / len(values)
                found.append(Measurement(name, mean, len(values), mean_interval(values), unit=emitted.unit))
        return SuiteResult(tuple(found))


def disk_bytes(folder: Path) -> int:
    """All that the artifact's folder holds, tokenizer and settings included, its seal not."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file != folder / SEAL)


def _is_here(profile: str, device: str) -> bool:
    if profile == HERE:
        return True
    from bloomery.train.device import reported_name

    return profile == device or priced_as(reported_name(device)) == load_devices()[profile]


def _probed(model: Path, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a fresh process finds. Raises ArtifactError with what it says where it breaks off."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(wanted["threads"])}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "usage.json"
        command = [
            sys.executable, "-m", "bloomery.stages.system_probe", str(model), str(result), json.dumps(dict(wanted))
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not result.exists():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ArtifactError(
                str(model), f"the process that measures it broke off: {last}", "a model that can be run"
            )
        told = json.loads(result.read_text())
    if "error" in told:
        raise ArtifactError(*told["error"])
    return told
