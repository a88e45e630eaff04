"""What a network of persons may publish next, by one rule (docs/decisions/020-atoms.md has the proof):

    A figure is published only if at least min_cohort of the values in it have never been in a published figure.

Order all that was ever published by time. In any combination of it whose factors are not all zero, the last figure
with a factor has min_cohort values that are in none before it: so whatever is added and subtracted, over however many
epochs, what comes out is a sum over at least min_cohort persons, never over fewer.

A *value* is what a person's packet says in one column: that there is such a person (column ""), or one outcome with the
sample weight. It belongs to an *episode*: one node, one action, one time of decision. What changes within an episode is
a new value of it; a node that is loaded again, or encoded anew, is not. Published values are remembered by *marks*,
digests under the network's secret, so that those who were withdrawn leave nothing that can be read.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import numpy as np

from regional.atom import Atom, place_of
from regional.attachment import Attachment
from regional.cohort import Cohort, Figures
from regional.grouping import Candidates, groups
from regional.packet import Packet
from registry.schema import Outcome

MARK_OCTETS: Final = 16
PAGE_ATOMS: Final = 8  # at least, where there are so many
MAX_PAGES: Final = 64
_PATIENCE: Final = 100  # arrivals wait for a hundredth of those published, so that their atoms are not wide

Mark = bytes


class Person(NamedTuple):
    """A node that is held. who: mark of the node; episode: of the node with its action and time of decision."""

    who: Mark
    episode: Mark
    packet: Packet

    @classmethod
    def of(cls, packet: Packet, secret: bytes) -> Person:
        who = mark(secret, b"node", packet.node)
        return cls(who, mark(secret, b"episode", who, action_of(packet).encode(), struct.pack(">d", packet.t0)), packet)


class Member(NamedTuple):
    """A person in an atom."""

    who: Mark
    episode: Mark


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """An atom that is published, with what is not: its members, and its parts of the tables. page: where it stands."""

    atom: Atom
    members: tuple[Member, ...]
    page: int
    parts: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that is published in one epoch. numbers, pages: the next to be given.

    kept_back: of each action published before, how many arrivals the next batch leaves in the pool; drawn by lot, so
    that not even who knows all others can tell from the counts whether one more has come.
    """

    epoch: int = 0
    numbers: int = 1
    pages: int = 1
    held: Mapping[int, Held] = field(default_factory=dict)
    kept_back: Mapping[str, int] = field(default_factory=dict)


class Spent(Protocol):
    """The marks of all values ever published."""

    def known(self, marks: Sequence[Mark]) -> list[bool]:
        """Which of them are among these."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """least: the domain's min_cohort. step: edge of its public grid. secret: the network's, 32 octets."""

    outcomes: Mapping[str, Outcome]
    least: int
    step: float
    secret: bytes
    attachments: Sequence[Attachment] = ()

    def released(self) -> list[str]:
        """The outcomes of which atoms have figures; durations are told by tables over more persons."""
        return [name for name, outcome in self.outcomes.items() if outcome.kind != "duration"]

    def rng(self, epoch: int) -> np.random.Generator:
        """What cuts and numbers are drawn by for an epoch, known to nobody else."""
        return np.random.default_rng(int.from_bytes(mark(self.secret, b"epoch", struct.pack(">Q", epoch))))


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The next epoch. gone: numbers of atoms withdrawn; changed: of those new, or with new figures; marks: of the
    values that are published with it for the first time."""

    state: State
    gone: frozenset[int]
    changed: frozenset[int]
    marks: tuple[Mark, ...]


def mark(secret: bytes, *parts: bytes) -> Mark:
    """A digest under the secret; of no other parts."""
    hashed = hashlib.blake2b(key=secret, digest_size=MARK_OCTETS)
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    return hashed.digest()


def action_of(packet: Packet) -> str:
    """As atoms and regions name it."""
    return packet.action or ""


