"""An engine over a server that keeps packets and cannot search them: it mirrors them in memory from a watch.

A front keeps nothing of its own: any number of them may serve one network, and one that starts anew asks the server
for all there is. What it has stored itself it finds at once; what others stored, as soon as the server tells it. While
it cannot know what others store, it does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from regional.engine import Census, Change, Limits, NearestQuery, NearestResult, PutResult, Told, Watch
from regional.engines.backing import Backing, Placed, newest_of, results_of
from regional.engines.following import Following
from regional.engines.mirror import Home
from regional.packets.packet import Packet
from regional.partition import Partition
from registry.errors import ConfigError, Corrupt


class Front:
    """The packets of `home`, of dimension `d`. partition: that of a server that has none of them yet."""

    def __init__(self, home: Home, d: int, backing: Backing, partition: Partition | None = None) -> None:
        self._home = home
        self._d = d
        self._backing = backing
        self._partition = partition or Partition.whole(d)
        self._own: dict[bytes, tuple[Packet, bytes]] = {}  # what is being put
        self._following = Following(home, d, backing, own=self._own)

    @property
    def limits(self) -> Limits:
        """What the server can do."""
        return self._backing.limits

    @property
    def partition(self) -> Partition:
        """How the packets are parted into buckets."""
        return self._partition

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return self._following.count

    @property
    def foreign(self) -> int:
        """How many things on the server are no packets of this network, and are left out."""
        return self._following.foreign

    async def open(self) -> None:
        """Connect, and mirror all that is kept."""
        await self._backing.open()
        try:
            await self._settle()
            await self._following.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        await self._following.close()
        await self._backing.close()

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets. Raises StorageFull or Unavailable, with nothing acknowledged."""
        newest = newest_of(packets)
        placed = [self._placed(packet, data) for packet, data in newest.values()]
        self._own.update(newest)
        try:
            held = dict(zip(newest, await self._backing.put(placed), strict=True))
        finally:
            for node, each in newest.items():
                if self._own.get(node) is each:
                    del self._own[node]
        stored = [
            (each.bucket if each.bucket is not None else self._following.bucket(each.node) or 0, *newest[each.node])
            for each in placed
            if each.seq > held[each.node]
        ]
        self._following.take(stored)
        return results_of(packets, held)

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets; they are found until the server's watch tells that they are gone."""
        return await self._backing.remove(nodes)

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone), as the server has it."""
        data = await self._backing.get(node)
        return data if data is not None and self._following.read(data) is not None else None

    async def history(self, node: bytes) -> list[bytes]:
        """The packets of a node that are kept, the current one first."""
        kept = await self._backing.history(node)
        return [data for data in kept if self._following.read(data) is not None]

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket, as the server has them."""
        kept = await self._backing.bucket(number)
        read = await asyncio.to_thread(lambda: [self._following.read(data) for data in kept])
        return [data for data, packet in zip(kept, read, strict=True) if packet is not None and not packet.tombstone]

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly. Raises Unavailable while the server cannot be heard."""
        return await self._following.nearest(query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        return await self._following.census()

    async def watch(self, after: int | None = None) -> Watch:
        """All that is kept, then each change as it comes."""
        async with aclosing(self._backing.watch(after)) as watch:
            async for told in watch:
                changes = [each for each in told.changes if self._belongs(each)]
                yield Told(changes, told.complete, told.afresh, told.position)

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""
        return await self._backing.note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value beside the packets."""
        await self._backing.keep_note(name, value)

    async def _settle(self) -> None:
        """See that this is ours, and how it is parted."""
        name = self._home.network.encode()
        owner = await self._backing.claim_note("network", name)
        if owner != name:
            raise ConfigError(
                f"{self._backing.where} keeps the packets of {owner.decode(errors='replace')!r:.70}, not of "
                f"{self._home.network!r}; choose another name in its address"
            )
        noted = await self._backing.claim_note("partition", self._partition.to_bytes())
        try:
            self._partition = Partition.from_bytes(noted, self._d)
        except Corrupt as error:
            raise Corrupt(f"{self._backing.where}: {error.detail}") from None
        self._backing.settle(self._partition.version)

    def _placed(self, packet: Packet, data: bytes) -> Placed:
        bucket = None if packet.tombstone else self._partition.bucket(packet.fingerprint)
        return Placed(bucket, packet.node, packet.seq, data)

    def _belongs(self, change: Change) -> bool:
        return change.packet is None or self._following.read(change.packet) is not None
