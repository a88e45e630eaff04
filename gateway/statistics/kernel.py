"""How much each neighbour counts: weight falls with distance, and what the weights leave of n."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

# An Epanechnikov kernel (Epanechnikov, Theory Probab. Appl. 14, 1969) whose support ends at 1.08 bandwidths, so that a
# neighbour at the bandwidth keeps 0.15 of the weight of a perfect match, or more. A kernel that ended there would give
# nothing to the K-th neighbour, and to all the packets tied with it. How the loss was chosen: docs/synthesis.md.
EDGE_LOSS = 0.85

# A weight below this share of the arm's greatest has no say; kept, it would only cost digits.
NEGLIGIBLE = 1e-12


def bandwidth(distance: Vector, radius: float, floor: float) -> float:
    """The greatest of: the K-th distance `radius`, the schema's `floor`, the farthest of distance (n,).

    An infinite radius (fewer than K neighbours) does not count. 0 only where every neighbour is at distance 0.
    """
    farthest = float(distance.max()) if distance.size else 0.0
    return max(radius if math.isfinite(radius) else 0.0, floor, farthest)


def kernel_weights(distance: Vector, width: float, floor: float) -> Vector:
    """(n,) weights 1 - 0.85 (distance^2 - floor^2) / width^2 in [0.15, 1]; 1 at the floor and nearer.

    distance <= width, floor <= width; all 1 where width is 0.
    """
    if width == 0.0:
        return np.ones_like(distance)
    share, least = distance / width, floor / width
    weights: Vector = 1.0 - EDGE_LOSS * np.maximum(share * share - least * least, 0.0)
    return weights


def normalised(kernel: Vector, sample: Vector) -> Vector:
    """(n,) kernel times sample weight, the greatest being 1; 0 where the weight cannot count.

    It cannot where the sample weight is not a finite number > 0, or is negligible beside the greatest.
    """
    usable = np.isfinite(sample) & (sample > 0)
    if not usable.any():
        return np.zeros_like(kernel)
    weights: Vector = kernel * (np.where(usable, sample, 0.0) / sample[usable].max())
    weights /= weights.max()
    weights[weights < NEGLIGIBLE] = 0.0
    return weights


def effective_n(weights: Vector, each: Vector) -> float:
    """(sum w)^2 / sum w^2 over all nodes (Kish, Survey Sampling, 1965); 0 for no weight.

    weights: (n,) of atoms. each: (n,) effective number of nodes in each, over which its weight is spread. Exactly n for
    n atoms of one node and a weight of 1.
    """
    squares = math.fsum((weights * weights / each).tolist())
    return math.fsum(weights.tolist()) ** 2 / squares if squares > 0 else 0.0
