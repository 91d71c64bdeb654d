"""The Hugging Face hub: data sets, streamed, and models. Needs the extra `hub` and, alone in data/, the network.

`datasets` is imported when the first document is asked for and at no other time. What was read is recorded: data set,
configuration, split and revision in the provenance, the sha256 of the text in the census. A data set that is gated,
misspelled or out of reach is one DataError that says what the hub said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.data.corpus import Document
from bloomery.data.files import Fields
from bloomery.errors import BloomeryError, DataError, MissingExtra


@dataclass(frozen=True, slots=True)
class HubDataset:
    """Rows of `dataset` (`owner/name`), until one of the limits. Names are SPLIT#ROW unless a field is given."""

    dataset: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    fields: Fields = field(default_factory=Fields)
    max_documents: int | None = None
    max_bytes: int | None = None
    """Reading stops before the first document that would pass this size, in UTF-8 bytes."""
    licence: str = "unknown"
    gated: str = ""
    """What has to be accepted first, shown when the hub refuses."""

    def documents(self) -> Iterator[Document]:
        try:
            import datasets
        except ImportError:
            raise MissingExtra(
                f"hub data set {self.dataset}", "`datasets` is not installed", hint="pip install 'bloomery[hub]'"
            ) from None
        read_bytes = 0
        try:
            rows = datasets.load_dataset(
                self.dataset, self.config, split=self.split, revision=self.revision, streaming=True
            )
            for number, row in enumerate(itertools.islice(rows, self.max_documents)):
                where = f"{self.dataset} row {number}"
                document = self.fields.document(row, where, f"{self.split}#{number}")
                read_bytes += len(document.text.encode())
                if self.max_bytes is not None and read_bytes > self.max_bytes:
                    return
                yield document
        except BloomeryError:
            raise
        except Exception as error:  # the library and what it calls raise many kinds
            hint = self.gated or "is the name right, the network up, and the terms accepted?"
            raise DataError(f"hub data set {self.dataset}", f"{type(error).__name__}: {error}", hint=hint) from error

    def provenance(self) -> dict[str, Any]:
        return {
            "source": "hub",
            "dataset": self.dataset,
            "config": self.config,
            "split": self.split,
            "revision": self.revision or "not pinned",
            "licence": self.licence,
        }


def download_model(name: str) -> Path:
    """The folder of a model, `owner/name` or `owner/name@revision`, in the hub's own cache; fetched if need be.

    Raises MissingExtra without `huggingface_hub`, and DataError where the hub refuses or is out of reach.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(
            f"hub model {name}", "`huggingface_hub` is not installed", hint="pip install 'bloomery[hub]'"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except Exception as error:  # the library and what it calls raise many kinds
        hint = "is the name right, the network up, and the terms accepted?"
        raise DataError(f"hub model {name}", f"{type(error).__name__}: {error}", hint=hint) from error
