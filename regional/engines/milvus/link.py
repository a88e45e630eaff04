"""Milvus over pymilvus' async client: what may fail for a while is tried again, what fails for good has a name."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc
from pymilvus import AsyncMilvusClient, MilvusException

from regional.engines.address import EngineAddress
from regional.engines.backing import PATIENCE_S
from registry.errors import ConfigError, NotGranted, StorageFull, Unavailable

LEAST: Final = (2, 3)  # version of the server
WINDOW: Final = 16_384  # rows that one search or query returns at most, by Milvus
REPLY_S: Final = 3.0
_CONNECT_S: Final = 3.0
_PAUSE_S: Final = 0.1  # between attempts
_PAGE: Final = 8_000  # rows; of packets of the size limit about 11 MB
_READS: Final = 3  # of what changes while it is read
_NO_COLLECTION: Final = 100  # error code
_DENIED: Final = ("unauthenticated", "permission", "auth check failure", "privilege")
_FULL: Final = ("quota", "no space left", "disk is full")
_OPTIONS: Final = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 500}

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it tells the stack of every error that it raises

Row = dict[str, Any]


class Gone(Exception):
    """There is no collection of this name (any more): nothing was done."""


class Ambiguous(Exception):
    """An attempt ended without an answer: what it asked for may have been done, or may yet be."""


class MilvusLink:
    """The server of `address`, in the database that its option `db` names."""

    def __init__(self, address: EngineAddress, patience_s: float = PATIENCE_S) -> None:
        address.only("db")
        if len(address.servers) != 1:
            raise ConfigError(f"{address.where}: name one server; Milvus' own proxies share the work behind it")
        self._address = address
        self._patience_s = patience_s
        self._client: AsyncMilvusClient | None = None

    @property
    def where(self) -> str:
        """For messages."""
        return self._address.where

    async def open(self) -> None:
        """Connect. Raises Unavailable, NotGranted or ConfigError."""
        address = self._address
        host, port = address.servers[0]
        options: dict[str, Any] = {"grpc_options": _OPTIONS, "dedicated": True}
        if address.user is not None:
            options["token"] = f"{address.user}:{address.password or ''}"
        if address.ca is not None:
            options |= {"secure": True, "server_pem_path": str(address.ca)}
        scheme = "http" if address.ca is None else "https"
        host = f"[{host}]" if ":" in host else host
        uri = f"{scheme}://{host}:{port}"
        self._client = AsyncMilvusClient(uri, db_name=address.options.get("db", ""), timeout=_CONNECT_S, **options)
        try:
            version = await self._first()
            found = re.match(r"v?(\d+)\.(\d+)", version)
            if found is None or (int(found[1]), int(found[2])) < LEAST:
                raise ConfigError(f"{self.where} is Milvus {version}; {LEAST[0]}.{LEAST[1]} or later is needed")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(MilvusException, grpc.RpcError, OSError):
                await client.close()

    async def call(self, method: str, *args: object, patience_s: float | None = None, **options: Any) -> Any:
        """What the client's method returns, again until patience ends; for what may be done twice. Raises Gone."""
        why = "no answer"
        try:
            async with asyncio.timeout(patience_s or self._patience_s):
                while True:
                    try:
                        return await self.once(method, *args, **options)
                    except Ambiguous as error:
                        why = str(error)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(f"{self.where} does not answer: {why}") from None

    async def once(self, method: str, *args: object, timeout: float = REPLY_S, **options: Any) -> Any:  # noqa: ASYNC109
        """One attempt. Raises Ambiguous, Gone, StorageFull, NotGranted or Unavailable."""
        client = self._opened()
        try:
            async with asyncio.timeout(timeout + 1.0):  # its own timeout does not end every wait
                return await getattr(client, method)(*args, timeout=timeout, **options)
        except (MilvusException, grpc.RpcError, OSError, TimeoutError) as error:
            raise Ambiguous(self._bearable(error)) from None

    async def now(self) -> int:
        """A time of the server's: who reads as of then sees all that was acknowledged before."""
        client = self._opened()
        why = "no answer"
        try:
            async with asyncio.timeout(REPLY_S):
                while True:
                    try:
                        connection = await client._get_connection()
                        return int(await connection.alloc_timestamp(timeout=REPLY_S))
                    except (MilvusException, grpc.RpcError, OSError) as error:
                        why = self._bearable(error)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise Unavailable(f"{self.where} does not answer: {why}") from None

    async def query(self, collection: str, at: int, wanted: str, fields: Sequence[str], limit: int) -> list[Row]:
        """Rows for which `wanted` holds, those with the first keys, as of `at` or later."""
        return list(
            await self.call(
                "query",
                collection,
                filter=wanted,
                output_fields=list(fields),
                limit=limit,
                consistency_level="Customized",
                guarantee_timestamp=at,
            )
        )

    async def count(self, collection: str, at: int, wanted: str) -> int:
        """For how many rows `wanted` holds."""
        found = await self.call(
            "query",
            collection,
            filter=wanted,
            output_fields=["count(*)"],
            consistency_level="Customized",
            guarantee_timestamp=at,
        )
        return int(found[0]["count(*)"])

    async def pages(self, collection: str, wanted: str, fields: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        """All rows for which `wanted` holds, by key. Raises Unavailable rather than tell a part.

        A key that is there all the while is told; of what comes, changes or goes meanwhile, what is seen.
        """
        at = await self.now()
        columns = ["node", *fields]
        before, page = await asyncio.gather(
            self.count(collection, at, wanted), self.query(collection, at, wanted, columns, _PAGE)
        )
        told = 0
        while page:
            told += len(page)
            yield page
            if len(page) < _PAGE:
                break
            last = max(row["node"] for row in page)
            page = await self.query(collection, at, f'{wanted} and node > "{last}"', columns, _PAGE)
        for _ in range(_READS):
            if told >= before:
                return
            before = min(before, await self.count(collection, await self.now(), wanted))
        raise Unavailable(f"{self.where}: {told} of {before} rows came")

    async def _first(self) -> str:
        """The server's version, as soon as it is there."""
        client = self._opened()
        try:
            async with asyncio.timeout(_CONNECT_S):
                return str(await client.get_server_version(timeout=_CONNECT_S))
        except (MilvusException, grpc.RpcError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self.where} cannot be reached: {self._bearable(error)}") from None

    def _opened(self) -> AsyncMilvusClient:
        if self._client is None:
            raise Unavailable(f"{self.where} is not open")
        return self._client

    def _bearable(self, error: Exception) -> str:
        """Why another attempt may help; raises what no attempt helps against."""
        text = _text(error)
        low = text.lower()
        if any(word in low for word in _DENIED):
            raise NotGranted(f"{self.where}: wrong user or password, or no permission") from None
        if any(word in low for word in _FULL):
            raise StorageFull(f"{self.where} is full: {text[:200]}") from None
        if isinstance(error, MilvusException) and error.code == _NO_COLLECTION:
            raise Gone(text[:200]) from None
        return text[:200]


def _text(error: BaseException) -> str:
    """What it says, and what was behind it: the client calls every error of connecting an unreachable server."""
    if isinstance(error, grpc.RpcError):
        text = f"{error.code().name}: {error.details()}"
    else:
        text = str(getattr(error, "message", "")) or type(error).__name__
    behind = error.__cause__
    return f"{_text(behind)}; {text}" if isinstance(behind, grpc.RpcError) else text
