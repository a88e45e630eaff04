"""The name server: UDP and TCP around `registry.serving.responder`, on one address and port.

It serves loopback and private networks; the public face is a secondary (Knot, NSD).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from registry.dns.datagrams import datagrams
from registry.dns.wire import HEADER, MAX_UDP, SERVFAIL
from registry.errors import ConfigError
from registry.serving.limiter import Limiter
from registry.serving.primary import Primary, Transfer, is_special
from registry.serving.responder import failure, respond, usual, worked_out
from registry.zones.zone import ZoneSet

TRANSFER_S = 600.0  # that one transfer may take
IDLE_S = 30.0  # RFC 7766 section 6.2.3: in the order of a few seconds, longer where there is room
MAX_CONNECTIONS = 256
MAX_MESSAGE = 65_535  # octets, RFC 1035 section 4.2.2
_PORT_TRIES = 16
_WRITE_SIZE = 64 * 1024  # octets of answers handed to the transport at a time

_log = logging.getLogger(__name__)

Zones = Callable[[], ZoneSet]


class NameServer:
    """Answers from whatever `zones_provider` hands out at the time of each question.

    port 0 lets the system choose one; `port` says which, once started. idle_s: seconds after which a connection
    without a complete question, or whose reader takes nothing of a transfer, is closed. primary: answers what
    is_special; without one, that is refused as any server does that has no transfers. limiter: of what is said over
    UDP.
    """

    def __init__(
        self,
        zones_provider: Zones,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        idle_s: float = IDLE_S,
        limiter: Limiter | None = None,
        primary: Primary | None = None,
    ) -> None:
        self._primary = primary
        self._zones = zones_provider
        self._host = host
        self._wanted_port = port
        self._idle_s = idle_s
        self._limiter = limiter
        self._udp: socket.socket | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}  # the one whose last question is oldest comes first

    @property
    def port(self) -> int:
        """The port that is served, the same for UDP and TCP."""
        if self._udp is None:
            return self._wanted_port
        port: int = self._udp.getsockname()[1]
        return port

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._wanted_port, type=socket.SOCK_STREAM)
            tcp, udp = _bind(found[0][0], found[0][4])
        except OSError as error:
            raise ConfigError(
                f"the name server cannot listen on {self._host} port {self._wanted_port}: {error.strerror or error}; "
                "stop what holds it, or choose another address",
                host=self._host,
                port=self._wanted_port,
            ) from None
        self._udp = udp
        loop.add_reader(udp.fileno(), datagrams(udp, self._answer_datagram).serve)
        self._tcp = await loop.create_server(
            lambda: _Connection(self._zones, self._connections, self._idle_s, self._primary), sock=tcp
        )

    async def close(self) -> None:
        """Stop serving; open connections are closed."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp.fileno())
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            for connection in list(self._connections):
                connection.abort()
            await self._tcp.wait_closed()
            self._tcp = None

    def _answer_datagram(self, query: bytes, sender: bytes) -> bytes | None:
        answer = answer_to(self._zones, self._primary, query, over_tcp=False)
        if not isinstance(answer, bytes):
            return None
        return answer if self._limiter is None else self._limiter.limit(query, answer, sender)


