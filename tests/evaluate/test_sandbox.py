"""The sandbox: right functions pass, wrong ones do not, and every way around the check fails or gains nothing."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from bloomery.evaluate import inside, sandbox
from bloomery.evaluate.sandbox import Isolation, Outcome, isolation, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX"),
]

DOUBLE = """
import random
def check(candidate):
    for _ in range(3):
        number = random.randrange(10**9)
        assert candidate(number) == 2 * number
"""
"""Cannot be passed by answers that were prepared."""

LEVELS = [*sandbox._NAMESPACES[sandbox._NAMESPACES.index(isolation().options) :], ("bare",)]
"""From the most that this system allows to `bare`: neither namespaces nor Landlock, limits only."""
NAMES = [" ".join(options) or "no namespaces" for options in LEVELS]


@pytest.fixture(params=LEVELS, ids=NAMES)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options of unshare for `judged`."""
    if request.param != ("bare",):
        return request.param
    text = sandbox._inside()
    bare = text.replace('    if sys.platform != "linux":\n        return 0\n', "    return 0\n")
    assert bare != text
    monkeypatch.setattr(sandbox, "_inside", lambda: bare)
    return ()


def judged(program: str, check: str = DOUBLE, *, options: tuple[str, ...] | None = None, timeout: float = 9) -> Outcome:
    """In the isolation that is found, or with another one's namespaces: the design must hold without any."""
    isolated = isolation() if options is None else Isolation(options, 0)
    return sandbox._run(program, check, "f", "", timeout, sandbox.MEMORY, isolated)[0]


HONEST = "def f(x):\n    return 2 * x\n"

ESCAPES = {
    "wrong": "def f(x):\n    return x\n",
    "missing": "g = 1\n",
    "syntax": "def f(x)\n",
    "exits at load": "import sys\nsys.exit(0)\n",
    "exits": "import sys\ndef f(x):\n    sys.exit(0)\n",
    "exits hard": "import os\ndef f(x):\n    os._exit(0)\n",
    "exits hard at load": "import os\nos._exit(0)\n",
    "kills itself": "import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    "crashes": "import ctypes\ndef f(x):\n    ctypes.string_at(0)\n",
    "prints guesses": 'def f(x):\n    for i in range(1000): print(\'%032x\' % i, \'{"why": "", "nonce": ""}\')\n',
    "equal to everything": "class All:\n    def __eq__(self, other): return True\ndef f(x):\n    return All()\n",
    "a number equal to all": "class One(int):\n    def __eq__(self, other): return True\ndef f(x): return One()\n",
    "patches builtins": (
        "import builtins\nclass No(Exception): pass\nbuiltins.AssertionError = No\nbuiltins.range = lambda n: []\n"
        "import random\nrandom.randrange = lambda n: 0\ndef f(x):\n    return 0\n"
    ),
    "patches json": "import json\njson.dumps = lambda *a: '{\"value\": true}'\ndef f(x):\n    return 0\n",
    "patches the harness": (
        "import __main__\n__main__.encode = lambda v: True\n__main__.Judge.run = lambda s: None\ndef f(x): return 0\n"
    ),
    "traces": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: sys.exit(0))\ndef f(x): return 0\n",
    "raises an exit": "def f(x):\n    raise SystemExit(0)\n",
    "raises the end": "def f(x):\n    raise GeneratorExit\n",
    "catches everything": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n"
    ),
    "ignores signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\n"
        "def f(x):\n    while True: pass\n"
    ),
    "forks": "import os\ndef f(x):\n    os.fork()\n    return x\n",
    "fork bomb": "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: return x\n",
    "closes everything": "import os\ndef f(x):\n    os.closerange(0, 64)\n    return 2 * x\n",
    "closes at load": "import os\nos.closerange(0, 64)\n" + HONEST,
    "sleeps": "import time\ndef f(x):\n    time.sleep(99)\n",
    "recursion": "def f(x):\n    return f(x)\n",
    "two gigabytes": "def f(x):\n    return (bytearray(2 << 30), 2 * x)[1]\n",
    "two gigabytes after raising the limit": (
        "import resource\ndef f(x):\n    try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "    except (ValueError, OSError): pass\n    return (bytearray(2 << 30), 2 * x)[1]\n"
    ),
    "many small pieces": "def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 20))\n",
    "a big file": "def f(x):\n    open('big', 'wb').write(bytes(2 << 20))\n    return 2 * x\n",
    "a big file, written blindly": (
        "import os\ndef f(x):\n    d = os.open('big', os.O_CREAT | os.O_WRONLY)\n    n = 0\n"
        "    for _ in range(64): n += os.write(d, bytes(1 << 18))\n    assert n == 64 << 18\n    return 2 * x\n"
    ),
    "runs a program": "import subprocess\ndef f(x):\n    subprocess.run(['/bin/true'], check=True)\n    return x\n",
    "answers all at once": (
        "import os\nfor d in range(3, 32):\n    try: os.write(d, b'{\"value\": 0}\\n' * 9)\n    except OSError: pass\n"
        "def f(x): return 0\n"
    ),
    "says it is the judge": (
        'import os\nfor d in range(32):\n    try: os.write(d, b\'{"why": "", "nonce": "0"}\\n\')\n'
        "    except OSError: pass\ndef f(x): return 0\n"
    ),
    "a huge answer": "def f(x):\n    return 'a' * (3 << 20)\n",
    "an endless number": "def f(x):\n    return 10 ** 100000\n",
    **{
        f"garbage {garbage[:12]!r}": (
            f"import os\nfor d in range(3, 32):\n    try: os.write(d, {garbage!r} + b'\\n')\n    except OSError: pass\n"
            "def f(x): return 0\n"
        )
        for garbage in (b"", b"[]", b"null", b"{", b'{"value": {"set": [[1], {"list": [1]}]}}', b"[" * 50000, b"\xff")
    },
}


