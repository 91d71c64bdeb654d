"""Whether a scorer's probabilities sum to one: a loss means nothing where they do not.

Looked at: the first 64 positions of 64 documents, evenly spread, all of the vocabulary, summed in float64. A network
ends in a softmax and sums to one by construction, so only what is not finite is found out; this is for mixtures of
caches and tables. What document_logprobs says of the targets must be what logprobs says, or a table could pass with
one and be scored by the other. Refuses with the position and the sum.
"""

from __future__ import annotations

import numpy as np
import torch

from bloomery.data.tokens import TokenFile
from bloomery.errors import TrainingError
from bloomery.evaluate.caches import own_logprobs
from bloomery.evaluate.perplexity import DocumentScorer, spread
from bloomery.model.interface import LanguageModel, Scorer

DOCUMENTS = 64
POSITIONS = 64


def check_normalised(
    scorer: LanguageModel | Scorer, tokens: TokenFile, tolerance: float, *, device: str = "cpu"
) -> None:
    """Raises TrainingError for the first position whose probabilities miss one by more than `tolerance`."""
    for index in spread(tokens.documents, DOCUMENTS):
        document = tokens.document(index)[:POSITIONS].astype(np.int64)
        stream = np.concatenate(([tokens.end_of_document], document))
        inputs = torch.from_numpy(stream[None, :-1]).to(device)
        logprobs = own_logprobs(scorer, inputs)[0].cpu()
        for position, total in enumerate(logprobs.exp().sum(-1).tolist()):
            if not abs(total - 1) <= tolerance:
                place = f"{tokens.path}: document {index}, position {position}"
                raise TrainingError(place, f"the probabilities sum to {total!r}", f"1, within {tolerance:g}")
        if isinstance(scorer, DocumentScorer):
            own = scorer.document_logprobs(stream)
            told = logprobs.gather(1, torch.from_numpy(document)[:, None])[:, 0].numpy()
            if not np.allclose(own, told, rtol=1e-6, atol=1e-9):
                at = int(np.argmax(np.abs(own - told)))
                place = f"{tokens.path}: document {index}, position {at}"
                raise TrainingError(place, f"it is scored with log p {own[at]:.6g}, and its table says {told[at]:.6g}")
