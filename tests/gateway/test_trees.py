"""The trees of one walk: each is read once, the oldest of them tells the age, a stranger's is not entered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.fetching.cache import Kept
from gateway.fetching.resolver import Tree
from gateway.fetching.trees import Trees
from gateway.planning.cell import Cell
from registry.clock import ManualClock
from registry.errors import LookupFailed
from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.region import Region
from registry.zones.texts import ApexText

HERE = Naming("rice", "kindred.internal.")
ASIA, JAVA = (HERE.beyond(f"rice.{origin}.kindred.internal.") for origin in ("asia", "java.asia"))
CELL = Cell([CellRecord(Region("r", {"": 1}, np.zeros(1), 1.0, -np.ones(1), np.ones(1), np.ones(1)), network="n")], 1)


def tree(naming: Naming, serial: int, parent: Naming | None = None, **changes: Any) -> Tree:
    fields: dict[str, Any] = {
        "generation": 3,
        "space": bytes(32),
        "schema": bytes(32),
        "dimension": 1,
        "actions": (),
        "parent": None if parent is None else parent.apex,
    }
    return Tree(naming, ApexText(**{**fields, **changes}), serial, stale=bool(changes.get("stale")))


class Known:
    """A resolver that knows these trees, and has one cell for every name."""

    def __init__(self, *trees: Tree) -> None:
        self._trees = {each.naming: each for each in trees}
        self.asked: list[str] = []

    async def tree(self, naming: Naming, timeout_s: float) -> Tree:  # noqa: ARG002
        self.asked.append(naming.apex)
        if naming not in self._trees:
            raise LookupFailed(f"{naming.apex}: no answer", rcode="TIMEOUT")
        return self._trees[naming]

    async def cell(self, of: Tree, address: Address, timeout_s: float) -> Kept[Cell]:  # noqa: ARG002
        self.asked.append(of.naming.cell(of.apex.generation, address))
        return Kept(CELL, of.serial)

    def cached_tree(self, naming: Naming) -> Tree | None:
        return self._trees[naming] if naming.apex in self.asked else None

    def cached_cell(self, of: Tree, address: Address) -> Kept[Cell] | None:  # noqa: ARG002
        return Kept(CELL, of.serial)

    def servers(self, naming: Naming) -> tuple[str, ...]:
        return (f"192.0.2.1:53 of {naming.origin}",)


def trees(*more: Tree, start: Tree | None = None) -> tuple[Trees, Known]:
    start = start or tree(HERE, 1000)
    known = Known(start, *more)
    return Trees(known, start, ManualClock(1000.0)), known  # type: ignore[arg-type]


async def test_a_tree_is_entered_once_and_the_oldest_tells_the_age() -> None:
    entered, known = trees(
        tree(ASIA, 990, HERE, keep_s=100), tree(JAVA, 995, ASIA, keep_s=70), start=tree(HERE, 1000, keep_s=80)
    )
    assert (entered.ages.as_of, entered.entered) == (1000, 0)
    assert entered.cached((2, ASIA.apex)) is None
    await entered.cell((2, ASIA.apex), 1.0)
    assert (entered.ages.as_of, entered.entered) == (990, 1)
    await entered.cell((2, ASIA.apex, 0), 1.0)
    await entered.cell((2, ASIA.apex, 0, JAVA.apex), 1.0)
    assert (entered.ages.as_of, entered.entered) == (990, 2)
    assert known.asked == [
        ASIA.apex,
        f"g3.{ASIA.apex}",
        f"0.g3.{ASIA.apex}",
        JAVA.apex,
        f"g3.{JAVA.apex}",
    ]
    again = Trees(known, tree(HERE, 1000, keep_s=80), ManualClock(1000.0))  # type: ignore[arg-type]
    assert again.cached((2, ASIA.apex)) is not None
    assert again.cached((2, ASIA.apex, 0, JAVA.apex)) is not None
    assert (again.ages.as_of, again.entered) == (990, 2)
    assert len(known.asked) == 5
    assert entered.name((2, ASIA.apex, 0)) == f"0.g3.{ASIA.apex}"
    assert entered.naming((2, ASIA.apex, 0, JAVA.apex)) == JAVA
    assert [each["apex"] for each in entered.document()] == [HERE.apex, ASIA.apex, JAVA.apex]
    assert entered.document()[1]["servers"] == ["192.0.2.1:53 of asia.kindred.internal."]


async def test_a_registry_that_is_told_of_twice_must_agree_with_the_one_that_leads_there() -> None:
    """JAVA is a part of ASIA, and not of HERE, whoever points to it."""
    entered, known = trees(tree(ASIA, 990, HERE), tree(JAVA, 995, ASIA))
    with pytest.raises(LookupFailed, match=f"it names {ASIA.apex} as its parent"):
        await entered.cell((JAVA.apex,), 1.0)
    with pytest.raises(LookupFailed, match=f"it names {ASIA.apex} as its parent"):
        entered.cached((JAVA.apex,))
    assert known.asked == [JAVA.apex]  # no cell of it
    assert entered.naming((JAVA.apex,)) is None
    assert entered.name((JAVA.apex,)) == JAVA.apex
    assert entered.ages.as_of == 1000


async def test_a_registry_that_does_not_answer_is_not_entered() -> None:
    entered, _ = trees()
    with pytest.raises(LookupFailed, match="no answer"):
        await entered.cell((ASIA.apex,), 1.0)
    assert entered.entered == 0


async def test_what_is_beyond_its_time_is_said_to_be() -> None:
    stale = Tree(ASIA, tree(ASIA, 990, HERE).apex, 990, stale=True)
    entered, _ = trees(stale)
    assert not entered.stale
    await entered.cell((ASIA.apex,), 1.0)
    assert entered.stale
