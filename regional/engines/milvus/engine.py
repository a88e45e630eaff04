"""Packets in a Milvus collection, which answers *nearest* itself: `milvus://HOST:PORT/NAME`.

A row is a node's current packet, with its fingerprint in a FLAT index, its bucket, and a revision by which a watch
tells what has changed. Candidates come from the server, exactness from regional/engines/milvus/search.py, and "only a
higher seq" from there being one writer at a time (regional/engines/milvus/writer.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import numpy as np

from regional.engine import MAX_K, Census, Change, Limits, NearestQuery, NearestResult, PutResult, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, SILENCE_S, Placed, end, newest_of, results_of
from regional.engines.milvus.link import Gone, MilvusLink
from regional.engines.milvus.rows import (
    FIELDS,
    FOUND,
    GONE,
    INDEX,
    NOTE,
    WITHDRAWN,
    Row,
    action_key,
    key_of,
    node_of,
    note_filter,
    note_rows,
    packet_of,
    padded,
)
from regional.engines.milvus.search import Measure
from regional.engines.milvus.store import MilvusStore, noted
from regional.engines.milvus.writer import ATOMIC, MilvusWriter
from regional.engines.mirror import Home
from regional.packets.packet import Packet
from regional.packets.packetcbor import FLOAT32
from regional.partition import Partition
from registry.errors import KindredError, Unavailable

_POLL_S: Final = 0.2  # between looks at what has changed

log = logging.getLogger(__name__)


class MilvusEngine:
    """The packets of `home`, of dimension `d`. partition: that of a store that does not exist yet."""

    def __init__(
        self,
        home: Home,
        d: int,
        address: EngineAddress,
        partition: Partition | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.foreign = 0  # rows that are no packets of this network, among those that were read last
        self._home = home
        self._d = d
        self._partition = partition or Partition.whole(d)
        self._link = MilvusLink(address, patience_s)
        name = address.name.replace("-", "_")  # Milvus knows no hyphens, and an address no underscores
        self._alias = f"kindred_{name}"
        self._writer = MilvusWriter(self._link, self._alias, name, d, patience_s)
        self._patience_s = patience_s
        self._read = 0  # how many of the writer's writes reads see
        self._at = 0  # a time of the server's: reads see all that was acknowledged before
        self._lost: str | None = "it is not open"  # why it cannot answer
        self._staying: asyncio.Task[None] | None = None

    @property
    def limits(self) -> Limits:
        """A put of as many packets as one message of Milvus' log holds is stored all or none."""
        return Limits(k=MAX_K, packets=None, atomic=ATOMIC)

    @property
    def partition(self) -> Partition:
        """How the packets are parted into buckets."""
        return self._partition

    @property
    def count(self) -> int:
        """Packets held: as this front knows while it writes, else as the server said within the last second."""
        return self._writer.count

    async def open(self) -> None:
        """Connect, make the collection where there is none, and have it loaded."""
        await self._link.open()
        try:
            store = MilvusStore(self._link, self._alias, self._home, self._d)
            self._partition = await store.open(self._writer.fresh_name(0), self._partition)
            await self._look()
            self._lost = None
            self._staying = asyncio.create_task(self._stay())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        staying, self._staying = self._staying, None
        if staying is not None:
            await end(staying)
        self._lost = "it is not open"
        await self._writer.close()
        await self._link.close()

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets. Raises StorageFull or Unavailable, with nothing acknowledged."""
        newest = newest_of(packets)
        placed = [(self._placed(packet, data), packet) for packet, data in newest.values()]
        held = dict(zip(newest, await self._writer.put(placed), strict=True))
        return results_of(packets, held)

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets; a mark of each stays."""
        return await self._writer.forget(nodes)

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node (also a tombstone), not older than anything that any front has acknowledged."""
        wanted = f'node == "{key_of(node)}" and state in [{FOUND}, {WITHDRAWN}]'
        rows = await self._link.query(self._alias, await self._link.now(), wanted, ["node", "packet"], 1)
        data = packet_of(rows[0]) if rows else b""
        return data if self._home.read(data, self._d) is not None else None

    async def history(self, node: bytes) -> list[bytes]:
        """The current packet: no other is kept."""
        data = await self.get(node)
        return [] if data is None else [data]

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket. Raises Unavailable rather than tell a part."""
        found: list[bytes] = []
        async with aclosing(self._pages(f"state == {FOUND} and bucket == {number}")) as pages:
            async for page in pages:
                found += [data for data, _ in page]
        return found

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly. Raises Unavailable while the server cannot be heard."""
        if self._lost is not None:
            raise Unavailable(f"{self._home.network}: {self._lost}")
        await self._catch_up()
        known = self._writer.actions
        names = sorted(known if query.actions is None else known & set(query.actions))
        if not names:
            return NearestResult([], np.empty(0), {"": 0} if query.per == "all" else {})
        measure = Measure(self._home, self._d, query)
        arms = [[name] for name in names] if query.per == "action" else [names]
        reached = await asyncio.gather(
            *(measure.nearest(partial(self._search, query, arm), partial(self._all, arm), arm) for arm in arms)
        )
        self.foreign = sum(each.foreign for each in reached)
        tied = dict(zip(names if query.per == "action" else [""], [each.tied for each in reached], strict=True))
        distances2 = np.concatenate([np.empty(0), *(each.distances2 for each in reached)])
        return NearestResult([data for each in reached for data in each.packets], distances2, tied)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        found: list[tuple[str, bytes, bytes]] = []
        async with aclosing(self._pages(f"state == {FOUND}")) as pages:
            async for page in pages:
                for _, packet in page:
                    axes = packet.fingerprint.astype(FLOAT32, copy=False).tobytes()
                    found.append((packet.action or "", packet.node, axes))
        found.sort()
        points = np.frombuffer(b"".join(axes for _, _, axes in found), dtype=FLOAT32).reshape(-1, self._d)
        return Census(points.astype(np.float32), [action for action, _, _ in found], [node for _, node, _ in found])

    async def watch(self, after: int | None = None) -> Watch:
        """All that is kept, then each change, looked for again and again; a position is a revision."""
        position, afresh, complete = after or 0, after is None, False
        if after is not None and not await self._link.count(
            self._alias, await self._link.now(), f"state < {NOTE} and revision >= {after}"
        ):
            position, afresh = 0, True  # not the collection that was watched
        while True:
            least: int | None = None  # the highest revision that is certainly told in full
            wanted = f"state < {NOTE} and revision > {position}" if position else f"state < {NOTE}"
            async with aclosing(self._link.pages(self._alias, wanted, [*FIELDS, "revision"])) as pages:
                async for page in pages:
                    least = max(row["revision"] for row in page) if least is None else least
                    yield Told(await asyncio.to_thread(self._changes, page), complete, afresh)
                    afresh = False
            position = position if least is None else least
            if not complete or least is not None:
                complete = True
                yield Told((), complete, afresh, position)
                afresh = False
            await asyncio.sleep(_POLL_S)

    async def note(self, name: str) -> bytes | None:
        """A note is rows of its own."""
        return await noted(self._link, self._alias, await self._link.now(), name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Whatever was noted before."""
        await self._link.call("upsert", self._alias, note_rows(name, value, self._d))

    # ---- the server -------------------------------------------------------------------------------------------

    async def _stay(self) -> None:
        """Look every second, for ever; without an answer for SILENCE_S this front does not answer either."""
        while True:
            await asyncio.sleep(SILENCE_S / 3)
            try:
                async with asyncio.timeout(SILENCE_S * 2 / 3):
                    await self._look()
                self._lost = None
            except Exception as error:  # whatever it is: a network must not stay silent for it
                detail = error.detail if isinstance(error, KindredError) else f"{type(error).__name__}: {error}"
                if self._lost is None:
                    log.warning("%s: %s", self._home.network, detail)
                self._lost = f"{self._link.where} cannot be heard: {detail}"

    async def _look(self) -> None:
        """Ask for what only a server that works knows: the time, who writes, and what there is."""
        at = await self._link.now()
        description = await self._link.call("describe_collection", self._alias)
        self._writer.is_of_others(str(description["collection_name"]))
        if self._writer.owns:
            await self._link.query(self._alias, at, note_filter("network"), ["node"], 1)
        else:
            writes = self._writer.writes
            count = await self._link.count(self._alias, at, f"state == {FOUND}")
            actions = await self._writer.noted_actions(self._alias, at)
            if self._writer.writes == writes:  # else it has owned it meanwhile, and knows better
                self._writer.hear(count, actions)
        self._at = max(self._at, at)

    # ---- reading -----------------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """See that reads see what this front has stored."""
        writes = self._writer.writes
        if writes != self._read:
            at = await self._link.now()
            self._at, self._read = max(self._at, at), max(self._read, writes)

    async def _search(self, query: NearestQuery, arm: Sequence[str], limit: int) -> list[Any]:
        """So many candidates among packets of these actions."""
        actions = ",".join(f'"{action_key(action)}"' for action in arm)
        try:
            found = await self._link.call(
                "search",
                self._alias,
                data=[padded(query.fingerprint, self._d)],
                filter=f"state == {FOUND} and action in [{actions}]",
                limit=limit,
                output_fields=["packet"],
                search_params={"metric_type": INDEX["metric_type"]},
                consistency_level="Customized",
                guarantee_timestamp=self._at,
                patience_s=min(self._patience_s, SILENCE_S),
            )
        except Gone as error:
            raise Unavailable(f"{self._link.where}: {error}") from None
        return list(found[0])

    async def _all(self, arm: Sequence[str]) -> list[Row]:
        """All rows of packets of these actions."""
        actions = ",".join(f'"{action_key(action)}"' for action in arm)
        found: list[Row] = []
        wanted = f"state == {FOUND} and action in [{actions}]"
        async with aclosing(self._link.pages(self._alias, wanted, ["packet"])) as pages:
            async for page in pages:
                found += page
        return found

    async def _pages(self, wanted: str) -> AsyncGenerator[list[tuple[bytes, Packet]], None]:
        """The packets of this network among rows, with their bytes."""
        async with aclosing(self._link.pages(self._alias, wanted, ["packet"])) as pages:
            async for page in pages:
                yield await asyncio.to_thread(self._own, page)

    def _own(self, page: Sequence[Row]) -> list[tuple[bytes, Packet]]:
        read = [
            (row["node"], data, self._home.read(data, self._d))
            for row, data in zip(page, map(packet_of, page), strict=True)
        ]
        own = [(data, packet) for key, data, packet in read if packet is not None and packet.node == node_of(key)]
        self.foreign = len(page) - len(own)
        return own

    def _changes(self, page: Sequence[Row]) -> list[Change]:
        """What rows say, in the order of their revisions."""
        changes = []
        for row in sorted(page, key=lambda row: int(row["revision"])):
            node, data = node_of(row["node"]), packet_of(row)
            if node is None:
                continue
            if row["state"] == GONE:
                changes.append(Change(row["bucket"], node, None))
            elif self._home.read(data, self._d) is not None:
                changes.append(Change(row["bucket"], node, data))
        return changes

    def _placed(self, packet: Packet, data: bytes) -> Placed:
        bucket = None if packet.tombstone else self._partition.bucket(packet.fingerprint)
        return Placed(bucket, packet.node, packet.seq, data)
