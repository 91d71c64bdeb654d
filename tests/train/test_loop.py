"""fit() as its users see it: configurations that must give one trajectory, resume to the last bit, guards."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from bloomery.errors import ArtifactError, TrainingError
from bloomery.train import checkpoint as checkpoints
from bloomery.train.loop import FitConfig, fit
from bloomery.train.optim import OptimizerConfig
from bloomery.train.schedule import ScheduleConfig
from bloomery.train.state import hash_weights

CONFIG = FitConfig(steps=12, checkpoint_every_seconds=1e9)


def run(model, batches, folder, config=CONFIG, **options):
    return fit(model, batches, config, checkpoint=folder, **options)


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("adamw", {"accumulate": 8}),
        ("adamw", {"accumulate": 2}),
        ("adamw", {"activation_checkpointing": True}),
        ("adamw", {"accumulate": 4, "activation_checkpointing": True}),
        ("muon", {"activation_checkpointing": True}),  # not in pieces: Muon rounds to bfloat16 inside
    ],
)
def test_one_trajectory_in_float64(optimizer, changes, make_model, counting, tmp_path):
    """Batch 8 at once, in pieces, recomputed: the same update, though each piece has another number of valid tokens."""
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(name=optimizer, epsilon=1e-4))
    batches = counting(masked=True)
    one, other = make_model(dtype=torch.float64), make_model(dtype=torch.float64)
    whole = run(one, batches, tmp_path / "a", config)
    pieces = run(other, batches, tmp_path / "b", dataclasses.replace(config, **changes))
    torch.testing.assert_close(weights_of(one), weights_of(other), rtol=1e-9, atol=1e-11)
    assert whole.tokens == pieces.tokens
    assert whole.measurements["train/loss"] == pytest.approx(pieces.measurements["train/loss"], rel=1e-9)


def test_one_step_is_the_step_written_out(make_model, counting, tmp_path):
    """Mean over valid tokens, clip, AdamW with the rates as documented: against torch's own pieces."""
    batches, model, other = counting(masked=True), make_model(), make_model()
    optimizer = OptimizerConfig(lr=0.04, embedding_lr=0.5, gain_lr=0.01, weight_decay=0.3)
    config = FitConfig(1, optimizer=optimizer, schedule=ScheduleConfig("constant", warmup=0.0), clip=0.1)
    run(model, batches, tmp_path, config)
    batch = batches.batch_at(0)
    targets = batch.targets.masked_fill(~batch.mask, -100)
    loss = torch.nn.functional.cross_entropy(other(batch.tokens).logits.flatten(0, 1), targets.flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1)
    assert norm > 0.1
    for name, parameter in other.named_parameters():
        scale = other.scales()[name].initial_scale
        rate = 0.5 if name == "embedding" else 0.01 if "norm" in name else 0.04
        decay = 0.0 if "norm" in name else 0.3
        with torch.no_grad():  # the first AdamW step is lr * g / (|g| + epsilon)
            parameter.mul_(1 - rate * decay / 16)
            parameter -= rate * scale * parameter.grad / (parameter.grad.abs() + 1e-8)
    torch.testing.assert_close(weights_of(model), weights_of(other), rtol=1e-4, atol=1e-6)


