"""Networks in a DHT as a gateway asks them: the same answers, refusals by name, and one line of configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from regional.client import Failed, NearestRequest, Refused, TimedOut
from regional.engines.dht.directory import Directory
from regional.engines.dht.item import Head
from regional.engines.dht.mirror import DhtMirror
from regional.engines.dht.node import DhtNode
from regional.engines.dht.reader import DhtReader
from regional.engines.reading import Bounds
from registry.clock import ManualClock, SystemClock
from registry.keys import SigningKey
from tests.acceptance.federated import Document, federated, situation, until, write_slice
from tests.engines.dht_kind import KEY, Dht
from tests.engines.dht_ring import DhtRing
from tests.engines.kinds import HOME, D
from tests.engines.packets import brute_force, fill, many, packet, pair, questions
from tests.engines.test_suite import PARTED, origin
from tests.ports import free_port

SPACE = HOME.space8 + bytes(24)
PATIENCE_S = 15.0

FEDERATION = """\
version: 1
registry: {dns: @dns, http: @http, coalesce: 20ms, ttl: {apex: 1s, cell: 1s, endpoint: 1s, negative: 1s}}
domains:
  crash.vehicles: {schema: $ROOT/examples/domains/crash.yaml}
networks:
  near: {domain: crash.vehicles, process: hall, listen: @hall, data: $HOME/rows.csv, where: {frontal: 0}ENGINE}
  far: {domain: crash.vehicles, process: hall, listen: @hall, data: $HOME/rows.csv, where: {frontal: 1}}
