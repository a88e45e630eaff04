"""Whatever is sent to the gateway, it says what is wrong with it: 4xx, a problem document, never a 500."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.service import gateway_app
from registry.clock import SystemClock
from registry.http.httpserver import HttpServer
from registry.keys import SigningKey
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.journal import Journal
from registry.publishing.member import Member
from registry.publishing.publisher import Publisher, PublisherTimes
from registry.service import registry_app
from registry.zones.zone import Ttls
from tests.acceptance.federated import Federated, situation

pytestmark = pytest.mark.asyncio(loop_scope="session")

GOOD: dict[str, Any] = {"domain": "crash.vehicles", "situation": situation("crash"), "k": 5, "deadline_ms": 10_000}
D = 6  # dimension of crash.vehicles


def situated(**features: object) -> dict[str, Any]:
    return {**GOOD, "situation": {**GOOD["situation"], **features}}


def addressed(fingerprint: object, space: str = "$SPACE") -> dict[str, Any]:
    return {"domain": "crash.vehicles", "fingerprint": fingerprint, "space": space, "k": 5}


def wire(*values: float) -> str:
    return base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()


WRONG: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "an unknown feature": (situated(shoe_size=43), 400, ["shoe_size"]),
    "a feature misspelt": (situated(agee=43), 400, ["agee", "age"]),
    "a text for a number": (situated(age="old"), 400, ["age", "old"]),
    "a list for a number": (situated(age=[43]), 400, ["age"]),
    "a flag for a number": (situated(age=True), 400, ["age"]),
    "a number for a flag": (situated(frontal=0.5), 400, ["frontal"]),
    "out of range": (situated(age=400), 400, ["age", "400", "110"]),
    "below the range": (situated(age=-1), 400, ["age", "-1", "0"]),
    "an unknown category": (situated(role="pilot"), 400, ["role", "pilot", "driver"]),
    "an unknown level": (situated(impact_speed="fast"), 400, ["impact_speed", "fast", "40-54"]),
    "known only after the action": (situated(airbag_deployed=True), 400, ["airbag_deployed"]),
    "a feature that is missing": ({**GOOD, "situation": {}}, 400, ["age"]),
    "a situation that is a list": ({**GOOD, "situation": [1]}, 400, ["situation"]),
    "a fingerprint too short": (addressed([0.0] * (D - 1)), 400, [str(D)]),
    "a fingerprint too long": (addressed(wire(*[0.0] * (D + 1))), 400, [str(D)]),
    "a fingerprint that is no base64": (addressed("%%%"), 400, ["fingerprint"]),
    "NaN in a fingerprint": (addressed(wire(*[0.0] * (D - 1), np.nan)), 400, ["fingerprint"]),
    "infinity in a fingerprint": (addressed(wire(*[0.0] * (D - 1), np.inf)), 400, ["fingerprint"]),
    "beyond float32": (addressed([0.0] * (D - 1) + [1e300]), 400, ["fingerprint"]),
    "another space": (addressed([0.0] * D, "0" * 64), 400, ["space", "0000"]),
    "a space that is none": (addressed([0.0] * D, "zebra"), 400, ["space"]),
    "no space": ({"domain": "crash.vehicles", "fingerprint": [0.0] * D}, 400, ["space"]),
    "both addresses": ({**GOOD, "fingerprint": [0.0] * D, "space": "0" * 64}, 400, ["situation", "fingerprint"]),
    "no address": ({"domain": "crash.vehicles"}, 400, ["situation", "fingerprint"]),
    "k = 0": ({**GOOD, "k": 0}, 400, ["k", "1"]),
    "k = -1": ({**GOOD, "k": -1}, 400, ["k", "1"]),
    "k = 1e6": ({**GOOD, "k": 1_000_000}, 400, ["k", "10000"]),
    "k = 5.5": ({**GOOD, "k": 5.5}, 400, ["k", "integer"]),
    "k as text": ({**GOOD, "k": "5"}, 400, ["k", "integer"]),
    "k as flag": ({**GOOD, "k": True}, 400, ["k", "integer"]),
    "another per": ({**GOOD, "per": "person"}, 400, ["per", "action", "all"]),
    "another mode": ({**GOOD, "mode": "guess"}, 400, ["mode"]),
    "a deadline of 0": ({**GOOD, "deadline_ms": 0}, 400, ["deadline_ms"]),
    "a deadline of a day": ({**GOOD, "deadline_ms": 86_400_000}, 400, ["deadline_ms", "60000"]),
    "an unknown action": ({**GOOD, "actions": ["prayer"]}, 400, ["actions", "prayer", "none+none"]),
    "no action": ({**GOOD, "actions": []}, 400, ["actions"]),
    "an unknown outcome": ({**GOOD, "outcomes": ["married"]}, 400, ["outcomes", "married", "died"]),
    "an unknown member": ({**GOOD, "limit": 5}, 400, ["limit"]),
    "an unknown domain": ({**GOOD, "domain": "atlantis"}, 404, ["atlantis", "crash.vehicles"]),
    "no domain": ({"situation": {}}, 400, ["domain"]),
    "a domain that is none": ({**GOOD, "domain": 5}, 400, ["domain"]),
    "a domain with a zero byte": ({**GOOD, "domain": "crash\0"}, 404, ["crash"]),
    "a purpose without end": ({**GOOD, "purpose": "x" * 201}, 400, ["purpose", "200"]),
}  # fmt: skip

TEXT = orjson.dumps(GOOD).decode()
BODIES: dict[str, tuple[bytes, int, list[str]]] = {
    "nothing": (b"", 400, ["JSON"]),
    "half": (TEXT[: len(TEXT) // 2].encode(), 400, ["JSON", "line 1"]),
    "two": ((TEXT + TEXT).encode(), 400, ["JSON"]),
    "a list": (b"[]", 400, ["object"]),
    "a text": (b'"crash"', 400, ["object"]),
    "null": (b"null", 400, ["object"]),
    "duplicate keys": (TEXT.replace('"k":5', '"k":5,"k":6').encode(), 400, ["'k'", "twice"]),
    "duplicate features": (TEXT.replace('"age":45', '"age":45,"age":46').encode(), 400, ["'age'", "twice"]),
    "30 digits": (TEXT.replace('"k":5', '"k":' + "9" * 30).encode(), 400, ["9" * 30, "2^53"]),
    "5000 digits": (TEXT.replace('"k":5', '"k":' + "9" * 5000).encode(), 400, ["2^53"]),
    "NaN": (TEXT.replace('"age":45', '"age":NaN').encode(), 400, ["NaN"]),
    "Infinity": (TEXT.replace('"age":45', '"age":-Infinity').encode(), 400, ["Infinity"]),
    "1e999": (TEXT.replace('"age":45', '"age":1e999').encode(), 400, ["1e999"]),
    "depth 2000": (TEXT.replace('"age":45', '"age":' + "[" * 2000 + "]" * 2000).encode(), 400, ["64"]),
    "depth 100000": (b"[" * 100_000, 400, ["64"]),
    "Latin-1": (b'{"domain": "caf\xe9"}', 400, ["UTF-8"]),
    "UTF-16": (TEXT.encode("utf-16"), 400, ["UTF-8"]),
    "half a surrogate": (TEXT.replace("crash.vehicles", "\\ud800").encode(), 400, ["domain"]),
    "CBOR": (b"\xa1\x66domain\x65crash", 400, ["UTF-8"]),
    "too much": (b" " * (4 * 1024 * 1024 + 1), 413, ["4194304"]),
}


async def check(kindred: Federated, body: bytes, status: int, says: list[str], path: str = "/v1/ask") -> None:
    headers = {"Content-Type": "application/json"}
    async with kindred.session.post(kindred.url + path, data=io.BytesIO(body), headers=headers) as response:
        problem = orjson.loads(await response.read())
        assert (response.status, response.content_type) == (status, "application/problem+json"), problem
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"]
    for word in says:
        assert word in problem["detail"]
    assert len(problem["detail"]) < 1000


@pytest.mark.parametrize("name", WRONG)
async def test_a_question_that_cannot_be_asked(kindred: Federated, name: str) -> None:
    question, status, says = WRONG[name]
    space = kindred.config.schemas()["crash.vehicles"].space.hex()
    body = orjson.dumps(question).replace(b"$SPACE", space.encode())
    for path in ("/v1/ask", "/v1/resolve"):
        await check(kindred, body, status, says, path)


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_question(kindred: Federated, name: str) -> None:
    body, status, says = BODIES[name]
    await check(kindred, body, status, says)


async def test_every_wrong_member_is_named_at_once(kindred: Federated) -> None:
    _, problem = await kindred.post("/v1/ask", {**GOOD, "k": 0, "per": "person", "limit": 3})
    assert {each["path"] for each in problem["problems"]} == {"k", "per", "limit"}


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"\n\n", 400), (b"\n" * 10, 400)])
async def test_an_empty_batch(kindred: Federated, body: bytes, status: int) -> None:
    found, problem = await kindred.post("/v1/ask", body, "application/x-ndjson")
    assert (found, "empty" in problem["detail"]) == (status, True)


async def test_a_batch_too_long(kindred: Federated) -> None:
    status, problem = await kindred.post("/v1/ask", b"{}\n" * 10_001, "application/x-ndjson")
    assert (status, "10000" in problem["detail"]) == (413, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from([*GOOD, "fingerprint", "space", "per", "mode", "outcomes", "actions", "neighbours"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(MEMBERS, JSON, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(list(GOOD["situation"])), JSON, max_size=2),
)
async def test_whatever_stands_in_a_question(
    kindred: Federated, members: dict[str, Any], features: dict[str, Any]
) -> None:
    question = {**situated(**features), **members}
    try:
        body = orjson.dumps(question)
    except (TypeError, orjson.JSONEncodeError):  # what JSON cannot say
        return
    async with kindred.session.post(f"{kindred.url}/v1/ask", data=body) as response:
        found = orjson.loads(await response.read())
        assert response.status == 200 or 400 <= response.status < 500, found


async def test_nothing_of_it_was_our_fault(kindred: Federated, caplog: pytest.LogCaptureFixture) -> None:
    """No bad input leaves a stack trace in the log either."""
    with caplog.at_level(logging.DEBUG):
        for body, _, _ in BODIES.values():
            await kindred.post("/v1/ask", body)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]


POST = {"gateway": "POST /v1/ask", "registry": "PUT /v1/networks/one/coverage"}
HALF_SENT = {
    "nothing": "",
    "half a head": "$POST HTTP/1.1\r\nHost: x\r\n",
    "half a body": "$POST HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "half a chunk": "$POST HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{",
    "half a second request": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz",
}


@pytest_asyncio.fixture(loop_scope="session", params=["gateway", "registry"])
async def impatient(
    kindred: Federated, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, int]]:
    """The gateway's and the registry's service, each with short limits; its name and its port.

    tests/regional/test_service.py does the same with the networks'.
    """
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "gateway":
            monkeypatch.setattr("gateway.service.BODY_TIMEOUT_S", 0.1)
            app = gateway_app(kindred.federation)
        else:
            clock, journal = SystemClock(), Journal(tmp_path / "registry")
            stack.callback(journal.close)
            domain = DomainEntry("crash.vehicles", kindred.config.schemas()["crash.vehicles"], "http://x/", None)
            key = SigningKey.create(tmp_path / "key").public
            member = Member("one", "crash.vehicles", key, ("http://127.0.0.1:1/one",), "embedded")
            enrolment = Enrolment([domain], [member], journal, clock, "kindred.internal.")
            publisher = Publisher(enrolment, journal, clock, Ttls(), PublisherTimes(), addresses=("127.0.0.1",))
            app = registry_app(enrolment, publisher, clock, body_timeout_s=0.1)
        server = HttpServer(app, "127.0.0.1", 0, head_s=0.2, idle_s=0.2)
        await server.start()
        stack.push_async_callback(server.close)
        yield request.param, server.port


@pytest.mark.parametrize("name", HALF_SENT)
async def test_half_sent_requests_are_cut_off(impatient: tuple[str, int], name: str) -> None:
    service, port = impatient
    sent = HALF_SENT[name].replace("$POST", POST[service]).encode()
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    async with asyncio.timeout(5):
        for _, writer in connections:
            writer.write(sent)
        for reader, writer in connections:
            said = b""
            with contextlib.suppress(ConnectionResetError):
                said = await reader.read()
            writer.close()
            if "body" in name or "chunk" in name:
                assert said.startswith(b"HTTP/1.1 408 ")
                assert b"too slowly" in said


async def test_a_head_that_trickles_is_cut_off(impatient: tuple[str, int]) -> None:
    """A byte now and then does not buy time: the head has to be whole within its limit of its first byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient[1])
    cut = asyncio.create_task(reader.read())
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
                if cut.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            assert await cut == b""
    writer.close()
