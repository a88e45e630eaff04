"""Attackers who know a person, and what they make of what a network publishes before and after.

The attacker knows the features of everybody, the share of deaths, which atom the target is in (he is told), and all
that was ever published. He does not know the outcomes. In each sequence the target's outcome is drawn by lot.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from regional.packets.packet import Packet
from regional.releasing.release import Held, Mark, Person
from tests.regional.persons import SCHEMA, Ward, rules

Float64s = npt.NDArray[np.float64]

LEAST = 11
RISK = 0.4
TARGET = 0
STEP = rules().step


class Seen(NamedTuple):
    """One atom as published, and who is in it, which only the referee sees."""

    place: Float64s
    size: int
    deaths: int | None
    members: frozenset[Mark]

    @classmethod
    def of(cls, held: Held) -> Seen:
        told = held.atom.figures.get("died")
        return cls(
            held.atom.place * STEP,
            held.atom.size,
            None if told is None else told.events,
            frozenset(member.who for member in held.members),
        )


class Publisher(Protocol):
    """Publishes epochs of a ward."""

    def epoch(self, ward: Ward) -> list[Seen]:
        """What is published now."""


class Careful:
    """As this project does it."""

    def epoch(self, ward: Ward) -> list[Seen]:
        ward.publish()
        return [Seen.of(each) for each in ward.state.held.values()]


class Naive:
    """Disjoint groups of LEAST at least; yet whoever leaves is taken out of his group, and the group shown again."""

    def __init__(self) -> None:
        self._first: list[frozenset[Mark]] = []

    def epoch(self, ward: Ward) -> list[Seen]:
        persons = {person.who: person for person in ward.persons()}
        if not self._first:
            ward.publish()
            self._first = [frozenset(m.who for m in each.members) for each in ward.state.held.values()]
        shown = []
        for group in self._first:
            members = [persons[who] for who in group if who in persons]
            deaths = int(sum(person.packet.outcomes["died"] or 0.0 for person in members))  # type: ignore[arg-type]
            place = np.mean([person.packet.fingerprint for person in members], axis=0)
            shown.append(Seen(place, len(members), deaths, frozenset(person.who for person in members)))
        return shown


class Sequence(NamedTuple):
    """What one sequence told. died: the target's outcome. size, deaths: of the atom that he was, or came to be, in.

    beyond: what other epochs tell beside; the deaths of his atom less those of the new or changed one nearest to it.
    Were that the rest of his atom, it would be his own outcome.
    """

    died: bool
    size: int
    deaths: int
    beyond: float

    @classmethod
    def of(cls, died: bool, own: Seen, deaths: int, others: list[Seen]) -> Sequence:
        told = [each for each in _nearest(own, others) if each.deaths is not None]
        rest = (told[0].deaths or 0) - RISK * told[0].size if told else 0.0
        return cls(died, own.size, deaths, deaths - RISK * own.size - rest if told else 0.0)


def withdrawal(seed: int, publisher: Publisher) -> Sequence | None:
    """The target is published, then leaves; then others come."""
    rng = np.random.default_rng(seed)
    ward, died = _ward(rng, 33)
    me = Person.of(ward.packets[TARGET], ward.rules.secret).who
    first = publisher.epoch(ward)
    own = next((each for each in first if me in each.members), None)
    del ward.packets[TARGET]
    _arrive(ward, rng, 100, 2)
    second = publisher.epoch(ward)
    _arrive(ward, rng, 200, 24)
    third = publisher.epoch(ward)
    if own is None or own.deaths is None:
        return None
    return Sequence.of(died, own, own.deaths, [*_new(second, first), *_new(third, second)])


def arrival(seed: int, publisher: Publisher) -> Sequence | None:
    """The target comes with others, after an epoch without; then more come."""
    rng = np.random.default_rng(seed)
    ward, died = _ward(rng, 33)
    target = ward.packets.pop(TARGET)
    first = publisher.epoch(ward)
    ward.packets[TARGET] = target
    _arrive(ward, rng, 100, 22)
    second = publisher.epoch(ward)
    _arrive(ward, rng, 200, 24)
    third = publisher.epoch(ward)
    me = Person.of(target, ward.rules.secret).who
    own = next((each for each in [*second, *third] if me in each.members), None)
    if own is None or own.deaths is None:
        return None
    others = [each for each in [*first, *_new(second, first), *_new(third, second)] if each is not own]
    return Sequence.of(died, own, own.deaths, others)


def who_left(seed: int, publisher: Publisher) -> tuple[bool, float] | None:
    """An atom is withdrawn, and it is known that the target or one other of its members has left: (it was the target,
    how much nearer to the target is what the atom was more than the nearest that is new).

    Where the rest is shown again, that is the features of who has left.
    """
    rng = np.random.default_rng(seed)
    ward, _ = _ward(rng, 33)
    persons = dict(zip((person.who for person in ward.persons()), ward.packets, strict=True))
    first = publisher.epoch(ward)
    own = [each for each in first if any(persons[who] == TARGET for who in each.members)]
    if not own:
        return None
    other = int(rng.choice(sorted(persons[who] for who in own[0].members if persons[who] != TARGET)))
    left = bool(rng.random() < 0.5)
    to_target, to_other = (ward.packets[number].fingerprint.astype(np.float64) for number in (TARGET, other))
    del ward.packets[TARGET if left else other]
    _arrive(ward, rng, 100, 2)
    second = publisher.epoch(ward)
    _arrive(ward, rng, 200, 24)
    shown = _nearest(own[0], _new([*second, *publisher.epoch(ward)], first))
    if not shown:
        return left, 0.0
    more = own[0].place * own[0].size - shown[0].place * shown[0].size
    return left, float(np.linalg.norm(more - to_other) - np.linalg.norm(more - to_target))


def counted(seed: int, epochs: int) -> tuple[bool, float]:
    """Whether the target came with others after the first epoch, and how many more are published than it would be
    without him, were nobody kept back: (that, the persons published in all epochs since, added up).

    The attacker knows how many all others are, and when they came.
    """
    rng = np.random.default_rng(seed)
    ward, _ = _ward(rng, 33)
    target = ward.packets.pop(TARGET)
    ward.publish()
    there = bool(rng.random() < 0.5)
    if there:
        ward.packets[TARGET] = target
    total = 0.0
    for epoch in range(1, epochs + 1):
        _arrive(ward, rng, 100 * epoch, 22)
        ward.publish()
        total += sum(each.atom.size for each in ward.state.held.values())
    return there, total


def alone(of: Sequence) -> float:
    """What the target's own atom tells, by itself."""
    return of.deaths / of.size


