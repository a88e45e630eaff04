"""The tree of one generation as it changes in place.

The order of change (docs/decisions/007-cells-change-in-place.md). A walker reads each cell from another version of
the zone, all of them at most `overlap` apart. It misses nothing, because: what is new appears in its cell and in all
cells above in one version; what is replaced stays where it was, as something *leaving*, until no walker can rely on
a version in which it was in force; nothing ever moves but down, into a cell that is new, in the version in which the
cell above begins to point there; a bound contains whatever is in the cells below, leaving or not; and a cell that
nothing points to any more is served until no walker can know of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from registry.errors import RegionError
from registry.geometry.cell import MAX_DEPTH, Address, CellRecord
from registry.geometry.placing import Places
from registry.geometry.region import Region
from registry.geometry.summary import Faces, contains, extent, joined, recounted, renewed, widened
from registry.geometry.tree import build_tree

LEAVING = "~"  # the id of what is leaving; no network's region may have it
FANOUT = 16
WORN_LEAST = 512

Cells = dict[Address, tuple[CellRecord, ...]]
Shown = tuple[CellRecord, ...] | None  # None: there is no such cell


@dataclass(frozen=True, slots=True)
class Room:
    """capacity: regions of a new leaf cell. records: what a cell may hold before it splits."""

    capacity: int
    records: int

    @property
    def pointers(self) -> int:
        """Children of a cell beyond which it takes no more."""
        return self.records * 3 // 4


@dataclass(slots=True)
class _Leaving:
    """A record that has been replaced. since: when it was published as such (monotonic seconds), None before."""

    record: CellRecord
    since: float | None = None


class LivingTree:
    """cells: by address, the root at (); each tuple is replaced, never changed.

    One thread at a time. Changes gather until `publish` says that they have been published.
    """

    def __init__(self, cells: Mapping[Address, tuple[CellRecord, ...]], room: Room, overlap_s: float) -> None:
        """Take over whole cells, as `build_tree` makes them or as they were published.

        Every leaf record is taken for what its network holds now. Cells that nothing points to are retired.
        """
        self.cells: Cells = dict(cells)
        self._room = room
        self._overlap_s = overlap_s
        self._totals: dict[Address, dict[str, int]] = {}  # of what is in a cell and below
        self._moved: dict[Address, dict[str, int]] = {}  # what they lack, until cells are settled
        self._live: dict[str, dict[str, Address]] = {}
        self._leaving: dict[tuple[Address, str], _Leaving] = {}
        self._retired: dict[Address, float | None] = {}
        self._next: dict[Address, int] = {}
        self._places = Places()
        self._changed: dict[Address, Shown] = {}  # with what was published last
        self._touched: dict[Address, list[CellRecord]] = {}  # with what is new in them
        self._thinned: set[Address] = set()
        self._last: dict[Address, tuple[CellRecord, ...]] = {}  # of cells that have become empty
        self._extents: dict[int, Faces] = {}  # while cells are settled
        self._take_over()
        self._built = sum(map(len, self._live.values()))
        self._came_and_went = 0

    def _take_over(self) -> None:
        reached: set[Address] = {()}
        for address in sorted(self.cells, key=len):
            if address:
                self._next[address[:-1]] = max(self._next.get(address[:-1], 0), address[-1] + 1)
            if address not in reached:
                self._retired[address] = None
                continue
            for record in self.cells[address]:
                if record.child is not None:
                    reached.add(record.child)
                elif record.region.id == LEAVING:
                    self._leaving[address, owner(record)] = _Leaving(record)
                else:
                    self._live.setdefault(owner(record), {})[record.region.id] = address
        if reached - self.cells.keys():
            raise RegionError(f"{len(reached - self.cells.keys())} cells are pointed to and are not there")
        for address in sorted(reached, key=len, reverse=True):
            self._total(address)

    @property
    def worn(self) -> bool:
        """Whether twice as many regions came or went as there were at first: then a new tree is the better one."""
        return self._came_and_went > 2 * max(self._built, WORN_LEAST)

    @property
    def empty(self) -> bool:
        """Whether nobody covers anything, nor did a short while ago."""
        return not self.cells[()]

    def regions(self) -> Iterator[CellRecord]:
        """What the networks hold now, in no particular order."""
        for network, held in self._live.items():
            for name, address in held.items():
                yield self._find(address, network, name)

    def networks(self) -> Iterable[str]:
        """Networks with regions in force."""
        return [network for network, held in self._live.items() if held]

    def held(self, network: str) -> list[CellRecord]:
        """What one network holds now."""
        return [self._find(address, network, name) for name, address in self._live.get(network, {}).items()]

    def cover(self, network: str, records: Sequence[CellRecord]) -> None:
        """What points to the network is this from now on. Raises RegionError where a cell cannot take more."""
        live = self._live.setdefault(network, {})
        names = {record.region.id for record in records}
        for name in [name for name in live if name not in names]:
            self._leave(live.pop(name), network, name)
        crowded: dict[Address, None] = {}
        for record in records:
            address = live.get(record.region.id)
            if address is not None:
                old = self._find(address, network, record.region.id)
                if _grown(record.region, old.region):
                    same = _same(record.region, old.region) and record.lapsed == old.lapsed
                    self._swap(address, old, record, same)
                    continue
                self._leave(address, network, record.region.id)
            crowded[self._insert(record)] = None
        for address in crowded:
            self._divide(address)
        self._settle()

    def forget(self, network: str) -> None:
        """The network is enrolled no more: what it held goes at once, as nobody may rely on it."""
        for name, address in self._live.pop(network, {}).items():
            self._remove(address, self._find(address, network, name))
        for key in [key for key in self._leaving if key[1] == network]:
            self._remove(key[0], self._leaving.pop(key).record)
        self._settle()

    def let_go(self, now: float) -> None:
        """Remove what has been leaving for long enough. now: monotonic seconds."""
        for key in [key for key, each in self._leaving.items() if self._over(each.since, now)]:
            self._remove(key[0], self._leaving.pop(key).record)
        self._settle()
        for address in [address for address, since in self._retired.items() if self._over(since, now)]:
            del self._retired[address]
            self._changed.setdefault(address, self.cells.pop(address))

    def due(self) -> float:
        """When `let_go` has something to do (monotonic seconds); infinite where nothing is leaving."""
        times = [each.since for each in self._leaving.values()] + list(self._retired.values())
        return min((since for since in times if since is not None), default=float("inf")) + self._overlap_s

    def changes(self) -> Iterator[tuple[Address, Shown, Shown]]:
        """The cells that differ from what was published last: address, their records then, their records now."""
        for address, shown in self._changed.items():
            yield address, shown, self.cells.get(address)

    def publish(self, now: float) -> None:
        """All changes have been published at `now`; the time of what has begun to leave counts from here."""
        self._changed.clear()
        for each in self._leaving.values():
            each.since = now if each.since is None else each.since
        for address, since in self._retired.items():
            self._retired[address] = now if since is None else since

    def _over(self, since: float | None, now: float) -> bool:
        return since is not None and now >= since + self._overlap_s

    def _find(self, address: Address, network: str, name: str) -> CellRecord:
        for record in self.cells[address]:
            if record.child is None and record.region.id == name and owner(record) == network:
                return record
        raise KeyError((address, network, name))

    def _put(self, address: Address, records: tuple[CellRecord, ...]) -> None:
        self._changed.setdefault(address, self.cells[address])
        self.cells[address] = records
        self._touched.setdefault(address, [])

    def _swap(self, address: Address, old: CellRecord, new: CellRecord, same: bool) -> None:
        """Put `new` in the place of `old`. same: nothing of it shows."""
        records = tuple([new if record is old else record for record in self.cells[address]])
        if same:
            self.cells[address] = records
            return
        self._put(address, records)
        self._touched[address].append(new)
        if new.child is not None:
            self._places.moved(address, new.child, new.region, self._extent(new.region))
            return
        self._count(address, old, -1)
        self._count(address, new, 1)

    def _count(self, address: Address, record: CellRecord, sign: int) -> None:
        """A leaf record came (1) or went (-1)."""
        moved = self._moved.setdefault(address, {})
        for action, n in record.region.counts.items():
            moved[action] = moved.get(action, 0) + sign * n

    def _insert(self, record: CellRecord) -> Address:
        """Put a new region into the cell where it fits best; returns which."""
        address: Address = ()
        faces = extent(record.region)
        while (found := self._places.best(address, self.cells[address], record.region, faces)) is not None:
            children, child = found
            full = len(self.cells[child]) >= self._room.records and self._is_leaf(child)
            if full and children <= min(self._room.pointers, self._room.records - 4):
                break
            address = child
        self._put(address, (*self.cells[address], record))
        self._touched[address].append(record)
        self._extents[id(record.region)] = faces
        self._count(address, record, 1)
        self._live[owner(record)][record.region.id] = address
        self._came_and_went += 1
        return address

    def _is_leaf(self, address: Address) -> bool:
        return all(record.child is None for record in self.cells[address])

    def _leave(self, address: Address, network: str, name: str) -> None:
        """A region is in force no more, and stays for those who do not know that yet.

        What leaves a cell for one network is one record: enough to be asked for, and counted as little as can be.
        """
        record = self._find(address, network, name)
        before = self._leaving.get((address, network))
        regions = [record.region] if before is None else [before.record.region, record.region]
        leaving = replace(record, region=joined(regions, LEAVING))
        gone = (record,) if before is None else (record, before.record)
        kept = [each for each in self.cells[address] if not any(each is other for other in gone)]
        self._put(address, (*kept, leaving))
        for each in gone:
            self._count(address, each, -1)
        self._count(address, leaving, 1)
        self._leaving[address, network] = _Leaving(leaving)
        self._came_and_went += 1

    def _remove(self, address: Address, record: CellRecord) -> None:
        before = self.cells[address]
        self._put(address, tuple(each for each in before if each is not record))
        if record.child is None:
            self._count(address, record, -1)
        else:
            self._places.forget(address)
        self._thinned.add(address)
        if not self.cells[address]:
            self._last[address] = before

    def _divide(self, address: Address) -> None:
        """Make new cells below one that holds too much; what it lists goes down into them."""
        records = self.cells[address]
        if len(records) <= self._room.records:
            return
        pointers = [record for record in records if record.child is not None]
        listed = [record for record in records if record.child is None]
        capacity = min(self._room.capacity, max(1, len(listed) * 2 // 3))
        fanout = max(2, min(FANOUT, self._room.records - len(pointers)))
        below = build_tree(listed, capacity, fanout)
        if len(address) + max(map(len, below)) > MAX_DEPTH:
            raise RegionError(f"the cell {address} holds {len(records)} records and lies too deep to be divided")
        first = self._next.get(address, 0)

        def place(found: Address) -> Address:
            return (*address, first + found[0], *found[1:]) if found else address

        for found, cell in below.items():
            renamed = tuple(_renamed(record, place) for record in cell)
            if found:
                self._next[place(found)[:-1]] = max(self._next.get(place(found)[:-1], 0), place(found)[-1] + 1)
                self.cells[place(found)] = renamed
                self._changed[place(found)] = None
                self._move(renamed, address, place(found))
            else:
                new = [record for record in renamed if record.child is not None]
                self._put(address, (*pointers, *renamed))
                self._places.forget(address)
                self._touched[address] += new
        for found in sorted(filter(None, below), key=len, reverse=True):
            self._total(place(found))

    def _move(self, records: Iterable[CellRecord], old: Address, new: Address) -> None:
        for record in records:
            if record.child is not None:
                continue
            name = owner(record)
            leaving = self._leaving.get((old, name))
            if leaving is not None and leaving.record is record:
                self._leaving[new, name] = self._leaving.pop((old, name))
            else:
                self._live[name][record.region.id] = new

    def _settle(self) -> None:
        """Bring the cells above what was touched up to date, the deepest first."""
        by_depth: defaultdict[int, dict[Address, None]] = defaultdict(dict)
        for address in self._touched:
            by_depth[len(address)][address] = None
        for depth in range(max(by_depth, default=0), 0, -1):
            for address in by_depth[depth]:
                self._settle_above(address)
                by_depth[depth - 1][address[:-1]] = None
        self._settle_total(())
        self._touched.clear()
        self._thinned.clear()
        self._last.clear()
        self._extents.clear()

    def _settle_above(self, address: Address) -> None:
        above = address[:-1]
        pointer = next(record for record in self.cells[above] if record.child == address)
        records = self.cells[address]
        moved = self._settle_total(address)
        if not records:
            self._retire(address, above, pointer)
            return
        true = self._totals[address]
        lapsed = any(record.lapsed for record in records)
        new = [(each.region, self._extent(each.region)) for each in self._touched.get(address, ())]
        region = pointer.region
        if not all(contains(region, each, faces) for each, faces in new):
            region = widened(region, new, true)
        elif address in self._thinned:
            region = renewed(region, [record.region for record in records], true)
        elif moved and (counts := recounted(region, true)) is not region.counts:
            region = replace(region, counts=counts)
        if region is pointer.region and lapsed == pointer.lapsed:
            # A bound above need not contain this one, only what is in it.
            self._touched.setdefault(above, []).extend(self._touched.get(address, ()))
            return
        self._swap(above, pointer, CellRecord(region, child=address, lapsed=lapsed), same=False)
        if address in self._thinned and region is not pointer.region:
            self._thinned.add(above)

    def _settle_total(self, address: Address) -> bool:
        """Bring the cell's count up to date, and tell the cell above; whether it has changed."""
        moved = {action: n for action, n in self._moved.pop(address, {}).items() if n}
        if not moved:
            return False
        total = self._totals[address]
        above = self._moved.setdefault(address[:-1], {}) if address else {}
        for action, n in moved.items():
            above[action] = above.get(action, 0) + n
            total[action] = total.get(action, 0) + n
            if not total[action]:
                del total[action]
        return True

    def _extent(self, region: Region) -> Faces:
        """The region's faces, worked out once for all cells above it."""
        known = self._extents.get(id(region))
        if known is None:
            known = self._extents[id(region)] = extent(region)
        return known

    def _retire(self, address: Address, above: Address, pointer: CellRecord) -> None:
        """Nothing points to an empty cell; it shows what it held last until nobody can ask for it."""
        del self._totals[address]
        self.cells[address] = self._last.pop(address)
        self._retired[address] = None
        self._remove(above, pointer)

    def _total(self, address: Address) -> None:
        """Count what is in the cell and below."""
        total: dict[str, int] = {}
        for record in self.cells[address]:
            for action, n in (record.region.counts if record.child is None else self._totals[record.child]).items():
                total[action] = total.get(action, 0) + n
        self._totals[address] = total


def owner(record: CellRecord) -> str:
    """Whose region a leaf record shows: what it points to."""
    return record.network or record.apex or ""


def _renamed(record: CellRecord, place: Callable[[Address], Address]) -> CellRecord:
    if record.child is None:
        return record
    child = place(record.child)
    return CellRecord(replace(record.region, id=str(child[-1])), child=child, lapsed=record.lapsed)


def _same(new: Region, old: Region) -> bool:
    return new is old or (
        new.counts == old.counts
        and new.radius == old.radius
        and new.spread == old.spread
        and all(np.array_equal(getattr(new, axis), getattr(old, axis)) for axis in ("centre", "lo", "hi", "var"))
    )


def _grown(new: Region, old: Region) -> bool:
    """Whether `new` can stand where `old` stood: whoever relies on the one is served by the other."""
    return new is old or (new.counts.keys() >= old.counts.keys() and contains(new, old))