def test_a_right_function_passes(level: tuple[str, ...]) -> None:
    assert judged(HONEST, options=level) == Outcome(True, "")


@pytest.mark.parametrize("level", [LEVELS[0], LEVELS[-1]], ids=[NAMES[0], NAMES[-1]], indirect=True)
@pytest.mark.parametrize("escape", ESCAPES)
def test_no_way_around_the_check(escape: str, level: tuple[str, ...]) -> None:
    if escape == "fork bomb" and "-p" not in level:
        pytest.skip("what it leaves behind is only certain to end with its namespace")
    start = time.monotonic()
    outcome = judged(ESCAPES[escape], options=level, timeout=1.5)
    assert not outcome.passed
    assert outcome.why
    assert len(outcome.why) < 500
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("def f(x)\n", "does not load: SyntaxError"),
        ("import sys\nsys.exit(0)\n", "does not load: SystemExit"),
        ("import os\ndef f(x): os._exit(0)\n", "ended its own process"),
        ("def f(x): return 0\n", "AssertionError"),
        ("def f(x): return open\n", "no plain value"),
        ("def f(x): return 1 / 0\n", "ZeroDivisionError"),
        ("def f(x): return bytearray(2 << 30)\n", "MemoryError"),
    ],
)
def test_it_is_said_what_was_wrong(program: str, why: str) -> None:
    assert why in judged(program).why


def test_a_loop_ends_with_the_time() -> None:
    start = time.monotonic()
    assert judged("def f(x):\n    while True: pass\n", timeout=1) == Outcome(False, "not done after 1 s")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -(10**40), 1.5, float("inf"), 3 - 4j, "a\u1234\ud800\n", b"\x00\xff", [], [1, [2, (3,)]],
     (1, "a"), {1, 2}, frozenset({"a"}), {"a": [1], 2: None, (1, 2): {3}}],
    ids=repr,
)  # fmt: skip
def test_plain_values_pass_as_they_are(value: object) -> None:
    back = inside.decode(inside.encode(value))
    assert back == value
    assert type(back) is type(value)
    check = f"def check(candidate):\n    value = {value!r}\n" if value != float("inf") else (
        "def check(candidate):\n    value = float('inf')\n"
    )  # fmt: skip
    check += "    found = candidate(value)\n    assert found == value and type(found) is type(value)\n"
    assert judged("def f(x): return x\n", check).passed


def test_a_check_sees_the_candidate_s_builtin_exceptions_and_no_exit() -> None:
    check = (
        "def check(candidate):\n    try: candidate(-1)\n    except ValueError as error: assert 'below' in str(error)\n"
        "    else: assert False\n    assert candidate(1) == 1\n"
    )
    assert judged("def f(x):\n    if x < 0: raise ValueError('below')\n    return x\n", check).passed
    lenient = "def check(candidate):\n    try: candidate(1)\n    except BaseException: pass\n"
    assert judged("def f(x): raise SystemExit\n", lenient).passed  # an answer like any other
    assert not judged("import os\ndef f(x): os._exit(0)\n", lenient).passed  # but not to be gone


def test_the_check_s_helpers_are_not_the_program_s() -> None:
    helper = "def size(x):\n    return abs(x)\n"
    check = "def check(candidate):\n    assert size(candidate(3)) < 1\n"
    honest, bent = "def f(x): return 0\n", "def size(x): return 0\ndef f(x): return 9\n"
    assert run(helper + honest, check, entry="f", setup=helper).passed
    assert not run(helper + bent, check, entry="f", setup=helper).passed


SEARCH = """
import gc, os, sys
def f(half):
    needle = half + half
    seen = []
    def look(thing, depth=0):
        if isinstance(thing, bytes): thing = thing.decode("latin-1")
        if isinstance(thing, str):
            if needle in thing and thing is not needle: seen.append(thing[:50])
            return
        if depth > 3: return
        if isinstance(thing, dict): thing = [one for pair in list(thing.items()) for one in pair]
        elif type(thing).__name__ == "frame": thing = list(thing.f_locals.values())
        elif type(thing).__name__ == "function": thing = list(thing.__code__.co_consts)
        elif not isinstance(thing, (list, tuple, set)): return
        for one in list(thing): look(one, depth + 1)
    for thing in gc.get_objects():
        try: look(thing, 2)
        except Exception: pass
    frame = sys._getframe()
    while frame is not None:
        for one in list(frame.f_locals.values()): look(one)
        frame = frame.f_back
    for one in (*sys.argv, *sys.orig_argv, *os.environ.values()): look(one)
    places = ["/proc/self/cmdline", "/proc/self/environ", "/dev/stdin"]
    for folder, _, names in os.walk("."): places += [os.path.join(folder, name) for name in names]
    try: pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    except OSError: pids = []
    for pid in pids: places += [f"/proc/{pid}/cmdline", f"/proc/{pid}/environ"]
    for place in places:
        try:
            with open(place, "rb") as stream: look(stream.read(1 << 20))
        except OSError: pass
    return seen
"""


