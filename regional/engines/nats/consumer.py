"""What a NATS stream tells whoever consumes it: messages in their order, none left out, and signs of life between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from regional.engines.backing import SILENCE_S
from regional.engines.nats.acks import AWAY
from regional.engines.nats.client import Connection
from registry.errors import Unavailable

BEATS: Final = 3  # signs of life that are missed in SILENCE_S
STEP: Final = 256  # messages heard at a time; more would hold up the event loop


class Message(NamedTuple):
    """A subject, its revision, its value: None where the message takes it away."""

    subject: str
    revision: int
    value: bytes | None


class Heard(NamedTuple):
    """Messages in their order, and how many more the server had when it sent the last."""

    messages: list[Message]
    pending: int


async def consumed(
    connection: Connection,
    begin: Callable[[ConsumerConfig], Awaitable[ConsumerInfo]],
    pattern: str,
    policy: DeliverPolicy,
    start: int = 0,
    beside: Sequence[Connection] = (),
) -> AsyncGenerator[Heard, None]:
    """Messages that match, in order: those there are, then new ones as they come.

    begin: makes the consumer. start: from which revision on, for the policy BY_START_SEQUENCE. Raises Unavailable where
    a message was left out, where the connection, or one of those `beside` it, is lost, and where nothing is heard for
    SILENCE_S.
    """
    client, needed = connection.client, [connection, *beside]
    partings = [each.partings for each in needed]
    inbox = client.new_inbox()
    waiting: deque[Msg] = deque()
    stirred = asyncio.Event()

    async def receive(message: Msg) -> None:
        waiting.append(message)
        stirred.set()

    subscription = await client.subscribe(inbox, cb=receive)
    for each in needed:
        each.listening.add(stirred)
    try:
        config = ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=policy,
            opt_start_seq=start if policy is DeliverPolicy.BY_START_SEQUENCE else None,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            filter_subject=pattern,
            flow_control=True,
            idle_heartbeat=SILENCE_S / BEATS,
            inactive_threshold=10.0,
            mem_storage=True,
            num_replicas=1,
        )
        pending, count = (await begin(config)).num_pending or 0, 0
        yield Heard([], pending)
        while True:
            if not waiting and not await _stirs(stirred):
                raise Unavailable(f"silent for {SILENCE_S:g} s")
            if [each.partings for each in needed] != partings or any(each.parted for each in beside):
                raise Unavailable("the connection is lost")
            stirred.clear()
            messages = []
            for message in [waiting.popleft() for _ in range(min(STEP, len(waiting)))]:
                if message.headers and message.headers.get("Status"):
                    await _attend(client, message, count)
                    continue
                place = message.metadata
                count += 1
                if place.sequence.consumer != count:
                    raise Unavailable(f"messages were left out between {count - 1} and {place.sequence.consumer}")
                pending = place.num_pending
                away = message.headers is not None and AWAY in message.headers
                messages.append(Message(message.subject, place.sequence.stream, None if away else message.data))
            if messages:
                yield Heard(messages, pending)
            await asyncio.sleep(0)  # others' turn, however much there is to hear
    finally:
        for each in needed:
            each.listening.discard(stirred)
        if not client.is_closed:
            with suppress(Error, OSError):
                await subscription.unsubscribe()


async def _stirs(stirred: asyncio.Event) -> bool:
    """Whether anything is heard in time; while the loop is busy elsewhere, it misses one sign of life, not all."""
    for _ in range(BEATS):
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S / BEATS):
                await stirred.wait()
        if stirred.is_set():
            return True
    return False


async def _attend(client: Client, message: Msg, count: int) -> None:
    """A sign of life: answer it where the server waits for that, and see that nothing before it was left out."""
    headers = message.headers or {}
    for subject in (message.reply, headers.get("Nats-Consumer-Stalled")):
        if subject:
            await client.publish(subject)
    last = headers.get("Nats-Last-Consumer")
    if last is not None and int(last) != count:
        raise Unavailable(f"of {last} messages {count} came")
