"""The codecs that come with it: a model folder in, a model folder out, its weights in one of quant.pack's formats.

model.json gains `codec`: its name, which tensors are packed, and how many weights that is of how many. What is packed
already is unpacked first. They pack what the model stores: of generated weights the components, not the matrices made
from them. They refuse models that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.engine.stage import PackedSize
from bloomery.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class FormatCodec:
    """One of quant.pack.FORMATS, by name."""

    name: str

    def pack(self, model: Path, target: Path) -> None:
        from bloomery.quant.pack import FORMATS, pack
        from bloomery.stages import models

        weights = models.weights_of(model)
        try:
            written, packed = pack(weights, FORMATS[self.name])
        except ValueError as error:
            expected = "finite weights that half precision has a scale for"
            raise ArtifactError(str(model), str(error), expected) from None
        counts = {
            "weights": sum(tensor.numel() for tensor in weights.values()),
            "packed_weights": sum(weights[name].numel() for name in packed),
        }
        models.save_packed(target, model, written, {"name": self.name, "packed": packed, **counts})

    def unpack(self, folder: Path) -> Mapping[str, Any]:
        from bloomery.quant.pack import FORMATS, unpack
        from bloomery.stages import models

        try:
            return unpack(models.tensors_in(folder), self._record(folder)["packed"], FORMATS[self.name])
        except ValueError as error:
            hint = "delete this folder and run again"
            raise ArtifactError(str(folder), f"does not unpack: {error}", "what the codec wrote", hint) from None

    def size(self, folder: Path) -> PackedSize:
        from bloomery.stages import models

        payload = sum(tensor.nbytes for tensor in models.tensors_in(folder).values())
        record = self._record(folder)
        return PackedSize(int(record["weights"]), int(record["packed_weights"]), payload)

    def _record(self, folder: Path) -> Mapping[str, Any]:
        from bloomery.stages import models

        record = models.card(folder).get("codec")
        wanted = {"name", "packed", "weights", "packed_weights"}
        if not isinstance(record, dict) or not wanted <= set(record) or record["name"] != self.name:
            expected = "codec: " + ", ".join(sorted(wanted))
            raise ArtifactError(str(folder / models.CARD), f"was not packed by {self.name}", expected)
        return record


def float_codec() -> FormatCodec:
    """The weights as they are: what the others are compared with."""
    return FormatCodec("float")


def bf16_codec() -> FormatCodec:
    return FormatCodec("bf16")


def q8_0_codec() -> FormatCodec:
    return FormatCodec("q8_0")


def q4_0_codec() -> FormatCodec:
    return FormatCodec("q4_0")
