"""A changed coverage as Knot, NSD and BIND serve it: how long after its acknowledgement, and what carries it."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import dns.message
import numpy as np

from benchmarks.report import Figure, Report
from registry.http.client import RegistryClient
from registry.keys import SigningKey
from registry.publishing.journal import Entry, Journal
from tests.peers.peers import Peer, serving
from tests.peers.primary import ORIGIN, RunningPrimary, running_primary

DOMAIN = "crash.vehicles"
APEX = f"{DOMAIN}.{ORIGIN}"
COVERAGES = 10_000
REGIONS = 5
CHANGES = 20
START_S = 900.0
POLL_S = 0.002
BAR_S = 1.0
SHIPPED = {"Knot": "knot-secondary.conf", "NSD": "nsd-secondary.conf", "BIND": "bind-secondary.conf"}
_SENT = re.compile(rf" (IXFR|AXFR)[^:]* of {re.escape(APEX)}: serial \S+ to (\d+), (\d+) octets")


def run(report: Report) -> None:
    """Figure 2, its last part."""
    asyncio.run(_run(report))


async def _run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with running_primary(Path(home) / "registry") as primary:
            names = [f"n-{number:02}" for number in range(COVERAGES)]
            primary.networks = dict.fromkeys(names, DOMAIN)
            parts = {"column": "width", "parts": COVERAGES}
            primary.pattern = {"n-{part}": {"domain": DOMAIN, "listen": "127.0.0.1:9", "each": {"part": parts}}}
            primary.domains = [DOMAIN]
            primary.write()
            _fill(primary, names)
            peers = [_peer(name, primary, Path(home)) for name in SHIPPED]
            primary.secondaries = {peer.name: peer.port for peer in peers}
            await primary.start(START_S)
            async with serving(*peers):
                for peer in peers:
                    await peer.has(APEX, 1)
                await _measure(report, primary, peers, names)


def _fill(primary: RunningPrimary, names: list[str]) -> None:
    """What the registry would have after every network has sent its coverage."""
    journal = Journal(primary.home / "registry")
    for name in names:
        key = SigningKey.from_file(primary.home / "keys" / name)
        document = primary.coverage(name, 1, REGIONS, place=_place(name)).document(key)
        journal.put(name, Entry(document, time.time()))
    journal.close()


def _place(name: str) -> float:
    """Networks lie apart."""
    return float(np.random.default_rng(int(name[2:])).uniform(-5_000, 5_000))


def _peer(name: str, primary: RunningPrimary, home: Path) -> Peer:
    words = {
        "SECRET": primary.secret,
        "PRIMARY": f"127.0.0.1@{primary.port}",
        "PRIMARY-HOST": "127.0.0.1",
        "PRIMARY-PORT": str(primary.port),
        "ORIGIN": ORIGIN.removesuffix("."),
        "DOMAINS": DOMAIN,
    }
    return Peer(name.lower(), SHIPPED[name], home / name, words)


async def _measure(report: Report, primary: RunningPrimary, peers: list[Peer], names: list[str]) -> None:
    waits: dict[str, list[float]] = {peer.name: [] for peer in peers}
    acknowledged = []
    began = len(primary.log)
    random = np.random.default_rng(20261122)
    async with aiohttp.ClientSession() as session:
        client = RegistryClient(session, f"http://{primary.host}:{primary.http}")
        for number in range(CHANGES):
            name = names[int(random.integers(len(names)))]
            key = SigningKey.from_file(primary.home / "keys" / name)
            document = primary.coverage(name, number + 2, REGIONS, place=_place(name)).document(key)
            start = time.perf_counter()
            serial = (await client.put_coverage(name, document)).published
            at = time.perf_counter()
            acknowledged.append(at - start)
            seen = await asyncio.gather(*(_seen(peer, serial) for peer in peers))
            for peer, when in zip(peers, seen, strict=True):
                waits[peer.name].append(max(0.0, when - at))
    _tell(report, waits, acknowledged, _SENT.findall(primary.log[began:]))


async def _seen(peer: Peer, serial: int) -> float:
    """When the secondary first says this serial or a later one."""
    query = dns.message.make_query(APEX, "SOA").to_wire()
    transport, answers = await asyncio.get_running_loop().create_datagram_endpoint(
        _Serials, remote_addr=("127.0.0.1", peer.port)
    )
    try:
        async with asyncio.timeout(120.0):
            while answers.last < serial:
                transport.sendto(query)
                await asyncio.sleep(POLL_S)
        return answers.when
    finally:
        transport.close()


class _Serials(asyncio.DatagramProtocol):
    """The highest serial of the answers, and when it came."""

    last = 0
    when = 0.0

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        answer = dns.message.from_wire(data)
        serial = int(answer.answer[0][0].serial) if answer.answer else 0
        if serial > self.last:
            self.last, self.when = serial, time.perf_counter()


def _tell(
    report: Report, waits: Mapping[str, list[float]], acknowledged: list[float], sent: list[tuple[str, str, str]]
) -> None:
    scene = f"{COVERAGES} coverages of {REGIONS} regions, {CHANGES} changes"

    def add(name: str, value: float, unit: str, bar: float | None = None) -> None:
        holds = None if bar is None else value <= bar
        report.add(Figure(4, "2", f"{scene}: {name}", value, unit, None, None, bar and f"<= {bar:g} s", holds))

    add("deposit to acknowledgement, p50", float(np.median(acknowledged)), "s")
    for name, values in waits.items():
        bar = BAR_S if name == "knot" else None
        add(f"{name} serves it after its acknowledgement, p50", float(np.median(values)), "s")
        add(f"{name} serves it after its acknowledgement, p99", float(np.quantile(values, 0.99)), "s", bar)
    sizes = [int(octets) for kind, _, octets in sent if kind == "IXFR"]
    add("octets of an incremental transfer, p50", float(np.median(sizes)), "B")
    add("octets of an incremental transfer, worst", float(max(sizes)), "B")
    add("whole transfers", float(sum(kind == "AXFR" for kind, _, _ in sent)), "")
