"""An engine that can be moved: the same packets, kept elsewhere from one moment to the next, while it goes on serving.

All is copied first (regional/shares/handover.py), while deposits go to the old place, and from there on. Then deposits
wait for a moment, the last ones arrive, both places are counted, and the note `moved` is written beside the old place's
packets: that is the move (regional/shares/whereabouts.py). The old place gives up its packets last of all. Questions
are answered throughout, by the old place up to that note.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from regional.engine import Census, Engine, Limits, NearestQuery, NearestResult, PutResult, Watch
from regional.engines.backing import end
from regional.packets.packet import Packet
from regional.partition import Partition
from regional.shares.handover import Handover, take_away
from regional.shares.seat import Seat, Turnstile
from regional.shares.trying import Trying
from regional.shares.whereabouts import Place, Places, find, keep, read
from registry.errors import Conflict

CARRIED: Final = ("space", "coverage", "shares")  # notes of the network's that go with its packets
LAST_PAUSE_S: Final = 5.0

log = logging.getLogger(__name__)


class MovableEngine:
    """The engine of a network at `place`, or wherever it has moved to since.

    on_moved: told of the new place.
    """

    def __init__(self, place: Place, places: Places) -> None:
        self._places = places
        self._seat = Seat(place, places.engine(place))
        self._writing = Turnstile()
        self._followers: list[tuple[Handover, bool]] = []
        self._task: asyncio.Task[None] | None = None
        self._to: Place | None = None
        self._target: Engine | None = None
        self._copy: Handover | None = None
        self._trying = Trying("a move", LAST_PAUSE_S)
        self.on_moved: Callable[[Place], Awaitable[None]] | None = None

    @property
    def limits(self) -> Limits:
        """Of the engine that it is now."""
        return self._seat.engine.limits

    @property
    def partition(self) -> Partition:
        """Of the engine that it is now."""
        return self._seat.engine.partition

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return self._seat.engine.count

    @property
    def place(self) -> Place:
        """Where the packets are now."""
        return self._seat.place

    @property
    def trouble(self) -> str | None:
        """Why a move stands still."""
        return self._trying.trouble

    @property
    def busy(self) -> bool:
        """Whether a move is under way, or the old place is still being cleared."""
        return self._task is not None and not self._task.done()

    def state(self) -> dict[str, Any]:
        """How far a move is: {at, to, clearing, copied, packets, trouble}; `to` is null where none is under way."""
        return {
            "at": self._places.name(self.place),
            "to": None if self._to is None else self._places.name(self._to),
            "clearing": self.busy and self._to is None,
            "copied": 0 if self._copy is None else self._copy.copied,
            "packets": self.count,
            "trouble": self.trouble or (None if self._copy is None else self._copy.trouble),
        }

    async def open(self) -> None:
        """Open where the packets are, and go on with a move that was under way."""
        self._seat = Seat(*await find(self._seat.place, self._places))
        note = await read(self._seat.engine)
        if note.get("step") == "copying":
            self._to = note["to"]
            self._task = asyncio.create_task(self._go_on(note["to"]))
        elif note.get("step") in ("arriving", "arrived"):
            self._task = asyncio.create_task(self._trying.do(partial(self._clear, note["from"])))

    async def close(self) -> None:
        """Let go; a move goes on when it is opened anew."""
        if self._task is not None:
            await end(self._task)
        await self._let_go()
        await self._seat.engine.close()

    async def move(self, to: Place) -> None:
        """Begin to move; returns when it is under way, or is already. To where it is: a move under way is given up.

        Raises Conflict where another is under way or `to` keeps packets; ConfigError, NotGranted or Unavailable where
        it cannot be opened: then nothing has changed.
        """
        here, there = self._places.name(self.place), self._places.name(to)
        if self._to is not None and here == there:
            await self._give_up(self._to)
        elif self._to is not None and self._places.name(self._to) != there:
            raise Conflict(f"a move to {self._places.name(self._to)} is under way; give {here} to stop it")
        elif self._to is None and self.busy:
            raise Conflict("the place that was left last is still being cleared; try again when that is done")
        elif self._to is None and here == there:
            raise Conflict(f"the packets are at {here} already")
        elif self._to is None:
            await self._prepare(to)
            self._task = asyncio.create_task(self._finish(to))

    def follow(self, handover: Handover, strict: bool) -> None:
        """From now on this handover hears of every deposit. strict: none is acknowledged before it has arrived."""
        self.leave(handover)
        self._followers.append((handover, strict))

    def leave(self, handover: Handover) -> None:
        """It hears of none any more."""
        self._followers = [each for each in self._followers if each[0] is not handover]

    @asynccontextmanager
    async def still(self) -> AsyncIterator[Engine]:
        """Nobody writes meanwhile, but to the engine that this yields: who wants to waits."""
        async with self._writing.shut():
            yield self._seat.engine

    async def put(self, packets: Sequence[tuple[Packet, bytes]]) -> list[PutResult]:
        """Store packets, where they are now."""
        for handover, _ in self._followers:
            await handover.room()
        async with self._written() as engine:
            results = await engine.put(packets)
            taken = [each for each, result in zip(packets, results, strict=True) if result == "accepted"]
            for handover, _ in self._followers:
                handover.take(taken)
            for handover, strict in self._followers:
                if strict:
                    await handover.arrived([packet.node for packet, _ in packets])
        return results

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets."""
        async with self._written() as engine:
            return await engine.remove(nodes)

    async def get(self, node: bytes) -> bytes | None:
        """The current packet of a node."""
        async with self._used() as engine:
            return await engine.get(node)

    async def history(self, node: bytes) -> list[bytes]:
        """The packets of a node that are kept."""
        async with self._used() as engine:
            return await engine.history(node)

    async def bucket(self, number: int) -> list[bytes]:
        """All packets in a bucket."""
        async with self._used() as engine:
            return await engine.bucket(number)

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly."""
        async with self._used() as engine:
            return await engine.nearest(query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        async with self._used() as engine:
            return await engine.census()

    def watch(self, after: int | None = None) -> Watch:
        """All that is kept where it is now, then each change there."""
        return self._seat.engine.watch(after)

    async def note(self, name: str) -> bytes | None:
        """What `keep_note` stored last under this name."""
        async with self._used() as engine:
            return await engine.note(name)

    async def keep_note(self, name: str, value: bytes) -> None:
        """Keep a small value beside the packets."""
        async with self._written() as engine:
            await engine.keep_note(name, value)

    @asynccontextmanager
    async def _used(self) -> AsyncIterator[Engine]:
        seat = self._seat
        async with seat.users.passed():
            yield seat.engine

    @asynccontextmanager
    async def _written(self) -> AsyncIterator[Engine]:
        async with self._writing.passed(), self._used() as engine:
            yield engine

    async def _prepare(self, to: Place) -> None:
        """Open the new place, and note what is about to be."""
        target = self._places.engine(to)
        await target.open()
        try:
            note, here = await read(target), self._places.name(self.place)
            mine = note.get("step") == "arriving" and self._places.name(note["from"]) == here
            if target.count and not mine:
                raise Conflict(f"{self._places.name(to)} keeps {target.count} packets already; choose another place")
            await keep(target, step="arriving", **{"from": dict(self.place)})
            await keep(self._seat.engine, step="copying", to=dict(to))
        except BaseException:
            await target.close()
            raise
        self._to, self._target, self._copy = to, target, Handover(self._seat.engine, target)

    async def _go_on(self, to: Place) -> None:
        """A move that had begun before a restart."""
        await self._trying.do(partial(self._prepare, to))
        await self._finish(to)

    async def _finish(self, to: Place) -> None:
        """Copy, move, clear."""
        if self._copy is not None:
            self.follow(self._copy, strict=False)
            self._copy.start()
            await self._copy.complete.wait()
        old = self._seat
        await self._trying.do(partial(self._switch, to))
        log.info("the packets are at %s now", self._places.name(to))
        await self._trying.do(partial(self._settle, old))
        await self._trying.do(partial(self._emptied, old))

    async def _switch(self, to: Place) -> None:
        """The move itself; deposits wait meanwhile."""
        copy, target, old = self._copy, self._target, self._seat.engine
        if copy is None or target is None:
            return
        await copy.close_behind()
        async with self.still():
            await copy.arrived()
            if target.count != old.count:
                raise Conflict(f"{target.count} packets have arrived, {old.count} were there: it is tried again")
            for name in CARRIED:
                value = await old.note(name)
                if value is not None:
                    await target.keep_note(name, value)
            # Whether it was written may not be known: no deposit may go to the old place before it is.
            await self._trying.do(partial(keep, old, step="moved", to=dict(to)))
            self._seat = Seat(to, target)
            self._to = self._target = None
            self.leave(copy)

    async def _settle(self, old: Seat) -> None:
        """Whoever starts from the new place, or is told of it, knows it is the right one."""
        await keep(self._seat.engine, step="arrived", **{"from": dict(old.place)})
        if self.on_moved is not None:
            await self.on_moved(self._seat.place)

    async def _emptied(self, old: Seat) -> None:
        """The old place lets its packets go, when nobody asks it any more."""
        await old.users.empty()
        if self._copy is not None:
            await self._copy.close()
            self._copy = None
        await take_away(old.engine)
        await keep(self._seat.engine, step="here")
        await old.engine.close()

    async def _clear(self, place: Place) -> None:
        """The same for a place that is not open any more."""
        engine = self._places.engine(place)
        await engine.open()
        try:
            await take_away(engine)
        finally:
            await engine.close()
        await keep(self._seat.engine, step="here")

    async def _give_up(self, to: Place) -> None:
        """Stay where it is: what has been copied is taken away again."""
        if self._task is not None:
            await end(self._task)
        await self._let_go()
        self._to = self._trying.trouble = None
        await keep(self._seat.engine, step="arrived", **{"from": dict(to)})
        self._task = asyncio.create_task(self._trying.do(partial(self._clear, to)))

    async def _let_go(self) -> None:
        """Of the copy and of the new place."""
        if self._copy is not None:
            self.leave(self._copy)
            await self._copy.close()
        if self._target is not None:
            await self._target.close()
        self._copy = self._target = None
