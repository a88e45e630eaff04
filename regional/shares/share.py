"""A share of a network as what packets are handed over to."""

from __future__ import annotations

from collections.abc import Sequence

from regional.engine import Census, Engine, PutResult
from regional.network import Network
from regional.packets.packet import Packet


class Share:
    """The target of a handover (regional/shares/handover.py): what it takes, the share also accounts for."""

    def __init__(self, network: Network, engine: Engine) -> None:
        self._network = network
        self._engine = engine

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets, as deposits are stored."""
        results, _ = await self._network.keep(list(packets))
        return results

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets."""
        return await self._network.forget(nodes)

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node."""
        return await self._engine.get(node)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        return await self._engine.census()
