"""The DHT engine as the suite sees it: its owner writes, and what it says is read from the DHT alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regional.engine import Census, Engine, Limits, NearestQuery, NearestResult, PutResult, Watch
from regional.engines.dht.directory import Directory
from regional.engines.dht.engine import DhtEngine
from regional.engines.dht.mirror import DhtMirror
from regional.engines.dht.node import DhtNode, Secret
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.packets.packet import Packet
from regional.partition import Partition
from registry.clock import Clock, SystemClock
from registry.keys import SigningKey
from tests.engines.dht_ring import DhtRing
from tests.engines.kinds import HOME, D, Kind

KEY = SigningKey(bytes(range(32)))


class Dht(Kind):
    """A ring, one node of the owner, and one of the reader."""

    name = "dht"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.ring = DhtRing(home)
        self.owner = DhtNode(self.ring.servers, lasting=True)
        self.guest = DhtNode(self.ring.servers, guest=True, lasting=True)

    def start(self) -> None:
        self.writer = Writer()
        self.ring.start()

    def stop(self) -> None:
        self.owner.leave()
        self.guest.leave()
        self.ring.kill()
        self.writer.close()

    def engine(self, name: str, partition: Partition | None = None, options: str = "") -> Engine:
        assert not options
        return ReadBack(self.published(name, partition), self.guest, self.mirror(name))

    def published(self, name: str, partition: Partition | None = None, clock: Clock | None = None) -> DhtEngine:
        """The owner's side."""
        truth = EmbeddedEngine(HOME.network, D, self.home / name, self.writer, partition=partition)
        return DhtEngine(self.owner, name, HOME, truth, D, Secret(KEY), clock or SystemClock())

    def mirror(self, name: str, clock: Clock | None = None) -> DhtMirror:
        """The reader's side; `guest` has to be open."""
        return DhtMirror(Directory(self.guest, KEY.public, name), HOME, D, clock or SystemClock())


class ReadBack:
    """An engine whose every answer is read from the DHT, and is the owner's."""

    def __init__(self, owner: DhtEngine, guest: DhtNode, mirror: DhtMirror) -> None:
        self._owner = owner
        self._guest = guest
        self._mirror = mirror
        self._open = False

    @property
    def limits(self) -> Limits:
        return self._owner.limits

    @property
    def partition(self) -> Partition:
        return self._owner.partition

    @property
    def count(self) -> int:
        return self._owner.count

    async def open(self) -> None:
        await self._owner.open()
        await self._guest.open()
        self._open = True

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._mirror.close()
            await self._guest.close()
        await self._owner.close()

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        return await self._owner.put(packets)

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        return await self._owner.remove(nodes)

    async def get(self, node: bytes) -> bytes | None:
        found = await self._mirror.get(node)
        assert found == await self._owner.get(node)
        return found

    async def history(self, node: bytes) -> list[bytes]:
        return await self._owner.history(node)

    async def bucket(self, number: int) -> list[bytes]:
        found = await self._mirror.bucket(number)
        assert sorted(found) == sorted(await self._owner.bucket(number))
        return found

    async def nearest(self, query: NearestQuery) -> NearestResult:
        found, own = await self._mirror.nearest(query), await self._owner.nearest(query)
        assert (found.packets, found.distances2.tolist()) == (own.packets, own.distances2.tolist())
        assert found.tied == {arm: n for arm, n in own.tied.items() if arm in found.tied}
        return found

    async def census(self) -> Census:
        own = await self._owner.census()
        found = await self._mirror.census()
        assert sorted(zip(found.nodes, found.actions, strict=True)) == sorted(zip(own.nodes, own.actions, strict=True))
        assert self._mirror.count == self._owner.count
        return found

    def watch(self, after: int | None = None) -> Watch:
        return self._owner.watch(after)

    async def note(self, name: str) -> bytes | None:
        return await self._owner.note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        await self._owner.keep_note(name, value)
