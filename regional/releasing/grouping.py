"""Who are published together: persons parted again and again, as long as every part may still be published.

Mondrian's scheme (LeFevre, DeWitt and Ramakrishnan, ICDE 2006), with cuts across the direction in which the persons
differ most instead of along one feature. Where to cut is chosen by features, and by how many there are of whom an
outcome is known, which is told of each group anyhow. What the outcomes are can only forbid a cut: one that would leave
a part in which an outcome is the same of everybody, as then the part's mean tells each one's outcome (l-diversity,
Machanavajjhala et al., ICDE 2006). Cuts are drawn by lot about the middle, by a generator that is the network's secret,
so that nobody who knows all persons' features can do the parting again and read out of a cut that was not made what
forbade it (the minimality attack, Wong et al., VLDB 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_AXES: Final = 4  # principal directions that are tried, before one at random
_JITTER: Final = 0.1  # of the persons: so far from the middle a cut may be drawn

Float64s = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n persons that may be grouped.

    points: (n, d) where they are. counted: (n, c), of each of c counts whether the person counts there; the first
    decides whether there may be a group at all. outcomes: (n, o), NaN where unknown.
    """

    points: Float64s
    counted: Flags
    outcomes: Float64s

    @classmethod
    def plain(cls, points: Float64s) -> Candidates:
        """Everybody counts, and nothing is known of them."""
        return cls(points, np.ones((len(points), 1), dtype=np.bool_), np.zeros((len(points), 0)))


def groups(of: Candidates, least: int, rng: np.random.Generator) -> list[Rows]:
    """Disjoint groups that hold everybody, in each of which at least `least` count; none where fewer do in all.

    Of every other count a group has at least `least` too, and of every outcome two values, unless that which it was
    cut from has not. Groups are as small as that allows.
    """
    if int(of.counted[:, 0].sum()) < least:
        return []
    found = []
    open_: list[Rows] = [np.arange(len(of.points))]
    while open_:
        rows = open_.pop()
        parts = _cut(of, rows, least, rng)
        if parts is None:
            found.append(rows)
        else:
            open_.extend(parts)
    return found


def mixed(values: Float64s) -> Flags:
    """Of each column of values (n, o), NaN for unknown: whether two of the known differ."""
    if not len(values):
        return np.zeros(values.shape[1], dtype=np.bool_)
    result: Flags = _least(values)[-1] < _greatest(values)[-1]
    return result


def _cut(of: Candidates, rows: Rows, least: int, rng: np.random.Generator) -> tuple[Rows, Rows] | None:
    """The rows in two parts that may both be groups; None where no cut that is tried allows it."""
    n = len(rows)
    if int(of.counted[rows, 0].sum()) < 2 * least:
        return None
    points = of.points[rows] - of.points[rows].mean(axis=0)
    needed = of.counted[rows].sum(axis=0) >= least
    diverse = mixed(of.outcomes[rows])
    for axis in _directions(points, rng):
        order = np.argsort(points @ axis, kind="stable")
        counted, values = of.counted[rows[order]][:, needed], of.outcomes[rows[order]][:, diverse]
        allowed = _allowed(counted, values, least) & _allowed(counted[::-1], values[::-1], least)[::-1]
        places = np.flatnonzero(allowed) + 1  # how many are in the first part
        if len(places):
            wish = n / 2 + rng.uniform(-_JITTER, _JITTER) * n
            near = places[np.abs(places - wish) <= max(least, _JITTER * n)]
            places = near if len(near) else places
            places = places[_lossless(counted, places, least)]
            place = int(places[np.abs(places - wish).argmin()])
            return rows[order[:place]], rows[order[place:]]
    return None


def _lossless(counted: Flags, places: Rows, least: int) -> Flags:
    """Of cuts at these places of counted (n, c), those after which as many groups are possible as after any of them."""
    first = np.cumsum(counted, axis=0)[places - 1]
    rest = counted.sum(axis=0) - first
    possible = (first // least).min(axis=1) + (rest // least).min(axis=1)
    result: Flags = possible == possible.max()
    return result


def _allowed(counted: Flags, values: Float64s, least: int) -> Flags:
    """(n - 1,): whether the first 1, 2, ... n - 1 of them may be a group."""
    enough: Flags = np.all(np.cumsum(counted, axis=0)[:-1] >= least, axis=1)
    differ: Flags = np.all(_least(values)[:-1] < _greatest(values)[:-1], axis=1)
    return enough & differ


def _least(values: Float64s) -> Float64s:
    """The least known among the first 1, 2, ... n; infinite where none is."""
    running: Float64s = np.minimum.accumulate(np.where(np.isnan(values), np.inf, values), axis=0)
    return running


def _greatest(values: Float64s) -> Float64s:
    running: Float64s = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values), axis=0)
    return running


def _directions(points: Float64s, rng: np.random.Generator) -> Iterator[Float64s]:
    """The directions in which centred points (n, d) differ most, then one at random."""
    axes: Float64s = np.linalg.eigh(points.T @ points)[1].T[::-1]
    for axis in axes[:_AXES]:
        yield axis * np.sign(axis[np.abs(axis).argmax()])  # which of the two ways it points is the library's whim
    drawn: Float64s = rng.standard_normal((points.shape[1],))
    yield drawn
