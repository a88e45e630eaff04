"""Ways from a registry's tree into those of other registries that run parts of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.planning.cell import Cell, Numbers
from gateway.planning.expectation import Array
from gateway.planning.path import Path, apex_of
from registry.geometry.cell import Naming
from registry.geometry.region import Bounds, Region
from registry.geometry.statement import holds


@dataclass(slots=True, eq=False)
class Door:
    """Another registry's tree: where its root is, of which tree the records are that lead there, and those records.

    There may be several, since what a registry replaces stays for a while: what is there is behind any one of them.
    """

    number: int
    path: Path
    above: str | None
    rows: list[int] = field(default_factory=list)
    stated: list[Region] = field(default_factory=list)
    root: Cell | None = None


class Doors:
    """Those that a walk has come to, by apex. naming: of the registry that the walk starts at."""

    def __init__(self, naming: Naming | None) -> None:
        self._naming = naming
        self._doors: dict[str, Door] = {}

    def __len__(self) -> int:
        return len(self._doors)

    def __getitem__(self, apex: str) -> Door:
        return self._doors[apex]

    def lead(self, path: Path, apex: str, row: int, stated: Region) -> Door:
        """The door to `apex` of one more record, row `row`, of the cell at `path`, where it is not refused."""
        door = self._doors.setdefault(apex, Door(1 + len(self._doors), (*path, apex), apex_of(path)))
        door.rows.append(row)
        door.stated.append(stated)
        return door

    def refusal(self, path: Path, apex: str) -> str | None:
        """Why the way does not go on from the cell at `path` to the registry at `apex`."""
        if self._naming is None or apex == self._naming.apex or apex in path:
            return f"it leads in a circle, to {apex} again"
        door = self._doors.get(apex)
        return None if door is None or door.above == apex_of(path) else f"two registries lead to {apex}"

    def floors(self, own: Array, tree: Numbers) -> Array:
        """(1 + doors,): no packet behind a door is nearer than this, by its number; 0 for no door.

        No less than the least that a record which leads there says. own, tree: (m,) of each record its own bound, and
        the number of the door that its cell is behind.
        """
        result = np.zeros(1 + len(self._doors))
        for door in self._doors.values():  # those further up come first
            result[door.number] = np.maximum(own[door.rows], result[tree[door.rows]]).min()
        return result

    def outside(self) -> set[str]:
        """Apexes of registries whose root reaches beyond what is said of them."""
        return {
            apex
            for apex, door in self._doors.items()
            if door.root is not None and not any(_within(door.root, region) for region in door.stated)
        }


def _within(root: Cell, stated: Region) -> bool:
    regions: Sequence[Region] = [record.region for record in root.records]
    return holds(stated, root.actions, Bounds.of(regions))
