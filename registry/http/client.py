"""Talking to a registry over HTTP: what a network needs to stay covered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
import orjson

from registry.errors import (
    Conflict,
    DocumentError,
    InputError,
    KindredError,
    NotGranted,
    SignatureError,
    StorageFull,
    TooLarge,
    Unavailable,
    UnknownName,
)
from registry.jsontext import loads

MAX_REPLY_BYTES = 1024 * 1024
_PLACES = ("serial", "issued", "now", "space", "path", "name", "limit")  # of a problem, handed on
_BY_STATUS: Mapping[int, type[KindredError]] = {
    error.status: error
    for error in (InputError, SignatureError, NotGranted, UnknownName, Conflict, TooLarge, StorageFull)
}


@dataclass(frozen=True, slots=True)
class Published:
    """A coverage is in the zone. serial: the coverage's; published: the zone's."""

    serial: int
    published: int


@dataclass(frozen=True, slots=True)
class Leased:
    """A lease runs on, until so many seconds since the epoch."""

    serial: int
    until: float


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry knows of a network. serial: of the newest coverage it accepted, 0 for none;
    published: of the one that is in the zone."""

    serial: int
    published: int


class RegistryClient:
    """One registry at `base` (`http://host:port`). The session is the caller's, also to close."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base.rstrip("/")

    async def put_coverage(self, network: str, document: Mapping[str, Any], timeout_s: float = 40.0) -> Published:
        """Send a signed coverage; returns when it is published.

        Raises what the registry refused it with (Conflict: `where["serial"]` is what must be exceeded; NotGranted,
        SignatureError, UnknownName, InputError, StorageFull), or Unavailable, after which the same document may be
        sent again.
        """
        reply = await self._call("PUT", f"/v1/networks/{network}/coverage", document, timeout_s)
        return Published(_number(reply, "serial"), _number(reply, "published"))

    async def put_lease(self, network: str, document: Mapping[str, Any], timeout_s: float = 10.0) -> Leased:
        """Send a signed renewal. Raises as `put_coverage` does; after Conflict the coverage is to be sent."""
        reply = await self._call("PUT", f"/v1/networks/{network}/lease", document, timeout_s)
        until = reply.get("until")
        if not isinstance(until, int | float):
            raise Unavailable(f"registry {self._base}: its reply has no until")
        return Leased(_number(reply, "serial"), float(until))

    async def network(self, name: str, timeout_s: float = 10.0) -> Known:
        """What the registry knows of a network. Raises UnknownName, Unavailable."""
        reply = await self._call("GET", f"/v1/networks/{name}", None, timeout_s)
        return Known(_number(reply, "serial"), _number(reply, "published"))

    async def _call(
        self, method: str, path: str, document: Mapping[str, Any] | None, timeout_s: float
    ) -> Mapping[str, Any]:
        body = None if document is None else orjson.dumps(document)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.request(
                    method, self._base + path, data=body, headers=headers, allow_redirects=False
                ) as response:
                    status, data = response.status, await _read(response)
        except TimeoutError:
            raise Unavailable(f"registry {self._base}: no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"registry {self._base}: {type(error).__name__}: {error}") from None
        try:
            reply = loads(data)
        except DocumentError:
            reply = None
        if not isinstance(reply, dict):
            raise Unavailable(f"registry {self._base}: status {status} with a reply that is no JSON object")
        if status == 200:
            return reply
        raise_problem(status, reply)


def raise_problem(status: int, problem: Mapping[str, Any]) -> NoReturn:
    """Raise what a problem document tells of."""
    detail = str(problem.get("detail") or f"status {status}")
    where = {key: problem[key] for key in _PLACES if key in problem}
    raise _BY_STATUS.get(status, Unavailable)(detail, **where)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most MAX_REPLY_BYTES. Raises Unavailable beyond."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise Unavailable(f"registry: a reply of more than {MAX_REPLY_BYTES} octets")
    return bytes(body)


def _number(reply: Mapping[str, Any], key: str) -> int:
    value = reply.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unavailable(f"registry: its reply has no whole number {key}")
    return value
