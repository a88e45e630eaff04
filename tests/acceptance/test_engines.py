"""A network whose packets a server keeps, chosen by one line: its answers, and its disposition when the server dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.ways import pooled
from regional.engines.opening import READABLE
from tests.acceptance.federated import Document, federated, situation, until, write_slice
from tests.engines.milvus_server import MilvusServer
from tests.engines.servers import EtcdServers, MqttBroker, NatsServers, RedisServer, Servers

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


async def answer(home: Path, engine: str) -> Document:
    """What a federation says whose network `near` has this engine."""
    write_slice("nass_cds_crash", home, 50).rename(home / "rows.csv")
    async with federated(home, FEDERATION.replace("ENGINE", engine)) as kindred:
        await kindred.deposit()
        return await kindred.ask(domain="crash.vehicles", situation=situation("crash"), k=20)


def without_clock(document: Document) -> Document:
    return {name: document[name] for name in ("found", "neighbours", "synthesis", "tied_at_k")}


@pytest.fixture(scope="module")
def of_the_embedded(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """What the federation says whose networks keep their packets themselves."""
    return asyncio.run(answer(tmp_path_factory.mktemp("embedded"), ""))


SERVERS: dict[str, Callable[[Path], Servers]] = {
    "nats": lambda home: NatsServers(home, 1),
    "mqtt": MqttBroker,
    "etcd": lambda home: EtcdServers(home, 1),
    "redis": RedisServer,
}


@pytest.mark.parametrize(
    ("scheme", "serve"), [*((scheme, "network") for scheme in SERVERS), *((scheme, "engine") for scheme in READABLE)]
)
async def test_one_line_is_all_it_takes(tmp_path: Path, of_the_embedded: Document, scheme: str, serve: str) -> None:
    """The file, the rows and the question are the same; so is the answer, whoever is asked for the packets."""
    own = SERVERS[scheme](tmp_path)
    await asyncio.to_thread(own.start)
    try:
        line = f", engine: '{own.url('near')}', serve: {serve}"
        found, expected = without_clock(await answer(tmp_path, line)), without_clock(of_the_embedded)
        if serve == "engine":  # a network that is not asked shows no table of moments either
            found, expected = pooled(found), pooled(expected)
        assert found == expected
    finally:
        own.kill()


async def test_one_line_moves_a_network_to_a_server(tmp_path: Path) -> None:
    """The same answer, to the last bit; while the server is down the network has failed, and others answer."""
    for part in ("embedded", "redis"):
        (tmp_path / part).mkdir()
    server = RedisServer(tmp_path)
    server.start()
    try:
        expected = await answer(tmp_path / "embedded", "")
        home = tmp_path / "redis"
        write_slice("nass_cds_crash", home, 50).rename(home / "rows.csv")
        async with federated(home, FEDERATION.replace("ENGINE", f", engine: '{server.url('near')}'")) as kindred:
            await kindred.deposit()
            question = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 20}
            assert without_clock(await kindred.ask(**question)) == without_clock(expected)
            server.kill()

            async def dispositions() -> dict[str, str]:
                networks = (await kindred.ask(**question))["networks"]
                return {each["name"]: each["disposition"] for each in networks}

            async def failed() -> bool:
                return (await dispositions())["near"] == "failed"

            await until(failed)
            broken = await kindred.ask(**question)
            assert not broken["certificate"]["neighbours_complete"]
            assert [each["network"] for each in broken["certificate"]["missing"]] == ["near"]
            assert (await dispositions())["far"] == "answered"
            await asyncio.to_thread(server.start)

            async def answered() -> bool:
                return set((await dispositions()).values()) == {"answered"}

            await until(answered)
            assert without_clock(await kindred.ask(**question)) == without_clock(expected)
    finally:
        server.stop()


async def test_one_line_moves_a_network_to_a_vector_database(tmp_path: Path) -> None:
    """The same answer, to the last bit, though the server searches by itself."""
    for part in ("embedded", "milvus"):
        (tmp_path / part).mkdir()
    server = MilvusServer(tmp_path)
    await asyncio.to_thread(server.start)
    try:
        expected = await answer(tmp_path / "embedded", "")
        home = tmp_path / "milvus"
        write_slice("nass_cds_crash", home, 50).rename(home / "rows.csv")
        async with federated(home, FEDERATION.replace("ENGINE", f", engine: '{server.url('near')}'")) as kindred:
            await kindred.deposit()

            async def same() -> bool:
                found = await kindred.ask(domain="crash.vehicles", situation=situation("crash"), k=20)
                assert found["certificate"]["neighbours_complete"]
                assert found["neighbours"] == expected["neighbours"]
                return without_clock(found) == without_clock(expected)

            await until(same)  # what the networks say of the whole comes later
    finally:
        server.kill()
