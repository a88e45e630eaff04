"""What was looked up, kept for its time to live; one lookup upstream for many simultaneous askers.

Failures are kept too, briefly (RFC 2308 negative answers for the zone's own time, RFC 9520 for the others).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.clock import Clock
from registry.errors import LookupFailed

Value = TypeVar("Value")

MAX_ENTRIES = 200_000
FAILURE_TTL_S = 1.0  # RFC 9520 section 3.2: at least 1 s, at most 5 minutes
MAX_TTL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Kept(Generic[Value]):
    """A value with the zone serial that it is at least as new as."""

    value: Value
    serial: int


@dataclass(slots=True)
class _Entry:
    expires: float
    kept: Kept[object] | None
    failure: LookupFailed | None


class Cache:
    """At most `limit` entries; the least recently used goes first."""

    def __init__(self, clock: Clock, limit: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._flights: dict[Hashable, asyncio.Task[_Entry]] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: Hashable) -> Kept[object] | None:
        """The value if it is here, fresh and not a failure. Raises LookupFailed for a failure still remembered."""
        entry = self._entries.get(key)
        if entry is None or entry.expires <= self._clock.monotonic():
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        if entry.failure is not None:
            raise LookupFailed(entry.failure.detail, **entry.failure.where)
        return entry.kept

    async def get(
        self, key: Hashable, look_up: Callable[[], Awaitable[tuple[object, float, int]]], timeout_s: float
    ) -> Kept[object]:
        """The value of `key`, from here or from `look_up` (value, time to live in seconds, serial).

        Waits at most `timeout_s`; the lookup itself goes on for the others who wait for it. Raises LookupFailed.
        """
        kept = self.peek(key)
        if kept is not None:
            return kept
        flight = self._flights.get(key)
        if flight is None:
            self.misses += 1
            flight = asyncio.create_task(self._fly(key, look_up))
            self._flights[key] = flight
        try:
            entry = await asyncio.wait_for(asyncio.shield(flight), timeout_s)
        except TimeoutError:
            raise LookupFailed(f"no answer within {timeout_s * 1000:.0f} ms") from None
        if entry.kept is None:
            failure = entry.failure or LookupFailed("no answer")
            raise LookupFailed(failure.detail, **failure.where)
        return entry.kept

    def drop(self, key: Hashable) -> None:
        """Forget what is known of `key`."""
        self._entries.pop(key, None)

    async def close(self) -> None:
        """End the lookups under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, key: Hashable, look_up: Callable[[], Awaitable[tuple[object, float, int]]]) -> _Entry:
        try:
            value, ttl, serial = await look_up()
            entry = _Entry(self._clock.monotonic() + min(ttl, MAX_TTL_S), Kept(value, serial), None)
        except LookupFailed as failure:
            ttl = float(failure.where.get("ttl_s", FAILURE_TTL_S))
            entry = _Entry(self._clock.monotonic() + min(ttl, MAX_TTL_S), None, failure)
        finally:
            self._flights.pop(key, None)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return entry
