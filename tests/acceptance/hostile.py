"""What answers in a network's place: no network at all, or one that lies. Each gets the request's body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import cbor2

Reply = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


@asynccontextmanager
async def answering(port: int, reply: Reply) -> AsyncIterator[None]:
    """At this port every POST is answered by `reply`; its connection is closed after it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(
                    int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
                )
                await reply(writer, await reader.readexactly(length))
                await writer.drain()
                writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http(body: bytes, status: str = "200 OK", kind: str = "application/cbor", **headers: str) -> Reply:
    """A well-formed HTTP response with this body."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"

    async def reply(writer: asyncio.StreamWriter, _: bytes) -> None:
        writer.write(head.encode() + body)

    return reply


def packets(*found: bytes, serial: object = 1, tied: object = None, truncated: object = False) -> bytes:
    """The body of a nearest reply."""
    return cbor2.dumps(
        {
            "serial": serial,
            "packets": list(found),
            "tied": {} if tied is None else tied,
            "truncated": truncated,
        }
    )


async def nothing(writer: asyncio.StreamWriter, _: bytes) -> None:
    """The connection is closed without a word."""


async def silence(writer: asyncio.StreamWriter, _: bytes) -> None:
    """The connection stays open without a word."""
    await asyncio.Event().wait()


async def trickle(writer: asyncio.StreamWriter, _: bytes) -> None:
    """A byte now and then, so that no pause between two is long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_body(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


async def endless_head(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


async def no_http(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")


async def reset_in_the_body(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 1000\r\n\r\n123")
    await writer.drain()
    writer.transport.abort()


async def short_of_its_length(writer: asyncio.StreamWriter, _: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 1000\r\n\r\n123")
