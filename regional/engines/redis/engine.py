"""Packets in Redis: `redis://HOST:PORT/NAME`.

Each bucket is a hash of packets by node, `at` a hash that says where each node is, and a sorted set orders all nodes by
the revision of their last change: what has changed since is a range of it. Scripts (EVALSHA) read and write these
together, so that writers of one node follow each other. All keys share a hash tag: a cluster keeps them on one server.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, RedisError, ResponseError

from regional.engine import MAX_K, Change, Limits, Told, Watch
from regional.engines.address import EngineAddress
from regional.engines.backing import NEVER, PATIENCE_S, SILENCE_S, Placed, end
from regional.engines.redis.scripts import CHANGES, FORGET, GET, PUT
from registry.errors import ConfigError, NotGranted, StorageFull, Unavailable

LEAST: Final = (6, 2)  # version of the server
ATOMIC: Final = 1_000  # packets in one script: others wait for it
_PAGE: Final = 500
_REPLY_S: Final = 2.0
_PAUSE_S: Final = 0.1

log = logging.getLogger(__name__)


class RedisBacking:
    """One prefix of keys, `kindred:{NAME}:`."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S, reading: bool = False) -> None:
        address.only("db")
        if len(address.servers) != 1:
            raise ConfigError(f"{address.where}: name one server, which keeps them all")
        self._address = address
        self._patience_s = patience_s
        self._reading = reading
        self._root = f"kindred:{{{address.name}}}:"
        self._prefix = self._root
        self._redis: Redis | None = None
        self._leaving: Redis | None = None  # what is not closed yet
        self._scripts: dict[str, AsyncScript] = {}

    @classmethod
    def reading(cls, address: EngineAddress, patience_s: float) -> RedisBacking:
        """One that only reads, and needs no right to write."""
        return cls(address, patience_s, reading=True)

    @property
    def where(self) -> str:
        """The server and the prefix."""
        return self._address.where

    @property
    def limits(self) -> Limits:
        """A put of as many packets as one script takes is one script."""
        return Limits(k=MAX_K, packets=None, atomic=ATOMIC)

    async def open(self) -> None:
        """Connect. Raises Unavailable, NotGranted or ConfigError."""
        host, port = self._address.servers[0]
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": int(self._address.options.get("db", "0")),
            "username": self._address.user,
            "password": self._address.password,
            "retry": Retry(NoBackoff(), 0),  # `_attempt` does, until patience ends
            "socket_timeout": _REPLY_S,
            "socket_connect_timeout": _REPLY_S,
        }
        if self._address.ca is not None:
            options |= {"ssl_ca_certs": str(self._address.ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        kind = Connection if self._address.ca is None else SSLConnection
        self._redis = Redis(connection_pool=ConnectionPool(connection_class=kind, **options))
        try:
            told = await self._patiently(lambda redis: redis.info("server"))
            version = str(told.get("redis_version", "0"))
            if tuple(int(each) for each in version.split(".")[:2]) < LEAST:
                right = f"{LEAST[0]}.{LEAST[1]} or later is needed"
                raise ConfigError(f"{self.where} is Redis {version}; {right}")
            if self._reading:
                return
            persistence = await self._patiently(lambda redis: redis.info("persistence"))
            if not int(persistence.get("aof_enabled", 0)):
                log.warning("%s keeps no log (appendonly no): what is acknowledged is lost when it ends", self.where)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go; who was cancelled meanwhile goes on where it was."""
        if self._redis is not None:
            self._leaving, self._redis = self._redis, None
        self._scripts.clear()  # each asks the client that it was registered with
        redis = self._leaving
        if redis is not None:
            await redis.aclose()
            await redis.connection_pool.disconnect()
            self._leaving = None

    def settle(self, version: int) -> None:
        """Keys begin with this version."""
        self._prefix = f"{self._root}v{version}:"

    async def put(self, packets: Sequence[Placed]) -> list[int]:
        """Store packets, each if its seq is above what is held; those of one script, all or none."""
        held: list[int] = []
        for start in range(0, len(packets), ATOMIC):
            words: list[bytes | str] = []
            for each in packets[start : start + ATOMIC]:
                bucket = "" if each.bucket is None else f"{each.bucket:04d}"
                words += bucket, each.node, f"{each.seq:020d}", each.packet
            replies, tried = await self._run(PUT, *words)
            for found in replies:
                if not found or (tried and found.startswith(b"=")):  # an attempt without a reply left it there
                    held.append(NEVER)
                else:
                    held.append(int(found.removeprefix(b"=")))
        return held

    async def remove(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets."""
        words = [word for node, most in nodes for word in (node, f"{most:020d}")]
        done, _ = await self._run(FORGET, *words)
        return [bool(each) for each in done]

    async def get(self, node: bytes) -> bytes | None:
        """The packet of a node."""
        found, _ = await self._run(GET, node)
        return found if isinstance(found, bytes) else None

    async def history(self, node: bytes) -> list[bytes]:
        """The current packet: no other is kept."""
        data = await self.get(node)
        return [] if data is None else [data]

    async def bucket(self, number: int) -> list[bytes]:
        """All that is kept in a bucket, at one moment."""
        key = f"{self._prefix}{number:04d}"
        found: list[bytes] = await self._patiently(lambda redis: redis.hvals(key))
        return found

    async def watch(self, after: int | None = None) -> Watch:
        """All nodes in the order of their last change, then each change; a position is a revision."""
        redis = self._opened()
        position, afresh, complete = after or 0, after is None, False
        stirs = asyncio.create_task(self._stirs(redis, stirred := asyncio.Event()))
        try:
            while True:
                stirred.clear()
                told = await self._changes(position)
                if int(told[0]) < position:  # it holds less than it did: restored from a backup, or failed over
                    position, afresh, complete = 0, True, False
                    continue
                position = max([position, *(int(float(score)) for _, score, _, _ in told[1:])])
                complete = complete or len(told) <= _PAGE
                changes = [Change(int(bucket), node, packet) for node, _, bucket, packet in told[1:]]
                if changes or afresh or complete:
                    yield Told(changes, complete, afresh, position)
                afresh = False
                if len(told) <= _PAGE:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(SILENCE_S / 3):
                            await stirred.wait()
                if stirs.done():
                    stirs.result()
        finally:
            await end(stirs)

    async def _changes(self, after: int) -> Any:
        try:
            async with asyncio.timeout(SILENCE_S):
                return (await self._run(CHANGES, str(after), str(_PAGE)))[0]
        except TimeoutError:
            raise Unavailable(f"silent for {SILENCE_S:g} s") from None

    async def _stirs(self, redis: Redis, stirred: asyncio.Event) -> None:
        """Say when something has been written. Raises Unavailable where the connection is lost."""
        async with redis.pubsub() as channel:
            with self._named():
                await channel.subscribe(f"{self._prefix}stirred")
                try:
                    while True:
                        await channel.parse_response(block=True)
                        stirred.set()
                finally:
                    stirred.set()

    async def mark(self) -> int:
        """The revision of the newest change."""
        found = await self._patiently(lambda redis: redis.get(f"{self._prefix}revision"))
        return int(found or 0)

    async def note(self, name: str) -> bytes | None:
        """Notes are a hash of their own."""
        found: bytes | None = await self._patiently(lambda redis: redis.hget(f"{self._root}notes", name))
        return found

    async def keep_note(self, name: str, value: bytes) -> None:
        """Whatever was noted before."""
        await self._patiently(lambda redis: redis.hset(f"{self._root}notes", name, value))

    async def claim_note(self, name: str, value: bytes) -> bytes:
        """Read, or set where there is none; a server that is full sets nothing."""
        noted = await self.note(name)
        if noted is not None:
            return noted
        await self._patiently(lambda redis: redis.hsetnx(f"{self._root}notes", name, value))
        return await self.note(name) or b""

    async def _run(self, script: str, *words: bytes | str) -> tuple[Any, bool]:
        """What a script returns, and whether an attempt before may have done its work already."""
        return await self._attempt(lambda redis: self._registered(redis, script)(keys=[self._prefix], args=words))

    def _registered(self, redis: Redis, script: str) -> AsyncScript:
        if script not in self._scripts:
            self._scripts[script] = redis.register_script(script)
        return self._scripts[script]

    async def _patiently(self, work: Callable[[Redis], Any]) -> Any:
        return (await self._attempt(work))[0]

    async def _attempt(self, work: Callable[[Redis], Any]) -> tuple[Any, bool]:
        """Do the work, again where the connection is lost or the server is still loading, until patience ends."""
        why, tried = "no answer", False
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    try:
                        return await work(self._opened()), tried  # it may have been closed meanwhile
                    except (RedisError, OSError) as error:
                        why, tried = self._bearable(error), True
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(f"{self.where} does not answer: {why}") from None

    def _opened(self) -> Redis:
        if self._redis is None:
            raise Unavailable(f"{self.where} is not open")
        return self._redis

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise Unavailable(f"{self.where}: {self._bearable(error)}") from None

    def _bearable(self, error: Exception) -> str:
        """Why another attempt may help; raises what no attempt helps against."""
        text = str(error)[:200]
        if isinstance(error, AuthenticationError | NoPermissionError) or text.startswith(("NOAUTH", "WRONGPASS")):
            raise NotGranted(f"{self.where}: wrong user or password, or no permission") from None
        if isinstance(error, OutOfMemoryError) or "MISCONF" in text or "OOM" in text:
            raise StorageFull(f"{self.where} is full: {text}") from None
        if isinstance(error, ResponseError) and not text.startswith(("LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN")):
            raise Unavailable(f"{self.where} refuses: {text}") from None
        return f"{type(error).__name__} {text}"
