"""Which packets a coverage covers: those that lie in one of its regions that counts their action."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from registry.geometry.region import Bounds, Region, squared_distances


class Covering:
    """The regions of one coverage, ready to be asked about many packets or few."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self._regions = regions
        self._bounds = Bounds.of(regions) if regions else None

    def covers(self, points: npt.NDArray[np.float32], actions: Sequence[str]) -> npt.NDArray[np.bool_]:
        """For points (n, d) and their actions ("" for none): which are covered, (n,) bool."""
        covered = np.zeros(len(points), dtype=np.bool_)
        if self._bounds is None or not len(points):
            return covered
        if len(points) < len(self._regions):
            for row, action in enumerate(actions):
                covered[row] = self._holds(self._bounds, points[row].astype(np.float64), action)
            return covered
        arms = np.asarray(actions)
        for action in set(actions):
            rows = np.flatnonzero(arms == action)
            for region in self._regions:
                if action in region.counts:
                    covered[rows[region.contains(points[rows], action)]] = True
                    rows = rows[~covered[rows]]
        return covered

    def _holds(self, bounds: Bounds, point: npt.NDArray[np.float64], action: str) -> bool:
        in_box = np.all((bounds.lo <= point) & (point <= bounds.hi), axis=1)
        in_ball = np.sqrt(squared_distances(bounds.centre, point)) <= bounds.radius
        return any(action in self._regions[i].counts for i in np.flatnonzero(in_box & in_ball).tolist())
