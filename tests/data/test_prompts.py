"""Prompts are read, and neither learned from nor judged: from the token file to batches and held-out loss."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.data.corpus import Document
from bloomery.data.mix import Batches
from bloomery.data.tokenizer import BytesTokenizer, WordsTokenizer, train_bpe
from bloomery.data.tokens import TokenFile, selected, together, tokens_of, write_token_file
from bloomery.errors import DataError
from bloomery.evaluate.perplexity import perplexity
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer

PAIRS = [("Q: 2 + 2\nA:", " 4"), ("", "no prompt at all"), ("Größe?", " 1 m"), ("long " * 9, "x"), ("a", "bc" * 9)]
DOCUMENTS = [Document(str(n), p + r, "abab"[n % 4], prompt=len(p)) for n, (p, r) in enumerate(PAIRS)]
ANY_PAIRS = st.lists(st.tuples(st.text(max_size=9), st.text(min_size=1, max_size=9)), min_size=1, max_size=7)
function_scope = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def learned_by_hand(file: TokenFile) -> list[bool]:
    return [place >= file.prompts[n] for n in range(file.documents) for place in range(len(file.document(n)))]


@given(ANY_PAIRS)
@function_scope
def test_of_bytes_the_prompt_is_its_bytes(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    documents = [Document(str(n), p + r, "x", prompt=len(p)) for n, (p, r) in enumerate(pairs)]
    file = write_token_file(tmp_path / "any.tokens", documents, BytesTokenizer())
    assert file.prompts.tolist() == [len(p.encode()) for p, _ in pairs]
    assert file.byte_counts.tolist() == [len(r.encode()) for _, r in pairs]
    file.verify()
    found = file.learned()
    assert ([True] * len(file) if found is None else found.tolist()) == learned_by_hand(file)


def test_a_token_that_spans_both_is_learned() -> None:
    bpe = train_bpe(["a strawberry " * 50], 300)
    assert len(bpe.encode(" strawberry")) == 1
    whole = tokens_of("x", [Document("0", "a strawberry", "", prompt=len("a straw"))], bpe)
    assert bpe.decode(whole.tokens[: whole.prompts[0]]) == "a"


def test_without_prompts_a_file_is_as_it_always_was(tmp_path: Path) -> None:
    file = write_token_file(tmp_path / "plain.tokens", [Document("a", "text", "x")], BytesTokenizer())
    assert file.digest == "39dc2452eeaf0c92266d31508eeb525c4c3bf78c19b9bf8b96a271039ae95a06"  # of the version before
    assert file.learned() is None
    assert "prompts" not in (tmp_path / "plain.tokens.json").read_text()


def test_a_prompt_as_long_as_its_document_is_damage(tmp_path: Path) -> None:
    write_token_file(tmp_path / "a.tokens", DOCUMENTS, BytesTokenizer())
    card = tmp_path / "a.tokens.json"
    card.write_text(card.read_text().replace('"prompts": [11, 0', '"prompts": [14, 0'))
    with pytest.raises(DataError, match="prompt"):
        TokenFile.open(tmp_path / "a.tokens")


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_what_is_learned_is_the_responses_and_nothing_else(packing: str) -> None:
    """Against the token stream: over an epoch every learned target is one outside a prompt, each the right number of
    times."""
    file = tokens_of("x", DOCUMENTS * 3, BytesTokenizer())
    batches = Batches([(file, 1.0)], batch=1, context=20, seed=5, packing=packing)  # pyright: ignore
    rows = batches._rows[0].count
    found: list[int] = []
    for step in range(rows):
        batch = batches.batch_at(step)
        assert batch.mask is not None
        found += batch.targets[batch.mask].tolist()
    if packing == "documents":
        expected = [int(token) for token, kept in zip(file.tokens, learned_by_hand(file), strict=True) if kept]
        assert sorted(found) == sorted(expected)
    else:  # a window does not know documents: compared by place
        row = batches._rows[0].read(2, 0)
        assert row.learned is not None
        assert row.learned.tolist() == learned_by_hand(file)[41:61]


def test_files_in_memory_are_those_on_disk(tmp_path: Path) -> None:
    words = WordsTokenizer(["prompt", "long"], 300)
    stored = write_token_file(tmp_path / "x.tokens", DOCUMENTS, words)
    held = tokens_of("x", DOCUMENTS, words)
    for name in ("tokens", "starts", "byte_counts", "prompts"):
        assert np.array_equal(getattr(stored, name), getattr(held, name)), name
    assert (stored.names, stored.categories) == (held.names, held.categories)
    both = together(held, tokens_of("y", DOCUMENTS[:2], words))
    assert both.tokens.tolist() == [*held.tokens.tolist(), *held.tokens[: held.starts[2]].tolist()]
    again = selected(both, [0, 1, 2, 3, 4])
    assert again.tokens.tolist() == held.tokens.tolist()
    assert again.starts.tolist() == held.starts.tolist()
    assert selected(held, [3, 3]).prompts.tolist() == [held.prompts[3]] * 2
    assert len({held.digest, both.digest, again.digest}) == 3


def test_held_out_loss_is_that_of_the_responses() -> None:
    """Against one forward pass a document, written out; `exact` against greedy writing, token by token."""
    file = tokens_of("x", DOCUMENTS, BytesTokenizer())
    model = knows_by_heart(file, 3)
    result = perplexity(model, file, context=64)
    for index in range(file.documents):
        document = torch.from_numpy(file.document(index).astype(np.int64))
        prompt = int(file.prompts[index])
        stream = torch.cat([torch.tensor([256]), document])
        logits = model(stream[None, :-1]).logits[0].detach().double()
        nats = -torch.log_softmax(logits, -1)[torch.arange(len(document)), document][prompt:].sum()
        assert result.loss_sums[index] == pytest.approx(float(nats), rel=1e-5, abs=1e-5)
        assert result.token_counts[index] == len(document) - prompt
        written = stream[: prompt + 1]
        while len(written) < len(stream):
            written = torch.cat([written, model(written[None]).logits[0, -1].argmax()[None]])
        assert result.exact[index] is bool(torch.equal(written, stream))
    assert result.exact[3]
    assert not all(result.exact)
    assert result.bits_per_byte == pytest.approx(
        math.fsum(result.loss_sums) / math.log(2) / sum(len(text.encode()) for text in responses(file))
    )
    part = perplexity(model, file, context=64, documents=[3, 1])
    assert part.loss_sums == pytest.approx([result.loss_sums[3], result.loss_sums[1]], abs=1e-5)
    assert part.key != perplexity(model, file, context=64, documents=[1, 3]).key


def responses(file: TokenFile) -> list[str]:
    tokenizer = BytesTokenizer()
    return [tokenizer.decode(file.document(n)[file.prompts[n] :]) for n in range(file.documents)]


def knows_by_heart(file: TokenFile, index: int) -> Transformer:
    """A model that was trained on one document until it writes it."""
    torch.manual_seed(1)
    model = Transformer(DenseConfig(layers=1, width=16, heads=2), 257)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    document = torch.from_numpy(file.document(index).astype(np.int64))
    stream = torch.cat([torch.tensor([256]), document])
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(stream[None, :-1]).logits[0], document).backward()
        optimiser.step()
    return model.eval()
