"""harmonic/from_dense: the function called by hand gives the same model, whose inputs and energies are right; cut
anywhere it goes on alike; what cannot be converted is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bloomery.data.prepared import Prepared
from bloomery.engine.artifact import seal, unseal
from bloomery.engine.discover import catalogue
from bloomery.engine.stage import Stopped
from bloomery.errors import BloomeryError, PlanError
from bloomery.measure import Measurement
from bloomery.model.dense import Transformer
from bloomery.model.tally import assert_equal, count
from bloomery.stages import models
from bloomery.stages.settings import architecture
from bloomery.systems.harmonic import from_dense as function
from bloomery.systems.harmonic.converting import weight_of
from bloomery.systems.harmonic.from_dense_stage import FromDense, Settings
from bloomery.systems.harmonic.layers import HarmonicLinear

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "stages"))
from tiny import Trained, context, prepared, pretrain
from tiny import settings as pretrain_settings

from support.command import finished, process, tiny_plan

MODEL = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24}
RECOVER = {"data": "corpus", "tokens": 1280, "lr": 0.1, "batch": 4, "context": 32,
           "validation": {"every": "50%", "documents": 2}}  # fmt: skip
COVARIANCE = {"tokens": 640, "batch": 4, "context": 32}
OVERALL = ("convert/unexplained_energy", "convert/unexplained_output_energy")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def dense(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return pretrain(data, tmp_path_factory.mktemp("dense"), pretrain_settings(model=MODEL))


def settings(**changes: Any) -> Settings:
    given = {"basis": "lowrank", "compression": 2, "covariance": COVARIANCE, "precision": "fp32"}
    return Settings.model_validate(given | changes)


def convert(data: Prepared, folder: Path, config: Settings, before: Trained, **more: Any) -> Trained:
    measured: list[Measurement] = []
    given = {"model": unseal(before.result.outputs["model"])}
    ctx = context(data, folder, record=measured.append, inputs=given, **more)
    result = FromDense().run(ctx, config)
    for name, output in result.outputs.items():
        seal(output, f"converted.{name}", name)
    return Trained(ctx, result, measured)


def source(dense: Trained) -> Transformer:
    model = models.load_model(dense.result.outputs["model"])
    assert isinstance(model, Transformer)
    return model


def handed_on(done: Trained) -> dict[str, HarmonicLinear]:
    model = models.load_model(done.result.outputs["model"])
    return {name: module for name, module in model.named_modules() if isinstance(module, HarmonicLinear)}


def slow_covariances(data: Prepared, dense: Trained, config: Settings, seed: int = 0) -> dict[str, Tensor]:
    """E x x^T of every linear: all that it reads, kept, and outer products summed one by one in float64."""
    from bloomery.stages import training

    model, seen = source(dense), {}
    linears = {name: module for name, module in model.named_modules() if type(module).__name__ == "Linear"}
    for name, module in linears.items():
        module.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0]))
    ctx = context(data, data.folder.parent / f"by hand {seed}", seed=seed)
    read = config.covariance.reading
    batches = training.batches(ctx, read)
    with torch.no_grad():
        for step in range(read.steps):
            model(batches.batch_at(step).tokens)
    out = {}
    for name, inputs in seen.items():
        rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs]).double()
        assert len(rows) == 640
        total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        for row in rows:
            total += torch.outer(row, row)
        out[name] = total / len(rows)
    return out


def test_covariances_are_those_of_a_slow_reference(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    from bloomery.stages import training
    from bloomery.systems.harmonic.covariances import gather

    config = settings()
    ctx = context(data, tmp_path)
    batches = training.batches(ctx, config.covariance.reading)
    model = source(dense)
    found = gather(model, batches, config.covariance.reading.steps)
    expected = slow_covariances(data, dense, config)
    assert set(found) == set(expected)
    assert len(found) == 2 * 7
    for name, wanted in expected.items():
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], wanted, rtol=1e-12, atol=1e-12)
    assert found["blocks.1.attention.key"] is found["blocks.1.attention.query"]  # one is gathered of what both read
    assert found["blocks.1.feed_forward.gate"] is not found["blocks.1.attention.query"]
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"metric": "entries"},
        {"basis": "kron"},
        {"basis": "monarch", "blocks": 4},
        {"basis": "sine", "omega": 2.0, "steps": 3},
        {"basis": "row_gauss", "steps": 2, "rate": 0.05},
        {"basis": "hashed"},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())) or "default",
)
def test_it_is_the_function_called_by_hand(
    changes: dict[str, Any], data: Prepared, dense: Trained, tmp_path: Path
) -> None:
    config = settings(**changes)
    done = convert(data, tmp_path, config, dense)
    covariances, model, linears = slow_covariances(data, dense, config), source(dense), handed_on(done)
    options = {key: changes[key] for key in ("steps", "rate", "omega", "blocks") if key in changes}
    assert len(linears) == 14
    for name, linear in linears.items():
        given = covariances[name] if config.metric == "inputs" else None
        weight = weight_of(model.get_submodule(name))
        by_hand = function.from_dense(weight, config.basis, 2, given, gain=linear.initial_gain, **options)
        torch.testing.assert_close(weight_of(linear), weight_of(by_hand.linear), rtol=1e-4, atol=1e-5)


def test_what_is_no_linear_is_taken_over_and_all_is_counted(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    done = convert(data, tmp_path, settings(), dense)
    folder = done.result.outputs["model"]
    assert set(done.result.outputs) == set(FromDense().produces(settings())) == {"model"}
    before, after = source(dense), models.load_model(folder)
    for name in ("embedding", "norm.weight", "blocks.1.feed_forward_norm.weight"):
        assert torch.equal(after.get_parameter(name), before.get_parameter(name))
    card = models.settings_of(folder)
    assert (card["system"], card["basis"], card["compression"], card["width"]) == ("harmonic", "lowrank", 2.0, 16)
    assert_equal(architecture(card).tally(data.vocab), count(after))
    assert done.result.tallies["model"] == after.tally()


def energies(data: Prepared, dense: Trained, done: Trained, config: Settings) -> dict[str, tuple[float, float]]:
    """By the definition: sums over what is read of squared outputs that are missed."""
    covariances, model = slow_covariances(data, dense, config), source(dense)
    out = {}
    for name, linear in handed_on(done).items():
        wanted, c = weight_of(model.get_submodule(name)), covariances[name]
        missed = wanted - weight_of(linear)
        out[name] = (
            float(missed.square().sum() / wanted.square().sum()),
            float(torch.einsum("oi,ij,oj->", missed, c, missed) / torch.einsum("oi,ij,oj->", wanted, c, wanted)),
        )
    return out


@pytest.mark.parametrize("metric", ["inputs", "entries"])
def test_energies_are_told_of_every_linear_and_of_all(
    metric: str, data: Prepared, dense: Trained, tmp_path: Path
) -> None:
    config = settings(metric=metric)
    done = convert(data, tmp_path, config, dense)
    expected = energies(data, dense, done, config)
    for place, quantity in enumerate(("unexplained_energy", "unexplained_output_energy")):
        each = {
            name: done.last(f"convert/{name.replace('.', '_')}/{quantity}") for name in expected
        }  # fmt: skip
        assert each == pytest.approx({name: pair[place] for name, pair in expected.items()}, rel=1e-4)
        assert done.last(f"convert/{quantity}") == pytest.approx(sum(each.values()) / 14)
    declared = FromDense().emits(config)
    for one in done.measured:
        parts = one.name.split("/")
        pattern = one.name if len(parts) == 2 else "/".join((parts[0], "*", parts[2]))
        assert pattern in declared, one.name


def test_each_metric_misses_least_of_its_own(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    inputs = convert(data, tmp_path / "inputs", settings(compression=4), dense)
    entries = convert(data, tmp_path / "entries", settings(compression=4, metric="entries"), dense)
    assert entries.last(OVERALL[0]) < inputs.last(OVERALL[0])
    assert inputs.last(OVERALL[1]) < entries.last(OVERALL[1])


def test_a_random_start_is_drawn_by_the_seed_and_misses_more(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    config = settings(basis="row_gauss", start="random", steps=4)
    first, again, other = (
        convert(data, tmp_path / str(place), config, dense, seed=seed) for place, seed in enumerate((0, 0, 1))
    )
    weights = [[weight_of(linear) for linear in handed_on(done).values()] for done in (first, again, other)]
    assert all(map(torch.equal, weights[0], weights[1]))
    assert not any(map(torch.equal, weights[0], weights[2]))
    assert not torch.equal(weights[0][0], weights[0][1])  # nor is one draw used for all
    fitted = convert(data, tmp_path / "fitted", settings(basis="row_gauss", steps=4), dense)
    assert fitted.last(OVERALL[1]) < 0.8 * first.last(OVERALL[1])


@pytest.mark.parametrize("basis", ["lowrank", "sine", "kron", "row_gauss", "hashed", "monarch"])
def test_zero_is_nothing_at_all_but_can_learn(basis: str, data: Prepared, dense: Trained, tmp_path: Path) -> None:
    done = convert(data, tmp_path, settings(basis=basis, start="zero"), dense)
    assert [done.last(name) for name in OVERALL] == [1.0, 1.0]
    for linear in handed_on(done).values():
        assert not weight_of(linear).any()
        linear(torch.ones(1, linear.inputs)).sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in linear.parameters())


def test_where_leaves_the_others_as_they_are(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    done = convert(data, tmp_path, settings(where="attention"), dense)
    assert {name.split(".")[2] for name in handed_on(done)} == {"attention"}
    after = models.load_model(done.result.outputs["model"])
    kept = "blocks.0.feed_forward.down.weight"
    assert torch.equal(after.get_parameter(kept), source(dense).get_parameter(kept))


def test_recovery_trains_it_on(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    config = settings(compression=4, recover=RECOVER)
    done = convert(data, tmp_path, config, dense)
    assert set(done.result.outputs) == set(FromDense().produces(config)) == {"model", "state"}
    losses = [one.value for one in done.measured if one.name == "val/loss"]
    assert losses[-1] < losses[0]
    assert set(done.result.hashes) == {"weights", "optimiser"}
    plain = convert(data, tmp_path / "plain", settings(compression=4), dense)
    assert done.last(OVERALL[0]) == plain.last(OVERALL[0])
    assert FromDense().looks_at(config) == ("corpus:dev",)
    assert FromDense().looks_at(settings()) == ()
    assert not [name for name in FromDense().emits(settings()) if not name.startswith("convert/")]


PURSUED = {"basis": "row_gauss", "steps": 2, "recover": RECOVER}


@pytest.fixture(scope="module")
def whole(data: Prepared, dense: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return convert(data, tmp_path_factory.mktemp("whole"), settings(**PURSUED), dense)


@pytest.mark.parametrize("looks", [0, 3, 5, 9, 18, 22])  # five batches, fourteen linears, ten steps of recovery
def test_stopped_anywhere_and_gone_on_it_is_the_same(
    looks: int, data: Prepared, dense: Trained, whole: Trained, tmp_path: Path
) -> None:
    config = settings(**PURSUED)
    left = iter(range(looks))

    def stop() -> str | None:
        return None if next(left, None) is not None else "signal"

    with pytest.raises(Stopped):
        convert(data, tmp_path / "cut", config, dense, stop_reason=stop)
    again = convert(data, tmp_path / "cut", config, dense)
    assert again.result.hashes == whole.result.hashes
    told = [{one.name: one.value for one in done.measured if one.name[:8] == "convert/"} for done in (whole, again)]
    assert told[0] == told[1]
    assert len(told[0]) == 2 * (1 + 14)


def test_what_was_fitted_before_a_stop_is_not_fitted_again(
    data: Prepared, dense: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bloomery.systems.harmonic import post_hoc

    fitted: list[str] = []
    real = post_hoc.from_dense

    def counting(*args: Any, **more: Any) -> Any:
        fitted.append("one")
        return real(*args, **more)

    monkeypatch.setattr(post_hoc, "from_dense", counting)
    left = iter(range(5 + 6))  # five batches, six linears

    def stop() -> str | None:
        return None if next(left, None) is not None else "signal"

    with pytest.raises(Stopped):
        convert(data, tmp_path, settings(), dense, stop_reason=stop)
    before = len(fitted)
    assert 0 < before < 14
    convert(data, tmp_path, settings(), dense)
    assert len(fitted) == 14
    convert(data, tmp_path, settings(), dense)
    assert len(fitted) == 14
    convert(data, tmp_path, settings(metric="entries"), dense)  # of other settings nothing is taken
    assert len(fitted) == 28


def test_damaged_progress_is_made_anew(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    whole = convert(data, tmp_path, settings(), dense)
    for file in (tmp_path / "checkpoint" / "linears").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:40])
    again = convert(data, tmp_path, settings(), dense)
    assert [one.value for one in again.measured] == [one.value for one in whole.measured]


def test_its_cost(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    done = convert(data, tmp_path, settings(), dense)
    before = dict(pretrain_settings(model=MODEL).model)
    plain = FromDense().cost(settings(), system="harmonic", vocab=data.vocab, model=before)
    assert plain.tokens == 640
    assert plain.tally == done.result.tallies["model"]
    # 640 tokens through the dense model forward, and an outer product of each of four inputs of two blocks
    outer = 2 * 2 * (3 * 16 * 16 + 24 * 24)
    least = 640 * (architecture(before).tally(data.vocab).flops_per_token + outer)
    assert least < plain.flops < 100 * least
    more = FromDense().cost(settings(recover=RECOVER), system="harmonic", vocab=data.vocab, model=before)
    assert more.tokens == 640 + 1280
    assert more.flops > plain.flops
    assert more.optimiser_bytes > 0 == plain.optimiser_bytes
    refined = FromDense().cost(settings(steps=100), system="harmonic", vocab=data.vocab, model=before)
    assert refined.flops > 2 * plain.flops
    assert FromDense().cost(settings(), system="harmonic", vocab=data.vocab).tokens == 640


def test_what_it_reads_is_told(data: Prepared, tmp_path: Path) -> None:
    read = list(FromDense().tokens_read(context(data, tmp_path), settings(recover=RECOVER)))
    assert len(read) == 640 // 128 + 1280 // 128
    assert FromDense().fits_on(settings()) == ("corpus:train",)
    mixed = settings(covariance=COVARIANCE | {"data": "corpus:dev"}, recover=RECOVER)
    assert set(FromDense().fits_on(mixed)) == {"corpus:train", "corpus:dev"}
    assert isinstance(catalogue.kind("harmonic/from_dense"), FromDense)
    assert FromDense().misfit(settings(recover=RECOVER), settings(recover=RECOVER | {"lr": 0.2})) == ""
    assert "another shape" in FromDense().misfit(settings(), settings(basis="kron"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": "zero", "steps": 3}, "zero"),
        ({"covariance": COVARIANCE | {"tokens": 64}}, "less than one step"),
        ({"basis": "fourier"}, "lowrank"),
        ({"compression": 0.5}, "greater than or equal to 1"),
        ({"recover": RECOVER | {"tokens": 64}}, "less than one step"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**changes)


def test_models_that_cannot_be_converted_are_refused(data: Prepared, dense: Trained, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="without a component"):
        convert(data, tmp_path / "small", settings(compression=50), dense)
    harmonic = {"system": "harmonic", **MODEL, "compression": 2}
    before = pretrain(data, tmp_path / "harmonic", pretrain_settings(model=harmonic))
    with pytest.raises(PlanError, match="dense"):
        convert(data, tmp_path / "again", settings(), before)
    broken = pretrain(data, tmp_path / "broken", pretrain_settings(model=MODEL))
    model = models.load_model(folder := broken.result.outputs["model"])
    with torch.no_grad():
        model.get_parameter("blocks.1.feed_forward.up.weight").fill_(float("nan"))
    models.save(folder, model, models.settings_of(folder), "fp32", models.tokenizer_of(folder))
    seal(folder, "pretrain.model", "model")
    with pytest.raises(BloomeryError, match=r"blocks\.1\.feed_forward\.up.*not finite"):
        convert(data, tmp_path / "nan", settings(), broken)


def plan(folder: Path, **changes: Any) -> None:
    file = tiny_plan(folder)
    written: dict[str, Any] = json.loads(file.read_text())
    written |= {"system": "harmonic"}
    written["stages"][0]["config"]["model"] = {"system": "dense", **MODEL}
    written["stages"][0].pop("gate")
    written["stages"][0].pop("evaluate")
    config = {"basis": "lowrank", "compression": 2, "covariance": COVARIANCE, "precision": "fp32"} | changes
    gate = [{"metric": "text/loss", "relative_to": "stage:pretrain", "op": "<=", "value": 2.0},
            {"metric": "convert/blocks_0_attention_query/unexplained_energy", "op": "<=", "value": 1.0}]  # fmt: skip
    converted = {
        "id": "converted", "kind": "harmonic/from_dense", "needs": {"model": "pretrain"}, "config": config, "gate": gate
    }  # fmt: skip
    written["stages"].append(converted)
    for key in ("baselines", "control"):
        written.pop(key, None)
    written["suites"].pop("samples")
    file.write_text(json.dumps(written))


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"basis": "fourier"}, "basis"), ({"compression": 5000}, "compression"), ({"covariances": {}}, "covariance")],
)
def test_a_plan_that_asks_for_what_there_is_not_ends_with_one_error(
    changes: dict[str, Any], where: str, tmp_path: Path
) -> None:
    plan(tmp_path, **changes)
    said = finished(process(["budget", "tiny.yaml"], tmp_path))
    assert said.code == 2
    assert where in said.err
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_in_a_plan_it_is_judged_beside_the_dense_model(tmp_path: Path) -> None:
    plan(tmp_path)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], tmp_path))
    assert said.code == 0, said.err
    events = [json.loads(line) for line in (tmp_path / "runs/test/tiny/events.jsonl").read_text().splitlines()]
    verdicts = {event["stage"]: event["status"] for event in events if event["event"] == "verdict"}
    assert verdicts == {"pretrain": "pass", "converted": "pass"}
