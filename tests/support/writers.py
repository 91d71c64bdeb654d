"""Small models to write with: random weights far from uniform, so that texts differ and likelihoods lie apart."""

import torch

from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer


def writer(seed: int = 1, *, width: int = 32, vocab: int = 257, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    config = DenseConfig.model_validate({"layers": 2, "width": width, "heads": 4, "kv_heads": 2} | changes)
    model = Transformer(config, vocab)
    with torch.no_grad():
        model.embedding.mul_(2.4)
    return model.eval()