def advance(state: State, persons: Sequence[Person], spent: Spent, rules: Rules, now: float) -> Step | None:
    """The epoch that follows, from all persons held now (seconds since the epoch); None where all stays as it is."""
    rng = rules.rng(state.epoch + 1)
    present = {person.episode: person for person in persons}
    kept, gone = _withdrawn(state, persons, rules.least)
    values = _Values(rules, spent)
    changed: dict[int, Held] = {}
    for number, each in kept.items():
        again = _again(each, [present[m.episode] for m in each.members if m.episode in present], values, rules)
        if again is not None:
            changed[number] = again
    inside = {member.episode for each in kept.values() for member in each.members}
    pool = [person for person in persons if person.episode not in inside and not _awaited(person.packet, rules, now)]
    made, kept_back = _gathered(state, kept, pool, values, rules, rng)
    if not (gone or changed or made):
        return None
    held = {**kept, **changed}
    held.update(_paged(held, made, state.pages, rng))
    pages = 1 + max((each.page for each in held.values()), default=state.pages - 1)
    after = State(state.epoch + 1, state.numbers + len(made), max(pages, state.pages), held, kept_back)
    moved = {number for number, each in held.items() if number in kept and each.page != kept[number].page}
    numbers = frozenset([*changed, *moved, *(each.atom.number for each in made)])
    return Step(after, frozenset(gone), numbers, tuple(values.new))


def lacking(state: State, persons: Sequence[Person], spent: Spent, rules: Rules) -> int:
    """How many packets must change before anything but a withdrawal can bring a new epoch: at least so many; >= 1."""
    values = _Values(rules, spent)
    present = {person.episode: person for person in persons}
    inside = {member.episode for each in state.held.values() for member in each.members}
    fresh: dict[str, int] = dict.fromkeys([action_of(person.packet) for person in persons], 0)
    for person in values.fresh([person for person in persons if person.episode not in inside]):
        fresh[action_of(person.packet)] += 1
    counts = _counted(state.held)
    missing = [_needed(state, action, counts, rules.least) - n for action, n in fresh.items()] or [rules.least]
    for each in state.held.values():
        members = [present[m.episode] for m in each.members if m.episode in present]
        missing.append(rules.least - (len(each.members) - len(members)))
        missing += [rules.least - len(values.fresh(members, name)) for name in rules.released()]
    return max(1, min(missing))


class _Values:
    """Which values are out. new: the marks of those that go out now."""

    def __init__(self, rules: Rules, spent: Spent) -> None:
        self._secret = rules.secret
        self._spent = spent
        self.new: list[Mark] = []

    def fresh(self, persons: Iterable[Person], column: str = "") -> list[Person]:
        """Those whose value in the column is known and was never published."""
        known = [person for person in persons if not column or value_of(person.packet, column) is not None]
        spent = self._spent.known([self._mark(person, column) for person in known])
        return [person for person, was in zip(known, spent, strict=True) if not was]

    def publish(self, persons: Iterable[Person], column: str = "") -> None:
        self.new += [self._mark(person, column) for person in persons]

    def _mark(self, person: Person, column: str) -> Mark:
        if not column:
            return person.episode
        value = value_of(person.packet, column)
        said = b"" if value is None else struct.pack(">dd", value, person.packet.weight)
        return mark(self._secret, b"value", person.episode, column.encode(), said)


def value_of(packet: Packet, outcome: str) -> float | None:
    """The number that a packet says of an outcome; None where it is unknown, or its weight counts nothing."""
    value = packet.outcomes.get(outcome)
    return value if isinstance(value, float) and packet.weight > 0 and math.isfinite(value) else None


def _withdrawn(state: State, persons: Sequence[Person], least: int) -> tuple[dict[int, Held], list[int]]:
    """The atoms that stay, and the numbers of those that go: one of whose persons is held no more, or `least` of whose
    episodes are over."""
    whos = {person.who for person in persons}
    episodes = {person.episode for person in persons}
    kept, gone = {}, []
    for number, each in state.held.items():
        over = sum(member.episode not in episodes for member in each.members)
        if over >= least or any(member.who not in whos for member in each.members):
            gone.append(number)
        else:
            kept[number] = each
    return kept, gone


def _again(each: Held, members: Sequence[Person], values: _Values, rules: Rules) -> Held | None:
    """The atom with the figures that may be told anew; None where none may."""
    figures = {}
    for name in rules.released():
        fresh = values.fresh(members, name)
        if len(fresh) >= rules.least and (found := _figures(members, name)) is not None:
            figures[name] = found
            values.publish(fresh, name)
    return replace(each, atom=replace(each.atom, figures={**each.atom.figures, **figures})) if figures else None


def _figures(members: Sequence[Person], name: str) -> Figures | None:
    """None where all values known are the same: they would tell of each."""
    known = [(value, p.packet.weight) for p in members if (value := value_of(p.packet, name)) is not None]
    if len({value for value, _ in known}) < 2:
        return None
    return Cohort.of(known).figures()


