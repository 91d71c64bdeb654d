"""Devices that a plan can be priced on: a small table (devices.yaml beside this file), and the user's own laid over it.

BLOOMERY_DEVICES names a YAML file of the same shape. It refuses unknown keys, a device without the figures that a price
needs, and utilisation outside 0 to 1. Nothing here measures: a caller that has timed a CPU passes what it found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bloomery.errors import BloomeryError, nearest
from bloomery.plan.units import Bytes, Money, Share

TABLE: Final = Path(__file__).with_name("devices.yaml")
VARIABLE: Final = "BLOOMERY_DEVICES"

Flops = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Device(BaseModel):
    """One accelerator (or CPU) as it is used for training. See devices.yaml for what each figure means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    peak_flops: Annotated[Mapping[str, Flops], Field(min_length=1)]
    """{"bf16": ..., "fp32": ...}, per second."""
    memory: Bytes
    bandwidth: Bytes
    """Bytes per second."""
    watts: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    utilisation: Annotated[Share, Field(gt=0)]
    usd_per_hour: Money | None = None
    """Rented; None where it is usually owned."""
    usd_per_kwh: Money
    reported: re.Pattern[str] | None = None
    """What the driver calls it, as a regular expression: how a run finds out what it runs on."""

    def flops_per_second(self, dtype: str = "bf16") -> float:
        """What training reaches: peak times utilisation. A dtype that the device lacks runs as its slowest."""
        return self.peak_flops.get(dtype, min(self.peak_flops.values())) * self.utilisation

    def measured(self, peak_flops: Mapping[str, float], *, memory: int | None = None) -> Device:
        """The same device with peaks (and memory) as found on the spot, for a CPU."""
        found: dict[str, Any] = {**self.model_dump(), "peak_flops": {**self.peak_flops, **peak_flops}}
        if memory is not None:
            found["memory"] = memory
        return Device.model_validate(found)


def load_devices(environment: Mapping[str, str] = os.environ) -> dict[str, Device]:
    """{name: Device}, the user's file laid over the table. Raises BloomeryError where it cannot be read or used."""
    table = _read(TABLE)
    source = str(TABLE)
    if extra := environment.get(VARIABLE):
        source = extra
        table = _merge(table, _read(Path(extra).expanduser()))
    unknown = set(table) - {"devices", "usd_per_kwh"}
    if unknown:
        name = sorted(unknown)[0]
        raise BloomeryError(f"{source}: {name}", "unknown key", "devices, usd_per_kwh", nearest(name, ("devices",)))
    devices = table.get("devices")
    if not isinstance(devices, Mapping):
        raise BloomeryError(f"{source}: devices", "not a mapping", "NAME: {title, peak_flops, memory, ...}")
    named = cast(Mapping[object, Any], devices)
    return {str(name): _device(source, str(name), one, table.get("usd_per_kwh")) for name, one in named.items()}


def find_device(name: str, environment: Mapping[str, str] = os.environ) -> Device:
    """The device of this name. Raises BloomeryError with the nearest name."""
    devices = load_devices(environment)
    if name not in devices:
        raise BloomeryError(
            "device", f"no device '{name}'", "one of " + ", ".join(devices),
            nearest(name.lower().replace("_", "-"), devices) or f"add it in a file named by {VARIABLE}",
        )  # fmt: skip
    return devices[name]


def priced_as(reported: str, environment: Mapping[str, str] = os.environ) -> Device | None:
    """The device that a driver reports by this name; None where the table has no such."""
    for device in load_devices(environment).values():
        if device.reported is not None and device.reported.search(reported):
            return device
    return None


def _device(source: str, name: str, figures: Any, usd_per_kwh: Any) -> Device:
    where = f"{source}: devices.{name}"
    if not isinstance(figures, Mapping):
        raise BloomeryError(where, "not a mapping", "{title, peak_flops, memory, ...}")
    try:
        return Device.model_validate({"usd_per_kwh": usd_per_kwh, "title": name, **figures, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = [field for field in Device.model_fields if field != "name"]
        hint = nearest(key, known) if first["type"] == "extra_forbidden" else ""
        raise BloomeryError(
            f"{where}.{key}", first["msg"], str(first.get("ctx", {}).get("expected", "")), hint
        ) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            value: object = YAML(typ="safe", pure=True).load(stream)  # pyright: ignore[reportUnknownMemberType]
    except OSError as error:
        raise BloomeryError(str(file), error.strerror or str(error), "a table of devices", f"see {VARIABLE}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise BloomeryError(
            str(file), f"not readable as YAML: {str(error).splitlines()[0]}", f"the shape of {TABLE}"
        ) from None
    if not isinstance(value, dict):
        raise BloomeryError(str(file), "not a mapping", f"the shape of {TABLE}")
    return cast(dict[str, Any], value)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _merge(cast(dict[str, Any], below), cast(dict[str, Any], value))
        merged[key] = value
    return merged
