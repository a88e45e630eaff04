"""A network over real HTTP, and the client that asks it; then the client against what is no network."""

import asyncio
import gzip
import json
import logging
from contextlib import asynccontextmanager, suppress

import aiohttp
import cbor2
import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from regional.advertiser import Advertiser
from regional.client import (
    Failed,
    NearestReply,
    NearestRequest,
    NetworkClient,
    Refused,
    TimedOut,
    _reply,
)
from regional.connections import Connections
from regional.engines.embedded.writer import Writer
from regional.packets.packet import identity_digest, node_text
from regional.packets.packetcbor import split_sequence
from regional.service import network_app
from registry.clock import ManualClock
from registry.errors import PacketError
from registry.http.httpserver import HttpServer
from tests.regional.support import KEY, SCHEMA, D, FakeRegistry, make_network, packet


@pytest.fixture
async def network(tmp_path):
    writer = Writer()
    made = make_network(tmp_path / "one", writer, ManualClock())
    await made.open()
    yield made
    await made.close()
    writer.close()


@asynccontextmanager
async def serving(app, **options):
    server = HttpServer(app, "127.0.0.1", 0, **options)
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.close()


@pytest.fixture
async def base(network):
    async with serving(network_app({"one": network}, body_s=0.3), head_s=0.3, idle_s=0.5) as url:
        yield url


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def client():
    async with Connections() as connections:
        yield NetworkClient(connections)


def question(**changes) -> NearestRequest:
    point = np.zeros(D, dtype=np.float32)
    asked = {"domain": "toys", "network": "one", "space": SCHEMA.space, "fingerprint": point, "k": 3, **changes}
    return NearestRequest(**asked)


async def post(session, url, body, content_type="application/json", **headers):
    sent = {"Content-Type": content_type, **headers}
    async with session.post(url, data=body, headers=sent) as response:
        return response.status, json.loads(await response.read())


async def test_deposit_and_ask(base, client, network):
    report = await client.deposit(f"{base}/one", [packet(i, action="ab"[i % 2]) for i in range(50)], 5)
    assert (report.accepted, report.stale, report.rejected) == (50, 0, ())
    reply = await client.nearest(f"{base}/one", question(), 5)
    at_two = min((packet(i).node for i in (2, 20)), key=lambda node: identity_digest("one", node))
    assert [each.node for each in reply.packets if each.action == "a"] == [packet(0).node, packet(10).node, at_two]
    assert reply.tied["a"] == 2
    assert not reply.truncated
    together = await client.nearest(f"{base}/one", question(per="all", k=2, within=1.0), 5)
    assert {each.node for each in together.packets} <= {packet(i).node for i in (0, 1, 10)}
    assert set(together.tied) == {""}
    only = await client.nearest(f"{base}/one", question(actions=("b",), within={"b": 1.0}), 5)
    assert [each.node for each in only.packets] == [packet(1).node]


async def test_coverage_schema_and_readiness(base, client, session, network):
    async with session.get(f"{base}/readyz") as response:
        assert response.status == 503
        assert (await response.json())["waiting"] == ["one"]
    await client.deposit(f"{base}/one", [packet(i) for i in range(30)], 5)
    state = await client.coverage(f"{base}/one", 5)
    assert (state.published, state.packets, state.uncovered, state.pending, state.document) == (0, 30, 30, True, None)
    await Advertiser(network, FakeRegistry(), KEY, ManualClock()).step()
    state = await client.coverage(f"{base}/one", 5)
    assert (state.published, state.packets, state.uncovered, state.pending) == (1, 30, 0, False)
    assert state.document["serial"] == 1
    for path in ("readyz", "healthz", "one/readyz", "one/healthz"):
        async with session.get(f"{base}/{path}") as response:
            assert response.status == 200
    async with session.get(f"{base}/one/v1/schema") as response:
        assert (await response.json()) == SCHEMA.document
        assert response.headers["ETag"] == f'"{SCHEMA.digest.hex()}"'


