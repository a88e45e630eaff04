"""Any recursive resolver as the carrier: asked over UDP, and over TCP what does not fit.

Whatever its cache holds may be of any age, so nothing is known of the serial: only a validated signature tells.
An answer is believed only from the address and port asked, to the port asked from, under the id and the question
asked (RFC 5452); id and port are random for each question.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

from registry.clock import Clock
from registry.dns.channel import Channel
from registry.dns.message import is_cut, records, recursive_query, type_of
from registry.dns.wire import HEADER, QR
from registry.errors import LookupFailed
from registry.resolving.source import Found

RETRY_S = (0.4, 0.8, 1.6)  # after so long without an answer a question is sent again, from another port
AT_ONCE = 128  # questions under way over UDP, each with a port of its own
UNKNOWN = 0  # the serial


class Recursive:
    """A resolver at host and port. dnssec: ask for signatures, and for what it would not itself believe."""

    def __init__(self, host: str, port: int, clock: Clock, *, dnssec: bool = False) -> None:
        self._form = partial(recursive_query, dnssec=dnssec)
        self._channel = Channel(host, port, clock, self._form)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._large: set[int] = set()  # types whose answers did not fit: they are asked for over TCP at once

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:  # noqa: ARG002 - it finds the zone
        """See `registry.resolving.source.Source`."""
        try:
            async with asyncio.timeout(timeout_s):
                found = records(await self._answer(asked), asked)
        except TimeoutError:
            raise LookupFailed(f"{self._channel} did not answer within {timeout_s:.3f} s", rcode="TIMEOUT") from None
        return Found(found.rdatas, found.ttl, UNKNOWN, found.signatures)

    def servers(self, zone: str) -> tuple[str, ...]:  # noqa: ARG002 - one for all
        """See `registry.resolving.source.Source`."""
        return (f"{self._channel.host}:{self._channel.port}",)

    async def close(self) -> None:
        """Close the connection; questions under way fail."""
        self._channel.close()

    async def _answer(self, asked: bytes) -> bytes:
        rtype = type_of(asked)
        if rtype not in self._large:
            message = await self._datagram(asked)
            if not is_cut(message):
                return message
            self._large.add(rtype)
        [message] = await self._channel.ask(asked)
        return message

    async def _datagram(self, asked: bytes) -> bytes:
        async with self._room:
            for patience_s in (*RETRY_S, None):
                try:
                    async with asyncio.timeout(patience_s):
                        return await self._exchange(asked)
                except TimeoutError:
                    continue
        raise AssertionError("unreachable")

    async def _exchange(self, asked: bytes) -> bytes:
        ident = secrets.randbelow(2**16)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagram(ident, asked, answer), remote_addr=(self._channel.host, self._channel.port)
            )
        except OSError as error:
            raise self._channel.unreachable(error.strerror or str(error)) from None
        try:
            transport.sendto(self._form(ident, asked))
            return await answer
        except OSError as error:
            raise self._channel.unreachable(error.strerror or str(error)) from None
        finally:
            transport.close()


class _Datagram(asyncio.DatagramProtocol):
    """One question's socket, connected, so that the system drops what comes from elsewhere."""

    def __init__(self, ident: int, asked: bytes, answer: asyncio.Future[bytes]) -> None:
        self._head = ident.to_bytes(2, "big")
        self._asked = asked
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        """Take the answer; pass over whatever else comes, for the true one may still be on its way."""
        echoed = data[HEADER : HEADER + len(self._asked)].lower()
        is_ours = data[:2] == self._head and echoed == self._asked and data[2] & (QR >> 8)
        if is_ours and not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)
            self._answer.exception()
