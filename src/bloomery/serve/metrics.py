"""Counters of a server in the Prometheus text format, version 0.0.4.

Labels have few values: a known path, a status. Nothing of a request's content is kept. Touched by the event loop only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_TOKEN_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper ends of the histogram's buckets."""


@dataclass(slots=True)
class Metrics:
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By path and status; a stream counts when it begins to answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _first_tokens: Counter[float] = field(default_factory=Counter)
    _first_token_seconds: float = 0.0
    _began: float = field(default_factory=time.time)

    def first_token(self, seconds: float) -> None:
        """Of a request, after so long."""
        bucket = next((end for end in FIRST_TOKEN_SECONDS if seconds <= end), float("inf"))
        self._first_tokens[bucket] += 1
        self._first_token_seconds += seconds

    def text(self, *, waiting: int, running: int, cancelled: int, outcomes: Mapping[tuple[str, str, str], int]) -> str:
        """outcomes: (cascade, member, what came of asking it)."""
        lines: list[str] = []

        def tell(name: str, kind: str, meaning: str, values: dict[str, float]) -> None:
            lines.extend([f"# HELP bloomery_{name} {meaning}", f"# TYPE bloomery_{name} {kind}"])
            lines.extend(f"bloomery_{name}{labels} {_number(value)}" for labels, value in values.items())

        requests = {
            f'{{path="{path}",status="{status}"}}': float(count)
            for (path, status), count in sorted(self.requests.items())
        }
        tell("requests_total", "counter", "HTTP requests.", requests)
        tell("prompt_tokens_total", "counter", "Tokens read.", {"": self.prompt_tokens})
        tell("completion_tokens_total", "counter", "Tokens written.", {"": self.completion_tokens})
        tell("cancelled_total", "counter", "Texts left before their end.", {"": cancelled})
        if outcomes:
            asked = {
                f'{{cascade="{cascade}",member="{member}",outcome="{outcome}"}}': float(count)
                for (cascade, member, outcome), count in sorted(outcomes.items())
            }
            tell("cascade_total", "counter", "Members of cascades that were asked, by what came of it.", asked)
        tell("waiting", "gauge", "Texts in the queue.", {"": waiting})
        tell("running", "gauge", "Texts being written.", {"": running})
        tell("start_time_seconds", "gauge", "When the server began, in Unix time.", {"": self._began})
        tell("first_token_seconds", "histogram", "From a request to its first token.", self._histogram())
        return "\n".join(lines) + "\n"

    def _histogram(self) -> dict[str, float]:
        found: dict[str, float] = {}
        total = 0
        for end in (*FIRST_TOKEN_SECONDS, float("inf")):
            total += self._first_tokens[end]
            found[f'_bucket{{le="{"+Inf" if end == float("inf") else f"{end:g}"}"}}'] = total
        return found | {"_sum": self._first_token_seconds, "_count": total}


def _number(value: float) -> str:
    """Whole numbers to the last digit: a counter that is rounded seems to stand still."""
    return str(int(value)) if value == int(value) else repr(value)
