"""Who uses an engine just now: so that it can be replaced under those who use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from regional.engine import Engine
from regional.shares.whereabouts import Place


class Turnstile:
    """Counts who is inside; it can be shut, and waited for until nobody is."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._left = asyncio.Event()
        self._left.set()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Inside; who comes while it is shut waits."""
        await self._open.wait()
        self._inside += 1
        self._left.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._left.set()

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Nobody is inside meanwhile."""
        self._open.clear()
        try:
            await self._left.wait()
            yield
        finally:
            self._open.set()

    async def empty(self) -> None:
        """Wait until nobody is inside."""
        await self._left.wait()


class Seat:
    """An engine at its place. users: of it, whom its closing must wait for."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.place = place
        self.engine = engine
        self.users = Turnstile()
