"""A tree that changes in place misses nobody: whatever versions of its cells a walker puts together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import RegionError
from registry.geometry.cell import MAX_DEPTH, Address, CellRecord
from registry.geometry.living import LEAVING, LivingTree, Room
from registry.geometry.region import Bounds, Region, Vector, merge_counts
from registry.geometry.summary import contains, still_right
from registry.geometry.tree import build_tree

OVERLAP_S = 100.0
D = 2
Cells = Mapping[Address, tuple[CellRecord, ...]]


def region_of(name: str, points: Vector, counts: Mapping[str, int] | None = None) -> Region:
    centre = points.mean(axis=0)
    squared = ((points - centre) ** 2).sum(axis=1)
    return Region(
        id=name,
        counts=counts or {"yes": len(points)},
        centre=centre,
        radius=float(np.sqrt(squared.max())) * (1 + 1e-9),
        lo=points.min(axis=0),
        hi=points.max(axis=0),
        var=points.var(axis=0),
        spread=float(squared.var()),
    )


def cover(tree: LivingTree, network: str, regions: Sequence[Region], lapsed: bool) -> None:
    tree.cover(network, [CellRecord(region, network=network, lapsed=lapsed) for region in regions])


@dataclass(frozen=True)
class Version:
    """What was published at one time: the cells, and by network the packets in force, as points (n, d)."""

    at: float
    cells: Cells
    packets: Mapping[str, Sequence[tuple[Vector, str]]]


class World:
    """Networks whose packets come, go and move; the tree; every version published."""

    def __init__(self, seed: int, room: Room) -> None:
        self.random = np.random.default_rng(seed)
        self.now = 0.0
        self.packets: dict[str, list[tuple[Vector, str]]] = {}
        self.tree = LivingTree({(): ()}, room, OVERLAP_S)
        self.versions: list[Version] = []
        self.lapsed: set[str] = set()
        self.publish()

    def cover(self, network: str, amount: int, spot: float, keep: bool, lapsed: bool) -> None:
        """New packets round `spot`, with those there were where `keep`; in regions of a few each."""
        if lapsed:
            self.lapsed ^= {network}
        kept = self.packets.get(network, []) if keep else []
        actions = ("yes", "no")
        fresh = [
            (spot + self.random.normal(size=(int(self.random.integers(1, 4)), D)), actions[i % 2])
            for i in range(amount)
        ]
        self._say(network, [*kept, *fresh][:40])

    def _say(self, network: str, packets: list[tuple[Vector, str]]) -> None:
        self.packets[network] = packets
        regions = [region_of(f"r{i}", points, {action: len(points)}) for i, (points, action) in enumerate(packets)]
        cover(self.tree, network, regions, network in self.lapsed)

    def turn(self, network: str) -> None:
        """The same places, and another action."""
        turned = [(points, "no" if action == "yes" else "yes") for points, action in self.packets.get(network, [])]
        self._say(network, turned)

    def forget(self, network: str) -> None:
        self.packets.pop(network, None)
        self.versions = [
            Version(each.at, each.cells, {name: held for name, held in each.packets.items() if name != network})
            for each in self.versions
        ]
        self.tree.forget(network)

    def publish(self) -> None:
        self.tree.let_go(self.now)
        self.tree.publish(self.now)
        self.versions.append(Version(self.now, dict(self.tree.cells), dict(self.packets)))

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def walk(self) -> None:
        """A walker that reads each cell from any version; as_of is the least of those. It must not miss anybody."""
        first = int(self.random.integers(len(self.versions)))
        # A version is what is served until the next: a walker may rely on it until that one is `overlap` old.
        window = [each for each in self.versions[first:] if each.at < self.versions[first].at + OVERLAP_S]
        as_of = window[0]
        question, radius = self.random.normal(size=D) * 4, float(self.random.choice([0.0, 0.3, 2.0]))
        last = {id(each) for held in window[-1].packets.values() for each in held}
        packets = [each for held in as_of.packets.values() for each in held]
        gone = [each for each in packets if id(each) not in last] or packets
        if gone and self.random.random() < 0.8:
            question = gone[int(self.random.integers(len(gone)))][0][0]
        asked: set[tuple[str, str]] = set()
        unresolved = False
        waiting: list[Address] = [()]
        while waiting:
            address = waiting.pop()
            draw = self.random.random()
            version = as_of if draw < 0.3 else window[-1] if draw < 0.8 else self.random.choice(np.array(window))
            records = version.cells.get(address, ())
            unresolved |= not records
            if not records:
                continue
            near = Bounds.of([record.region for record in records]).lower(question) <= radius
            for record, reached in zip(records, near, strict=True):
                if reached and record.child is not None:
                    waiting.append(record.child)
                elif reached:
                    asked |= {(str(record.network), action) for action in record.region.counts}
        if unresolved:
            return
        for network, held in as_of.packets.items():
            for points, action in held:
                inside = (((points - question) ** 2).sum(axis=1) <= radius**2).any()
                assert not inside or (network, action) in asked, (network, action, as_of.at)


def leaves(cells: Cells, address: Address) -> Iterator[CellRecord]:
    for record in cells[address]:
        if record.child is None:
            yield record
        else:
            yield from leaves(cells, record.child)


def check(tree: LivingTree, room: Room) -> None:
    """What holds in every single version."""
    reached: set[Address] = {()}
    for address in sorted(tree.cells, key=len):
        records = tree.cells[address]
        if address not in reached:
            continue
        assert len(address) <= MAX_DEPTH
        assert len(records) <= room.records
        assert records or not address
        for record in records:
            assert (record.child is None) != (record.network is None)
            if record.child is None:
                continue
            assert record.child[:-1] == address
            assert record.region.id == str(record.child[-1])
            reached.add(record.child)
            below = tree.cells[record.child]
            assert record.lapsed == any(each.lapsed for each in below)
            bounds = record.region
            assert still_right(
                bounds.counts, merge_counts(each.region.counts for each in leaves(tree.cells, record.child))
            )
            for each in leaves(tree.cells, record.child):
                assert bounds.counts.keys() >= each.region.counts.keys()
                assert each.region.id == LEAVING or contains(bounds, each.region)


MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("cover"),
            st.sampled_from("abcd"),
            st.integers(0, 12),
            st.sampled_from([-5.0, 0.0, 0.0, 3.0]),
            st.booleans(),
            st.integers(0, 5).map(lambda n: n == 0),
        ),
        st.tuples(st.just("advance"), st.sampled_from([1.0, 7.0, 45.0, OVERLAP_S])),
        st.tuples(st.just("forget"), st.sampled_from("abcd")),
        st.tuples(st.just("turn"), st.sampled_from("abcd")),
    ),
    max_size=30,
)


@settings(max_examples=120, deadline=None)
@given(MOVES, st.integers(0, 2**32 - 1), st.sampled_from([Room(2, 3), Room(3, 6), Room(4, 12)]))
def test_no_mixture_of_versions_misses_anybody(moves: list[tuple[object, ...]], seed: int, room: Room) -> None:
    world = World(seed, room)
    for name, *rest in moves:
        getattr(world, str(name))(*rest)
        if name != "advance":
            check(world.tree, room)
            world.publish()
            world.advance(1.0)
        else:
            world.publish()
            world.advance(1.0)
        for _ in range(12):
            world.walk()
    world.advance(3 * OVERLAP_S)
    world.publish()
    world.advance(OVERLAP_S)
    world.publish()
    check(world.tree, room)
    assert not any(record.region.id == LEAVING for cell in world.tree.cells.values() for record in cell)
    held = {(str(each.network), each.region.id) for each in world.tree.regions()}
    assert held == {(name, f"r{i}") for name, packets in world.packets.items() for i in range(len(packets))}
    listed = [record for cell in world.tree.cells.values() for record in cell if record.network is not None]
    assert len(listed) == len(held), "each is in one cell, and no cell is left over"


ROOM = Room(16, 32)


def points_at(*place: float) -> Vector:
    return np.array([place, place]) + np.array([[0.0] * len(place), [0.01] * len(place)])


def built(amount: int, d: int = 5, seed: int = 1) -> LivingTree:
    random = np.random.default_rng(seed)
    leaves = [
        CellRecord(
            region_of(f"r{i // 7}", random.normal(size=d) + random.normal(size=(3, d)) * 0.3), network=f"n{i % 7}"
        )
        for i in range(amount)
    ]
    tree = LivingTree(build_tree(leaves), ROOM, OVERLAP_S)
    tree.publish(0.0)
    return tree


def found(tree: LivingTree, network: str) -> list[Region]:
    return [each.region for each in leaves(tree.cells, ()) if each.network == network]


def test_every_bound_above_holds_what_comes_into_a_built_tree() -> None:
    tree = built(600)
    random = np.random.default_rng(2)
    for turn in range(40):
        come = [region_of(f"x{i}", random.normal(size=5) * 1.2 + random.normal(size=(3, 5)) * 0.2) for i in range(8)]
        cover(tree, f"new{turn}", come, lapsed=False)
    check(tree, ROOM)


def test_what_changes_twice_leaves_after_the_last_change() -> None:
    tree = LivingTree({(): ()}, ROOM, OVERLAP_S)
    for place in (0.0, 1.0, 2.0):
        cover(tree, "a", [region_of("r", points_at(place, 0.0))], lapsed=False)
        tree.let_go(place * 60.0)
        tree.publish(place * 60.0)
    middle = region_of("r", points_at(1.0, 0.0))
    tree.let_go(120.0 + OVERLAP_S - 1.0)
    assert any(contains(region, middle) for region in found(tree, "a"))
    assert len(found(tree, "a")) == 2, "what leaves one cell is one record"
    assert tree.due() == 120.0 + OVERLAP_S
    tree.let_go(120.0 + OVERLAP_S)
    assert [region.id for region in found(tree, "a")] == ["r"]
    assert tree.due() == float("inf")


def test_the_time_of_leaving_counts_from_its_publication() -> None:
    tree = LivingTree({(): ()}, ROOM, OVERLAP_S)
    cover(tree, "a", [region_of("r", points_at(0.0, 0.0))], lapsed=False)
    tree.publish(0.0)
    cover(tree, "a", [region_of("r", points_at(9.0, 0.0))], lapsed=False)
    tree.let_go(5 * OVERLAP_S)
    assert len(found(tree, "a")) == 2
    tree.publish(5 * OVERLAP_S)
    tree.let_go(6 * OVERLAP_S - 1.0)
    assert len(found(tree, "a")) == 2


def test_a_region_that_only_grows_does_so_in_its_place() -> None:
    tree = built(100)
    points = points_at(0.0, 0.0, 0.0, 0.0, 0.0)
    cover(tree, "a", [region_of("r", points)], lapsed=False)
    grown = region_of("r", points, {"yes": 9, "no": 1})
    tree.publish(1.0)
    cover(tree, "a", [grown], lapsed=False)
    assert found(tree, "a") == [grown]
    again = region_of("r", points, {"yes": 9, "no": 1})
    tree.publish(2.0)
    cover(tree, "a", [again], lapsed=False)
    assert list(tree.changes()) == [], "the same once more changes nothing"
    assert found(tree, "a") == [again]


def test_a_hundred_and_one_equal_regions_are_divided() -> None:
    tree = LivingTree({(): ()}, ROOM, OVERLAP_S)
    points = points_at(1.0, 1.0)
    cover(tree, "a", [region_of(f"r{i}", points) for i in range(101)], lapsed=False)
    check(tree, ROOM)
    assert len(found(tree, "a")) == 101
    for i in range(101):
        cover(tree, f"b{i}", [region_of("r", points)], lapsed=False)
    check(tree, ROOM)


def test_regions_that_come_in_order_do_not_make_the_tree_deep() -> None:
    tree = LivingTree({(): ()}, ROOM, OVERLAP_S)
    for i in range(1500):
        cover(tree, f"n{i}", [region_of("r", points_at(float(i), 0.0))], lapsed=False)
    check(tree, ROOM)
    assert max(map(len, tree.cells)) <= 5
    assert tree.worn


def test_an_empty_cell_is_served_until_nobody_can_ask_for_it() -> None:
    tree = LivingTree({(): ()}, Room(2, 3), OVERLAP_S)
    cover(tree, "a", [region_of(f"r{i}", points_at(float(i), 0.0)) for i in range(12)], lapsed=False)
    cover(tree, "b", [region_of("r", points_at(0.0, 0.0))], lapsed=False)
    tree.publish(0.0)
    there = set(tree.cells)
    assert len(there) > 3
    tree.forget("a")
    tree.publish(1.0)
    assert not found(tree, "a")
    tree.let_go(OVERLAP_S)
    assert set(tree.cells) == there
    assert all(tree.cells.values()), "whoever still asks for a cell finds one"
    tree.let_go(1.0 + OVERLAP_S)
    assert {address for address, _, now in tree.changes() if now is None} == there - set(tree.cells)
    assert len(tree.cells) < len(there) / 2
    check(tree, Room(2, 3))
    tree.forget("b")
    assert tree.empty


def test_most_changes_stop_below_the_root() -> None:
    tree = built(3000)
    random = np.random.default_rng(4)
    rooted = 0
    for turn in range(100):
        network = f"n{turn % 7}"
        held = tree.held(network)
        moved = held[int(random.integers(len(held)))].region
        other = region_of(moved.id, moved.centre + random.normal(size=(3, 5)) * 0.3)
        cover(tree, network, [other if each.region is moved else each.region for each in held], lapsed=False)
        rooted += () in {address for address, _, _ in tree.changes()}
        tree.let_go(turn * 50.0)
        tree.publish(turn * 50.0)
    check(tree, ROOM)
    assert rooted < 30


def test_a_lapse_shows_in_all_cells_above_and_goes_again() -> None:
    tree = built(300)
    regions = [record.region for record in tree.held("n3")]
    cover(tree, "n3", regions, lapsed=True)
    check(tree, ROOM)
    assert all(record.lapsed for record in tree.held("n3"))
    assert any(record.lapsed for record in tree.cells[()])
    cover(tree, "n3", regions, lapsed=False)
    check(tree, ROOM)
    assert not any(record.lapsed for cell in tree.cells.values() for record in cell)
    assert len(found(tree, "n3")) == len(regions), "a flag moves nothing"


def test_cells_that_are_missing_are_found_out() -> None:
    tree = built(300)
    cells = {address: cell for address, cell in tree.cells.items() if len(address) != 1}
    with pytest.raises(RegionError, match="not there"):
        LivingTree(cells, ROOM, OVERLAP_S)


def test_a_bound_may_hold_what_the_one_above_it_does_not() -> None:
    """Two balls round the same: the outer one is the tighter, as when it was made from the packets' own centre."""
    points = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    leaf = region_of("r", points)
    outer, inner = (replace(leaf, id="0", radius=radius, counts={"yes": 6}) for radius in (1.01, 1.5))
    cells = {
        (): (CellRecord(outer, child=(0,)),),
        (0,): (CellRecord(inner, child=(0, 0)),),
        (0, 0): (CellRecord(leaf, network="a"),),
    }
    tree = LivingTree(cells, ROOM, OVERLAP_S)
    corner = region_of("r", np.array([[0.97, 0.97], [0.98, 0.98]]), {"yes": 1})
    cover(tree, "b", [corner], lapsed=False)
    check(tree, ROOM)
    assert contains(tree.cells[()][0].region, corner)
