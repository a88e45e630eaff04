"""The default engine: LMDB is the durable truth, an exact scan in memory answers."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from regional.engine import MAX_K, Census, Change, Limits, NearestQuery, NearestResult, PutResult, Told, Watch
from regional.engines.embedded.environment import MAX_MAP
from regional.engines.embedded.feed import Watcher
from regional.engines.embedded.store import Batch, Store
from regional.engines.embedded.writer import Writer
from regional.engines.exact.index import Index
from regional.engines.exact.scan import Entry
from regional.packets.packet import Packet
from regional.packets.packetcbor import FLOAT32, findable
from regional.partition import Partition
from registry.errors import Corrupt, KindredError, PacketError, Unavailable

MAX_WAITING: Final = 50_000  # packets of one network that may wait for the disk; more are turned away
_PAGE: Final = 1024  # packets read at once where all are read: deposits wait no longer than that


class EmbeddedEngine:
    """Packets of one network of dimension `d` in the directory `path`; `writer` is the process's.

    partition: that of a store which has none yet. history: how many packets of a node are kept,
    the current one counted.
    """

    def __init__(
        self,
        network: str,
        d: int,
        path: Path,
        writer: Writer,
        max_map: int = MAX_MAP,
        partition: Partition | None = None,
        history: int = 1,
    ) -> None:
        self._history = history
        self._network = network
        self._d = d
        self._path = path
        self._writer = writer
        self._max_map = max_map
        self._partition = partition or Partition.whole(d)
        self._store: Store | None = None
        self._index = Index(network, d)
        self._watchers: set[Watcher] = set()
        self._waiting = 0
        self._behind = False

    @property
    def limits(self) -> Limits:
        """Any number of packets that fit disk and memory."""
        return Limits(k=MAX_K, packets=None, atomic=MAX_WAITING, history=self._history)

    @property
    def partition(self) -> Partition:
        """How the packets are parted into buckets."""
        return self._partition

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return len(self._index)

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

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget the packets of nodes, each unless it is of a higher seq than named; which there were to forget."""
        store = self._opened()

        def forget() -> list[bool]:
            removed = store.remove(nodes)
            taken = [data for data in removed if data is not None]
            gone = [change._replace(packet=None) for change in self._changes(taken)]
            self._show([Entry(change.node, "", b"", b"") for change in gone], gone)
            return [data is not None for data in removed]

        return await self._writer.call(forget)

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""
        return self._opened().get(node)

    async def history(self, node: bytes) -> list[bytes]:
        """The packets of a node that are kept, the current one first; of a withdrawn one, the tombstone alone."""
        return self._opened().history(node)

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket, those of withdrawn nodes left out."""
        return [
            change.packet
            async for page in self._pages()
            for change in page
            if change.bucket == number and change.packet and findable(change.packet)[2]
        ]

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly."""
        self._opened()
        return await self._index.nearest(query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        self._opened()
        return await self._index.census()

    async def watch(self, after: int | None = None) -> Watch:  # noqa: ARG002
        """All that is kept, tombstones too, then each change as it comes; from no position on, always afresh."""
        self._opened()
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            afresh = True
            async for page in self._pages():
                yield Told(page, complete=False, afresh=afresh)
                afresh = False
            yield Told((), complete=True, afresh=afresh)
            async for changes in watcher.changes():
                yield Told(changes, complete=True)
        finally:
            self._watchers.discard(watcher)

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""
        return self._opened().note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value beside the packets, durably."""
        store = self._opened()
        await self._writer.call(lambda: store.keep_note(name, value))

    def tell(self, watcher: Watcher) -> None:
        """Offer each change from now on to `watcher`, in the order of the commits and before a `put` returns."""
        self._watchers.add(watcher)

    def write(self, batches: Sequence[Batch]) -> list[list[bool] | KindredError]:
        """Commit, then make visible what was committed (in the writer's thread)."""
        results = self._opened().put(batches)
        new: list[tuple[Packet, bytes]] = []
        for batch, taken in zip(batches, results, strict=True):
            if not isinstance(taken, KindredError):
                new += [each for each, accepted in zip(batch, taken, strict=True) if accepted]
        entries = (
            Entry(packet.node, packet.action or "", packet.fingerprint.astype(FLOAT32, copy=False).tobytes(), data)
            for packet, data in new
        )
        told = new if self._watchers else []
        self._show(entries, [Change(self._partition.bucket(each.fingerprint), each.node, data) for each, data in told])
        return results

    def _show(self, entries: Iterable[Entry], changes: Sequence[Change]) -> None:
        """Make visible what is committed."""
        try:
            self._index.take(entries)
        except BaseException:
            self._behind = True  # the index lacks what the disk has: answering would lose packets in silence
            raise
        for watcher in tuple(self._watchers):
            watcher.offer(changes)

    def _opened(self) -> Store:
        if self._store is None or self._behind:
            raise Unavailable(f"the store of {self._network} is not open")
        return self._store

    def _load(self) -> Store:
        self._index = Index(self._network, self._d)
        store = Store(self._path, self._max_map, self._history)
        try:
            noted = store.note("partition")
            if noted is None:
                store.keep_note("partition", self._partition.to_bytes())
            else:
                self._partition = Partition.from_bytes(noted, self._d)
            self._index.take(self._entry(data) for data in store.packets())
        except PacketError as error:
            store.close()
            raise Corrupt(f"{self._path}: a stored packet is not usable: {error.detail}") from None
        except KindredError:
            store.close()
            raise
        return store

    def _entry(self, data: bytes) -> Entry:
        """What was checked when it was stored is not decoded as a whole."""
        node, action, axes = findable(data)
        if axes:
            point = np.frombuffer(axes, dtype=FLOAT32)
            if len(point) != self._d:
                raise PacketError(f"it has d={len(point)}, the schema has d={self._d}")
            if not math.isfinite(point.dot(point)):
                raise PacketError("its fingerprint is not finite")
        return Entry(node, action, axes, data)

    def _changes(self, held: Sequence[bytes]) -> list[Change]:
        """Packets with their buckets."""
        found = [findable(data) for data in held]
        buckets = np.zeros(len(held), dtype=np.intp)
        rows = [row for row, (_, _, axes) in enumerate(found) if axes]
        joined = b"".join([found[row][2] for row in rows])
        buckets[rows] = self._partition.buckets(np.frombuffer(joined, dtype=FLOAT32).reshape(-1, self._d))
        return [Change(b, node, data) for b, (node, _, _), data in zip(buckets.tolist(), found, held, strict=True)]

    async def _pages(self) -> AsyncGenerator[Sequence[Change], None]:
        """All that is kept, page by page, each read between two commits."""
        after = 0
        while True:
            page, after = await self._writer.call(partial(self._page, self._opened(), after))
            if not page:
                return
            yield page

    def _page(self, store: Store, after: int) -> tuple[list[Change], int]:
        held, after = store.page(after, _PAGE)
        return self._changes(held), after

    def _let_go(self, store: Store) -> None:
        self._index.close()
        store.close()