gateway: {listen: @gateway}
"""


@asynccontextmanager
async def reader(bounds: Bounds | None = None) -> AsyncIterator[DhtReader]:
    made = DhtReader(bounds or Bounds(), SystemClock())
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def kept(dht: Dht, name: str, n: int) -> AsyncIterator[str]:
    """So many packets, and the endpoint where they are read."""
    engine = dht.published(name, PARTED)
    await engine.open()
    try:
        await fill(engine, many(n))
        yield f"{dht.ring.url(name)}?key={KEY.public.hex()}"
    finally:
        await engine.close()


def requests(n: int, k: int) -> list[NearestRequest]:
    return [
        NearestRequest(HOME.domain, HOME.network, SPACE, each.fingerprint, each.k, each.per, each.actions, each.within)
        for each in questions(n, k)
    ]


async def test_what_is_read_is_what_brute_force_finds(dht: Dht, name: str) -> None:
    async with kept(dht, name, 500) as endpoint, reader() as dht_reader:
        await dht_reader.prepare(endpoint, requests(1, 5)[0], PATIENCE_S)
        for request, query in zip(requests(8, 20), questions(8, 20), strict=True):
            reply = await dht_reader.nearest(endpoint, request, PATIENCE_S)
            expected, distances2 = brute_force(many(500), query)
            assert [each.to_cbor() for each in reply.packets] == expected
            assert (reply.serial, reply.truncated) == (0, False)
            assert distances2 == sorted(distances2) or query.per == "action"


async def test_only_what_a_question_needs_is_read(dht: Dht, name: str) -> None:
    """A near question opens few leaves of many; what it has read is not read again."""
    async with kept(dht, name, 1_500) as endpoint, reader() as dht_reader:
        request = replace(requests(1, 3)[0], within=0.5)
        await dht_reader.nearest(endpoint, request, PATIENCE_S)
        (read,) = dht_reader._mirrors.values()
        assert len(read.mirror._open) < len(read.mirror._names) / 2
        assert read.mirror.held < read.mirror.count / 2 == 750
        held = read.mirror.held
        await dht_reader.nearest(endpoint, request, PATIENCE_S)
        assert read.mirror.held == held


async def test_what_cannot_be_read_is_named(dht: Dht, name: str) -> None:
    request = requests(1, 5)[0]
    base = dht.ring.url(name)
    async with kept(dht, name, 20) as endpoint, reader() as dht_reader:
        with pytest.raises(TimedOut, match="no answer within 0 ms; it is read on"):
            await dht_reader.nearest(endpoint, request, 0.0001)

        async def read_on() -> bool:
            return len((await dht_reader.nearest(endpoint, request, 5.0)).packets) == 10

        await until(read_on)
        for stranger in (replace(request, network="other"), replace(request, space=bytes(32))):
            with pytest.raises(Refused, match="the DHT has packets of Home"):
                await dht_reader.nearest(endpoint, stranger, PATIENCE_S)
        other = SigningKey(bytes(32)).public.hex()
        for wrong, why in (
            (f"{base}?key={other}", "the head of bucket 0 is not in the DHT"),
            (base, "key is ''; it is 64 hexadecimal digits"),
            (f"{base}?key={other[:-1]}", "64 hexadecimal digits"),
            (f"{base}?key={other}&ttl=5", "there is no option 'ttl'"),
            ("dht://x y/z", "is not host:port"),
            (f"dht://127.0.0.1:{free_port()}/x?key={other}", "no DHT node answers"),
        ):
            with pytest.raises(Failed, match=why):
                await dht_reader.nearest(wrong, request, PATIENCE_S)


async def test_no_more_is_held_than_may_be(dht: Dht, name: str) -> None:
    clock = ManualClock(SystemClock().now())
    request = requests(1, 5)[0]
    async with kept(dht, f"{name}-a", 20) as first, kept(dht, f"{name}-b", 20) as second:
        for bounds, left in ((Bounds(networks=1), 1), (Bounds(packets=30), 1), (Bounds(), 2)):
            made = DhtReader(bounds, clock)
            try:
                for endpoint in (first, second, first):
                    assert len((await made.nearest(endpoint, request, PATIENCE_S)).packets) == 10
                await made.prepare(first, request, PATIENCE_S)
                assert len(made._mirrors) == left
                clock.advance(bounds.idle_s + 1)
                await made.prepare(first, request, PATIENCE_S)
                assert [key[0] for key in made._mirrors] == [first]
            finally:
                await made.close()


class Waiting(Directory):
    """The directory of a network without packets; heads are read once `may` is set."""

    def __init__(self) -> None:
        super().__init__(DhtNode([]), KEY.public, "empty")
        self.may = asyncio.Event()
        self.read = 0

    async def head(self, bucket: int) -> Head | None:
        await self.may.wait()
        self.read += 1
        return Head(HOME, bucket, 1, 1, D, self.read, 0.0, 0, (), None)


async def test_questions_of_one_moment_share_the_heads_and_one_that_comes_as_they_are_read_has_its_own() -> None:
    """It must not wait for what is done already: that would hold everybody up for ever."""
    directory = Waiting()
    mirror = DhtMirror(directory, HOME, D, ManualClock(0.0))
    early = [asyncio.create_task(mirror.refresh()) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    directory.may.set()
    late = asyncio.create_task(mirror.refresh())
    await asyncio.gather(*early, late)
    assert directory.read == 2
    mirror.close()


async def test_an_answer_holds_what_was_acknowledged_before_it_was_asked_for(dht: Dht, name: str) -> None:
    engine = dht.published(name)
    await engine.open()
    try:
        async with reader() as dht_reader:
            endpoint = f"{dht.ring.url(name)}?key={KEY.public.hex()}"
            request = replace(requests(1, 5)[0], k=1, actions=None, within=None, per="all")
            request = replace(request, fingerprint=origin().fingerprint)
            for seq in range(1, 30):
                made = packet(seq, fingerprint=origin().fingerprint + 1 / seq)
                assert await engine.put([pair(made)]) == ["accepted"]
                reply = await dht_reader.nearest(endpoint, request, PATIENCE_S)
                assert [each.to_cbor() for each in reply.packets] == [made.to_cbor()]
    finally:
        await engine.close()


async def answer(home: Path, engine: str) -> Document:
    """What a federation says whose network `near` has this engine."""
    write_slice("nass_cds_crash", home, 50).rename(home / "rows.csv")
    async with federated(home, FEDERATION.replace("ENGINE", engine)) as kindred:
        await kindred.deposit()
        return await kindred.ask(domain="crash.vehicles", situation=situation("crash"), k=20)


async def test_one_line_moves_a_network_into_a_dht(tmp_path: Path) -> None:
    """Read in the DHT by the gateway, or asked at the network: the same neighbours, to the last bit."""
    ring = DhtRing(tmp_path)
    ring.start()
    try:
        for part in ("embedded", "dht"):
            (tmp_path / part).mkdir()
        expected = await answer(tmp_path / "embedded", "")
        engine = f", engine: '{ring.url('near')}?listen=127.0.0.1:{free_port()}', serve: engine"
        found = await answer(tmp_path / "dht", engine)
        for member in ("found", "neighbours", "tied_at_k"):
            assert found[member] == expected[member]
        assert found["certificate"]["neighbours_complete"]
        assert {each["disposition"] for each in found["networks"]} == {"answered"}
    finally:
        ring.kill()
