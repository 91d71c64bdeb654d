"""Our models as lm-evaluation-harness 0.4.13 asks for them: a TemplateLM around any LanguageModel or Scorer.

log-likelihoods    scoring.score_all: the harness's window rule, tokens in common read once
rolling            windows as the harness cuts them, each token once, the first after end_of_document
generate_until     greedy; the context keeps its end; stops at end_of_document, a stop string, or the wanted length,
                       which is at most half of the window

An empty context is end_of_document. Context and continuation are encoded together and cut at the context's own length,
as the harness does it. Refuses tasks that sample, and a tokenizer with more ids than the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import DataError
from bloomery.evaluate import progress
from bloomery.evaluate.scoring import Request, score_all
from bloomery.model.interface import LanguageModel, Scorer

DEFAULT_NEW_TOKENS = 256
"""What the harness asks for where a task does not say."""


@dataclass(slots=True)
class Usage:
    """What was asked and read so far; the adapter counts here."""

    requests: int = 0
    truncated: int = 0
    """Requests whose context lost its beginning."""
    tokens: int = 0
    """Positions read for log-likelihoods, padding included."""
    passes: int = 0


def adapter(
    scorer: LanguageModel | Scorer,
    tokenizer: Tokenizer,
    *,
    window: int,
    device: str = "cpu",
    new_tokens: int | None = None,
    usage: Usage | None = None,
) -> Any:
    """An object that `lm_eval.evaluator.evaluate` takes as `lm`. new_tokens: at most so many are generated.

    window: at least 2.
    Raises DataError where the scorer has not all ids of the tokenizer.
    """
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    if scorer.vocab < tokenizer.vocab:
        raise DataError("lm-eval", f"a tokenizer of {tokenizer.vocab} ids", f"at most {scorer.vocab}, the model's")
    counted = Usage() if usage is None else usage

    class Adapter(TemplateLM):  # pyright: ignore[reportUntypedBaseClass]
        @property
        def eot_token_id(self) -> int:
            return tokenizer.end_of_document

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            return tokenizer.encode(string).tolist()

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
            return _score([(context, continuation) for _, context, continuation in requests])

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
            return [_rolling(request.args[0]) for request in requests]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
            known: dict[str, str] = {}  # filters ask again for the same text
            for request in progress.counted(requests, "answers"):
                if (key := repr(request.args)) not in known:
                    known[key] = _generate(*request.args)
            return [known[repr(request.args)] for request in requests]

    def _score(pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        asked = [
            Request(tuple(context) or (tokenizer.end_of_document,), tuple(continuation))
            for context, continuation in pairs
        ]
        counted.requests += len(asked)
        counted.truncated += sum(len(one.context) + len(one.continuation) > window + 1 for one in asked)
        found = score_all(scorer, asked, window=window, device=device)
        counted.tokens += found.tokens
        counted.passes += found.passes
        return [(one.logprob, one.greedy) for one in found.scores]

    def _rolling(text: str) -> float:
        ids = tokenizer.encode(text).tolist()
        cuts = get_rolling_token_windows(
            token_list=ids, prefix_token=tokenizer.end_of_document, max_seq_len=window, context_len=1
        )
        return sum(logprob for logprob, _ in _score([make_disjoint_window(cut) for cut in cuts]))

    def _generate(context: str, settings: dict[str, Any]) -> str:
        until, most = _wishes(settings, window // 2 if new_tokens is None else min(new_tokens, window // 2))
        whole = tokenizer.encode(context).tolist() or [tokenizer.end_of_document]
        counted.requests += 1
        counted.truncated += len(whole) > window - most
        ids: list[int] = []
        text = ""
        for token in greedy(scorer, whole[-(window - most) :], most, tokenizer.vocab, device):
            if token == tokenizer.end_of_document:
                break
            ids.append(token)
            text = tokenizer.decode(ids)
            if any(stop in text for stop in until):
                break
        for stop in until:
            text = text.split(stop)[0]
        return text

    return Adapter()


def _wishes(settings: dict[str, Any], limit: int) -> tuple[list[str], int]:
    """Stop strings, and the largest number of tokens, at most `limit`."""
    if settings.get("do_sample") or settings.get("temperature"):
        raise DataError("lm-eval", f"a task that samples ({settings})", "greedy generation")
    until = settings.get("until") or []
    most = int(settings.get("max_gen_toks") or DEFAULT_NEW_TOKENS)
    stops = [until] if isinstance(until, str) else list(until)
    return [stop for stop in stops if stop], min(most, limit)


def greedy(
    scorer: LanguageModel | Scorer, context: Sequence[int], most: int, vocab: int, device: str = "cpu"
) -> Iterator[int]:
    """At most `most` likeliest tokens after the context, one at a time; equal ones go to the lower id below `vocab`."""
    with torch.inference_mode():
        if not isinstance(scorer, LanguageModel):
            tokens = list(context)
            for _ in range(most):
                tokens.append(int(scorer.logprobs(torch.tensor([tokens], device=device))[0, -1, :vocab].argmax()))
                yield tokens[-1]
            return
        was_training = scorer.training
        scorer.eval()
        try:
            state = scorer.initial_state(1, len(context) + most)
            unread = list(context)
            for _ in range(most):
                output = scorer(torch.tensor([unread], device=device), state, project=False)
                state = output.state
                logits: Tensor = scorer.project(output.hidden[:, -1])
                unread = [int(logits[0, :vocab].argmax())]
                yield unread[0]
        finally:
            scorer.train(was_training)