async def test_json_and_ndjson_deposits_name_the_line(base, session):
    good, other = packet(1).to_json(), packet(2).to_json()
    status, report = await post(session, f"{base}/one/v1/packets", json.dumps([good, {**other, "seq": -1}, 7]))
    assert (status, report["accepted"]) == (200, 1)
    assert [(each["line"], each["path"]) for each in report["rejected"]] == [(2, "seq"), (3, "")]
    lines = b"\n".join([json.dumps(other).encode(), b'{"v": 1, "v": 1}', b"", json.dumps(good).encode()])
    status, report = await post(session, f"{base}/one/v1/packets", lines, "application/x-ndjson")
    assert (report["accepted"], report["stale"]) == (1, 1)
    assert [each["line"] for each in report["rejected"]] == [2, 3]
    assert "stands twice" in report["rejected"][0]["reason"]
    third = json.dumps(packet(3).to_json()).encode()
    status, report = await post(session, f"{base}/one/v1/packets?atomic=1", third + b"\n{}\n", "application/x-ndjson")
    assert (report["accepted"], len(report["rejected"])) == (0, 1)
    status, report = await post(session, f"{base}/one/v1/packets", third)
    assert report["accepted"] == 1


async def test_a_cbor_sequence_rejects_packet_by_packet(base, session):
    wrong = packet(2).to_cbor().replace(b"\x05\x01", b"\x05\x18\x01", 1)  # seq in a longer head than it needs
    body = packet(1).to_cbor() + wrong + packet(3).to_cbor()
    status, report = await post(session, f"{base}/one/v1/packets", body, "application/cbor-seq")
    assert (status, report["accepted"], [each["line"] for each in report["rejected"]]) == (200, 2, [2])
    status, problem = await post(session, f"{base}/one/v1/packets", body[:-1], "application/cbor-seq")
    assert status == 400
    assert "cut short" in problem["detail"]


async def test_one_packet_by_its_node(base, session, client):
    await client.deposit(f"{base}/one", [packet(1)], 5)
    url = f"{base}/one/v1/packets/{node_text(packet(1).node)}"
    async with session.get(url) as response:
        assert await response.json() == packet(1).to_json()
    async with session.get(url, headers={"Accept": "application/cbor"}) as response:
        assert await response.read() == packet(1).to_cbor()
    async with session.delete(url) as response:
        assert (await response.json())["seq"] == 2
    async with session.get(url) as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
    async with session.get(f"{base}/one/v1/packets/a!") as response:
        assert response.status == 400


SPACE = SCHEMA.space.hex()


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 400, "space"),
        ({"space": "00", "fingerprint": [0] * D, "k": 1}, 409, "space"),
        ({"space": SPACE, "fingerprint": [0] * (D + 1), "k": 1}, 400, "fingerprint"),
        ({"space": SPACE, "fingerprint": [0] * (D - 1) + [1e39], "k": 1}, 400, "fingerprint"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 0}, 400, "k is 0"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": -3}, 400, "k is -3"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1_000_000}, 400, "k is 1000000"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": True}, 400, "k is True"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "per": "x"}, 400, "per"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "per": "all", "within": {"a": 1}}, 400, "within"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "within": "x"}, 400, "within"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "actions": ["z"]}, 400, "'z'"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "actions": "a"}, 400, "actions"),
        ({"space": SPACE, "fingerprint": [0] * D, "k": 1, "radius": 3}, 400, "radius"),
        ([], 400, "object"),
        (b'{"k": 1, "k": 2}', 400, "twice"),
        (b'{"k": 123456789012345678901234567890}', 400, "2^53"),
        (b"[" * 2000, 400, "nested"),
        (b'{"k": NaN}', 400, "NaN"),
        (b'{"k": ', 400, "line 1"),
        (b" " * 70_000, 413, "65536"),
    ],
)
async def test_bad_questions_get_a_problem(base, session, body, status, named):
    sent = body if isinstance(body, bytes) else json.dumps(body)
    found, problem = await post(session, f"{base}/one/v1/nearest", sent)
    assert found == status
    assert problem["status"] == status
    assert named in problem["detail"]


