"""The registry over HTTP, asked by its own client and by clients that no one would want."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from sample_members import DIMENSION, KEYS, SCHEMA, Registry, coverage, open_registry, region, renewal, schema, signed

from registry.clock import ManualClock, SystemClock
from registry.errors import (
    Conflict,
    InputError,
    NotGranted,
    SignatureError,
    TooLarge,
    Unavailable,
    UnknownName,
)
from registry.http.client import RegistryClient
from registry.jsontext import loads
from registry.publishing.publisher import PublisherTimes
from registry.service import registry_app

QUICK = PublisherTimes(coalesce_s=0.01)

PROCESS = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
sys.path.insert(0, "tests/registry")
from sample_members import open_registry
from registry.clock import SystemClock
from registry.publishing.publisher import PublisherTimes
from registry.service import registry_app
clock = SystemClock()
opened = open_registry(Path(sys.argv[1]), clock, PublisherTimes(coalesce_s=0.01))
app = registry_app(opened.enrolment, opened.publisher, clock)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=lambda _: print("ready", flush=True))
"""


@dataclass(frozen=True)
class Served:
    """A registry with the machine's clock behind a real socket."""

    registry: Registry[SystemClock]
    client: RegistryClient
    session: aiohttp.ClientSession
    base: str
    port: int

    def now(self) -> float:
        """Seconds since the epoch, as the registry has it."""
        return self.registry.clock.now()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    clock = SystemClock()
    opened = open_registry(tmp_path, clock, QUICK)
    server = TestServer(registry_app(opened.enrolment, opened.publisher, clock, body_timeout_s=0.2))
    await server.start_server()
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:
        yield Served(opened, RegistryClient(session, base), session, base, server.port or 0)
    await server.close()
    opened.journal.close()


async def test_a_coverage_is_answered_after_it_is_published(served: Served) -> None:
    document = signed("north", 3, served.now())
    reply = await served.client.put_coverage("north", document)
    assert reply.serial == 3
    state = served.registry.publisher.state("crash.vehicles")
    assert state.serials == {"north": 3}
    assert state.serial >= reply.published
    known = await served.client.network("north")
    assert (known.serial, known.published) == (3, 3)
    again = await served.client.put_coverage("north", document)
    assert again.serial == 3
    assert again.published >= reply.published
    leased = await served.client.put_lease("north", renewal("north", 3, served.now(), lease_s=300.0))
    assert leased.serial == 3
    assert leased.until > served.now() + 290


async def test_refusals_reach_the_network_by_kind(served: Served) -> None:
    now = served.now()
    await served.client.put_coverage("north", signed("north", 3, now))
    with pytest.raises(Conflict, match="does not exceed 3") as caught:
        await served.client.put_coverage("north", signed("north", 2, now))
    assert caught.value.where["serial"] == 3
    with pytest.raises(SignatureError):
        await served.client.put_coverage("north", coverage("north", 4, now).document(KEYS["stranger"]))
    with pytest.raises(NotGranted):
        await served.client.put_coverage("north", signed("north", 4, now, domain="drives"))
    with pytest.raises(UnknownName):
        await served.client.put_coverage("nobody", signed("north", 4, now))
    with pytest.raises(UnknownName):
        await served.client.network("nobody")
    with pytest.raises(Conflict, match="space"):
        await served.client.put_coverage("north", signed("north", 4, now, space="0" * 64))
    odd: dict[str, Any] = {"regions": (region("r", 0.0, actions=("maybe",)),)}
    with pytest.raises(InputError, match="maybe"):
        await served.client.put_coverage("north", signed("north", 4, now, **odd))
    with pytest.raises(Conflict, match="send the coverage"):
        await served.client.put_lease("south", renewal("south", 1, now))
    with pytest.raises(TooLarge):
        await served.client.put_lease("north", signed("north", 4, now, amount=60))
    assert (await served.client.network("north")).serial == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"v": 1, "v": 1}', "'v' stands twice"),
        (b'{"serial": 123456789012345678901234567890}', "beyond"),
        (b'{"radius": NaN}', "NaN"),
        (b'{"radius": 1e999}', "64-bit float"),
        (b"[" * 2000 + b"]" * 2000, "nested deeper"),
        (b"\xff{}", "UTF-8"),
        (b"", "line 1"),
        (b"[1]", "object is wanted"),
    ],
)
async def test_strange_json_is_refused_by_name(served: Served, body: bytes, message: str) -> None:
    for place in ("coverage", "lease"):
        async with served.session.put(f"{served.base}/v1/networks/north/{place}", data=body) as response:
            problem = await response.json(content_type="application/problem+json")
            assert response.status == problem["status"] == 400
            assert message in problem["detail"]


async def test_a_body_that_never_comes_is_not_waited_for(served: Served) -> None:
    head = b"PUT /v1/networks/north/coverage HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(20)]
    for _, writer in connections:
        writer.write(head)
    for reader, writer in connections:
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_body_beyond_the_cap_is_not_read(served: Served) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    try:
        async with served.session.put(f"{served.base}/v1/networks/north/coverage", data=endless()) as response:
            assert response.status in {408, 413}
    except aiohttp.ClientError:
        pass  # closed while we still sent: also an answer
    assert (await served.client.network("north")).serial == 0


