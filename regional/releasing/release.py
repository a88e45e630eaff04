"""What a network of persons may publish next, by one rule (docs/decisions/020-atoms.md):

    What is known of a person is in one published figure, once, with that of min_cohort persons at least.

So all figures of one kind that were ever published are sums over disjoint sets of persons. Whatever is added up and
subtracted, over however many epochs, is a sum over at least min_cohort of them; and as nobody is in two, no figure
tells more of anybody because one has another.

A person here is an *episode*: one node, one action, one time of decision. A node that is loaded again, or whose outcome
is corrected, or which is encoded anew, is nobody new. Who was published is remembered by *marks*, digests under the
network's secret, also after a withdrawal, when nothing else is left.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import numpy as np

from regional.cohort import Cohort, Figures
from regional.packets.packet import Packet
from regional.releasing.atom import Atom, place_of
from regional.releasing.attachment import Attachment
from regional.releasing.grouping import Candidates, groups
from registry.likeness.schema import Outcome

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
    that the counts of one epoch do not say how many have come. Those of several say more (the decision's limits).
    """

    epoch: int = 0
    numbers: int = 1
    pages: int = 1
    held: Mapping[int, Held] = field(default_factory=dict)
    kept_back: Mapping[str, int] = field(default_factory=dict)


class Spent(Protocol):
    """The marks of all episodes ever published."""

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
    """The next epoch. gone: numbers of atoms withdrawn; changed: of those new, or with new figures, or on another page;
    marks: of the episodes that are published with it."""

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
    changed: dict[int, Held] = {}
    for number, each in kept.items():
        again = _completed(each, [present[m.episode] for m in each.members if m.episode in present], rules)
        if again is not None:
            changed[number] = again
    pool = [person for person in _unpublished(persons, spent) if not _awaited(person.packet, rules, now)]
    made, kept_back = _gathered(state, kept, pool, rules, rng)
    if not (gone or changed or made):
        return None
    held = {**kept, **changed}
    held.update(_paged(held, made, state.pages, rng))
    bound = _bound(held, rules)
    held.update(bound)
    pages = 1 + max((each.page for each in held.values()), default=state.pages - 1)
    after = State(state.epoch + 1, state.numbers + len(made), max(pages, state.pages), held, kept_back)
    moved = {number for number, each in held.items() if number in kept and each.page != kept[number].page}
    numbers = frozenset([*changed, *moved, *bound, *(each.atom.number for each in made)])
    return Step(after, frozenset(gone), numbers, tuple(m.episode for each in made for m in each.members))


def lacking(state: State, persons: Sequence[Person], spent: Spent, rules: Rules) -> int:
    """How many packets must change before anything but a withdrawal can bring a new epoch: at least so many; >= 1."""
    present = {person.episode: person for person in persons}
    new: dict[str, int] = dict.fromkeys([action_of(person.packet) for person in persons], 0)
    for person in _unpublished(persons, spent):
        new[action_of(person.packet)] += 1
    counts = _counted(state.held)
    missing = [_needed(state, action, counts, rules.least) - n for action, n in new.items()] or [rules.least]
    for each in state.held.values():
        members = [present[m.episode] for m in each.members if m.episode in present]
        missing.append(_enough_over(each, rules.least) - (len(each.members) - len(members)))
        missing += [
            rules.least - sum(value_of(person.packet, name) is not None for person in members)
            for name in rules.released()
            if name not in each.atom.figures
        ]
    return max(1, min(missing))


def _unpublished(persons: Sequence[Person], spent: Spent) -> list[Person]:
    """Those who never were in an atom."""
    known = spent.known([person.episode for person in persons])
    return [person for person, was in zip(persons, known, strict=True) if not was]


def value_of(packet: Packet, outcome: str) -> float | None:
    """The number that a packet says of an outcome; None where it is unknown, or its weight counts nothing."""
    value = packet.outcomes.get(outcome)
    return value if isinstance(value, float) and packet.weight > 0 and math.isfinite(value) else None


