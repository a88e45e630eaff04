"""The neighbours found, in the merge's total order; each becomes a packet only where somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from gateway.planning.neighbours import Neighbours
from regional.packets.batch import Batch
from regional.packets.details import Details
from regional.packets.packet import Packet
from regional.releasing.atombatch import AtomBatch, AtomFound
from registry.geometry.region import Vector


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One neighbour: its packet, or its atom, and its squared distance."""

    distance2: float
    network: str
    packet: Packet | AtomFound


class Candidates(Sequence[Candidate]):
    """n neighbours as columns: distance2 (n,), and of each the batch that brought it and its row there.

    sources: the home networks with what was sent of each. number, row: (n,) places among these. senders: the networks
    that sent it.
    """

    __slots__ = ("_number", "_row", "_senders", "_sources", "distance2")

    def __init__(
        self,
        distance2: Vector,
        sources: Sequence[tuple[str, Batch | AtomBatch]],
        number: Sequence[int],
        row: Sequence[int],
        senders: Sequence[str],
    ) -> None:
        self.distance2 = distance2
        self._sources = sources
        self._senders = senders
        self._number = number
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...

    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        """Raises PacketError where the packet is none."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        network, batch = self._sources[self._number[index]]
        return Candidate(float(self.distance2[index]), network, batch.packet(self._row[index]))

    def networks(self) -> tuple[str, ...]:
        """(n,) whose they are."""
        names = [network for network, _ in self._sources]
        return tuple([names[number] for number in self._number])

    def senders(self) -> tuple[str, ...]:
        """(n,) who sent them."""
        return tuple([self._senders[number] for number in self._number])

    def nodes(self) -> tuple[bytes, ...]:
        """(n,)."""
        of = [batch.nodes for _, batch in self._sources]
        return tuple([of[number][row] for number, row in zip(self._number, self._row, strict=True)])

    def actions(self) -> tuple[str, ...]:
        """(n,), "" for none."""
        of = [batch.actions for _, batch in self._sources]
        return tuple([of[number][row] for number, row in zip(self._number, self._row, strict=True)])

    def sizes(self) -> npt.NDArray[np.int64]:
        """(n,): nodes in each."""
        of = [batch.sizes for _, batch in self._sources]
        found = [of[number][row] for number, row in zip(self._number, self._row, strict=True)]
        return np.array(found, dtype=np.int64)

    def points(self, d: int) -> Vector:
        """(n, d) fingerprints."""
        of = [batch.fingerprints for _, batch in self._sources]
        rows = [of[number][row] for number, row in zip(self._number, self._row, strict=True)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), d)

    def columns(self, d: int, k: int, per: Literal["action", "all"], radius: Mapping[str, float]) -> Neighbours:
        """As the synthesis takes them. d: dimension. radius: distance of the k-th, by arm."""
        details = self.details()
        return Neighbours(
            distance=np.sqrt(self.distance2),
            points=self.points(d),
            action=self.actions(),
            network=self.networks(),
            node=self.nodes(),
            weight=np.array([each.weight for each in details], dtype=np.float64),
            outcomes=tuple([each.outcomes for each in details]),
            size=self.sizes(),
            k=k,
            per=per,
            radius=radius,
        )

    def details(self) -> list[Details | AtomFound]:
        """(n,): what they have beside. Raises PacketError where one is no packet."""
        of = [batch.details for _, batch in self._sources]
        return [of[number](row) for number, row in zip(self._number, self._row, strict=True)]