async def test_listings(served: Served) -> None:
    await served.client.put_coverage("north", signed("north", 3, served.now(), schema="ab" * 32))

    async def get(path: str) -> Any:
        async with served.session.get(served.base + path) as response:
            return response.status, loads(await response.read())

    status, listed = await get("/v1/networks")
    assert status == 200
    by_name = {network["name"]: network for network in listed["networks"]}
    assert set(by_name) == {"north", "south", "west"}
    north = by_name["north"]
    assert north["endpoints"] == ["http://127.0.0.1:9/north"]
    assert north["coverage"]["regions"] == 5
    assert not north["coverage"]["lapsed"]
    assert not north["coverage"]["schema_is_ours"]
    assert north["withheld"] is None
    assert by_name["south"]["coverage"] is None
    assert by_name["south"]["serial"] == 0
    assert (await get("/v1/networks/north"))[1] == north
    _, drives = await get("/v1/networks?domain=drives")
    assert [network["name"] for network in drives["networks"]] == ["west"]
    assert (await get("/v1/networks?domain=medicine"))[0] == 404
    _, domains = await get("/v1/domains")
    crash = next(domain for domain in domains["domains"] if domain["name"] == "crash.vehicles")
    assert (crash["networks"], crash["regions"], crash["packets"], crash["cells"]) == (2, 5, 31, 1)
    assert crash["dimension"] == DIMENSION
    assert crash["generation"] > 0
    assert (await get("/v1/domains/crash.vehicles/schema")) == (200, dict(SCHEMA.document))
    assert (await get("/v1/domains/medicine/schema"))[0] == 404
    assert (await get("/healthz"))[0] == 200
    assert (await get("/readyz")) == (200, {"status": "ready", "waiting": {}})
    assert (await get("/v1/elsewhere"))[0] == 404


async def test_what_is_withheld_is_listed_with_its_reason(tmp_path: Path) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 3, clock.now()))
    before.journal.close()
    after = open_registry(tmp_path, clock, schemas={"crash.vehicles": schema(scale=2.0), "drives": SCHEMA})
    server = TestServer(registry_app(after.enrolment, after.publisher, clock))
    await server.start_server()
    url = f"http://127.0.0.1:{server.port}/v1/networks/north"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        north = await response.json()
    assert (north["coverage"], north["serial"]) == (None, 3)
    assert "another domain or space" in north["withheld"]
    await server.close()
    after.journal.close()


async def test_not_ready_before_the_first_publication(tmp_path: Path) -> None:
    clock = ManualClock()
    opened = open_registry(tmp_path, clock)
    app = registry_app(opened.enrolment, opened.publisher, clock)
    app.cleanup_ctx.clear()
    server = TestServer(app)
    await server.start_server()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}/readyz") as response:
        assert response.status == 503
        assert set((await response.json())["waiting"]) == {"crash.vehicles", "drives"}
    await server.close()
    opened.journal.close()


async def _answer(request: web.Request) -> web.StreamResponse:
    kind = request.match_info["kind"]
    if kind == "html":
        return web.Response(text="<html>hello</html>", content_type="text/html")
    if kind == "moved":
        raise web.HTTPFound("http://127.0.0.1:1/")
    if kind == "huge":
        return web.Response(body=b" " * (2 * 1024 * 1024))
    if kind == "odd":
        return web.json_response({"serial": "3", "published": True})
    if kind == "bad-problem":
        return web.json_response({"detail": None, "self": 1, "serial": 7}, status=409)
    await asyncio.sleep(60)
    raise AssertionError


async def test_a_registry_that_is_none_is_unavailable(aiohttp_server: Any) -> None:
    app = web.Application()
    app.router.add_get("/{kind}/v1/networks/north", _answer)
    server = await aiohttp_server(app)
    async with aiohttp.ClientSession() as session:
        for kind, message in (
            ("html", "no JSON object"),
            ("moved", "302"),
            ("huge", "more than"),
            ("odd", "whole number"),
            ("silent", "no answer within"),
        ):
            client = RegistryClient(session, f"http://127.0.0.1:{server.port}/{kind}")
            with pytest.raises(Unavailable, match=message):
                await client.network("north", timeout_s=0.3 if kind == "silent" else 10.0)
        with pytest.raises(Conflict, match="409") as caught:
            await RegistryClient(session, f"http://127.0.0.1:{server.port}/bad-problem").network("north")
        assert caught.value.where == {"serial": 7}
        with pytest.raises(Unavailable, match="Connect"):
            await RegistryClient(session, f"http://127.0.0.1:{unused_port()}").network("north")


async def test_a_killed_registry_comes_back_as_it_was(tmp_path: Path) -> None:
    port, serial, zone = unused_port(), 0, 0
    async with aiohttp.ClientSession() as session:
        client = RegistryClient(session, f"http://127.0.0.1:{port}")
        for amount in (2, 3):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROCESS, str(tmp_path), str(port), stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            async with asyncio.timeout(20):
                assert b"ready" in await process.stdout.readline()
            assert (await client.network("north")).serial == serial
            for _ in range(amount):
                serial += 1
                reply = await client.put_coverage("north", signed("north", serial, SystemClock().now()))
                assert reply.published > zone
                zone = reply.published
            process.send_signal(signal.SIGKILL)
            await process.wait()
    after = open_registry(tmp_path, SystemClock())
    held = after.enrolment.holding("north")
    assert held is not None
    assert held.coverage.serial == serial
    assert not held.lapsed(after.clock)
    running = asyncio.create_task(after.publisher.run())
    async with asyncio.timeout(10):
        assert await after.publisher.published("north", serial) > zone
    running.cancel()
    assert after.publisher.state("crash.vehicles").generation == 1, "it goes on where it was"
    after.journal.close()
