"""One name server, asked over one TCP connection that carries many questions at once (RFC 7766)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import cast

from registry.clock import Clock
from registry.dns.message import Query, query
from registry.errors import LookupFailed

SERIAL_AGE_S = 5.0  # what says how new a zone is, and is older than this, is asked for anew before the next question
AHEAD_S = 1.0  # what was asked for ahead, and is wanted no later, is as good as asked for anew; once
SILENT_S = 1.0  # a connection that has been asked and says nothing for so long is given up on a timeout
CONNECT_S = 0.25  # a server that is given up before a connection stood, after so long, has failed
FAILURES = 3  # so many in a row, and the server is tried no more often than every REST_S, whatever is asked
REST_S = 0.05  # short, so that a registry is found again as soon as it is back; a question's own failure is kept longer
_TRIES = 2  # a server may close an idle connection just as a question is sent (RFC 7766 section 6.2.4)


class Channel:
    """A connection that is made when it is needed, and anew when it is lost. form: how questions are put."""

    def __init__(self, host: str, port: int, clock: Clock, form: Query = query) -> None:
        self.host = host
        self.port = port
        self._clock = clock
        self._form = form
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._failures = 0
        self._not_before = 0.0

    @property
    def rests(self) -> bool:
        """Whether the server failed just now, and not for the first time."""
        return self._not_before > self._clock.monotonic()

    async def ask(
        self, *asked: bytes, dated: Sequence[bytes] = (), anew: bytes | None = None, ahead: bytes | None = None
    ) -> list[bytes]:
        """The answers to question sections: first to those of `dated`, then, asked for once these are here, the others.

        Those of `dated` but for `anew` may be up to SERIAL_AGE_S old, but are always this connection's. ahead: asked
        for as well, and not waited for: who next asks for it `anew` finds it under way. Raises LookupFailed
        (UNREACHABLE). Cancelled, as by a timeout, it gives up a connection that has long been silent.
        """
        if self.rests:
            raise self.unreachable(f"it failed {self._failures} times, the last one just now")
        began = self._clock.monotonic()
        try:
            for _ in range(_TRIES):
                connection = await self._connected()
                try:
                    before = [connection.dated(each, each == anew) for each in dated]
                    if ahead is not None:
                        connection.ahead(ahead)
                    answers = [await asyncio.shield(each) for each in before]
                    answers += [await connection.answer(each) for each in asked]
                except ConnectionError:
                    continue
                self._failures = 0
                return answers
        except asyncio.CancelledError:
            self._given_up(self._clock.monotonic() - began)
            raise
        self._failed()
        raise self.unreachable("it closed the connection")

    def close(self) -> None:
        """Close the connection for good; questions under way fail."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def unreachable(self, why: str) -> LookupFailed:
        """The error of this server."""
        return LookupFailed(f"{self}: {why}", rcode="UNREACHABLE")

    def __str__(self) -> str:
        return f"the name server {self.host} port {self.port}"

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._closed:
                raise self.unreachable("it is asked no more, these lookups are closed")
            if self._connection is None or self._connection.closed:
                loop = asyncio.get_running_loop()
                try:
                    _, self._connection = await loop.create_connection(
                        lambda: _Connection(self._clock, self._form), self.host, self.port
                    )
                except OSError as error:
                    self._failed()
                    raise self.unreachable(error.strerror or str(error)) from None
            return self._connection

    def _given_up(self, after_s: float) -> None:
        """An asker would not wait any longer: is it the server that is at fault?"""
        if self._connection is None or self._connection.closed:
            if after_s >= CONNECT_S:
                self._failed()
        elif self._connection.is_silent():
            self._connection.close()
            self._failed()

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._not_before = self._clock.monotonic() + REST_S


class _Connection(asyncio.Protocol):
    """One TCP connection: questions go out as they come, answers are matched by id.

    Ids run on from a random one, so that a late answer to a question given up on is never taken for a newer one.
    """

    def __init__(self, clock: Clock, form: Query) -> None:
        self._clock = clock
        self._form = form
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next = random.getrandbits(16)
        self._dated: dict[bytes, tuple[float, asyncio.Future[bytes]]] = {}
        self._ahead: dict[bytes, float] = {}  # when those of them were asked for that nobody has used
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

    async def answer(self, asked: bytes) -> bytes:
        """The message that answers this question section. Raises ConnectionError."""
        answer = self._send(asked)
        try:
            return await answer
        finally:
            answer.cancel()

    def dated(self, asked: bytes, anew: bool) -> asyncio.Future[bytes]:
        """The same, asked for now, or no longer than SERIAL_AGE_S ago; others may wait for it too."""
        now = self._clock.monotonic()
        sent, answer = self._dated.get(asked, (now, None))
        if anew:
            anew = now - self._ahead.pop(asked, float("-inf")) > AHEAD_S
        if anew or answer is None or now - sent > SERIAL_AGE_S or answer.cancelled():
            answer = self._send(asked)
            self._dated[asked] = now, answer
        return answer

    def ahead(self, asked: bytes) -> None:
        """Ask for what will be wanted `dated`, and anew."""
        self.dated(asked, anew=False)
        self._ahead[asked] = self._dated[asked][0]

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
        message = self._form(ident, asked)
        self._transport.write(len(message).to_bytes(2, "big") + message)
        return answer
