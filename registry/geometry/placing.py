"""Where in a tree a new region belongs: below the child whose box it widens least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.geometry.cell import Address, CellRecord
from registry.geometry.region import Region, Vector
from registry.geometry.summary import Faces, extent

MOST_KEPT = 4096  # cells whose faces are kept as arrays


@dataclass(slots=True)
class _Children:
    """n children of a cell. faces: (n, 2 d), lo and -hi of what each bounds; centre: (n, d)."""

    rows: dict[Address, int]
    addresses: list[Address]
    faces: Vector
    centre: Vector


class Places:
    """The choice at each cell. What the children of cells look like is kept until told otherwise."""

    def __init__(self) -> None:
        self._known: dict[Address, _Children | None] = {}

    def forget(self, address: Address) -> None:
        """The cell has other children."""
        self._known.pop(address, None)

    def moved(self, address: Address, child: Address, region: Region, faces: Faces) -> None:
        """A child of the cell looks like `region` now, of this extent."""
        children = self._known.get(address)
        if children is not None:
            row = children.rows[child]
            children.faces[row] = _faces(faces)
            children.centre[row] = region.centre

    def best(
        self, address: Address, records: Sequence[CellRecord], region: Region, faces: Faces
    ) -> tuple[int, Address] | None:
        """How many children the cell has, and the one for `region`, of this extent; None where it has none.

        The least sum of what the faces of the child's box would have to move, then the nearest centre.
        """
        if address not in self._known:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[address] = _children(records)
        children = self._known[address]
        if children is None:
            return None
        widened = np.maximum(children.faces - _faces(faces), 0.0).sum(axis=1)
        least = (widened == widened.min()).nonzero()[0]
        best = least[0]
        if len(least) > 1:
            offset = children.centre[least] - region.centre
            best = least[np.einsum("ij,ij->i", offset, offset).argmin()]
        return len(children.addresses), children.addresses[best]


def _children(records: Sequence[CellRecord]) -> _Children | None:
    pointers = {record.child: record.region for record in records if record.child is not None}
    if not pointers:
        return None
    addresses = list(pointers)
    return _Children(
        {address: row for row, address in enumerate(addresses)},
        addresses,
        np.array([_faces(extent(region)) for region in pointers.values()]),
        np.array([region.centre for region in pointers.values()]),
    )


def _faces(faces: Faces) -> Vector:
    lo, hi = faces
    return np.concatenate((lo, -hi))
