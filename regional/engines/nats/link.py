"""One NATS JetStream stream: what may fail for a while is tried again, what fails for good has a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServerError

from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S
from regional.engines.nats.acks import AWAY, Acks, Outgoing
from regional.engines.nats.client import Connection, connected
from regional.engines.nats.consumer import Heard, Message, consumed
from registry.errors import ConfigError, KindredError, StorageFull, Unavailable

LEAST: Final = (2, 9)  # version of the server
_FOLLOWING_PING_S: Final = 60  # a pong may stand behind all that is read; signs of life are what counts there
_REPLY_S: Final = 2.0
_PAUSE_S: Final = 0.1  # between attempts
_CONFLICT: Final = frozenset({10071, 10164})  # wrong last sequence
_FULL: Final = frozenset({10023, 10028, 10047, 10077, 10122})  # insufficient resources, a limit is reached
_MISSING: Final = frozenset({10039, 10076})  # JetStream is not enabled

T = TypeVar("T")


class Overtaken(Exception):
    """Another has written the subject since it was read."""


class NatsLink:
    """The stream `config`, on the servers of `address`; it is made where there is none.

    reading: nothing is made, and no other servers are connected to than the address names, though they name others.
    """

    def __init__(
        self, address: EngineAddress, config: StreamConfig, patience_s: float = PATIENCE_S, reading: bool = False
    ) -> None:
        self._address = address
        self._config = config
        self._stream = config.name or ""
        self._patience_s = patience_s
        self._reading = reading
        self._connection: Connection | None = None
        self._following: set[Connection] = set()
        self._acks: Acks | None = None

    @property
    def where(self) -> str:
        """For messages."""
        return self._address.where

    async def open(self) -> None:
        """Connect. Raises Unavailable, NotGranted or ConfigError."""
        self._connection = connection = await connected(self._address, faithful=self._reading)
        try:
            self._check(connection)
            await self._patiently(self._find if self._reading else self._make)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        connection, self._connection, self._acks = self._connection, None, None
        for each in [*self._following, *([] if connection is None else [connection])]:
            await each.close()

    async def rejoin(self) -> None:
        """Connect again where the client does not by itself. Raises Unavailable, NotGranted."""
        if self._reading and self._opened().parted:
            self._connection, self._acks = await connected(self._address, faithful=True), None

    async def publish(self, messages: Sequence[Outgoing]) -> list[int | Exception]:
        """The revision of each message as it is stored now, or why it is not known to be; sent at once, one attempt.

        Overtaken where the stream is not as the headers expect, StorageFull, or Unavailable where it is not known.
        """
        client = self._opened().client
        if self._acks is None:
            self._acks = await Acks.opened(client)
        try:
            async with asyncio.timeout(_REPLY_S):
                replies = await self._acks.publish(client, messages)
        except (Error, OSError, TimeoutError) as error:
            return [Unavailable(f"{self.where} does not answer: {type(error).__name__}")] * len(messages)
        return [reply if isinstance(reply, int) else self._named(reply) for reply in replies]

    def _named(self, error: Exception) -> Exception:
        try:
            return Unavailable(f"{self.where} does not answer: {self._bearable(error)}")
        except (Overtaken, KindredError) as named:
            return named

    async def write(self, subject: str, value: bytes, *, first: bool = False) -> None:
        """Store a value, again until it is acknowledged. first: only where there is none, else raises Overtaken."""
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"} if first else {}

        async def publish(js: JetStreamContext) -> None:
            await js.publish(subject, value, headers=headers or None)

        await self._patiently(publish)

    async def read(self, subject: str) -> Message | None:
        """The last message of a subject, from the stream's leader."""

        async def read(js: JetStreamContext) -> Message | None:
            try:
                found = await js.get_msg(self._stream, subject=subject)
            except NotFoundError as error:
                if error.err_code not in (10037, None):  # no message found
                    raise
                return None
            away = AWAY in (found.headers or {})
            return Message(found.subject or subject, found.seq or 0, None if away else found.data or b"")

        return await self._patiently(read)

    async def purge(self, pattern: str, before: int) -> None:
        """Remove the messages of subjects that match, those before a revision, for good."""

        async def ask(js: JetStreamContext) -> None:
            await js.purge_stream(self._stream, seq=before, subject=pattern)

        await self._patiently(ask)

    async def subjects(self, pattern: str) -> list[str]:
        """The subjects that have messages and match."""

        async def ask(js: JetStreamContext) -> list[str]:
            return list((await js.stream_info(self._stream, subjects_filter=pattern)).state.subjects or {})

        return await self._patiently(ask)

    async def last(self) -> int:
        """The revision of the newest message of all."""

        async def ask(js: JetStreamContext) -> int:
            return (await js.stream_info(self._stream)).state.last_seq

        return await self._patiently(ask)

    async def consume(self, pattern: str, policy: DeliverPolicy, start: int = 0) -> AsyncGenerator[Heard, None]:
        """Messages that match (regional/engines/nats/consumer.py), over the connection that all else goes over."""
        connection = self._opened()
        async with aclosing(consumed(connection, self._begun(connection), pattern, policy, start)) as heard:
            async for each in heard:
                yield each

    async def follow(self, pattern: str, policy: DeliverPolicy, start: int = 0) -> AsyncGenerator[Heard, None]:
        """The same, over a connection of its own, where nothing else that is read stands before its signs of life.

        It ends, too, where the other connection does not come back by itself: who follows anew joins that again.
        """
        beside = [self._opened()] if self._reading else []
        connection = await connected(self._address, self._reading, _FOLLOWING_PING_S)
        self._following.add(connection)
        try:
            async with aclosing(consumed(connection, self._begun(connection), pattern, policy, start, beside)) as heard:
                async for each in heard:
                    yield each
        finally:
            self._following.discard(connection)
            await connection.close()

    def _begun(self, connection: Connection) -> Callable[[ConsumerConfig], Awaitable[ConsumerInfo]]:
        """What begins a consumer over a connection.

        It is not asked for again while it may come: two would tell the same subject. To find the last message of each
        of 100,000 subjects takes a server a second, on a busy machine several.
        """
        most = self._patience_s
        return lambda config: self._patiently(
            lambda js: js.add_consumer(self._stream, config, timeout=most), connection
        )

    def _opened(self) -> Connection:
        if self._connection is None:
            raise Unavailable(f"{self._address.where} is not open")
        return self._connection

    def _check(self, connection: Connection) -> None:
        version = connection.client.connected_server_version
        if (version.major, version.minor) < LEAST:
            found, right = f"{version.major}.{version.minor}", f"{LEAST[0]}.{LEAST[1]}"
            raise ConfigError(f"{self._address.where} is NATS {found}; {right} or later is needed")

    async def _find(self, js: JetStreamContext) -> None:
        try:
            await js.stream_info(self._stream)
        except NotFoundError:
            raise Unavailable(f"{self._address.where}: there is no such bucket") from None

    async def _make(self, js: JetStreamContext) -> None:
        try:
            await js.stream_info(self._stream)
        except NotFoundError as error:
            if error.err_code != 10059:  # stream not found
                raise
            await js.add_stream(self._config)

    async def _patiently(
        self, work: Callable[[JetStreamContext], Awaitable[T]], connection: Connection | None = None
    ) -> T:
        """Do the work, again where a leader is being elected or the connection is lost, until patience ends."""
        why = "no answer"
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    try:
                        return await work((connection or self._opened()).client.jetstream(timeout=_REPLY_S))
                    except (APIError, Error, TimeoutError) as error:
                        why = self._bearable(error)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(f"{self._address.where} does not answer: {why}") from None

    def _bearable(self, error: Exception) -> str:
        """Why another attempt may help; raises what no attempt helps against."""
        where = self._address.where
        if not isinstance(error, APIError):
            return f"{type(error).__name__}"
        if error.err_code in _CONFLICT:
            raise Overtaken
        if error.err_code in _FULL:
            raise StorageFull(f"{where} is full: {error.description}")
        if error.err_code in _MISSING:
            raise ConfigError(f"{where} has no JetStream; start its servers with -js")
        if isinstance(error, ServerError):
            return str(error.description)
        raise Unavailable(f"{where} refuses: {error.description}")
