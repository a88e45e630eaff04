"""One thread that writes for all networks of a process.

Group commit: while one commit waits for the disk, deposits gather; the next commit takes all that gathered for
a network together, so they share its fsync. No thread stands idle for a network without deposits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from regional.engines.embedded.store import Batch
from registry.errors import KindredError

MAX_GROUP: Final = 16_384  # packets in one commit, so that nobody waits long behind a large deposit

T = TypeVar("T")


class Target(Protocol):
    """What a writer writes to."""

    def write(self, batches: Sequence[Batch]) -> list[list[bool] | KindredError]:
        """Store the batches durably; called in the writer's thread."""


@dataclass(frozen=True, slots=True, eq=False)
class _Deposit:
    target: Target
    batch: Batch
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Writer:
    """The thread; it starts with the first job, and ends with `close`."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Deposit | _Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def deposit(self, target: Target, batch: Batch) -> list[bool]:
        """Which packets of the batch were taken; they are on disk when this returns. Raises StorageFull."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bool]] = loop.create_future()
        self._submit(_Deposit(target, batch, loop, future))
        return await future

    async def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the writer's thread, after all that was submitted before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(_Call(function, loop, future))
        return await future

    def close(self) -> None:
        """End the thread when it has done all that was submitted."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _submit(self, job: _Deposit | _Call) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kindred-writer", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            waiting: dict[Target, list[_Deposit]] = {}
            for job in self._drain():
                if isinstance(job, _Deposit):
                    waiting.setdefault(job.target, []).append(job)
                    continue
                _commit_all(waiting)
                if job is None:
                    return
                try:
                    _settle([job], [job.function()])
                except Exception as error:  # handed to the caller who awaits it
                    _settle([job], [error])
            _commit_all(waiting)

    def _drain(self) -> list[_Deposit | _Call | None]:
        jobs = [self._jobs.get()]
        try:
            while True:
                jobs.append(self._jobs.get_nowait())
        except Empty:
            return jobs


def _commit_all(waiting: dict[Target, list[_Deposit]]) -> None:
    for target, deposits in waiting.items():
        group: list[_Deposit] = []
        room = MAX_GROUP
        for deposit in deposits:
            if group and len(deposit.batch) > room:
                _commit(target, group)
                group, room = [], MAX_GROUP
            group.append(deposit)
            room -= len(deposit.batch)
        _commit(target, group)
    waiting.clear()


def _commit(target: Target, group: Sequence[_Deposit]) -> None:
    try:
        results: Sequence[object] = target.write([deposit.batch for deposit in group])
    except Exception as error:  # handed to the callers who await it
        results = [error] * len(group)
    _settle(group, results)


def _settle(jobs: Sequence[_Deposit | _Call], results: Sequence[object]) -> None:
    """Wake each loop once for all who wait in it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], object]]] = {}
    for job, result in zip(jobs, results, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, result))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # the loop of one who no longer waits is closed
            loop.call_soon_threadsafe(_hand_over, settled)


def _hand_over(settled: Sequence[tuple[asyncio.Future[Any], object]]) -> None:
    for future, result in settled:
        if not future.done():
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
