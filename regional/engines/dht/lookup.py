"""Who waits for what a DHT says, and which lookup it may come from.

libtorrent tells of a key, not of a lookup: what it has found so far, then, once, that the lookup has ended. One that
waits for a silent node goes on for 15 s after its answer was taken, and tells at its end what it has: that may be older
than what a lookup begun meanwhile is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

SETTLED_S: Final = 0.3  # after the first answer: who has a newer one has told it by then
LONGEST_S: Final = 20.0  # libtorrent waits 15 s for a silent node that is among the nearest


class Waiter:
    """One who waits. enough: newest or not, this value will do. earlier: lookups that had begun before its own."""

    def __init__(self, enough: Callable[[bytes], bool] | None = None) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.earlier = 0
        self._enough = enough
        self._best: tuple[int, Any] = (-1, None)  # seq and value
        self._settling: asyncio.TimerHandle | None = None

    def tell(self, found: Any, seq: int, last: bool) -> None:
        """A value, None for none, of this seq. last: some lookup has ended with it."""
        if self.future.done():
            return
        if last and self.earlier:
            self.earlier -= 1
            return
        if found is not None and seq > self._best[0]:
            self._best = seq, found
        if last or (found is not None and self._enough is not None and self._enough(found)):
            self.future.set_result(self._best[1])
        elif found is not None and self._settling is None:
            self._settling = self.future.get_loop().call_later(SETTLED_S, self._settle)

    def fail(self, error: Exception) -> None:
        """Wait no longer."""
        if not self.future.done():
            self.future.set_exception(error)

    def _settle(self) -> None:
        if not self.future.done():
            self.future.set_result(self._best[1])


class Lookups:
    """Those under way, by key."""

    def __init__(self) -> None:
        self._waiting: dict[object, set[Waiter]] = {}
        self._begun: dict[object, list[float]] = {}  # of those that have not ended, where old ones are told apart

    @property
    def waiting(self) -> list[Waiter]:
        """All who wait."""
        return [each for waiters in self._waiting.values() for each in waiters]

    def enter(self, key: object, waiter: Waiter, begin: Callable[[], object], alone: bool, dated: bool) -> None:
        """Wait for the lookup that others wait for; `begin` one where there is none, or always where `alone`.

        dated: a newer value may be there than an earlier lookup tells.
        """
        others = self._waiting.setdefault(key, set())
        waiting = [each for each in others if not each.future.done()]
        if alone or not waiting:
            begin()
            if dated:
                since = monotonic() - LONGEST_S
                begun = [each for each in self._begun.get(key, ()) if each > since]
                waiter.earlier = len(begun)
                self._begun[key] = [*begun, monotonic()]
        else:
            waiter.earlier = waiting[0].earlier
        others.add(waiter)

    def leave(self, key: object, waiter: Waiter) -> None:
        """Wait no longer."""
        waiters = self._waiting.get(key, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiting.pop(key, None)

    def tell(self, key: object, found: Any, seq: int, last: bool) -> None:
        """What libtorrent says of a key."""
        if last and key in self._begun:
            self._begun[key].pop(0)
            if not self._begun[key]:
                del self._begun[key]
        for waiter in tuple(self._waiting.get(key, ())):
            waiter.tell(found, seq, last)
