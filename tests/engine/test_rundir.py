"""One writer a run folder, by a lock that no killed process leaves behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.engine.rundir import Lock, commit_of, provenance, run_folder
from bloomery.errors import ArtifactError

HOLD = """
import sys, time
from pathlib import Path
from bloomery.engine.rundir import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_a_killed_holder_leaves_it_free(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    try:
        with pytest.raises(ArtifactError, match="another process") as caught, Lock(tmp_path):
            pass
        assert f"pid {holder.pid}" in caught.value.found
        assert caught.value.where == str(tmp_path)
        assert caught.value.exit_code == 2
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Lock(tmp_path):
        assert (tmp_path / "lock").read_text().startswith("pid ")


def test_the_lock_is_free_after_an_error_and_not_shared_inside_a_process(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lock(tmp_path):
        raise ZeroDivisionError
    with Lock(tmp_path), pytest.raises(ArtifactError), Lock(tmp_path):
        pass
    with Lock(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == ""


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written") as caught, Lock(tmp_path / "file" / "run"):
        pass
    assert "--runs" in caught.value.hint


def test_overrides_have_a_folder_of_their_own(tmp_path: Path) -> None:
    plain = run_folder(tmp_path, "system/plan", ())
    one, other = (run_folder(tmp_path, "system/plan", (f"seeds={seeds}",)) for seeds in ("[0]", "[1]"))
    assert plain == tmp_path / "system/plan"
    assert len({plain, one, other}) == 3
    assert one == run_folder(tmp_path, "system/plan", ("seeds=[0]",))
    assert one.parent == plain.parent


def test_provenance_names_the_commit_of_the_plan_s_own_repository(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("")
    assert commit_of(plan) is None

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "plan.yaml")
    git("commit", "-q", "-m", "plan")
    assert commit_of(plan) == git("rev-parse", "HEAD")
    assert provenance(plan, device="cpu", threads=1, precision="fp32")["dirty"] is False
    plan.write_text("changed")
    known = provenance(plan, device="cpu", threads=1, precision="fp32")
    assert known["dirty"] is True
    assert {"bloomery", "python", "torch", "processor", "threads", "device", "argv"} <= set(known)


def test_a_lock_that_a_killed_process_s_children_hold_is_waited_for(tmp_path: Path) -> None:
    """Else a run started again at once would share its folder with them."""
    orphan = ["sh", "-c", "sleep 0.5; touch last-words"]
    leaves = (
        "import os, subprocess, sys; from pathlib import Path; from bloomery.engine.rundir import Lock\n"
        "lock = Lock(Path(sys.argv[1])); lock.__enter__()\n"
        f"subprocess.Popen({orphan}, pass_fds=(lock.descriptor,)); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", leaves, tmp_path], cwd=tmp_path, check=False)
    assert not (tmp_path / "last-words").exists()
    with Lock(tmp_path):
        assert (tmp_path / "last-words").exists()
