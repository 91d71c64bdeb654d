"""From the factors of a bigram table to the weights of a model, and how far training has taken them since.

The norm makes every scale of an embedding the same model, but not the same training: it is given the root mean square
of one that the frame's residual outputs add up to. At width^-1/2, as drawn, the loss rises first: from 3.96 nats to
4.06 after 25 steps, where now it falls to 3.94 (one seed, the setting of plans/k0.yaml; perhaps since the first steps
of the blocks drown a small embedding, which is not shown). An embedding that is the head too keeps a head's scale.

A silenced linear gives zero for every input: of its parameters the one with the fewest numbers that does it alone is
set to zero, and the others keep what was drawn, or no gradient would ever come through. For a generated matrix
diag(gain) sin(omega U V) that is the gain: it learns first, U and V after it.

Refuses models outside the dense frame, linears that no single parameter can silence (one with a bias, say), and
k-means centres for generated linears other than the sine's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.errors import TrainingError
from bloomery.model import kmeans
from bloomery.model.dense import Block, Transformer
from bloomery.systems.harmonic import bigram
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.bigram import BigramTable, Factors
from bloomery.systems.harmonic.layers import HarmonicLinear

STREAM_SCALE = 1.0
"""What the residual outputs of all blocks add up to at their drawn scale (model.dense.initialise)."""


def frame_of(model: object) -> Transformer:
    """Raises TrainingError for a model of another kind."""
    if not isinstance(model, Transformer):
        raise TrainingError(
            "init.kind", f"k0 does not know the embedding and head of a {type(model).__name__}",
            "a model in the dense frame", "init.kind: random",
        )  # fmt: skip
    return model


def solve(
    model: Transformer, table: BigramTable, *, method: str, iterations: int, seed: int, tied: bool | None = None
) -> Factors:
    """The factors for a model of this shape, at the scale of its own weights; iterations: of the fit, 0 for none. tied:
    one matrix for both; None: as the model has it."""
    tied, epsilon = model.head is None if tied is None else tied, model.config.norm_epsilon
    factors = bigram.factorise(table, model.config.width, method=method, tied=tied, seed=seed)
    wanted = model.scales()["embedding"].initial_scale if tied else STREAM_SCALE
    scale = wanted / float(factors.embedding.square().mean().sqrt())
    if iterations:
        # The norm's epsilon as it will be for embeddings of another scale.
        factors = bigram.fit(factors, table, epsilon=epsilon / scale**2, iterations=iterations)
    return Factors(factors.embedding * scale, factors.head, factors.gain / scale if tied else factors.gain)


@torch.no_grad()
def apply(model: Transformer, factors: Factors) -> None:
    """Set embedding, head and the last norm's gains, and silence what blocks add to the residual stream."""
    model.embedding.copy_(factors.embedding)
    if model.head is not None:
        assert factors.head is not None
        model.head.copy_(factors.head)
    model.norm.weight.copy_(factors.gain)
    for name, module in model.named_modules():
        if isinstance(module, Block):
            silence(module.attention.output, f"{name}.attention.output", model.config.width)
            silence(module.feed_forward.down, f"{name}.feed_forward.down", model.config.feed_forward_width)


@torch.no_grad()
def silence(linear: nn.Module, name: str, inputs: int) -> None:
    """Raises TrainingError where no parameter does it alone. A linear that is not trained could never learn again, and
    is left as it was drawn."""
    if not any(parameter.requires_grad for parameter in linear.parameters()):
        return
    probe = torch.ones(1, inputs, device=next(linear.parameters()).device)
    for parameter in sorted(linear.parameters(), key=lambda one: one.numel()):
        drawn = parameter.clone()
        parameter.zero_()
        if not linear(probe).any():
            return
        parameter.copy_(drawn)
    raise TrainingError(name, "no single parameter makes its output zero", "a linear that k0 can silence")


@torch.no_grad()
def place_centres(model: Transformer, table: BigramTable, *, seed: int) -> None:
    """Input coordinates V [r d] of the sines that read the residual stream, from k-means on the embedding's rows.

    Feature i then lies at its profile over the r clusters of tokens, each less the mean, at the deviation that is drawn
    otherwise. All linears begin with the same; what they do with it is in their output coordinates, which stay random.
    Dense linears have none and are left alone. Raises TrainingError for another basis."""
    for name, module in model.named_modules():
        if not isinstance(module, HarmonicLinear) or module.inputs != model.config.width:
            continue
        if not isinstance(module, SineLinear):
            raise TrainingError(f"init.centres of {name}", "kmeans_svd", "random, for bases other than the sine")
        if not name.endswith(".output"):
            found = kmeans.centres(model.embedding.detach().cpu(), table.weight, module.rank, seed=seed)
            found -= found.mean()
            module.in_coordinates.copy_(found / (found.std(correction=0) * module.rank**0.5))


def mean_cosine(now: Float[Tensor, "v d"], then: Float[Tensor, "v d"]) -> float:
    """Mean over rows."""
    return float(nn.functional.cosine_similarity(now.detach(), then.to(now.device)).mean())
