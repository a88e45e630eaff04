"""Packets in a bucket of NATS JetStream's key-value store: `nats://HOST:PORT[,HOST:PORT...]/BUCKET`.

A packet stands at `v<version>.<bucket>.<node>` (node in base64url), so that a share of the buckets can be watched
alone. "Only a higher seq" is compare-and-set (regional/engines/nats/writer.py), by what the watch has told. A node that
moves to another bucket is put there before it is taken from the old one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Final

from nats.js.api import DeliverPolicy, DiscardPolicy, StorageType, StreamConfig

from regional.engine import MAX_K, Change, Limits, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, Placed, seq_of
from regional.engines.nats.consumer import Message
from regional.engines.nats.link import NatsLink, Overtaken
from regional.engines.nats.writer import NatsWriter, Unheard
from regional.packets.packet import node_from_text, node_text
from registry.errors import PacketError

MAX_HISTORY: Final = 64  # of a bucket, by NATS
_BUCKET: Final = re.compile(r"\d{4}")


class NatsBacking:
    """One bucket; it is made where there is none, with `replicas` and `history` of the address' options."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S, reading: bool = False) -> None:
        address.only("history", "replicas")
        self._history = address.number("history", 1, MAX_HISTORY)
        self._where = address.where
        self._prefix = f"$KV.{address.name}."
        config = StreamConfig(
            name=f"KV_{address.name}",
            subjects=[f"{self._prefix}>"],
            max_msgs_per_subject=self._history,
            num_replicas=address.number("replicas", min(3, len(address.servers)), 5),
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            deny_delete=True,
            allow_rollup_hdrs=True,
            duplicate_window=1,  # seconds in which the server remembers every message's id
        )
        self._link = NatsLink(address, config, patience_s, reading)
        self._version = 0
        self._writer = NatsWriter(
            self._link, lambda bucket, node: self._key(f"{bucket:04d}.{node_text(node)}"), patience_s
        )

    @classmethod
    def reading(cls, address: EngineAddress, patience_s: float) -> NatsBacking:
        """One that only reads, and needs no right to write."""
        return cls(address, patience_s, reading=True)

    @property
    def where(self) -> str:
        """The servers and the bucket."""
        return self._where

    @property
    def limits(self) -> Limits:
        """One packet is one message: of several, some may be stored where others fail."""
        return Limits(k=MAX_K, packets=None, atomic=1, history=self._history)

    async def open(self) -> None:
        """Connect, and make the bucket where there is none."""
        await self._link.open()

    async def close(self) -> None:
        """Let go."""
        await self._writer.close()
        await self._link.close()

    def settle(self, version: int) -> None:
        """Keys begin with this version."""
        self._version = version

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets, each if its seq is above what is held."""
        held = await self._writer.put(packets)
        gone = [each for each, seq in zip(packets, held, strict=True) if each.bucket is None and each.seq > seq]
        await asyncio.gather(*(self._forget_older(each.node, each.packet) for each in gone))
        return held

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets; a mark of each stays."""
        removed = await self._writer.forget(nodes)
        gone = [node for (node, _), done in zip(nodes, removed, strict=True) if done]
        await asyncio.gather(*(self._forget_older(node, None) for node in gone))
        return removed

    async def _forget_older(self, node: bytes, last: bytes | None) -> None:
        """Take what the bucket's history keeps of a node that is withdrawn or gone, in whatever bucket it was."""
        if self._history > 1:
            subjects = self._key(f"*.{node_text(node)}")
            found = await self._link.read(subjects)
            if found is not None and found.value == last:
                await self._link.purge(subjects, found.revision)

    async def get(self, node: bytes) -> bytes | None:
        """The packet of a node, from the leader: at the place that the watch has told of.

        Where that is not known, or the node has just left it, the server searches all that is kept (84 ms of 100,000).
        """
        with suppress(Unheard):
            place = await self._writer.place(node)
            if place is None:
                return None
            held = await self._link.read(self._key(f"{place.bucket:04d}.{node_text(node)}"))
            if held is not None and held.value is not None:
                return held.value
        return await self._search(node)

    async def _search(self, node: bytes) -> bytes | None:
        """The packet of a node, in whatever bucket it is."""
        found = await self._link.read(self._key(f"*.{node_text(node)}"))
        if found is None or found.value is not None:
            return None if found is None else found.value
        subjects = await self._link.subjects(
            self._key(f"*.{node_text(node)}")
        )  # the last that happened: it left a bucket
        messages = await asyncio.gather(*(self._link.read(subject) for subject in subjects))
        held = [each.value for each in messages if each is not None and each.value is not None]
        return max(held, key=seq_of, default=None)

    async def history(self, node: bytes) -> list[bytes]:
        """What the bucket's history keeps of a node, the newest first."""
        heard = await self._all(f"*.{node_text(node)}", DeliverPolicy.ALL)
        return [each.value for each in reversed(heard) if each.value is not None][: self._history]

    async def bucket(self, number: int) -> list[bytes]:
        """All that is kept in a bucket."""
        heard = await self._all(f"{number:04d}.*", DeliverPolicy.LAST_PER_SUBJECT)
        last = {each.subject: each.value for each in heard}
        return [value for value in last.values() if value is not None]

    async def watch(self, after: int | None = None) -> Watch:
        """All keys of this version, then each change; a position is the stream's sequence number."""
        await self._link.rejoin()
        if after is not None and await self._link.last() < after:
            after = None  # not the stream that was watched
        policy = DeliverPolicy.LAST_PER_SUBJECT if after is None else DeliverPolicy.BY_START_SEQUENCE
        afresh, complete, position = after is None, False, after or 0
        async with aclosing(self._link.follow(f"{self._prefix}>", policy, position + 1)) as consumer:
            async for heard in consumer:
                changes = []
                for message in heard.messages:
                    position = message.revision
                    change = self._change(message)
                    if change is not None:
                        changes.append(change)
                complete = complete or heard.pending == 0
                yield Told(changes, complete, afresh, position)
                afresh = False

    async def mark(self) -> int:
        """The stream's newest sequence number, from its leader."""
        return await self._link.last()

    async def note(self, name: str) -> bytes | None:
        """A note is a key of its own."""
        message = await self._link.read(f"{self._prefix}note.{name}")
        return None if message is None else message.value

    async def keep_note(self, name: str, value: bytes) -> None:
        """Whatever was noted before."""
        await self._link.write(f"{self._prefix}note.{name}", value)

    async def claim_note(self, name: str, value: bytes) -> bytes:
        """Create the key, or read what is there."""
        try:
            await self._link.write(f"{self._prefix}note.{name}", value, first=True)
        except Overtaken:
            noted = await self.note(name)
            return value if noted is None else noted
        return value

    def _change(self, message: Message) -> Change | None:
        """What a message changes; None for what is no key of this version."""
        own = self._writer.sent(message.revision, message.subject, message.value)
        if own is not None:
            return Change(*own, message.value)
        version, *rest = message.subject.removeprefix(self._prefix).split(".")
        if version == f"v{self._version}" and len(rest) == 2 and _BUCKET.fullmatch(rest[0]):
            with suppress(PacketError):
                bucket, node = int(rest[0]), node_from_text(rest[1])
                seq = None if message.value is None else seq_of(message.value)
                self._writer.hear(message.revision, bucket, node, seq)
                return Change(bucket, node, message.value)
        self._writer.reach(message.revision)
        return None

    def _key(self, rest: str) -> str:
        return f"{self._prefix}v{self._version}.{rest}"

    async def _all(self, pattern: str, policy: DeliverPolicy) -> list[Message]:
        """All that there is now."""
        found: list[Message] = []
        async with aclosing(self._link.consume(self._key(pattern), policy)) as consumer:
            async for heard in consumer:
                found += heard.messages
                if heard.pending == 0:
                    return found
        return found