async def test_other_bad_requests(base, session):
    assert (await post(session, f"{base}/two/v1/nearest", b"{}"))[0] == 404
    assert (await post(session, f"{base}/one/v1/packets", b"", "text/csv"))[0] == 415
    assert (await post(session, f"{base}/one/v1/packets?atomic=yes", b"[]"))[0] == 400
    assert (await post(session, f"{base}/one/v1/packets", b"[]"))[0] == 200
    late = {"Kindred-Deadline-Ms": "0"}
    assert (await post(session, f"{base}/one/v1/nearest", b"{}", **late))[0] in (400, 503)
    odd = {"Kindred-Deadline-Ms": "soon"}
    assert (await post(session, f"{base}/one/v1/nearest", b"{}", **odd))[0] == 400
    async with session.get(f"{base}/one/v1/nearest") as response:
        assert response.status == 405


async def test_the_deadline_of_a_request_is_kept(network, session, client, monkeypatch):
    async def never(query):
        await asyncio.Event().wait()

    monkeypatch.setattr(network._engine, "nearest", never)
    async with serving(network_app({"one": network})) as base:
        body = {"space": SPACE, "fingerprint": [0] * D, "k": 1}
        status, problem = await post(
            session, f"{base}/one/v1/nearest", json.dumps(body), **{"Kindred-Deadline-Ms": "30"}
        )
        assert (status, "0.03 s" in problem["detail"]) == (503, True)
        with pytest.raises(TimedOut):
            await client.nearest(f"{base}/one", question(), 0.02)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /one/v1/nearest HTTP/1.1\r\nHost: x\r\n",
        b"POST /one/v1/nearest HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz",
    ],
)
async def test_half_sent_requests_are_cut_off(base, sent):
    connections = [await asyncio.open_connection("127.0.0.1", int(base.rsplit(":", 1)[1])) for _ in range(10)]
    async with asyncio.timeout(10):
        for _, writer in connections:
            writer.write(sent)
        for reader, writer in connections:
            with suppress(ConnectionResetError):
                while await reader.read(65536):
                    pass
            writer.close()


async def test_nothing_of_a_question_is_logged(base, client, session, caplog):
    caplog.set_level(logging.DEBUG)
    canary = packet(12345678, point=(123.456, 7.0))
    await client.deposit(f"{base}/one", [canary], 5)
    await client.nearest(f"{base}/one", question(fingerprint=canary.fingerprint), 5)
    async with session.delete(f"{base}/one/v1/packets/{node_text(canary.node)}") as response:
        assert response.status == 200
    await post(session, f"{base}/one/v1/packets", json.dumps({**canary.to_json(), "seq": -1}))
    written = caplog.text
    for secret in (node_text(canary.node), canary.to_json()["fingerprint"], "123.456", canary.node.hex()):
        assert secret not in written


# ---- the client against what is no network -------------------------------------------------------------------


def members(*packets):
    return [each.to_cbor() for each in packets]


GOOD = {"serial": 3, "packets": members(packet(1)), "tied": {"a": 1}, "truncated": False}