def test_it_learns_to_count(make_model, counting, tmp_path):
    points = []
    config = FitConfig(150, optimizer=OptimizerConfig(lr=0.1, gain_lr=0.01))
    result = run(make_model(), counting(), tmp_path, config, on_point=lambda **point: points.append(point))
    assert result.measurements["train/loss"] < 1.5  # from log 37 = 3.6
    assert 90 <= len(points) <= 150
    assert points[-1]["step"] == 150
    assert points[-1]["tokens"] == result.tokens == 150 * 8 * 12
    assert set(points[0]) == {"step", "tokens", "loss", "lr", "tokens_per_second", "gradient_norm"}
    assert set(result.measurements) == {
        "train/loss", "train/plateau", "train/spikes", "train/steps", "train/tokens_per_second",
        "train/model_flop_utilisation",
    }  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopped_and_resumed_is_uninterrupted_to_the_last_bit(optimizer, make_model, counting, tmp_path):
    config = FitConfig(12, optimizer=OptimizerConfig(name=optimizer), schedule=ScheduleConfig("wsd"))
    whole = run(make_model(), counting(), tmp_path / "whole", config)
    draw = random.Random(optimizer)
    for trial in range(3):
        stops = iter(sorted(draw.sample(range(12), 2)))
        folder, attempts, stop = tmp_path / str(trial), 0, next(stops)
        while True:
            found = checkpoints.load(folder)
            begun = 0 if found is None else found[0]["step"]
            counter = iter(range(begun, 99))
            result = run(make_model(seed=trial + 1) if attempts else make_model(), counting(), folder, config,
                         should_stop=lambda c=counter, s=stop: next(c) >= s)  # fmt: skip
            attempts += 1
            if not result.stopped:
                break
            assert result.step == stop
            stop = next(stops, 99)
        assert attempts == 3
        assert (result.weights_hash, result.optimiser_hash) == (whole.weights_hash, whole.optimiser_hash)
        assert result.tokens == whole.tokens
        assert result.measurements["train/loss"] == whole.measurements["train/loss"]


def test_going_on_is_noted_with_its_step_and_beginning_is_not(make_model, counting, tmp_path):
    notes: list[str] = []
    for stop in (0, 5, 99):
        counter = iter(range(0 if stop < 99 else 5, 99))
        run(make_model(), counting(), tmp_path, FitConfig(12), on_note=notes.append,
            should_stop=lambda c=counter, s=stop: next(c) >= s)  # fmt: skip
    assert notes == ["goes on from step 5"]


SCRIPT = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from conftest import Counting, tiny
    from bloomery.train.loop import FitConfig, fit
    torch.set_num_threads(1)
    config = FitConfig(40, checkpoint_every_seconds=0.0, compile={compile})
    result = fit(tiny(), Counting(), config, checkpoint=Path(sys.argv[1]),
                 on_step=lambda tokens: print("step", flush=True))
    print("done", result.weights_hash, result.optimiser_hash, result.measurements["train/loss"])
