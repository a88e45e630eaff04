"""Blocks of near points, each in a ball and a box, so that a question need not read those that lie too far.

Points are split by k-means (Lloyd's algorithm on a sample, from fixed starts) into as many parts as blocks fit,
at most 32 at once, and each part again, until a block's points fit a processor's cache. How well they are split
decides how many blocks a question reads, never what it finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from registry.geometry.region import Bounds, Vector, squared_distances

SIZE: Final = 1024  # points of a block: 128 KiB at d=32
_FAN: Final = 32  # parts at once
_DEPTH: Final = 6  # splits of splits; points that are all alike cannot be split
_SAMPLE: Final = 64  # points per part that k-means looks at
_ROUNDS: Final = 5
_CHUNK: Final = 1 << 15
_ROUNDING: Final = 1.0 + 1e-12

Run = tuple[int, int]  # places from, to
Points = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Block i holds the places starts[i] to starts[i + 1] - 1, all of them within its bounds.

    centres: those of the bounds, about.
    """

    starts: npt.NDArray[np.intp]
    bounds: Bounds
    centres: Points

    @classmethod
    def of(cls, points: Points, stopped: Callable[[], bool]) -> tuple[Blocks, Rows]:
        """Blocks over points (n, d), and which point stands at each place, (n,). May end early once `stopped`."""
        parts = _gather(points, stopped)
        d = points.shape[1]
        centre, lo, hi = (np.empty((len(parts), d), dtype=np.float64) for _ in range(3))
        radius = np.empty(len(parts), dtype=np.float64)
        for i, part in enumerate(parts):
            exact = points[part].astype(np.float64)
            centre[i], lo[i], hi[i] = exact.mean(axis=0), exact.min(axis=0), exact.max(axis=0)
            radius[i] = np.sqrt(squared_distances(exact, centre[i]).max()) * _ROUNDING
        starts = np.cumsum([0, *map(len, parts)])
        return cls(starts, Bounds(centre, radius, lo, hi), centre.astype(np.float32)), np.concatenate(parts)

    def nearest(self, query: Vector, wanted: int) -> list[Run]:
        """Blocks with centres near the query that hold at least `wanted` places together, or all."""
        offset = self.centres - query.astype(np.float32)
        order = np.argsort(np.einsum("ij,ij->i", offset, offset))
        held = np.cumsum(np.diff(self.starts)[order])
        return self._runs(order[: int(np.searchsorted(held, wanted)) + 1])

    def within(self, query: Vector, reach2: float) -> list[Run]:
        """The blocks that may hold a point at a squared distance of at most `reach2`."""
        lower = self.bounds.lower(query)
        return self._runs(np.flatnonzero(lower * lower * (1.0 - 1e-12) <= reach2))

    def _runs(self, chosen: npt.NDArray[np.intp]) -> list[Run]:
        marked = np.zeros(len(self.starts) + 1, dtype=np.int8)
        marked[chosen + 1] = 1
        edges = self.starts[np.flatnonzero(np.diff(marked))].tolist()
        return list(zip(edges[::2], edges[1::2], strict=True))


def _gather(points: Points, stopped: Callable[[], bool]) -> list[Rows]:
    """The rows of each block."""
    blocks = []
    waiting = [(np.arange(len(points), dtype=np.int32), 0)]
    while waiting:
        part, depth = waiting.pop()
        if 2 * len(part) <= 3 * SIZE or depth == _DEPTH or stopped():
            blocks.append(part)
            continue
        labels = _split(points, part, min(_FAN, -(-len(part) // SIZE)))
        order = np.argsort(labels, kind="stable")
        ends = np.cumsum(np.bincount(labels))[:-1]
        waiting += [(piece, depth + 1) for piece in np.split(part[order], ends) if len(piece)]
    return blocks


def _split(points: Points, part: Rows, fan: int) -> npt.NDArray[np.intp]:
    """A label from 0 to fan - 1 for each row of `part`."""
    sample = points[part[:: max(1, len(part) // (_SAMPLE * fan))]]
    middle = sample.mean(axis=0)
    sample = sample - middle
    centres = sample[np.linspace(0, len(sample) - 1, fan).astype(np.intp)]
    for _ in range(_ROUNDS):
        labels = _nearest(sample, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, sample)
        counts = np.bincount(labels, minlength=fan)[:, None]
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres).astype(np.float32)
    chunks = [points[part[start : start + _CHUNK]] for start in range(0, len(part), _CHUNK)]
    return np.concatenate([_nearest(chunk - middle, centres) for chunk in chunks])


def _nearest(points: Points, centres: Points) -> npt.NDArray[np.intp]:
    """The number of the centre nearest to each point, (n,), as float32 tells."""
    gaps = points @ (np.float32(-2.0) * centres.T)
    gaps += np.einsum("ij,ij->i", centres, centres)
    labels: npt.NDArray[np.intp] = gaps.argmin(axis=1)
    return labels
