"""What a front knows of what is kept: an index in memory, and the newest packet of each node."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from regional.engine import Change
from regional.engines.backing import rank
from regional.engines.exact.index import Index
from regional.engines.exact.scan import Entry
from regional.packets.packet import Packet
from regional.packets.packetcbor import FLOAT32
from registry.errors import PacketError

NONE_OWN: Final[Mapping[bytes, tuple[Packet, bytes]]] = MappingProxyType({})

log = logging.getLogger(__name__)


class Home(NamedTuple):
    """Whose packets these are; what is of another home does not belong here."""

    domain: str
    space8: bytes
    network: str

    def read(self, data: bytes, d: int) -> Packet | None:
        """A packet of this home and of dimension d, or None for anything else."""
        try:
            packet = Packet.from_cbor(data)
        except PacketError:
            return None
        fits = packet.tombstone or len(packet.fingerprint) == d
        return packet if fits and (packet.domain, packet.space8, packet.network) == self else None


class Mirror:
    """Takes changes in any order that keeps those of one place apart; of a node the highest rank counts.

    own: packets with their bytes that are on their way to the server, which need not be read when they come back.
    foreign: how many things were told that are no packets of this home.
    """

    def __init__(self, home: Home, d: int, own: Mapping[bytes, tuple[Packet, bytes]] = NONE_OWN) -> None:
        self._home = home
        self._d = d
        self._own = own
        self._held: dict[bytes, tuple[tuple[int, bytes], int, bytes]] = {}  # rank, bucket and packet
        self.index = Index(home.network, d)
        self.foreign = 0

    def __len__(self) -> int:
        """Nodes, withdrawn ones too."""
        return len(self._held)

    def hear(self, changes: Sequence[Change]) -> None:
        """Take what a watch told."""
        entries: list[Entry] = []
        for change in changes:
            held = self._held.get(change.node)
            if change.packet is not None:
                if held is not None and change.packet == held[2]:
                    if change.bucket != held[1]:
                        self._held[change.node] = held[0], change.bucket, held[2]
                    continue  # what this front stored itself is told too
                own = self._own.get(change.node)
                packet = own[0] if own is not None and own[1] == change.packet else self.read(change.packet)
                if packet is not None and packet.node == change.node:
                    entries += self._newer(change.bucket, packet, change.packet)
                    continue
                self.foreign += 1
                if self.foreign.bit_count() == 1:  # of ever more, each doubling is told
                    what = "%d things that are no packets of %s lie among its packets: left out"
                    log.warning(what, self.foreign, self._home.network)
            if held is not None and held[1] == change.bucket:
                del self._held[change.node]
                entries.append(Entry(change.node, "", b"", b""))
        self.index.take(entries)

    def take(self, packets: Sequence[tuple[int, Packet, bytes]]) -> None:
        """Take packets that are stored, each in its bucket."""
        self.index.take(entry for bucket, packet, data in packets for entry in self._newer(bucket, packet, data))

    def bucket(self, node: bytes) -> int | None:
        """Where a node is held."""
        held = self._held.get(node)
        return None if held is None else held[1]

    def read(self, data: bytes) -> Packet | None:
        """A packet of this home, or None for anything else."""
        return self._home.read(data, self._d)

    def _newer(self, bucket: int, packet: Packet, data: bytes) -> list[Entry]:
        held = self._held.get(packet.node)
        if held is not None and held[2] == data:
            return []
        now = rank(packet.seq, data)
        if held is not None and held[0] >= now:
            return []
        self._held[packet.node] = now, bucket, data
        axes = packet.fingerprint.astype(FLOAT32, copy=False).tobytes()
        return [Entry(packet.node, packet.action or "", axes, data)]
