"""Made populations for the planner's figures, each from a fixed seed, as fingerprints (n, d) float32.

What they imitate is said at each; none of it is measured data. One-hot groups are scaled so that two different
values are at distance 1; numbers are in units of their own deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Fingerprints = npt.NDArray[np.float32]
Random = np.random.Generator

_HALF = np.sqrt(0.5)


def flights(n: int, random: Random) -> Fingerprints:
    """d=24, as departures from three airports: carrier (16) and airport one-hot, month, hour, distance, delay, time.

    A carrier flies few routes; the delay is heavy-tailed; the flying time follows the distance.
    """
    routes = np.random.default_rng(24)  # the same routes for every draw
    share = 1.0 / np.arange(1, 17) ** 1.1
    carrier = random.choice(16, n, p=share / share.sum())
    airports = routes.dirichlet(np.full(3, 0.5), 16)
    airport = (random.random((n, 1)) > np.cumsum(airports, axis=1)[carrier]).sum(axis=1).clip(0, 2)
    lengths = np.sort(np.exp(routes.normal(6.7, 0.7, (16, 3, 12))).clip(90, 4900))
    length = lengths[carrier, airport, (random.random(n) ** 1.5 * 12).astype(int)]
    month = random.integers(1, 13, n)
    hours = routes.uniform(6, 21, (16, 4))
    hour = np.rint(hours[carrier, random.integers(0, 4, n)] + random.normal(0, 1.2, n)).clip(5, 23)
    late = random.random(n) < 0.12 + 0.015 * (hour - 5)
    delay = np.where(late, random.lognormal(3.2, 1.0, n), random.normal(-4, 4, n)).round().clip(-25, 900)
    minutes = (length / 7.6 + 22 + random.normal(0, 9, n)).round()
    numbers = [month / 3.45, hour / 4.7, np.log(length) / 0.7, np.cbrt(delay) / 2.2, minutes / 90.0]
    return _joined([_one_hot(carrier, 16), _one_hot(airport, 3)], numbers)


def diamonds(n: int, random: Random) -> Fingerprints:
    """d=26, as cut stones: cut (5), colour (7) and clarity (8) one-hot, weight, depth, table, three lengths.

    Weights pile up just above round numbers; the lengths follow from weight and depth.
    """
    cut = random.choice(5, n, p=[0.03, 0.09, 0.22, 0.26, 0.40])
    colour = random.choice(7, n, p=[0.125, 0.18, 0.18, 0.21, 0.155, 0.10, 0.05])
    clarity = random.choice(8, n, p=[0.014, 0.17, 0.243, 0.227, 0.151, 0.094, 0.068, 0.033])
    piles = np.array([0.23, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0, 1.2, 1.5, 2.0])
    pile = random.choice(10, n, p=[0.05, 0.2, 0.12, 0.12, 0.14, 0.08, 0.14, 0.05, 0.06, 0.04])
    carat = np.round(piles[pile] * (1.0 + random.exponential(0.06, n)), 2)
    depth = np.round(random.normal(61.8, 0.6 + 0.45 * (4 - cut)), 1)
    table = np.rint(random.normal(56.2 + 0.5 * (4 - cut), 1.4 + 0.3 * (4 - cut)))
    x = np.round(6.47 * np.cbrt(carat * 61.8 / depth) * random.normal(1, 0.006, n), 2)
    y = np.round(x * random.normal(1, 0.006, n), 2)
    z = np.round((x + y) / 2 * depth / 100, 2)
    numbers = [carat / 0.47, depth / 1.43, table / 2.23, x / 1.12, y / 1.12, z / 0.7]
    return _joined([_one_hot(cut, 5), _one_hot(colour, 7), _one_hot(clarity, 8)], numbers)


def dense(n: int, random: Random) -> Fingerprints:
    """d=32, twelve overlapping Gaussian clouds of unlike size, each longer in some directions than in others.

    Every direction carries something, so boxes and balls prune badly; as hard as the dense set of DESIGN section 4.
    """
    shapes = np.random.default_rng(32)
    share = shapes.dirichlet(np.full(12, 2.0))
    centres = shapes.normal(0, 0.35, (12, 32))
    stretch = 0.35 * shapes.normal(0, 1.0, (12, 32, 32)) * np.exp(-np.arange(32) / 4.0)
    cloud = random.choice(12, n, p=share)
    points = np.empty((n, 32))
    for each in range(12):
        rows = cloud == each
        points[rows] = centres[each] + random.normal(size=(int(rows.sum()), 32)) @ stretch[each].T
    return (points + random.normal(0, 0.14, (n, 32))).astype(np.float32)


MADE: dict[str, Callable[[int, Random], Fingerprints]] = {"flights": flights, "diamonds": diamonds, "dense": dense}


def _one_hot(values: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    return _HALF * np.eye(size)[values]


def _joined(groups: Sequence[npt.NDArray[np.float64]], numbers: Sequence[npt.NDArray[np.float64]]) -> Fingerprints:
    return np.hstack([*groups, np.stack(numbers, axis=1)]).astype(np.float32)
