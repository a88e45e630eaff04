"""Made coverages of any size: networks of 512 packets, gathered into 64 regions each as networks do.

The packets (benchmarks.generated) are drawn 1,024 networks at a time, sorted by specialty, of which there are 64
(k-means cells), and dealt out to networks in runs: a common specialty has many networks, and a few networks hold two.
They are put aside in a file, so that networks can answer, and what is known of a question is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from benchmarks.generated import MADE, Fingerprints
from benchmarks.populations import SPECIALTIES
from regional.clustering import MAX_REGIONS, regions_of
from regional.packets.batch import Batch
from regional.packets.packet import Packet
from registry.geometry.cell import CellRecord
from registry.geometry.region import Region, squared_distances
from registry.likeness.schema import Schema

DOMAIN = "made"
PACKETS = 512  # per network
REGIONS = MAX_REGIONS  # per network
QUESTIONS = 256  # drawn beside the packets, from the same source
_CHUNK = 1024  # networks drawn at a time
_COLUMNS = ("centre", "lo", "hi", "var", "radius", "spread", "size")
_SAMPLE = 20_000  # packets among which the specialties are found

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Coverages:
    """packets (networks, per network, d) float32, in a file; leaves: the regions of all networks in order.

    questions: (m, d), drawn from the same source, in no network. known: distances found.
    """

    packets: Fingerprints
    questions: Fingerprints
    leaves: Sequence[CellRecord]
    schema: Schema
    known: dict[bytes, float] = field(default_factory=dict)

    def reply(self, network: str, query: Float64s, k: int, within: Mapping[str, float]) -> Batch:
        """The k nearest packets of network `n<number>`, within the radius where one is given."""
        own = np.array(self.packets[int(network[1:])])
        distances = squared_distances(own.astype(np.float64), query)
        rows = np.argsort(distances, kind="stable")[:k]
        rows = rows[np.sqrt(distances[rows]) <= within.get("", np.inf)]
        return Batch.of_packets([self._packet(network, int(row), own[row]) for row in rows])

    def kth(self, query: Float64s, k: int) -> float:
        """The distance of the k-th nearest packet of all, by brute force."""
        if (found := self.known.get(query.tobytes())) is not None:
            return found
        parts = [
            np.partition(squared_distances(part.reshape(-1, part.shape[2]).astype(np.float64), query), k - 1)[:k]
            for part in (self.packets[first : first + _CHUNK] for first in range(0, len(self.packets), _CHUNK))
        ]
        found = float(np.sqrt(np.partition(np.concatenate(parts), k - 1)[k - 1]))
        self.known[query.tobytes()] = found
        return found

    def _packet(self, network: str, row: int, fingerprint: Fingerprints) -> Packet:
        return Packet(
            domain=DOMAIN,
            space8=self.schema.space[:8],
            network=network,
            node=row.to_bytes(4, "big"),
            seq=1,
            t0=0.0,
            time=0.0,
            fingerprint=fingerprint,
            action=None,
        )


def schema_of(d: int) -> Schema:
    """A schema of d plain numbers, under which a made fingerprint is as good as an encoded situation."""
    axis_of = {"kind": "number", "label": "made", "unit": "1", "scale": 1, "range": [-1000, 1000]}
    document = {
        "title": "Made",
        "study": "observational",
        "release": "packets",
        "min_cohort": 1,
        "bandwidth_floor": 0.1,
        "features": {f"x{axis}": axis_of for axis in range(d)},
        "outcomes": {"well": {"kind": "binary", "label": "made", "better": "higher"}},
    }
    return Schema.from_document(document, DOMAIN)


def draw(name: str, networks: int, home: Path, per_network: int = PACKETS) -> Coverages:
    """The coverages of so many networks of the made population `name`, from `home`, else made and put there.

    Deterministic.
    """
    stem = f"{name}-{networks}-{per_network}"
    if not (home / f"{stem}.npz").exists():
        _make(name, networks, home, per_network)
    kept = np.load(home / f"{stem}.npz")
    columns = {column: kept[column] for column in kept.files}
    d = columns["centre"].shape[1]
    packets = np.memmap(home / f"{stem}.packets", np.float32, "r", shape=(networks, per_network, d))
    leaves = [
        CellRecord(
            Region(
                id=f"r{columns['number'][row]}",
                counts={"": int(columns["size"][row])},
                centre=columns["centre"][row],
                radius=float(columns["radius"][row]),
                lo=columns["lo"][row],
                hi=columns["hi"][row],
                var=columns["var"][row],
                spread=float(columns["spread"][row]),
            ),
            network=f"n{columns['network'][row]}",
        )
        for row in range(len(columns["radius"]))
    ]
    return Coverages(packets, columns["questions"], leaves, schema_of(d))


def _make(name: str, networks: int, home: Path, per_network: int) -> None:
    """Draw the packets and gather them into regions; about 20 ms per network."""
    random = np.random.default_rng(1)
    source = MADE[name]
    questions = source(QUESTIONS, random)
    kinds = KMeans(SPECIALTIES, n_init=1, max_iter=15, random_state=0).fit(source(_SAMPLE, random))
    stem = f"{name}-{networks}-{per_network}"
    shape = (networks, per_network, questions.shape[1])
    packets = np.memmap(home / f"{stem}.packets", np.float32, "w+", shape=shape)
    regions: list[Region] = []
    owner: list[int] = []
    for first in range(0, networks, _CHUNK):
        count = min(_CHUNK, networks - first)
        points = source(count * per_network, random)
        points = points[np.argsort(kinds.predict(points), kind="stable")].reshape(count, per_network, -1)
        packets[first : first + count] = points
        for number, own in enumerate(points, first):
            found = regions_of(own, [""] * per_network, min_cohort=1)[0]
            regions += found
            owner += [number] * len(found)
    packets.flush()
    columns = {axis: np.array([getattr(region, axis) for region in regions]) for axis in _COLUMNS}
    columns["number"] = np.array([int(region.id[1:]) for region in regions])
    np.savez(home / f"{stem}.npz", allow_pickle=False, questions=questions, network=np.array(owner), **columns)
