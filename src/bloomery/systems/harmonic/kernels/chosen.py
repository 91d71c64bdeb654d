"""Whether a Triton kernel serves a device: `serves(device, name)`. Where it does not, torch does the same.

It does on the current GPU, if triton can be imported, compiles it there, and small cases come out as by its formula
(proof.py), which is asked once a process: these kernels were compiled for GPUs and run through triton's interpreter,
but never on a GPU, and it is not a model that is to find out that one is wrong. The reason goes to the log once, and
native.refusals keeps it for `bloomery doctor`. BLOOMERY_NATIVE=0 switches them off with those in C.
"""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch

from bloomery.model import native

log = logging.getLogger(__name__)

Name = Literal["low_rank", "monarch", "scale_space", "gauss", "gabor", "cos"]
DEVICES = ("cuda",)
"""Types of them; tests add the CPU, for the interpreter."""

_refusals: dict[tuple[torch.device, Name], str | None] = {}


def serves(device: torch.device, name: Name) -> bool:
    if device.type not in DEVICES or os.environ.get("BLOOMERY_NATIVE") == "0":
        return False
    if device.type == "cuda" and torch.cuda.is_initialized() and device.index != torch.cuda.current_device():
        return False  # triton launches on the current one
    if (device, name) not in _refusals:
        reason = _refusals[device, name] = _refusal(device, name)
        if reason is not None:
            native.refusals[f"{name} in Triton"] = reason
            log.warning("%s in Triton is not used on %s, torch does its work: %s", name, device, reason)
    return _refusals[device, name] is None


def _refusal(device: torch.device, name: Name) -> str | None:
    try:
        from bloomery.systems.harmonic.kernels import proof

        with torch.inference_mode(False):
            proof.PROOFS[name](device)
    except Exception as error:  # what triton raises has no common class: no compiler, an old driver, no memory
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return None
