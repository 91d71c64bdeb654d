"""What runs inside the sandbox (evaluate/sandbox.py), which gives its text to `python -I -S -c`.

Two processes, one protocol of JSON lines. The *candidate* holds the program that a model wrote, behind resource limits
and, on Linux with Landlock, without files, sockets and signals beyond its own folder. The *judge* holds the check. All
that passes between them are requests (a function's name and plain values) and answers (a plain value, or an exception's
name and text), so nothing of the candidate's own, neither an object that is equal to everything nor a patched builtin,
reaches the check. Refuses values that are not plain, and answers longer than ANSWER_BYTES.

Standard library only: without `site` there is nothing else. Landlock: kernel.org, userspace-api/landlock (ABI 1 to 7).
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import sys
import types
from typing import Any, NoReturn

ANSWER_BYTES = 1 << 20
TEXT = 300
"""Characters of an exception's text that are told."""

_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any) -> Any:
    """A plain value as JSON. Raises TypeError for any other."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(inner)] for key, inner in value.items()]}
    for name, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return {name: [encode(inner) for inner in value]}
    raise TypeError(f"a {type(value).__name__} is no plain value")


def decode(value: Any) -> Any:
    """The inverse of `encode`. Raises ValueError or TypeError for what it never writes."""
    if not isinstance(value, dict | list):
        return value
    if isinstance(value, list) or len(value) != 1:
        raise ValueError("no plain value")
    ((name, inner),) = value.items()
    if name == "complex":
        return complex(*inner)
    if name == "bytes":
        return bytes.fromhex(inner)
    if name == "dict":
        return {decode(key): decode(one) for key, one in inner}
    if name not in _CONTAINERS:
        raise ValueError("no plain value")
    return _CONTAINERS[name](decode(one) for one in inner)


class _Text(importlib.abc.InspectLoader):
    """Loads a module from text that stands in no file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


def module_from(name: str, text: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    loader: Any = _Text(text)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader)
    loader.exec_module(module)
    return module


class Pipe:
    """Lines of JSON to and from the other process."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = os.fdopen(incoming, "rb"), outgoing

    def send(self, message: Any) -> None:
        rest = json.dumps(message).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._outgoing, rest) :]

    def receive(self) -> Any:
        """Raises EOFError where the other side is gone, ValueError for what is no message or too long a one."""
        line = self._incoming.readline(ANSWER_BYTES + 1)
        if not line:
            raise EOFError
        if not line.endswith(b"\n"):
            raise ValueError("an answer that is too long or broken off")
        return json.loads(line)


def set_limits(memory: int, seconds: int, *, alone: bool) -> None:
    """Bytes of address space, CPU seconds, small files, few descriptors, no core dump; `alone`: no further process."""
    wanted = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
    }
    if alone:
        wanted[resource.RLIMIT_NPROC] = 1  # it counts the user's processes, so any fork is one too many; not for root
    for which, value in wanted.items():
        _, hard = resource.getrlimit(which)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit on address space
            resource.setrlimit(which, (least, least))


_READ = 1 << 2 | 1 << 3
_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
"""Since which ABI there are how many rights on files."""


def landlock(folder: str) -> int:
    """Leave this process `folder`, and of the rest only what Python's own modules are read from. The ABI; 0: none.

    No program can be executed, no TCP port bound or connected to (from ABI 4), no process outside be sent a signal
    (from ABI 6) or traced.
    """
    if sys.platform != "linux":
        return 0
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        abi = int(library.syscall(444, None, 0, 1))
        if abi < 1:
            return 0
        files = (1 << max(count for since, count in _RIGHTS if since <= abi)) - 1
        attributes = [files, *([3] if abi >= 4 else []), *([3] if abi >= 6 else [])]
        buffer = (ctypes.c_uint64 * len(attributes))(*attributes)
        ruleset = int(library.syscall(444, ctypes.byref(buffer), ctypes.sizeof(buffer), 0))
        if ruleset < 0:
            return 0
        own = files & ~1  # bit 0: execute
        readable = [*sys.path, f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/dev/urandom"]
        for path, rights in [(folder, own), ("/dev/null", 1 << 1 | 1 << 2), *((path, _READ) for path in readable)]:
            _allow(ctypes, library, ruleset, path, rights)
        library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        done = int(library.syscall(446, ruleset, 0))
        os.close(ruleset)
        return abi if done == 0 else 0
    except (ImportError, OSError, AttributeError):
        return 0


def _allow(ctypes: Any, library: Any, ruleset: int, path: str, rights: int) -> None:
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        rights &= 1 << 1 | 1 << 2  # of a file only what files have
    place = os.open(path, os.O_PATH)  # type: ignore[attr-defined]
    rule = ctypes.create_string_buffer(rights.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder), 12)
    library.syscall(445, ruleset, 1, rule, 0)
    os.close(place)


def _silence() -> None:
    """Whatever is read from standard input or printed from here on goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _told(error: BaseException) -> dict[str, str]:
    try:
        return {"error": type(error).__name__, "text": str(error)[:TEXT]}
    except BaseException:
        return {"error": "Exception", "text": ""}


