"""Writes to a stream that others write too, each with the knowledge of all that was written before.

The revision that NATS compares is the whole stream's, not the key's: in a cluster, servers before 2.10 compare a key's
with what is applied, not with what is under way, and several writers of one key at once are all told that they were
first (docs/decisions/013). Of the messages of one group, each names the id of the one before it too, so that where one
is overtaken, those behind it are refused as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import uuid4

from regional.engines.backing import NEVER, Placed
from regional.engines.line import Line, settle
from regional.engines.nats.acks import Outgoing
from regional.engines.nats.link import NatsLink
from registry.errors import KindredError, StorageFull

MAX_GROUP: Final = 256  # messages under way
FEW: Final = 16  # after others wrote, so that they get a turn
_PAUSE_S: Final = 0.002
_SOON_S: Final = 0.25  # what was written is heard in milliseconds, unless all is being read


class Unheard(Exception):
    """The watch has not told yet what was written last, or it told of another stream."""


class Place(NamedTuple):
    """Where a node is, as of which revision."""

    bucket: int
    seq: int
    revision: int


@dataclass(slots=True, eq=False)
class _Job:
    """A packet to put, or, where there is none, to forget what is not above seq. tried: it may be there by now."""

    bucket: int | None
    node: bytes
    seq: int
    packet: bytes | None
    done: asyncio.Future[int]
    tried: bool = False


@dataclass(slots=True, eq=False)
class _Group:
    """What goes out together: subject and value of each message, and which jobs are done with the first n of them."""

    messages: list[tuple[str, bytes | None]] = field(default_factory=list)
    effects: list[tuple[int, bytes, int | None]] = field(default_factory=list)
    jobs: list[tuple[int, _Job, int]] = field(default_factory=list)


class NatsWriter:
    """`key` names the subject of a node in a bucket."""

    def __init__(self, link: NatsLink, key: Callable[[int, bytes], str], patience_s: float) -> None:
        self._link = link
        self._key = key
        self._places: dict[bytes, Place] = {}
        self._left: set[tuple[bytes, int]] = set()  # older packets of nodes that are elsewhere now
        self._last = 0
        self._sent: dict[
            int, tuple[str, bytes | None, tuple[int, bytes, int | None]]
        ] = {}  # by revision, if it is that
        self._heard = asyncio.Event()
        self._others = False
        self._line: Line[_Job] = Line(link.where, patience_s, self._work)
        self._jobs = self._line.waiting

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets; for each the seq that was held, or NEVER. Raises StorageFull or Unavailable."""
        loop = asyncio.get_running_loop()
        return await self._line.do([_Job(*each, loop.create_future()) for each in packets])

    async def forget(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Take packets away, each unless its seq is above the one named; which there were."""
        loop = asyncio.get_running_loop()
        held = await self._line.do([_Job(None, node, most, None, loop.create_future()) for node, most in nodes])
        return [each != NEVER for each in held]

    def hear(self, revision: int, bucket: int, node: bytes, seq: int | None) -> None:
        """Take in a message of the stream; seq: None where it takes the node out of the bucket."""
        place = self._places.get(node)
        if seq is None:
            self._left.discard((node, bucket))
            if place is not None and place.bucket == bucket and place.revision < revision:
                del self._places[node]
        elif place is None or seq > place.seq:
            if place is not None and place.bucket != bucket:
                self._left.add((node, place.bucket))
            self._places[node] = Place(bucket, seq, revision)
        elif place.bucket != bucket:
            self._left.add((node, bucket))
        self.reach(revision)

    def sent(self, revision: int, subject: str, value: bytes | None) -> tuple[int, bytes] | None:
        """Bucket and node of a message, where it is one of this writer's own."""
        found = self._sent.pop(revision, None)
        if found is None or found[0] != subject or found[1] != value:
            return None
        self.hear(revision, *found[2])
        return found[2][:2]

    def reach(self, revision: int) -> None:
        """All messages up to this revision are known."""
        if revision > self._last:
            self._last = revision
            self._heard.set()

    async def place(self, node: bytes) -> Place | None:
        """Where a node is by now, whoever put it there. Raises Unheard where that is not known soon."""
        before, last = self._last, await self._link.last()
        try:
            async with asyncio.timeout(_SOON_S):
                await self._reached(last)
        except TimeoutError:
            raise Unheard from None
        if before > last:
            raise Unheard
        return self._places.get(node)

    async def close(self) -> None:
        """Leave what is not done undone."""
        await self._line.close()

    async def _work(self) -> None:
        while self._jobs:
            try:
                await self._send(self._group())
            except KindredError as error:  # of the group's jobs; those that can be done later stay in line
                if isinstance(error, StorageFull):
                    settle(self._jobs, error)
                    self._jobs.clear()
                await asyncio.sleep(_PAUSE_S)

    def _group(self) -> _Group:
        group = _Group()
        seen: set[bytes] = set()
        for node, bucket in self._left:
            group.messages.append((self._key(bucket, node), None))
            group.effects.append((bucket, node, None))
        most = FEW if self._others else MAX_GROUP
        while self._jobs and len(group.messages) < most and self._jobs[0].node not in seen:
            job = self._jobs.popleft()
            if job.done.done():
                continue
            seen.add(job.node)
            held = self._places.get(job.node)
            if job.packet is None:
                if held is not None and held.seq <= job.seq:
                    group.messages.append((self._key(held.bucket, job.node), None))
                    group.effects.append((held.bucket, job.node, None))
                elif not (job.tried and held is None):
                    held = None
            elif held is None or held.seq < job.seq:
                bucket = job.bucket if job.bucket is not None else held.bucket if held is not None else 0
                group.messages.append((self._key(bucket, job.node), job.packet))
                group.effects.append((bucket, job.node, job.seq))
                if held is not None and held.bucket != bucket:
                    group.messages.append((self._key(held.bucket, job.node), None))
                    group.effects.append((held.bucket, job.node, None))
            group.jobs.append((len(group.messages), job, NEVER if held is None else held.seq))
        return group

    async def _send(self, group: _Group) -> None:
        first, name = self._last, uuid4().hex
        sent = []
        if len(self._sent) > 4 * MAX_GROUP:
            self._sent.clear()  # what was refused is never heard
        for i, (message, effect) in enumerate(zip(group.messages, group.effects, strict=True)):
            self._sent[first + 1 + i] = (*message, effect)
        for i, (subject, value) in enumerate(group.messages):
            headers = {"Nats-Expected-Last-Sequence": str(first + i), "Nats-Msg-Id": f"{name}.{i}"}
            if i:
                headers["Nats-Expected-Last-Msg-Id"] = f"{name}.{i - 1}"
            sent.append(Outgoing(subject, value, headers))
        replies = await self._link.publish(sent)
        good = next((i for i, reply in enumerate(replies) if isinstance(reply, Exception)), len(replies))
        for i, (bucket, node, seq) in enumerate(group.effects[:good]):
            self.hear(first + 1 + i, bucket, node, seq)
        again = [job for upto, job, held in group.jobs if upto > good or not await self._done(job, held)]
        self._others = good < len(replies)
        if not self._others:
            return
        for job in reversed(again):
            job.tried = True
            self._jobs.appendleft(job)
        full = next((reply for reply in replies if isinstance(reply, StorageFull)), None)
        if full is not None:
            raise full
        await self._catch_up()

    async def _done(self, job: _Job, held: int) -> bool:
        """Settle a job. What is held already may be what an attempt of its own left there."""
        if job.tried and job.packet is not None and held == job.seq:
            place = self._places.get(job.node)
            found = None if place is None else await self._link.read(self._key(place.bucket, job.node))
            if found is not None and found.value == job.packet:
                held = NEVER
        settle([job], held)
        return True

    async def _catch_up(self) -> None:
        """Learn what others wrote, and leave them a moment. Raises Unavailable."""
        await asyncio.sleep(_PAUSE_S * random.random())  # noqa: S311
        await self._reached(await self._link.last())

    async def _reached(self, revision: int) -> None:
        while self._last < revision:
            self._heard.clear()
            await self._heard.wait()
