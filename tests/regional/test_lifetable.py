"""Survival of persons, told of fifty or more: what the counts say, what they keep back, and what is no table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cbor2
import numpy as np
import pytest

from regional.atom import Atom
from regional.lifetable import PARENT, LifeTables, Lives, read_parents
from regional.packet import Packet
from registry.errors import DocumentError
from registry.schema import Schema
from tests.registry.sample_schemas import field

STOOD = {
    "kind": "duration", "label": "stood", "unit": "days", "better": "higher", "intervals": ["7d", "30d", "90d"],
}  # fmt: skip
SCHEMA: Schema = field(outcomes={"stood": STOOD, "lost": {"kind": "binary", "label": "lost"}})
OUTCOME = SCHEMA.outcomes["stood"]


def packet(value: Any, action: str = "plough") -> Packet:
    point = np.zeros(SCHEMA.dimension, np.float32)
    return Packet("fields", SCHEMA.space[:8], "north", b"n", 1, 0.0, 0.0, point, action, {"stood": value})


def atom(number: int, place: int, size: int = 12, action: str = "plough") -> Atom:
    places = np.zeros(SCHEMA.dimension, np.int64)
    places[0] = place
    return Atom(number, action, size, float(size), places, {})


def made(values: list[list[Any]], actions: list[str] | None = None) -> list[tuple[Atom, bytes]]:
    """One atom for each list of values, side by side."""
    tables = LifeTables(SCHEMA)
    atoms = [atom(i, 10 * i, len(each), (actions or ["plough"] * len(values))[i]) for i, each in enumerate(values)]
    return [(one, tables.part(one, [packet(value) for value in each])) for one, each in zip(atoms, values, strict=True)]


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
