"""Survival of persons, told of fifty or more: what the counts say, what they keep back, and what is no table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cbor2
import numpy as np
import pytest

from regional.packets.packet import Packet
from regional.releasing.atom import Atom
from regional.releasing.lifetable import PARENT, LifeTables, Lives, read_parents
from registry.errors import DocumentError
from registry.likeness.schema import Schema
from tests.regional.persons import SCHEMA as WARD
from tests.regional.persons import Ward, rules
from tests.registry.sample_schemas import field

STOOD = {
    "kind": "duration", "label": "stood", "unit": "days", "better": "higher", "intervals": ["7d", "30d", "90d"],
}  # fmt: skip
SCHEMA: Schema = field(outcomes={"stood": STOOD, "lost": {"kind": "binary", "label": "lost"}})
OUTCOME = SCHEMA.outcomes["stood"]
LIFE = {**WARD.document["outcomes"]["life"], "intervals": ["3d", "9d"]}


def packet(value: Any, action: str = "plough") -> Packet:
    point = np.zeros(SCHEMA.dimension, np.float32)
    return Packet("fields", SCHEMA.space[:8], "north", b"n", 1, 0.0, 0.0, point, action, {"stood": value})


def atom(number: int, place: int, size: int = 12, action: str = "plough") -> Atom:
    places = np.zeros(SCHEMA.dimension, np.int64)
    places[0] = place
    return Atom(number, action, size, float(size), places, {})


def made(values: list[list[Any]], actions: list[str] | None = None) -> list[tuple[Atom, bytes]]:
    """One atom for each list of values, side by side, with the parents that they have at first."""
    tables = LifeTables(SCHEMA)
    named = actions or ["plough"] * len(values)
    atoms = [atom(i + 1, 10 * i, len(each), named[i]) for i, each in enumerate(values)]
    return bound(
        [(one, tables.part(one, [packet(value) for value in each])) for one, each in zip(atoms, values, strict=True)]
    )


def bound(atoms: list[tuple[Atom, bytes]]) -> list[tuple[Atom, bytes]]:
    """As the next epoch has them."""
    changed = LifeTables(SCHEMA).bound(atoms)
    return [(one, changed.get(one.number, part)) for one, part in atoms]


def drawn(atoms: int, seed: int = 1, size: int = 12) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [[(float(rng.exponential(40)), bool(rng.random() < 0.7)) for _ in range(size)] for _ in range(atoms)]


def test_parents_count_what_happened_in_each_interval() -> None:
    values = drawn(9)
    table = LifeTables(SCHEMA).table(made(values))
    assert table is not None
    parents = read_parents(table, SCHEMA)
    assert all(parent.size >= PARENT for parent in parents)
    assert sum(parent.size for parent in parents) == 108
    ends = (7.0, 30.0, 90.0)
    counted: Counter[tuple[float, bool]] = Counter()
    for parent in parents:
        for lives in parent.lives(OUTCOME):
            counted[lives.duration, lives.event] += lives.n
    expected: Counter[tuple[float, bool]] = Counter()
    for duration, event in (value for each in values for value in each):
        within = [end for end in ends if duration <= end]
        expected[(within[0], event) if within else (90.0, False)] += 1
    assert counted == expected


def test_the_same_atoms_give_the_same_table_in_whatever_order() -> None:
    atoms = made(drawn(30), ["plough", "no-till", ""] * 10)
    tables = LifeTables(SCHEMA)
    shuffled = [atoms[i] for i in np.random.default_rng(2).permutation(30).tolist()]
    assert tables.table(atoms) == tables.table(shuffled)
    parents = read_parents(tables.table(atoms) or b"", SCHEMA)
    assert {parent.action for parent in parents} == {"plough", "no-till", ""}


def test_too_few_are_not_told_and_neither_are_those_who_all_agree() -> None:
    tables = LifeTables(SCHEMA)
    assert tables.table(made(drawn(4))) is None  # 48 persons
    assert tables.table(made([[None] * 12 for _ in range(9)])) is None
    few_known = [each[:5] + [None] * 7 for each in drawn(9)]  # of 45 of 108 it is known
    assert tables.table(made(few_known)) is None
    assert tables.table(made([[(3.0, True)] * 12 for _ in range(9)])) is None
    assert tables.table([]) is None
    assert LifeTables(field()).table([(atom(1, 1), b"")]) is None  # no intervals, nothing is told


def test_neighbours_are_together() -> None:
    parents = read_parents(LifeTables(SCHEMA).table(made(drawn(40))) or b"", SCHEMA)
    assert len(parents) == 8
    centres = sorted(parent.place[0] for parent in parents)
    assert np.diff(centres).min() > 30  # five atoms each, side by side


def test_whatever_comes_and_goes_two_tables_differ_by_whole_parents() -> None:
    """All that was ever told is of disjoint parents; each is told as it was, or not at all."""
    rng = np.random.default_rng(4)
    tables = LifeTables(SCHEMA)
    coming = made(drawn(400), ["plough", "no-till"] * 200)  # for their atoms; their parents are made as they come
    values = drawn(400)
    held: list[tuple[Atom, bytes]] = []
    ever: dict[bytes, frozenset[int]] = {}
    counted: set[bytes] = set()
    while coming:
        for one, _ in [coming.pop() for _ in range(min(len(coming), int(rng.integers(1, 12))))]:
            held.append((one, tables.part(one, [packet(value) for value in values[one.number - 1]])))
        held = bound(held)
        for row in cbor2.loads(tables.table(held) or cbor2.dumps([])):
            counted.add(cbor2.dumps(row))
            assert row[1] >= PARENT
        for one, part in held:
            parent, _, _ = cbor2.loads(part)
            if parent:
                key = parent.to_bytes(4, "big")
                ever[key] = ever.get(key, frozenset()) | {one.number}
        if rng.random() < 0.5:
            held.pop(int(rng.integers(len(held))))
    assert len(ever) > 20
    assert sum(map(len, ever.values())) == len(frozenset[int]().union(*ever.values()))
    assert len(counted) <= len(ever)


def test_a_networks_epochs_tell_of_whole_parents_only() -> None:
    """Persons come and leave; between two epochs parents of 50 or more come and go, and no other figure changes."""
    schema = Schema.from_document({**WARD.document, "outcomes": {**WARD.document["outcomes"], "life": LIFE}}, "ward")
    tables = LifeTables(schema)
    ward = Ward(replace(rules(5), attachments=(tables,)))
    rng = np.random.default_rng(9)
    shown: list[list[bytes]] = []
    for epoch in range(12):
        for number in range(100 * epoch, 100 * epoch + int(rng.integers(20, 100))):
            ward.put(number, outcomes={"died": float(number % 2), "life": (float(rng.exponential(9)), True)})
        if epoch % 3 == 2:
            del ward.packets[int(rng.choice(sorted(ward.packets)))]
        ward.publish()
        held = [(each.atom, each.parts[tables.name]) for each in ward.state.held.values()]
        shown.append([cbor2.dumps(row) for row in cbor2.loads(tables.table(held) or cbor2.dumps([]))])
    assert len(shown[-1]) > 4
    ever: set[bytes] = set()
    gone = 0
    for epoch, (before, after) in enumerate(pairwise(shown), 1):
        missing = frozenset(before) - frozenset(after)
        gone += len(missing)
        assert len(missing) <= (epoch % 3 == 2)  # who left was in one parent, if in any; all others are as they were
        assert not (frozenset(after) - frozenset(before)) & ever  # and none comes back
        ever.update(before)
    assert gone
    assert all(cbor2.loads(row)[1] >= PARENT for row in ever)


def test_a_parent_goes_with_one_of_its_atoms_and_the_others_are_not_told_again() -> None:
    tables = LifeTables(SCHEMA)
    atoms = made(drawn(9))
    before = cbor2.loads(tables.table(atoms) or b"")
    assert sum(row[1] for row in before) == 108
    without = bound(atoms[1:])
    left = cbor2.loads(tables.table(without) or cbor2.dumps([]))
    assert all(row in before for row in left)
    assert sum(row[1] for row in before) - sum(row[1] for row in left) >= PARENT


def test_lives_are_those_of_the_ends_of_intervals() -> None:
    parents = read_parents(LifeTables(SCHEMA).table(made(drawn(5))) or b"", SCHEMA)
    assert {lives.duration for lives in parents[0].lives(OUTCOME)} <= {7.0, 30.0, 90.0}
    assert all(isinstance(lives, Lives) for lives in parents[0].lives(OUTCOME))


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.__setitem__(0, "burnt"),
        lambda row: row.__setitem__(1, PARENT - 1),
        lambda row: row.__setitem__(1, True),
        lambda row: row[2].pop(),
        lambda row: row.__setitem__(2, "here"),
        lambda row: row[3].__setitem__("stood", [[1, 2]]),
        lambda row: row[3].__setitem__("colour", row[3]["stood"]),
        lambda row: row[3]["stood"].__setitem__(0, [-1, 60]),
        lambda row: row[3]["stood"].__setitem__(0, [10**6, 60]),
        lambda row: row[3]["stood"].__setitem__(0, [0.5, 60]),
        lambda row: row[3]["stood"].__setitem__(3, [1, 1]),  # an event beyond the last interval
        lambda row: row.append(1),
    ],
)
def test_what_is_no_table_is_refused(change: Any) -> None:
    rows = cbor2.loads(LifeTables(SCHEMA).table(made(drawn(9))) or b"")
    change(rows[0])
    with pytest.raises(DocumentError, match="survival"):
        read_parents(cbor2.dumps(rows), SCHEMA)
    for broken in (b"", b"\xff", cbor2.dumps(3), cbor2.dumps({"a": 1})):
        with pytest.raises(DocumentError, match="survival"):
            read_parents(broken, SCHEMA)
