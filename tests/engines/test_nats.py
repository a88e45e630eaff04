"""What a NATS watch owes: it is lost when the server is silent, and not when much is read or the machine is busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from nats.js.api import DeliverPolicy

from regional.engines.address import EngineAddress
from regional.engines.nats import consumer as natsconsumer
from regional.engines.nats import link as natslink
from regional.engines.nats import writer as natswriter
from regional.engines.nats.client import Connection
from regional.engines.nats.consumer import STEP, Heard, Message, consumed
from regional.engines.nats.link import NatsLink
from regional.engines.opening import engine_at
from registry.errors import Unavailable
from tests.acceptance.federated import until
from tests.engines.kinds import HOME, PARTED, D
from tests.engines.packets import fill, many, packet
from tests.engines.servers import NatsServers
from tests.engines.test_served import opened, refuses

N = 3_000
MUCH = 200_000  # bytes; less than N packets are


class Relay:
    """Stands before a server. beats: signs of life that it let through; asked: for how many consumers.

    creation_s: how much later a server says that it has made a consumer.
    held: set once a connection has brought MUCH; what that one brings is then kept back until `go`.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.choking = False
        self.beats = self.asked = 0
        self.creation_s = 0.0
        self.held = asyncio.Event()
        self.go = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server)
        up = asyncio.create_task(_carry(reader, to_server, self._up))
        down = asyncio.create_task(_carry(from_server, writer, self._watched()))
        self._tasks |= {up, down}
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        to_server.close()

    async def close(self) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _up(self, data: bytes) -> None:
        self.asked += data.count(b"CONSUMER.CREATE")

    def _watched(self) -> Callable[[bytes], Awaitable[None]]:
        brought = 0

        async def see(data: bytes) -> None:
            nonlocal brought
            if b"consumer_create_response" in data:
                await asyncio.sleep(self.creation_s)
            brought += len(data) * self.choking
            if brought > MUCH:
                self.held.set()
                await self.go.wait()
            self.beats += data.count(b"Idle Heartbeat")

        return see


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: Callable[[bytes], Awaitable[None]]
) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            await see(data)
            writer.write(data)
            await writer.drain()


@pytest_asyncio.fixture
async def relay(tmp_path: Path) -> AsyncIterator[tuple[Relay, str]]:
    servers = NatsServers(tmp_path, 1)
    servers.start()
    made = Relay(servers.processes[0].port)
    listening = await asyncio.start_server(made.talk, "127.0.0.1", 0)
    try:
        yield made, f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}/net"
    finally:
        listening.close()
        await made.close()
        servers.stop()


async def test_who_reads_everything_does_not_stand_before_the_signs_of_life(relay: tuple[Relay, str]) -> None:
    """A move reads all that is kept, as slowly as it likes; the front that it moves goes on hearing its server."""
    between, url = relay
    async with opened(front := engine_at(EngineAddress.parse(url, HOME.network), HOME, D)):
        await fill(front, many(N))
        between.choking = True
        found: set[bytes] = set()

        async def read() -> None:
            async with aclosing(front.watch()) as watch:
                async for told in watch:
                    found.update(each.node for each in told.changes)
                    if told.complete:
                        return

        reading = asyncio.create_task(read())
        await between.held.wait()
        before = between.beats

        async def heard() -> bool:
            return between.beats >= before + 2 or await refuses(front)

        await until(heard)
        assert not await refuses(front)
        between.go.set()
        await reading
        assert len(found) == N


