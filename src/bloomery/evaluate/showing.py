"""Text as its tokens come: never half a character, never part of a stop string.

A token may hold part of a character only, so what ends in U+FFFD waits for the next token. Decoding starts at the last
token but one that was shown whole, not at the first, so a long text costs no more per token than a short one; and since
a tokenizer may treat the first token of a text in a way of its own, what is new is the difference of two decodings.
What may yet become a stop string waits as well: the longest end of the text that begins one. At the end of the text all
that waited is shown, for then it was none.

Pieces in their order are the text: decode(tokens), up to the first stop string.
"""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.data.tokenizer import Tokenizer

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Showing:
    """The text of one answer."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._tokens: list[int] = []
        self._before, self._read = 0, 0
        self._waiting = ""
        self._shown = 0
        self.stopped = False
        """Whether a stop string has ended the text."""

    @property
    def length(self) -> int:
        """Characters so far, those that wait included; half a character is none yet."""
        return self._shown + len(self._waiting)

    def add(self, token: int) -> str:
        """What can be shown now."""
        self._tokens.append(token)
        fresh = self._decoded()
        if fresh.endswith(BROKEN):
            return ""
        self._before, self._read = self._read, len(self._tokens)
        return self._show(fresh)

    def end(self) -> str:
        """What waited, when no further token comes."""
        if self.stopped:
            return ""
        fresh = self._decoded()
        self._before = self._read = len(self._tokens)
        shown = self._show(fresh)
        rest, self._waiting = self._waiting, ""
        self._shown += len(rest)
        return shown + rest

    def _decoded(self) -> str:
        """The text of the tokens that were not yet read."""
        known = self._tokenizer.decode(self._tokens[self._before : self._read])
        return self._tokenizer.decode(self._tokens[self._before :])[len(known) :]

    def _show(self, fresh: str) -> str:
        text = self._waiting + fresh
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped, self._waiting = True, ""
            text = text[: min(found)]
        else:
            kept = max((_begun(text, stop) for stop in self._stop), default=0)
            text, self._waiting = text[: len(text) - kept], text[len(text) - kept :]
        self._shown += len(text)
        return text


def _begun(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
