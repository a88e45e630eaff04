"""The nearest packets of a Milvus collection, exactly, in the total order.

The server measures in float32 and finds the candidates; they are measured again in float64. With u = 2^-24 a squared
distance that is the sum of d squares of differences, in any order, is off by less than (d + 3) u of itself (each
difference by u, its square by 2 u more, each of d additions by u; Higham 2002, section 4.2), so everything that the
server left out is at least (1 - margin) times as far as the last that it returned. Where the k-th nearest is nearer
than that, nothing is missing; else more is asked for, up to the server's limit, and beyond that everything is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from regional.engine import NearestQuery
from regional.engines.milvus.link import WINDOW
from regional.engines.milvus.rows import node_of, packet_of
from regional.engines.mirror import Home
from regional.packets.packet import identity_digest
from regional.packets.packetcbor import FLOAT32, findable
from registry.errors import PacketError, Unavailable
from registry.geometry.region import squared_distances

SLACK: Final = 16  # candidates beyond k
_THREAD_ABOVE: Final = 300  # candidates; more would hold up the event loop
_TINY: Final = 1e-35  # what float32 loses below its normal range

Float64s = npt.NDArray[np.float64]
Search = Callable[[int], Awaitable[list[Any]]]  # so many candidates: id, distance and entity of each, nearest first
ReadAll = Callable[[], Awaitable[list[Any]]]  # all rows: node and packet


class Reached(NamedTuple):
    """Packets of one arm in the total order, their squared distances, how many lie at the last and are foreign."""

    packets: list[bytes]
    distances2: Float64s
    tied: int
    foreign: int


class _Candidates(NamedTuple):
    packets: list[bytes]
    nodes: list[bytes]
    actions: list[str]
    distances2: Float64s
    foreign: int


def margin(d: int) -> float:
    """By which share of itself a squared distance of dimension d may be off, as the server measures it."""
    return 2.0 * (d + 3) * 2.0**-24


class Measure:
    """Measures candidates of `home` against a question."""

    def __init__(self, home: Home, d: int, query: NearestQuery) -> None:
        self._home = home
        self._d = d
        self._query = query
        self._point = query.fingerprint.astype(np.float64)
        self._margin = margin(d)

    async def nearest(self, search: Search, read_all: ReadAll, actions: Sequence[str]) -> Reached:
        """The first k in the total order within their bounds. Raises Unavailable where the server is not exact."""
        reach = max((self._query.bound(action) for action in actions), default=0.0)
        limit = min(self._query.k + SLACK, WINDOW)
        while True:
            hits = await search(limit)
            safe2 = np.inf if len(hits) < limit else float(hits[-1]["distance"]) * (1.0 - self._margin) - _TINY
            reached = await self._measured([(hit["id"], hit["entity"]) for hit in hits], [h["distance"] for h in hits])
            full = len(reached.packets) == self._query.k
            if (full and reached.distances2[-1] < safe2) or reach * reach * (1.0 + 1e-12) < safe2:
                return reached
            if limit == WINDOW:
                return await self._measured([(row["node"], row) for row in await read_all()], None)
            limit = min(2 * limit, WINDOW)

    async def _measured(self, rows: Sequence[tuple[str, Any]], told: Sequence[float] | None) -> Reached:
        """The first k of rows; in a thread where there are many."""
        if len(rows) > _THREAD_ABOVE:
            return await asyncio.to_thread(lambda: self._select(self._candidates(rows, told)))
        return self._select(self._candidates(rows, told))

    def _candidates(self, rows: Sequence[tuple[str, Any]], told: Sequence[float] | None) -> _Candidates:
        """What is one's own among rows, measured; told: the server's squared distances."""
        packets: list[bytes] = []
        nodes: list[bytes] = []
        actions: list[str] = []
        axes: list[bytes] = []
        which: list[int] = []
        for number, (key, row) in enumerate(rows):
            data = packet_of(row)
            try:
                node, action, place = findable(data)
            except PacketError:
                continue
            if node == node_of(key) and len(place) == self._d * FLOAT32.itemsize:
                packets.append(data)
                nodes.append(node)
                actions.append(action)
                axes.append(place)
                which.append(number)
        points = np.frombuffer(b"".join(axes), dtype=FLOAT32).reshape(-1, self._d).astype(np.float64)
        distances2 = squared_distances(points, self._point)
        if told is not None and which:
            theirs = np.asarray(told, dtype=np.float64)[which]
            off = np.abs(theirs - distances2) > self._margin * distances2 + _TINY
            if off.all():
                raise Unavailable("its distances are not squared Euclidean ones: the index was changed by others")
            for number in np.flatnonzero(off)[::-1].tolist():  # the row's place is not its packet's
                for column in (packets, nodes, actions):
                    del column[number]
            distances2 = distances2[~off]
        return _Candidates(packets, nodes, actions, distances2, len(rows) - len(packets))

    def _select(self, found: _Candidates) -> Reached:
        """The first k that are packets of the home and within their bounds; others are left out."""
        bounds = np.array([self._query.bound(action) for action in found.actions])
        inside = np.flatnonzero(np.sqrt(found.distances2) <= bounds)
        measured = found.distances2.tolist()
        order = sorted(
            inside.tolist(), key=lambda i: (measured[i], identity_digest(self._home.network, found.nodes[i]))
        )
        chosen: list[int] = []
        foreign = found.foreign
        tied = 0
        for i in order:
            if len(chosen) == self._query.k and measured[i] > measured[chosen[-1]]:
                break
            if self._home.read(found.packets[i], self._d) is None:
                foreign += 1
            elif len(chosen) < self._query.k:
                chosen.append(i)
            else:
                tied += 1
        distances2 = found.distances2[chosen]
        if chosen:
            tied += int(np.count_nonzero(distances2 == distances2[-1]))
        return Reached([found.packets[i] for i in chosen], distances2, tied, foreign)
