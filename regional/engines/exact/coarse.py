"""The coarse pass of a scan: float32 copies of an arm's points that pick the candidates for a question.

It may keep too many, never too few. Let m be the centre of all, c = x - m and q' = q - m exact, C and Q their
float32 roundings, u = 2^-24, and S = |C|^2 + |Q|^2. Then, for the true squared distance D of x and q,

    | D - (|C|^2 + |Q|^2 - 2 C.Q) |  <= 4.01 u S     rounding c and q (each within u of its length)
    | fl(C.Q) - C.Q | * 2            <= 1.01 d u S   any order of summation (Higham 2002, section 3.1)
    storing |C|^2, adding            <= 3.1 u S

so that, with z = fl(fl(|C|^2) - 2 fl(C.Q)) + |Q|^2 and margin = (d + 16) u,

    z - margin S  <=  D  <=  z + margin S

as computed, float64's own error in D (below 2e-14 D) included. S need not be known of each point: a point with
z or D at most r2 has |C| <= 1.01 (|Q| + r), hence S <= 1.03 (|Q| + r)^2 + |Q|^2 (margin is below 1e-5). With r2
the k-th least z this bounds the k-th least D, and with that as r2 it bounds the z of every point that may be no
farther: the candidates. Centring on the mean keeps S, and with it the slack, small where the data lie far from
the origin, and a stray far from all others does not blunt it.

Many points are gathered into blocks of near ones, each in a ball and a box (`registry.geometry.region.Bounds`): the
blocks nearest to a question give a first k-th upper bound, and a block that begins beyond it is not read. What
is added later stands behind the blocks, and what is moved or removed leaves a void in its block, so the bounds
hold until all is gathered anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from regional.engines.exact.blocks import Blocks, Run
from registry.geometry.region import Vector

BLOCKS_ABOVE: Final = 1 << 16  # points; fewer are read in little more time than choosing blocks takes
_BLOCK: Final = 450_000  # numbers; from 460,800 on OpenBLAS wakes its threads, which costs more than it saves
_CHUNK: Final = 1 << 16  # points measured at once where all are, so that what is borrowed stays small
_GROUPS: Final = 16  # per wanted point: the least of each group bounds the k-th least nearly as well as a sort
_STRIDE: Final = 8
_FEW: Final = 16  # times k: of fewer places blocks spare little
_TRIALS: Final = 16
_TRIED_K: Final = 50
_TINY: Final = 1e-35  # what float32 loses below its normal range
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)

Points = npt.NDArray[np.float32]
Places = npt.NDArray[np.signedinteger[Any]]


class Coarse:
    """Points by place. A place is where the copy of a row of the arm stands; both ways are kept."""

    def __init__(self, d: int) -> None:
        self.used = 0  # places, voids too
        self.voids = 0
        self.blocks: Blocks | None = None
        self._sparing = False  # whether choosing blocks costs less than it saves
        self._centre: Vector = np.zeros(d, dtype=np.float64)
        self._points = np.empty((0, d), dtype=np.float32)
        self._norms = np.empty(0, dtype=np.float32)  # infinite: a void
        self._rows = np.empty(0, dtype=np.int32)
        self._places = np.empty(0, dtype=np.int32)
        self._gaps = np.empty(0, dtype=np.float32)  # of the last question: fresh memory would cost a fifth of a scan
        self._margin = math.ceil((d + 16) / 2) * 2.0**-23

    @classmethod
    def gathered(cls, points: Points, stopped: Callable[[], bool]) -> Coarse:
        """Of rows 0 to n - 1 with these points (n, d), in blocks."""
        made = cls(points.shape[1])
        made.blocks, order = Blocks.of(points, stopped)
        made._reserve(len(points) + len(points) // 8)
        made._recentre(points)
        made.used = len(points)
        made._rows[: len(points)] = order
        made._places[order] = np.arange(len(points), dtype=np.int32)
        for start in range(0, len(points), _CHUNK):
            places = np.arange(start, min(start + _CHUNK, len(points)))
            made._write(places, points[order[places]])
        made._sparing = made._spares(made.blocks)
        return made

    @property
    def behind(self) -> int:
        """Places that no block bounds, and voids."""
        return self.used - self._bounded + self.voids

    @property
    def _bounded(self) -> int:
        return 0 if self.blocks is None else int(self.blocks.starts[-1])

    def extend(self, rows: Places, points: Points, everything: Points) -> None:
        """Append these rows. everything: the points of all rows, by row, these included."""
        start = self.used
        if start + len(rows) > len(self._norms):
            self._reserve(start + len(rows) + max(8, start // 2))
            if self.blocks is None:
                self._recentre(everything)
                old = np.arange(start)
                for chunk in np.split(old, range(_CHUNK, start, _CHUNK)):
                    self._write(chunk, everything[self._rows[chunk]])
        places = np.arange(start, start + len(rows))
        self.used = start + len(rows)
        self._rows[places] = rows
        self._places[rows] = places
        self._write(places, points)

    def move(self, rows: Places, points: Points, everything: Points) -> None:
        """These rows have new points."""
        places = self._places[rows]
        free = places >= self._bounded
        self._write(places[free], points[free])
        if not free.all():
            self.void(rows[~free])
            self.extend(rows[~free], points[~free], everything)

    def void(self, rows: Places) -> None:
        """Take out rows that stand in blocks."""
        self._norms[self._places[rows]] = np.inf
        self.voids += len(rows)

    def remove(self, row: int) -> None:
        """Take out a row."""
        place = int(self._places[row])
        if place < self._bounded:
            self.void(np.array([row]))
            return
        last = self.used - 1
        for array in (self._points, self._norms, self._rows):
            array[place] = array[last]
        self._places[self._rows[place]] = place
        self.used = last

    def rename(self, old: int, new: int) -> None:
        """What was row `old` is row `new` from now on."""
        place = self._places[old]
        self._places[new] = place
        self._rows[place] = new

    def candidates(self, query: Vector, k: int, limit2: float) -> Places:
        """Rows among which are the k nearest and all that tie with the last, of those within sqrt(limit2)."""
        twice, norm = self._question(query)
        runs = [(0, self.used)]
        if self.blocks is not None and self._sparing and _FEW * k <= self.used:
            runs = self._within_reach(self.blocks, query, k, limit2)
            if 2 * sum(end - start for start, end in runs) > self.used:
                runs = [(0, self.used)]
        starts, gaps = self._measure(runs, twice)
        reach2 = min(limit2 * (1.0 + 1e-12), self._upper(self._kth(gaps, k) + norm, norm))
        limit = self._upper(reach2, norm) - norm
        rounded = np.nextafter(np.float32(min(limit, _FLOAT32_MAX / 2)), np.float32(np.inf))
        found = np.flatnonzero(gaps <= rounded)
        if runs != [(0, self.used)]:
            in_run = np.diff(np.searchsorted(found, [*starts, len(gaps)]))
            found += np.repeat(np.array([start for start, _ in runs], dtype=np.intp) - starts, in_run)
        rows: Places = self._rows[found].astype(np.intp)
        return rows

    def _question(self, query: Vector) -> tuple[Points, float]:
        """-2 Q and |Q|^2."""
        centred = (query - self._centre).astype(np.float32)
        exact = centred.astype(np.float64)
        return np.float32(-2.0) * centred, float(exact @ exact)

    def _within_reach(self, blocks: Blocks, query: Vector, k: int, limit2: float) -> list[Run]:
        """Runs of places, all but which are farther than the k nearest, or than sqrt(limit2)."""
        twice, norm = self._question(query)
        tail = [(self._bounded, self.used)] if self.used > self._bounded else []
        _, gaps = self._measure(blocks.nearest(query, 2 * k) + tail, twice)
        return blocks.within(query, min(limit2, self._upper(self._kth(gaps, k) + norm, norm))) + tail

    def _upper(self, reach2: float, norm: float) -> float:
        """What D is at most where z is at most `reach2`, and the other way round."""
        longest = math.sqrt(norm) + math.sqrt(max(reach2, 0.0))
        return reach2 + self._margin * (1.03 * longest * longest + norm) + _TINY

    def _spares(self, blocks: Blocks) -> bool:
        """Whether questions like the points themselves leave out half of the places, on average."""
        read = 0
        for place in np.linspace(0, self.used - 1, _TRIALS).astype(np.intp):
            query = self._points[place] + self._centre
            read += sum(end - start for start, end in self._within_reach(blocks, query, _TRIED_K, math.inf))
        return 2 * read <= _TRIALS * self.used

    def _measure(self, runs: list[Run], twice: Points) -> tuple[Places, Points]:
        """Where each run starts in what follows; |C|^2 - 2 C.Q of every place of the runs, infinite of a void.

        What follows is overwritten by the next call.
        """
        starts = np.cumsum([0, *(end - start for start, end in runs)])
        if starts[-1] > len(self._gaps):
            self._gaps = np.empty(len(self._norms), dtype=np.float32)
        gaps = self._gaps[: starts[-1]]
        step = max(1, _BLOCK // len(twice))
        for (start, end), to in zip(runs, starts.tolist(), strict=False):
            for first in range(start, end, step):
                last = min(first + step, end)
                np.dot(self._points[first:last], twice, out=gaps[first - start + to : last - start + to])
            gaps[to : to + end - start] += self._norms[start:end]
        return starts[:-1], gaps

    def _kth(self, gaps: Points, k: int) -> float:
        """At least the k-th least of them; infinite where there are fewer."""
        if len(gaps) < k:
            return math.inf
        groups = _GROUPS * k
        if len(gaps) >= 2 * groups:
            # Points far apart share a group: those of one block would hide each other.
            gaps = gaps[: len(gaps) // groups * groups].reshape(-1, groups).min(axis=0)
        elif len(gaps) >= 4 * k:
            # What a sample says is too many by a little; where it is too few, it does not count.
            sample = gaps[::_STRIDE]
            rank = min(int(k / _STRIDE + 4.0 * math.sqrt(k / _STRIDE)), len(sample) - 1)
            below = gaps[gaps <= np.partition(sample, rank)[rank]]
            gaps = below if len(below) >= k else gaps
        return float(np.partition(gaps, k - 1)[k - 1])

    def _write(self, places: Places, points: Points) -> None:
        centred = (points.astype(np.float64) - self._centre).astype(np.float32)
        self._points[places] = centred
        exact = centred.astype(np.float64)
        self._norms[places] = np.einsum("ij,ij->i", exact, exact)

    def _recentre(self, points: Points) -> None:
        total = np.zeros_like(self._centre)
        for start in range(0, len(points), _CHUNK):
            total += points[start : start + _CHUNK].sum(axis=0, dtype=np.float64)
        self._centre = total / len(points)

    def _reserve(self, room: int) -> None:
        for name in ("_points", "_norms", "_rows", "_places"):
            old = getattr(self, name)
            new = np.empty((room, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
