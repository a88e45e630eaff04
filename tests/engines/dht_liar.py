"""A node of a DHT that answers every question with what nobody has signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any

import libtorrent


class Liar(asyncio.DatagramProtocol):
    """Stands beside the item that `salt` names under the key `public`, so that whoever looks for it asks here too."""

    def __init__(self, public: bytes, salt: bytes, value: bytes) -> None:
        nearest = bytearray(sha1(public + salt).digest())  # noqa: S324  BEP 44
        nearest[-1] ^= 1
        self._id = bytes(nearest)
        self._public = public
        self._value = value
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = libtorrent.bdecode(data)
        if message.get(b"y") != b"q":
            return
        reply = {b"id": self._id, b"nodes": b"", b"token": b"t"}
        if message[b"q"] == b"get":
            self.asked += 1
            reply |= {b"v": self._value, b"k": self._public, b"seq": 10_000, b"sig": bytes(64)}
        self._transport.sendto(libtorrent.bencode({b"t": message[b"t"], b"y": b"r", b"r": reply}), addr)


@asynccontextmanager
async def lying(public: bytes, salt: bytes, value: bytes) -> AsyncIterator[tuple[Liar, tuple[str, int]]]:
    """One, and where it is."""
    transport, liar = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Liar(public, salt, value), ("127.0.0.1", 0)
    )
    try:
        yield liar, transport.get_extra_info("sockname")
    finally:
        transport.close()