def candidate() -> None:
    """Load the program, then answer one request after the other, until nobody asks."""
    pipe = Pipe(os.dup(0), os.dup(1))
    _silence()
    job = pipe.receive()
    set_limits(job["memory"], job["seconds"], alone=True)
    pipe.send({"landlock": landlock(os.getcwd())})
    try:
        module = module_from("candidate", job["program"])
        pipe.send({"value": None})
    except BaseException as error:
        pipe.send(_told(error))
        return
    while True:
        try:
            request = pipe.receive()
        except EOFError:
            return
        try:
            arguments, keywords = decode(request["arguments"]), decode(request["keywords"])
            answer = {"value": encode(getattr(module, request["name"])(*arguments, **keywords))}
        except BaseException as error:
            answer = _told(error)
        pipe.send(answer)


def _raised(answer: Any) -> Exception:
    """What the candidate raised, as the builtin exception of that name; no exit, and no class of its own."""
    name, text = str(answer["error"]), str(answer.get("text", ""))[:TEXT]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):
            return kind(text)
    return RuntimeError(f"{name}: {text}")


class Judge:
    """Runs the check; the only one who knows the nonce."""

    def __init__(self, job: dict[str, Any], output: int) -> None:
        self.job, self.output = job, output
        self.pipe = Pipe(*job["pipes"])
        self.landlock = 0

    def end(self, why: str, nonce: str = "") -> NoReturn:
        """Not an exception, which a check could catch."""
        os.write(self.output, json.dumps({"why": why, "nonce": nonce, "landlock": self.landlock}).encode())
        os._exit(0)

    def answer(self) -> Any:
        try:
            found = self.pipe.receive()
            return found if isinstance(found, dict) else self.end("it answered with what is no answer")
        except EOFError:
            self.end("it ended its own process")
        except (ValueError, RecursionError, MemoryError):
            self.end("it answered with what is no answer, or too much")

    def ask(self, *arguments: Any, **keywords: Any) -> Any:
        """The candidate's function, to the check."""
        request = {"name": self.job["entry"], "arguments": encode(arguments), "keywords": encode(keywords)}
        self.send(request)
        answer = self.answer()
        if "error" in answer:
            raise _raised(answer)
        try:
            return decode(answer["value"])
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
            self.end("it answered with what is no answer")

    def send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            self.end("it ended its own process")

    def run(self) -> NoReturn:
        job = self.job
        try:
            module = module_from("check", f"{job['setup']}\n{job['check']}\n")
            check = module.check
        except BaseException as error:
            self.end(f"the check itself does not load: {type(error).__name__}: {str(error)[:TEXT]}")
        self.send({key: job[key] for key in ("program", "memory", "seconds")})
        self.landlock = int(self.answer()["landlock"])
        loaded = self.answer()
        if "error" in loaded:
            self.end(f"it does not load: {loaded['error']}: {loaded.get('text', '')}")
        module.__dict__[job["entry"]] = self.ask
        try:
            check(self.ask)
        except BaseException as error:
            self.end(f"{type(error).__name__}: {str(error)[:TEXT]}")
        self.end("", job["nonce"])


def judge() -> NoReturn:
    job = json.loads(sys.stdin.buffer.readline())
    output = os.dup(1)
    _silence()
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: none of the same user reads its memory
    set_limits(job["memory"], job["seconds"], alone=False)
    Judge(job, output).run()


if __name__ == "__main__":
    candidate() if sys.argv[1] == "candidate" else judge()
