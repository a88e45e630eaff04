"""What is Milvus' own: who writes owns the name, and what the server finds is measured again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from regional.engine import NearestQuery
from regional.engines.address import EngineAddress
from regional.engines.front import Front
from regional.engines.milvus.link import Gone, MilvusLink
from regional.engines.milvus.rows import FOUND, INDEX, PLACE, Held, packet_row
from registry.errors import ConfigError
from tests.engines.kinds import HOME, PARTED, D, Milvus, Served
from tests.engines.packets import brute_force, fill, packet, pair, questions
from tests.engines.test_served import opened
from tests.engines.test_suite import origin

pytestmark = pytest.mark.parametrize("served", [Milvus], ids=["milvus"], indirect=True)


@pytest.fixture
async def front(served: Served, name: str) -> AsyncIterator[Front]:
    made = served.front(name, PARTED)
    async with opened(made):
        yield made


@pytest.fixture
async def link(served: Served, name: str) -> AsyncIterator[MilvusLink]:
    made = MilvusLink(EngineAddress.parse(served.servers.url(name), HOME.network))
    await made.open()
    yield made
    await made.close()


async def current(link: MilvusLink, front: Front) -> str:
    return str((await link.call("describe_collection", front._alias))["collection_name"])


async def test_of_many_who_take_the_name_at_once_one_has_it(served: Served, front: Front, link: MilvusLink) -> None:
    for _ in range(5):
        name = await current(link, front)
        targets = [f"w{number:010d}_{0:012x}_taken" for number in range(8)]
        taken = await asyncio.gather(
            *(link.once("rename_collection", name, target) for target in targets), return_exceptions=True
        )
        now = await current(link, front)
        assert [target for target, error in zip(targets, taken, strict=True) if error is None] == [now]
        await link.once("rename_collection", now, name)


async def test_what_an_earlier_owner_writes_is_refused_however_late(
    served: Served, front: Front, link: MilvusLink
) -> None:
    """A hundred writes under way while another takes the name: what it reads then is all there will ever be."""
    await front.put([pair(packet(0))])
    name = await current(link, front)
    acknowledged: set[str] = set()

    async def write(first: int) -> None:
        for number in range(first, first + 10_000):
            made = packet(number)
            row = packet_row(made.node, Held(FOUND, 1, 0), "a", made.fingerprint, made.to_cbor(), 1, D)
            try:
                await link.once("upsert", name, [row])
            except Gone:
                return
            acknowledged.add(row["node"])

    writing = [asyncio.create_task(write(10_000 * number)) for number in range(1, 21)]
    while len(acknowledged) < 100:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await link.once("rename_collection", name, taken := "w0000000099_000000000000_taken")
    at = await link.now()
    seen = {row["node"] for row in await link.query(taken, at, f"state == {FOUND}", ["node"], 16_000)}
    await asyncio.gather(*writing)
    assert acknowledged <= seen
    later = {row["node"] for row in await link.query(taken, await link.now(), f"state == {FOUND}", ["node"], 16_000)}
    assert later == seen


async def test_who_lost_the_name_takes_it_back_and_knows_what_was_written(
    served: Served, name: str, front: Front
) -> None:
    """Two fronts in turn, on one node: each decides by what the other stored."""
    other = served.front(name, PARTED)
    async with opened(other):
        for seq in range(1, 5):
            first, second = (front, other) if seq % 2 else (other, front)
            assert await first.put([pair(packet(1, 2 * seq))]) == ["accepted"]
            assert await second.put([pair(packet(1, 2 * seq - 1)), pair(packet(2, seq))]) == ["stale", "accepted"]
            assert second.count == 2
            assert first.count == 2 if seq > 1 else first.count in (1, 2), "what it wrote, or has heard since"


async def test_more_at_one_distance_than_the_server_returns(
    served: Served, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The total order decides among all of them; here the server's limit is 200."""
    monkeypatch.setattr("regional.engines.milvus.search.WINDOW", 200)
    place = np.full(D, 2, dtype=np.float32)
    packets = [packet(number, fingerprint=place, action="a") for number in range(600)]
    await fill(front, [*packets, packet(1_000)])
    result = await front.nearest(origin(20, actions=("a",)))
    assert (result.packets, result.distances2.tolist()) == brute_force(packets, origin(20))
    assert result.tied == {"a": len(packets)}


async def test_far_from_the_origin_and_close_together(served: Served, front: Front) -> None:
    """Where float32 tells few of them apart."""
    random = np.random.default_rng(3)
    places = (3_000 + random.integers(-2, 3, (3_000, D)) * 2.0**-12).astype(np.float32)
    packets = [packet(number, fingerprint=place) for number, place in enumerate(places)]
    await fill(front, packets)
    for place in places[:4]:
        for within in (None, 2.0**-12 * 2):
            query = NearestQuery(place, 60, within=within)
            result = await front.nearest(query)
            assert (result.packets, result.distances2.tolist()) == brute_force(packets, query)


async def test_a_row_whose_place_is_not_its_packets_is_left_out(served: Served, front: Front, link: MilvusLink) -> None:
    good = [packet(number) for number in range(2, 60)]
    await fill(front, good)
    made = packet(1)
    row = packet_row(made.node, Held(FOUND, 1, 0), "b", made.fingerprint + 1, made.to_cbor(), 1, D)
    await link.call("upsert", front._alias, [row])
    await link.now()
    for query in questions(4, 20):
        result = await front.nearest(query)
        assert (result.packets, result.distances2.tolist()) == brute_force(good, query)


async def test_an_index_that_is_not_exact_is_refused(served: Served, name: str, front: Front, link: MilvusLink) -> None:
    collection = await current(link, front)
    await front.close()
    await link.call("release_collection", collection)
    await link.call("drop_index", collection, PLACE)
    index = link._opened().prepare_index_params()
    index.add_index(PLACE, **{**INDEX, "index_type": "HNSW"}, params={"M": 8, "efConstruction": 32})
    await link.call("create_index", collection, index, timeout=30.0)
    with pytest.raises(ConfigError, match="it would not be exact"):
        await served.front(name).open()


async def test_a_collection_for_another_dimension_is_refused(served: Served, name: str, front: Front) -> None:
    address = EngineAddress.parse(served.servers.url(served._names[name]), HOME.network)
    other = type(front)(HOME, D + 1, address)
    with pytest.raises(ConfigError, match=f"keeps fingerprints of d={D}, the schema has d={D + 1}"):
        await other.open()
