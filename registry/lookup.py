"""What a gateway asks of the registry's zones: over one pipelined TCP connection (RFC 7766).

Every answer comes with the serial of its zone: the SOA's as it was known on this connection before the question
was sent. Serials are publication times, so each value is at least as new as its serial says.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from registry.cell import Address, CellRecord, Naming
from registry.clock import Clock
from registry.errors import LookupFailed
from registry.message import Records, query, question, records, soa_numbers, txt_strings, uri
from registry.record import decode_cell
from registry.texts import ApexText, NetworkText
from registry.wire import SOA, SVCB, TXT, URI

SERIAL_AGE_S = 5.0  # a serial older than this is asked for anew before the next question
SILENT_S = 1.0  # a connection that has been asked and says nothing for so long is given up on a timeout
_TRIES = 2  # a server may close an idle connection just as a question is sent (RFC 7766 section 6.2.4)

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Looked(Generic[_Value]):
    """A value, how long it may be kept (seconds), and the serial its zone had, at least, when it was read."""

    value: _Value
    ttl_s: float
    serial: int


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """What DNS says of a network. endpoints: URIs, the preferred one first; empty where it has published none."""

    endpoints: tuple[str, ...]
    text: NetworkText


class Lookups:
    """Questions to one name server.

    Every failure is a LookupFailed whose `where` has the `rcode`: the server's own, or NODATA, TIMEOUT,
    UNREACHABLE, GARBAGE. After NXDOMAIN and NODATA, `ttl_s` says for how long that holds.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def apex(self, naming: Naming, timeout_s: float) -> Looked[ApexText]:
        """What the domain's apex says."""
        [answer], serial = await self._ask(naming, [question(naming.apex, TXT)], timeout_s)
        with _garbage():
            return Looked(ApexText.from_strings(_one_text(answer, naming.apex)), answer.ttl, serial)

    async def cell(
        self,
        naming: Naming,
        generation: int,
        address: Address,
        actions: Sequence[str],
        d: int,
        timeout_s: float,
    ) -> Looked[tuple[CellRecord, ...]]:
        """The records of a cell. A child that does not lie directly below `address` is refused."""
        [answer], serial = await self._ask(naming, [question(naming.cell(generation, address), SVCB)], timeout_s)
        with _garbage():
            cell = decode_cell(answer.rdatas, naming, generation, actions, d)
            for record in cell:
                if record.child is not None and record.child[:-1] != address:
                    raise LookupFailed(f"the cell {address} points to {record.child}, which is no child of it")
        return Looked(cell, answer.ttl, serial)

    async def network(self, naming: Naming, name: str, timeout_s: float) -> Looked[NetworkInfo]:
        """Endpoints and TXT of a network."""
        owner = naming.network(name)
        both = [question(owner, TXT), question(owner, URI)]
        [texts, uris], serial = await self._ask(naming, both, timeout_s, may_lack=both[1])
        with _garbage():
            text = NetworkText.from_strings(_one_text(texts, owner))
            ranked = sorted(map(uri, uris.rdatas), key=lambda each: (each[0], -each[1], each[2]))
        return Looked(NetworkInfo(tuple(each[2] for each in ranked), text), min(texts.ttl, uris.ttl), serial)

    async def close(self) -> None:
        """Close the connection; questions under way fail."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _ask(
        self, naming: Naming, asked: Sequence[bytes], timeout_s: float, may_lack: bytes | None = None
    ) -> tuple[list[Records], int]:
        """The answers to question sections of one zone, asked together, and the zone's serial before them."""
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_TRIES):
                    connection = await self._connected()
                    try:
                        serial = await connection.serial(naming.apex)
                        messages = await connection.ask(asked)
                    except ConnectionError:
                        continue
                    pairs = zip(messages, asked, strict=True)
                    return [_read(message, each, each == may_lack) for message, each in pairs], serial
        except TimeoutError:
            if self._connection is not None and self._connection.is_silent():
                self._connection.close()
            raise LookupFailed(
                f"the name server {self._host} port {self._port} did not answer within {timeout_s:.3f} s",
                rcode="TIMEOUT",
            ) from None
        raise self._unreachable("it closed the connection")

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._closed:
                raise self._unreachable("these lookups are closed")
            if self._connection is None or self._connection.closed:
                loop = asyncio.get_running_loop()
                try:
                    _, self._connection = await loop.create_connection(
                        lambda: _Connection(self._clock), self._host, self._port
                    )
                except OSError as error:
                    raise self._unreachable(error.strerror or str(error)) from None
            return self._connection

    def _unreachable(self, why: str) -> LookupFailed:
        return LookupFailed(f"the name server {self._host} port {self._port}: {why}", rcode="UNREACHABLE")


