"""Small token files to test on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file

Write = Callable[..., TokenFile]


@pytest.fixture
def write_file(tmp_path: Path) -> Write:
    """write_file(texts, name=...): a token file of bytes, one document a text."""

    def write(texts: Sequence[str], name: str = "corpus/train") -> TokenFile:
        documents = [Document(f"{number}.txt", text, "prose") for number, text in enumerate(texts)]
        return write_token_file(tmp_path / f"{name}.tokens", documents, BytesTokenizer())

    return write
