"""The scan (regional/engines/exact/scan.py) as threads and the event loop share it, gathered anew in the background."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from itertools import islice
from typing import Final

from regional.engine import Census, NearestQuery, NearestResult
from regional.engines.exact.scan import Entry, Scan

_THREAD_ABOVE: Final = 100_000  # numbers in the scan; a larger one would hold up the event loop
_STEP: Final = 1024  # packets taken in at once, so that a question never waits long for the lock


class Index:
    """What can be found of the packets of one network of dimension `d`, in memory."""

    def __init__(self, network: str, d: int) -> None:
        self._d = d
        self._scan = Scan(network, d)
        self._scanning = threading.Lock()
        self._gatherer: threading.Thread | None = None
        self._closing = threading.Event()

    def __len__(self) -> int:
        return len(self._scan)

    def take(self, entries: Iterable[Entry]) -> None:
        """Make packets findable, and gather them anew, in a thread, where that pays."""
        entries = iter(entries)
        while some := list(islice(entries, _STEP)):
            with self._scanning:
                self._scan.take(some)
        if self._scan.scattered() and not (self._gatherer and self._gatherer.is_alive()):
            self._gatherer = threading.Thread(target=self._gather, name="kindred-gatherer", daemon=True)
            self._gatherer.start()

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly; in a thread where the scan is large."""
        if len(self._scan) * self._d <= _THREAD_ABOVE:
            return self._nearest(query)
        return await asyncio.to_thread(self._nearest, query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        return await asyncio.to_thread(self._census)

    def gathered(self) -> None:
        """Wait until nothing is being gathered."""
        if self._gatherer is not None:
            self._gatherer.join()

    def close(self) -> None:
        """Stop gathering."""
        self._closing.set()
        self.gathered()

    def _gather(self) -> None:
        while not self._closing.is_set():
            with self._scanning:
                gathering = self._scan.gather()
            if gathering is None:
                return
            coarse = gathering.work(self._closing.is_set)
            with self._scanning:
                self._scan.adopt(gathering, coarse)

    def _nearest(self, query: NearestQuery) -> NearestResult:
        with self._scanning:
            return self._scan.nearest(query)

    def _census(self) -> Census:
        with self._scanning:
            return self._scan.census()
