"""What fronts on an MQTT broker put right: it keeps the last message of a topic, whatever its number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiomqtt
import pytest

from regional.engines.front import Front
from regional.engines.mqtt.link import with_seq
from regional.packets.packet import Packet
from tests.acceptance.federated import until
from tests.engines.kinds import PARTED, Mqtt, Served
from tests.engines.packets import fill, packet, pair
from tests.engines.test_served import answers, opened
from tests.engines.test_suite import kept

pytestmark = pytest.mark.parametrize("served", [Mqtt], ids=["mqtt"], indirect=True)


OTHERS = [packet(number) for number in range(2, 40)]


def at(bucket: int, seq: int, cost: float = 1.0) -> Packet:
    """Packet 1, in the middle of a bucket."""
    return packet(1, seq, fingerprint=PARTED.centres[bucket], outcomes={"cost": cost})


@pytest.fixture
async def fronts(served: Served, name: str) -> AsyncIterator[list[Front]]:
    made = [served.front(name, PARTED) for _ in range(3)]
    async with opened(*made):
        await fill(made[0], OTHERS)
        yield made


async def say(served: Served, name: str, bucket: int, made: Packet | None, gone_up_to: int | None = None) -> None:
    """One message, as of a front that dies before its next."""
    async with aiomqtt.Client(
        "127.0.0.1", served.servers.processes[0].port, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        topic = f"kindred/{name}/v{PARTED.version}/{bucket:04d}/{packet(1).node.hex()}"
        said = b"" if made is None else made.to_cbor()
        properties = None if gone_up_to is None else with_seq(gone_up_to)
        await client.publish(topic, said, qos=1, retain=True, properties=properties)


async def stands(front: Front, *current: Packet) -> bool:
    """Whether it finds this beside the others and nothing else, and the broker keeps it once."""
    wanted = [*OTHERS, *current]
    return await kept(front) == {each.node: [each.to_cbor()] for each in wanted} and await answers(front, wanted)


async def settles(fronts: list[Front], *current: Packet) -> None:
    """Every front comes to that."""
    for front in fronts:
        await until(lambda front=front: stands(front, *current))  # type: ignore[misc]


async def test_what_a_front_left_that_died_is_taken_away(served: Served, name: str, fronts: list[Front]) -> None:
    assert await fronts[0].put([pair(at(0, 1))]) == ["accepted"]
    for seq, bucket in ((2, 1), (3, 2), (4, 0)):  # each stored, and nothing taken away
        await say(served, name, bucket, at(bucket, seq))
    await settles(fronts, at(0, 4))
    assert [await front.put([pair(at(1, 4))]) for front in fronts] == [["stale"]] * 3


async def test_an_older_packet_that_comes_late_is_undone(served: Served, name: str, fronts: list[Front]) -> None:
    assert await fronts[0].put([pair(at(0, 5))]) == ["accepted"]
    await say(served, name, 0, at(0, 4))
    await settles(fronts, at(0, 5))
    await say(served, name, 1, at(1, 3))
    await settles(fronts, at(0, 5))


async def test_a_packet_taken_away_for_an_older_one_is_put_back(served: Served, name: str, fronts: list[Front]) -> None:
    assert await fronts[0].put([pair(at(0, 5))]) == ["accepted"]
    await settles(fronts, at(0, 5))
    await say(served, name, 0, None, gone_up_to=4)
    await settles(fronts, at(0, 5))
    assert await fronts[1].remove([(at(0, 5).node, 5)]) == [True]
    await settles(fronts)


@pytest.mark.parametrize("buckets", [(0, 0, 0), (0, 1, 2)], ids=["one bucket", "several"])
async def test_two_packets_of_one_number(fronts: list[Front], buckets: tuple[int, ...]) -> None:
    """A node that gives one number twice: whichever stays, all fronts have the same, once."""
    for seq in range(1, 6):
        twins = [at(bucket, seq, float(cost)) for cost, bucket in enumerate(buckets)]
        results = await asyncio.gather(*(f.put([pair(each)]) for f, each in zip(fronts, twins, strict=True)))
        assert ["accepted"] in results

        async def agreed(twins: list[Packet] = twins) -> bool:
            held = await fronts[0].get(twins[0].node)
            found = [each for each in twins if each.to_cbor() == held]
            return len(found) == 1 and all([await stands(front, *found) for front in fronts])

        await until(agreed)
