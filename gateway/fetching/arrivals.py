"""What was begun and has not come back yet, and what has."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Arrivals(Generic[T]):
    """Tasks under way. What arrives while nobody looks is handed out together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[T]] = set()
        self._done: list[asyncio.Task[T]] = []
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many are under way, or have come back and were not handed out."""
        return len(self._tasks) + len(self._done)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Begin one more."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._arrived)

    async def wait(self, timeout_s: float) -> list[T]:
        """What has come back, as soon as there is any; nothing after `timeout_s`. Raises what a task raised."""
        if not self._done:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        done, self._done = self._done, []
        return [task.result() for task in done]

    async def cancel(self) -> None:
        """End all that are under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _arrived(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._done.append(task)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
