"""Virtual time: an event loop whose clock jumps to the next event, and connections that are as slow as a distance.

Everything that the gateway does runs for real on it, but waiting costs nothing and the same run gives the same times.
A connection costs a round trip to set up; what is sent arrives half a round trip later; a server's answers leave as
TCP's slow start lets them (RFC 5681, initial window of RFC 6928, doubling per round trip). Nothing is lost, servers and
the gateway take no time, and bandwidth does not end.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

INITIAL_WINDOW = 14_600  # octets, RFC 6928
WIDEST_WINDOW = 4 * 1024 * 1024


class Server(Protocol):
    """What is at the other end of one connection."""

    def received(self, data: bytes) -> list[bytes]:
        """The messages that are owed after these octets."""


class VirtualClock:
    """The clock of a virtual loop."""

    def __init__(self, loop: VirtualLoop, now: float) -> None:
        self._loop = loop
        self._now = now

    def now(self) -> float:
        return self._now + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class _Instant(selectors.SelectSelector):
    """A selector that does not wait: it moves the clock on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)  # None: only a thread can go on
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """connect: the round-trip time in seconds and the server at (host, port); OSError where there is none."""

    def __init__(self, connect: Callable[[str, int], tuple[float, Server]]) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)
        self._connect = connect
        self.connections = 0

    def time(self) -> float:
        return self._instant.now

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """A connection in memory; a round trip passes before it stands."""
        round_trip, server = self._connect(host, port)
        self.connections += 1
        await asyncio.sleep(round_trip)
        protocol = protocol_factory()
        transport = _Link(self, protocol, server, round_trip)
        protocol.connection_made(transport)
        return transport, protocol


class _Link(asyncio.Transport):
    """One connection, as its client sees it."""

    def __init__(self, loop: VirtualLoop, protocol: asyncio.Protocol, server: Server, round_trip: float) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._server = server
        self._half = round_trip / 2
        self._out: deque[bytes] = deque()
        self._back: deque[bytes] = deque()
        self._sending = _SlowStart(round_trip)
        self._closing = False

    def write(self, data: Any) -> None:
        self._out.append(bytes(data))
        self._loop.call_later(self._half, self._arrive)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    close = abort

    def is_closing(self) -> bool:
        return self._closing

    def _arrive(self) -> None:
        for message in self._server.received(self._out.popleft()):
            leaves = self._sending.leave(self._loop.time(), len(message))
            self._back.append(message)
            self._loop.call_at(leaves + self._half, self._return)

    def _return(self) -> None:
        message = self._back.popleft()
        if not self._closing:
            self._protocol.data_received(message)


class _SlowStart:
    """When messages leave: a window's worth per round trip, and twice as much in the next."""

    def __init__(self, round_trip: float) -> None:
        self._round_trip = round_trip
        self._window = INITIAL_WINDOW
        self._round = 0.0
        self._sent = 0

    def leave(self, now: float, size: int) -> float:
        """When the last octet of a message of so many octets leaves; messages are asked for in order."""
        if now >= self._round + self._round_trip:
            self._grow(now)
        while self._round_trip and size > self._window - self._sent:
            size -= self._window - self._sent
            self._sent = self._window
            self._grow(self._round + self._round_trip)
        self._sent += size
        return max(now, self._round)

    def _grow(self, start: float) -> None:
        self._window = min(self._window + self._sent, WIDEST_WINDOW)
        self._sent = 0
        self._round = start
