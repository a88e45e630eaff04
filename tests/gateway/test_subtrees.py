"""Other registries run parts of the domain: a complete answer is still the brute-force answer, and no record leads the
walk in a circle, too deep, to where it may not go, or makes it rely on more than the parent has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exactness import ACTIONS, check_against_truth, cluster

from benchmarks.simulated import GENERATION, NAMING, Holder, Simulated
from gateway.fetching.resolver import Tree
from gateway.fetching.trees import check
from gateway.planning.cell import Cell, View
from gateway.planning.path import Path, address_of, apex_of, shown
from gateway.planning.resolution import Walk
from registry.errors import LookupFailed
from registry.geometry.cell import MAX_DEPTH, CellRecord, Naming
from registry.geometry.region import Bounds, Region, squared_distances
from registry.geometry.statement import holds, statement
from registry.geometry.tree import build_tree
from registry.zones.record import decode_cell, encode_cell
from registry.zones.texts import ApexText

ASIA, JAPAN = (NAMING.beyond(f"simulated.{origin}.kindred.internal.") for origin in ("asia", "japan.asia"))
EVERYWHERE = np.array([np.inf])


class Divided(Simulated):
    """The same federation with its networks at several registries, as their names tell. parents: by registry.

    shrink: by this factor a parent's record of a subtree is smaller than what the subtree serves.
    """

    def __init__(
        self,
        holders: Sequence[Holder],
        parents: Mapping[Naming, Naming],
        margin: float = 0.0,
        shrink: float = 1.0,
    ) -> None:
        self.parents, self.margin, self.shrink = parents, margin, shrink
        self.stated: dict[str, Region] = {}
        super().__init__(holders, cluster, ACTIONS)

    def _plant(self, d: int) -> None:
        parents, shrink = self.parents, self.shrink
        index = sorted(ACTIONS)
        leaves: dict[Naming, list[CellRecord]] = {naming: [] for naming in (NAMING, *parents)}
        for record in self.leaves:
            naming, name = NAMING.owner(str(record.network))
            leaves[naming].append(replace(record, network=name))
        trees = {}
        for naming in [*reversed(list(parents)), NAMING]:  # children first
            if naming in trees or not leaves[naming]:
                continue
            cells = {
                address: decode_cell(encode_cell(records, naming, GENERATION, index), naming, GENERATION, index, d)
                for address, records in build_tree(leaves[naming]).items()
            }
            trees[naming] = cells
            if naming in parents:
                region = statement("all", [record.region for record in cells[()]], self.margin)
                region = replace(
                    region,
                    radius=region.radius * shrink,
                    lo=region.centre + (region.lo - region.centre) * shrink,
                    hi=region.centre + (region.hi - region.centre) * shrink,
                )
                record = CellRecord(region, apex=naming.apex)
                wire = encode_cell([record], parents[naming], GENERATION, index)
                self.stated[naming.apex] = decode_cell(wire, parents[naming], GENERATION, index, d)[0].region
                leaves[parents[naming]].append(record)
        self._place((), NAMING, trees, d)

    def _place(self, at: Path, naming: Naming, trees: dict, d: int) -> None:
        for address, records in trees[naming].items():
            self.cells[*at, *address] = Cell(records, d)
            for record in records:
                if record.apex is not None:
                    self._place((*at, *address, record.apex), naming.beyond(record.apex), trees, d)


@st.composite
def divisions(draw: st.DrawFn, shrink: float = 1.0) -> tuple[Divided, np.random.Generator]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.integers(1, 5))
    grid = draw(st.sampled_from([None, 0.5]))
    holders = []
    for number in range(draw(st.integers(3, 9))):
        naming = (NAMING, ASIA, JAPAN)[draw(st.integers(0, 2)) if number else 2]
        name = f"n{number}" if naming == NAMING else naming.network(f"n{number}")
        n = draw(st.integers(1, 60))
        points = random.normal(size=(n, d)) + draw(st.sampled_from([0.0, 4.0])) * random.normal(size=d)
        if grid:
            points = np.round(points / grid) * grid
        holders.append(Holder(name, points.astype(np.float32), random.choice(ACTIONS, size=n).tolist()))
    return Divided(holders, {ASIA: NAMING, JAPAN: ASIA}, draw(st.sampled_from([0.0, 0.1])), shrink), random


@settings(max_examples=30, deadline=None)
@given(divisions(), st.integers(1, 30), st.sampled_from(["action", "all"]))
def test_however_it_is_divided_exact_is_brute_force(
    made: tuple[Divided, np.random.Generator], k: int, per: str
) -> None:
    federation, random = made
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    asked = federation.ask(query, k, per)
    assert asked.certificate.neighbours_complete
    assert [(each.network, each.packet.node) for each in asked.neighbours] == federation.truth(query, k, per)


@settings(max_examples=25, deadline=None)
@given(divisions(), st.integers(1, 30), st.data())
def test_a_subtree_that_cannot_be_entered_bounds_the_certificate(
    made: tuple[Divided, np.random.Generator], k: int, data: st.DataObject
) -> None:
    federation, random = made
    entrances = sorted((path for path in federation.cells if path and isinstance(path[-1], str)), key=str)
    unopened = frozenset(data.draw(st.sets(st.sampled_from(entrances), min_size=1)))
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    asked = federation.ask(query, k, "action", unopened=unopened)
    check_against_truth(federation, query, k, "action", asked)
    assert {each.cell for each in asked.certificate.missing} <= {shown(path) for path in unopened}
    assert all(each.reason == "simulated" for each in asked.certificate.missing)


@settings(max_examples=30, deadline=None)
@given(divisions(shrink=0.6), st.integers(1, 30))
def test_what_lies_beyond_the_parents_bound_does_not_spoil_what_lies_within(
    made: tuple[Divided, np.random.Generator], k: int
) -> None:
    """The registries below serve more than their parents say: packets beyond are not covered, all others are."""
    federation, random = made
    query = random.normal(size=next(iter(federation.holders.values())).fingerprints.shape[1]).astype(np.float32)
    asked = federation.ask(query, k, "all")
    assert asked.certificate.neighbours_complete
    got = [(each.network, each.packet.node) for each in asked.neighbours]
    farthest = asked.neighbours[-1].distance2
    for name, holder in federation.holders.items():
        naming, _ = NAMING.owner(name)
        bounds = [federation.stated[ASIA.apex]] if naming != NAMING and ASIA.apex in federation.stated else []
        bounds += [federation.stated[JAPAN.apex]] if naming == JAPAN else []
        covered = np.ones(len(holder.fingerprints), dtype=bool)
        for bound in bounds:
            covered &= bound.contains(holder.fingerprints, next(iter(bound.counts)))
        distances = squared_distances(holder.fingerprints.astype(np.float64), query.astype(np.float64))
        for row in np.flatnonzero(covered & (distances < farthest)).tolist():
            assert (name, row.to_bytes(4, "big")) in got


def region(place: float, name: str = "r", actions: Sequence[str] = ("a",)) -> Region:
    centre = np.full(2, place)
    return Region(name, dict.fromkeys(actions, 5), centre, 1.0, centre - 0.5, centre + 0.5, np.full(2, 0.1), 0.1)


def opened(walk: Walk, path: Path, *records: CellRecord) -> None:
    walk.opened([(path, Cell(records, 2))])


def walk_from_zero() -> Walk:
    return Walk(np.zeros(2), ("",), naming=NAMING)


def refused(walk: Walk) -> list[str | None]:
    assert not walk.wanted(EVERYWHERE)
    return [walk.reason(row) for row in np.flatnonzero(walk.failed).tolist()]


def test_a_circle_is_refused() -> None:
    walk = walk_from_zero()
    opened(walk, (), CellRecord(region(1.0), apex=ASIA.apex))
    opened(walk, (ASIA.apex,), CellRecord(region(1.0), apex=NAMING.apex), CellRecord(region(1.0), apex=ASIA.apex))
    assert refused(walk) == [f"it leads in a circle, to {apex} again" for apex in (NAMING.apex, ASIA.apex)]


def test_a_longer_circle_is_refused() -> None:
    walk = walk_from_zero()
    opened(walk, (), CellRecord(region(1.0), apex=ASIA.apex))
    opened(walk, (ASIA.apex,), CellRecord(region(1.0), child=(0,)))
    opened(walk, (ASIA.apex, 0), CellRecord(region(1.0), apex=JAPAN.apex))
    opened(walk, (ASIA.apex, 0, JAPAN.apex), CellRecord(region(1.0), apex=ASIA.apex))
    assert refused(walk) == [f"it leads in a circle, to {ASIA.apex} again"]


def test_a_second_way_into_a_tree_is_refused() -> None:
    walk = walk_from_zero()
    opened(walk, (), CellRecord(region(1.0), apex=ASIA.apex), CellRecord(region(1.0), apex=JAPAN.apex))
    opened(walk, (JAPAN.apex,), CellRecord(region(1.0), network="n"))
    opened(walk, (ASIA.apex,), CellRecord(region(1.0), apex=JAPAN.apex))
    assert refused(walk) == [f"two registries lead to {JAPAN.apex}"]


@pytest.mark.parametrize("late", [False, True])
def test_several_records_of_one_registry_lead_into_a_tree_that_is_opened_once(late: bool) -> None:
    """What a registry has replaced stays for a while, maybe in another cell: what is there may be behind either."""
    walk = walk_from_zero()
    far, near = CellRecord(region(9.0, "r1"), apex=ASIA.apex), CellRecord(region(3.0, "r2"), apex=ASIA.apex)
    below = CellRecord(region(1.0), network="n"), CellRecord(region(20.0), child=(0,))
    opened(walk, (), far, CellRecord(region(2.0), child=(4,)), *([] if late else [near]))
    assert walk.wanted(EVERYWHERE) == [(4,), (ASIA.apex,)]
    opened(walk, (ASIA.apex,), *below)
    if late:
        before = walk.lower[-2]
        opened(walk, (4,), near)
        [row] = np.flatnonzero(walk.network == 0)
        assert walk.lower[row] < before
    [row] = np.flatnonzero(walk.network == 0)
    [beside] = View(np.zeros(2)).bounds(Cell([near], 2).geometry)[0]
    assert walk.lower[row] == beside
    assert (ASIA.apex,) not in walk.wanted(EVERYWHERE)
    assert not walk.failed.any()
    opened(walk, (ASIA.apex, 0), CellRecord(region(1.0), network="m"))
    assert walk.lower[-1] > walk.lower[row]  # bounded by the cell above it


def test_a_tree_that_could_not_be_entered_is_unresolved_behind_each_record_that_leads_there() -> None:
    walk = walk_from_zero()
    opened(walk, (), CellRecord(region(1.0, "r1"), apex=ASIA.apex), CellRecord(region(5.0), child=(4,)))
    walk.could_not_open((ASIA.apex,), "away")
    opened(walk, (4,), CellRecord(region(2.0, "r2"), apex=ASIA.apex))
    assert refused(walk) == ["away", "away"]


def test_all_registries_together_are_no_deeper_than_one_may_be() -> None:
    walk = walk_from_zero()
    path: Path = ()
    names = [NAMING.beyond(f"simulated.r{i}.kindred.internal.").apex for i in range(MAX_DEPTH)]
    for i in range(MAX_DEPTH):
        step: int | str = 0 if i % 2 else names[i]
        following: Path = (*path, step)
        below = (0,) if step == 0 else ()
        opened(walk, path, CellRecord(region(1.0), **({"child": below} if below else {"apex": names[i]})))
        assert walk.wanted(EVERYWHERE) == [following]
        path = following
    opened(walk, path, CellRecord(region(1.0), apex=ASIA.apex), CellRecord(region(1.0), child=(0, 0)))
    assert refused(walk) == [f"it lies deeper than {MAX_DEPTH} cells"] * 2


def test_what_is_refused_bounds_the_certificate_and_is_named() -> None:
    holder = Holder("n", np.full((4, 2), 3.0, dtype=np.float32), ["a"] * 4)
    federation = Divided([holder], {})
    records = [*federation.cells[()].records, CellRecord(region(1.0), apex=NAMING.apex)]
    federation.cells[()] = Cell(records, 2)
    certificate = federation.ask(np.zeros(2, dtype=np.float32), 2, "all").certificate
    assert not certificate.neighbours_complete
    [missing] = certificate.missing
    assert (missing.disposition, missing.cell) == ("unresolved", NAMING.apex)
    assert missing.reason == f"it leads in a circle, to {NAMING.apex} again"
    assert certificate.complete_within == missing.lower_bound
    assert 0 < missing.lower_bound < np.sqrt(2.0)


def test_a_root_beyond_its_parents_bound_is_marked_and_not_relied_upon() -> None:
    walk = walk_from_zero()
    opened(walk, (), CellRecord(region(5.0), apex=ASIA.apex))
    [parent] = walk.lower
    opened(walk, (ASIA.apex,), CellRecord(region(0.0, "near"), network="n"), CellRecord(region(5.0), network="m"))
    assert walk.outside == {ASIA.apex}
    assert walk.lower.tolist() == [parent] * 3
    assert walk.networks == [ASIA.network("n"), ASIA.network("m")]


@pytest.mark.parametrize("change", ["grown", "moved", "another action"])
def test_contains_sees_what_reaches_beyond(change: str) -> None:
    inside = Cell([CellRecord(region(1.0, "r1"), network="n"), CellRecord(region(2.0, "r2"), network="n")], 2)
    stated = statement("all", [record.region for record in inside.records])
    assert holds(stated, inside.actions, Bounds.of([record.region for record in inside.records]))
    other = {
        "grown": replace(region(2.0), hi=np.full(2, 2.6)),
        "moved": region(2.2),
        "another action": region(2.0, actions=("b",)),
    }[change]
    beyond = Cell([inside.records[0], CellRecord(other, network="n")], 2)
    assert not holds(stated, beyond.actions, Bounds.of([record.region for record in beyond.records]))


def tree(naming: Naming, **changes: object) -> Tree:
    fields = {"generation": 3, "space": bytes(32), "schema": bytes(32), "dimension": 2, "actions": ("a",)}
    return Tree(naming, ApexText(**{**fields, **changes}), 1_800_000_000)  # type: ignore[arg-type]


def test_a_subtree_that_names_its_parent_may_be_entered() -> None:
    check(tree(NAMING), tree(ASIA, parent=NAMING.apex))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parent": None}, "not its subtree: it names no parent"),
        ({"parent": JAPAN.apex}, f"not its subtree: it names {JAPAN.apex}"),
        ({"space": b"x" * 32}, "another space"),
        ({"dimension": 3}, "another space"),
        ({"generation": 0}, "no generation"),
    ],
)
def test_a_tree_that_may_not_be_entered_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(LookupFailed, match=says):
        check(tree(NAMING), tree(ASIA, **{"parent": NAMING.apex, **changes}))


def test_paths() -> None:
    path: Path = (3, ASIA.apex, 0, 7)
    assert (apex_of(path), address_of(path), shown(path)) == (ASIA.apex, (0, 7), f"7.0.{ASIA.apex}")
    assert (apex_of((3, 0)), address_of((3, 0)), shown((3, 0))) == (None, (3, 0), "0.3")
    assert (address_of((ASIA.apex,)), shown((ASIA.apex,)), shown(())) == ((), ASIA.apex, "")
