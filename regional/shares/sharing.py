"""Where the packets of a network with shares go, and where each node is.

A deposit goes to the share that its fingerprint belongs to. A node whose next packet belongs to another share is put
there before it is taken from where it was, and acknowledged after both; deposits of one node wait for each other. While
a split is under way the network itself keeps all packets, and the shares their own besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

import numpy as np

from regional.engine import Engine
from regional.network import Network
from regional.packets.admission import Fitting
from regional.packets.packet import Packet
from regional.shares.ownership import HOME, Cut
from regional.shares.seat import Turnstile
from registry.errors import TooLarge

_PAGE: Final = 256


class Shares:
    """parts: the network itself, then its shares, with the engine of each; `cut` says what belongs to which.

    parted: whether each keeps its own only.
    """

    def __init__(self, parts: Sequence[tuple[Network, Engine]], cut: Cut) -> None:
        self._parts = [network for network, _ in parts]
        self._engines = [engine for _, engine in parts]
        self._cut = cut
        self._where: dict[bytes, tuple[int, int]] = {}  # the part that has a node's newest packet, and its seq
        self._surplus: dict[bytes, set[int]] = {}  # parts that have an older one, or the same
        self._wrong: set[bytes] = set()  # nodes whose newest packet is where it does not belong
        self._busy: set[bytes] = set()
        self._turned = asyncio.Event()
        self._storing = Turnstile()
        self.parted = False

    def shares(self) -> Sequence[Network]:
        """All parts, the network itself first."""
        return self._parts

    async def store(self, fitting: Fitting, whole: bool) -> tuple[int, int]:
        """How many are accepted, how many of those covered. Raises TooLarge for what is not stored all or none."""
        async with self._storing.passed():
            if not self.parted:
                return await self._double(fitting)
        numbers = self._belong([packet for packet, _ in fitting])
        if whole and len(set(numbers)) > 1:
            raise TooLarge("packets that belong to several shares are not stored all or none; deposit each by itself")
        accepted = covered = 0
        rest = list(zip(fitting, numbers, strict=True))
        while rest:
            once: dict[bytes, tuple[tuple[Packet, bytes], int]] = {}
            later = [each for each in rest if once.setdefault(each[0][0].node, each) is not each]
            more = await self._alone(list(once.values()))
            accepted, covered, rest = accepted + more[0], covered + more[1], later
        return accepted, covered

    def still(self) -> AbstractAsyncContextManager[None]:
        """No deposit is under way that goes to two places: from the next on, it may go to one."""
        return self._storing.shut()

    async def held(self, node: bytes) -> bytes | None:
        """The current packet of a node."""
        return await self._engines[self._where[node][0] if self.parted and node in self._where else HOME].get(node)

    async def learn(self) -> None:
        """Read where each node is, from all parts; deposits may come meanwhile. Then they can be parted."""
        for number, engine in enumerate(self._engines):
            async with aclosing(engine.watch()) as watch:
                async for told in watch:
                    kept = [each.packet for each in told.changes if each.packet is not None]
                    self._note(number, await asyncio.to_thread(lambda kept=kept: [*map(Packet.from_cbor, kept)]))  # type: ignore[misc]
                    if told.complete:
                        break

    async def tidy(self) -> None:
        """Put what is at a wrong place where it belongs, and take away what stands somewhere else, too."""
        for node in list(self._wrong):
            number = self._where[node][0]
            data = await self._engines[number].get(node)
            if data is not None and node in self._wrong:
                packet = Packet.from_cbor(data)
                [right] = self._belong([packet])
                await self._parts[right].keep([(packet, data)])
                self._surplus.setdefault(node, set()).add(number)
                self._learn(node, right, packet.seq, right=True)
        while self._surplus:
            some = [node for node, _ in zip(self._surplus, range(_PAGE), strict=False)]
            await self._take_away([(node, self._where[node][1]) for node in some])
            await asyncio.sleep(0)

    async def _double(self, fitting: Fitting) -> tuple[int, int]:
        """The network keeps all; its engine brings to a share what is the share's before it has stored it."""
        results, covered = await self._parts[HOME].keep(fitting)
        taken = [packet for (packet, _), result in zip(fitting, results, strict=True) if result == "accepted"]
        numbers = self._belong(taken)
        for packet, number in zip(taken, numbers, strict=True):
            self._learn(packet.node, number, packet.seq, right=True)
            if number != HOME and self._where[packet.node][0] != HOME:
                self._surplus.setdefault(packet.node, set()).add(HOME)
        inside = [each for each, result in zip(covered, results, strict=True) if result == "accepted"]
        total = sum(each for each, number in zip(inside, numbers, strict=True) if number == HOME)
        for number, part in enumerate(self._parts[1:], 1):
            own = [packet for packet, n in zip(taken, numbers, strict=True) if n == number]
            total += sum(await part.covers(own)) if own else 0
        return len(taken), total

    async def _alone(self, once: Sequence[tuple[tuple[Packet, bytes], int]]) -> tuple[int, int]:
        """Store packets, of no node two, when no other deposit of these nodes is under way."""
        nodes = {packet.node for (packet, _), _ in once}
        while nodes & self._busy:
            await self._turned.wait()
        self._busy |= nodes
        try:
            return await self._put(once)
        finally:
            self._busy -= nodes
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()

    async def _put(self, once: Sequence[tuple[tuple[Packet, bytes], int]]) -> tuple[int, int]:
        groups: dict[int, Fitting] = {}
        for each, number in once:
            at, seq = self._where.get(each[0].node, (number, -1))
            if each[0].seq > seq:
                groups.setdefault(at if each[0].tombstone else number, []).append(each)
        done = await asyncio.gather(
            *(self._parts[n].keep(group) for n, group in groups.items()), return_exceptions=True
        )
        accepted = covered = 0
        left: list[tuple[bytes, int]] = []
        for (number, group), result in zip(groups.items(), done, strict=True):
            if isinstance(result, BaseException):
                continue
            accepted, covered = accepted + result[0].count("accepted"), covered + sum(result[1])
            for packet, _ in group:
                self._learn(packet.node, number, packet.seq, right=True)
                if packet.node in self._surplus:
                    left.append((packet.node, packet.seq))
        await self._take_away(left)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return accepted, covered

    async def _take_away(self, nodes: Sequence[tuple[bytes, int]]) -> None:
        """What of these nodes stands elsewhere than where it belongs, up to a seq each."""
        for number, part in enumerate(self._parts):
            there = [(node, seq) for node, seq in nodes if number in self._surplus.get(node, ())]
            if there:
                await part.forget(there)
            for node, _ in there:
                surplus = self._surplus.get(node, set())  # another deposit of it may have settled it meanwhile
                surplus.discard(number)
                if not surplus:
                    self._surplus.pop(node, None)

    def _note(self, number: int, packets: Sequence[Packet]) -> None:
        """These are at this part."""
        for packet, right in zip(packets, self._belong(packets), strict=True):
            self._learn(packet.node, number, packet.seq, packet.tombstone or right == number)

    def _learn(self, node: bytes, number: int, seq: int, right: bool) -> None:
        """A node's packet of this seq is at this part, which is the right one, or not."""
        at = self._where.get(node, (number, -1))
        newest = seq > at[1] or (seq == at[1] and right)
        other = at[0] if newest else number
        if newest:
            self._where[node] = number, seq
            (self._wrong.discard if right else self._wrong.add)(node)
        surplus = self._surplus.get(node, set()) | {other}
        surplus.discard(self._where[node][0])
        if surplus:
            self._surplus[node] = surplus
        else:
            self._surplus.pop(node, None)

    def _belong(self, packets: Sequence[Packet]) -> list[int]:
        """The parts that packets belong to; a tombstone stays where its node is."""
        numbers = [self._where.get(packet.node, (HOME, 0))[0] for packet in packets]
        rows = [row for row, packet in enumerate(packets) if not packet.tombstone]
        if rows:
            points = np.stack([packets[row].fingerprint for row in rows])
            for row, number in zip(rows, self._cut.of(points).tolist(), strict=True):
                numbers[row] = number
        return numbers
