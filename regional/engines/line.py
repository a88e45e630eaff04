"""Jobs that wait in line for the one who does them, and those who wait for the jobs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from regional.engines.backing import end
from registry.errors import Unavailable


class Job(Protocol):
    """done: its result, for who waits; cancelled where nobody does any more."""

    @property
    def done(self) -> asyncio.Future[int]: ...


J = TypeVar("J", bound=Job)


class Line(Generic[J]):
    """Jobs in their order. work: takes them from `waiting` until none is left; never called twice at once."""

    def __init__(self, where: str, patience_s: float, work: Callable[[], Awaitable[None]]) -> None:
        self.waiting: deque[J] = deque()
        self._where = where
        self._patience_s = patience_s
        self._work = work
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def do(self, jobs: Sequence[J]) -> list[int]:
        """The result of each, when all are done. Raises Unavailable where that takes longer than patience lasts."""
        self.waiting.extend(jobs)
        self._stirred.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._patience_s):
                return list(await asyncio.gather(*(job.done for job in jobs)))
        except TimeoutError:
            raise Unavailable(f"{self._where} has not acknowledged it in time; deposit it again") from None

    async def close(self) -> None:
        """Leave what is not done undone."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            await self._work()


def settle(jobs: Iterable[Job], result: int | BaseException) -> None:
    """Tell who waits for these what came of them; what is settled stays as it is."""
    for job in jobs:
        if not job.done.done():
            if isinstance(result, BaseException):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)
