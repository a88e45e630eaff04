"""Servers that refuse, are full, or tell only a part: a clear error, and what was good still answers."""

from __future__ import annotations

from pathlib import Path

import aiomqtt
import pytest

from regional.packets.packet import Packet
from registry.errors import StorageFull, Unavailable
from tests.acceptance.federated import until
from tests.engines.certificates import Certificates
from tests.engines.kinds import PARTED, SERVED, Mqtt, Served
from tests.engines.packets import fill, largest, many, packet, pair
from tests.engines.servers import MqttBroker
from tests.engines.test_served import answers, opened
from tests.engines.test_suite import kept

HURRY_S = 2.0


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho leaves it to the collector
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("which", SERVED, ids=lambda each: each.name)
async def test_a_certificate_of_another_authority(which: type[Served], tmp_path: Path, name: str) -> None:
    good, other = Certificates.made(tmp_path / "good"), Certificates.made(tmp_path / "other")
    own = which.encrypted(tmp_path, good)
    own.start()
    try:
        async with opened(front := own.front(name, ca=good.ca)):
            await fill(front, some := many(10))
        for wrong in ({"ca": other.ca}, {}):
            with pytest.raises(Unavailable, match=f"{own.servers.scheme}://.* (cannot be reached|does not answer)"):
                await own.front(name, patience_s=HURRY_S, **wrong).open()
        async with opened(late := own.front(name, ca=good.ca)):
            assert await answers(late, some)
    finally:
        own.stop()


@pytest.mark.parametrize(
    "which", [each for each in SERVED if each.small.__func__ is not Served.small.__func__], ids=lambda each: each.name
)
async def test_a_server_that_is_full(which: type[Served], tmp_path: Path, name: str) -> None:
    """Said in words; what was acknowledged is there, and nothing else; what is older still answers."""
    own = which.small(tmp_path)
    assert own is not None
    own.start()
    try:
        async with opened(front := own.front(name, PARTED)):
            good: list[Packet] = [packet(number) for number in range(20_000, 20_100)]
            await fill(front, good)
            several = min(20, front.limits.atomic)

            async def fill_up() -> None:
                for first in range(0, 20_000, several):
                    made = [largest(number) for number in range(first, first + several)]
                    await front.put([pair(each) for each in made])
                    good.extend(made)

            with pytest.raises(StorageFull, match=f"{own.servers.scheme}://.* is full"):
                await fill_up()
            await until(lambda: answers(front, good))  # a server that fills up may be silent for a moment
            assert await front.get(good[-1].node) == good[-1].to_cbor()
            async with opened(late := own.front(name)):
                assert await kept(late) == {each.node: [each.to_cbor()] for each in good}
    finally:
        own.stop()


async def test_a_broker_that_queues_ten_messages(tmp_path: Path, name: str) -> None:
    """All is read nevertheless; and where less is there than was counted, that is an error, not an answer."""
    own = Mqtt(tmp_path)
    own.servers = MqttBroker(tmp_path, queued=10)
    own.start()
    try:
        packets = many(1_500)
        async with opened(front := own.front(name)):
            await fill(front, packets)
            async with opened(late := own.front(name)):
                assert await answers(late, packets)
                assert len(await late.bucket(0)) == len(packets)
        async with aiomqtt.Client("127.0.0.1", own.servers.processes[0].port) as client:
            for each in packets[:5]:
                await client.publish(f"kindred/{name}/v1/0000/{each.node.hex()}", b"", qos=1, retain=True)
        with pytest.raises(Unavailable, match="fewer packets came than were counted"):
            await own.front(name, patience_s=HURRY_S).open()
    finally:
        own.stop()
