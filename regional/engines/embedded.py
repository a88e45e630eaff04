"""The default engine: LMDB is the durable truth, an exact scan in memory answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from regional.engine import MAX_K, Census, Limits, NearestQuery, NearestResult, PutResult
from regional.engines.scan import Scan
from regional.engines.store import MAX_MAP, Batch, Store
from regional.engines.writer import Writer
from regional.packet import Packet
from registry.errors import Corrupt, KindredError, PacketError, Unavailable

MAX_WAITING: Final = 50_000  # packets of one network that may wait for the disk; more are turned away
_THREAD_ABOVE: Final = 100_000  # numbers in the scan; a larger one would hold up the event loop
_STEP: Final = 256  # packets taken into the scan at once, so that a question never waits long for the lock


class EmbeddedEngine:
    """Packets of one network of dimension `d` in the directory `path`; `writer` is the process's."""

    def __init__(self, network: str, d: int, path: Path, writer: Writer, max_map: int = MAX_MAP) -> None:
        self._network = network
        self._d = d
        self._path = path
        self._writer = writer
        self._max_map = max_map
        self._store: Store | None = None
        self._scan = Scan(network, d)
        self._scanning = threading.Lock()
        self._waiting = 0
        self._behind = False

    @property
    def limits(self) -> Limits:
        """Any number of packets that fit disk and memory."""
        return Limits(k=MAX_K, packets=None)

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return len(self._scan)

    async def open(self) -> None:
        """Load what is held. Raises Unavailable where another process has it, Corrupt where it is broken."""
        self._store = await self._writer.call(self._load)

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        store, self._store = self._store, None
        if store is not None:
            await self._writer.call(store.close)

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets, all or none; durable when this returns. Raises StorageFull or Unavailable."""
        self._opened()
        if self._waiting + len(packets) > MAX_WAITING:
            raise Unavailable(f"{self._waiting} packets wait for the disk already; deposit again later")
        self._waiting += len(packets)
        try:
            taken = await self._writer.deposit(self, packets)
        finally:
            self._waiting -= len(packets)
        return ["accepted" if each else "stale" for each in taken]

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""
        return self._opened().get(node)

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly; in a thread where the scan is large."""
        self._opened()
        if len(self._scan) * self._d <= _THREAD_ABOVE:
            return self._nearest(query)
        return await asyncio.to_thread(self._nearest, query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        self._opened()
        return await asyncio.to_thread(self._census)

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""
        return self._opened().note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value beside the packets, durably."""
        store = self._opened()
        await self._writer.call(lambda: store.keep_note(name, value))

    def write(self, batches: Sequence[Batch]) -> list[list[bool] | KindredError]:
        """Commit, then make visible what was committed (in the writer's thread)."""
        results = self._opened().put(batches)
        try:
            for batch, taken in zip(batches, results, strict=True):
                if not isinstance(taken, KindredError):
                    self._take_in([packet for packet, new in zip(batch, taken, strict=True) if new])
        except BaseException:
            self._behind = True  # the scan lacks what the disk has: answering would lose packets in silence
            raise
        return results

    def _opened(self) -> Store:
        if self._store is None or self._behind:
            raise Unavailable(f"the store of {self._network} is not open")
        return self._store

    def _load(self) -> Store:
        self._scan = Scan(self._network, self._d)
        store = Store(self._path, self._max_map)
        try:
            for data in store.packets():
                packet = Packet.from_cbor(data)
                if not packet.tombstone and len(packet.fingerprint) != self._d:
                    raise PacketError(f"it has d={len(packet.fingerprint)}, the schema has d={self._d}")
                self._take_in([(packet, data)])
        except PacketError as error:
            store.close()
            raise Corrupt(f"{self._path}: a stored packet is not usable: {error.detail}") from None
        return store

    def _take_in(self, packets: Batch) -> None:
        for start in range(0, len(packets), _STEP):
            with self._scanning:
                for packet, data in packets[start : start + _STEP]:
                    if packet.tombstone:
                        self._scan.remove(packet.node)
                    else:
                        self._scan.put(packet.node, packet.action or "", packet.fingerprint, data)

    def _nearest(self, query: NearestQuery) -> NearestResult:
        with self._scanning:
            return self._scan.nearest(query)

    def _census(self) -> Census:
        with self._scanning:
            return self._scan.census()