def _withdrawn(state: State, persons: Sequence[Person], least: int) -> tuple[dict[int, Held], list[int]]:
    """The atoms that stay, and the numbers of those that go: one of whose persons is held no more, or most of whose
    episodes, and `least`, are over. Who was in these with them is not published again: the difference would tell."""
    whos = {person.who for person in persons}
    episodes = {person.episode for person in persons}
    kept, gone = {}, []
    for number, each in state.held.items():
        over = sum(member.episode not in episodes for member in each.members)
        if over >= _enough_over(each, least) or any(member.who not in whos for member in each.members):
            gone.append(number)
        else:
            kept[number] = each
    return kept, gone


def _enough_over(held: Held, least: int) -> int:
    """How many episodes must be over for the atom to go."""
    return max(least, len(held.members) // 2 + 1)


def _completed(each: Held, members: Sequence[Person], rules: Rules) -> Held | None:
    """The atom with the figures of outcomes that are known of enough only now; None where there are none. What was told
    once stays as it is: two figures that differ by few would tell of these."""
    missing = [name for name in rules.released() if name not in each.atom.figures]
    figures = {name: found for name in missing if (found := _figures(members, name, rules.least)) is not None}
    return replace(each, atom=replace(each.atom, figures={**each.atom.figures, **figures})) if figures else None


def _figures(members: Sequence[Person], name: str, least: int) -> Figures | None:
    """None where the outcome is known of too few, or is the same of all: then it would tell of each."""
    known = [(value, p.packet.weight) for p in members if (value := value_of(p.packet, name)) is not None]
    if len(known) < least or len({value for value, _ in known}) < 2:
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
    """How many must be in the pool for atoms to be made of it."""
    if action not in state.kept_back:
        return least
    return least + state.kept_back[action] + counts.get(action, 0) // _PATIENCE


def _gathered(
    state: State, kept: Mapping[int, Held], pool: Sequence[Person], rules: Rules, rng: np.random.Generator
) -> tuple[list[Held], dict[str, int]]:
    """Atoms made of the pool, not paged yet, and how many the next batches keep back."""
    made: list[Held] = []
    kept_back = dict(state.kept_back)
    counts = _counted(kept)
    for action in sorted({action_of(person.packet) for person in pool}):
        waiting = sorted([p for p in pool if action_of(p.packet) == action], key=lambda person: person.episode)
        if len(waiting) < _needed(state, action, counts, rules.least):
            continue
        aside = set(rng.permutation(len(waiting))[: state.kept_back.get(action, 0)].tolist())
        batch = [person for row, person in enumerate(waiting) if row not in aside]
        for rows in groups(_candidates(batch, rules), rules.least, rng):
            members = [batch[row] for row in rows.tolist()]
            made.append(_formed(state.numbers + len(made), action, members, rules))
        kept_back[action] = int(rng.integers(0, rules.least))
    return made, kept_back


def _candidates(batch: Sequence[Person], rules: Rules) -> Candidates:
    names = rules.released()
    outcomes = np.array(
        [[_number(value_of(person.packet, name)) for name in names] for person in batch], dtype=np.float64
    ).reshape(len(batch), len(names))
    return Candidates(
        points=np.array([person.packet.fingerprint for person in batch], dtype=np.float64),
        counted=np.column_stack([np.ones(len(batch), dtype=np.bool_), ~np.isnan(outcomes)]),
        outcomes=outcomes,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _formed(number: int, action: str, members: Sequence[Person], rules: Rules) -> Held:
    """One atom, not paged yet."""
    told = {name: _figures(members, name, rules.least) for name in rules.released()}
    figures = {name: found for name, found in told.items() if found is not None}
    place = place_of([person.packet.fingerprint for person in members], rules.step)
    weight = math.fsum(person.packet.weight for person in members)
    atom = Atom(number, action, len(members), weight, place, figures)
    parts = {each.name: each.part(atom, [person.packet for person in members]) for each in rules.attachments}
    return Held(atom, tuple(Member(person.who, person.episode) for person in members), 0, parts)


def _bound(held: Mapping[int, Held], rules: Rules) -> dict[int, Held]:
    """The atoms that an attachment tells together with others from now on."""
    found: dict[int, Held] = {}
    for each in rules.attachments:
        atoms = [(one.atom, one.parts[each.name]) for _, one in sorted(held.items()) if each.name in one.parts]
        for number, part in each.bound(atoms).items():
            one = found.get(number, held[number])
            found[number] = replace(one, parts={**one.parts, each.name: part})
    return found


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
