import pytest
import torch

from bloomery.errors import ArtifactError
from bloomery.train.state import hash_tensors, reseed, restore_weights


def test_hash_sees_names_values_shapes_and_dtypes_but_not_order():
    a, b = torch.arange(6.0), torch.ones(2)
    base = hash_tensors({"a": a, "b": b})
    assert base == hash_tensors({"b": b.clone(), "a": a.clone()})
    changed = [{"a": a, "c": b}, {"a": a + 1e-7, "b": b}, {"a": a.view(2, 3), "b": b}, {"a": b, "b": a}, {"a": a},
               {"a": a, "b": b.to(torch.bfloat16)}]  # fmt: skip
    assert len({base, *map(hash_tensors, changed)}) == len(changed) + 1


def test_hash_of_a_view_is_that_of_its_values():
    a = torch.arange(12.0).view(3, 4)
    assert hash_tensors({"a": a.T}) == hash_tensors({"a": a.T.contiguous()}) != hash_tensors({"a": a})


def test_draws_are_a_function_of_seed_and_step():
    def draw(seed, step):
        reseed(seed, step)
        return torch.rand(1).item()

    before = torch.get_rng_state()
    assert draw(3, 5) == draw(3, 5)
    assert len({draw(seed, step) for seed in range(10) for step in range(10)}) == 100
    torch.set_rng_state(before)


def test_weights_of_another_shape_are_refused_by_name(make_model):
    model = make_model()
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    restore_weights(model, weights, "here")
    with pytest.raises(ArtifactError, match=r"norm\.weight: shape"):
        restore_weights(model, weights | {"norm.weight": torch.zeros(3)}, "here")
    with pytest.raises(ArtifactError, match="extra: a tensor that the model lacks"):
        restore_weights(model, weights | {"extra": torch.zeros(3)}, "here")
    del weights["embedding"]
    with pytest.raises(ArtifactError, match="embedding: no such tensor"):
        restore_weights(model, weights, "here")
