"""What a DHT may do to those who rely on it: forge, roll back, forget, be silent. Readers find the truth or say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from regional.engine import Engine
from regional.engines.dht import node as dhtnode
from regional.engines.dht.directory import MAX_AGE_S, Directory
from regional.engines.dht.engine import DhtEngine
from regional.engines.dht.item import MAX_VALUE, Head, head_salt, name_of, packet_salt
from regional.engines.dht.mirror import DhtMirror
from regional.engines.dht.node import SLOW_S, DhtNode, Secret
from regional.engines.dht.publisher import REPUBLISH_S
from regional.packets.packet import Packet
from registry.clock import ManualClock
from registry.errors import StorageFull, TooLarge, Unavailable
from registry.keys import SigningKey
from tests.acceptance.federated import until
from tests.engines.dht_kind import KEY, Dht
from tests.engines.dht_liar import lying
from tests.engines.dht_ring import DhtRing
from tests.engines.kinds import HOME, D
from tests.engines.packets import brute_force, fill, largest, many, packet, pair, questions, tombstone
from tests.engines.test_suite import PARTED, origin
from tests.ports import free_port

SECRET = Secret(KEY)


@asynccontextmanager
async def published(
    dht: Dht, name: str, clock: ManualClock | None = None
) -> AsyncIterator[tuple[DhtEngine, DhtMirror]]:
    """An owner, and one who reads."""
    clock = clock or ManualClock()
    engine, mirror = dht.published(name, PARTED, clock), dht.mirror(name, clock)
    await engine.open()
    await dht.guest.open()
    try:
        yield engine, mirror
    finally:
        mirror.close()
        await dht.guest.close()
        await engine.close()


async def finds(engine: Engine | DhtMirror, packets: list[Packet]) -> bool:
    """Whether it answers as brute force does over these packets."""
    try:
        for query in questions(4, 20):
            result = await engine.nearest(query)
            if (result.packets, result.distances2.tolist()) != brute_force(packets, query):
                return False
    except Unavailable:
        return False
    return True


async def test_the_limit_of_a_value_is_where_the_nodes_have_it(dht: Dht, monkeypatch: pytest.MonkeyPatch) -> None:
    """996 bytes are kept, mutable or not; of 997 the nodes take none, and it is never tried."""
    await dht.owner.open()
    try:
        for value in (bytes(MAX_VALUE), largest(1).to_cbor()):
            await dht.owner.put_mutable(SECRET, b"limit", value)
            await dht.owner.put_immutable(name_of(value), value)
            assert await dht.owner.get_mutable(KEY.public, b"limit") == value
            assert await dht.owner.get_immutable(name_of(value)) == value
        more = bytes(MAX_VALUE + 1)
        for put in (dht.owner.put_mutable(SECRET, b"limit", more), dht.owner.put_immutable(name_of(more), more)):
            with pytest.raises(TooLarge, match="997 bytes; a DHT keeps at most 996"):
                await put
        monkeypatch.setattr(dhtnode, "checked", lambda value: value)
        for put in (dht.owner.put_mutable(SECRET, b"limit", more), dht.owner.put_immutable(name_of(more), more)):
            with pytest.raises(Unavailable, match="0 nodes of the DHT have taken it, 4 are wanted"):
                await put
        assert await dht.owner.get_mutable(KEY.public, b"limit") == largest(1).to_cbor()
    finally:
        await dht.owner.close()


async def test_forged_items_never_reach_a_reader(dht: Dht, name: str) -> None:
    """A node nearest to the head, or to a packet, replies with a higher number, and a signature that is none."""
    async with published(dht, name) as (engine, _):
        await fill(engine, many(40))
        forged = packet(1, 9, outcomes={"cost": 1e6}).to_cbor()
        head = Head(HOME, 0, 1, 3, D, 2**50, engine._clock.now(), 0, (), None).to_value()
        for salt, value in ((head_salt(name, 0), head), (packet_salt(name, packet(1).node), forged)):
            async with lying(KEY.public, salt, value) as (liar, where):
                guest = DhtNode([*dht.ring.servers, where], guest=True)
                await guest.open()
                try:
                    directory = Directory(guest, KEY.public, name)
                    mirror = DhtMirror(directory, HOME, D, engine._clock)

                    async def met(guest: DhtNode = guest, liar: object = liar, salt: bytes = salt) -> bool:
                        guest.meet()
                        await guest.get_mutable(KEY.public, salt)
                        return liar.asked > 0  # type: ignore[attr-defined,no-any-return]

                    await until(met)
                    assert await finds(mirror, many(40))
                    assert await mirror.get(packet(1).node) == packet(1).to_cbor()
                    mirror.close()
                finally:
                    await guest.close()


async def test_nobody_else_writes_under_a_key(dht: Dht, name: str) -> None:
    async with published(dht, name) as (engine, mirror):
        await fill(engine, many(10))
        other = Secret(SigningKey(bytes(32)))
        stolen = Secret(SigningKey(bytes(32)))
        stolen.public = KEY.public  # it signs with a key of its own, and says that it were ours
        for secret in (other, stolen):
            try:
                await dht.owner.put_mutable(secret, packet_salt(name, packet(1).node), packet(1, 9).to_cbor())
            except Unavailable:
                assert secret is stolen
        assert await mirror.get(packet(1).node) == packet(1).to_cbor()
        assert await finds(mirror, many(10))


async def test_what_is_older_than_it_was_is_refused(dht: Dht, name: str) -> None:
    """A head that was replaced, and a packet, come back."""
    async with published(dht, name) as (engine, mirror):
        await fill(engine, many(10))
        salt = head_salt(name, PARTED.bucket(packet(1).fingerprint))
        before = await dht.guest.get_mutable(KEY.public, salt)
        assert before is not None
        assert await engine.put([pair(packet(1, 2, fingerprint=packet(1).fingerprint))]) == ["accepted"]
        assert await finds(mirror, [packet(1, 2, fingerprint=packet(1).fingerprint), *many(10)[:1], *many(10)[2:]])
        await dht.owner.put_mutable(SECRET, salt, before)
        with pytest.raises(Unavailable, match="an older head of bucket"):
            await mirror.nearest(origin())
        assert await engine.put([pair(packet(1, 3))]) == ["accepted"]
        await dht.owner.put_mutable(SECRET, packet_salt(name, packet(1).node), packet(1, 2).to_cbor())
        with pytest.raises(Unavailable, match="a packet of seq 3 stands in the directory, and only seq 2 is there"):
            await mirror.nearest(origin(20))


async def test_what_is_missing_is_never_left_out_in_silence(dht: Dht, name: str) -> None:
    """A head that leads to pages, and pages to packets, that no node has."""
    async with published(dht, name) as (engine, mirror):
        await fill(engine, many(100))
        bucket = PARTED.bucket(packet(1).fingerprint)
        value = await dht.guest.get_mutable(KEY.public, head_salt(name, bucket))
        assert value is not None
        head = Head.from_value(value)
        assert head.top is not None
        gone = replace(head, serial=head.serial + 1, top=replace(head.top, name=bytes(20)))
        await dht.owner.put_mutable(SECRET, head_salt(name, bucket), gone.to_value())
        with pytest.raises(Unavailable, match=r"a page of its directory, which counts .* packets, is missing"):
            await mirror.bucket(bucket)
        stranger = dht.mirror("never-published")
        with pytest.raises(Unavailable, match="the head of bucket 0 is not in the DHT"):
            await stranger.nearest(origin())
        stranger.close()


async def test_an_owner_that_is_gone_is_noticed(dht: Dht, name: str) -> None:
    clock = ManualClock()
    async with published(dht, name, clock) as (engine, mirror):
        await fill(engine, many(5))
        assert await finds(mirror, many(5))
        later = ManualClock(clock.now() + MAX_AGE_S + 60)
        late = dht.mirror(name, later)
        with pytest.raises(Unavailable, match=r"its owner last signed bucket 0 2\.0 hours ago"):
            await late.nearest(origin())
        late.close()


async def test_a_tombstone_takes_the_packet_out_of_the_dht(dht: Dht, name: str) -> None:
    async with published(dht, name) as (engine, mirror):
        await fill(engine, many(3))
        assert await engine.put([pair(tombstone(1, 2))]) == ["accepted"]
        assert await engine.remove([(packet(2).node, 1)]) == [True]
        assert await mirror.get(packet(1).node) == tombstone(1, 2).to_cbor()
        assert await mirror.get(packet(2).node) is None
        assert (await mirror.nearest(origin())).packets == [packet(0).to_cbor()]


async def test_more_packets_than_the_declared_limit(dht: Dht, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regional.engines.dht.engine.MAX_PACKETS", 5)
    async with published(dht, name) as (engine, _):
        await fill(engine, many(5))
        assert engine.limits.packets == 5
        with pytest.raises(StorageFull, match="at most 5 packets; choose another engine"):
            await engine.put([pair(packet(6))])
        assert await engine.put([pair(packet(1, 2))]) == ["accepted"]


async def test_nodes_that_are_off_all_of_them_and_their_return(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30% off: all is read. All off: nothing is acknowledged, and the owner still answers. Back, empty: all is put."""
    own, clock = Dht(tmp_path), ManualClock()
    own.start()
    try:
        async with published(own, name, clock) as (engine, mirror):
            packets = many(60)
            await fill(engine, packets)
            own.ring.processes[1].kill()
            assert await finds(mirror, packets)
            monkeypatch.setattr(dhtnode, "LOOKUP_S", 0.5)
            own.ring.kill()
            with pytest.raises(Unavailable, match=f"{name} cannot be published"):
                await engine.put([pair(packet(100))])
            with pytest.raises(Unavailable, match=f"{name} cannot be published"):
                await engine.put([pair(packet(101))])
            assert await engine.get(packet(101).node) is None
            assert not await finds(mirror, packets)
            packets.append(packet(100))
            assert await finds(engine, packets)
            own.ring.start()
            await until(lambda: finds(mirror, packets))
            assert await engine.put([pair(packet(101))]) == ["accepted"]
            assert await finds(mirror, [*packets, packet(101)])
    finally:
        own.stop()


