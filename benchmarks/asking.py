"""What the gateway adds: a warm `ask` against raw asyncio streams that send and parse the same bytes.

Four networks of crash data, K = 50. The yardstick holds one open connection a network, writes the very requests
that the gateway sent, reads the replies and decodes their CBOR and that of the packets in them; it decides nothing
and checks nothing.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import cbor2

import gateway.journey as journey_room
from benchmarks.federations import running
from benchmarks.report import Figure, Report
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.question import Question
from regional.client import NearestRequest

ROUNDS = 12
QUESTIONS = 60

NETWORKS = {
    f"area-{i}": sites
    for i, sites in enumerate(([2, 3, 4, 5, 6, 8], [9, 11, 12, 13, 41, 42], [43, 45, 47, 48, 49], [72, 73, 74]))
}


def federation_yaml() -> str:
    """One process of four networks, each with some sampling areas."""
    networks = "\n".join(
        f"  {name}: {{domain: crash.vehicles, process: all, listen: PORT1, "
        f"data: examples/data/nass_cds_crash.csv.gz, where: {{site_psu: {sites}}}}}"
        for name, sites in NETWORKS.items()
    )
    return f"""\
version: 1
data_dir: .
registry: {{dns: PORT2, http: PORT3}}
domains: {{crash.vehicles: {{schema: examples/domains/crash.yaml}}}}
networks:
{networks}
gateway: {{listen: PORT4}}
"""


async def measure(report: Report) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with running(Path(home), federation_yaml()) as (config, _):
            await _library_face(report, config)
            await _http_face(report, config)


async def _library_face(report: Report, config: FederationConfig) -> None:
    async with Federation.open(config) as federation:
        for per in ("all", "action"):
            question = _question(per)
            sent = _recorded(federation)
            answer = await federation.ask(question)
            requests = list(sent)
            assert answer.certificate.neighbours_complete
            raw = await _Streams.open(requests)
            ours, bare = await _side_by_side(lambda q=question: federation.ask(q), raw.ask)
            await raw.close()
            for what, index in (("CPU", 0), ("p50", 1)):
                ratio = statistics.median(a[index] / b[index] for a, b in zip(ours, bare, strict=True))
                value = statistics.median(a[index] for a in ours)
                report.add(
                    Figure(
                        issue=3,
                        figure="4",
                        name=f"warm ask, library face, per {per}, {len(requests)} networks, synthesis apart: {what}",
                        value=value * 1000,
                        unit="ms",
                        against="raw asyncio streams",
                        ratio=ratio,
                        bar="<= 2.0",
                        holds=ratio <= 2.0,
                    )
                )


def _question(per: str) -> Question:
    situation = json.loads((Path(__file__).parent.parent / "examples/situations/crash.json").read_text())
    return Question.from_document({"domain": "crash.vehicles", "situation": situation, "per": per})


def _recorded(federation: Federation) -> list[tuple[str, NearestRequest]]:
    """The requests that the next question sends, with their endpoints."""
    client = federation._reader
    sent: list[tuple[str, NearestRequest]] = []
    original = client.nearest

    async def nearest(endpoint: str, request: NearestRequest, timeout_s: float) -> object:
        sent.append((endpoint, request))
        return await original(endpoint, request, timeout_s)

    client.nearest = nearest  # type: ignore[assignment,method-assign]
    return sent


async def _side_by_side(
    ours: Callable[[], Awaitable[object]], bare: Callable[[], Awaitable[object]]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(CPU, median wall) in seconds per question, round by round, the two in turn."""
    apart = {name: getattr(journey_room, name) for name in ("synthesise", "balance", "cautions")}
    for name, value in (("synthesise", {}), ("balance", {}), ("cautions", [])):
        setattr(journey_room, name, lambda *_, value=value, **__: value)
    try:
        rounds: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
        for number in range(ROUNDS + 1):
            for kept, ask in zip(rounds, (ours, bare), strict=True):
                walls = []
                cpu = time.process_time()
                for _ in range(QUESTIONS):
                    began = time.perf_counter()
                    await ask()
                    walls.append(time.perf_counter() - began)
                if number:  # the first round warms up
                    kept.append(((time.process_time() - cpu) / QUESTIONS, statistics.median(walls)))
        return rounds
    finally:
        for name, room in apart.items():
            setattr(journey_room, name, room)


class _Streams:
    """The yardstick: the same requests over raw streams, in parallel."""

    def __init__(self, connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]]) -> None:
        self._connections = connections

    @classmethod
    async def open(cls, requests: list[tuple[str, NearestRequest]]) -> _Streams:
        connections = []
        for endpoint, request in requests:
            host, _, rest = endpoint.removeprefix("http://").partition("/")
            name, port = host.rsplit(":", 1)
            reader, writer = await asyncio.open_connection(name, int(port))
            body = request.body()
            head = f"POST /{rest}/v1/nearest HTTP/1.1\r\nHost: {host}\r\nAccept: application/cbor\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connections.append((reader, writer, head.encode() + body))
        return cls(connections)

    async def ask(self) -> None:
        await asyncio.gather(*(self._one(*connection) for connection in self._connections))

    async def close(self) -> None:
        for _, writer, _ in self._connections:
            writer.close()
            await writer.wait_closed()

    @staticmethod
    async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> object:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        reply = cbor2.loads(await reader.readexactly(length))
        return [cbor2.loads(packet) for packet in reply["packets"]]


async def _http_face(report: Report, config: FederationConfig) -> None:
    url = f"http://{config.gateway.listen}/v1/ask"
    situation = json.loads((Path(__file__).parent.parent / "examples/situations/crash.json").read_text())
    body = json.dumps({"domain": "crash.vehicles", "situation": situation, "per": "all"}).encode()
    async with aiohttp.ClientSession() as session:

        async def ask() -> float:
            began = time.perf_counter()
            async with session.post(url, data=body) as response:
                await response.read()
                assert response.status == 200
            return time.perf_counter() - began

        for _ in range(QUESTIONS):
            await ask()
        walls = sorted([await ask() for _ in range(5 * QUESTIONS)])
    report.add(Figure(3, "4", "warm ask through the HTTP endpoint, per all: p50", walls[len(walls) // 2] * 1000, "ms"))
    report.add(
        Figure(3, "4", "warm ask through the HTTP endpoint, per all: p99", walls[-len(walls) // 100] * 1000, "ms")
    )


def run(report: Report) -> None:
    asyncio.run(measure(report))
