"""Checkpoints survive damage, full disks and kills, or say clearly that they did not."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from bloomery.errors import ArtifactError
from bloomery.train import checkpoint
from bloomery.train.state import TrainState


def state(step: int, size: int = 100) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    return TrainState(
        weights={"w": torch.randn(size, generator=generator), "half": torch.ones(3, dtype=torch.bfloat16)},
        optimiser={"w/step": torch.tensor(float(step)), "w/exp_avg": torch.randn(size, generator=generator)},
        losses=[1.0 / (i + 3) for i in range(step)],
        step=step,
        tokens=step * 96,
        seconds=step / 3,
        signature={"batch": [8, 12], "seed": 0, "optimizer": {"lr": 0.1}},
        carried={"added": [{"step": 3, "category": "math", "count": 20}]},
    )


def same(a: TrainState, b: TrainState) -> bool:
    tensors = all(
        a[part].keys() == b[part].keys() and all(torch.equal(a[part][name], b[part][name]) for name in a[part])
        for part in ("weights", "optimiser")
    )
    rest = ("losses", "step", "tokens", "seconds", "signature", "carried")
    return tensors and all(a[key] == b[key] for key in rest)


def test_read_gives_back_what_was_saved(tmp_path):
    checkpoint.save(tmp_path, state(7))
    found, notes = checkpoint.load(tmp_path)
    assert same(found, state(7))
    assert notes == []


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 10, 9999999999):
        checkpoint.save(tmp_path, state(step) if step < 100 else state(3) | {"step": step})
    assert [folder.name for folder in checkpoint.steps(tmp_path)] == ["step-000000010", "step-9999999999"]


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "missing") is None


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


FILES = ["weights.safetensors", "optimiser.safetensors", "losses.safetensors", "manifest.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [cut, flip, os.unlink])
def test_damage_goes_back_to_the_one_before_with_a_note(file, damage, tmp_path):
    checkpoint.save(tmp_path, state(3))
    checkpoint.save(tmp_path, state(6))
    damage(tmp_path / "step-000000006" / file)
    found, notes = checkpoint.load(tmp_path)
    assert same(found, state(3))
    assert len(notes) == 1
    assert "step-000000006 is damaged" in notes[0]


def test_two_damaged_ones_are_an_error(tmp_path):
    for step in (3, 6):
        flip(checkpoint.save(tmp_path, state(step)) / "weights.safetensors")
    with pytest.raises(ArtifactError, match="no checkpoint here can be read"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": 3}', "\ufeff{", '{"files": {"weights.safetensors": 1}}'])
def test_a_strange_manifest_is_damage_not_a_traceback(content, tmp_path):
    folder = checkpoint.save(tmp_path, state(2))
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError):
        checkpoint.read(folder)


def test_no_pickle_and_every_file_has_its_digest(tmp_path):
    folder = checkpoint.save(tmp_path, state(2))
    assert sorted(os.listdir(folder)) == sorted(FILES)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == sorted(FILES[:3])


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from test_checkpoint import state
    from bloomery.errors import ArtifactError
    from bloomery.train import checkpoint
    folder = Path(sys.argv[1])
    checkpoint.save(folder, state(3))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        checkpoint.save(folder, state(6, size=100_000))
    except ArtifactError as error:
        print(error)
"""


def test_a_full_disk_is_an_error_and_the_earlier_checkpoint_survives(tmp_path):
    """A real refusal of the file system, in a process whose files may not grow."""
    assert resource.RLIMIT_FSIZE
    assert signal.SIGXFSZ
    code = textwrap.dedent(FULL_DISK.format(here=os.path.dirname(__file__)))
    printed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in printed.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000000003"]
    found, notes = checkpoint.load(tmp_path)
    assert same(found, state(3))
    assert not notes


def test_an_unwritable_folder_is_an_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(ArtifactError, match="cannot be written"):
        checkpoint.save(file / "below", state(1))


def test_half_written_folders_are_neither_read_nor_kept(tmp_path):
    checkpoint.save(tmp_path, state(3))
    stale = tmp_path / ".step-000000004.123.tmp"
    stale.mkdir()
    (stale / "weights.safetensors").write_bytes(b"half")
    found, notes = checkpoint.load(tmp_path)
    assert (found["step"], notes) == (3, [])
    checkpoint.save(tmp_path, state(5))
    assert not stale.exists()


@pytest.mark.parametrize(
    ("found", "expected", "key"),
    [({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b"), ({"a": 1}, {"a": 1, "new": 2}, "new"), ({"gone": 1}, {}, "gone"),
     ({"o": {"lr": 0.1}}, {"o": {"lr": 0.2}}, "o")],
)  # fmt: skip
def test_signatures_are_compared_key_by_key(found, expected, key):
    with pytest.raises(ArtifactError, match=f"here: {key}:"):
        checkpoint.check_signature(found, expected, "here")
    checkpoint.check_signature(found, expected, "here", allow_changed=[key])
    checkpoint.check_signature(found, found, "here")


def test_tuples_and_lists_are_the_same_signature():
    checkpoint.check_signature({"betas": [0.9, 0.95]}, {"betas": (0.9, 0.95)}, "here")
