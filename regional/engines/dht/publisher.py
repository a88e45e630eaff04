"""What the owner of packets writes into a DHT, in which order, and again before the nodes forget it.

Packets and pages come first, then the heads that lead to them: who reads in between finds an older whole. A packet that
moves to another bucket is in both for a moment, never in none. What could not be put is kept, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import numpy as np

from regional.engine import Change
from regional.engines.backing import end, seq_of
from regional.engines.dht.directory import Directory
from regional.engines.dht.item import Head, gone, head_salt, packet_salt
from regional.engines.dht.node import DhtNode, Secret
from regional.engines.dht.tree import Tree
from regional.engines.embedded.feed import Watcher
from regional.engines.mirror import Home
from regional.packets.packetcbor import FLOAT32, findable
from registry.clock import Clock
from registry.errors import Conflict, Corrupt, KindredError, Unavailable

REPUBLISH_S: Final = 1800.0  # in which all is put once more; nodes forget after two hours (BEP 44)
_TICK_S: Final = 0.25
_PAUSE_S: Final = 0.5
_STEP: Final = 5_000  # puts begun at a time

log = logging.getLogger(__name__)

Put = Callable[[bytes, bytes], Awaitable[None]]
Get = Callable[[bytes], Awaitable[bytes | None]]


class Publisher:
    """The packets of dimension d in `buckets` buckets of a partition of this version.

    held: gives the packets of the truth, whose changes come through `feed`.
    """

    def __init__(
        self,
        node: DhtNode,
        secret: Secret,
        name: str,
        home: Home,
        d: int,
        buckets: int,
        version: int,
        clock: Clock,
        held: Get,
        feed: Watcher,
    ) -> None:
        self._node = node
        self._secret = secret
        self._name = name
        self._home = home
        self._d = d
        self._version = version
        self._clock = clock
        self._held = held
        self._feed = feed
        self._trees = [Tree(d) for _ in range(buckets)]
        self._seqs: dict[bytes, int] = {}  # of all that the truth keeps, tombstones too
        self._places: dict[bytes, int] = {}  # the buckets of those that can be found
        self._packets: dict[bytes, bytes] = {}  # what is still to be put, by node
        self._pages: dict[bytes, bytes] = {}  # and by name
        self._heads: dict[int, None] = dict.fromkeys(range(buckets))
        self._leaving: list[tuple[int, bytes]] = []  # nodes in buckets that they have left
        self._serial = 0
        self._taken = 0  # changes
        self._published = 0  # of those
        self._failure: str | None = None
        self._stirred = asyncio.Event()
        self._moved_on = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._again: list[bytes] = []  # nodes that are to be put once more in this round,
        self._round = 0  # of so many at its beginning
        self._began = clock.monotonic()

    async def open(self, kept: Iterable[Change]) -> None:
        """Begin with all that is kept; put what the DHT does not have, in the background."""
        there = await self._there()
        await asyncio.to_thread(self._take, list(kept))
        for node, seq in there.items():
            if self._seqs.get(node) == seq:
                self._packets.pop(node, None)
        self._begin_round(self._clock.monotonic())
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    def check(self) -> None:
        """Raise Unavailable while nothing can be put."""
        if self._failure is not None or self._task is None:
            raise Unavailable(self._failure or "it is not open")

    def _take(self, changes: Sequence[Change]) -> None:
        for bucket, node, packet in changes:
            self._taken += 1
            place = self._places.pop(node, None)
            if packet is None:
                self._packets[node] = gone(self._seqs.pop(node, 0))
            else:
                _, action, axes = findable(packet)
                self._packets[node] = packet
                self._seqs[node] = seq_of(packet)
                if axes:
                    point = np.frombuffer(axes, dtype=FLOAT32).astype(np.float64)
                    self._trees[bucket].put(node, self._seqs[node], point, action)
                    self._places[node] = bucket
                    self._heads[bucket] = None
            if place is not None and place != self._places.get(node):
                self._leaving.append((place, node))

    async def published(self, patience_s: float) -> None:
        """Wait until all that has changed by now is in the DHT. Raises Unavailable where it cannot be put."""
        self._take(self._feed.waiting())
        self._stirred.set()
        wanted = self._taken
        try:
            async with asyncio.timeout(patience_s), self._moved_on:
                while self._published < wanted:
                    self.check()
                    await self._moved_on.wait()
        except TimeoutError:
            raise Unavailable("the DHT has not taken it in time; deposit it again") from None

    async def _run(self) -> None:
        while True:
            try:
                self._take(self._feed.waiting())
                await self._refresh()
                await self._publish()
                if self._failure is not None:  # those who were silent may have forgotten all: a round is due at once
                    self._begin_round(self._clock.monotonic() - REPUBLISH_S)
                failure = None
            except Exception as error:  # whatever it is: it is tried again
                detail = error.detail if isinstance(error, KindredError) else f"{type(error).__name__}: {error}"
                failure = f"{self._name} cannot be published: {detail}"
                log.warning("%s; again in %.1f s", failure, _PAUSE_S)
                self._node.meet()
            async with self._moved_on:
                self._failure = failure
                self._moved_on.notify_all()
            if failure is not None:
                await asyncio.sleep(_PAUSE_S)
            elif not self._waits():
                self._stirred.clear()
                try:
                    async with asyncio.timeout(_TICK_S):
                        await self._stirred.wait()
                except TimeoutError:
                    continue

    def _waits(self) -> bool:
        return bool(self._packets or self._pages or self._heads or self._leaving)

    async def _publish(self) -> None:
        """All that waits; then once more, without what has left a bucket."""
        if not self._waits():
            return
        leaving, self._leaving = self._leaving, []
        try:
            taken = await self._write()
            if leaving:
                for bucket, node in leaving:
                    if self._places.get(node) != bucket and node in self._trees[bucket]:
                        self._trees[bucket].remove(node)
                        self._heads[bucket] = None
                await self._write()
        except BaseException:
            self._leaving += leaving
            raise
        self._published = taken

    async def _write(self) -> int:
        """Packets and pages, to which nothing leads yet, then the heads; up to which change they are."""
        taken = self._taken
        heads, self._heads = self._heads, {}
        try:
            for bucket in heads:
                self._pages.update(self._trees[bucket].commit())
            made = [self._head(bucket) for bucket in heads]
            packets = [(self._put_packet, *each) for each in self._packets.items()]
            pages = [(self._put_page, *each) for each in self._pages.items()]
            await self._all([*packets, *pages])
            await self._all([(self._put, head_salt(self._name, each.bucket), each.to_value()) for each in made])
        except BaseException:
            self._heads = {**heads, **self._heads}
            raise
        return taken

    async def _put_packet(self, node: bytes, value: bytes) -> None:
        await self._put(packet_salt(self._name, node), value)
        if self._packets.get(node) is value:
            del self._packets[node]

    async def _put_page(self, name: bytes, value: bytes) -> None:
        await self._node.put_immutable(name, value)
        self._pages.pop(name, None)

    def _head(self, bucket: int) -> Head:
        now = self._clock.now()
        self._serial = max(self._serial + 1, int(now * 1000))
        tree = self._trees[bucket]
        place = self._home, bucket, len(self._trees), self._version, self._d
        return Head(*place, self._serial, float(now), len(tree), tree.actions, tree.top)

    def _begin_round(self, began: float) -> None:
        self._again, self._began = list(self._seqs), began
        self._round = len(self._again)

    async def _refresh(self) -> None:
        """Have put again what is due by now, evenly over the time."""
        passed = (self._clock.monotonic() - self._began) / REPUBLISH_S
        due = min(len(self._again), int(passed * self._round) - (self._round - len(self._again)))
        for node in [self._again.pop() for _ in range(due)]:
            packet = None if node in self._packets else await self._held(node)
            if packet is not None:
                self._packets.setdefault(node, packet)
        if passed >= 1:
            self._begin_round(self._clock.monotonic())
            for bucket, tree in enumerate(self._trees):
                self._heads[bucket] = None
                self._pages.update(tree.pages())

    async def _there(self) -> dict[bytes, int]:
        """The seqs of what an earlier life has put lately; nothing where that cannot be read."""
        directory = Directory(self._node, self._secret.public, self._name)
        found: dict[bytes, int] = {}
        try:
            for bucket in range(len(self._trees)):
                head = await directory.head(bucket)
                if head is None:
                    continue
                self._serial = max(self._serial, head.serial)
                if (head.home, head.d) != (self._home, self._d):
                    raise Conflict(f"{self._name} holds packets of {head.home} in this DHT, not of {self._home}")
                if head.top is not None and self._clock.now() - head.time < REPUBLISH_S:
                    leaves = await directory.leaves(head.top, {})
                    for keys in await asyncio.gather(*map(directory.keys, leaves)):
                        found.update(keys)
        except (Unavailable, Corrupt) as error:
            log.warning("what %s has published before is not readable: %s", self._name, error.detail)
            return {}
        return found

    async def _put(self, salt: bytes, value: bytes) -> None:
        await self._node.put_mutable(self._secret, salt, value)

    @staticmethod
    async def _all(puts: Sequence[tuple[Put, bytes, bytes]]) -> None:
        """So many at a time. Raises what the first that failed raised, once none is under way."""
        for start in range(0, len(puts), _STEP):
            some = puts[start : start + _STEP]
            outcomes = await asyncio.gather(*(put(what, value) for put, what, value in some), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
