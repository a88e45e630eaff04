"""etcd over the JSON form of its gRPC interface (its "gRPC gateway"): several servers, the next when one fails."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, NoReturn

import aiohttp
import orjson

from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S, SILENCE_S, end
from registry.errors import ConfigError, NotGranted, StorageFull, Unavailable

LEAST: Final = (3, 4)  # version of the servers
_REPLY_S: Final = 2.0
_PAUSE_S: Final = 0.1  # between attempts
_MAX_REPLY: Final = 64 << 20  # bytes
_UNAUTHENTICATED, _DENIED, _EXHAUSTED, _INVALID = 16, 7, 8, 3  # gRPC status codes

Document = dict[str, Any]


class Ambiguous(Exception):
    """An attempt ended without an answer: what it asked for may have been done."""


class Compacted(Exception):
    """The revision that was asked for is no longer kept."""


class EtcdLink:
    """One cluster of `address`."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        scheme = "http" if address.ca is None else "https"
        self._bases = [
            f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            for host, port in address.servers
        ]
        self._at = 0  # the server that is asked
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None

    async def open(self) -> None:
        """Connect. Raises Unavailable, NotGranted or ConfigError."""
        context = None if self._address.ca is None else ssl.create_default_context(cafile=str(self._address.ca))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context if context is not None else True)
        )
        try:
            await self._check()
            await self.call("kv/range", {"key": encoded(b"\0"), "limit": 1}, _REPLY_S)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, body: Mapping[str, Any], patience_s: float | None = None) -> Document:
        """The reply; of another server where one fails, until patience ends. For what may be done twice."""
        why = "no answer"
        try:
            async with asyncio.timeout(patience_s or self._patience_s):
                while True:
                    try:
                        return await self.once(method, body)
                    except Ambiguous as error:
                        why = str(error)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(f"{self._address.where} does not answer: {why}") from None

    async def once(self, method: str, body: Mapping[str, Any]) -> Document:
        """The reply of one server. Raises Ambiguous, StorageFull, NotGranted, Unavailable or Compacted."""
        at = self._at
        if self._address.user is not None and self._token is None and method != "auth/authenticate":
            await self._log_in()
        try:
            async with asyncio.timeout(_REPLY_S), self._post(at, method, body) as response:
                data = await response.content.read(_MAX_REPLY)
                while chunk := await response.content.read(_MAX_REPLY):
                    data += chunk
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._leave(at)
            raise Ambiguous(f"{self._bases[at]}: {type(error).__name__} {error}"[:200]) from None
        document = _document(data)
        if status == 200 and document is not None and "error" not in document:
            return document
        self._refuse(at, status, document or {})

    async def follow(self, body: Mapping[str, Any]) -> AsyncGenerator[Document, None]:
        """The results of a watch, as they come. Raises Unavailable where it ends, or the server hears no others."""
        at = self._at
        if self._address.user is not None:
            await self._log_in()
        alive = asyncio.create_task(self._stay(at))
        reading: asyncio.Task[bytes] | None = None
        try:
            async with self._post(at, "watch", body) as response:
                if response.status != 200:
                    self._refuse(at, response.status, _document(await response.content.read(1 << 16)) or {})
                rest = b""
                chunks = response.content.iter_any()
                while True:
                    reading = asyncio.create_task(_next(chunks))
                    await asyncio.wait({reading, alive}, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done():
                        await alive
                    chunk = reading.result()
                    if not chunk:
                        raise Unavailable(f"{self._bases[at]}: the watch has ended")
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        document = _document(line)
                        if document is None or "result" not in document:
                            raise Unavailable(f"{self._bases[at]}: the watch has failed")
                        yield document["result"]
        except (aiohttp.ClientError, OSError) as error:
            self._leave(at)
            raise Unavailable(f"{self._bases[at]}: {type(error).__name__}") from None
        finally:
            await end(alive)
            if reading is not None:
                await end(reading)

    async def _stay(self, at: int) -> None:
        """Ask the watched server every second for what only a majority knows. Raises Unavailable when it does not."""
        while True:
            await asyncio.sleep(SILENCE_S / 3)
            try:
                async with (
                    asyncio.timeout(SILENCE_S * 2 / 3),
                    self._post(at, "kv/range", {"key": encoded(b"\0"), "limit": 1}) as response,
                ):
                    await response.content.read(1 << 16)
                    good = response.status == 200
            except (aiohttp.ClientError, OSError, TimeoutError):
                good = False
            if not good:
                self._leave(at)
                raise Unavailable(f"{self._bases[at]} is silent")

    async def _check(self) -> None:
        """That what answers is an etcd that can do what is needed."""
        why = "no answer"
        for at, base in enumerate(self._bases):
            try:
                async with asyncio.timeout(_REPLY_S), self._opened().get(f"{base}/version") as response:
                    document = _document(await response.content.read(1 << 16)) or {}
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why = f"{type(error).__name__} {error}"[:200]
                continue
            version = str(document.get("etcdserver", ""))
            parts = tuple(int(each) for each in version.split(".")[:2] if each.isdecimal())
            if len(parts) < 2 or parts < LEAST:
                right = f"{LEAST[0]}.{LEAST[1]} or later is needed"
                raise ConfigError(f"{self._address.where}: {base} is etcd {version or 'of no version'}; {right}")
            self._at = at
            return
        raise Unavailable(f"{self._address.where} cannot be reached: {why}")

    async def _log_in(self) -> None:
        body = {"name": self._address.user, "password": self._address.password or ""}
        self._token = None
        self._token = str((await self.once("auth/authenticate", body)).get("token", ""))

    def _post(self, at: int, method: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        url = f"{self._bases[at]}/v3/{method}"
        timeout = aiohttp.ClientTimeout(total=None, connect=_REPLY_S)
        return self._opened().post(url, data=orjson.dumps(body), headers=headers, timeout=timeout)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable(f"{self._address.where} is not open")
        return self._session

    def _leave(self, at: int) -> None:
        """Ask the next server, unless another has been chosen already."""
        if self._at == at:
            self._at = (at + 1) % len(self._bases)

    def _refuse(self, at: int, status: int, document: Mapping[str, Any]) -> NoReturn:
        found = document.get("error", document)
        code, text = (found.get("code"), str(found.get("message"))) if isinstance(found, dict) else (None, str(found))
        code = document.get("code", code)
        if "compacted" in text:
            raise Compacted
        if code == _UNAUTHENTICATED or "invalid auth token" in text:
            self._token = None
            raise Ambiguous("the token has expired")
        if code == _DENIED or "authentication" in text or "user name is empty" in text or "permission denied" in text:
            raise NotGranted(f"{self._address.where}: wrong user or password, or no permission")
        if code == _EXHAUSTED or "space exceeded" in text:
            raise StorageFull(f"{self._address.where} is full: {text[:200]}")
        if code == _INVALID:
            raise Unavailable(f"{self._address.where} refuses: {text[:200]}")
        self._leave(at)
        raise Ambiguous(f"{self._bases[at]}: HTTP {status}: {text[:200]}")


def encoded(key: bytes) -> str:
    """Bytes as they stand in etcd's JSON."""
    return base64.b64encode(key).decode()


def end_of(prefix: bytes) -> bytes:
    """The end of the range of all keys with this prefix, which must not end in 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks, b"")


def _document(data: bytes) -> Document | None:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
