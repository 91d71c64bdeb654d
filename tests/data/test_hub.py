"""The hub source against a stand-in for `datasets`; the network is never touched."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from bloomery.data.files import Fields
from bloomery.data.hub import HubDataset
from bloomery.data.presets import PRESETS
from bloomery.errors import DataError, MissingExtra


class FakeDatasets(types.ModuleType):
    """Streams rows without end, and remembers how it was called."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.called: tuple[Any, ...] = ()
        self.given = 0

    def load_dataset(self, path: str, config: str | None, **options: Any) -> Iterator[dict[str, Any]]:
        self.called = (path, config, options)
        if path == "gated/one":
            raise PermissionError("401: gated")
        return self._rows()

    def _rows(self) -> Iterator[dict[str, Any]]:
        while True:
            self.given += 1
            yield {"text": "é" * 5, "kind": "prose"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDatasets:
    module = FakeDatasets()
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_rows_are_streamed_and_no_more_than_asked_for(fake: FakeDatasets) -> None:
    source = HubDataset("owner/name", "en", revision="abc", fields=Fields("text", None, "kind"), max_documents=3)
    found = list(source.documents())
    assert [(each.name, each.text, each.category) for each in found] == [
        (f"train#{number}", "ééééé", "prose") for number in range(3)
    ]
    assert fake.called == ("owner/name", "en", {"split": "train", "revision": "abc", "streaming": True})
    assert fake.given == 3
    assert source.provenance()["revision"] == "abc"


def test_bytes_are_counted_in_utf8(fake: FakeDatasets) -> None:
    assert len(list(HubDataset("owner/name", max_bytes=35).documents())) == 3


def test_what_the_hub_refuses_is_one_error_with_what_to_accept(fake: FakeDatasets) -> None:
    with pytest.raises(DataError, match="401: gated") as caught:
        list(HubDataset("gated/one", gated="accept the terms").documents())
    assert caught.value.hint == "accept the terms"


def test_a_missing_field_is_ours_to_name(fake: FakeDatasets) -> None:
    with pytest.raises(DataError, match="owner/name row 0: no field 'content'"):
        list(HubDataset("owner/name", fields=Fields("content")).documents())


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"bloomery\[hub\]"):
        list(HubDataset("owner/name").documents())


def test_presets_say_where_under_which_terms_and_how_much() -> None:
    asked = "wikipedia fineweb-edu slimpajama stack-v2 arxiv openwebmath pg19 tinystories"
    assert set(asked.split()) <= set(PRESETS)
    for preset in PRESETS.values():
        assert preset.dataset.count("/") == 1
        assert preset.licence
        assert preset.about
        assert preset.tokens >= 10**8
        assert preset.text or preset.gated