def test_the_nonce_is_nowhere_in_the_candidate_s_reach(level: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    half = "5ec2e7ab1e0ddba1"
    monkeypatch.setattr(sandbox.secrets, "token_hex", lambda size: half + half)
    check = f"def check(candidate):\n    assert candidate({half!r}) == []\n"
    assert judged(SEARCH, check, options=level).passed
    for planted in (f"planted = '{half}{half}'\n", f"def planted():\n    return 'x{half}{half}'\n",
                    f"open('note', 'w').write('{half}' * 2)\n"):  # fmt: skip
        assert not judged(planted + SEARCH, check, options=level).passed, "the search finds what is there"


def test_the_parent_s_environment_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "furnace-5417")
    check = "def check(candidate):\n    assert 'furnace-5417' in candidate(0)\n"
    program = (
        "import os\ndef f(x):\n    found = repr(dict(os.environ))\n"
        "    for pid in (os.getpid(), os.getppid(), 'self'):\n"
        "        try: found += open(f'/proc/{pid}/environ').read()\n        except OSError: pass\n    return found\n"
    )
    assert not judged(program, check).passed
    assert judged("def f(x): return 'furnace-5417'\n", check).passed


def test_files_elsewhere_are_neither_read_nor_written(tmp_path: Path) -> None:
    if not isolation().files:
        pytest.skip("no Landlock here")
    secret = tmp_path / "secret.txt"
    secret.write_text("furnace-5417")
    read = f"def f(x): return open({str(secret)!r}).read()\n"
    assert "PermissionError" in judged(read, "def check(candidate):\n    assert candidate(0) == 'furnace-5417'\n").why
    for attempt in (f"open({str(tmp_path / 'new')!r}, 'w')", f"os.remove({str(secret)!r})",
                    f"os.truncate({str(secret)!r}, 0)", f"os.symlink('x', {str(tmp_path / 'new')!r})"):  # fmt: skip
        assert "PermissionError" in judged(f"import os\ndef f(x):\n    {attempt}\n    return 2 * x\n").why
    assert os.listdir(tmp_path) == ["secret.txt"]
    assert secret.read_text() == "furnace-5417"
    own = "def f(x):\n    open('own', 'w').write('a')\n    return 2 * x if open('own').read() == 'a' else 0\n"
    assert judged(own).passed  # its own folder is its own


def test_no_connection_is_made(level: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    if "-n" not in level and (isolation().landlock < 4 or "bare" in request.node.name):
        pytest.skip("neither network namespaces nor Landlock's network rules here")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        connect = (
            "import socket\ndef f(x):\n"
            f"    with socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1) as s: s.send(b'x')\n"
            "    return 2 * x\n"
        )
        assert not judged(connect, options=level).passed
        with pytest.raises(TimeoutError):
            server.accept()


LEAVES = """
import ctypes, os, time
library = ctypes.CDLL(None)
library.prctl(15, b"{name}", 0, 0, 0)   # PR_SET_NAME
library.prctl(1, 0, 0, 0, 0)            # PR_SET_PDEATHSIG: not to be told when the parent dies
try: os.setsid()
except OSError: pass
try:
    for _ in range(2):
        if os.fork() == 0:
            try: os.setsid()
            except OSError: pass
            time.sleep(60)
            os._exit(0)
except OSError: pass
def f(x):
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_leaves_the_group_is_killed_all_the_same() -> None:
    if not isolation().processes and os.getuid() == 0:
        pytest.skip("root without a process namespace may leave children behind")
    name = f"left{os.getpid()}"
    thread = threading.Thread(target=judged, args=(LEAVES.format(name=name),), kwargs={"timeout": 6})
    thread.start()
    most = 0
    while thread.is_alive():
        most = max(most, _named(name))
        time.sleep(0.05)
    thread.join()
    assert most >= 1
    deadline = time.monotonic() + 5
    while _named(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _named(name) == 0


def _named(name: str) -> int:
    found = 0
    for place in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += place.read_text().strip() == name
        except OSError:
            continue
    return found


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    judged("import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\n" + HONEST)
    assert os.listdir(tmp_path) == []


def test_what_the_system_allows_is_said() -> None:
    assert str(Isolation(("-r", "-n"), 0)) == "network isolated, processes NOT isolated, files NOT isolated"
    assert str(Isolation(("-r", "-n", "-p", "-f"), 3)) == "network isolated, processes isolated, files isolated"