"""


def launch(folder: Path, compile: bool = False) -> "subprocess.Popen[str]":
    code = textwrap.dedent(SCRIPT.format(here=str(Path(__file__).parent), compile=compile))
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip


def killed_and_resumed(tmp_path: Path, kills: int, compile: bool) -> tuple[str, str]:
    """The last lines of an uninterrupted run and of one that is killed after a few random steps, `kills` times."""
    whole = launch(tmp_path / "whole", compile).communicate()[0].splitlines()[-1]
    draw = random.Random(7)
    for _ in range(kills):
        process = launch(tmp_path / "killed", compile)
        for _ in range(draw.randint(2, 9)):
            process.stdout.readline()
        time.sleep(draw.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return whole, launch(tmp_path / "killed", compile).communicate()[0].splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("compile", "kills"), [(False, 3), (True, 1)])  # every process compiles for half a minute
def test_killed_and_resumed_is_uninterrupted_to_the_last_bit(compile, kills, tmp_path):
    whole, resumed = killed_and_resumed(tmp_path, kills, compile)
    assert whole.startswith("done ")
    assert resumed == whole


def test_a_finished_run_only_reports_and_evaluates_again(make_model, counting, tmp_path):
    seen = []
    first = run(make_model(), counting(), tmp_path, evaluate=lambda model, step: seen.append(hash_weights(model)))
    again = run(make_model(seed=9), counting(), tmp_path, on_step=lambda tokens: pytest.fail("no step is left"),
                evaluate=lambda model, step: seen.append(hash_weights(model)))  # fmt: skip
    assert again.weights_hash == first.weights_hash == seen[0] == seen[1]
    assert again.measurements["train/loss"] == first.measurements["train/loss"]


def test_evaluation_neither_changes_training_nor_is_forgotten(make_model, counting, tmp_path):
    plain = run(make_model(), counting(), tmp_path / "a")
    steps = []

    def evaluate(model, step):
        assert not model.training
        torch.rand(5)
        steps.append(step)

    config = dataclasses.replace(CONFIG, evaluate_every=5)
    watched = run(make_model(), counting(), tmp_path / "b", config, evaluate=evaluate)
    assert steps == [5, 10, 12]
    assert watched.weights_hash == plain.weights_hash
    steps.clear()
    run(make_model(), counting(), tmp_path / "c", dataclasses.replace(config, evaluate_at=(0, 7)), evaluate=evaluate)
    assert steps == [0, 5, 7, 10, 12]
    steps.clear()
    again = dataclasses.replace(CONFIG, evaluate_at=(0, 7, 9))
    stop = iter(range(8))
    run(
        make_model(), counting(), tmp_path / "d", again, evaluate=evaluate, should_stop=lambda: next(stop, None) is None
    )
    run(make_model(), counting(), tmp_path / "d", again, evaluate=evaluate)
    assert steps == [0, 7, 9, 12], "each once, resumed or not"


def test_dropout_follows_seed_and_step(make_model, counting, tmp_path):
    """What a model draws is a function of (seed, step): runs agree, seeds differ, the caller's generator is kept."""

    def train(folder, seed, stop=None):
        model = make_model()
        model.norm.register_forward_hook(
            lambda module, args, out: torch.nn.functional.dropout(out, 0.2, model.training)
        )
        counter = iter(range(99))
        config = dataclasses.replace(CONFIG, seed=seed)
        return run(model, counting(), tmp_path / folder, config, should_stop=lambda: next(counter) == stop)

    torch.manual_seed(123)
    before = torch.get_rng_state()
    whole = train("a", 1)
    assert train("b", 1, stop=5).stopped
    assert train("b", 1).weights_hash == whole.weights_hash
    assert train("c", 2).weights_hash != whole.weights_hash
    torch.manual_seed(123)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_state_goes_on_with_weights_and_optimiser(make_model, counting, tmp_path):
    first = run(make_model(), counting(), tmp_path / "a")
    onwards = run(make_model(seed=4), counting(), tmp_path / "b", initial_state=first.checkpoint)
    fresh = make_model(seed=4)
    fresh.load_state_dict(checkpoints.read(first.checkpoint)["weights"])
    without_optimiser = run(fresh, counting(), tmp_path / "c")
    assert onwards.step == 12
    assert onwards.measurements["train/loss"] < first.measurements["train/loss"]
    assert onwards.weights_hash != without_optimiser.weights_hash


@pytest.mark.parametrize("where", ["embedding", "blocks.1.feed_forward.down.weight"])
def test_a_non_finite_gradient_stops_with_step_and_name(where, make_model, counting, tmp_path):
    model = make_model()
    calls = []

    def poison(gradient):
        calls.append(1)
        return gradient * float("nan") if len(calls) == 6 else gradient

    dict(model.named_parameters())[where].register_hook(poison)
    config = dataclasses.replace(CONFIG, checkpoint_every_seconds=0.0)
    with pytest.raises(TrainingError, match=rf"step 6, {where}"):
        run(model, counting(), tmp_path, config)
    state, _ = checkpoints.load(tmp_path)
    assert state["step"] <= 5
    assert all(torch.isfinite(tensor).all() for tensor in state["weights"].values())