async def test_all_is_put_again_before_the_nodes_forget_it(
    dht: Dht, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evenly over the time: half of the packets by half of it, the directory at its end."""
    clock = ManualClock()
    salts = {packet_salt(name, each.node) for each in (*many(60), tombstone(61, 1))}
    put: list[bytes] = []
    put_mutable, put_immutable = dht.owner.put_mutable, dht.owner.put_immutable

    async def noted(secret: Secret, salt: bytes, value: bytes) -> None:
        put.append(salt)
        with suppress(Unavailable):  # which would begin a round at once
            await put_mutable(secret, salt, value)

    async def noted_page(page: bytes, value: bytes) -> None:
        put.append(page)
        with suppress(Unavailable):
            await put_immutable(page, value)

    async with published(dht, name, clock) as (engine, mirror):
        await fill(engine, [*many(60), tombstone(61, 1)])
        monkeypatch.setattr(dht.owner, "put_mutable", noted)
        monkeypatch.setattr(dht.owner, "put_immutable", noted_page)
        await engine.census()
        assert put == []

        heads = {head_salt(name, bucket) for bucket in range(len(PARTED))}

        async def are_put(some: set[bytes], n: int) -> bool:
            return len(some & set(put)) >= n

        clock.advance(REPUBLISH_S)
        await until(lambda: are_put(heads, len(heads)))  # the round in which the packets came ends with the directory
        put.clear()
        clock.advance(REPUBLISH_S / 2)
        await until(lambda: are_put(salts, 30))
        assert len(salts & set(put)) in (len(salts) // 2, -(-len(salts) // 2))
        clock.advance(REPUBLISH_S / 2)
        await until(lambda: are_put(heads | salts, len(heads | salts)))
        assert salts <= set(put)
        assert len(set(put) - salts - heads) >= len(PARTED)

        async def is_renewed() -> bool:  # it may still be on its way
            return (await mirror._directory.head(0)).time == clock.now()  # type: ignore[union-attr]

        await until(is_renewed)
        assert await finds(mirror, many(60))


async def test_who_joins_does_not_wait_for_nodes_that_have_left(tmp_path: Path) -> None:
    """libtorrent does, 15 s for each lookup that comes near their place; and who gives up a lookup is not kept."""
    ring = DhtRing(tmp_path)
    ring.start()
    try:
        for _ in range(4):
            one = DhtNode(ring.servers)
            async with asyncio.timeout(SLOW_S * 10):
                await one.open()
            assert one._lookups.waiting == []
            await one.close()
    finally:
        ring.kill()


async def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    node = DhtNode([("127.0.0.1", port)])
    with pytest.raises(Unavailable, match=f"no DHT node answers at 127.0.0.1:{port}"):
        await node.open(0.1)
