"""A tap between a gateway and those it talks to: hands every octet on, and keeps what the gateway sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.message


class Tap:
    """sent: what was sent through it over TCP, by connection; datagrams: over UDP."""

    def __init__(self) -> None:
        self.sent: list[bytearray] = []
        self.datagrams: list[bytes] = []

    def clear(self) -> None:
        """Forget what was sent; connections that are open go on."""
        for each in self.sent:
            each.clear()
        self.datagrams.clear()

    @property
    def octets(self) -> bytes:
        return b"".join([*map(bytes, self.sent), *self.datagrams])

    def requests(self) -> set[str]:
        """Method and path of each HTTP request."""
        lines = b"\r\n".join(map(bytes, self.sent)).split(b"\r\n")
        return {line[: -len(b" HTTP/1.1")].decode() for line in lines if line.endswith(b" HTTP/1.1")}

    def names(self) -> set[str]:
        """What was asked for of a name server: name and type."""
        messages = list(self.datagrams)
        for each in self.sent:
            data = bytes(each)
            while len(data) >= 2:
                length = int.from_bytes(data[:2], "big")
                messages.append(data[2 : 2 + length])
                data = data[2 + length :]
        found = set()
        for message in messages:
            for question in dns.message.from_wire(message, ignore_trailing=True, continue_on_error=True).question:
                found.add(f"{question.name} {question.rdtype.name}")
        return found


@asynccontextmanager
async def tapped(port: int, target: int, udp: bool = False) -> AsyncIterator[Tap]:
    """Listens on 127.0.0.1:port, and hands on to 127.0.0.1:target."""
    tap = Tap()
    loop = asyncio.get_running_loop()
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
        try:
            while data := await reader.read(65536):
                if kept is not None:
                    kept += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = bytearray()
        tap.sent.append(kept)
        there, back = await asyncio.open_connection("127.0.0.1", target)
        writers.update({writer, back})
        await asyncio.gather(pump(reader, back, kept), pump(there, writer, None))

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            tap.datagrams.append(data)
            task = loop.create_task(self.ask(data, address))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def ask(self, data: bytes, address: tuple[str, int]) -> None:
            answered = loop.create_future()

            class Once(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
                    if not answered.done():
                        answered.set_result(data)

            transport, _ = await loop.create_datagram_endpoint(Once, remote_addr=("127.0.0.1", target))
            transport.sendto(data)
            self.transport.sendto(await answered, address)  # type: ignore[attr-defined]
            transport.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    datagrams = None
    if udp:
        datagrams, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", port))
    try:
        yield tap
    finally:
        server.close()
        if datagrams is not None:
            datagrams.close()
        for writer in writers:
            writer.close()