def answering(body, status=200, content_type="application/cbor", **headers):
    async def handler(request):
        await request.read()
        return web.Response(body=body, status=status, content_type=content_type, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return serving(app)


def changed(**members):
    return cbor2.dumps({**GOOD, **members})


@pytest.mark.parametrize(
    ("body", "options", "failure", "named"),
    [
        (b"<html>", {"content_type": "text/html"}, Failed, "text/html"),
        (b"", {}, Failed, "CBOR"),
        (b"\x00\xff" * 50, {}, Failed, "packets"),
        (cbor2.dumps({"serial": 1}), {}, Failed, "packets"),
        (changed(serial=-1), {}, Failed, "wrong type"),
        (changed(truncated=0), {}, Failed, "wrong type"),
        (changed(tied={"a": -1}), {}, Failed, "tied"),
        (changed(tied={"a": 1.5}), {}, Failed, "tied"),
        (changed(tied={"a": 2**70}), {}, Failed, "tied"),
        (changed(tied={"a": 2**40 + 1}), {}, Failed, "tied"),
        (changed(tied={"b": 1}), {}, Failed, "not asked for"),
        (changed(tied={"": 1}), {}, Failed, "not asked for"),
        (changed(serial=2**53), {}, Failed, "wrong type"),
        (changed(packets=[b"x"]), {}, Failed, "no packet"),
        (changed(packets=[1]), {}, Failed, "octets"),
        (changed(packets=members(packet(1), packet(1))), {}, Failed, "twice"),
        (changed(packets=members(*map(packet, range(4)))), {}, Failed, "more than k=3"),
        (changed(packets=members(packet(1, action="b"))), {}, Failed, "not asked for"),
        (changed(packets=members(packet(1, space8=b"12345678"))), {}, Failed, "space"),
        (b"x" * 100_000, {}, Failed, "longer than"),
        (changed(), {"Content-Encoding": "gzip"}, Failed, "compressed"),
        (gzip.compress(changed()), {"Content-Encoding": "gzip"}, Failed, "compressed"),
        (b"", {"status": 302, "Location": "http://127.0.0.1:1/"}, Failed, "302"),
        (b"{}", {"status": 500}, Failed, "500"),
        (b'{"detail": "no tenants today"}', {"status": 403}, Refused, "no tenants today"),
        (b'{"detail": "other space"}', {"status": 409}, Refused, "other space"),
        (b"\xff", {"status": 429}, Refused, "429"),
    ],
)
async def test_each_failure_is_named(client, body, options, failure, named):
    async with answering(body, **options) as base:
        with pytest.raises(failure) as caught:
            await client.nearest(base, question(actions=("a",)), 5)
    assert named in caught.value.detail


async def test_nobody_there_and_nobody_answering(client):
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TimedOut, match="50 ms"):
        await client.nearest(f"http://127.0.0.1:{port}", question(), 0.05)
    server.close()
    with pytest.raises(Failed, match="Connect"):
        await client.nearest("http://127.0.0.1:1", question(), 5)
    with pytest.raises(Failed):
        await client.nearest("no url", question(), 5)


async def test_an_endless_body_is_cut(client):
    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": "application/cbor"})
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    app = web.Application()
    app.router.add_post("/v1/nearest", endless)
    async with serving(app) as base:
        with pytest.raises(Failed, match="longer than"):
            await client.nearest(base, question(), 5)


async def test_a_good_reply_is_taken(client):
    async with answering(changed()) as base:
        reply = await client.nearest(base, question(), 5)
    assert isinstance(reply, NearestReply)
    assert [each.node for each in reply.packets] == [packet(1).node]


@given(st.binary(max_size=60), st.integers(0, 300), st.integers(0, 255))
def test_no_reply_raises_anything_but_failed(noise, at, byte):
    damaged = bytearray(changed())
    damaged[at % len(damaged)] = byte
    for body in (noise, bytes(damaged)):
        with suppress(Failed):
            _reply(body, question())


@given(st.lists(st.integers(0, 1000), max_size=5), st.binary(max_size=40))
def test_sequences_split_where_the_items_end(numbers, noise):
    items = [packet(number).to_cbor() for number in numbers]
    assert split_sequence(b"".join(items)) == items
    with suppress(PacketError):
        assert b"".join(split_sequence(noise)) == noise


async def test_a_prepared_connection_is_the_one_that_is_used():
    accepted = []

    async def serve(reader, writer):
        accepted.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/one"
    async with server, Connections() as connections:
        preparing = asyncio.create_task(connections.prepare(url))
        await asyncio.sleep(0)
        response = await connections.request("GET", url, {}, None, 100)  # while the connection is being made
        await preparing
        await connections.prepare(url)
        assert response.body == b"ok"
        assert len(accepted) == 1
    async with Connections() as connections:
        with pytest.raises(OSError, match=r"refused|failed"):
            await connections.prepare(url)
        with pytest.raises(OSError, match=r"refused|failed"):
            await connections.request("GET", url, {}, None, 100)
