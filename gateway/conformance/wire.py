"""Questions as octets to one server, and what it answers, as octets: over UDP, and many at once over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from registry.errors import LookupFailed

TIMEOUT_S = 5.0
TRIES = 3  # over UDP, which may lose


class Wire(Protocol):
    async def udp(self, query: bytes) -> bytes:
        """Raises LookupFailed where no answer comes."""

    async def tcp(self, queries: Sequence[bytes]) -> list[bytes]:
        """The answers to questions with different ids sent at once on one connection. Raises LookupFailed."""


class SocketWire:
    """To a real server."""

    def __init__(self, host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s

    async def udp(self, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        for _ in range(TRIES):
            answered: asyncio.Future[bytes] = loop.create_future()
            try:
                async with asyncio.timeout(self._timeout_s / TRIES):
                    transport, _ = await loop.create_datagram_endpoint(
                        lambda answered=answered: _Datagram(query[:2], answered),  # type: ignore[misc]
                        remote_addr=(self._host, self._port),
                    )
                    try:
                        transport.sendto(query)
                        return await answered
                    finally:
                        transport.close()
            except (TimeoutError, OSError):
                continue
        raise self._failed("UDP")

    async def tcp(self, queries: Sequence[bytes]) -> list[bytes]:
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(b"".join(len(query).to_bytes(2, "big") + query for query in queries))
                    answers: dict[bytes, bytes] = {}
                    for _ in queries:
                        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                        answers[answer[:2]] = answer
                    return [answers[query[:2]] for query in queries]
                finally:
                    writer.close()
        except (TimeoutError, OSError, EOFError, KeyError):
            raise self._failed("TCP") from None

    def _failed(self, transport: str) -> LookupFailed:
        return LookupFailed(
            f"{self._host} port {self._port} gives no answer over {transport} within {self._timeout_s:g} s",
            rcode="TIMEOUT",
        )


class _Datagram(asyncio.DatagramProtocol):
    def __init__(self, ident: bytes, answered: asyncio.Future[bytes]) -> None:
        self._ident = ident
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        if data[:2] == self._ident and not self._answered.done():
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)
