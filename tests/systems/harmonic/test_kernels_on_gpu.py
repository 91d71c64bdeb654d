"""The Triton kernels: their arithmetic through triton's interpreter, in a process of its own (interpreted.py), whether
they compile for a GPU, and when a layer uses them.

No GPU is tested here, and triton is not needed by the last part.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.model import native
from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.kernels import chosen

SCRIPT = Path(__file__).parent / "interpreted.py"
CHECKS = re.findall(r"^def (check_\w+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
KERNELS = "bloomery.systems.harmonic.kernels"
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.parametrize("check", CHECKS)
def test_through_the_interpreter(said: dict[str, str], check: str) -> None:
    assert said[check] == ""


F, B, N, X = "*fp32", "*bf16", "i32", "fp32"
SMALL = {"ROWS": 16, "COLUMNS": 16}
COMPILED = [
    ("on_gpu", "_rows_kernel", [B, F, F, N, N, N, N, N], SMALL),
    ("on_gpu", "_sine_kernel", [B, B, F, F, F, X, N, N, N], {**SMALL, "RANK": 16}),
    ("rows_on_gpu", "_pyramid_kernel", [F, F, N, N, N, X, X, X], {"POSITIONS": 16, "TAPS": 16}),
    ("rows_on_gpu", "_look_ups_kernel", ["*i32", B, F, F, N, N, N], {"ROWS": 16, "ATOMS": 16}),
    *(("rows_on_gpu", "_make_rows_kernel", [*[F] * 6, N, N, N, X, X], {**SMALL, "KIND": kind}) for kind in (0, 2)),
    *(
        ("rows_on_gpu", "_rows_again_kernel", [*[F] * 11, N, N, X, X], {"ATOMS": 8, "COLUMNS": 16, "KIND": kind})
        for kind in (1, 2)
    ),
]


@needs_triton
@pytest.mark.parametrize(
    ("module", "kernel", "types", "constants"), COMPILED, ids=[f"{k}-{c.get('KIND', '')}" for _, k, _, c in COMPILED]
)
def test_compiles_for_a_gpu(
    module: str, kernel: str, types: list[str], constants: dict[str, int], tmp_path: Path, monkeypatch: Any
) -> None:
    """The interpreter takes what the compiler refuses, such as a variable whose shape changes in a loop. Tiles are
    small, which is quick."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("kernels are interpreted in this process")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    function = getattr(importlib.import_module(f"{KERNELS}.{module}"), kernel)
    names = function.arg_names
    signature = dict(zip([name for name in names if name not in constants], types, strict=True))
    values = {(names.index(name),): value for name, value in constants.items()}
    source = compiler.ASTSource(function, signature | dict.fromkeys(constants, "constexpr"), values)
    assert "ptx" in compiler.compile(source, target=target).asm


@pytest.fixture
def forget() -> Iterator[None]:
    yield
    chosen._refusals.clear()
    for name in [name for name in native.refusals if name.endswith("in Triton")]:
        del native.refusals[name]


def proof_that(monkeypatch: pytest.MonkeyPatch, result: BaseException | None) -> list[torch.device]:
    """Takes the place of proof.py for `low_rank`, in memory; which devices were proved."""
    asked: list[torch.device] = []

    def prove(device: torch.device) -> None:
        asked.append(device)
        if result is not None:
            raise result

    fake = types.ModuleType(f"{KERNELS}.proof")
    fake.PROOFS = {"low_rank": prove}  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(importlib.import_module(KERNELS), "proof", fake, raising=False)
    monkeypatch.setattr(chosen, "DEVICES", ("cpu",))
    return asked


@pytest.mark.usefixtures("forget")
def test_a_device_is_served_once_it_was_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, cpu = proof_that(monkeypatch, None), torch.device("cpu")
    assert not chosen.serves(torch.device("meta"), "low_rank")
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    assert not chosen.serves(cpu, "low_rank")
    monkeypatch.delenv("BLOOMERY_NATIVE")
    assert not asked
    assert chosen.serves(cpu, "low_rank")
    assert chosen.serves(cpu, "low_rank")
    assert asked == [cpu]
    assert not chosen.serves(cpu, "monarch"), "each by itself"


@pytest.mark.usefixtures("forget")
def test_a_gpu_that_is_not_the_current_one_is_not_even_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current one, which cannot read another's memory: a proof there could end the process."""
    asked = proof_that(monkeypatch, None)
    monkeypatch.setattr(chosen, "DEVICES", ("cuda",))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    one, other = (torch.device("cuda", index) for index in range(2))
    assert [chosen.serves(device, "low_rank") for device in (other, one)] == [False, True]
    assert asked == [one]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [chosen.serves(device, "low_rank") for device in (other, one)] == [True, False]


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("error", [ArithmeticError("differs by 0.5"), RuntimeError("no ptxas\nat all"), MemoryError()])
def test_what_does_not_pass_is_left_to_torch(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = proof_that(monkeypatch, error)
    assert not chosen.serves(torch.device("cpu"), "low_rank")
    assert not chosen.serves(torch.device("cpu"), "low_rank")
    assert len(asked) == len(caplog.records) == 1
    assert type(error).__name__ in caplog.text
    assert "all" not in native.refusals["low_rank in Triton"]
    assert "low_rank in Triton is not used" in native.describe() or "none" in native.describe()


@pytest.mark.usefixtures("forget")
def test_a_layer_decodes_by_the_kernel_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the kernel is called, and without a proof it is not."""
    layer = make("lowrank", 16, 8, 2.0, compute_dtype=torch.bfloat16)
    layer.initialise()
    fake = types.ModuleType(f"{KERNELS}.on_gpu")
    fake.low_rank = lambda left, right, x: torch.arange(8.0)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(importlib.import_module(KERNELS), "on_gpu", fake, raising=False)
    x = torch.ones(16).bfloat16()
    for result in (None, ArithmeticError()):
        chosen._refusals.clear()
        proof_that(monkeypatch, result)
        with torch.no_grad():
            assert torch.equal(layer(x).float(), torch.arange(8.0)) == (result is None)


@pytest.mark.usefixtures("forget")
def test_without_triton_torch_does_its_work() -> None:
    if importlib.util.find_spec("triton") is not None:
        pytest.skip("triton is installed")
    with pytest.raises(ModuleNotFoundError, match="triton"):
        importlib.import_module(f"{KERNELS}.on_gpu")
    assert not chosen.serves(torch.device("cuda", 0), "cos")
    assert "No module named 'triton'" in native.refusals["cos in Triton"]
