"""The default engine: LMDB is the durable truth, an exact scan in memory answers."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from regional.engine import MAX_K, Census, Limits, NearestQuery, NearestResult, PutResult
from regional.engines.scan import Entry, Scan
from regional.engines.store import MAX_MAP, Batch, Store
from regional.engines.writer import Writer
from regional.packet import Packet
from regional.packetcbor import FLOAT32, findable
from registry.errors import Corrupt, KindredError, PacketError, Unavailable

MAX_WAITING: Final = 50_000  # packets of one network that may wait for the disk; more are turned away
_THREAD_ABOVE: Final = 100_000  # numbers in the scan; a larger one would hold up the event loop
_STEP: Final = 1024  # packets taken into the scan at once, so that a question never waits long for the lock


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
        self._gatherer: threading.Thread | None = None
        self._closing = threading.Event()

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
            await self._writer.call(lambda: self._let_go(store))

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
            new: list[tuple[Packet, bytes]] = []
            for batch, taken in zip(batches, results, strict=True):
                if not isinstance(taken, KindredError):
                    new += [each for each, accepted in zip(batch, taken, strict=True) if accepted]
            self._take_in(
                Entry(packet.node, packet.action or "", packet.fingerprint.astype(FLOAT32, copy=False).tobytes(), data)
                for packet, data in new
            )
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
        self._closing.clear()
        store = Store(self._path, self._max_map)
        try:
            self._take_in(self._held(data) for data in store.packets())
        except PacketError as error:
            store.close()
            raise Corrupt(f"{self._path}: a stored packet is not usable: {error.detail}") from None
        return store

    def _held(self, data: bytes) -> Entry:
        """What was checked when it was stored is not decoded as a whole."""
        node, action, axes = findable(data)
        if axes:
            point = np.frombuffer(axes, dtype=FLOAT32)
            if len(point) != self._d:
                raise PacketError(f"it has d={len(point)}, the schema has d={self._d}")
            if not math.isfinite(point.dot(point)):
                raise PacketError("its fingerprint is not finite")
        return Entry(node, action, axes, data)

    def _let_go(self, store: Store) -> None:
        self._closing.set()
        if self._gatherer is not None:
            self._gatherer.join()
            self._gatherer = None
        store.close()

    def _take_in(self, entries: Iterable[Entry]) -> None:
        """Make packets findable, and gather them anew, in a thread, where that pays."""
        entries = iter(entries)
        while some := list(islice(entries, _STEP)):
            with self._scanning:
                self._scan.take(some)
        if self._scan.scattered() and not (self._gatherer and self._gatherer.is_alive()):
            self._gatherer = threading.Thread(target=self._gather, name="kindred-gatherer", daemon=True)
            self._gatherer.start()

    def _gather(self) -> None:
        while not self._closing.is_set():
            with self._scanning:
                gathering = self._scan.gather()
            if gathering is None:
                return
            coarse = gathering.work(self._closing.is_set)
            with self._scanning:
                self._scan.adopt(gathering, coarse)

    def _nearest(self, query: NearestQuery) -> NearestResult:
        with self._scanning:
            return self._scan.nearest(query)

    def _census(self) -> Census:
        with self._scanning:
            return self._scan.census()
