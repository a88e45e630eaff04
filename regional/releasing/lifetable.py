"""Survival of persons, told of many at a time: how many had the event, or were seen last, in each of a few intervals.

An outcome that is a duration is in no atom: with the times of eleven persons, each is told. Their *parents*, groups of
neighbouring atoms of one action with PARENT persons or more, tell counts over the schema's `intervals`, at most six.

What holds of persons and atoms (regional/releasing/release.py) holds of atoms and parents: an atom is in one parent,
once, and a parent goes when one of its atoms goes. Were parents cut anew from the atoms that there are, two epochs
would differ by single atoms, and tell the times of eleven. New atoms wait until they are PARENT persons.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cbor2
import numpy as np
import numpy.typing as npt

from regional.packets.packet import Packet
from regional.releasing.atom import Atom
from registry.errors import DocumentError
from registry.likeness.schema import MAX_INTERVALS, Outcome, Schema

PARENT: Final = 50  # persons, at least
MAX_PARENTS: Final = 100_000

Places = npt.NDArray[np.int64]


class Lives(NamedTuple):
    """n nodes of whom one thing is known: duration, in the outcome's unit, and whether it ended in the event then."""

    n: int
    duration: float
    event: bool


@dataclass(frozen=True, slots=True, eq=False)
class Parent:
    """size persons of one action. place: (d,) their centre in steps of the public grid.

    counts: by outcome, per interval who had the event in it and who was seen last in it; who was followed beyond the
    last interval stands in one more pair, (0, n).
    """

    action: str
    size: int
    place: Places
    counts: Mapping[str, tuple[tuple[int, int], ...]]

    def lives(self, outcome: Outcome) -> list[Lives]:
        """As if everything happened at the end of its interval; [] where nothing is told."""
        told = []
        for place, (events, last) in enumerate(self.counts.get(outcome.name, ())):
            end = outcome.intervals[min(place, len(outcome.intervals) - 1)]
            told += [Lives(n, end, event) for n, event in ((events, True), (last, False)) if n]
        return told


class _Part(NamedTuple):
    """Of one atom. parent: the least number among the atoms that are told together, 0 for none yet.

    atoms: how many these are. known: by outcome, (interval, whether it ended in the event) of each member.
    """

    parent: int
    atoms: int
    known: Mapping[str, Sequence[Sequence[int]]]

    def octets(self) -> bytes:
        return cbor2.dumps(list(self))


class LifeTables:
    """The attachment (regional/releasing/attachment.py) that tells the durations of a schema which have `intervals`."""

    name = "survival"

    def __init__(self, schema: Schema) -> None:
        self._outcomes = [each for each in schema.outcomes.values() if each.intervals and each.entry is None]

    def part(self, atom: Atom, members: Sequence[Packet]) -> bytes:  # noqa: ARG002
        """No parent yet; per outcome the interval of each member of whom it is known, and whether it was the event."""
        if not self._outcomes:
            return b""
        known = {
            outcome.name: [
                [bisect_left(outcome.intervals, value[0]), value[1]]
                for packet in members
                if isinstance(value := packet.outcomes.get(outcome.name), tuple)
            ]
            for outcome in self._outcomes
        }
        return _Part(0, 0, known).octets()

    def bound(self, atoms: Sequence[tuple[Atom, bytes]]) -> dict[int, bytes]:
        """New parents, of atoms that have none."""
        loose: dict[str, list[tuple[Atom, _Part]]] = {}
        for atom, part in _read(atoms):
            if not part.parent:
                loose.setdefault(atom.action, []).append((atom, part))
        found = {}
        for action in sorted(loose):
            for group in _groups(loose[action]):
                parent = min(atom.number for atom, _ in group)
                found.update({atom.number: _Part(parent, len(group), part.known).octets() for atom, part in group})
        return found

    def table(self, atoms: Sequence[tuple[Atom, bytes]]) -> bytes | None:
        """The parents that are whole; None where there are none to tell of."""
        groups: dict[tuple[str, int], list[tuple[Atom, _Part]]] = {}
        for atom, part in _read(atoms):
            if part.parent:
                groups.setdefault((atom.action, part.parent), []).append((atom, part))
        parents = [
            self._parent(action, group)
            for (action, _), group in sorted(groups.items(), key=lambda each: each[0])
            if len(group) == group[0][1].atoms
        ]
        told = [parent for parent in parents if parent.counts]
        if not told:
            return None
        return cbor2.dumps(
            [
                [each.action, each.size, each.place.tolist(), {name: list(c) for name, c in each.counts.items()}]
                for each in told
            ],
            canonical=True,
        )

    def _parent(self, action: str, group: Sequence[tuple[Atom, _Part]]) -> Parent:
        sizes = np.array([atom.size for atom, _ in group])
        places = np.array([atom.place for atom, _ in group], dtype=np.float64)
        centre = np.rint((sizes[:, None] * places).sum(axis=0) / sizes.sum()).astype(np.int64)
        counts = {}
        for outcome in self._outcomes:
            cells = [[0, 0] for _ in range(len(outcome.intervals) + 1)]
            for place, event in (pair for _, part in group for pair in part.known[outcome.name]):
                beyond = place == len(outcome.intervals)
                cells[place][0 if event and not beyond else 1] += 1
            total = sum(map(sum, cells))
            # Where all are in one cell, each of them is told.
            if total >= PARENT and max(max(cell) for cell in cells) < total:
                counts[outcome.name] = tuple((events, last) for events, last in cells)
        return Parent(action, int(sizes.sum()), centre, counts)


