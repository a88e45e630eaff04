"""Changes of what is kept, on their way to those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress

from regional.engine import Change


class Watcher:
    """What one who watches has not been told yet: of each node the newest, so that a slow one holds up nobody."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, Change] = {}
        self._stirred = asyncio.Event()

    async def changes(self) -> AsyncGenerator[Sequence[Change], None]:
        """What has changed, as it does."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            yield self.waiting()

    def waiting(self) -> Sequence[Change]:
        """What has changed and was not told yet."""
        waiting, self._waiting = self._waiting, {}
        return tuple(waiting.values())

    def offer(self, changes: Sequence[Change]) -> None:
        """To be told; from any thread."""
        with suppress(RuntimeError):  # the loop of one who no longer watches is closed
            self._loop.call_soon_threadsafe(self._take, changes)

    def _take(self, changes: Iterable[Change]) -> None:
        self._waiting.update((change.node, change) for change in changes)
        self._stirred.set()
