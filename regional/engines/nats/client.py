"""Connections to NATS servers: to which of them, by whose word, and what a refusal is called."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error

from regional.engines.address import EngineAddress
from registry.errors import KindredError, NotGranted, Unavailable

PING_S: Final = 2
_CONNECT_S: Final = 3.0


class Connection:
    """A client. parted: whether it has no server now; partings: how often it has lost one by now.

    listening: who is stirred when it loses one.
    """

    def __init__(self) -> None:
        self.client = Client()
        self.parted = False
        self.partings = 0
        self.listening: set[asyncio.Event] = set()

    async def close(self) -> None:
        """Let go."""
        self._part()
        with suppress(Error, OSError):
            await self.client.close()

    async def left(self) -> None:
        """The client has lost its server."""
        self._part()

    async def joined(self) -> None:
        """The client has a server again."""
        self.parted = False

    def _part(self) -> None:
        self.parted = True
        self.partings += 1
        for stirred in self.listening:
            stirred.set()


async def connected(address: EngineAddress, faithful: bool = False, ping_s: int = PING_S) -> Connection:
    """A connection to the servers of `address`; one that answers no ping for three times `ping_s` is lost.

    faithful: to no other servers, whatever they name; it then stays parted. Raises Unavailable or NotGranted.
    """
    servers = [f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}" for host, port in address.servers]
    refusal: KindredError | None = None
    for some in [[server] for server in servers] if faithful else [servers]:
        try:
            return await _connect(address, some, not faithful, ping_s)
        except Unavailable as error:
            refusal = error
    raise refusal or Unavailable(f"{address.where} names no server")


async def _connect(address: EngineAddress, servers: Sequence[str], reconnect: bool, ping_s: int) -> Connection:
    made = Connection()
    client = made.client
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    last = [""]

    async def note(error: Exception) -> None:
        last[0] = str(error)
        hopeless = isinstance(error, ssl.SSLError) or "authorization" in last[0].lower()
        if hopeless and not failed.done():
            failed.set_result(error)

    connecting = asyncio.create_task(
        client.connect(
            servers=list(servers),
            user=address.user,
            password=address.password,
            tls=None if address.ca is None else ssl.create_default_context(cafile=str(address.ca)),
            error_cb=note,
            disconnected_cb=made.left,
            reconnected_cb=made.joined,
            allow_reconnect=reconnect,
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=ping_s,
            max_outstanding_pings=2,
        )
    )
    either: set[asyncio.Future[Any]] = {connecting, failed}
    await asyncio.wait(either, timeout=_CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
    if connecting.done() and connecting.exception() is None:
        made.parted = False
        return made
    connecting.cancel()
    with suppress(BaseException):
        await connecting
    with suppress(Error, OSError):
        await client.close()  # of a refused connection it is left open
    if failed.done() and not isinstance(failed.result(), ssl.SSLError):
        raise NotGranted(f"{address.where}: wrong user or password")
    raise Unavailable(f"{address.where} cannot be reached: {last[0] or 'no answer'}")