@contextmanager
def _garbage() -> Iterator[None]:
    """What does not decode was a usable message with unusable contents."""
    try:
        yield
    except LookupFailed as error:
        error.where.setdefault("rcode", "GARBAGE")
        raise
    except (ValueError, struct.error) as error:
        raise LookupFailed(f"the name server's answer does not decode: {error}", rcode="GARBAGE") from None


def _one_text(answer: Records, owner: str) -> tuple[bytes, ...]:
    if len(answer.rdatas) != 1:
        raise LookupFailed(f"{owner} has {len(answer.rdatas)} TXT records, one is right")
    return txt_strings(answer.rdatas[0])


def _read(message: bytes, asked: bytes, may_lack: bool) -> Records:
    try:
        return records(message, asked)
    except LookupFailed as error:
        if may_lack and error.where["rcode"] == "NODATA":
            return Records((), error.where["ttl_s"])
        raise


class _Connection(asyncio.Protocol):
    """One TCP connection: questions go out as they come, answers are matched by id.

    Ids run on from a random one, so that a late answer to a question given up on is never taken for a newer one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next = random.getrandbits(16)
        self._serials: dict[str, tuple[float, asyncio.Future[bytes]]] = {}
        self._unheard_since: float | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # streams have one; a faster loop has its own class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the transport's signature
        self.closed = True
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the name server closed the connection"))
                answer.exception()  # nobody may be left to ask for it
        self._pending.clear()

    def close(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def is_silent(self) -> bool:
        """Whether questions have gone out and nothing has come back for a while: a dead peer, most likely."""
        since = self._unheard_since
        return since is not None and self._clock.monotonic() - since >= SILENT_S

    def data_received(self, data: bytes) -> None:
        self._unheard_since = None
        received = self._received
        received += data
        position = 0
        while len(received) - position >= 2:
            start = position + 2
            end = start + int.from_bytes(received[position:start], "big")
            if end > len(received):
                break
            answer = self._pending.pop(int.from_bytes(received[start : min(start + 2, end)], "big"), None)
            if answer is not None and not answer.done():
                answer.set_result(bytes(received[start:end]))
            position = end
        del received[:position]

    async def serial(self, apex: str) -> int:
        """The serial of the zone at `apex`, asked for on this connection no longer than SERIAL_AGE_S ago."""
        asked = question(apex, SOA)
        now = self._clock.monotonic()
        sent, answer = self._serials.get(apex, (now, None))
        if answer is None or now - sent > SERIAL_AGE_S or answer.cancelled():
            answer = self._send(asked)
            self._serials[apex] = now, answer
        try:
            [soa] = records(await asyncio.shield(answer), asked).rdatas
            return soa_numbers(soa)[0]
        except LookupFailed:
            self._serials.pop(apex, None)
            raise
        except (ValueError, struct.error):
            self._serials.pop(apex, None)
            raise LookupFailed(f"the SOA of {apex} is not one record, or cut short", rcode="GARBAGE") from None

    async def ask(self, asked: Sequence[bytes]) -> list[bytes]:
        """The messages that answer these question sections, sent together. Raises ConnectionError."""
        answers = [self._send(each) for each in asked]
        try:
            return [await answer for answer in answers]
        finally:
            for answer in answers:
                answer.cancel()

    def _send(self, asked: bytes) -> asyncio.Future[bytes]:
        if self.closed or self._transport is None:
            raise ConnectionResetError("the connection is closed")
        ident = self._next
        while ident in self._pending and not self._pending[ident].done():
            ident = (ident + 1) & 0xFFFF
        self._next = (ident + 1) & 0xFFFF
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[ident] = answer
        if self._unheard_since is None:
            self._unheard_since = self._clock.monotonic()
        message = query(ident, asked)
        self._transport.write(len(message).to_bytes(2, "big") + message)
        return answer