def test_a_non_finite_loss_stops_before_the_weights_change(make_model, counting, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight[0, 0] = float("inf")
    before = hash_weights(model)
    with pytest.raises(TrainingError, match="step 1"):
        run(model, counting(), tmp_path)
    assert hash_weights(model) == before
    assert checkpoints.load(tmp_path) is None


@pytest.mark.parametrize("steps", [0, -3])
def test_zero_steps_are_an_error(steps, make_model, counting, tmp_path):
    with pytest.raises(TrainingError, match="nothing would be trained"):
        run(make_model(), counting(), tmp_path, FitConfig(steps))


def test_a_batch_without_valid_tokens_is_an_error(make_model, counting, tmp_path):
    class Masked:
        def batch_at(self, step):
            batch = counting().batch_at(step)
            return dataclasses.replace(batch, mask=torch.zeros_like(batch.tokens, dtype=torch.bool))

    with pytest.raises(TrainingError, match="step 1"):
        run(make_model(), Masked(), tmp_path)


def test_accumulate_must_divide_the_batch(make_model, counting, tmp_path):
    with pytest.raises(TrainingError, match="accumulate"):
        run(make_model(), counting(), tmp_path, FitConfig(2, accumulate=3))


@pytest.mark.parametrize(
    ("key", "config", "rows", "signature"),
    [
        ("batch", CONFIG, 4, {"data": "x"}),
        ("data", CONFIG, 8, {"data": "y"}),
        ("seed", dataclasses.replace(CONFIG, seed=1), 8, {"data": "x"}),
        ("steps", dataclasses.replace(CONFIG, steps=20), 8, {"data": "x"}),
        ("optimizer", dataclasses.replace(CONFIG, optimizer=OptimizerConfig(lr=0.5)), 8, {"data": "x"}),
    ],
)
def test_resume_under_other_settings_is_refused_by_name(key, config, rows, signature, make_model, counting, tmp_path):
    counter = iter(range(99))
    run(make_model(), counting(), tmp_path, signature={"data": "x"}, should_stop=lambda: next(counter) == 3)
    with pytest.raises(ArtifactError, match=f": {key}:"):
        run(make_model(), counting(rows), tmp_path, config, signature=signature)
    result = run(make_model(), counting(rows), tmp_path, config, signature=signature, allow_changed=[key])
    assert result.step == config.steps


def test_several_processes_are_refused(make_model, counting, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes"):
        run(make_model(), counting(), tmp_path)


def test_a_launched_world_of_one_is_no_world(make_model, counting, tmp_path, monkeypatch):
    alone = run(make_model(), counting(), tmp_path / "a")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run(make_model(), counting(), tmp_path / "b").weights_hash == alone.weights_hash


def test_threads_and_modes_are_as_before_afterwards(make_model, counting, tmp_path):
    threads = torch.get_num_threads()
    run(make_model(), counting(), tmp_path, dataclasses.replace(CONFIG, threads=2))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_an_auxiliary_loss_needs_a_weight(make_model, counting, tmp_path):
    def model_with_balance():
        model = make_model()

        def hook(module, args, output):
            output.aux["balance"] = output.hidden.square().sum()
            return output

        model.register_forward_hook(hook)
        return model

    with pytest.raises(TrainingError, match="balance"):
        run(model_with_balance(), counting(), tmp_path)
    plain = run(make_model(), counting(), tmp_path / "a")
    weighted = {}
    for weight in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, auxiliary={"balance": weight})
        weighted[weight] = run(model_with_balance(), counting(), tmp_path / str(weight), config)
    assert weighted[0.0].weights_hash == plain.weights_hash != weighted[0.5].weights_hash


@pytest.mark.slow
def test_compiled_learns_as_uncompiled_does(tmp_path):
    """In processes of their own: the compiler cannot read functions that the tests' type checker has wrapped."""
    lines = [launch(tmp_path / str(compile), compile).communicate()[0].splitlines()[-1] for compile in (False, True)]
    plain, compiled = (float(line.split()[-1]) for line in lines)
    assert compiled == pytest.approx(plain, rel=1e-4)
