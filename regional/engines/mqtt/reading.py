"""What an MQTT broker retains of a network, for those who only read: a subscriber, and nothing more.

It publishes nothing but marks of its own: what comes back after them tells that all before them has come. What fronts
put right (regional/engines/mqtt/engine.py), it waits for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, suppress
from typing import Final
from uuid import uuid4

import aiomqtt

from regional.engine import Change, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import seq_of
from regional.engines.mqtt.account import Account, Held, newest, read_counts
from regional.engines.mqtt.link import MqttLink, change_of
from registry.errors import ConfigError, Unavailable

_MARK: Final = "kindred-marker/"


class MqttReading:
    """One tree of topics."""

    def __init__(self, address: EngineAddress, patience_s: float) -> None:
        address.only()
        if len(address.servers) != 1:
            raise ConfigError(f"{address.where}: name one broker, which keeps them all")
        self._link = MqttLink(address)
        self._where = address.where
        self._patience_s = patience_s
        self._root = f"kindred/{address.name}/"
        self._version = ""
        self._account = Account()
        self._topic = f"{_MARK}{uuid4().hex}"
        self._marks = 0
        self._client: aiomqtt.Client | None = None  # of the watch

    @property
    def where(self) -> str:
        """The broker and the tree."""
        return self._where

    async def open(self) -> None:
        """Connect once. Raises Unavailable, NotGranted or ConfigError."""
        async with self._link.connection():
            pass

    async def close(self) -> None:
        """Nothing is held but by a watch."""

    def settle(self, version: int) -> None:
        """Topics begin with this version."""
        self._version = f"v{version}"

    async def note(self, name: str) -> bytes | None:
        """A note is a topic of its own."""
        try:
            async with asyncio.timeout(self._patience_s):
                found = await self._link.retained(f"{self._root}notes/{name}")
        except TimeoutError:
            raise Unavailable(f"{self._where} does not answer") from None
        return found[0].payload[1:] if found else None

    async def mark(self) -> int:
        """The number of a mark that the watch hears after all that came before it."""
        client = self._client
        if client is None:
            raise Unavailable(f"{self._where} cannot be heard")
        self._marks += 1
        number = self._marks
        try:
            await client.publish(self._topic, str(number), qos=1)
        except aiomqtt.MqttError as error:
            raise Unavailable(f"{self._where} cannot be reached: {error}"[:300]) from None
        return number

    async def watch(self, after: int | None = None) -> Watch:  # noqa: ARG002
        """All retained packets, then each change; always afresh, since a broker remembers no order.

        A position is the number of a mark.
        """
        prefix, counts = f"{self._root}{self._version}/", f"{self._root}counts/{self._version}"
        found: dict[tuple[int, bytes], bytes] = {}
        counted: dict[int, int] = {}
        afresh, complete, position = True, False, self._marks
        try:
            async with aclosing(self._link.follow(f"{prefix}+/+", counts)) as following:
                async for heard in following:
                    changes = []
                    for message in heard.messages:
                        if message.topic == self._topic:
                            with suppress(ValueError):
                                position = max(position, min(int(message.payload), self._marks))
                        elif message.topic == counts:
                            counted = read_counts(message.payload)
                        elif (change := change_of(message, prefix)) is None:
                            continue
                        elif complete:
                            if self._counts_for(change, message.seq):
                                changes.append(change)
                        else:
                            changes.append(change)
                            if change.packet is None:
                                found.pop((change.bucket, change.node), None)
                            else:
                                found[change.bucket, change.node] = change.packet
                    if heard.complete and not complete:
                        self._compare(found, counted)
                        await heard.client.subscribe(self._topic, qos=1)
                        self._client = heard.client
                        complete = True
                    yield Told(changes, complete, afresh, position)
                    afresh = False
        finally:
            self._client = None

    def _counts_for(self, change: Change, gone_up_to: int | None) -> bool:
        """Keep the account; False where an older packet's message takes a newer away, which fronts put back."""
        held = self._account.held.get(change.node)
        if change.packet is not None:
            self._account.hold(change.node, Held(change.bucket, seq_of(change.packet), change.packet))
        elif held is not None and held.bucket == change.bucket:
            if gone_up_to is not None and gone_up_to < held.seq:
                return False
            self._account.drop(change.node)
        return True

    def _compare(self, found: dict[tuple[int, bytes], bytes], counted: dict[int, int]) -> None:
        """Raise Unavailable unless all has come that fronts have counted, and that was heard lately."""
        held = newest(found)
        places = Counter(bucket for bucket, _ in found)
        short = sum(places[bucket] < n for bucket, n in counted.items())
        if short:
            raise Unavailable(f"fewer packets came than were counted, in {short} buckets")
        lost = self._account.lost(held)
        if lost:
            raise Unavailable(f"it has forgotten {len(lost)} packets; who stored them puts them back")
        self._account = Account()
        for node, each in held.items():  # as lately told, since the broker may not have saved any of it
            self._account.hold(node, each)