def auc(score: Float64s, truth: npt.NDArray[np.bool_]) -> float:
    """How often a true one has the higher score than a false one; equals count half."""
    order = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(order[2]) - (order[2] - 1) / 2
    true = rank[order[1]][truth]
    n, m = len(true), len(score) - len(true)
    return float((true.sum() - n * (n + 1) / 2) / (n * m))


def conditional_auc(sequences: list[Sequence]) -> float:
    """Of `beyond`, among sequences in which the target's own atom says the same: its size and its deaths."""
    strata: dict[tuple[int, int], list[Sequence]] = {}
    for each in sequences:
        strata.setdefault((each.size, each.deaths), []).append(each)
    total, pairs = 0.0, 0
    for group in strata.values():
        truth = np.array([each.died for each in group])
        amount = int(truth.sum() * (~truth).sum())
        if amount:
            total += auc(np.array([each.beyond for each in group]), truth) * amount
            pairs += amount
    return total / pairs


def _ward(rng: np.random.Generator, n: int) -> tuple[Ward, bool]:
    """n persons, the target among them, and whether the target died."""
    ward = Ward(rules(LEAST, rng.bytes(32)))
    _arrive(ward, rng, TARGET, n)
    return ward, ward.packets[TARGET].outcomes["died"] == 1.0


def _arrive(ward: Ward, rng: np.random.Generator, first: int, n: int) -> None:
    """n persons; only what the attacker is after is known of them, the other outcomes never."""
    points, dead = rng.normal(size=(n, 2)).astype(np.float32), rng.random(n) < RISK
    for number, point, died in zip(range(first, first + n), points, dead.tolist(), strict=True):
        ward.packets[number] = Packet(
            "ward", SCHEMA.space[:8], "one", number.to_bytes(4, "big"), 1, 1.0, 2.0, point, "a", {"died": float(died)}
        )


def _new(shown: list[Seen], before: list[Seen]) -> list[Seen]:
    old = {(each.members, each.deaths) for each in before}
    return [each for each in shown if (each.members, each.deaths) not in old]


def _nearest(own: Seen, others: list[Seen]) -> list[Seen]:
    return sorted(others, key=lambda each: float(np.abs(each.place - own.place).sum()))
