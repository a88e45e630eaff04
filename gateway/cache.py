"""What was looked up, kept for its time to live; one lookup upstream for many simultaneous askers.

Failures are kept too, briefly (RFC 2308 negative answers for the zone's own time, RFC 9520 for the others). Where
nobody answers, what was known is used a while beyond its time, marked stale (RFC 8767). What is too old even for that
is dropped, and what is kept is bounded by the memory that it takes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from gateway.weight import weight
from registry.clock import Clock
from registry.errors import LookupFailed

Value = TypeVar("Value")

MAX_BYTES = 256 * 1024**2
ENTRY_BYTES = 800  # of an entry beside its value: the key, the places in the books
FAILURE_TTL_S = 1.0  # RFC 9520 section 3.2: at least 1 s, at most 5 minutes
MAX_TTL_S = 86_400.0
STALE_S = 30.0  # no longer than a registry serves a generation that may still be referred to
PATIENCE_S = 0.2  # a lookup is waited for this long where something stale is at hand


@dataclass(frozen=True, slots=True)
class Kept(Generic[Value]):
    """A value with the zone serial that it is at least as new as. stale: its time to live is over."""

    value: Value
    serial: int
    stale: bool = False


@dataclass(slots=True)
class _Entry:
    expires: float
    kept: Kept[object] | None
    failure: LookupFailed | None
    usable_until: float
    bytes: int = ENTRY_BYTES

    def stale(self, now: float) -> Kept[object] | None:
        """The value as a stale one, as long as it may be used so."""
        if self.kept is None or now >= self.usable_until:
            return None
        return replace(self.kept, stale=True)


class Cache:
    """Entries of at most `limit` bytes together; the least recently used goes first."""

    def __init__(self, clock: Clock, limit: int = MAX_BYTES) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._ends: list[tuple[float, int, Hashable]] = []  # a heap: when what was kept under a key is of no use
        self._inserted = 0
        self._flights: dict[Hashable, asyncio.Task[_Entry]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: Hashable) -> Kept[object] | None:
        """The value if it is here, fresh and not a failure. Raises LookupFailed for a failure still remembered."""
        entry = self._entries.get(key)
        if entry is None or entry.expires <= self._clock.monotonic():
            return None
        self._entries.move_to_end(key)
        if entry.failure is not None:
            raise LookupFailed(entry.failure.detail, **entry.failure.where)
        return entry.kept

    async def get(
        self, key: Hashable, look_up: Callable[[], Awaitable[tuple[object, float, int]]], timeout_s: float
    ) -> Kept[object]:
        """The value of `key`, from here or from `look_up` (value, time to live in seconds, serial).

        Waits at most `timeout_s`, and less where something stale is at hand; the lookup itself goes on for the
        others who wait for it. Raises LookupFailed.
        """
        kept = self.peek(key)
        if kept is not None:
            return kept
        held = self._entries.get(key)
        stale = None if held is None else held.stale(self._clock.monotonic())
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, look_up))
            self._flights[key] = flight
        try:
            patience = timeout_s if stale is None else min(timeout_s, PATIENCE_S)
            entry = await asyncio.wait_for(asyncio.shield(flight), patience)
        except TimeoutError:
            if stale is not None:
                return stale
            raise LookupFailed(f"no answer within {timeout_s * 1000:.0f} ms") from None
        if entry.kept is None:
            failure = entry.failure or LookupFailed("no answer")
            raise LookupFailed(failure.detail, **failure.where)
        return entry.kept

    def drop(self, key: Hashable) -> None:
        """Forget what is known of `key`."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.bytes

    async def close(self) -> None:
        """End the lookups under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, key: Hashable, look_up: Callable[[], Awaitable[tuple[object, float, int]]]) -> _Entry:
        try:
            value, ttl, serial = await look_up()
            expires = self._clock.monotonic() + min(ttl, MAX_TTL_S)
            entry = _Entry(expires, Kept(value, serial), None, expires + STALE_S, ENTRY_BYTES + weight(value))
        except LookupFailed as failure:
            entry = self._failed(key, failure)
        finally:
            self._flights.pop(key, None)
        self._keep(key, entry)
        return entry

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        """Put the entry in its place, and drop what is too old or too much."""
        self.drop(key)
        self._entries[key] = entry
        self.bytes += entry.bytes
        self._inserted += 1
        heapq.heappush(self._ends, (entry.usable_until, self._inserted, key))
        now = self._clock.monotonic()
        while self._ends and self._ends[0][0] <= now:
            old = heapq.heappop(self._ends)[2]
            if old in self._entries and self._entries[old].usable_until <= now:
                self.drop(old)
        while self.bytes > self._limit and self._entries:
            self.drop(next(iter(self._entries)))
        if len(self._ends) > 2 * len(self._entries) + 64:  # most are of entries that went before their time
            ends = ((each.usable_until, number, key) for number, (key, each) in enumerate(self._entries.items()))
            self._ends = sorted(ends)

    def _failed(self, key: Hashable, failure: LookupFailed) -> _Entry:
        """What is kept of a failure: what is stale, unless it was an authority that said no."""
        now = self._clock.monotonic()
        ttl = failure.where.get("ttl_s")
        held = self._entries.get(key)
        stale = held.stale(now) if held is not None and ttl is None else None
        expires = now + min(FAILURE_TTL_S if ttl is None else float(ttl), MAX_TTL_S)
        if held is None or stale is None:
            # Its traceback would keep all that the lookup had in hand.
            return _Entry(expires, None, LookupFailed(failure.detail, **failure.where), expires)
        return _Entry(min(expires, held.usable_until), stale, None, held.usable_until, held.bytes)
