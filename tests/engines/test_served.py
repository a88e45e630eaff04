"""What engines owe whose packets a server keeps: many fronts, servers that die, hang, refuse, or hold other things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from regional.engine import Engine
from regional.engines.address import EngineAddress
from regional.engines.front import Front
from regional.engines.mirror import Home
from regional.engines.opening import engine_at
from regional.packets.packet import Packet
from registry.errors import ConfigError, NotGranted, Unavailable
from tests.acceptance.federated import until
from tests.engines.kinds import HOME, PARTED, SERVED, D, Served
from tests.engines.packets import brute_force, fill, many, packet, pair, questions, tombstone
from tests.engines.test_suite import kept, origin
from tests.ports import free_port

HURRY_S = 0.7


@asynccontextmanager
async def opened(*fronts: Front) -> AsyncIterator[None]:
    try:
        for each in fronts:
            await each.open()
        yield
    finally:
        for each in fronts:
            await each.close()


async def answers(engine: Engine, packets: list[Packet]) -> bool:
    """Whether it answers as brute force does over these packets."""
    try:
        for query in questions(4, 20):
            result = await engine.nearest(query)
            if (result.packets, result.distances2.tolist()) != brute_force(packets, query):
                return False
    except Unavailable:
        return False
    return True


async def refuses(engine: Engine) -> bool:
    try:
        await engine.nearest(origin())
    except Unavailable:
        return True
    return False


async def test_fronts_on_one_store_find_what_each_of_them_stores(served: Served, name: str) -> None:
    fronts = [served.front(name, PARTED) for _ in range(3)]
    async with opened(*fronts):
        parts = [[packet(number) for number in range(first, 900, 3)] for first in range(3)]
        await asyncio.gather(*(fill(front, part) for front, part in zip(fronts, parts, strict=True)))
        everything = [each for part in parts for each in part]
        for front in fronts:
            await until(lambda front=front: answers(front, everything))  # type: ignore[misc]
        moved = packet(0, 2, action="b", fingerprint=np.full(D, 3, dtype=np.float32))
        assert await fronts[2].put([pair(moved), pair(tombstone(1, 2))]) == ["accepted", "accepted"]
        now = [moved, *(each for each in everything if each.node not in (moved.node, packet(1).node))]
        for front in fronts:
            await until(lambda front=front: answers(front, now))  # type: ignore[misc]
            assert {node: len(held) for node, held in (await kept(front)).items()} == {each.node: 1 for each in now}


async def test_writers_of_one_node_on_several_fronts(served: Served, name: str) -> None:
    """The highest seq stays, in one bucket only; who is told `accepted` was newer than what was held."""
    fronts = [served.front(name, PARTED) for _ in range(3)]
    async with opened(*fronts):
        for number in range(8):
            seqs = np.random.default_rng(number).permutation(18).tolist()
            results = await asyncio.gather(
                *(fronts[i % 3].put([pair(packet(number, seq + 1))]) for i, seq in enumerate(seqs))
            )
            assert results[seqs.index(17)] == ["accepted"]
            newest = packet(number, 18)
            for front in fronts:

                async def settled(front: Front = front, newest: Packet = newest) -> bool:
                    data = newest.to_cbor()
                    return await front.get(newest.node) == data and (await kept(front))[newest.node] == [data]

                if not served.compares:  # fronts put right what the server mixed up
                    await until(settled)
                assert await settled()
        newest_of_all = [packet(number, 18) for number in range(8)]
        for front in fronts:
            await until(lambda front=front: answers(front, newest_of_all))  # type: ignore[misc]


@pytest.mark.parametrize("which", SERVED, ids=lambda each: each.name)
async def test_servers_that_are_killed_or_hang(which: type[Served], tmp_path: Path, name: str) -> None:
    """The leader is killed under deposits, then all; they hang; they come back: nothing acknowledged is lost."""
    own = which(tmp_path)
    own.start()
    front = own.front(name, PARTED, patience_s=15.0)
    hasty = own.front(name, PARTED, patience_s=HURRY_S)
    acknowledged: dict[int, int] = {}
    try:
        async with opened(front, hasty):
            await fill(front, many(500))
            acknowledged.update(dict.fromkeys(range(500), 1))
            stop = asyncio.Event()

            async def deposit(first: int) -> None:
                seq = 1
                while not stop.is_set():
                    seq += 1
                    for number in range(first, first + 20):
                        try:
                            if await front.put([pair(packet(number, seq))]) == ["accepted"]:
                                acknowledged[number] = seq
                        except Unavailable:
                            pass
                    await asyncio.sleep(0)

            depositing = [asyncio.create_task(deposit(first)) for first in range(0, 80, 20)]

            async def goes_on(least: int) -> bool:
                return min(acknowledged[number] for number in range(80)) >= least

            await until(lambda: goes_on(3))
            leader = own.servers.leader()
            leader.kill()
            if len(own.servers.processes) == 1:
                await until(lambda: refuses(front))
                own.servers.start()
            so_far = max(acknowledged.values())
            await until(lambda: goes_on(so_far + 2))
            stop.set()
            await asyncio.gather(*depositing)
            own.servers.start()

            async def read_back() -> bool:
                """What was stored without an acknowledgement may be newer than what was acknowledged."""
                numbers = list(acknowledged)
                for start in range(0, len(numbers), 20):
                    some = numbers[start : start + 20]
                    held = await asyncio.gather(*(front.get(packet(number).node) for number in some))
                    for number, data in zip(some, held, strict=True):
                        if data is None or Packet.from_cbor(data).seq < acknowledged[number]:
                            return False
                        acknowledged[number] = Packet.from_cbor(data).seq
                return True

            if not own.compares:  # fronts put back what the server lost, and put right what it mixed up
                await until(read_back)
            assert await read_back()

            async def nothing_lost() -> bool:
                current = [packet(number, seq) for number, seq in acknowledged.items()]
                return await answers(front, current) and await answers(hasty, current)

            await until(nothing_lost)
            own.servers.kill()
            await until(lambda: refuses(hasty))
            for work in (hasty.put([pair(packet(1000))]), hasty.get(b"x"), hasty.bucket(0), hasty.note("x")):
                with pytest.raises(Unavailable, match=own.servers.scheme):
                    await work
            own.servers.start()
            assert await front.put([pair(packet(1000))]) in (["accepted"], ["stale"])  # it may have been on its way
            acknowledged[1000] = 1
            await until(nothing_lost)
            for each in own.servers.processes:
                each.suspend()
            await until(lambda: refuses(front))
            for each in own.servers.processes:
                each.resume()
            await until(nothing_lost)
            assert await front.put([pair(packet(2000))]) == ["accepted"]
            acknowledged[2000] = 1
            async with opened(late := own.front(name)):

                async def all_there() -> bool:
                    there = await kept(late)
                    seqs = {node: [Packet.from_cbor(data).seq for data in held] for node, held in there.items()}
                    wanted = {packet(number).node: [seq] for number, seq in acknowledged.items()}
                    current = [packet(number, seq) for number, seq in acknowledged.items()]
                    return seqs == wanted and await answers(late, current)

                if not own.compares:
                    await until(all_there)
                assert await all_there()
    finally:
        own.stop()


async def test_what_others_wrote_beside_the_packets_is_left_out(served: Served, name: str) -> None:
    front = served.front(name)
    async with opened(front):
        good = many(50)
        await fill(front, good)
        stranger = Packet("tests", b"12345678", "other", b"n" + bytes(4), 9, 1.0, 2.0, good[0].fingerprint, "a")
        of_other_d = packet(1, 9, fingerprint=np.zeros(3, dtype=np.float32))
        for key, value in (
            ("1/0000/stranger", stranger.to_cbor()),
            ("1/0000/other-d", of_other_d.to_cbor()),
            ("1/0000/nonsense", b"\xff" * 2000),
            ("1/0000/empty", b""),
        ):
            await served.meddle(name, key, value)

        async def noticed() -> bool:
            await front.bucket(0)  # only what looks at it can notice
            return front.foreign >= 3  # to a broker, an empty message is none

        await until(noticed)
        assert await answers(front, good)
        assert await kept(front) == {each.node: [each.to_cbor()] for each in good}
        assert await front.get(b"nonsense") is None
        async with opened(late := served.front(name)):
            assert await answers(late, good)
            census = await late.census()
            assert late.foreign >= 3
            assert len(census.nodes) == len(good)


async def test_the_store_of_another_network_is_refused(served: Served, name: str) -> None:
    async with opened(served.front(name)):
        other = served.front(name, home=Home(HOME.domain, HOME.space8, "other"))
        with pytest.raises(ConfigError, match=f"{name} keeps the packets of 'net', not of 'other'"):
            await other.open()


@pytest.mark.parametrize("which", SERVED, ids=lambda each: each.name)
async def test_credentials(which: type[Served], tmp_path: Path, name: str) -> None:
    own = which.guarded(tmp_path)
    own.start()
    try:
        good = own.front(name, user="kindred", password=own.password)
        async with opened(good):
            assert await good.put([pair(packet(1))]) == ["accepted"]
        for guarded in ({"user": "kindred", "password": "wrong"}, {}):
            with pytest.raises(NotGranted, match="wrong user or password") as refusal:
                await own.front(name, **guarded).open()
            assert own.password not in refusal.value.detail
    finally:
        own.stop()


async def test_nobody_there(served: Served, name: str) -> None:
    url = f"{served.servers.scheme}://127.0.0.1:{free_port()}/{name}"
    front = engine_at(EngineAddress.parse(url, "net"), HOME, D, patience_s=HURRY_S)
    with pytest.raises(Unavailable, match=url):
        await front.open()


@pytest.mark.parametrize("which", SERVED, ids=lambda each: each.name)
async def test_a_server_that_is_too_old(which: type[Served], name: str) -> None:
    async with which.antique() as port:
        address = EngineAddress.parse(f"{which.name}://127.0.0.1:{port}/{name}", "net")
        with pytest.raises(ConfigError, match="or later is needed"):
            await engine_at(address, HOME, D, patience_s=HURRY_S).open()


@pytest.mark.parametrize("name", ["a.b", "a/b", "a b", "a*", ">", "a#", "a+", "a:b", "{a}", "-a", "a" * 65, "ä"])
@pytest.mark.parametrize("which", SERVED, ids=lambda each: each.name)
def test_a_name_with_a_separator_in_it(which: type[Served], name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits and hyphens"):
        EngineAddress.parse(f"{which.name}://127.0.0.1/{name}".replace("#", "%23"), "net")
