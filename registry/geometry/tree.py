"""The tree over all regions of a domain: cells whose ball and box hold everything below them.

An SR-tree in spirit (Katayama and Satoh, SIGMOD 1997), built whole from the top: a cell's regions are divided
in two (registry.geometry.split) until there are `fanout` parts, and each part becomes a child. Parts so small that the
cell has room for their regions are listed in it directly, which spares a lookup: a cell may hold inner and
leaf records side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from registry.errors import RegionError
from registry.geometry.cell import MAX_DEPTH, MAX_RECORDS, Address, CellRecord
from registry.geometry.region import merge_counts
from registry.geometry.split import Geometry, Indices, Questions, halve, middle
from registry.geometry.summary import summary


def build_tree(
    leaves: Sequence[CellRecord], capacity: int = 16, fanout: int = 16
) -> dict[Address, tuple[CellRecord, ...]]:
    """Cells by address, the root at (); every leaf record is in exactly one cell.

    capacity: most regions in a leaf cell; fanout: most records in any other. Without leaves the root is empty.
    Deterministic for a given order of leaves. Raises RegionError where dimensions differ, ValueError for limits
    that no zone can hold.
    """
    if not (2 <= fanout <= MAX_RECORDS and 1 <= capacity <= MAX_RECORDS):
        raise ValueError(f"capacity {capacity} and fanout {fanout} must be at most {MAX_RECORDS}, fanout at least 2")
    if not leaves:
        return {(): ()}
    d = len(leaves[0].region.centre)
    for leaf in leaves:
        if leaf.region.centre.shape != (d,):
            raise RegionError(f"region {leaf.region.id} of {leaf.network}: not of dimension d={d} as the others")
    halvings = fanout.bit_length() - 1
    if len(leaves) > capacity << MAX_DEPTH * halvings:
        raise RegionError(f"{len(leaves)} regions need a tree deeper than {MAX_DEPTH}; raise capacity or fanout")
    builder = _Builder(leaves, capacity, fanout, halvings)
    builder.build((), np.arange(len(leaves), dtype=np.intp), np.arange(len(builder.questions.point), dtype=np.intp))
    return builder.cells


class _Builder:
    """The arrays that all cells of one build share."""

    def __init__(self, leaves: Sequence[CellRecord], capacity: int, fanout: int, halvings: int) -> None:
        self.leaves = leaves
        self.capacity = capacity
        self.fanout = fanout
        self.halvings = halvings
        self.cells: dict[Address, tuple[CellRecord, ...]] = {}
        self.lapsed = np.array([leaf.lapsed for leaf in leaves], dtype=np.bool_)
        self.geometry = Geometry.of([leaf.region for leaf in leaves])
        actions = {action for leaf in leaves for action in leaf.region.counts}
        self.questions = Questions.sample(self.geometry, len(actions))

    def build(self, address: Address, members: Indices, asked: Indices) -> Mapping[str, int]:
        """Write the cell of `members` and all below, and return their counts per action.

        asked: the sample questions that reach the cell.
        """
        self.cells[address] = ()  # parents stand before their children
        if len(members) <= self.capacity:
            counts: list[Mapping[str, int]] = []
            inner: list[CellRecord] = []
            own = [self.leaves[i] for i in members]
        else:
            children, listed = self._parts(members, asked, even=self._tight(len(address), len(members)))
            counts = [self.build((*address, number), part, reached) for number, (part, reached) in enumerate(children)]
            inner = [
                self._summary((*address, number), part, held)
                for number, ((part, _), held) in enumerate(zip(children, counts, strict=True))
            ]
            own = [self.leaves[i] for i in listed]
        self.cells[address] = (*inner, *own)
        return merge_counts([*counts, *(record.region.counts for record in own)])

    def _tight(self, depth: int, count: int) -> bool:
        """Whether the levels left at `depth` would be too few for `count` regions but for even divisions.

        Even ones shrink a cell by the power of two in fanout at each level. What is not tight at one depth has
        at the next at most a whole level's factor too many, which is what the level kept in reserve is for.
        """
        return count * 8 >= self.capacity << (MAX_DEPTH - depth - 1) * self.halvings

    def _parts(self, members: Indices, asked: Indices, even: bool) -> tuple[list[tuple[Indices, Indices]], list[int]]:
        """Divide one cell: its children (members, questions), and the regions to list in the cell itself."""
        parts = [(members, asked)]
        while len(parts) < self.fanout:
            weights = [self._urgency(part, reached, even) for part, reached in parts]
            most = int(np.argmax(weights))
            if weights[most] == 0:
                break
            part, reached = parts[most]
            halves = (
                middle(self.geometry, part)
                if even
                else halve(self.geometry, self.questions, part, reached, self.capacity)
            )
            parts[most : most + 1] = [(half, self.questions.touching(reached, self.geometry, half)) for half in halves]
        room = self.fanout - len(parts)
        listed: list[int] = []
        for place in sorted(range(len(parts)), key=lambda place: len(parts[place][0])):
            room -= len(parts[place][0]) - 1
            if room < 0:
                break
            listed.append(place)
        children = [part for place, part in enumerate(parts) if place not in listed]
        return children, [int(i) for place in sorted(listed) for i in parts[place][0]]

    def _urgency(self, part: Indices, reached: Indices, even: bool) -> float:
        """Which part to divide next: many regions, often reached; 0 where it fits a leaf cell."""
        if len(part) <= self.capacity:
            return 0.0
        return float(len(part)) if even else len(part) * (len(reached) + 0.5)

    def _summary(self, address: Address, members: Indices, held: Mapping[str, int]) -> CellRecord:
        """The record that stands for `members`, which hold so many packets per action, in the parent cell."""
        region = summary(self.geometry, members, held, str(address[-1]))
        return CellRecord(region, child=address, lapsed=bool(self.lapsed[members].any()))
