"""C libraries compiled on first use: what is built is what was written, and every way without one is a reason, not an
error."""

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloomery.model import native

SOURCE = "long add(long a, long b) { return a + b; }\n"
FUNCTIONS = {"add": (ctypes.c_long, ctypes.c_long, ctypes.c_long)}
COMPILER = next((name for name in native.COMPILERS if shutil.which(name)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")


def forget() -> None:
    """What this process has loaded: the next look is as another process' would be."""
    native._loaded.clear()
    native._typed.clear()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("BLOOMERY_CACHE", str(tmp_path / "cache"))
    for name in ("BLOOMERY_NATIVE", "CC"):
        monkeypatch.delenv(name, raising=False)
    forget()
    native.refusals.clear()
    yield tmp_path / "cache" / "native"
    forget()


def written(folder: Path, text: str = SOURCE, name: str = "sum.c") -> Path:
    (folder / name).write_text(text)
    return folder / name


def add(source: Path) -> int:
    library = native.load(source, FUNCTIONS)
    assert library is not None, native.refusals
    return library.add(2**40, 5)


def again(source: Path) -> int:
    forget()
    return add(source)


def libraries(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused(source: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The reason, which is told once."""
    with caplog.at_level(logging.WARNING, native.__name__):
        assert native.load(source, FUNCTIONS) is None
        assert native.load(source, FUNCTIONS) is None
    assert len(caplog.records) == 1
    assert native.refusals[source.name] in caplog.text
    return native.refusals[source.name]


@needs_compiler
def test_a_library_is_built_once_and_found_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path)
    assert add(source) == 2**40 + 5
    (file,) = cache.iterdir()
    assert file.stat().st_uid == os.getuid()
    assert cache.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(native, "_build", lambda *_: pytest.fail("built again"))
    assert again(source) == 2**40 + 5
    assert source.name not in native.refusals


@needs_compiler
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_library_is_its_owners_alone_whatever_the_umask(tmp_path: Path, cache: Path, mask: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    before = os.umask(mask)
    try:
        add(written(tmp_path))
    finally:
        os.umask(before)
    (file,) = cache.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@needs_compiler
def test_another_source_compiler_or_processor_is_another_library(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path)
    add(source)
    assert COMPILER
    monkeypatch.setenv("CC", f"{COMPILER} -DANYTHING")
    again(source)
    assert len(libraries(cache)) == 2
    monkeypatch.setattr(native, "processor", lambda: ("Linux", "another processor"))
    again(source)
    assert len(libraries(cache)) == 3
    source.write_text(SOURCE.replace("a + b", "a - b"))
    assert again(source) == 2**40 - 5
    assert len(libraries(cache)) == 4


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "empty", "changed", "text"])
def test_a_damaged_library_is_built_again(tmp_path: Path, cache: Path, damage: str) -> None:
    source = written(tmp_path)
    add(source)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    forget()
    file.unlink()  # a new inode: the one that is loaded stays as it is
    middle = len(whole) // 2
    file.write_bytes(
        {
            "truncated": whole[:middle],
            "empty": b"",
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "text": b"not a library",
        }[damage]
    )
    assert add(source) == 2**40 + 5
    assert libraries(cache) == {file.name: whole}


@needs_compiler
def test_processes_may_build_at_once(tmp_path: Path, cache: Path) -> None:
    source = written(tmp_path)
    script = (
        "import sys, ctypes; from pathlib import Path; from bloomery.model import native\n"
        "l = ctypes.c_long; library = native.load(Path(sys.argv[1]), {'add': (l, l, l)})\n"
        "assert library is not None, native.refusals\n"
        "sys.exit(0 if library.add(2, 3) == 5 else 1)\n"
    )
    command = [sys.executable, "-c", script, str(source)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    for name in libraries(cache):
        assert name.endswith(".so"), "nothing half built stays behind"


def test_without_a_compiler(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C compiler" in refused(written(tmp_path), caplog)
    assert "no C compiler" in native.describe()


def test_the_compiler_that_was_named_is_the_only_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert "no-such-compiler" in refused(written(tmp_path), caplog)


def test_a_compiler_that_does_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert "does not run" in refused(written(tmp_path), caplog)


def test_a_compiler_that_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", 'gcc "-O2')
    assert "No closing quotation" in refused(written(tmp_path), caplog)
    assert "No closing quotation" in native.describe()


@needs_compiler
def test_a_source_that_does_not_compile(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    reason = refused(written(tmp_path, "long add(long a) { return undeclared; }\n"), caplog)
    assert "sum.c:1" in reason
    assert "undeclared" in reason
    assert libraries(cache) == {}
    assert reason in native.describe()


@needs_compiler
def test_a_flag_that_the_compiler_lacks_is_left_out(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "TARGETS", (("-march=no-such-processor",), ()))
    assert add(written(tmp_path)) == 2**40 + 5
    assert len(libraries(cache)) == 1


def test_a_cache_that_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLOOMERY_CACHE", str(tmp_path / "file" / "below"))
    assert "no cache folder" in refused(written(tmp_path), caplog)
    assert "no cache folder" in native.describe()


@needs_compiler
def test_nobody_has_no_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without $HOME and without an entry in the system's list, as in a container."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(native.Path, "home", nowhere)
    for name in ("BLOOMERY_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "home directory" in refused(written(tmp_path), caplog)
    assert "home directory" in native.describe()


@needs_compiler
def test_a_cache_that_cannot_be_written_to(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in it already is still used. The system's refusal is played: to root every folder is writable."""
    source = written(tmp_path)
    add(source)
    monkeypatch.setattr(native.tempfile, "TemporaryDirectory", _read_only)
    assert again(source) == 2**40 + 5
    assert "cannot be written to" in refused(written(tmp_path, SOURCE + "\n", "other.c"), caplog)


def _read_only(**_: object) -> None:
    raise PermissionError(13, "Read-only file system")


def test_a_cache_that_others_can_write_to(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else they could put their own library under the name of ours."""
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert "others can write" in refused(written(tmp_path), caplog)


def test_it_can_be_switched_off(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    assert refused(written(tmp_path), caplog) == "BLOOMERY_NATIVE=0"
    assert not cache.exists()
    assert "BLOOMERY_NATIVE=0" in native.describe()


@needs_compiler
def test_switched_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path)
    with monkeypatch.context() as off:
        off.setenv("BLOOMERY_NATIVE", "0")
        assert native.load(source, FUNCTIONS) is None
    assert add(source) == 2**40 + 5
    assert native.refusals == {}
    assert COMPILER
    assert "kept in" in native.describe()


@needs_compiler
def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOOMERY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    add(written(tmp_path))
    assert len(libraries(tmp_path / "xdg" / "bloomery" / "native")) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    add(tmp_path / "sum.c")
    assert len(libraries(tmp_path / "home" / ".cache" / "bloomery" / "native")) == 1


def test_a_missing_function_is_our_own_bug(tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    with pytest.raises(AttributeError, match="absent"):
        native.load(written(tmp_path), {"absent": (None,)})
