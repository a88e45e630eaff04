"""What no handler ever sees, because it is no HTTP or packed: a problem document, and nothing of it in the logs."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web

from registry.http.body import read_body
from registry.http.httpserver import HttpServer
from registry.http.problem import problems
from registry.http.reply import CONTENT_TYPE, json_response

CANARY = "canary-8271"
PACKED = zlib.compress(bytes(50))
TIMEOUT_S = 0.2


async def _echo(request: web.Request) -> web.Response:
    return json_response({"bytes": len(await read_body(request, 100, TIMEOUT_S))})


async def _fail(_request: web.Request) -> web.Response:
    raise ValueError(CANARY)


async def _late(_request: web.Request) -> web.Response:
    raise TimeoutError(CANARY)


async def _broken(_request: web.Request) -> web.Response:
    raise web.RequestPayloadError(CANARY)  # as aiohttp does where a body turns into rubbish halfway


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application(middlewares=[problems])
    app.router.add_post("/echo", _echo)
    app.add_routes([web.get("/fail", _fail), web.get("/late", _late), web.get("/broken", _broken)])
    server = HttpServer(app, "127.0.0.1", 0)
    await server.start()
    yield server.port
    await server.close()


async def said(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response to these octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(head[0].split()[1]), headers, body


def post(body: bytes = b"", **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"POST /echo HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(f'{{"situation": "{CANARY}"}}'.encode(), Transfer_Encoding="chunked"), 400),
        (post(f"5\r\nhello\r\n{CANARY}\r\n".encode(), Transfer_Encoding="chunked"), 400),
        (f"POST /echo HTTP/1.1\r\nHost: x\r\n{CANARY} is no header\r\n\r\n".encode(), 400),
        (f"POST /echo HTTP/1.1\r\nHost: x\r\nX: {CANARY}\0\r\n\r\n".encode(), 400),
        (f"{CANARY}(] /echo HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (f"POST /{CANARY} HTTP/9.z\r\nHost: x\r\n\r\n".encode(), 400),
        (post(Content_Length=CANARY), 400),
        (post(X=CANARY * 2000), 400),
        (post() + f"{CANARY} again\r\n\r\n".encode(), 400),
        (post(CANARY.encode(), Content_Length=str(len(CANARY)), Content_Encoding="deflate"), 415),
        (post(PACKED, Content_Length=str(len(PACKED)), Content_Encoding="gzip, deflate"), 415),
        (f"GET /fail?{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 500),
        (f"GET /broken?{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (f"GET /late?{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 500),
    ],
)
async def test_what_is_no_request_is_a_problem_and_stays_out_of_the_logs(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    found, headers, body = await said(port, sent)
    assert found == status
    assert headers["content-type"] == CONTENT_TYPE
    assert orjson.loads(body)["status"] == status
    assert CANARY not in body.decode()
    assert CANARY not in caplog.text
    assert not any(CANARY in str(record.__dict__) for record in caplog.records)


async def test_an_unforeseen_error_leaves_its_type_and_place_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    await said(port, b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "unforeseen ValueError at GET" in caplog.text
    assert "in _fail" in caplog.text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"12345", Content_Length="5"), 200),
        (post(b"12345", Content_Length="5", Content_Encoding="identity"), 200),
        (post(bytes(101), Content_Length="101"), 413),
        (post(b"65\r\n" + bytes(101) + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"), 413),
        (post(b"1", Content_Length="5"), 408),
    ],
)
async def test_a_body_is_bounded_in_octets_and_in_time(port: int, sent: bytes, status: int) -> None:
    found, headers, body = await said(port, sent)
    assert found == status
    if status == 200:
        assert orjson.loads(body) == {"bytes": 5}
    else:
        assert headers["content-type"] == CONTENT_TYPE