def _bind(family: int, address: tuple[Any, ...]) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on the same port. Raises OSError."""
    for attempt in range(_PORT_TRIES):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(address)
            udp.bind((address[0], tcp.getsockname()[1], *address[2:]))
        except OSError:
            tcp.close()
            udp.close()
            # The port that the system chose for TCP may be taken for UDP.
            if address[1] != 0 or attempt == _PORT_TRIES - 1:
                raise
            continue
        tcp.setblocking(False)
        udp.setblocking(False)
        return tcp, udp
    raise OSError("no port is free for both UDP and TCP")


def answer_to(zones: Zones, primary: Primary | None, query: bytes, *, over_tcp: bool) -> bytes | Transfer | None:
    """What is owed, and SERVFAIL for whatever goes wrong with it. Names asked for are never logged."""
    most = MAX_MESSAGE if over_tcp else MAX_UDP
    try:
        current = zones()
        answer = usual(current, query, most, over_tcp)
        if answer is not None:
            return answer
        if primary is not None and is_special(query):
            return primary.answer(query, over_tcp, lambda message, size: respond(current, message, size, over_tcp))
        return worked_out(current, query, most, over_tcp)
    except Exception:
        _log.exception("a question of %d octets could not be answered", len(query))
        return failure(query, SERVFAIL) if len(query) >= HEADER else None


class _Connection(asyncio.Protocol):
    """One TCP connection: questions in any number, answered in order (RFC 7766 section 6.2.1).

    While a transfer is being sent, the connection's further questions wait.
    """

    def __init__(
        self, zones: Zones, connections: dict[_Connection, None], idle_s: float, primary: Primary | None = None
    ) -> None:
        self._primary = primary
        self._sending: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._zones = zones
        self._connections = connections
        self._idle_s = idle_s
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._received = bytearray()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        own = cast(asyncio.Transport, transport)  # streams have one; a faster loop has its own class
        if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
            own.abort()
            return
        self._transport = own
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the transport's signature
        self._connections.pop(self, None)
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def abort(self) -> None:
        """Close at once, without sending what is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _make_room(self) -> bool:
        """Close the connection that has asked nothing for longest, so that idle ones keep nobody out."""
        for each in self._connections:
            if each._sending is None:
                del self._connections[each]
                each.abort()
                return True
        return False

    def pause_writing(self) -> None:
        """The peer does not read: answer no more of its questions, and take no more of them."""
        self._paused = True
        self._writable.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._writable.set()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._serve()

    def _go_on(self) -> None:
        """Take questions again, where nothing stands against it."""
        if self._transport is not None and self._sending is None and not self._paused:
            self._transport.resume_reading()
            self._serve()

    def _serve(self) -> None:
        received = self._received
        position = 0
        answers = bytearray()
        transfer: Transfer | None = None
        while (
            len(received) - position >= 2 and self._sending is None and self._transport is not None and not self._paused
        ):
            start = position + 2
            end = start + int.from_bytes(received[position:start], "big")
            if end > len(received):
                break
            query = bytes(received[start:end])
            position = end
            answer = answer_to(self._zones, self._primary, query, over_tcp=True)
            if isinstance(answer, Transfer):
                transfer = answer
                break
            if answer is None:  # whoever sends no questions here is not asking
                self.abort()
                return
            answers += len(answer).to_bytes(2, "big") + answer
            if len(answers) > _WRITE_SIZE:
                self._transport.write(bytes(answers))
                answers.clear()
        if position:
            del received[:position]
            if answers and self._transport is not None:
                self._transport.write(bytes(answers))
            self._rest()
        if transfer is not None:
            self._start(transfer)

    def _start(self, transfer: Transfer) -> None:
        if self._transport is None:
            transfer.close()
            return
        if self._idle is not None:
            self._idle.cancel()
        self._transport.pause_reading()
        self._sending = asyncio.get_running_loop().create_task(self._send(transfer))
        self._sending.add_done_callback(lambda _: transfer.close())

    async def _send(self, transfer: Transfer) -> None:
        """A message at a time, at the reader's pace and between other work; a reader that stalls is cut off."""
        try:
            async with asyncio.timeout(TRANSFER_S):
                async for message in transfer.messages():
                    async with asyncio.timeout(self._idle_s):
                        await self._writable.wait()
                    if self._transport is None:
                        return
                    self._transport.write(len(message).to_bytes(2, "big") + message)
                    await asyncio.sleep(0)
        except TimeoutError:
            _log.warning("a transfer is given up: its reader does not take it")
            self.abort()
        except Exception:
            _log.exception("a transfer could not be sent whole")
            self.abort()
        self._sending = None
        if self._transport is not None:
            self._rest()
            self._go_on()

    def _rest(self) -> None:
        """Start the idle time anew: a complete question has been answered."""
        self._connections.pop(self, None)
        self._connections[self] = None
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self.abort)
