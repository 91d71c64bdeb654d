"""Rows against the token stream itself: nothing lost, nothing invented, documents kept apart."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.data.pack import DocumentRows, StreamRows, _next_fit
from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError

Write = Callable[..., TokenFile]
one_file = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=20)


def texts_of(lengths: list[int]) -> list[str]:
    return [chr(97 + number % 26) * length for number, length in enumerate(lengths)]


@given(lengths=LENGTHS, context=st.integers(1, 12), data=st.data())
@one_file
def test_stream_windows_cover_each_target_once(
    write_file: Write, lengths: list[int], context: int, data: st.DataObject
) -> None:
    file = write_file(texts_of(lengths))
    stream = file.tokens.tolist()
    if len(stream) <= context:
        with pytest.raises(DataError, match="one row of the context"):
            StreamRows(file, context)
        return
    rows = StreamRows(file, context)
    shift = data.draw(st.integers(0, rows.shifts - 1))
    found = [rows.read(index, shift) for index in range(rows.count)]
    targets = [token for row in found for token in row.targets.tolist()]
    assert targets == stream[shift + 1 : shift + 1 + rows.count * context]
    assert all(len(row.targets) == context for row in found)
    assert [token for row in found for token in row.inputs.tolist()] == stream[shift : shift + rows.count * context]
    assert len(stream) - 1 - rows.count * context < context


@given(lengths=LENGTHS, context=st.integers(1, 12))
@one_file
def test_document_rows_hold_every_token_once_and_whole_documents(
    write_file: Write, lengths: list[int], context: int
) -> None:
    file = write_file(texts_of(lengths))
    if len(file) < context:
        with pytest.raises(DataError, match="one row of the context"):
            DocumentRows(file, context)
        return
    rows = DocumentRows(file, context)
    found = [rows.read(index, 0) for index in range(rows.count)]
    assert [token for row in found for token in row.targets.tolist()] == file.tokens.tolist()
    before = [file.end_of_document, *file.tokens.tolist()]  # what a token is predicted from
    assert [token for row in found for token in row.inputs.tolist()] == before[:-1]
    starts = set(file.starts[:-1].tolist())
    position = 0
    for row in found:
        assert 1 <= len(row.targets) <= context
        assert set(row.breaks) == {start - position for start in starts if 0 <= start - position < len(row.targets)}
        position += len(row.targets)
    for first, last in pairwise(file.starts.tolist()):  # a document that fits a row is in one row
        if last - first <= context:
            edges = {sum(len(row.targets) for row in found[:n]) for n in range(len(found) + 1)}
            assert not any(first < edge < last for edge in edges)


def test_next_fit_by_hand() -> None:
    # documents of 3, 4, 10, 2 tokens, rows of 8: 3+4 | 8 of the long one | its 2 and the 2
    assert _next_fit([0, 3, 7, 17, 19], 8) == [(0, 7), (7, 15), (15, 19)]
    assert _next_fit([0, 8, 16], 8) == [(0, 8), (8, 16)]
    assert _next_fit([0, 16], 8) == [(0, 8), (8, 16)]
