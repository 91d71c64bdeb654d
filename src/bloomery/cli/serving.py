"""`serve`: models and cascades behind an OpenAI-compatible server. Needs the extra `serve`."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bloomery.cli.cascades import open_cascades
from bloomery.cli.machine import model_folder
from bloomery.errors import BloomeryError, MissingExtra

EXTRA = ("fastapi", "uvicorn", "jinja2")


@dataclass(frozen=True, slots=True)
class Limits:
    slots: int
    queue: int
    context: int
    max_body: int
    grace_seconds: int


def serve(
    names: Sequence[str], cascades: Sequence[Path], host: str, port: int, api_key: str | None, limits: Limits,
    device: str, threads: int, root: Path, feedback: Path, packets: Path | None = None, *, texts: bool = False,
) -> None:  # fmt: skip
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        found = f"`{missing[0]}` is not installed"
        raise MissingExtra("bloomery serve", found, hint="pip install 'bloomery[serve]'")
    if not names and not cascades:
        raise BloomeryError("bloomery serve", "nothing to serve", "a run, a model folder, or --cascade FILE")
    if texts and not cascades:
        raise BloomeryError("--keep-texts", "no cascade is served", "--cascade FILE: of other models nothing is kept")
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise BloomeryError("bloomery serve", f"'{repeated}' twice", "each model once: clients ask by name")
    if api_key is not None and not (api_key.isascii() and api_key.strip() == api_key and api_key):
        raise BloomeryError(
            "--api-key", "empty, or with spaces around it or letters beyond ASCII", "a key that a header holds"
        )
    folders = [model_folder(name, root) for name in names]
    from bloomery.data.chat import chat_template
    from bloomery.serve.app import application
    from bloomery.serve.desk import Desk
    from bloomery.serve.packets import Inbox
    from bloomery.serve.run import bound, run
    from bloomery.serve.source import Model
    from bloomery.stages import models
    from bloomery.stages.scorers import open_scorer
    from bloomery.train.device import choose_device

    with ExitStack() as held:
        listening = held.enter_context(bound(host, port))
        chosen = choose_device(device)
        models.use_threads(threads or os.cpu_count() or 1)
        served = [
            Model(
                name, open_scorer(folder, device=chosen.value), models.tokenizer_of(folder),
                chat_template(folder / "tokenizer"),
            )
            for name, folder in zip(names, folders, strict=True)
        ]  # fmt: skip
        several = open_cascades(cascades, root, feedback, texts=texts, device=chosen.value, held=held)
        if taken := next((each.name for each in several if each.name in names), None):
            raise BloomeryError("--cascade", f"'{taken}' is a run that is served too", "a name of its own")
        inboxes: list[Inbox] = []
        if packets is not None:
            inboxes = [Inbox(packets / each.name, each.shelf) for each in several if each.shelf is not None]
            if not inboxes:
                raise BloomeryError("--packets", "no cascade with packets is served", "--cascade FILE with `packets`")
            wanted = " or ".join(str(each.folder) for each in inboxes)
            if not any(each.folder.is_dir() for each in inboxes):
                raise BloomeryError("--packets", f"{packets} has no folder for a cascade", wanted, f"mkdir -p {wanted}")
        desk = Desk(served, limits.slots, limits.context, limits.queue, several)
        if api_key is None and not _loopback(host):
            print(f"warning: anybody who reaches {host} can use this server; --api-key asks for a key", file=sys.stderr)
        where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"

        def ready() -> None:
            print(f"serving {', '.join(desk.names)} at {where} (API: {where}/v1); Ctrl-C ends it", flush=True)
            if texts:
                kept = ", ".join(str(feedback / each.name) for each in several)
                print(f"what is asked and answered is kept in {kept}", flush=True)

        run(
            application(desk, api_key=api_key, max_body=limits.max_body, inboxes=inboxes), listening,
            grace_seconds=limits.grace_seconds, ready=ready,
        )  # fmt: skip


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
