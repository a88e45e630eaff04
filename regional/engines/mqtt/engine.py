"""Packets as retained messages of an MQTT broker: `mqtt://HOST:PORT/NAME`.

A packet stands at `kindred/NAME/v<version>/<bucket>/<node>` (node in hexadecimal). A broker compares nothing: a front
decides by what it has been told, and the broker tells all of them the same in the same order. Where another front's
older packet comes after a newer one, every front that knows the newer puts it back; where an older one stands in
another bucket, its own front takes it away once the newer is stored, and if it does not, the others do. A front that
has been told the newest puts back or takes away each message of an older one at most once, so that this ends. What a
broker that died had not saved yet, every front that lives puts back too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

import aiomqtt
import cbor2

from regional.engine import MAX_K, Change, Limits, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import NEVER, PATIENCE_S, Placed, end, seq_of
from regional.engines.mqtt.account import Account, Held, Way, newest, read_counts
from regional.engines.mqtt.link import AT_ONCE, REPLY_S, Arrived, MqttLink, change_of, with_seq
from registry.errors import ConfigError, KindredError, Unavailable

_COUNT_S: Final = 0.05  # between counts
_PAUSE_S: Final = 0.1
_GRACE_S: Final = 0.2  # how long what is left of a packet that moved is the affair of the front that moved it
_SHORT_S: Final = 2.0  # how long fewer packets than were counted may be there


class MqttBacking:
    """One tree of topics."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S) -> None:
        address.only()
        if len(address.servers) != 1:
            raise ConfigError(f"{address.where}: name one broker, which keeps them all")
        self._link = MqttLink(address)
        self._where = address.where
        self._patience_s = patience_s
        self._root = f"kindred/{address.name}/"
        self._version = ""
        self._prefix = self._root
        self._account = Account()
        self._counted: dict[int, int] = {}  # as published
        self._under_way: dict[bytes, Way] = {}
        self._notes: dict[str, bytes] = {}  # those that this front knows
        self._complete = asyncio.Event()  # set while a watch tells what comes
        self._watches = 0
        self._client: aiomqtt.Client | None = None
        self._joined = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self._mending: set[asyncio.Task[None]] = set()
        self._clearing: set[bytes] = set()  # nodes of which others' leavings wait to be taken away

    @property
    def where(self) -> str:
        """The broker and the tree."""
        return self._where

    @property
    def limits(self) -> Limits:
        """One packet is one message: of several, some may be stored where others fail."""
        return Limits(k=MAX_K, packets=None, atomic=1)

    async def open(self) -> None:
        """Connect. Raises Unavailable, NotGranted or ConfigError."""
        async with self._link.connection():
            pass
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._count())]

    async def close(self) -> None:
        """Let go."""
        if self._complete.is_set() and self._joined.is_set():
            with suppress(KindredError):
                await self._publish_counts()
        for task in (*self._tasks, *self._mending):
            await end(task)
        self._tasks = []

    def settle(self, version: int) -> None:
        """Topics begin with this version."""
        self._version = f"v{version}"
        self._prefix = f"{self._root}{self._version}/"

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets, each if its seq is above what is held."""
        waiting = iter(enumerate(packets))
        held = [NEVER] * len(packets)

        async def work() -> None:
            for at, each in waiting:  # whoever is done takes the next: a task for each would only wait
                held[at] = await self._put(each)

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(packets)))))
        return held

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets."""
        return list(await asyncio.gather(*(self._forget(node, most) for node, most in nodes)))

    async def get(self, node: bytes) -> bytes | None:
        """The packet of a node, from the broker."""
        await self._ready(node)
        found = await self._retained(f"{self._prefix}+/{node.hex()}")
        return max((each.payload for each in found), key=seq_of, default=None)

    async def history(self, node: bytes) -> list[bytes]:
        """The current packet: a broker keeps no other."""
        data = await self.get(node)
        return [] if data is None else [data]

    async def bucket(self, number: int) -> list[bytes]:
        """All that is kept in a bucket, counted."""
        await self._ready(b"")
        for _ in range(int(_SHORT_S / _PAUSE_S)):
            found = await self._retained(f"{self._prefix}{number:04d}/+")
            counts = await self._retained(f"{self._root}counts/{self._version}")
            least = read_counts(counts[0].payload).get(number, 0) if counts else 0
            if len(found) >= least:
                return [each.payload for each in found]
            await asyncio.sleep(_PAUSE_S)
        raise Unavailable(f"{self._where}: {len(found)} of {least} packets came; see max_queued_messages of the broker")

    async def watch(self, after: int | None = None) -> Watch:  # noqa: ARG002
        """All retained packets, then each change; always afresh, since a broker remembers no order."""
        topics = (f"{self._prefix}+/+", f"{self._root}counts/{self._version}")
        found: dict[tuple[int, bytes], bytes] = {}
        self._counted = {}  # a broker that died may not have saved them either
        afresh, complete = True, False
        try:
            async with aclosing(self._link.follow(*topics)) as following:
                async for heard in following:
                    changes = []
                    for message in heard.messages:
                        if message.topic == topics[1]:
                            self._counted = read_counts(message.payload)
                            self._account.changed.set()
                        elif (change := change_of(message, self._prefix)) is not None:
                            if complete and not self._note(change, message.seq):
                                continue
                            changes.append(change)
                            if complete:
                                continue
                            if change.packet is not None:
                                found[change.bucket, change.node] = change.packet
                            else:
                                found.pop((change.bucket, change.node), None)
                    if heard.complete and not complete:
                        await self._compare(found)
                        complete = True
                        self._watches += 1
                    yield Told(changes, complete, afresh)
                    afresh = False
        finally:
            self._watches -= complete
            if not self._watches:
                self._complete.clear()

    async def note(self, name: str) -> bytes | None:
        """A note is a topic of its own; the empty message would be none."""
        found = await self._retained(f"{self._root}notes/{name}")
        if found:
            self._notes[name] = found[0].payload
        return found[0].payload[1:] if found else None

    async def keep_note(self, name: str, value: bytes) -> None:
        """Whatever was noted before."""
        self._notes[name] = b"=" + value
        await self._publish(f"{self._root}notes/{name}", self._notes[name])

    async def claim_note(self, name: str, value: bytes) -> bytes:
        """A broker compares nothing: of two who claim at once, the second has it."""
        noted = await self.note(name)
        if noted is None:
            await self.keep_note(name, value)
            noted = await self.note(name)
        return value if noted is None else noted

    # ---- one node ----------------------------------------------------------------------------------------------

    async def _put(self, placed: Placed) -> int:
        await self._ready(placed.node)
        held = self._account.held.get(placed.node)
        if held is not None and held.seq >= placed.seq:
            return held.seq
        bucket = placed.bucket if placed.bucket is not None else held.bucket if held is not None else 0
        now = Held(bucket, placed.seq, placed.packet)
        way = self._under_way[placed.node] = Way(placed.packet)
        try:
            while way.disturbed:
                way.disturbed = False
                await self._publish(self._topic(bucket, placed.node), placed.packet)
                other = self._account.held.get(placed.node)
                if other is not None and other.rank >= now.rank:
                    break
            self._account.hold(placed.node, now)
            if placed.node in self._account.left:
                await self._publish_counts()  # first: fewer than were counted would be an error
                await self._clear(placed.node)
        finally:
            del self._under_way[placed.node]
            way.done.set_result(None)
        return NEVER if held is None else held.seq

    async def _forget(self, node: bytes, most: int) -> bool:
        await self._ready(node)
        held = self._account.held.get(node)
        if held is None or held.seq > most:
            return False
        places = {held.bucket, *self._account.left.get(node, ())}
        self._account.drop(node)
        await self._publish_counts()  # first: fewer than were counted would be an error
        for bucket in places:
            await self._publish(self._topic(bucket, node), b"", most)
        return True

    async def _ready(self, node: bytes) -> None:
        """Wait until it is known what is held. Raises Unavailable."""
        if self._complete.is_set() and node not in self._under_way:
            return
        try:
            async with asyncio.timeout(self._patience_s):
                await self._complete.wait()
                while (waiting := self._under_way.get(node)) is not None:
                    await waiting.done
        except TimeoutError:
            raise Unavailable(f"{self._where} cannot be reached") from None

    def _note(self, change: Change, gone_up_to: int | None) -> bool:
        """Keep the account of what came; put back what an older message has replaced or taken away.

        False where it took away by mistake what is put back at once.
        """
        held = self._account.held.get(change.node)
        way = self._under_way.get(change.node)
        if way is not None and change.packet != way.packet:
            way.disturbed = True
        if change.packet is None:
            self._account.cleared(change.node, change.bucket)
            if held is not None and held.bucket == change.bucket:
                if gone_up_to is not None and gone_up_to < held.seq:
                    self._soon(partial(self._publish, self._topic(held.bucket, change.node), held.packet))
                    return False
                if way is None:
                    self._account.drop(change.node)
            return True
        if held is not None and (held.bucket, held.packet) == (change.bucket, change.packet):
            return True
        told = Held(change.bucket, seq_of(change.packet), change.packet)
        if held is None or told.rank > held.rank:
            self._account.hold(change.node, told)
        elif told.rank < held.rank and told.bucket == held.bucket:
            self._soon(partial(self._publish, self._topic(held.bucket, change.node), held.packet))
        elif told.rank < held.rank:
            self._account.leave(change.node, told.bucket)
        self._clear_later(change.node)
        return True

    def _clear_later(self, node: bytes) -> None:
        """Take away what is left of a node if it is still there when its own front has had time to do so."""

        async def clear() -> None:
            try:
                await asyncio.sleep(_GRACE_S)
            finally:
                self._clearing.discard(node)
            await self._clear(node)

        if node in self._account.left and node not in self._clearing:
            self._clearing.add(node)
            self._soon(clear)

    async def _clear(self, node: bytes) -> None:
        """Take away what is left of a node in other buckets than the one where its newest packet stands."""
        for bucket in tuple(self._account.left.get(node, ())):
            held = self._account.held.get(node)
            if held is not None and bucket in self._account.left.get(node, ()):
                await self._publish(self._topic(bucket, node), b"", held.seq - 1)
                self._account.cleared(node, bucket)

    def _soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it beside; where the broker is gone, it is all compared again when it returns."""

        async def do() -> None:
            with suppress(KindredError):
                await work()

        task = asyncio.create_task(do())
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    async def _compare(self, found: Mapping[tuple[int, bytes], bytes]) -> None:
        """Take what the broker has for what is held; see that it is all; put back what it had not saved."""
        held = newest(found)
        lost = self._account.lost(held)
        await asyncio.gather(*(self._publish(self._topic(each.bucket, n), each.packet) for n, each in lost.items()))
        held.update(lost)
        for name, value in tuple(self._notes.items()):
            if not await self._retained(f"{self._root}notes/{name}"):
                await self._publish(f"{self._root}notes/{name}", value)
        places = Counter(bucket for bucket, _ in {*found, *((each.bucket, node) for node, each in lost.items())})
        short = sum(places[bucket] < n for bucket, n in self._counted.items())
        known = self._account.held.keys()
        knew = bool(known) and known <= held.keys()  # counts of before a broker's death may be back
        if short and not knew:
            raise Unavailable(f"{self._where}: fewer packets came than were counted, in {short} buckets")
        self._account.replace(held)
        for bucket, node in found:
            if held[node].bucket != bucket:
                self._account.leave(node, bucket)
                self._clear_later(node)
        self._complete.set()

    # ---- the broker --------------------------------------------------------------------------------------------

    async def _count(self) -> None:
        """Publish how many packets each bucket holds, whenever that is not what is published."""
        while True:
            await self._account.changed.wait()
            self._account.changed.clear()
            await asyncio.sleep(_COUNT_S)
            if self._complete.is_set() and +self._account.counts != self._counted:
                with suppress(KindredError):
                    await self._publish_counts()

    async def _publish_counts(self) -> None:
        await self._publish(f"{self._root}counts/{self._version}", cbor2.dumps(dict(+self._account.counts)))

    async def _stay_connected(self) -> None:
        """The connection that publishes."""
        while True:
            try:
                async with self._link.connection() as client:
                    self._client = client
                    self._joined.set()
                    async for _ in client.messages:
                        pass
            except KindredError:
                pass
            finally:
                self._joined.clear()
            await asyncio.sleep(_PAUSE_S)

    async def _publish(self, topic: str, payload: bytes, gone_up_to: int | None = None) -> None:
        """Have the broker retain a message, or none where it is empty; again until it is acknowledged."""
        properties = None if gone_up_to is None else with_seq(gone_up_to)
        now = asyncio.get_running_loop().time
        async with self._slots:
            end = now() + self._patience_s
            try:
                while True:
                    if not self._joined.is_set():
                        async with asyncio.timeout_at(end):
                            await self._joined.wait()
                    left = min(end - now(), REPLY_S)
                    if left <= 0:
                        raise TimeoutError
                    try:
                        client = self._connected()
                        await client.publish(topic, payload, 1, True, properties, timeout=left)
                        return
                    except aiomqtt.MqttError:
                        await asyncio.sleep(_PAUSE_S)
            except TimeoutError:
                raise Unavailable(f"{self._where} has not acknowledged it in time; deposit it again") from None

    def _connected(self) -> aiomqtt.Client:
        if self._client is None:
            raise Unavailable(f"{self._where} is not open")
        return self._client

    async def _retained(self, topics: str) -> list[Arrived]:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._link.retained(topics)
        except TimeoutError:
            raise Unavailable(f"{self._where} does not answer") from None

    def _topic(self, bucket: int, node: bytes) -> str:
        return f"{self._prefix}{bucket:04d}/{node.hex()}"
