"""A network's own partition of the space of fingerprints: which bucket a packet is kept in.

It belongs to the network and carries a version, so that what is kept is keyed anew only when the network decides to,
never because the registry has built its tree anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cbor2
import numpy as np
import numpy.typing as npt

from regional.packets.packetcbor import FLOAT32
from registry.errors import Corrupt
from registry.geometry.region import squared_distances

MAX_BUCKETS: Final = 10_000  # a bucket's number stands in keys with four digits

Points = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Bucket i is what lies nearest to centres[i]; between equally near ones, the lowest. centres: (m, d) float32.

    What has no fingerprint, the tombstone of a node that was never held, belongs to bucket 0.
    """

    version: int
    centres: Points

    @classmethod
    def whole(cls, d: int) -> Partition:
        """One bucket: what a network begins with."""
        return cls(1, np.zeros((1, d), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.centres)

    def bucket(self, fingerprint: Points) -> int:
        """The bucket of a fingerprint (d,), or of none (0,)."""
        if len(self.centres) == 1 or not fingerprint.size:
            return 0
        return int(np.argmin(squared_distances(self.centres.astype(np.float64), fingerprint.astype(np.float64))))

    def buckets(self, points: Points) -> npt.NDArray[np.intp]:
        """The bucket of each of points (n, d), (n,)."""
        if len(self.centres) == 1:
            return np.zeros(len(points), dtype=np.intp)
        nearest = np.zeros(len(points), dtype=np.intp)
        least = np.full(len(points), np.inf)
        exact = points.astype(np.float64)
        for number, centre in enumerate(self.centres.astype(np.float64)):
            distances2 = squared_distances(exact, centre)
            nearer = distances2 < least
            nearest[nearer], least[nearer] = number, distances2[nearer]
        return nearest

    def to_bytes(self) -> bytes:
        """For a note beside the packets."""
        return cbor2.dumps([self.version, self.centres.shape[1], self.centres.astype(FLOAT32).tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes, d: int) -> Partition:
        """The inverse of `to_bytes`, for packets of dimension d. Raises Corrupt."""
        try:
            version, width, axes = cbor2.loads(data)
            centres = np.frombuffer(axes, dtype=FLOAT32).astype(np.float32).reshape(-1, width)
        except (cbor2.CBORError, TypeError, ValueError) as error:
            raise Corrupt(f"the note of the partition is not readable ({error}); restore it from a backup") from None
        if type(version) is not int or version < 1 or width != d or not 1 <= len(centres) <= MAX_BUCKETS:
            raise Corrupt(f"the note of the partition has version {version!r}, d={width}; wanted d={d}")
        return cls(version, centres)
