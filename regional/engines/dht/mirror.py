"""What a reader has read of a network in a DHT, in memory, and read on where a question needs more.

The heads are asked anew for every question (or kept for `ttl_s`), all else is read once: a page never changes, and a
packet is read again when a leaf names a higher seq. Only leaves whose boxes come near enough are opened, nearest first,
until no leaf that is left can hold what was asked for; so the answer is exact, however little was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.engine import Census, NearestQuery, NearestResult
from regional.engines.backing import NEVER, seq_of
from regional.engines.dht.directory import MAX_AGE_S, Directory
from regional.engines.dht.item import Head, Key, Ref
from regional.engines.exact.index import Index
from regional.engines.exact.scan import Entry
from regional.engines.mirror import Home
from regional.packets.packetcbor import findable
from registry.clock import Clock
from registry.errors import Conflict, Corrupt, Unavailable

_DEFLATED: Final = 1.0 - 1e-9  # a bound's float error, downward
_FIRST: Final = 4  # leaves opened at once; twice as many in each round that follows

Float64s = npt.NDArray[np.float64]


class DhtMirror:
    """The packets of `home`, of dimension d, as its `directory` leads to them."""

    def __init__(self, directory: Directory, home: Home, d: int, clock: Clock, ttl_s: float = 0.0) -> None:
        self._directory = directory
        self._home = home
        self._d = d
        self._clock = clock
        self._ttl_s = ttl_s
        self._index = Index(home.network, d)
        self._heads: list[Head] = []
        self._pages: dict[bytes, list[Ref]] = {}
        self._leaves: list[tuple[int, Ref]] = []  # with their buckets
        self._lo: Float64s = np.empty((0, d))  # of their boxes
        self._hi: Float64s = np.empty((0, d))
        self._names: frozenset[bytes] = frozenset()  # of the leaves
        self._open: dict[bytes, list[Key]] = {}  # leaves whose packets are in the index, by name
        self._opening: dict[bytes, asyncio.Task[None]] = {}
        self._packets: dict[bytes, tuple[int, bytes]] = {}  # seq and packet, b"" for one that is gone
        self._generation = 0
        self._asked = -np.inf  # when the heads were asked for last, on the monotonic clock
        self._begun = self._done = 0  # refreshes
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Packets that the heads count."""
        return sum(each.n for each in self._heads)

    @property
    def held(self) -> int:
        """Packets that were read, and are kept."""
        return len(self._packets)

    @property
    def buckets(self) -> int:
        """Of the partition, as the heads say."""
        return len(self._heads)

    def close(self) -> None:
        """Let go."""
        for task in (*self._opening.values(), *([self._refreshing] if self._refreshing else ())):
            task.cancel()
        self._index.close()

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone)."""
        return await self._directory.current(node)

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket, those of withdrawn nodes left out. Raises Unavailable, Corrupt."""
        leaves = await self._whole(lambda bucket: bucket == number)
        nodes = {key.node for ref in leaves for key in self._open[ref.name]}
        return [packet for packet in (self._packets[node][1] for node in nodes) if packet and findable(packet)[2]]

    async def census(self) -> Census:
        """Everything that can be found."""
        await self._whole(lambda _bucket: True)
        return await self._index.census()

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly. Raises Unavailable where one that may be among them is missing, Corrupt."""
        await self.refresh()
        at_once = _FIRST
        while True:
            generation = self._generation
            result = await self._index.nearest(query)
            if generation != self._generation:
                continue
            needed = self._needed(query, result)
            if not needed:
                return result
            await self._open_all(needed[:at_once])
            at_once *= 2

    async def refresh(self) -> None:
        """Know the heads as they were at this moment, or later. Raises Unavailable, Corrupt."""
        if self._clock.monotonic() - self._asked < self._ttl_s:
            return
        before = self._begun
        while self._done <= before:
            if self._refreshing is None or self._refreshing.done():  # awaiting one that is done would never pause
                self._begun += 1
                self._refreshing = asyncio.create_task(self._refresh(self._begun))
                self._refreshing.add_done_callback(_looked_at)
            await asyncio.shield(self._refreshing)  # who waits no longer loses nothing

    async def _refresh(self, number: int) -> None:
        asked = self._clock.monotonic()
        heads = await self._newest()
        if [each.serial for each in heads] != [each.serial for each in self._heads]:
            known = dict(self._pages)
            tops = [(bucket, head.top) for bucket, head in enumerate(heads) if head.top is not None]
            parts = await asyncio.gather(*(self._directory.leaves(top, known) for _, top in tops))
            leaves = [(bucket, ref) for (bucket, _), part in zip(tops, parts, strict=True) for ref in part]
            self._adopt(heads, leaves, known)
        self._asked, self._done = asked, number

    async def _newest(self) -> list[Head]:
        """The heads of all buckets, none older than one that was seen before."""
        first = await self._head(0)
        others = await asyncio.gather(*(self._head(bucket) for bucket in range(1, first.buckets)))
        heads = [first, *others]
        for head in heads:
            if head.home != self._home:
                raise Conflict(f"{self._home.network}: the DHT has packets of {head.home}, not of {self._home}")
            if (head.d, head.buckets, head.version) != (self._d, first.buckets, first.version):
                raise Corrupt(f"{self._home.network}: the heads of its buckets differ, or are not of d={self._d}")
        return heads

    async def _head(self, bucket: int) -> Head:
        head = await self._directory.head(bucket)
        if head is None:
            raise Unavailable(f"{self._home.network}: the head of bucket {bucket} is not in the DHT")
        age = self._clock.now() - head.time
        if age > MAX_AGE_S:
            raise Unavailable(f"{self._home.network}: its owner last signed bucket {bucket} {age / 3600:.1f} hours ago")
        if bucket < len(self._heads) and head.serial < self._heads[bucket].serial:
            raise Unavailable(f"{self._home.network}: the DHT has an older head of bucket {bucket} than it had before")
        return head

    def _adopt(self, heads: list[Head], leaves: list[tuple[int, Ref]], known: dict[bytes, list[Ref]]) -> None:
        """Go over to another state of the directory; forget what is no longer in it."""
        self._names = names = frozenset(ref.name for _, ref in leaves)
        held = {key.node for keys in self._open.values() for key in keys}
        self._open = {name: keys for name, keys in self._open.items() if name in names}
        still = {key.node for keys in self._open.values() for key in keys}
        self._index.take([Entry(node, "", b"", b"") for node in held - still])
        self._packets = {node: each for node, each in self._packets.items() if node in held}
        self._heads, self._leaves = heads, leaves
        self._pages = _reachable(heads, known)
        self._lo = np.array([ref.lo for _, ref in leaves]).reshape(-1, self._d)
        self._hi = np.array([ref.hi for _, ref in leaves]).reshape(-1, self._d)
        self._generation += 1

    def _needed(self, query: NearestQuery, result: NearestResult) -> list[Ref]:
        """Leaves that are not open and may hold what is among the nearest, nearest first."""
        if len(self._open) == len(self._names):
            return []
        point = query.fingerprint.astype(np.float64)
        beyond = np.maximum(0.0, np.maximum(self._lo - point, point - self._hi))
        bounds = np.sqrt((beyond * beyond).sum(axis=1)) * _DEFLATED
        reaches = [_reaches(head, query, result) for head in self._heads]
        rows = [
            row
            for row in np.argsort(bounds, kind="stable").tolist()
            if self._leaves[row][1].name not in self._open
            and bounds[row] <= reaches[self._leaves[row][0]](self._leaves[row][1].mask)
        ]
        return [self._leaves[row][1] for row in rows]

    async def _whole(self, wanted: Callable[[int], bool]) -> list[Ref]:
        """All leaves of the buckets that are wanted, open, of one state of the directory."""
        await self.refresh()
        while True:
            generation = self._generation
            leaves = [ref for bucket, ref in self._leaves if wanted(bucket)]
            await self._open_all(leaves)
            if generation == self._generation:
                return leaves

    async def _open_all(self, leaves: Iterable[Ref]) -> None:
        """Have the packets of leaves in the index."""
        tasks = []
        for ref in leaves:
            if ref.name not in self._open:
                task = self._opening.get(ref.name)
                if task is None:
                    task = self._opening[ref.name] = asyncio.create_task(self._open_one(ref))
                    task.add_done_callback(lambda done, name=ref.name: self._opened(name, done))  # type: ignore[misc]
                tasks.append(task)
        for task in tasks:  # shielded: who waits no longer loses nothing
            await asyncio.shield(task)

    async def _open_one(self, ref: Ref) -> None:
        keys = await self._directory.keys(ref)
        known = {key.node: self._packets.get(key.node, (NEVER, b"")) for key in keys}
        unread = [key for key in keys if known[key.node][0] < key.seq]
        packets = await asyncio.gather(*map(self._directory.packet, unread))
        for key, packet in zip(unread, packets, strict=True):
            known[key.node] = key.seq if packet is None else seq_of(packet), packet or b""
        if ref.name not in self._names:
            return  # the directory has changed meanwhile
        for node, (seq, packet) in known.items():
            if seq >= self._packets.get(node, (NEVER, b""))[0]:
                self._packets[node] = seq, packet
        self._index.take([self._entry(key.node) for key in keys])
        self._open[ref.name] = keys

    def _opened(self, name: bytes, task: asyncio.Task[None]) -> None:
        del self._opening[name]
        _looked_at(task)

    def _entry(self, node: bytes) -> Entry:
        packet = self._packets[node][1]
        if not packet:
            return Entry(node, "", b"", b"")
        found, action, axes = findable(packet)
        if found != node or len(axes) not in (0, 4 * self._d):
            raise Corrupt(f"{self._home.network}: a packet in the DHT is of another node or d than its directory says")
        return Entry(node, action, axes, packet)


def _reaches(head: Head, query: NearestQuery, result: NearestResult) -> Callable[[int], float]:
    """How far away something of a mask's actions may lie, in this bucket, and be among the nearest."""
    arms = _arms(query, result)

    def reach(action: str) -> float:
        if query.actions is not None and action not in query.actions:
            return -1.0
        n, last = arms.get(action if query.per == "action" else "", (0, np.inf))
        return min(query.bound(action), last if n >= query.k else np.inf)

    names = head.actions
    if names is None:
        return lambda _mask: np.inf
    each = [reach(name) for name in names]

    def of_mask(mask: int) -> float:
        return max((each[bit] for bit in range(len(each)) if mask >> bit & 1), default=-1.0)

    return of_mask


def _looked_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # those who wait are told; nobody may wait any more


def _arms(query: NearestQuery, result: NearestResult) -> dict[str, tuple[int, float]]:
    """Of each arm that was found, how many, and how far away the last one is."""
    distances = np.sqrt(result.distances2).tolist()
    if query.per == "all":
        return {"": (len(distances), distances[-1] if distances else np.inf)}
    found: dict[str, tuple[int, float]] = {}
    for packet, distance in zip(result.packets, distances, strict=True):
        action = findable(packet)[1]
        found[action] = found.get(action, (0, 0.0))[0] + 1, distance
    return found


def _reachable(heads: Sequence[Head], known: dict[bytes, list[Ref]]) -> dict[bytes, list[Ref]]:
    """The pages that the heads lead to."""
    found: dict[bytes, list[Ref]] = {}
    waiting = [head.top for head in heads if head.top is not None]
    while waiting:
        ref = waiting.pop()
        if ref.level:
            found[ref.name] = known[ref.name]
            waiting += found[ref.name]
    return found
