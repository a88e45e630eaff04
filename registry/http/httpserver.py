"""Serving an aiohttp application so that a peer that sends slowly, or nothing, does not stay for ever.

aiohttp bounds neither the time for a request's head nor that for its body. Here a connection on which no request
is being served must bring a whole head within `head_s` of its first byte, and may be silent for `idle_s`. The time
for a body is bounded where it is read.

Nothing of what a peer sends gets into a log: what is no HTTP is answered by a problem document, and leaves its kind.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast
from weakref import WeakValueDictionary

from aiohttp import web
from aiohttp.http import HttpProcessingError

from registry.http.problem import OUR_FAULT, Handler, log_unforeseen
from registry.http.reply import status_response

HEAD_S = 10.0
IDLE_S = 30.0  # longer than our clients keep a connection, so that they are the ones who close it
GRACE_S = 2.0

log = logging.getLogger(__name__)


class _Protocol(web.RequestHandler):
    """aiohttp's own, which would log what it cannot read, and send it back."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """The response to what is no HTTP, or to what went wrong outside every handler."""
        if isinstance(exc, HttpProcessingError):
            log.info("a request that is no HTTP: %s", type(exc).__name__)
            detail = "the request is no HTTP that can be read here"
        else:
            log_unforeseen(exc, "the server")
            detail = OUR_FAULT
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response is sent already")
        response = status_response(status, detail)
        response.force_close()
        return response

    def log_exception(self, *_args: object, exc_info: BaseException | None = None, **_more: object) -> None:
        """What failed while a response was sent."""
        log_unforeseen(exc_info, "the server")


class _Watched(asyncio.Protocol):
    """One connection: hands everything on to aiohttp's handler, and cuts it where the head takes too long."""

    def __init__(self, inner: asyncio.Protocol, head_s: float, idle_s: float) -> None:
        self._inner = inner
        self._head_s = head_s
        self._idle_s = idle_s
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._serving = False

    def begun(self) -> None:
        """A request's head is complete."""
        self._serving = True
        self._disarm()

    def ended(self, whole: bool) -> None:
        """Its response is made. whole: its body had come to the end."""
        self._serving = False
        self._arm(self._idle_s if whole else self._head_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # streams have one; a faster loop has its own class
        self._arm(self._head_s)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._serving:
            self._arm(self._head_s)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        self._inner.connection_lost(error)

    def _arm(self, seconds: float) -> None:
        """Cut the connection then, unless a request begins before; a time that is set is only brought forward."""
        loop = asyncio.get_running_loop()
        if self._transport is None or (self._timer is not None and self._timer.when() <= loop.time() + seconds):
            return
        self._disarm()
        self._timer = loop.call_later(seconds, self._transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpServer:
    """An application on one address. Port 0 takes a free one; `port` tells which.

    shared: other processes may listen on the same address, and the system spreads connections over them
    (SO_REUSEPORT).
    """

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        head_s: float = HEAD_S,
        idle_s: float = IDLE_S,
        shared: bool = False,
    ) -> None:
        self._app = app
        self._host = host
        self.port = port
        self._head_s = head_s
        self._idle_s = idle_s
        self._shared = shared
        self._connections: WeakValueDictionary[object, _Watched] = WeakValueDictionary()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        self._app.middlewares.insert(0, self._watch)
        runner = web.AppRunner(self._app, shutdown_timeout=GRACE_S)
        await runner.setup()
        make = runner.server
        if make is None:
            raise RuntimeError("the runner was set up, yet has no server")

        loop = asyncio.get_running_loop()
        no_log = cast(logging.Logger, None)  # None is right, whatever aiohttp's hint says

        def connection() -> asyncio.Protocol:
            # Nothing is unpacked: what is packed is refused, also while the rest of it is read and thrown away.
            inner = _Protocol(make, loop=loop, keepalive_timeout=self._idle_s, access_log=no_log, auto_decompress=False)
            watched = _Watched(inner, self._head_s, self._idle_s)
            self._connections[inner] = watched
            return watched

        self._runner = runner
        try:
            self._server = await loop.create_server(
                connection, self._host, self.port, backlog=512, reuse_port=self._shared or None
            )
        except OSError:
            await runner.cleanup()
            raise
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, let requests under way end, run the application's clean-up."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        watched = self._connections.get(request.protocol)
        if watched is None:
            return await handler(request)
        watched.begun()
        try:
            if any(coding.lower() != "identity" for coding in request.headers.getall("Content-Encoding", ())):
                return status_response(415, "the body is packed; send it without a Content-Encoding")
            return await handler(request)
        finally:
            watched.ended(request.content.is_eof())
