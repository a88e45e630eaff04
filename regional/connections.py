"""HTTP/1.1 to networks: kept connections, one request at a time on each, parsed by httptools.

A gateway's question is many small requests at once, and the client library is most of what they cost; this does the
little that a network's client needs (docs/decisions/003). Nothing is followed, nothing is unpacked, nothing is read
beyond a cap.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

MAX_IDLE: Final = 64  # connections of one peer that are kept open while nobody needs them
MAX_IDLE_S: Final = 20.0  # a server keeps them for 30 s or more; one that is about to be closed is not used again
MAX_HEAD: Final = 16 * 1024
_URL = re.compile(r"https?://[!-~]+")


class BadReply(Exception):
    """The peer sent what is no HTTP response, or more than the limit, or nothing at all; `str` says which."""


class _Dropped(BadReply):
    """The connection ended before the first octet of a response."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response, whole. encoding: of its content, "identity" where it is as it is."""

    status: int
    content_type: str
    encoding: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    tls: bool
    authority: str
    path: str


@lru_cache(maxsize=65536)
def _place(url: str) -> _Place:
    """Raises ValueError for what is no http or https URL."""
    if not _URL.fullmatch(url):
        raise ValueError(f"{url!r:.100} is no http or https URL")
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url!r:.100} names no host")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Place(parts.hostname, parts.port or (443 if tls else 80), tls, parts.netloc.rpartition("@")[2], path)


class _Connection(asyncio.Protocol):
    """One connection; at most one request under way."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.free_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a further request may be sent on it."""
        fresh = self._loop.time() - self.free_since < MAX_IDLE_S
        return fresh and self._transport is not None and not self._transport.is_closing()

    def ask(self, message: bytes, limit: int) -> asyncio.Future[Response]:
        """Send one request; its response, whose body may have `limit` octets, or BadReply."""
        self._limit = limit
        self._room = limit
        self._head = MAX_HEAD
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._begun = False
        self._waiting = self._loop.create_future()
        if self._transport is None:
            self._fail(_Dropped("the connection is closed"))
        else:
            self._transport.write(message)
        return self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # streams have one; a faster loop has its own class

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.close()  # on_header or on_body has said why
        except httptools.HttpParserError as error:
            self._fail(BadReply(f"the reply is no HTTP: {error}"[:200]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        why = f"the connection broke: {exc}" if exc else "the connection was closed before the reply was whole"
        self._fail(BadReply(why[:200]) if self._waiting is not None and self._begun else _Dropped(why[:200]))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head -= len(name) + len(value)
        if self._head < 0:
            raise self._fail(BadReply(f"the reply's head is longer than {MAX_HEAD} octets"))
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._room -= len(body)
        if self._room < 0:
            raise self._fail(BadReply(f"the reply is longer than {self._limit} bytes"))
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._waiting is None or self._waiting.done():
            return
        self.free_since = self._loop.time()
        if not self._parser.should_keep_alive():
            self.close()
        content_type = self._headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        encoding = self._headers.get(b"content-encoding", b"identity").lower()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._waiting.set_result(Response(status, content_type.decode("latin-1"), encoding.decode("latin-1"), body))

    def _fail(self, error: BadReply) -> BadReply:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self.close()
        return error


class Connections:
    """Connections to any number of peers, kept for the next request. Use as a context; it closes them."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._coming: dict[tuple[str, int, bool], asyncio.Task[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close those that nobody uses just now."""
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None, limit: int
    ) -> Response:
        """One request. Raises BadReply, OSError (no connection), ValueError (no URL); cancel it to give up."""
        place = _place(url)
        head = f"{method} {place.path} HTTP/1.1\r\nHost: {place.authority}\r\n"
        head += "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        message = f"{head}Content-Length: {len(data or b'')}\r\n\r\n".encode() + (data or b"")
        key = (place.host, place.port, place.tls)
        kept = self._idle.setdefault(key, [])
        if not kept and key in self._coming:
            with suppress(OSError):
                await asyncio.shield(self._coming[key])
        while kept:
            connection = kept.pop()
            if connection.usable:
                try:
                    return await self._ask(connection, kept, message, limit)
                except _Dropped:
                    break  # the server let go of it just then (RFC 9112 section 9.3.1); a new one is asked once
            else:
                connection.close()
        return await self._ask(await self._connect(place), kept, message, limit)

    async def prepare(self, url: str) -> None:
        """Have a connection to the peer of `url` ready. Raises OSError, ValueError (no URL)."""
        place = _place(url)
        key = (place.host, place.port, place.tls)
        kept = self._idle.setdefault(key, [])
        if key in self._coming or any(connection.usable for connection in kept):
            return
        coming = asyncio.create_task(self._connect(place))
        self._coming[key] = coming
        try:
            connection = await coming
        finally:
            del self._coming[key]
        connection.free_since = asyncio.get_running_loop().time()
        kept.append(connection)

    async def _connect(self, place: _Place) -> _Connection:
        tls = self._tls_context() if place.tls else None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, place.host, place.port, ssl=tls)
        return connection

    async def _ask(self, connection: _Connection, kept: list[_Connection], message: bytes, limit: int) -> Response:
        try:
            response = await connection.ask(message, limit)
        except BaseException:
            connection.close()
            raise
        if len(kept) < MAX_IDLE:
            kept.append(connection)
        else:
            connection.close()
        return response

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
