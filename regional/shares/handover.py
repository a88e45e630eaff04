"""Packets on their way to where they will be kept, while the network that keeps them now goes on taking more.

A handover reads all that the source keeps, and from the same moment takes note of every deposit. Of each node the
newest packet is put to the target, which drops what is not newer than what it has; so it may begin anew at any time,
and nothing arrives twice. What does not belong to the target (any more) is taken away from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from regional.engine import Census, Change, Engine, PutResult, Watch
from regional.engines.backing import end, seq_of
from regional.packets.packet import Packet
from regional.shares.trying import Trying
from registry.errors import Unavailable

BATCH: Final = 256  # packets put at once: a question waits no longer than the work on these takes
READ_AHEAD: Final = 1024  # packets that wait for the target; then the source is read no further
MAX_WAITING: Final = 8192  # then deposits wait too, so that it can catch up
PATIENCE_S: Final = 10.0  # a deposit that has to be at the target too is not acknowledged after that
LAST_PAUSE_S: Final = 2.0
UNKNOWN: Final = -1  # the seq of what the target held before

_Waiting = tuple[Packet, bytes | None]


class Source(Protocol):
    """Where the packets are."""

    def watch(self, after: int | None = None) -> Watch: ...


class Target(Protocol):
    """Where they are to be."""

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]: ...

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]: ...

    async def get(self, node: bytes) -> bytes | None: ...

    async def census(self) -> Census: ...


def everything(packets: Sequence[Packet]) -> list[bool]:
    """All packets belong to the target."""
    return [True] * len(packets)


class Handover:
    """From `source` to `target`, what `belongs` says of it; a tombstone belongs wherever its node is.

    copied: packets put so far. complete: set once all that the source kept has been put.
    """

    def __init__(
        self, source: Source, target: Target, belongs: Callable[[Sequence[Packet]], Sequence[bool]] = everything
    ) -> None:
        self._source = source
        self._target = target
        self._belongs = belongs
        self._waiting: dict[bytes, _Waiting] = {}  # None: it has to go from the target
        self._there: dict[bytes, int] = {}  # nodes that the target may hold, each with the seq that was sent there
        self._stirred = asyncio.Event()
        self._turned = asyncio.Event()  # set, and replaced, when something has arrived
        self._tasks: list[asyncio.Task[None]] = []
        self.copied = 0
        self.complete = asyncio.Event()
        self._trying = Trying("a handover", LAST_PAUSE_S)

    @property
    def trouble(self) -> str | None:
        """Why it stands still."""
        return self._trying.trouble

    def start(self) -> None:
        """Begin, in the background."""
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._bring())]

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            await end(task)
        self._tasks = []

    def take(self, packets: Iterable[tuple[Packet, bytes]]) -> None:
        """The source has taken these."""
        listed = list(packets)
        for each, belongs in zip(listed, self._belongs([packet for packet, _ in listed]), strict=True):
            packet = each[0]
            sent = self._there.get(packet.node)
            waits = self._waiting.get(packet.node)
            if packet.seq <= max(-1 if sent is None else sent, -1 if waits is None else waits[0].seq):
                continue
            if belongs or (packet.tombstone and sent is not None):
                self._waiting[packet.node] = each
            elif sent is not None or waits is not None:
                self._waiting[packet.node] = packet, None
        if self._waiting:
            self._stirred.set()

    async def room(self) -> None:
        """Wait until the target is not too far behind; once all is copied, until it is close behind."""
        while len(self._waiting) > (BATCH if self.complete.is_set() else MAX_WAITING) and not self.trouble:
            await self._turned.wait()

    async def close_behind(self) -> None:
        """Wait until little is left to arrive."""
        while len(self._waiting) > BATCH:
            await self._turned.wait()

    async def arrived(self, nodes: Iterable[bytes] | None = None) -> None:
        """Wait until what was taken of these nodes (None: of all) is at the target. Raises Unavailable."""
        wanted = None if nodes is None else list(nodes)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._waiting if wanted is None else any(node in self._waiting for node in wanted):
                    await self._turned.wait()
        except TimeoutError:
            raise Unavailable(f"stored, but not yet where it is to be, too: {self.trouble or 'it is slow'}") from None

    async def _hear(self) -> None:
        """Read the source, for ever: what it keeps, then what others change there."""
        await self._trying.do(self._read)

    async def _read(self) -> None:
        before = (await self._target.census()).nodes
        self._there = {**dict.fromkeys(before, UNKNOWN), **self._there}
        async with aclosing(self._source.watch()) as watch:
            async for told in watch:
                for first in range(0, len(told.changes), BATCH):
                    while len(self._waiting) > READ_AHEAD:
                        await self._turned.wait()
                    self.take(await asyncio.to_thread(_packets, told.changes[first : first + BATCH]))
                if told.complete and not self.complete.is_set():
                    copied = list(self._waiting.values())  # what comes after these is of deposits since
                    while any(self._waiting.get(each[0].node) is each for each in copied):
                        await self._turned.wait()
                    await self._sweep()
                    self.complete.set()
        raise Unavailable("the watch has ended")

    async def _sweep(self) -> None:
        """The target forgets what it held before, and the source does not keep for it: an earlier attempt left it."""
        for node in [node for node, seq in self._there.items() if seq == UNKNOWN]:
            data = await self._target.get(node)
            if data is not None and self._there.get(node) == UNKNOWN:
                await self._target.remove([(node, seq_of(data))])
            if self._there.get(node) == UNKNOWN:
                del self._there[node]

    async def _bring(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            await self._trying.do(self._put)

    async def _put(self) -> None:
        while self._waiting:
            some = [self._waiting[node] for node, _ in zip(self._waiting, range(BATCH), strict=False)]
            there = [(packet, data) for packet, data in some if data is not None]
            gone = [(packet.node, packet.seq) for packet, data in some if data is None]
            for packet, _ in there:
                self._there[packet.node] = packet.seq
            if there:
                await self._target.put(there)
            if gone:
                await self._target.remove(gone)
            for each in some:
                packet, data = each
                if self._waiting.get(packet.node) is each:
                    del self._waiting[packet.node]
                if data is None:
                    self._there.pop(packet.node, None)
            self.copied += len(there)
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()
            await asyncio.sleep(0)  # others' turn


def _packets(changes: Sequence[Change]) -> list[tuple[Packet, bytes]]:
    return [(Packet.from_cbor(each.packet), each.packet) for each in changes if each.packet is not None]


async def take_away(engine: Engine) -> None:
    """All that is kept, as a watch tells it: to ask for each packet is a wait of its own, and some engines search."""
    nodes: list[tuple[bytes, int]] = []
    async with aclosing(engine.watch()) as watch:
        async for told in watch:
            nodes += [(each.node, seq_of(each.packet)) for each in told.changes if each.packet is not None]
            if told.complete:
                break
    for first in range(0, len(nodes), BATCH):
        await engine.remove(nodes[first : first + BATCH])
