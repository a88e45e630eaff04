"""What every engine owes, whatever keeps its packets: one suite, passed by all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from regional.engine import MAX_K, Engine, NearestQuery
from regional.packets.packet import Packet
from regional.packets.packetcbor import MAX_BYTES
from registry.errors import PacketError
from tests.acceptance.federated import until
from tests.engines.kinds import PARTED, D, Kind
from tests.engines.packets import brute_force, fill, largest, many, packet, pair, questions, tombstone

MANY = 10_000


@pytest.fixture
async def engine(kind: Kind, name: str) -> AsyncIterator[Engine]:
    made = kind.engine(name, PARTED)
    await made.open()
    yield made
    await made.close()


def origin(k: int = 10, **rest: object) -> NearestQuery:
    return NearestQuery(np.zeros(D, dtype=np.float32), k, **rest)  # type: ignore[arg-type]


async def nodes(engine: Engine) -> set[bytes]:
    found = await engine.nearest(origin(MAX_K, per="all"))
    return {Packet.from_cbor(data).node for data in found.packets}


async def kept(engine: Engine) -> dict[bytes, list[bytes]]:
    """All that the buckets hold, by node."""
    found: dict[bytes, list[bytes]] = {}
    for part in await asyncio.gather(*(engine.bucket(number) for number in range(len(engine.partition)))):
        for data in part:
            found.setdefault(Packet.from_cbor(data).node, []).append(data)
    return found


async def test_only_a_higher_seq_overwrites(engine: Engine) -> None:
    first, third = packet(1), packet(1, 3, action="b")
    assert await engine.put([pair(first)]) == ["accepted"]
    assert await engine.put([pair(first)]) == ["stale"]
    assert await engine.put([pair(third)]) == ["accepted"]
    assert await engine.put([pair(packet(1, 2))]) == ["stale"]
    assert await engine.get(third.node) == third.to_cbor()
    assert engine.count == 1
    assert (await engine.nearest(origin())).packets == [third.to_cbor()]
    assert await kept(engine) == {third.node: [third.to_cbor()]}


async def test_a_node_twice_in_one_batch_leaves_the_newest(engine: Engine) -> None:
    batch = [packet(1, 1), packet(2, 1), packet(1, 5), packet(1, 4)]
    assert await engine.put([pair(each) for each in batch]) == ["accepted", "accepted", "accepted", "stale"]
    assert await engine.get(batch[2].node) == batch[2].to_cbor()
    assert engine.count == 2


async def test_one_current_packet_wherever_it_moves(engine: Engine) -> None:
    """Twenty episodes that lie in one bucket after another."""
    centres = PARTED.centres
    for seq in range(1, 21):
        made = packet(1, seq, fingerprint=centres[seq % len(centres)])
        assert await engine.put([pair(made)]) == ["accepted"]
        assert await kept(engine) == {made.node: [made.to_cbor()]}
        assert made.to_cbor() in await engine.bucket(seq % len(centres))
        assert (await engine.nearest(origin())).packets == [made.to_cbor()]
    assert engine.count == 1


async def test_a_tombstone_stays_and_is_not_found(kind: Kind, engine: Engine, name: str) -> None:
    await fill(engine, [packet(1), packet(2)])
    gone, unknown = tombstone(1, 2), tombstone(9, 4)
    assert await engine.put([pair(gone), pair(unknown)]) == ["accepted", "accepted"]
    assert await nodes(engine) == {packet(2).node}
    assert engine.count == 1
    assert set(await kept(engine)) == {packet(2).node}
    await engine.close()
    again = kind.engine(name)
    await again.open()
    assert again.count == 1
    assert await again.put([pair(packet(1))]) == ["stale"]
    assert await again.put([pair(packet(9, 3))]) == ["stale"]
    assert await again.get(gone.node) == gone.to_cbor()
    assert await again.put([pair(packet(9, 5))]) == ["accepted"]
    assert set(await kept(again)) == {packet(2).node, packet(9).node}
    await again.close()


async def test_what_is_removed_is_gone_unless_it_is_newer(engine: Engine) -> None:
    await fill(engine, [packet(1), packet(2, 7)])
    assert await engine.remove([(packet(1).node, 1), (packet(2).node, 6), (b"nobody", 9)]) == [True, False, False]

    async def one_left() -> bool:
        return await nodes(engine) == {packet(2).node}

    await until(one_left)
    assert await engine.get(packet(1).node) is None
    assert set(await kept(engine)) == {packet(2).node}
    assert await engine.put([pair(packet(1))]) == ["accepted"]
    assert engine.count == 2


async def test_ten_thousand_packets(kind: Kind, engine: Engine, name: str) -> None:
    """A bucket is read whole, all are found, in the one order, by those who come later too; K up to the limit."""
    packets = many(MANY)
    await fill(engine, packets)
    assert engine.count == MANY
    expected = {each.node: each.to_cbor() for each in packets}
    sizes = []
    found: dict[bytes, list[bytes]] = {}
    for number in range(len(PARTED)):
        part = await engine.bucket(number)
        sizes.append(len(part))
        for data in part:
            made = Packet.from_cbor(data)
            assert PARTED.bucket(made.fingerprint) == number
            found.setdefault(made.node, []).append(data)
    assert found == {node: [data] for node, data in expected.items()}
    assert min(sizes) > 50
    for query in questions(12, 50):
        result = await engine.nearest(query)
        assert (result.packets, result.distances2.tolist()) == brute_force(packets, query)
        assert not result.truncated
    everything = await engine.nearest(origin(engine.limits.k, per="all"))
    assert everything.packets == brute_force(packets, origin(MAX_K, per="all"))[0]
    census = await engine.census()
    assert dict(zip(census.nodes, census.actions, strict=True)) == {each.node: each.action for each in packets}
    await engine.close()
    again = kind.engine(name)
    await again.open()
    assert again.partition.version == PARTED.version
    assert again.count == MANY
    query = questions(2, 50)[1]
    assert (await again.nearest(query)).packets == brute_force(packets, query)[0]
    await again.close()


async def test_one_bucket_of_ten_thousand(kind: Kind, name: str) -> None:
    engine = kind.engine(name)
    await engine.open()
    packets = many(MANY)
    await fill(engine, packets, MANY)
    assert len(engine.partition) == 1
    assert sorted(await engine.bucket(0)) == sorted(each.to_cbor() for each in packets)
    await engine.close()


async def test_packets_up_to_the_size_limit(engine: Engine) -> None:
    made = largest(1)
    data = made.to_cbor()
    assert len(data) == MAX_BYTES
    assert await engine.put([(made, data)]) == ["accepted"]
    assert await engine.get(made.node) == data
    assert (await engine.nearest(origin())).packets == [data]
    with pytest.raises(PacketError, match="bytes, at most 996"):
        packet(1, outcomes={**made.outcomes, "zz": 0.1}).to_cbor()


@pytest.mark.parametrize(
    "node", [b"\x00", b"a.b*>", b"/" * 32, b"+#$%&{}'\"\n\r", bytes(range(224, 256)), "ä€".encode()]
)
async def test_nodes_are_any_bytes(engine: Engine, node: bytes) -> None:
    made = packet(1, node=node)
    assert await engine.put([pair(made), pair(packet(2))]) == ["accepted", "accepted"]
    assert await engine.get(node) == made.to_cbor()
    assert node in await nodes(engine)
    assert node in await kept(engine)
    assert await engine.remove([(node, 1)]) == [True]
    assert await engine.get(node) is None


async def test_writers_of_one_node_at_once(engine: Engine) -> None:
    """Whoever has the highest seq is kept, and nobody is told that an older one was."""
    for number in range(5):
        seqs = np.random.default_rng(number).permutation(20).tolist()
        results = await asyncio.gather(*(engine.put([pair(packet(number, seq + 1))]) for seq in seqs))
        assert results[seqs.index(19)] == ["accepted"]
        newest = packet(number, 20)
        assert await engine.get(newest.node) == newest.to_cbor()
        assert (await kept(engine))[newest.node] == [newest.to_cbor()]


async def test_a_watch_tells_all_and_then_each_change(engine: Engine) -> None:
    await fill(engine, [packet(number) for number in range(300)])
    await engine.put([pair(tombstone(0, 2))])
    held: dict[bytes, bytes] = {}
    complete = asyncio.Event()
    changed = asyncio.Condition()

    async def follow() -> None:
        async with aclosing(engine.watch()) as watch:
            first = True
            async for told in watch:
                assert told.afresh is first
                first = False
                for change in told.changes:
                    if change.packet is None:
                        held.pop(change.node, None)
                    else:
                        held[change.node] = change.packet
                if told.complete:
                    complete.set()
                async with changed:
                    changed.notify_all()

    async def becomes(node: bytes, data: bytes | None) -> None:
        async with asyncio.timeout(20), changed:
            await changed.wait_for(lambda: held.get(node) == data)

    following = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(complete.wait(), 20)
        assert len(held) == 300
        assert held[packet(0).node] == tombstone(0, 2).to_cbor()
        newer, new = packet(1, 2), packet(1000)
        await engine.put([pair(newer), pair(new)])
        await becomes(newer.node, newer.to_cbor())
        await becomes(new.node, new.to_cbor())
        await engine.remove([(packet(2).node, 1)])
        await becomes(packet(2).node, None)
        assert len(held) == 300
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_notes_are_kept(kind: Kind, engine: Engine, name: str) -> None:
    assert await engine.note("coverage") is None
    large = bytes(range(256)) * 400
    await engine.keep_note("coverage", b"first")
    await engine.keep_note("coverage", large)
    await engine.keep_note("space", b"")
    await engine.close()
    again = kind.engine(name)
    await again.open()
    assert await again.note("coverage") == large
    assert await again.note("space") == b""
    await again.close()


async def test_what_history_there_is_begins_with_the_current_packet(engine: Engine) -> None:
    for seq in range(1, 4):
        await engine.put([pair(packet(1, seq))])
    assert await engine.history(packet(1).node) == [packet(1, 3).to_cbor()]
    assert engine.limits.history == 1
    assert await engine.history(b"nobody") == []


async def test_a_history_is_bounded_and_ends_with_the_node(kind: Kind, name: str) -> None:
    """The newest of a node, wherever it moved; a withdrawn node's tombstone alone; nothing of what was removed."""
    if not kind.keeps_history:
        return  # what the others do is in the test before
    engine = kind.engine(name, PARTED, "?history=3")
    await engine.open()
    assert engine.limits.history == 3
    places = PARTED.centres
    moved = [packet(1, seq, fingerprint=places[seq // 3]) for seq in range(1, 8)]
    assert await engine.put([pair(each) for each in moved[:2]]) == ["accepted", "accepted"]
    for each in moved[2:]:
        assert await engine.put([pair(each)]) == ["accepted"]
    assert await engine.put([pair(moved[3])]) == ["stale"]
    others = [packet(2, seq) for seq in (1, 2)]
    for each in others:
        await engine.put([pair(each)])
    newest = [each.to_cbor() for each in reversed(moved)]
    assert (await engine.history(moved[0].node))[:1] == newest[:1]
    await engine.close()
    engine = kind.engine(name, None, "?history=3")
    await engine.open()
    assert await engine.history(moved[0].node) == newest[:3]
    assert await engine.history(others[0].node) == [each.to_cbor() for each in reversed(others)]
    gone = tombstone(1, 8)
    assert await engine.put([pair(gone)]) == ["accepted"]
    assert await engine.history(gone.node) == [gone.to_cbor()]
    assert await engine.put([pair(packet(1, 9)), pair(packet(1, 10))]) == ["accepted", "accepted"]
    assert (await engine.history(gone.node))[0] == packet(1, 10).to_cbor()
    assert not {*newest} & {*await engine.history(gone.node)}
    assert await engine.remove([(others[0].node, 2)]) == [True]
    assert await engine.history(others[0].node) == []
    assert await engine.history(b"nobody") == []
    assert engine.count == 1
    await engine.close()
