"""How a network describes what it holds: its packets gathered into regions.

Ward's method (scikit-learn: the pair of regions is joined that adds least to the squared distances to the centres)
over the distinct fingerprints; where those are too many for it, k-means (Lloyd's algorithm from a fixed seed), weighted
by how many packets share each. Ward's regions are tighter and more alike, so that fewer networks are asked in vain
(docs/decisions/005). The result depends on the set of packets only, not on their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering, KMeans
from threadpoolctl import threadpool_limits

from registry.geometry.region import Region, squared_distances

MAX_REGIONS: Final = 64
_PER_REGION: Final = 2  # packets, in small networks: the finer the regions, the fewer are asked in vain
_WARD: Final = 2000  # distinct fingerprints up to which Ward's method is quick: its time grows as their square
_GROWTH: Final = 1.5  # a packet that no region can hold without growing beyond this stays uncovered
_ROUNDING: Final = 1.0 + 1e-12

Labels = npt.NDArray[np.intp]
Float64s = npt.NDArray[np.float64]


def regions_of(
    fingerprints: npt.NDArray[np.float32], actions: Sequence[str], min_cohort: int, max_regions: int = MAX_REGIONS
) -> tuple[list[Region], npt.NDArray[np.bool_]]:
    """Regions over fingerprints (n, d) with their actions ("" for none), and which packets they count, (n,).

    About n/2 regions, at most `max_regions`, each of at least `min_cohort` packets. With `min_cohort` 1 every
    packet is counted; else those of a smaller cluster join the nearest region if they lie within 1.5 times its
    radius, and are left out if not. Ball: the mean and the greatest distance from it, rounded up; box: least and
    greatest on each axis.
    """
    n = len(fingerprints)
    if n < min_cohort or n == 0:
        return [], np.zeros(n, dtype=np.bool_)
    distinct, which, weights = np.unique(fingerprints, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(n)
    points = distinct.astype(np.float64)
    wanted = min(max_regions, -(-n // _PER_REGION), len(points))
    if min_cohort > 1:
        wanted = max(1, min(wanted, n // (2 * min_cohort)))
    labels = _settle(points, weights, _cluster(points, weights, wanted), min_cohort)
    regions = []
    packet_labels = labels[which]
    for number, label in enumerate(label for label in dict.fromkeys(labels.tolist()) if label >= 0):
        members = labels == label
        counts = Counter(actions[row] for row in np.flatnonzero(packet_labels == label).tolist())
        regions.append(_region(f"r{number}", points[members], weights[members], counts))
    return regions, packet_labels >= 0


def _cluster(points: Float64s, weights: npt.NDArray[np.intp], wanted: int) -> Labels:
    if wanted == 1:
        return np.zeros(len(points), dtype=np.intp)
    centred = points - np.average(points, axis=0, weights=weights)
    with threadpool_limits(limits=1):  # a background task takes one core, not all
        if len(points) <= _WARD:
            joined: Labels = AgglomerativeClustering(wanted, linkage="ward").fit(centred).labels_.astype(np.intp)
            return joined
        fitted = KMeans(wanted, n_init=1, max_iter=30, random_state=0).fit(centred, sample_weight=weights)
    labels: Labels = fitted.labels_.astype(np.intp)
    return labels


def _settle(points: Float64s, weights: npt.NDArray[np.intp], labels: Labels, min_cohort: int) -> Labels:
    """Labels with the clusters below `min_cohort` dissolved; -1 is left out."""
    sizes = np.bincount(labels, weights=weights)
    large = np.flatnonzero(sizes >= min_cohort)
    settled = labels.copy()
    lonely = np.flatnonzero(sizes[labels] < min_cohort)
    if not len(lonely):
        return settled
    settled[lonely] = -1
    centres = np.array([np.average(points[labels == each], axis=0, weights=weights[labels == each]) for each in large])
    radii = [
        float(np.sqrt(squared_distances(points[labels == each], centre).max()))
        for each, centre in zip(large, centres, strict=True)
    ]
    for row in lonely.tolist():
        distances = np.sqrt(squared_distances(centres, points[row]))
        nearest = int(distances.argmin())
        if distances[nearest] <= _GROWTH * radii[nearest]:
            settled[row] = large[nearest]
    return settled


def _region(name: str, points: Float64s, weights: npt.NDArray[np.intp], counts: Counter[str]) -> Region:
    centre: Float64s = np.average(points, axis=0, weights=weights)
    distances2 = squared_distances(points, centre)
    mean = np.average(distances2, weights=weights)
    return Region(
        id=name,
        counts=dict(sorted(counts.items())),
        centre=centre,
        radius=float(np.sqrt(distances2.max())) * _ROUNDING,
        lo=points.min(axis=0),
        hi=points.max(axis=0),
        var=np.average((points - centre) ** 2, axis=0, weights=weights),
        spread=float(np.average((distances2 - mean) ** 2, weights=weights)),
    )
