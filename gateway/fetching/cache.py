"""What was looked up, kept for its time to live; one lookup upstream for many simultaneous askers.

Failures are kept too: NXDOMAIN and NODATA for the zone's own time (RFC 2308), the others briefly, and longer each time
they recur (RFC 9520). Where nobody answers, what was known is used a while beyond its time, marked stale (RFC 8767).
What is asked for often is looked up again shortly before its time is over. What is too old even to be stale is dropped;
what is kept is bounded by the memory that it takes, what is under way by number.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from gateway.fetching.weight import weight
from registry.clock import Clock
from registry.errors import LookupFailed
from registry.resolving.lookup import Looked

Value = TypeVar("Value")
LookUp = Callable[[], Awaitable[Looked[object]]]

MAX_BYTES = 256 * 1024**2
ENTRY_BYTES = 1200  # of an entry beside its value: the key, the places in the books, how it is looked up again
FAILURE_TTL_S = 1.0  # RFC 9520 section 3.2: at least 1 s, at most 5 minutes
MAX_FAILURE_TTL_S = 8.0  # doubled up to this; short, for a registry that is back is to be found again
MAX_TTL_S = 86_400.0
STALE_S = 30.0  # where nothing else is said
PATIENCE_S = 0.2  # a lookup is waited for this long where something stale is at hand
MAX_FLIGHTS = 1024  # lookups under way; whoever comes beyond them is told so
HOT = 2  # asked for so often within its time, a value is looked up again before that is over
PREFETCH_SHARE = 0.1  # of the time to live: so long before its end
MAX_PREFETCHES = 64  # of those, under way


@dataclass(frozen=True, slots=True)
class Kept(Generic[Value]):
    """A value with the zone serial that it is at least as new as (0: not known). stale: its time to live is over.

    newest: the serial that it is at most as new as; 0: not known.
    """

    value: Value
    serial: int
    stale: bool = False
    newest: int = 0


@dataclass(slots=True)
class _Entry:
    """What is known under a key. renew: how, from `renew_at` on, it is looked up again if it is hot."""

    expires: float
    kept: Kept[object] | None
    failure: LookupFailed | None
    usable_until: float
    bytes: int = ENTRY_BYTES
    failures: int = 0
    asked: int = 0
    renew: LookUp | None = None
    renew_at: float = float("inf")

    def stale(self, now: float) -> Kept[object] | None:
        """The value as a stale one, as long as it may be used so."""
        if self.kept is None or now >= self.usable_until:
            return None
        return replace(self.kept, stale=True)


class Cache:
    """Entries of at most `limit` bytes together; the least recently used goes first. stale_s: see above."""

    def __init__(self, clock: Clock, limit: int = MAX_BYTES, stale_s: float = STALE_S) -> None:
        self._clock = clock
        self._limit = limit
        self._stale_s = stale_s
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._ends: list[tuple[float, int, Hashable]] = []  # a heap: when what was kept under a key is of no use
        self._inserted = 0
        self._flights: dict[Hashable, asyncio.Task[_Entry]] = {}
        self._prefetches = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: Hashable) -> Kept[object] | None:
        """The value if it is here, fresh and not a failure. Raises LookupFailed for a failure still remembered."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock.monotonic()
        if entry.expires <= now:
            return None
        self._entries.move_to_end(key)
        if entry.failure is not None:
            raise LookupFailed(entry.failure.detail, **entry.failure.where)
        entry.asked += 1
        if entry.renew_at <= now and entry.asked >= HOT:
            self._prefetch(key, entry)
        return entry.kept

    async def get(self, key: Hashable, look_up: LookUp, timeout_s: float) -> Kept[object]:
        """The value of `key`, from here or from `look_up`.

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
            if len(self._flights) >= MAX_FLIGHTS:
                if stale is not None:
                    return stale
                raise LookupFailed(f"{MAX_FLIGHTS} lookups are under way, which is all that may be", rcode="BUSY")
            flight = self._take_off(key, look_up)
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

    def expire(self, which: Callable[[Hashable, Kept[object]], bool]) -> None:
        """The time of these values is over now; they may still serve as stale ones."""
        now = self._clock.monotonic()
        for key, entry in self._entries.items():
            if entry.kept is not None and which(key, entry.kept):
                entry.expires = min(entry.expires, now)

    async def close(self) -> None:
        """End the lookups under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _prefetch(self, key: Hashable, entry: _Entry) -> None:
        if entry.renew is None or key in self._flights or self._prefetches >= MAX_PREFETCHES:
            return
        entry.renew_at = float("inf")
        self._prefetches += 1
        self._take_off(key, entry.renew).add_done_callback(self._prefetched)

    def _prefetched(self, _: object) -> None:
        self._prefetches -= 1

    def _take_off(self, key: Hashable, look_up: LookUp) -> asyncio.Task[_Entry]:
        flight = asyncio.create_task(self._fly(key, look_up))
        self._flights[key] = flight
        return flight

    async def _fly(self, key: Hashable, look_up: LookUp) -> _Entry:
        try:
            looked = await look_up()
            now = self._clock.monotonic()
            ttl_s = min(looked.ttl_s, MAX_TTL_S)
            expires = now + ttl_s
            kept = Kept(looked.value, looked.serial, looked.stale, looked.newest)
            size = ENTRY_BYTES + weight(looked.value)
            entry = _Entry(expires, kept, None, expires + self._stale_s, size)
            entry.renew, entry.renew_at = look_up, expires - PREFETCH_SHARE * ttl_s
        except LookupFailed as failure:
            entry = self._failed(key, failure)
        finally:
            self._flights.pop(key, None)
        if entry is not self._entries.get(key):
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
        """What is kept of a failure: what is fresh or stale, unless it was an authority that said no."""
        now = self._clock.monotonic()
        held = self._entries.get(key)
        if "ttl_s" in failure.where:
            expires = now + min(float(failure.where["ttl_s"]), MAX_TTL_S)
            return _Entry(expires, None, LookupFailed(failure.detail, **failure.where), expires)
        if held is not None and held.kept is not None and held.expires > now and not held.kept.stale:
            return held  # it was to be renewed before its time
        failures = 1 + (0 if held is None else held.failures)
        expires = now + min(FAILURE_TTL_S * 2.0 ** (failures - 1), MAX_FAILURE_TTL_S)
        stale = None if held is None else held.stale(now)
        if held is None or stale is None:
            # Its traceback would keep all that the lookup had in hand. Remembered a while longer than it holds, so
            # that the next failure is known to be one more.
            slim = LookupFailed(failure.detail, **failure.where)
            return _Entry(expires, None, slim, expires + MAX_FAILURE_TTL_S, failures=failures)
        usable_until = held.usable_until
        return _Entry(min(expires, usable_until), stale, None, usable_until, held.bytes, failures)
