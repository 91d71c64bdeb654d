"""Scores the slow and obvious way, one forward pass a request, and what fast ways are compared on."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st

from bloomery.evaluate.scoring import Request, Score, fed
from bloomery.model.interface import LanguageModel, Scorer

VOCAB = 5


def score_one(scorer: LanguageModel | Scorer, request: Request, *, window: int) -> Score:
    tokens = fed(request, window)
    wanted = len(request.continuation)
    inputs = torch.tensor([tokens[:-1]])
    with torch.inference_mode():
        if isinstance(scorer, LanguageModel):
            logits = scorer(inputs).logits
            logprobs = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
        else:
            logprobs = scorer.logprobs(inputs)
    logprobs = logprobs[0, -wanted:]
    targets = torch.tensor(tokens[-wanted:])
    each = logprobs.gather(1, targets[:, None]).double().sum()
    return Score(float(each), bool((logprobs.argmax(1) == targets).all()))


def tokens_one_by_one(requests: Sequence[Request], window: int) -> int:
    return sum(len(fed(request, window)) - 1 for request in requests)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Request], int]:
    """Requests whose contexts and continuations share beginnings, with repeats, and a window that may cut them."""
    token = st.integers(0, VOCAB - 1)
    stems = draw(st.lists(st.lists(token, max_size=14), min_size=1, max_size=3))
    window = draw(st.integers(4, 24))
    made = []
    for _ in range(draw(st.integers(1, 12))):
        context = [*draw(st.sampled_from(stems)), *draw(st.lists(token, min_size=1, max_size=4))]
        made.append(Request(tuple(context), tuple(draw(st.lists(token, min_size=1, max_size=4)))))
    return made + draw(st.lists(st.sampled_from(made), max_size=2)), window
