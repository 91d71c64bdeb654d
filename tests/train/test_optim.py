"""Every parameter in exactly one group, at the rate that its scale asks for."""

import pytest
import torch

from bloomery.errors import TrainingError
from bloomery.model.interface import Scale
from bloomery.train.optim import Optimisers, OptimizerConfig


def rates(optimisers, model):
    """{name: (class of optimiser, lr, decay strength lr * weight_decay)}"""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (type(optimiser).__name__, group["lr"], group["lr"] * group["weight_decay"])
        for optimiser in optimisers.optimisers
        for group in optimiser.param_groups
        for parameter in group["params"]
    }


def test_rates_follow_the_initial_scale_and_decay_does_not(make_model):
    model = make_model(width=32, heads=2, tie_embeddings=False)
    config = OptimizerConfig(lr=0.1, embedding_lr=0.4, gain_lr=0.02, weight_decay=0.5)
    optimisers = Optimisers(model, config)
    optimisers.set_factor(0.5)
    found = rates(optimisers, model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, scale in model.scales().items():
        rate = {"embedding": 0.4, "head": 0.4, "norm": 0.02}.get(scale.group, 0.1) * 0.5
        kind, lr, strength = found[name]
        assert kind == "AdamW"
        assert lr == pytest.approx(rate * scale.initial_scale)
        assert strength == pytest.approx(rate * 0.5 / 16 if scale.decay else 0.0)


def test_embeddings_can_be_slowed_alone(make_model):
    model = make_model(tie_embeddings=False)
    optimisers = Optimisers(model, OptimizerConfig(lr=0.1))
    optimisers.set_factor(0.5, 0.2)
    slowed = rates(optimisers, model)
    optimisers.set_factor(0.5)
    for name, (_, lr, strength) in rates(optimisers, model).items():
        share = 0.2 if name in ("embedding", "head") else 1.0
        assert slowed[name][1:] == (pytest.approx(lr * share), pytest.approx(strength * share))


def test_absolute_rates_are_plain_adamw(make_model):
    model = make_model()
    found = rates(Optimisers(model, OptimizerConfig(lr=0.01, relative=False, weight_decay=0.2)), model)
    for name, scale in model.scales().items():
        assert found[name] == ("AdamW", 0.01, pytest.approx(0.002 if scale.decay else 0.0))


def test_muon_takes_the_matrices_and_nothing_else(make_model):
    model = make_model()
    found = rates(Optimisers(model, OptimizerConfig(name="muon")), model)
    muon = {name for name, (kind, _, _) in found.items() if kind == "Muon"}
    assert muon == {name for name in found if "norm" not in name and name != "embedding"}
    assert len(found) == len(list(model.parameters()))


def test_frozen_parameters_are_left_alone(make_model):
    model = make_model()
    model.embedding.requires_grad_(False)
    optimisers = Optimisers(model, OptimizerConfig())
    assert "embedding" not in rates(optimisers, model)
    assert len(rates(optimisers, model)) == len(list(model.parameters())) - 1


def test_a_parameter_without_a_scale_is_refused_by_name(make_model):
    model = make_model()
    model.register_parameter("extra", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(TrainingError, match="extra: a parameter without a Scale"):
        Optimisers(model, OptimizerConfig())


def test_a_scale_without_a_parameter_is_refused_by_name(make_model, monkeypatch):
    model = make_model()
    scales = model.scales() | {"embeding": Scale("embedding", 1.0, True, False)}
    monkeypatch.setattr(model, "scales", lambda: scales)
    with pytest.raises(TrainingError, match=r"embeding: a Scale without a parameter(.|\n)*'embedding'"):
        Optimisers(model, OptimizerConfig())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_goes_out_and_in_by_name(name, make_model):
    def step(model, optimisers):
        for parameter in model.parameters():
            parameter.grad = torch.sin(parameter.detach() * 9)
        optimisers.step()

    model = make_model()
    optimisers = Optimisers(model, OptimizerConfig(name=name))
    assert optimisers.state() == {}
    step(model, optimisers)
    saved = {key: value.clone() for key, value in optimisers.state().items()}
    other = make_model()
    other.load_state_dict(model.state_dict())
    others = Optimisers(other, OptimizerConfig(name=name))
    others.load(saved)
    step(model, optimisers)
    step(other, others)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_model_is_refused(make_model):
    optimisers = Optimisers(make_model(), OptimizerConfig())
    with pytest.raises(TrainingError, match="embeding"):
        optimisers.load({"embeding/exp_avg": torch.zeros(3)})
    with pytest.raises(TrainingError, match="shape"):
        optimisers.load({"embedding/exp_avg": torch.zeros(3)})


@pytest.mark.parametrize("settings", [{"name": "sgd"}, {"lr": -1.0}, {"lr": float("nan")}, {"betas": (0.9, 1.0)},
                                      {"weight_decay": float("inf")}])  # fmt: skip
def test_nonsense_is_refused(settings):
    with pytest.raises(TrainingError, match="optimizer"):
        OptimizerConfig(**settings)
