"""Connections to an MQTT 5 broker, and how to know that all retained messages have come."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import uuid4

import aiomqtt
from aiomqtt import MqttCodeError, MqttError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from regional.engine import Change
from regional.engines.address import EngineAddress
from regional.engines.backing import SILENCE_S
from registry.errors import ConfigError, NotGranted, Unavailable

REPLY_S: Final = 3.0
AT_ONCE: Final = 64  # messages not acknowledged yet; the client's work for each grows with how many there are
_KEEPALIVE_S: Final = int(SILENCE_S * 2 / 3)
_REFUSED: Final = frozenset({0x86, 0x87, 4, 5})  # bad user name or password, not authorized; MQTT 5 and before
_TOO_OLD: Final = frozenset({0x84, 1})  # unsupported protocol version
_NOT_SENT_AGAIN: Final = 2  # retain handling: no retained messages for this subscription


_client_log = logging.getLogger("aiomqtt.kindred")
_client_log.setLevel(logging.ERROR)  # it warns of each of several messages under way


class Arrived(NamedTuple):
    """A message: topic, payload, and the user property `seq`, None where there is none."""

    topic: str
    payload: bytes
    seq: int | None


class Heard(NamedTuple):
    """Messages in their order; complete: all retained ones have come. client: the connection that brought them."""

    messages: list[Arrived]
    complete: bool
    client: aiomqtt.Client


class MqttLink:
    """The broker of `address`."""

    def __init__(self, address: EngineAddress) -> None:
        self._address = address

    @asynccontextmanager
    async def connection(self, queue: asyncio.Queue[aiomqtt.Message] | None = None) -> AsyncIterator[aiomqtt.Client]:
        """One connection. Raises Unavailable, NotGranted or ConfigError; also for MqttError inside."""
        host, port = self._address.servers[0]
        kind: Any = asyncio.Queue if queue is None else lambda maxsize: queue  # noqa: ARG005
        client = aiomqtt.Client(
            host,
            port,
            username=self._address.user,
            password=self._address.password,
            logger=_client_log,
            identifier=f"kindred-{uuid4().hex[:15]}",
            protocol=aiomqtt.ProtocolVersion.V5,
            timeout=REPLY_S,
            keepalive=_KEEPALIVE_S,
            queue_type=kind,
            max_inflight_messages=AT_ONCE,
            max_concurrent_outgoing_calls=1 << 20,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # else an answer waits for what it answers
            tls_context=None if self._address.ca is None else ssl.create_default_context(cafile=str(self._address.ca)),
        )
        try:
            async with client:
                yield client
        except MqttError as error:
            raise self._named(error) from None

    async def retained(self, topics: str) -> list[Arrived]:
        """All retained messages that match, now."""
        found: list[Arrived] = []
        async with aclosing(self.follow(topics, stay=False)) as following:
            async for heard in following:
                found += heard.messages
        return found

    async def follow(self, *topics: str, stay: bool = True) -> AsyncGenerator[Heard, None]:
        """The retained messages that match, then each as it comes. Raises Unavailable where the connection is lost.

        An acknowledged subscription proves nothing: what is published to a topic of one's own after it arrives when
        all retained messages have. They are fetched at QoS 0, since brokers drop what exceeds a queue's limit above
        that; what comes later, at QoS 1.
        """
        queue: asyncio.Queue[aiomqtt.Message] = asyncio.Queue()
        marker = f"kindred-marker/{uuid4().hex}"
        async with self.connection(queue) as client:
            await client.subscribe(marker)
            await client.subscribe([(topic, 0) for topic in topics])
            await client.publish(marker, b"here")
            complete = False
            async for first in client.messages:
                waiting = [first]
                while not queue.empty():
                    waiting.append(queue.get_nowait())
                messages = []
                for message in waiting:
                    if message.topic.value == marker:
                        complete = True
                    else:
                        messages.append(Arrived(message.topic.value, _bytes(message.payload), _seq(message)))
                if complete and stay and any(each.topic.value == marker for each in waiting):
                    later = SubscribeOptions(qos=1, retainHandling=_NOT_SENT_AGAIN)
                    for topic in topics:
                        await client.subscribe(topic, options=later)
                yield Heard(messages, complete, client)
                if complete and not stay:
                    return

    def _named(self, error: MqttError) -> Exception:
        where = self._address.where
        code = error.rc if isinstance(error, MqttCodeError) else None
        number = code.value if isinstance(code, ReasonCode) else code
        if number in _REFUSED:
            return NotGranted(f"{where}: wrong user or password, or no permission")
        if number in _TOO_OLD:
            return ConfigError(f"{where} does not speak MQTT 5; a broker of version 5 or later is needed")
        return Unavailable(f"{where} cannot be reached: {error}"[:300])


def change_of(message: Arrived, prefix: str) -> Change | None:
    """What a message below `prefix` changes; None for what is at no place of ours."""
    number, _, name = message.topic.removeprefix(prefix).partition("/")
    try:
        return Change(int(number), bytes.fromhex(name), message.payload or None)
    except ValueError:
        return None


def with_seq(seq: int) -> Properties:
    """Properties that say up to which seq a message takes a packet away."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = [("seq", str(seq))]
    return properties


def _seq(message: aiomqtt.Message) -> int | None:
    for name, value in getattr(message.properties, "UserProperty", None) or []:
        if name == "seq" and value.isascii() and value.isdecimal():
            return int(value)
    return None


def _bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else str(payload).encode()
