"""Packets in a DHT, without a server: `dht://HOST:PORT[,HOST:PORT...]/NAME`, the nodes through which to join.

Nodes of a DHT keep what they are given for two hours, and owe nobody anything. So the owner's truth stays with the
owner, in a store of its own that answers it; the DHT is what others read (regional/engines/dht/reader.py). A deposit is
acknowledged when it is on the owner's disk *and* the DHT leads to it, and coverage is told only of what the DHT leads
to: who reads there misses nothing that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from regional.engine import MAX_K, Census, Change, Limits, NearestQuery, NearestResult, PutResult, Watch
from regional.engines.address import EngineAddress
from regional.engines.dht.item import checked
from regional.engines.dht.node import DhtNode, Secret
from regional.engines.dht.publisher import Publisher
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.feed import Watcher
from regional.engines.mirror import Home
from regional.packets.packet import Packet
from regional.partition import Partition
from registry.clock import Clock
from registry.errors import StorageFull, Unavailable
from registry.keys import SigningKey

DHT_PATIENCE_S: Final = 50.0  # two lookups, one after another, each with a silent node, and one begun before
MAX_PACKETS: Final = 100_000  # put again every half hour: 56 a second


class DhtEngine:
    """The packets of dimension d that `truth` keeps, published under `name` and the key of `secret`, by `node`."""

    def __init__(
        self,
        node: DhtNode,
        name: str,
        home: Home,
        truth: EmbeddedEngine,
        d: int,
        secret: Secret,
        clock: Clock,
        patience_s: float = DHT_PATIENCE_S,
    ) -> None:
        self._home = home
        self._truth = truth
        self._name = name
        self._d = d
        self._secret = secret
        self._clock = clock
        self._patience_s = patience_s
        self._node = node
        self._publisher: Publisher | None = None
        self._feed: Watcher | None = None
        self._joined = False

    @classmethod
    def at(
        cls, address: EngineAddress, home: Home, d: int, truth: EmbeddedEngine, key: SigningKey, clock: Clock
    ) -> DhtEngine:
        """With a node of its own, at the address' option `listen`. Raises ConfigError."""
        address.only("listen")
        node = DhtNode(address.servers, address.options.get("listen", "127.0.0.1:0"))
        return cls(node, address.name, home, truth, d, Secret(key), clock)

    @property
    def limits(self) -> Limits:
        """One packet is one item: of several, some may be published where others fail."""
        return Limits(k=MAX_K, packets=MAX_PACKETS, atomic=1)

    @property
    def partition(self) -> Partition:
        """How the packets are parted into buckets."""
        return self._truth.partition

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return self._truth.count

    async def open(self) -> None:
        """Load the truth, join the DHT, and publish what it does not have."""
        await self._truth.open()
        try:
            await self._node.open()
            self._joined = True
            kept: list[Change] = []
            async with aclosing(self._truth.watch()) as watch:
                async for told in watch:
                    kept += told.changes
                    if told.complete:
                        break
            if self._feed is None:
                self._feed = Watcher()
                self._truth.tell(self._feed)
            parted = self._truth.partition
            self._publisher = Publisher(
                self._node,
                self._secret,
                self._name,
                self._home,
                self._d,
                len(parted),
                parted.version,
                self._clock,
                self._truth.get,
                self._feed,
            )
            await self._publisher.open(kept)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the DHT; what it was given stays there until its nodes forget it."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()
        if self._joined:
            self._joined = False
            await self._node.close()
        await self._truth.close()

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets, and publish them. Raises StorageFull or Unavailable, with nothing acknowledged.

        While nothing can be published, nothing is stored; what could be stored and not be published is published later.
        """
        publisher = self._opened()
        publisher.check()
        for _, data in packets:
            checked(data)
        if self._truth.count + len(packets) > MAX_PACKETS:
            new = [packet.node for packet, _ in packets if await self._truth.get(packet.node) is None]
            if self._truth.count + len(set(new)) > MAX_PACKETS:
                raise StorageFull(f"a network in a DHT keeps at most {MAX_PACKETS:,} packets; choose another engine")
        results = await self._truth.put(packets)
        await self._published()
        return results

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets; marks of them stay in the DHT for as long as it keeps anything."""
        self._opened().check()
        removed = await self._truth.remove(nodes)
        await self._published()
        return removed

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""
        return await self._truth.get(node)

    async def history(self, node: bytes) -> list[bytes]:
        """The current packet of a node: no other is kept."""
        return await self._truth.history(node)

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket, those of withdrawn nodes left out."""
        return await self._truth.bucket(number)

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly."""
        return await self._truth.nearest(query)

    async def census(self) -> Census:
        """All that can be found, once the DHT leads to it: regions are told of nothing else."""
        found = await self._truth.census()
        await self._published()
        return found

    def watch(self, after: int | None = None) -> Watch:
        """All that is kept, tombstones too, then each change as it comes."""
        return self._truth.watch(after)

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name; notes are the owner's, and not in the DHT."""
        return await self._truth.note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value beside the packets, durably."""
        await self._truth.keep_note(name, value)

    async def _published(self) -> None:
        """Wait until what is stored by now is in the DHT."""
        await self._opened().published(self._patience_s)

    def _opened(self) -> Publisher:
        if self._publisher is None:
            raise Unavailable(f"{self._name} is not open")
        return self._publisher
