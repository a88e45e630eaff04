"""Networks that are read where their packets are kept: the same answers, no right to write, no more than has room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regional.client import Failed, NearestReply, NearestRequest, NetworkFailure, Refused, TimedOut
from regional.engine import NearestQuery
from regional.engines.address import EngineAddress
from regional.engines.front import Front
from regional.engines.reading import Bounds, ServerReader
from regional.packets.packet import Packet
from registry.clock import ManualClock, SystemClock
from tests.acceptance.federated import until
from tests.engines.kinds import HOME, Mqtt, Nats, RedisKind, Served
from tests.engines.packets import brute_force, fill, many, packet, pair, questions, tombstone
from tests.engines.servers import MqttBroker, NatsServers, RedisServer, Servers
from tests.engines.test_suite import PARTED, origin
from tests.ports import free_port

SPACE = HOME.space8 + bytes(24)
READ: list[type[Served]] = [Nats, RedisKind, Mqtt]


@pytest.fixture(params=READ, ids=lambda each: each.name)
def read(
    request: pytest.FixtureRequest, running: dict[type, Served], tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """Each server that can be read without a network before it."""
    if request.param not in running:
        running[request.param] = request.param(tmp_path_factory.mktemp(request.param.name))
        running[request.param].start()
    return running[request.param]


def plain(address: EngineAddress) -> EngineAddress:
    return address


@asynccontextmanager
async def reader(
    bounds: Bounds | None = None, account: Callable[[EngineAddress], EngineAddress] = plain
) -> AsyncIterator[ServerReader]:
    made = ServerReader(bounds or Bounds(), account, SystemClock())
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def opened(front: Front, packets: int = 0) -> AsyncIterator[Front]:
    """A front as its network has it: with the note of its space."""
    await front.open()
    try:
        await front.keep_note("space", SPACE)
        await fill(front, many(packets))
        yield front
    finally:
        await front.close()


def request(query: NearestQuery, **other: object) -> NearestRequest:
    made = NearestRequest(
        HOME.domain, HOME.network, SPACE, query.fingerprint, query.k, query.per, query.actions, query.within
    )
    return replace(made, **other)  # type: ignore[arg-type]


async def ask(made: ServerReader, url: str, query: NearestQuery | None = None, timeout_s: float = 20.0) -> NearestReply:
    return await made.nearest(url, request(query or origin()), timeout_s)


def packets_of(reply: NearestReply) -> list[bytes]:
    return [each.to_cbor() for each in reply.packets]


async def answers(made: ServerReader, url: str, packets: list[Packet]) -> None:
    """It answers as brute force does over these."""
    for query in questions(4, 20):
        assert packets_of(await ask(made, url, query)) == brute_force(packets, query)[0]


async def fails(made: ServerReader, url: str, how: type[NetworkFailure] = Failed) -> bool:
    try:
        await ask(made, url, timeout_s=1.0)
    except how:
        return True
    except NetworkFailure:
        return False
    return False


async def test_it_answers_as_the_network_would(read: Served, name: str) -> None:
    """What is acknowledged is in every answer to what is asked after that; nothing is waited for."""
    url = read.servers.url(name)
    async with opened(read.front(name, PARTED), 900) as front, reader() as made:
        await made.prepare(url, request(origin()), 1.0)
        current = {each.node: each for each in many(900)}
        await answers(made, url, list(current.values()))
        for number in range(25):
            seq = 2 + number
            moved = packet(number % 3, seq, fingerprint=PARTED.centres[number % len(PARTED)])
            new = packet(10_000 + number)
            gone = tombstone(100 + number, 2)
            assert await front.put([pair(moved), pair(new), pair(gone)]) == ["accepted"] * 3
            current |= {each.node: each for each in (moved, new)}
            del current[gone.node]
            query = NearestQuery(moved.fingerprint, 50, "all")
            assert packets_of(await ask(made, url, query)) == brute_force(list(current.values()), query)[0]
        await answers(made, url, list(current.values()))
        reply = await ask(made, url, replace(origin(3), actions=("a",)))
        assert (reply.serial, reply.truncated, set(reply.tied)) == (0, False, {"a"})


# What a guide says that an account needs to read STORE.
NATS_RIGHTS = (
    "$JS.API.STREAM.INFO.KV_STORE", "$JS.API.STREAM.MSG.GET.KV_STORE", "$JS.API.CONSUMER.CREATE.KV_STORE",
    "$JS.API.CONSUMER.CREATE.KV_STORE.>", "$JS.FC.KV_STORE.>",
)  # fmt: skip
REDIS_RIGHTS = (
    "~kindred:{STORE}:* resetchannels &kindred:{STORE}:* +@read +@connection +info +evalsha +script|load +subscribe "
    "+unsubscribe",
)
MQTT_RIGHTS = ("topic read kindred/STORE/#", "topic readwrite kindred-marker/#")


def _nats(home: Path, store: str) -> Servers:
    """The reader may ask what there is and have it sent, and publish nothing else."""
    allowed = json.dumps([each.replace("STORE", store) for each in NATS_RIGHTS])
    rights = f'publish: {allowed}, subscribe: ["_INBOX.>"]'
    users = f"{{user: kindred, password: right}}, {{user: reader, password: eyes, permissions: {{{rights}}}}}"
    return NatsServers(home, 1, f"authorization {{ users: [{users}] }}")


def _redis(home: Path, store: str) -> Servers:
    rights = REDIS_RIGHTS[0].replace("STORE", store)
    users = f"user kindred on >right ~* &* +@all\nuser reader on >eyes {rights}\nuser default off\n"
    return RedisServer(home, users)


def _mqtt(home: Path, store: str) -> Servers:
    made = MqttBroker(home, {"kindred": "right", "reader": "eyes"})
    rights = home / "rights"
    lines = [
        "user kindred",
        "topic readwrite #",
        "user reader",
        *(each.replace("STORE", store) for each in MQTT_RIGHTS),
    ]
    rights.write_text("".join(f"{line}\n" for line in lines))
    rights.chmod(0o600)
    with (home / "mosquitto.conf").open("a") as file:
        file.write(f"acl_file {rights}\n")
    return made


@pytest.fixture(params=[(Nats, _nats), (RedisKind, _redis), (Mqtt, _mqtt)], ids=lambda each: each[0].name)
def guarded(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> Iterator[Served]:
    """A server where `kindred` may do all, and `reader` may only read the store `name`."""
    which, servers = request.param
    made = which(tmp_path)
    made.servers = servers(tmp_path, name)
    made.start()
    yield made
    made.stop()


async def test_a_right_to_read_is_all_that_it_needs(guarded: Served, name: str) -> None:
    def account(address: EngineAddress) -> EngineAddress:
        return replace(address, user="reader", password="eyes")  # noqa: S106

    url = guarded.servers.url(name)
    writer = guarded.front(name, PARTED, user="kindred", password="right")  # noqa: S106
    async with opened(writer, 300) as front, reader(account=account) as made:
        await answers(made, url, many(300))
        assert await front.put([pair(packet(0, 2))]) == ["accepted"]
        await answers(made, url, [packet(0, 2), *many(300)[1:]])
        strange = reader(account=lambda address: replace(address, user="reader", password="guess"))  # noqa: S106
        async with strange as stranger:
            with pytest.raises(Refused, match="wrong user or password"):
                await ask(stranger, url)
        # and it is true that this account cannot write
        thief = guarded.front(name, user="reader", password="eyes", patience_s=1.0)  # noqa: S106
        with suppress(Exception):  # each server refuses it in its way, or says nothing
            await thief.open()
            await thief.put([pair(packet(7, 9))])
        await thief.close()
        await answers(made, url, [packet(0, 2), *many(300)[1:]])


@pytest.mark.parametrize("which", READ, ids=lambda each: each.name)
async def test_servers_that_die_and_hang(which: type[Served], tmp_path: Path, name: str) -> None:
    """It fails, in time, as long as they are away, and recovers by itself."""
    own = which(tmp_path)
    own.start()
    url = own.servers.url(name)
    try:
        async with reader() as made, opened(own.front(name, PARTED), 400) as front:
            await answers(made, url, many(400))
            own.servers.kill()
            await until(lambda: fails(made, url))
            own.servers.start()

            async def current(packets: list[Packet]) -> bool:
                try:
                    await answers(made, url, packets)
                except NetworkFailure:
                    return False
                return True

            await until(lambda: current(many(400)))
            for each in own.servers.processes:
                each.suspend()
            with pytest.raises((TimedOut, Failed)):
                await ask(made, url, timeout_s=0.3)
            await until(lambda: fails(made, url))
            for each in own.servers.processes:
                each.resume()

            async def stored() -> bool:
                return await front.put([pair(packet(0, 2))]) in (["accepted"], ["stale"])

            await until(stored)
            await until(lambda: current([packet(0, 2), *many(400)[1:]]))
    finally:
        own.stop()


async def test_what_is_no_packet_of_the_network_is_left_out_and_counted(read: Served, name: str) -> None:
    url = read.servers.url(name)
    async with opened(read.front(name), 50), reader() as made:
        stranger = Packet("tests", b"12345678", "other", b"n" + bytes(4), 9, 1.0, 2.0, many(1)[0].fingerprint, "a")
        for key, value in (
            ("1/0000/stranger", stranger.to_cbor()),
            ("1/0000/other-d", packet(1, 9, fingerprint=np.zeros(3, dtype=np.float32)).to_cbor()),
            ("1/0000/nonsense", b"\xff" * 2000),
            ("1/0000/not-its-node", packet(1, 9).to_cbor()),
        ):
            await read.meddle(name, key, value)
        await answers(made, url, many(50))
        assert [each.foreign for each in made.mirrored] == [4]
        await read.meddle(name, "1/0000/later", b"hello")
        await answers(made, url, many(50))
        assert [each.foreign for each in made.mirrored] == [5]


@pytest.mark.parametrize("read", [Nats, Mqtt], ids=lambda each: each.name, indirect=True)  # in Redis it has one place
async def test_of_a_node_seen_twice_the_higher_seq_counts(read: Served, name: str) -> None:
    """An older packet is left in another bucket, before and after the newer was stored."""
    url = read.servers.url(name)
    newer, older = packet(1, 7, node=b"x"), packet(1, 3, node=b"x")
    async with opened(read.front(name, PARTED)) as front, reader() as made:
        assert await front.put([pair(newer)]) == ["accepted"]
        bucket = PARTED.bucket(newer.fingerprint)
        await read.meddle(name, f"3/{(bucket + 1) % 4:04d}/x", older.to_cbor())
        assert packets_of(await ask(made, url)) == [newer.to_cbor()]
        await read.meddle(name, f"3/{(bucket + 2) % 4:04d}/x", packet(1, 4, node=b"x").to_cbor())
        assert packets_of(await ask(made, url)) == [newer.to_cbor()]


async def test_stores_of_others_and_of_nobody(read: Served, name: str) -> None:
    url = read.servers.url(name)
    async with reader() as made:
        with pytest.raises(Failed, match=name):
            await ask(made, url)
        front = read.front(name)
        await front.open()
        assert await fails(made, url)  # it has not said of which space it is
        await front.keep_note("space", SPACE)
        await fill(front, many(20))

        async def there() -> bool:
            return not await fails(made, url)

        await until(there)
        await answers(made, url, many(20))
        with pytest.raises(Refused, match=f"{name} keeps the packets of 'net'"):
            await made.nearest(url, request(origin(), network="other"), 20.0)
        with pytest.raises(Refused, match="keeps packets of space 3132"):
            await made.nearest(url, request(origin(), space=SPACE[:-1] + b"x"), 20.0)
        await front.close()
        await answers(made, url, many(20))  # nobody else has to live


async def test_what_cannot_be_read_is_named() -> None:
    async with reader() as made:
        for url, says in (
            ("etcd://127.0.0.1/x", "etcd: cannot be read"),
            ("nats://user:secret@127.0.0.1/x", "not in it"),
            ("nats://127.0.0.1:99999/x", "host:port"),
            ("mqtt://127.0.0.1/a.b", "letters, digits"),
            ("mqtt://127.0.0.1,127.0.0.2/a", "name one broker"),
            ("nats://127.0.0.1/a?x=1", "no option"),
            (f"nats://127.0.0.1:{free_port()}/a", "cannot be reached"),
            (f"mqtt://127.0.0.1:{free_port()}/a", "cannot be reached"),
        ):
            with pytest.raises(Failed, match=says):
                await ask(made, url)


async def test_no_more_networks_and_packets_than_there_is_room_for(read: Served, name: str) -> None:
    url, other, large = read.servers.url(name), read.servers.url(f"{name}-b"), read.servers.url(f"{name}-c")
    async with (
        opened(read.front(name), 30),
        opened(read.front(f"{name}-b"), 30),
        opened(read.front(f"{name}-c"), 120),
        reader(Bounds(networks=2, packets=100)) as made,
    ):
        await answers(made, url, many(30))
        await answers(made, other, many(30))
        first = made.mirrored[0]
        with pytest.raises(Failed, match="more packets are kept there than there is room for"):
            await ask(made, large)
        assert len(made.mirrored) == 2
        assert first not in made.mirrored  # who was asked longest ago has made room
        assert [each.told for each in made.mirrored] == [30, 0]
        await answers(made, other, many(30))


async def test_what_grows_beyond_the_room_is_let_go(read: Served, name: str) -> None:
    url = read.servers.url(name)
    async with opened(read.front(name), 90) as front, reader(Bounds(packets=100)) as made:
        await answers(made, url, many(90))
        await fill(front, [packet(number) for number in range(90, 130)])

        async def refused() -> bool:
            try:
                await answers(made, url, many(130))  # whole, or not at all
            except Failed as failure:
                return "more packets are kept there than there is room for" in failure.detail
            return False

        await until(refused)
        assert [each.told for each in made.mirrored] == [0]


async def test_who_is_not_asked_is_let_go(read: Served, name: str) -> None:
    clock = ManualClock()
    made = ServerReader(Bounds(idle_s=0.04), plain, clock)
    url = read.servers.url(name)
    async with opened(read.front(name), 10):
        await answers(made, url, many(10))
        (held,) = made.mirrored

        async def gone() -> bool:
            return not made.mirrored

        clock.advance(1.0)
        await until(gone)
        await answers(made, url, many(10))
        assert made.mirrored != [held]
        await made.close()
        assert not made.mirrored


async def test_nobody_is_connected_to_whom_only_a_server_names() -> None:
    """A server of NATS may tell of others; who reads connects to those that the endpoint names, and to no others."""
    reached: list[str] = []

    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("other")
        writer.close()

    aside = await asyncio.start_server(other, "127.0.0.1", 0)
    port = aside.sockets[0].getsockname()[1]
    told = {
        "server_id": "X", "version": "2.9.10", "max_payload": 1 << 20, "headers": True, "proto": 1, "jetstream": True,
        "connect_urls": [f"127.0.0.1:{port}"],
    }  # fmt: skip

    async def tempt(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("named")
        writer.write(b"INFO " + json.dumps(told).encode() + b"\r\n")
        await writer.drain()
        if len(reached) > 1:
            writer.write(b"PONG\r\n" + b"INFO " + json.dumps(told).encode() + b"\r\n")
            await writer.drain()
        writer.close()

    named = await asyncio.start_server(tempt, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{named.sockets[0].getsockname()[1]}/x"
    async with reader() as made:

        async def tried() -> bool:
            assert await fails(made, url)
            return reached.count("named") > 3

        await until(tried)
    assert set(reached) == {"named"}
    named.close()
    aside.close()


def test_the_rights_in_the_guides_are_those_that_are_tested() -> None:
    guides = Path(__file__).parent.parent.parent / "docs/engines"
    for name, rights in (("nats", NATS_RIGHTS), ("redis", REDIS_RIGHTS), ("mqtt", MQTT_RIGHTS)):
        text = " ".join((guides / f"{name}.md").read_text().split())
        for right in rights:
            assert right.replace("STORE", "farms") in text