def read_parents(data: bytes, schema: Schema) -> list[Parent]:
    """The inverse of `table`. Raises DocumentError for what no network can have published."""
    try:
        rows = cbor2.loads(data, max_depth=6, allow_indefinite=False, allow_duplicate_keys=False)
        parents = [
            Parent(
                action,
                size,
                np.array(place, dtype=np.int64),
                {name: tuple((events, last) for events, last in cells) for name, cells in counts.items()},
            )
            for action, size, place, counts in rows
        ]
        good = len(parents) <= MAX_PARENTS and all(_credible(each, schema) for each in parents)
    except (cbor2.CBORError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        good = False
    if not good:
        raise DocumentError("survival: no table of parents with their counts")
    return parents


def _credible(parent: Parent, schema: Schema) -> bool:
    if not (type(parent.size) is int and PARENT <= parent.size <= 2**40 and parent.place.shape == (schema.dimension,)):
        return False
    if parent.action not in ("", *schema.actions):
        return False
    for name, cells in parent.counts.items():
        outcome = schema.outcomes.get(name)
        if outcome is None or len(cells) != len(outcome.intervals) + 1 or not 0 < len(cells) <= MAX_INTERVALS + 1:
            return False
        numbers = [n for cell in cells for n in cell]
        if not all(type(n) is int and 0 <= n <= parent.size for n in numbers) or cells[-1][0] != 0:
            return False
        if not PARENT <= sum(numbers) <= parent.size:
            return False
    return True


def _read(atoms: Sequence[tuple[Atom, bytes]]) -> list[tuple[Atom, _Part]]:
    """In the order of their numbers.

    A part that is a map is of a ledger from before parents stayed: it was told in other company, and is not again.
    """
    ordered = sorted(atoms, key=lambda each: each[0].number)
    found = [(atom, cbor2.loads(part)) for atom, part in ordered if part]
    return [(atom, _Part(*part)) for atom, part in found if isinstance(part, list)]


def _groups(atoms: Sequence[tuple[Atom, _Part]]) -> list[Sequence[tuple[Atom, _Part]]]:
    """Neighbouring atoms, of PARENT persons or more together: halved along the longest axis while both halves are."""
    persons = sum(atom.size for atom, _ in atoms)
    if persons < PARENT:
        return []
    places = np.array([atom.place for atom, _ in atoms], dtype=np.float64)
    axis = int(np.argmax(np.ptp(places, axis=0)))
    order = np.argsort(places[:, axis], kind="stable").tolist()
    ordered = [atoms[i] for i in order]
    before = np.cumsum([atom.size for atom, _ in ordered])
    half = int(np.searchsorted(before, persons / 2.0)) + 1
    first, second = ordered[:half], ordered[half:]
    if min(sum(atom.size for atom, _ in part) for part in (first, second)) < PARENT:
        return [atoms]
    return [*_groups(first), *_groups(second)]
