"""Many answers at once: the texts that are written alone, in whatever order and number of rows."""

import pytest
import torch

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.sample import stream
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.several import Answering
from bloomery.model.config import DenseConfig
from bloomery.model.dense import build

PROMPTS = ["", "a", "the furnace", "Q: how many?\nA:", "ore", "iron and ore and"]
SAMPLINGS = [
    Sampling(max_tokens=5 + 3 * number, temperature=0.9 if number % 2 else 0, seed=number)
    for number in range(len(PROMPTS))
]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(DenseConfig(layers=2, width=32, heads=2), 257, compute_dtype=torch.float32).double()


@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_each_text_is_the_one_that_is_written_alone(model: torch.nn.Module, slots: int) -> None:
    tokenizer = BytesTokenizer()
    alone = [
        "".join(piece.text for piece in stream(model, tokenizer, prompt, sampling))  # type: ignore[arg-type]
        for prompt, sampling in zip(PROMPTS, SAMPLINGS, strict=True)
    ]
    assert Answering(model, tokenizer, slots=slots)(PROMPTS, SAMPLINGS) == alone  # type: ignore[arg-type]
    assert len(set(alone)) == len(alone)
    order = [3, 0, 5, 1, 4, 2]
    turned = Answering(model, tokenizer, slots=slots)(  # type: ignore[arg-type]
        [PROMPTS[at] for at in order], [SAMPLINGS[at] for at in order]
    )
    assert turned == [alone[at] for at in order]


def test_nothing_asked_is_nothing_written(model: torch.nn.Module) -> None:
    assert Answering(model, BytesTokenizer())([], []) == []  # type: ignore[arg-type]
