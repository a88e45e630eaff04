"""Networks in a DHT, read by a guest of it: `dht://HOST:PORT[,HOST:PORT...]/NAME?key=HEX`, the owner's public key.

Whatever nodes reply is checked: libtorrent drops what the key has not signed, or a name does not fit; the rest is
counted against the directory. A network that cannot be read whole, as far as a question needs it, has failed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from regional.client import Failed, NearestReply, NearestRequest, Refused, TimedOut
from regional.engine import NearestQuery, NearestResult
from regional.engines.address import EngineAddress
from regional.engines.backing import end
from regional.engines.dht.directory import Directory
from regional.engines.dht.mirror import DhtMirror
from regional.engines.dht.node import DhtNode, Server
from regional.engines.mirror import Home
from regional.engines.reading import Bounds
from regional.reader import reply_of
from registry.clock import Clock
from registry.errors import ConfigError, Conflict, KindredError

_KEY: Final = re.compile(r"[0-9a-f]{64}")


class DhtReader:
    """Reads networks at `dht:` endpoints, as far as the questions need them. listen: HOST:PORT of its own nodes."""

    def __init__(self, bounds: Bounds, clock: Clock, listen: str = "127.0.0.1:0") -> None:
        self._bounds = bounds
        self._clock = clock
        self._listen = listen
        self._nodes: dict[tuple[Server, ...], _Joined] = {}
        self._mirrors: dict[tuple[str, Home, int], _Read] = {}  # the one that was asked last stands last
        self._reading: dict[str, asyncio.Task[NearestResult]] = {}  # by endpoint, for whom nobody waits any more

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:
        """Join, and know the directory. Raises Refused, TimedOut or Failed."""
        async with _Within(timeout_s):
            await (await self._mirror(endpoint, request)).refresh()

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        """The nearest packets of the network at `endpoint`. Raises Refused, TimedOut or Failed."""
        query = NearestQuery(request.fingerprint, request.k, request.per, request.actions, request.within)
        async with _Within(timeout_s):
            found = await self._read_on((await self._mirror(endpoint, request)).nearest(query), endpoint)
        return reply_of(request, found.packets, found.tied, found.truncated)

    async def close(self) -> None:
        """Leave all DHTs."""
        for task in self._reading.values():
            await end(task)
        for read in self._mirrors.values():
            read.mirror.close()
        self._mirrors = {}
        for joined in self._nodes.values():
            await joined.leave()
        self._nodes = {}

    async def _read_on(self, work: Coroutine[Any, Any, NearestResult], endpoint: str) -> NearestResult:
        """What it comes to. Where nobody waits so long, one of an endpoint goes on: a later question finds it read."""
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if endpoint in self._reading and not self._reading[endpoint].done():
                task.cancel()
            else:
                self._reading[endpoint] = task
                task.add_done_callback(_looked_at)
            raise

    async def _mirror(self, endpoint: str, request: NearestRequest) -> DhtMirror:
        home = Home(request.domain, request.space[:8], request.network)
        key = endpoint, home, len(request.fingerprint)
        read = self._mirrors.pop(key, None)
        if read is None:
            address = EngineAddress.parse(endpoint, request.network)
            address.only("key")
            public = address.options.get("key", "")
            if not _KEY.fullmatch(public):
                raise ConfigError(f"{address.where}: key is {public!r:.70}; it is 64 hexadecimal digits")
            node = DhtNode(address.servers, self._listen, guest=True)
            joined = self._nodes.setdefault(address.servers, _Joined(node))
            directory = Directory(joined.node, bytes.fromhex(public), address.name)
            read = _Read(joined, DhtMirror(directory, home, key[2], self._clock))
        self._mirrors[key] = read
        read.asked = self._clock.monotonic()
        self._forget()
        await read.joined.ready()
        return read.mirror

    def _forget(self) -> None:
        """Let go of what nobody has asked for a while, and of more than may be held; never of the last."""
        for key, read in list(self._mirrors.items())[:-1]:
            idle = self._clock.monotonic() - read.asked > self._bounds.idle_s
            held = sum(each.mirror.held for each in self._mirrors.values())
            if idle or len(self._mirrors) > self._bounds.networks or held > self._bounds.packets:
                del self._mirrors[key]
                read.mirror.close()


def _looked_at(task: asyncio.Task[NearestResult]) -> None:
    if not task.cancelled():
        task.exception()  # who asks next is told


@dataclass(slots=True)
class _Joined:
    """A node, and its way into a DHT."""

    node: DhtNode
    joining: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Wait until it has joined; again where that has failed."""
        if self.joining is None or (self.joining.done() and self.joining.exception() is not None):
            self.joining = asyncio.create_task(self.node.open())
        await asyncio.shield(self.joining)

    async def leave(self) -> None:
        if self.joining is not None:
            joined = self.joining.done() and self.joining.exception() is None
            await end(self.joining)
            if joined:
                await self.node.close()


@dataclass(slots=True)
class _Read:
    joined: _Joined
    mirror: DhtMirror
    asked: float = field(default=0.0)


class _Within:
    """Whatever goes wrong in here is one of the three that may become of a question."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timeout = asyncio.timeout(timeout_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)  # type: ignore[arg-type]
        except TimeoutError:
            raise TimedOut(f"no answer within {self._timeout_s * 1000:.0f} ms; it is read on") from None
        if isinstance(error, Conflict):
            raise Refused(error.detail) from None
        if isinstance(error, KindredError):
            raise Failed(error.detail) from None
