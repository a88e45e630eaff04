"""Where in a tree a new region belongs: below the child whose box it widens least."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from registry.cell import Address, CellRecord
from registry.region import Region, Vector
from registry.summary import extent

MOST_KEPT = 4096  # cells whose faces are kept as arrays


class Places:
    """The choice at each cell. What cells look like is kept until told otherwise."""

    def __init__(self) -> None:
        self._faces: dict[Address, tuple[list[Address], Vector, Vector, Vector]] = {}

    def forget(self, address: Address) -> None:
        """The cell has changed."""
        self._faces.pop(address, None)

    def best(self, address: Address, records: Sequence[CellRecord], region: Region) -> tuple[int, Address] | None:
        """How many children the cell has, and the one for `region`; None where it has none.

        The least sum of what the faces of the child's box would have to move, then the nearest centre.
        """
        faces = self._faces.get(address)
        if faces is None:
            pointers = [record for record in records if record.child is not None]
            bounds = [extent(record.region) for record in pointers]
            faces = (
                [record.child for record in pointers if record.child is not None],
                np.array([lo for lo, _ in bounds]),
                np.array([hi for _, hi in bounds]),
                np.array([record.region.centre for record in pointers]),
            )
            if len(self._faces) >= MOST_KEPT:
                self._faces.clear()
            self._faces[address] = faces
        children, floor, ceiling, centre = faces
        if not children:
            return None
        lo, hi = extent(region)
        widened = np.maximum(floor - lo, 0.0).sum(axis=1) + np.maximum(hi - ceiling, 0.0).sum(axis=1)
        offset = centre - region.centre
        return len(children), children[int(np.lexsort((np.einsum("ij,ij->i", offset, offset), widened))[0])]
