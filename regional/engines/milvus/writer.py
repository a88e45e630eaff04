"""Writes to a Milvus collection: by one front at a time, which owns the collection's name.

Milvus compares nothing when it writes. But a name belongs to one collection, and of several who rename it at once one
succeeds; so whoever is to write renames it to a name of its own and writes under that. A write under an earlier name is
refused by the server, however late it comes: the owner alone decides what is newer, with what it has read after the
renaming (docs/decisions/016). Readers use an alias, which renaming leaves as it is.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from regional.engines.backing import NEVER, Placed
from regional.engines.line import Line, settle
from regional.engines.milvus.link import Ambiguous, Gone, MilvusLink
from regional.engines.milvus.rows import (
    FOUND,
    GONE,
    NOTHING,
    WITHDRAWN,
    Held,
    Row,
    held_of,
    key_of,
    node_of,
    note_rows,
    packet_of,
    packet_row,
)
from regional.engines.milvus.store import noted
from regional.packets.packet import NO_FINGERPRINT, Packet
from registry.errors import KindredError, Unavailable

ATOMIC: Final = 1_000  # packets; with the longest packets 1.7 MB, and Milvus parts a write of more than 5 MB
MAX_GROUP: Final = 2_000  # packets written at once
MAX_KNOWN: Final = 1_000_000  # nodes of which the owner remembers what it holds
_PAUSE_S: Final = 0.1
_HOLD_S: Final = 0.1  # how long a front is left the name that it took; longer for one that loses it again and again
_ASKED: Final = 1_000  # nodes in one question
_OWNED: Final = re.compile(r"w(\d{10})_[0-9a-f]{12}_")


@dataclass(slots=True, eq=False)
class _Job:
    """A packet to put, or, where there is none, to forget what is not above seq. tried: it may be there by now."""

    placed: Placed
    packet: Packet | None
    done: asyncio.Future[int]
    tried: bool = False


class MilvusWriter:
    """Writes to what the alias `alias` stands for. name: of the collections, behind who owns them."""

    def __init__(self, link: MilvusLink, alias: str, name: str, d: int, patience_s: float) -> None:
        self.count = 0  # packets, as the owner knows, or as another heard last
        self.actions: set[str] = set()  # that any packet ever had, likewise
        self.writes = 0  # how many have been acknowledged
        self._link = link
        self._alias = alias
        self._name = name
        self._d = d
        self._patience_s = patience_s
        self._own: str | None = None  # the collection's name while it is this front's
        self._mine: set[str] = set()  # names that it took
        self._seen: tuple[str, float] = "", 0.0  # another's name, and since when
        self._lost = 0  # how often in a row it lost the name before it had written
        self._revision = 0
        self._since = 0  # as of when the owner reads: all that others wrote is there
        self._known: dict[bytes, Held] = {}
        self._line: Line[_Job] = Line(link.where, patience_s, self._work)
        self._jobs = self._line.waiting

    @property
    def owns(self) -> bool:
        """Whether this front writes; then its count and actions are right."""
        return self._own is not None

    def hear(self, count: int, actions: set[str]) -> None:
        """What there is, of a front that does not write."""
        if not self.owns:
            self.count, self.actions = count, actions

    def fresh_name(self, epoch: int) -> str:
        """A name that nobody else takes."""
        name = f"w{epoch:010d}_{uuid4().hex[:12]}_{self._name}"
        self._mine.add(name)
        return name

    def is_of_others(self, name: str) -> bool:
        """Note who owns the collection; whether that is another."""
        if name in self._mine:
            return False
        self._own = None
        if self._seen[0] != name:
            self._seen = name, asyncio.get_running_loop().time()
        return True

    async def put(self, packets: Sequence[tuple[Placed, Packet]]) -> list[int]:
        """Store packets, each if its seq is above what is held; for each the seq that was, or NEVER."""
        loop = asyncio.get_running_loop()
        return await self._line.do([_Job(placed, packet, loop.create_future()) for placed, packet in packets])

    async def forget(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Put a mark in the place of packets, each unless its seq is above the one named; which there were."""
        loop = asyncio.get_running_loop()
        jobs = [_Job(Placed(None, node, most, b""), None, loop.create_future()) for node, most in nodes]
        return [held != NEVER for held in await self._line.do(jobs)]

    async def close(self) -> None:
        """Leave what is not done undone."""
        await self._line.close()
        self._own = None

    # ---- jobs --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while group := self._group():
            again: list[_Job] = []
            try:
                await self._write(group)
            except Gone:  # another owns it now: nothing of this was done
                again, self._own, self._lost = group, None, self._lost + 1
                await asyncio.sleep(_PAUSE_S * random.random())  # noqa: S311
            except (Ambiguous, Unavailable):
                again, self._own = group, None  # what is still under way must not come after what is written next
                await asyncio.sleep(_PAUSE_S)
            except KindredError as error:
                settle(group, error)
            self._jobs.extendleft(reversed(again))

    def _group(self) -> list[_Job]:
        """The next jobs, no node twice; whole puts as far as they fit."""
        group: list[_Job] = []
        seen: set[bytes] = set()
        while self._jobs and len(group) < MAX_GROUP and self._jobs[0].placed.node not in seen:
            job = self._jobs.popleft()
            if not job.done.done():
                group.append(job)
                seen.add(job.placed.node)
        return group

    async def _write(self, group: Sequence[_Job]) -> None:
        """One write, and what it changes. Raises Gone, Ambiguous, StorageFull or Unavailable."""
        own = await self._ownership()
        held = await self._held(own, group)
        rows: list[Row] = []
        after: dict[bytes, Held] = {}
        actions = self.actions | {job.packet.action or "" for job in group if job.packet and not job.packet.tombstone}
        if actions != self.actions:
            rows += note_rows("actions", "\n".join(sorted(each.encode().hex() for each in actions)).encode(), self._d)
        for job in group:
            changed = self._change(job, held[job.placed.node])
            if changed is not None:
                after[job.placed.node], row = changed
                rows.append(row)
        if rows:
            try:
                await self._link.once("upsert", own, rows, timeout=self._patience_s)
            except Ambiguous:
                for job in group:
                    job.tried = True
                raise
        self.writes += 1
        self._lost = 0
        self.actions = actions
        for node, now in after.items():
            self.count += (now.state == FOUND) - (self._known.get(node, NOTHING).state == FOUND)
            self._known[node] = now
        for job in group:
            kept = job.packet is None and job.placed.node not in after
            settle([job], NEVER if kept else held[job.placed.node].seq)

    def _change(self, job: _Job, held: Held) -> tuple[Held, Row] | None:
        """What a job makes of what is held, and the row that says so; None where it changes nothing."""
        placed, packet = job.placed, job.packet
        if packet is None:
            if held.seq == NEVER or held.seq > placed.seq:
                return None
            now, action, place = Held(GONE, 0, held.bucket), None, NO_FINGERPRINT
        elif held.seq < placed.seq:
            bucket = held.bucket if placed.bucket is None else placed.bucket
            now = Held(WITHDRAWN if packet.tombstone else FOUND, placed.seq, bucket)
            action, place = packet.action, packet.fingerprint
        else:
            return None
        self._revision += 1
        row = packet_row(placed.node, now, action, place, placed.packet, self._revision, self._d)
        return (NOTHING._replace(bucket=held.bucket) if packet is None else now), row

    # ---- what is held ------------------------------------------------------------------------------------------

    async def _held(self, own: str, group: Sequence[_Job]) -> dict[bytes, Held]:
        """What is held of the group's nodes; of what an attempt of the group's own left there, what was before."""
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
            self._since = await self._link.now()
        unknown = [job.placed.node for job in group if job.placed.node not in self._known]
        again = {job.placed.node: job for job in group if job.tried}
        ours: set[bytes] = set()
        for start in range(0, len(unknown), _ASKED):
            some = unknown[start : start + _ASKED]
            self._known.update((node, NOTHING) for node in some)
            keys = ",".join(f'"{key_of(node)}"' for node in some)
            fields = ["node", "state", "seq", "bucket", *(["packet"] if again else [])]
            for row in await self._link.query(own, self._since, f"node in [{keys}]", fields, _ASKED):
                node = node_of(row["node"])
                if node is not None:
                    self._known[node] = held_of(row)
                    if node in again and self._is_done(again[node], row):
                        ours.add(node)
        held = {job.placed.node: self._known[job.placed.node] for job in group}
        for node in ours:
            job = again[node]
            settle([job], NEVER if job.packet is not None else job.placed.seq)
        return held

    @staticmethod
    def _is_done(job: _Job, row: Row) -> bool:
        """Whether an earlier attempt, of which no answer came, has done it."""
        if job.packet is None:
            return bool(row["state"] == GONE)
        return held_of(row).seq == job.placed.seq and packet_of(row) == job.placed.packet

    # ---- who writes --------------------------------------------------------------------------------------------

    async def _ownership(self) -> str:
        """The name under which this front writes; taken from another where that must be. Raises Unavailable."""
        while self._own is None:
            name = str((await self._link.call("describe_collection", self._alias))["collection_name"])
            if self.is_of_others(name):
                hold = _HOLD_S * 2 ** min(self._lost, 5) * (0.5 + random.random())  # noqa: S311
                left = self._seen[1] + hold - asyncio.get_running_loop().time()
                if left > 0:
                    await asyncio.sleep(left)
                    continue
            match = _OWNED.match(name)
            epoch = int(match[1]) + 1 if match else 1
            mine = self.fresh_name(epoch)
            try:
                await self._link.once("rename_collection", name, mine)
            except (Gone, Ambiguous):  # another was first, or it is not known: look again
                await asyncio.sleep(_PAUSE_S * random.random())  # noqa: S311
                now = str((await self._link.call("describe_collection", self._alias))["collection_name"])
                if now != mine:
                    continue
            self._since = await self._link.now()
            self._known.clear()
            self._revision = epoch << 32
            count = await self._link.count(mine, self._since, f"state == {FOUND}")
            actions = await self.noted_actions(mine, self._since)
            self.count, self.actions, self._own = count, actions, mine
        return self._own

    async def noted_actions(self, collection: str, at: int) -> set[str]:
        """The actions that any packet ever had."""
        names = await noted(self._link, collection, at, "actions")
        return set() if names is None else {bytes.fromhex(each).decode() for each in names.decode().split("\n")}
