import pytest
import torch

from bloomery.errors import TrainingError
from bloomery.train import device
from bloomery.train.device import capabilities, choose_device, choose_dtype, matmul_peak


def test_what_torch_does_not_see_is_refused():
    assert choose_device("cpu").value == "cpu"
    with pytest.raises(TrainingError, match="gpu"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="hip"):
            choose_device("hip")


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_chosen_where_it_is_native_and_the_reason_given(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    choice = choose_dtype("auto", "cpu")
    assert choice.value == ("bfloat16" if native else "float32")
    assert ("AVX512-BF16" if native else "without bfloat16") in choice.why
    assert choose_dtype("bfloat16", "cpu").value == "bfloat16"
    with pytest.raises(TrainingError, match="float8"):
        choose_dtype("float8", "cpu")


def test_doctor_says_which_paths_were_never_run():
    text = "\n".join(capabilities("cpu"))
    for word in ("device: cpu", "dtype", "threads", "attention", "never run here"):
        assert word in text


def test_peak_is_measured_once(monkeypatch):
    monkeypatch.setattr(device, "_PEAKS", {})
    peak = matmul_peak("cpu", seconds=0.02)
    assert 1e8 < peak < 1e14
    assert matmul_peak("cpu") == peak
