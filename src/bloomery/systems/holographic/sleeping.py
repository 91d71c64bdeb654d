"""The sleeping half of a theory's memory: episodes that wait, prototypes that they become, schemas of prototypes.

Awake, each token read is an episode with the same chance (a reservoir), by a number that its position alone decides.
Asleep, in the order of the phases asked for:

    before      forget episodes above `consolidation.room`; rehearse prototypes; drop what prototypes already predict
    non_rem     those that the theory consolidates (stability, or a frequent target) become prototypes; the rest wait
    rem         recombine prototypes, count the forms that come back (dreaming.py)
    replay      episodes in chained transitions count for more in this sleep's non-REM; those left waiting are counted
    prune       of prototypes above their share of the budget, those of least support; without it they go at the end
    merge       at most five pairs of like prototypes

Prototypes predict what followed the episodes in them, through `prior.distributed`. The seed's twelve mechanisms are
switches (config.Mechanisms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.systems.holographic import budget as shares
from bloomery.systems.holographic import dreaming, mechanisms
from bloomery.systems.holographic.algebra import GOLDEN
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.consolidation import Episodes, consolidated, room, staying, threshold
from bloomery.systems.holographic.contexts import CONSOLIDATE_BELOW, salience, stability, witness
from bloomery.systems.holographic.prior import blended, weighed
from bloomery.systems.holographic.recall import Votes, uniform

Array = NDArray[Any]
ROWS_AT_ONCE = 256


@dataclass(slots=True)
class Waiting:
    """Episodes; rows of every array belong together."""

    states: Float[Tensor, "b n"]
    signatures: Float[Tensor, "b n"]
    targets: Int[np.ndarray, " b"]
    positions: Int[np.ndarray, " b"]

    def __len__(self) -> int:
        return len(self.states)

    def of(self, which: Int[np.ndarray, " c"]) -> Waiting:
        at = torch.from_numpy(which)
        return Waiting(self.states[at], self.signatures[at], self.targets[which], self.positions[which])

    def with_more(self, more: Waiting) -> Waiting:
        return Waiting(
            torch.cat((self.states, more.states)),
            torch.cat((self.signatures, more.signatures)),
            np.concatenate((self.targets, more.targets)),
            np.concatenate((self.positions, more.positions)),
        )

    @staticmethod
    def none(numbers: int) -> Waiting:
        nothing = torch.zeros((0, numbers), dtype=torch.float64)
        return Waiting(nothing, nothing, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(slots=True)
class Attractors:
    """Prototypes, what follows each (tokens and shares, one prototype after the other), and forms that came back."""

    states: Float[Tensor, "p n"]
    signatures: Float[Tensor, "p n"]
    support: Float[np.ndarray, " p"]
    radius: Float[np.ndarray, " p"]
    followers: list[tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.states)

    @property
    def bytes(self) -> int:
        """As stored: two multivectors, support and radius of 8 bytes a number; followers of 12 bytes each."""
        return 8 * len(self) * (2 * self.states.shape[1] + 2) + 12 * sum(len(tokens) for tokens, _ in self.followers)

    def keep(self, which: Int[np.ndarray, " q"]) -> None:
        at = torch.from_numpy(which)
        self.states, self.signatures = self.states[at], self.signatures[at]
        self.support, self.radius = self.support[which], self.radius[which]
        self.followers = [self.followers[one] for one in which.tolist()]

    def entropies(self) -> Float[np.ndarray, " p"]:
        """Nats."""
        return np.array([-(shares * np.log(shares)).sum() for _, shares in self.followers])


class Sleeper:
    def __init__(self, settings: Theory, vocab: int, numbers: int, seed: int) -> None:
        """numbers: of a multivector, 8 or 16."""
        self.settings, self.vocab, self.numbers, self.seed = settings, vocab, numbers, seed
        self.waiting, self.seen = Waiting.none(numbers), 0
        nothing = torch.zeros((0, numbers), dtype=torch.float64)
        self.attractors = Attractors(nothing, nothing, np.zeros(0), np.zeros(0))
        self.forms: Counter[dreaming.Form] = Counter()
        self.slept = self.replayed = self.offered = self.taken = 0
        self.basins = self.coded = self.survived = 0.0

    # Awake

    def observe(self, fresh: Waiting) -> None:
        """Episodes of new positions, in order."""
        room_for = self.settings.buffer
        if self.settings.sampling == "newest":
            both = self.waiting.with_more(fresh)
            self.waiting = both.of(np.arange(max(0, len(both) - room_for), len(both)))
            return
        free = min(len(fresh), room_for - len(self.waiting))
        order = np.arange(len(fresh))
        self.waiting = self.waiting.with_more(fresh.of(order[:free]))
        numbers = self.seen + order[free:]
        places = np.floor(uniform(fresh.positions[free:], self.seed) * (numbers + 1)).astype(np.int64)
        taken = np.flatnonzero(places < room_for)
        # Of several that are drawn to one place the last has it.
        at, last = np.unique(places[taken][::-1], return_index=True)
        new = order[free:][taken][len(taken) - 1 - last]
        where, which = torch.from_numpy(at), torch.from_numpy(new)
        self.waiting.states[where], self.waiting.signatures[where] = fresh.states[which], fresh.signatures[which]
        self.waiting.targets[at], self.waiting.positions[at] = fresh.targets[new], fresh.positions[new]
        self.seen += len(fresh)

    def votes(self, states: Float[Tensor, "t n"], first: int) -> Votes:
        """What the nearest prototypes say after each state from `first` on; those before are what was retrieved."""
        if not len(self.attractors):
            return Votes.none()
        weighed, at = self._weights(states)
        weights, which = weighed[first:], at[first:]
        lengths = np.array([len(tokens) for tokens, _ in self.attractors.followers])
        starts = np.cumsum(lengths) - lengths
        tokens = np.concatenate([each for each, _ in self.attractors.followers])
        shares = np.concatenate([each for _, each in self.attractors.followers])
        flat = which.flatten()
        rows = np.repeat(np.repeat(np.arange(len(which)), which.shape[1]), lengths[flat])
        places = np.arange(len(rows)) - np.repeat(
            np.cumsum(lengths[flat]) - lengths[flat] - starts[flat], lengths[flat]
        )
        return Votes.of(rows, tokens[places], shares[places] * np.repeat(weights.flatten(), lengths[flat]), len(which))

    def _weights(self, states: Float[Tensor, "t n"]) -> tuple[Float[np.ndarray, "t k"], Int[np.ndarray, "t k"]]:
        """Of the nearest prototypes of each state."""
        own = self.attractors
        if self.settings.mechanisms.completion:
            states = torch.cat([mechanisms.completed(part, own.states) for part in states.split(ROWS_AT_ONCE)])
        support, how = torch.from_numpy(own.support), self.settings.prior
        if how != "nearest":
            parts = states.split(ROWS_AT_ONCE)
            states = torch.cat([blended(each, own.states, support, decay=how == "decayed") for each in parts])
        found = [weighed(part, own.states, support) for part in states.split(ROWS_AT_ONCE)]
        weights, which = torch.cat([one.weights for one in found]), torch.cat([one.which for one in found])
        if self.settings.mechanisms.inhibition:
            weights = weights * mechanisms.inhibited(self.basin(states), which)
        return weights.numpy(), which.numpy()

    def basin(self, states: Float[Tensor, "t n"]) -> Int[Tensor, " t"]:
        """The prototype that each falls to: of the nearest witness."""
        return self._fallen(states, self.attractors.states)

    @staticmethod
    def _fallen(states: Float[Tensor, "t n"], to: Float[Tensor, "p n"]) -> Int[Tensor, " t"]:
        theirs, exact = witness(to), "donot_use_mm_for_euclid_dist"
        parts = witness(states).split(ROWS_AT_ONCE)
        return torch.cat([torch.cdist(each, theirs, compute_mode=exact).argmin(-1) for each in parts])

    def retrieved(self, states: Float[Tensor, "b n"], right: NDArray[np.bool_]) -> None:
        """What retrieval does to prototypes."""
        if self.settings.mechanisms.reconsolidation and len(self.attractors):
            own, at = self.attractors, self.basin(states)
            own.states = mechanisms.reconsolidated(own.states, states, at, torch.from_numpy(right))

    # Asleep

    def sleep(self, phases: Sequence[str], random: np.random.Generator, budget: int) -> Mapping[str, float]:
        """budget: bytes of the whole memory. random: seeds one for each mechanism, by its name (mechanisms.own).
        Returns what it did, metrics under memory/."""
        before, episodes = len(self.attractors), len(self.waiting)
        for phase in phases:
            match phase:
                case "non_rem":
                    self._non_rem(random, replay="replay" in phases and self.settings.mechanisms.replay)
                case "rem":
                    drawn, kept = dreaming.dream(
                        self.attractors.states, self.settings.rem_cycles, mechanisms.own(random, phase), self.forms,
                        at_random=self.settings.recombine == "random_matrices"
                        or self.settings.tokens_as == "random_matrices",
                    )  # fmt: skip
                    self.survived = kept / drawn if drawn else self.survived
                case "replay":
                    if self.settings.mechanisms.replay:
                        self.replayed = int(self._chains().sum())
                case "prune":
                    self._prune(budget)
                case "merge":
                    self._merge()
                case _:
                    raise AssertionError(phase)
        self._prune(budget)
        self.forms = dreaming.commonest(self.forms, int(shares.FORMS * budget) // self._form_bytes)
        self.slept, self.seen = self.slept + 1, len(self.waiting)
        return {"memory/slept_episodes": float(episodes), "memory/made": float(len(self.attractors) - before)}

    @property
    def bytes(self) -> int:
        """Of prototypes, forms, and the episodes that wait."""
        return self.attractors.bytes + self._form_bytes * len(self.forms) + self.day_bytes

    @property
    def day_bytes(self) -> int:
        return shares.episode_bytes(self.numbers) * len(self.waiting)

    @property
    def longest_day_bytes(self) -> int:
        return shares.episode_bytes(self.numbers) * self.settings.buffer

    def most_bytes(self, budget: int) -> int:
        """What it may come to: a whole day, and prototypes and forms of their whole share."""
        return self.longest_day_bytes + int(shares.PROTOTYPES * budget) + int(shares.FORMS * budget)

    @property
    def _form_bytes(self) -> int:
        return shares.REAL * (self.numbers + 1)

    def _chains(self) -> Tensor:
        order = np.argsort(self.waiting.positions, kind="stable")
        found = torch.zeros(len(order), dtype=torch.bool)
        found[torch.from_numpy(order)] = mechanisms.chained(self.waiting.of(order).states)
        return found

    def _priorities(self, episodes: Waiting) -> Float[Tensor, " b"]:
        """salience / golden + novelty / golden^2 + error / golden^3, of those that are switched on."""
        on, own = self.settings.mechanisms, self.attractors.states
        found = torch.zeros(len(episodes), dtype=torch.float64)
        if on.salience:
            found = found + salience(episodes.states) / GOLDEN
        if on.novelty:
            unlike = 1 - mechanisms.nearest(episodes.states, own)[0] if len(own) else torch.ones_like(found)
            found = found + unlike / GOLDEN**2
        if on.predictive_coding:
            found = found + (1 - stability(episodes.states)) / GOLDEN**3
        return found

    def _non_rem(self, random: np.random.Generator, *, replay: bool) -> None:
        """replay: episodes in chains of like transitions count for more."""
        on, waiting = self.settings.mechanisms, self.waiting
        priorities = self._priorities(waiting)
        if replay:
            priorities = priorities + GOLDEN**-2 * self._chains().to(priorities.dtype)
        stays = np.ones(len(waiting), dtype=np.bool_)
        if on.forgetting:
            drawn = mechanisms.own(random, "forgetting").random(len(waiting))
            stays &= drawn < staying(priorities, room(len(self.attractors), self.settings.room)).numpy()
        if on.predictive_coding:
            stays &= mechanisms.surprising(waiting.states, self.attractors.states).numpy()
        waiting, priorities = waiting.of(np.flatnonzero(stays)), priorities[torch.from_numpy(stays)]
        if on.delta_coding:
            coded, self.coded = mechanisms.coded(waiting.states, self.attractors.states)
            waiting = Waiting(coded, waiting.signatures, waiting.targets, waiting.positions)
        ready = self._ready(waiting)
        self.offered, self.taken = self.offered + len(waiting), self.taken + int(ready.sum())
        if on.rehearsal:
            rehearsed = self._rehearsed(len(waiting), mechanisms.own(random, "rehearsal"))
            waiting, ready = waiting.with_more(rehearsed), np.r_[ready, np.ones(len(rehearsed), dtype=np.bool_)]
            priorities = torch.cat((priorities, self._priorities(rehearsed)))
        asleep = np.flatnonzero(ready)
        self._consolidate(waiting.of(asleep), priorities[torch.from_numpy(asleep)])
        self.waiting = waiting.of(np.flatnonzero(~ready))

    def _ready(self, waiting: Waiting) -> NDArray[np.bool_]:
        values = stability(waiting.states)
        below = CONSOLIDATE_BELOW
        if self.settings.consolidate_at == "adaptive" and len(waiting):
            below = float(values.median())
        times = np.bincount(waiting.targets, minlength=self.vocab)[waiting.targets]
        return (values <= below).numpy() | (times >= 3)

    def _rehearsed(self, episodes: int, random: np.random.Generator) -> Waiting:
        """As many as prototypes, and at most a tenth of the episodes."""
        own, count = self.attractors, min(len(self.attractors), episodes // 10)
        if not count:
            return Waiting.none(self.numbers)
        which = np.sort(random.choice(len(own), count, replace=False))
        noise = torch.from_numpy(random.standard_normal((count, self.numbers)))
        targets = [random.choice(own.followers[one][0], p=own.followers[one][1]) for one in which]
        states, signatures = own.states[torch.from_numpy(which)], own.signatures[torch.from_numpy(which)]
        spread = GOLDEN**-3 * torch.linalg.vector_norm(states, dim=-1, keepdim=True) / self.numbers**0.5
        return Waiting(states + spread * noise, signatures, np.array(targets), np.full(count, -1))

    def _consolidate(self, asleep: Waiting, priorities: Float[Tensor, " b"]) -> None:
        if not len(asleep):
            return
        tokens, targets = np.unique(asleep.targets, return_inverse=True)
        episodes = Episodes(asleep.states, asleep.signatures, torch.from_numpy(targets), priorities.clamp_min(0))
        least = threshold(len(self.attractors), dreaming.schemas(self.forms))
        found, own = consolidated(episodes, least, len(tokens)), self.attractors
        shares = found.prototypes.targets.numpy()
        own.states = torch.cat((own.states, found.prototypes.states))
        own.signatures = torch.cat((own.signatures, found.signatures))
        own.support = np.concatenate((own.support, found.prototypes.support.numpy()))
        own.radius = np.concatenate((own.radius, found.radius.numpy()))
        own.followers += [(tokens[row > 0], row[row > 0]) for row in shares]
        if len(new := found.prototypes.states):
            alike, mine = mechanisms.nearest(asleep.states, new)
            inside = alike >= least
            if bool(inside.any()):
                self.basins = float((self._fallen(asleep.states, new) == mine)[inside].double().mean())

    def _prune(self, budget: int) -> None:
        own = self.attractors
        most = int(shares.PROTOTYPES * budget)
        if own.bytes <= most:
            return
        sizes = 8 * (2 * self.numbers + 2) + 12 * np.array([len(tokens) for tokens, _ in own.followers])
        order = np.argsort(-own.support, kind="stable")
        own.keep(np.sort(order[np.cumsum(sizes[order]) <= most]))

    def _merge(self) -> None:
        own = self.attractors
        if not self.settings.mechanisms.merging:
            return
        gone: list[int] = []
        for kept, lost, state in mechanisms.merged(own.states, own.support.tolist()):
            own.states[kept] = state
            weights = own.support[kept], own.support[lost]
            own.followers[kept] = _joined(own.followers[kept], own.followers[lost], *weights)
            own.signatures[kept] = (weights[0] * own.signatures[kept] + weights[1] * own.signatures[lost]) / sum(
                weights
            )
            own.support[kept], own.radius[kept] = sum(weights), max(own.radius[kept], own.radius[lost])
            gone.append(lost)
        own.keep(np.setdiff1d(np.arange(len(own)), gone))


def _joined(one: tuple[Array, Array], two: tuple[Array, Array], first: float, second: float) -> tuple[Array, Array]:
    tokens, place = np.unique(np.concatenate((one[0], two[0])), return_inverse=True)
    shares = np.bincount(place, np.concatenate((first * one[1], second * two[1]))) / (first + second)
    return tokens, shares
