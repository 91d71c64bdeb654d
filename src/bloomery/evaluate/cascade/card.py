"""What a cascade is made of. One shape for two files: YAML by hand, and `cascade.json` in a folder that a stage wrote.

    {"cascade": 1, "name": "forge", "routing": "idf",
     "members": [{"name": "smith", "model": "members/smith", "digest": "9f...", "confidence": 0.3,
                  "packets": ["packets/smith.txt"]}],
     "last": {"ngram": "members/last", "digest": "77..."}}

Paths are relative to the file. A `digest` is the sha256 of the member's folder (engine.artifact.digest_of) and is
checked where it is given. Refuses unknown keys, names twice, bounds that one vote reaches, and `idf` without packets.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

VERSION = 1
CARD = "cascade.json"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Member(Strict):
    """One who may answer."""

    name: Name
    """What routes, logs and metrics call it."""
    model: str = Field(min_length=1)
    """A folder with a model or an n-gram table; in YAML also a run, or RUN/STAGE."""
    confidence: float = Field(default=0.0, ge=0, le=1)
    """An answer below it falls through (confidence.py)."""
    timeout_seconds: Seconds = 30.0
    """Until the answer can be judged; in a stream that has begun, between two tokens."""
    packets: tuple[str, ...] = ()
    """Text files about what it knows; a packet is a paragraph of them. Members without any keep their place."""
    digest: Digest | None = None


class Last(Strict):
    """An n-gram table, asked when nobody else has answered. Its answer is always taken."""

    ngram: Annotated[int, Field(ge=1, le=5)] | Annotated[str, Field(min_length=1)]
    """An order: the baseline of that order in the first member's run. Or a run, or a folder with a table."""
    name: Name = "ngram"
    timeout_seconds: Seconds = 30.0
    digest: Digest | None = None


class Facts(Strict):
    """How a prompt that asks for a fact is told from others: text files of prompts, a paragraph each."""

    asked: str = Field(min_length=1)
    """Prompts that ask for facts."""
    others: str = Field(min_length=1)
    """Prompts that do not."""


class Learning(Strict):
    """How far votes move routing weights (feedback.py)."""

    step: float = Field(default=0.1, gt=0)
    """What a vote of 1 adds to each connection between the words of its prompt and the member that answered."""
    low: float = Field(default=-1.0, lt=0)
    high: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _small(self) -> Learning:
        if self.step > min(-self.low, self.high):
            raise ValueError(f"a step of {self.step:g} passes a bound at once; at most {min(-self.low, self.high):g}")
        return self


class Card(Strict):
    cascade: Literal[1]
    """The version of this shape."""
    name: Name
    """What clients ask for."""
    members: tuple[Member, ...] = Field(min_length=1)
    """In the order in which they are asked."""
    last: Last | None = None
    routing: Literal["ordered", "idf", "learned"] = "ordered"
    most: int | None = Field(default=None, ge=1)
    """Members asked before `last`, at most."""
    hold: int = Field(default=8, ge=1)
    """Tokens by which the answer of a stream is judged: they are held back, what follows is not."""
    learning: Learning = Learning()
    facts: Facts | None = None
    """Prompts like these go to the most relevant member with packets before anybody else, whatever the routing."""

    @model_validator(mode="after")
    def _sound(self) -> Card:
        names = self.names
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two members are called '{repeated}'; each needs a name of its own")
        if self.routing == "idf" and not any(member.packets for member in self.members):
            raise ValueError("routing: idf, and no member has packets; packets: [FILE], or routing: ordered")
        if self.facts is not None and not any(member.packets for member in self.members):
            raise ValueError("facts, and no member has packets to answer them; packets: [FILE]")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of all who may answer, the last at the end."""
        return (*(member.name for member in self.members), *((self.last.name,) if self.last else ()))

    def timeout(self, name: str) -> float:
        """Seconds."""
        found = next((each for each in self.members if each.name == name), self.last)
        assert found is not None
        return found.timeout_seconds

    def threshold(self, name: str) -> float:
        """The confidence below which its answer falls through; 0 for the last."""
        return next((each.confidence for each in self.members if each.name == name), 0.0)