async def test_a_consumer_that_takes_its_time_is_asked_for_once(
    relay: tuple[Relay, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server searches for the last message of each subject; a second consumer would tell everything again."""
    between, url = relay
    monkeypatch.setattr(natslink, "_REPLY_S", 0.3)
    async with opened(front := engine_at(EngineAddress.parse(url, HOME.network), HOME, D)):
        await fill(front, many(300))
        before, between.creation_s = between.asked, 1.0
        assert len(await front.bucket(0)) == 300
        assert between.asked == before + 1


async def test_a_packet_is_read_where_it_is(relay: tuple[Relay, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is searched for, as long as the watch tells; and what it does not tell is found all the same."""
    _, url = relay
    fronts = [engine_at(EngineAddress.parse(url, HOME.network), HOME, D, PARTED) for _ in range(2)]
    read, asked = NatsLink.read, []

    async def noted(self: NatsLink, subject: str) -> Message | None:
        asked.append(subject)
        return await read(self, subject)

    async with opened(*fronts):
        await fill(fronts[0], many(100))
        moved = [packet(number, 2) for number in range(50)]
        await fill(fronts[1], moved)
        monkeypatch.setattr(NatsLink, "read", noted)
        for each in [*moved, *many(100)[50:]]:
            assert await fronts[0].get(each.node) == each.to_cbor()
        assert await fronts[0].get(b"nobody") is None
        assert len(asked) == 100
        assert not any("*" in subject for subject in asked)
        monkeypatch.setattr(natswriter, "_SOON_S", 0.01)

        async def further(self: NatsLink) -> int:
            return 1 << 40

        monkeypatch.setattr(NatsLink, "last", further)
        assert await fronts[0].get(moved[0].node) == moved[0].to_cbor()
        assert "*" in asked[-1]


class Silent:
    """A client of a server that makes a consumer and then tells what `receive` is given."""

    is_closed = False

    async def subscribe(self, inbox: str, cb: Callable[[Any], Awaitable[None]]) -> Any:  # noqa: ARG002
        self.receive = cb

        async def unsubscribe() -> None:
            pass

        return SimpleNamespace(unsubscribe=unsubscribe)

    @staticmethod
    def new_inbox() -> str:
        return "inbox"


def _compute(seconds: float) -> None:
    """Keeps the loop from everything else, as a long computation does."""
    time.sleep(seconds)


def watched(*beside: Connection) -> tuple[Connection, Silent, AsyncGenerator[Heard, None]]:
    """A connection, the client behind it, and a watch over it that needs those beside it."""
    connection, client = Connection(), Silent()
    connection.client = client  # type: ignore[assignment]

    async def begin(_: object) -> Any:
        return SimpleNamespace(num_pending=0)

    return connection, client, consumed(connection, begin, "s", DeliverPolicy.ALL, beside=beside)


def message(number: int) -> Any:
    place = SimpleNamespace(sequence=SimpleNamespace(consumer=number, stream=number + 6), num_pending=0)
    return SimpleNamespace(headers=None, metadata=place, subject="s", data=b"x", reply="")


async def test_a_loop_that_was_busy_has_missed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came while something else kept the loop counts, however long that was; real silence is an end."""
    monkeypatch.setattr(natsconsumer, "SILENCE_S", 0.3)
    _, client, heard = watched()

    async def busy() -> None:
        _compute(0.4)
        for _ in range(10):  # from the socket to who waits, it takes some turns of the loop
            await asyncio.sleep(0)
        await client.receive(message(1))

    async with aclosing(heard) as watch:
        assert (await anext(watch)).pending == 0
        working = asyncio.create_task(busy())
        assert [each.revision for each in (await anext(watch)).messages] == [7]
        await working
        with pytest.raises(Unavailable, match=r"silent for 0\.3 s"):
            await anext(watch)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_connection_that_was_lost_and_is_back_is_lost(which: int) -> None:
    """The server may have begun to count anew; and what does not come back by itself is joined when a watch begins."""
    other = Connection()
    connection, _, heard = watched(other)
    lost = (connection, other)[which]
    async with aclosing(heard) as watch:
        assert (await anext(watch)).pending == 0
        await lost.left()
        await lost.joined()
        with pytest.raises(Unavailable, match="the connection is lost"):
            await anext(watch)


async def test_much_is_heard_in_steps() -> None:
    """Whoever else uses the loop gets a turn between them."""
    _, client, heard = watched()
    async with aclosing(heard) as watch:
        assert (await anext(watch)).pending == 0
        for number in range(1000):
            await client.receive(message(number + 1))
        sizes = [len((await anext(watch)).messages) for _ in range(4)]
        assert (max(sizes), sum(sizes)) == (STEP, 1000)
