"""Which share of a network a packet belongs to: the space of fingerprints, cut along its axes. Pure.

Each cut is where it parts the packets there into shares of equal size, on the axis on which they lie furthest apart; so
a share is a box, and most questions concern one share only (docs/decisions/019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regional.packets.packet import Packet
from registry.errors import Conflict, Corrupt

Points = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]

HOME = 0  # the share that the network itself keeps


@dataclass(frozen=True, slots=True)
class Cut:
    """What lies at most at `at` on `axis` belongs to `low`, else to `high`: numbers of shares, or further cuts."""

    axis: int
    at: float
    low: Cut | int
    high: Cut | int

    @property
    def shares(self) -> int:
        """How many there are."""
        return sum(each.shares if isinstance(each, Cut) else 1 for each in (self.low, self.high))

    def of(self, points: Points) -> Numbers:
        """The number of the share of each of points (n, d), (n,)."""
        low = points[:, self.axis] <= np.float32(self.at)
        numbers = np.empty(len(points), dtype=np.intp)
        for side, part in ((low, self.low), (~low, self.high)):
            numbers[side] = part.of(points[side]) if isinstance(part, Cut) else part
        return numbers

    def document(self) -> dict[str, Any]:
        """For a note beside the packets."""
        sides = [each.document() if isinstance(each, Cut) else each for each in (self.low, self.high)]
        return {"axis": self.axis, "at": self.at, "low": sides[0], "high": sides[1]}

    @classmethod
    def from_document(cls, document: Any) -> Cut:
        """The inverse. Raises Corrupt."""
        try:
            low, high = (
                each if type(each) is int else cls.from_document(each) for each in (document["low"], document["high"])
            )
            return cls(int(document["axis"]), float(document["at"]), low, high)
        except (KeyError, TypeError, ValueError):
            raise Corrupt("the note of the shares is not readable; restore it from a backup") from None


def cut(points: Points, shares: int, first: int = HOME) -> Cut:
    """Cut the space into `shares` (at least 2) with about as many of the points (n, d) in each, numbered from `first`.

    Raises Conflict where the points do not lie apart.
    """
    order = np.argsort(points.var(axis=0, dtype=np.float64) if len(points) else np.zeros(points.shape[1]))[::-1]
    below = shares // 2
    for axis in order.tolist():
        values = np.unique(points[:, axis])
        if len(values) < 2:
            continue
        middle = np.float32(np.quantile(points[:, axis], below / shares, method="lower"))
        at = float(min(middle, values[-2]))  # something has to lie above
        low = points[:, axis] <= np.float32(at)
        sides: list[Cut | int] = []
        for side, n, number in ((low, below, first), (~low, shares - below, first + below)):
            sides.append(number if n == 1 else cut(points[side], n, number))
        return Cut(axis, at, sides[0], sides[1])
    raise Conflict(f"{len(points)} packets do not lie apart: there is nothing to split into {shares} shares")


def packets_of(found: Cut, number: int, packets: Sequence[Packet]) -> list[bool]:
    """Which packets are of this share; a tombstone is of none."""
    result = [False] * len(packets)
    rows = [row for row, packet in enumerate(packets) if not packet.tombstone]
    if rows:
        own = found.of(np.stack([packets[row].fingerprint for row in rows])) == number
        for row, mine in zip(rows, own.tolist(), strict=True):
            result[row] = mine
    return result


def points_of(found: Cut, number: int) -> Callable[[Points], npt.NDArray[np.bool_]]:
    """Which fingerprints (n, d) are of this share."""
    return lambda points: found.of(points) == number