def _awaited(packet: Packet, rules: Rules, now: float) -> bool:
    """Whether an outcome is unknown whose time has not come yet; it could be told of an atom formed now only if most
    of its members' came late."""
    return any(
        outcome.kind != "duration" and outcome.horizon_s is not None and now < packet.t0 + outcome.horizon_s
        for name, outcome in rules.outcomes.items()
        if packet.outcomes.get(name) is None
    )


def _counted(held: Mapping[int, Held]) -> dict[str, int]:
    """Persons published, by action."""
    counts: dict[str, int] = {}
    for each in held.values():
        counts[each.atom.action] = counts.get(each.atom.action, 0) + each.atom.size
    return counts


def _needed(state: State, action: str, counts: Mapping[str, int], least: int) -> int:
    """How many never published before must be in the pool for atoms to be made of it."""
    if action not in state.kept_back:
        return least
    return least + state.kept_back[action] + counts.get(action, 0) // _PATIENCE


def _gathered(
    state: State,
    kept: Mapping[int, Held],
    pool: Sequence[Person],
    values: _Values,
    rules: Rules,
    rng: np.random.Generator,
) -> tuple[list[Held], dict[str, int]]:
    """Atoms made of the pool, not paged yet, and how many the next batches keep back."""
    made: list[Held] = []
    kept_back = dict(state.kept_back)
    counts = _counted(kept)
    for action in sorted({action_of(person.packet) for person in pool}):
        waiting = sorted([p for p in pool if action_of(p.packet) == action], key=lambda person: person.episode)
        fresh = values.fresh(waiting)
        if len(fresh) < _needed(state, action, counts, rules.least):
            continue
        aside = {fresh[row].episode for row in rng.permutation(len(fresh))[: state.kept_back.get(action, 0)].tolist()}
        batch = [person for person in waiting if person.episode not in aside]
        for rows in groups(_candidates(batch, values, rules), rules.least, rng):
            members = [batch[row] for row in rows.tolist()]
            made.append(_formed(state.numbers + len(made), action, members, values, rules))
        kept_back[action] = int(rng.integers(0, rules.least))
    return made, kept_back


def _candidates(batch: Sequence[Person], values: _Values, rules: Rules) -> Candidates:
    names = rules.released()
    fresh = [{person.episode for person in values.fresh(batch, column)} for column in ("", *names)]
    counted = [[person.episode in each for each in fresh] for person in batch]
    outcomes = [[_number(value_of(person.packet, name)) for name in names] for person in batch]
    return Candidates(
        np.array([person.packet.fingerprint for person in batch], dtype=np.float64),
        np.array(counted, dtype=np.bool_).reshape(len(batch), 1 + len(names)),
        np.array(outcomes, dtype=np.float64).reshape(len(batch), len(names)),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _formed(number: int, action: str, members: Sequence[Person], values: _Values, rules: Rules) -> Held:
    """One atom. A figure that would break the rule, or tell of each, is not in it."""
    figures = {}
    for name in rules.released():
        fresh = values.fresh(members, name)
        if len(fresh) >= rules.least and (found := _figures(members, name)) is not None:
            figures[name] = found
            values.publish(fresh, name)
    values.publish(values.fresh(members))
    place = place_of([person.packet.fingerprint for person in members], rules.step)
    weight = math.fsum(person.packet.weight for person in members)
    atom = Atom(number, action, len(members), weight, place, figures)
    parts = {each.name: each.part(atom, [person.packet for person in members]) for each in rules.attachments}
    return Held(atom, tuple(Member(person.who, person.episode) for person in members), 0, parts)


def _paged(held: Mapping[int, Held], made: Sequence[Held], pages: int, rng: np.random.Generator) -> dict[int, Held]:
    """The new atoms on pages of their own; all anew where there would be too many pages."""
    in_use = len({each.page for each in held.values()})
    if not made:
        return {}
    moving = list(made)
    if in_use + max(1, len(made) // PAGE_ATOMS) > MAX_PAGES:
        moving = [*held.values(), *made]
    places = np.array([each.atom.place for each in moving], dtype=np.float64)
    least = min(len(moving), max(PAGE_ATOMS, -(-len(moving) // MAX_PAGES)))
    found = {}
    for offset, rows in enumerate(groups(Candidates.plain(places), least, rng)):
        for row in rows.tolist():
            found[moving[row].atom.number] = replace(moving[row], page=pages + offset)
    return found
