"""Packets for a cascade that is being served: POST /v1/packets {model, name, text}, GET /v1/packets, and a folder.

What is posted, or is put as a text file into FOLDER/NAME (`bloomery serve --packets FOLDER`, NAME the cascade's), is
routed from that moment on to the member that it is nearest to (stages/packets.py). A file is taken when two looks,
LOOK_SECONDS apart, found it with the same size and time, so one that is still being copied is not cut in half; it stays
where it is, and a file that changes is a further packet.

Refuses unknown cascades (404), texts without a word (400), and what cannot be stored (503): then nothing has changed. A
file that cannot be a packet is named in the log once, and left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any

from fastapi import FastAPI

from bloomery.errors import ArtifactError, BloomeryError, DataError
from bloomery.serve.desk import Desk
from bloomery.serve.source import Refusal, Shelf
from bloomery.serve.wire import PacketAsked

LOOK_SECONDS = 2.0
LARGEST_FILE = 4 * 2**20
"""Bytes, four for each character that a packet may have: nothing larger is read."""
TEXTS = (".txt", ".md", ".rst")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inbox:
    """A folder whose text files are packets. `look` belongs to one thread at a time."""

    folder: Path
    shelf: Shelf
    _seen: dict[Path, tuple[tuple[int, int], bool]] = field(default_factory=dict)
    """{file: (its size and time, whether it was dealt with)}"""

    def look(self) -> list[dict[str, Any]]:
        """What was added by this look."""
        found: list[dict[str, Any]] = []
        for file in sorted(self.folder.glob("*")) if self.folder.is_dir() else ():
            if file.suffix not in TEXTS or file.name.startswith("."):
                continue
            try:
                stat = file.stat()
                if not S_ISREG(stat.st_mode):  # reading a pipe would wait for ever
                    continue
                now, (before, done) = (stat.st_size, stat.st_mtime_ns), self._seen.get(file, ((-1, -1), False))
                self._seen[file] = now, done and now == before
                if now == before and not done:
                    if stat.st_size > LARGEST_FILE:
                        raise DataError("text", f"{stat.st_size:,} bytes", f"{LARGEST_FILE:,} at most")
                    told = self.shelf.add(file.name, file.read_text(encoding="utf-8"))
                    self._seen[file] = now, True
                    found += [told] if told["new"] else []
            except (DataError, OSError, ValueError) as error:  # ValueError: not UTF-8
                self._seen[file] = self._seen.get(file, ((-1, -1), True))[0], True
                log.warning("%s is no packet: %s", file, error)
            except ArtifactError as error:  # tried again at the next look
                log.warning("%s is not added: %s", file, error)
        return found


def add_packets(app: FastAPI, desk: Desk, refusals: dict[int | str, dict[str, Any]]) -> None:
    # Not coroutines: they wait for the disk, on a thread of the pool.
    def add(asked: PacketAsked) -> dict[str, Any]:
        shelf = next((each.shelf for each in desk.several if each.name == asked.model), None)
        if shelf is None:
            message = f"no cascade {asked.model!r} takes packets here"
            raise Refusal(404, message, param="model", code="model_not_found")
        try:
            return {"object": "packet", "model": asked.model, **shelf.add(asked.name, asked.text)}
        except DataError as error:
            raise Refusal(400, f"{error.where}: {error.found}", param="text") from None
        except BloomeryError:  # its text names folders of this machine
            raise Refusal(503, "the packet could not be stored; nothing has changed", kind="server_error") from None

    def told() -> dict[str, Any]:
        held = [
            {"model": each.name, **asdict(one), "grown": one.grown}
            for each in desk.several
            if each.shelf is not None
            for one in each.shelf.holdings()
        ]
        return {"object": "list", "data": held}

    app.post("/v1/packets", responses=refusals)(add)
    app.get("/v1/packets")(told)


async def watch(inboxes: Sequence[Inbox]) -> None:
    """Until it is cancelled."""
    while inboxes:
        for inbox in inboxes:
            try:
                await asyncio.to_thread(inbox.look)
            except OSError as error:  # a folder that cannot be read now
                log.warning("%s was not looked at: %s", inbox.folder, error)
        await asyncio.sleep(LOOK_SECONDS)
