"""The architecture does not care which path is chosen: the same packets, the same questions, one answer, N ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from examples.ways import SERVED, Asked, Gone, Pool, Way, apart, deposit, federation_yaml, go, name_of, questions, ways
from tests.acceptance.federated import Federated, federated
from tests.engines.dht_ring import DhtRing
from tests.engines.milvus_server import MilvusServer
from tests.engines.servers import EtcdServers, MqttBroker, NatsServers, RedisServer, Servers, some_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")

PACKETS = 20_000
QUESTIONS = 300
K = 50
AT_ONCE = {"milvus": 8, "mixed": 8}  # questions under way: Milvus waits before it answers, and computes nothing then

# Every server that keeps packets; examples/ways.py says by its scheme which ways lead over it.
SERVERS: dict[str, Callable[[Path], Servers]] = {
    "nats": lambda home: NatsServers(home, 1),
    "mqtt": MqttBroker,
    "etcd": lambda home: EtcdServers(home, 1),
    "redis": RedisServer,
    "milvus": MilvusServer,
    "dht": DhtRing,
}
WAYS = ["one", "shards", "regions", *(name_of(scheme, serve) for scheme, serve, alone in SERVED if alone), "mixed"]


@dataclass
class Ways:
    """The running federation that has every way. absent: by scheme, how to get what is missing here."""

    kindred: Federated
    pool: Pool
    asked: Sequence[Asked]
    chosen: dict[str, Way]
    absent: dict[str, str]
    gone: list[Gone] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def every(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ways]:
    home = tmp_path_factory.mktemp("ways")
    started: list[Servers] = []
    absent: dict[str, str] = {}
    try:
        for scheme, which in SERVERS.items():
            (home / scheme).mkdir()
            try:
                started.append(which(home / scheme))
            except pytest.skip.Exception as missing:
                absent[scheme] = str(missing)
        pool, *_ = await asyncio.gather(
            asyncio.to_thread(Pool.read, PACKETS), *(asyncio.to_thread(each.start) for each in started)
        )
        chosen = ways(pool, {each.scheme: each.url("").removesuffix("/") for each in started})
        ports = dict(zip(("dns", "http", "gateway", "networks"), some_ports(4), strict=True))
        async with federated(home, federation_yaml(chosen, ports)) as kindred:
            yield Ways(kindred, pool, questions(pool, QUESTIONS, K), {way.name: way for way in chosen}, absent)
    finally:
        for each in started:
            each.kill()


def chosen(every: Ways, name: str) -> Way:
    """A way, unless the server that it leads over is missing."""
    if name not in every.chosen:
        pytest.skip(every.absent[name.removesuffix("-read")])
    return every.chosen[name]


@pytest.mark.parametrize("name", WAYS)
async def test_the_packets_are_taken_and_covered(every: Ways, name: str) -> None:
    await deposit(every.kindred.config, every.pool, [chosen(every, name)])


@pytest.mark.parametrize("name", WAYS)
async def test_the_neighbours_are_those_of_brute_force(every: Ways, name: str) -> None:
    """All of them, in the one total order, with their distances, proved complete."""
    way, at_once = chosen(every, name), AT_ONCE.get(name, 4)
    gone = await go(every.kindred.federation, every.pool, way, every.asked, at_once)
    every.gone.append(gone)
    assert gone.differences == 0


async def test_the_estimates_are_the_same_to_the_last_bit(every: Ways) -> None:
    """Wherever the neighbours are the same: a tie at the K-th place goes by the networks' names."""
    assert sum(each.decided for each in every.asked) > QUESTIONS / 2
    assert {way.name for way in every.chosen.values()} == {each.way.name for each in every.gone}
    assert apart(every.gone, every.asked) == dict.fromkeys(every.chosen, 0)
