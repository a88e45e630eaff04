"""CPU per query of the name server beside Knot, NSD, BIND and dnspython: the same zone, the same core, one machine.

Server and asker (dnsperf) have a core each. CPU is user and system time of all of a server's processes
(/proc/PID/stat) over the queries that dnsperf saw answered; rounds alternate between the servers, the median counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import re
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rrset
import dns.zone
import numpy as np

from benchmarks.federations import free_port
from benchmarks.report import Figure, Report
from registry.clock import SystemClock
from registry.dns.tsig import TsigKey
from registry.dns.wire import name_to_wire
from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.region import Region
from registry.serving.limiter import Limiter
from registry.serving.nameserver import NameServer
from registry.serving.primary import Primary
from registry.zones.zone import NetworkEntry, Publication, Ttls, Zone, ZoneSet, domain_zone, origin_zone
from tests.peers.authoritative import serving, write_zones
from tests.peers.zonefile import name_text
from tests.programs import program

ORIGIN = "kindred.internal."
NAMING = Naming("flights", ORIGIN)
GENERATION = 17
WIDTH, DEPTH = 18, 4  # children of an inner cell; levels of them: 111,151 cells in all
D = 8
NETWORKS = 1000
QUESTIONS = 50_000
ROUNDS, SECONDS = 5, 2
MOST = 1.5  # times Knot's CPU
SERVER_CORE, ASKER_CORE = 0, 1
# Over TCP leaf cells only: to each inner cell's answer Knot adds its children's records, some 40 KB.
TRANSPORTS = {"mixed": ("udp",), "leaf cells": ("udp", "tcp")}


def region(i: int) -> Region:
    """One of the few that all cells share."""
    chance = np.random.default_rng(i)
    centre = chance.normal(size=D)
    return Region(f"r{i}", {"": 20 + i}, centre, 1.5, centre - 1, centre + 1, chance.random(D), 0.5)


def cells() -> dict[Address, tuple[CellRecord, ...]]:
    """A whole tree: inner cells of WIDTH records, leaf cells of three."""
    regions = [region(i) for i in range(WIDTH)]
    tree: dict[Address, tuple[CellRecord, ...]] = {}
    for depth in range(DEPTH + 1):
        for address in product(range(WIDTH), repeat=depth):
            if depth < DEPTH:
                tree[address] = tuple(CellRecord(regions[i], child=(*address, i)) for i in range(WIDTH))
            else:
                near = sum(address) * 7
                tree[address] = tuple(
                    CellRecord(regions[(near + i) % WIDTH], network=f"net-{(near + i) % NETWORKS}") for i in range(3)
                )
    return tree


def zones() -> ZoneSet:
    """The origin, and one domain of over 100,000 names."""
    entry = NetworkEntry(
        serial=12,
        issued=1_799_999_990.25,
        lease_s=120.0,
        packets=800,
        uncovered=3,
        key="ed25519:" + "A" * 43 + "=",
        engine="embedded",
        lapsed=False,
        endpoints=("http://127.0.0.1:8101/net",),
    )
    publication = Publication(
        naming=NAMING,
        dimension=D,
        space=bytes(32),
        schema=bytes(32),
        actions=(),
        generations={GENERATION: cells()},
        current=GENERATION,
        networks={f"net-{i}": entry for i in range(NETWORKS)},
    )
    served = [NAMING.domain]
    return ZoneSet(
        [origin_zone(ORIGIN, served, 1_800_000_000, Ttls()), domain_zone(publication, 1_800_000_000, Ttls(), served)]
    )


def questions(kind: str) -> list[str]:
    """Lines of dnsperf. leaf cells: uniformly any of them. mixed: leaf cells 70%, the rest in equal parts inner
    cells, a network's TXT and URI, the apex's TXT and SOA, names and types that are not there."""
    chance = random.Random(8)

    def cell(depth: int) -> str:
        return NAMING.cell(GENERATION, tuple(chance.randrange(WIDTH) for _ in range(depth)))

    others: Sequence[Callable[[], str]] = (
        lambda: f"{cell(chance.randrange(DEPTH))} SVCB",
        lambda: f"{NAMING.network(f'net-{chance.randrange(NETWORKS)}')} {chance.choice(('TXT', 'URI'))}",
        lambda: f"{NAMING.apex} {chance.choice(('TXT', 'SOA'))}",
        lambda: f"{chance.randrange(10**6)}.{cell(DEPTH)} SVCB",
        lambda: f"{cell(DEPTH)} AAAA",
    )
    mixed = kind == "mixed"
    return [
        chance.choice(others)() if mixed and chance.random() < 0.3 else f"{cell(DEPTH)} SVCB" for _ in range(QUESTIONS)
    ]


@contextmanager
def forked(serve: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """`serve(port)` in a process that shares what is built; its port and process id."""
    port = free_port()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(port,), daemon=True)
    process.start()
    with socket.socket(type=socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.2)
        asker.connect(("127.0.0.1", port))
        for _ in range(300):
            try:
                asker.send(b"\x12\x34\0\0\0\1\0\0\0\0\0\0\0\0\2\0\1")
                asker.recv(512)
                break
            except (TimeoutError, ConnectionRefusedError):
                process.join(0.05)
    try:
        yield port, process.pid or 0
    finally:
        process.terminate()
        process.join()


def serve_ours(zone_set: ZoneSet) -> Callable[[int], None]:
    """Kindred's name server with limits and transfers, on the loop that `kindred registry` runs on."""

    def serve(port: int) -> None:
        from gateway.cli.main import _loop_factory  # noqa: PLC0415 - in the child only

        async def main() -> None:
            clock = SystemClock()
            primary = Primary(lambda: zone_set, clock, [TsigKey("secondary.", bytes(32))])
            limiter = Limiter(clock.monotonic)
            server = NameServer(lambda: zone_set, port=port, limiter=limiter, primary=primary)
            await server.start()
            await asyncio.Event().wait()

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())

    return serve


def serve_dnspython(zone: Zone, asked: set[str]) -> Callable[[int], None]:
    """What dnspython alone would do: parse, look up, make a response, render. Holds only the names that are asked."""
    names: dict[str, dict[int, dns.rrset.RRset]] = {}
    wanted = {name_to_wire(name) for name in asked}
    for owner, each in zone.rrsets():
        if owner in wanted:
            text = name_text(owner)
            rrset = dns.rrset.RRset(dns.name.from_text(text), dns.rdataclass.IN, dns.rdatatype.RdataType(each.rtype))
            for ttl, rdata in each.rdatas():
                rrset.add(dns.rdata.from_wire(rrset.rdclass, rrset.rdtype, rdata, 0, len(rdata)), ttl)
            names.setdefault(text, {})[each.rtype] = rrset
    soa = names[zone.apex][6]

    def serve(port: int) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", port))
            while True:
                wire, peer = udp.recvfrom(1232)
                query = dns.message.from_wire(wire)
                asked = query.question[0]
                answer = dns.message.make_response(query)
                answer.flags |= dns.flags.AA
                found = names.get(asked.name.to_text().lower())
                if found is None:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                if found is not None and asked.rdtype in found:
                    answer.answer.append(found[asked.rdtype])
                else:
                    answer.authority.append(soa)
                udp.sendto(answer.to_wire(max_size=1232, prefer_truncation=True), peer)

    return serve


def family(pid: int) -> list[int]:
    """A process and all that it has started, at any depth."""
    found = [pid]
    for each in found:
        found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User and system time so far of a process and those that it has started."""
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def asked(port: int, lines: Path, transport: str) -> tuple[int, float]:
    """Questions that dnsperf saw answered, and seconds that it took."""
    command = [program("dnsperf"), "-s", "127.0.0.1", "-p", str(port), "-d", str(lines), "-l", str(SECONDS), "-e"]
    command += ["-m", transport, "-c", "4", "-q", "100", "-T", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=on_core(ASKER_CORE))
    answered = re.search(r"Queries completed:\s+(\d+)", done.stdout)
    took = re.search(r"Run time \(s\):\s+([\d.]+)", done.stdout)
    assert answered is not None
    assert took is not None
    return int(answered[1]), float(took[1])


def on_core(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


def pin(pid: int) -> None:
    """All threads of a process, and of those that it has started, on the servers' core."""
    for each in family(pid):
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {SERVER_CORE})


def run(report: Report) -> None:
    """Figure 1 of the DNS."""
    zone_set = zones()
    files_of = {kind: questions(kind) for kind in TRANSPORTS}
    [domain] = [zone for zone in zone_set.by_apex.values() if zone.apex == NAMING.apex]
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        home = Path(place)
        masters = write_zones(home / "zones", zone_set.by_apex.values())
        servers: dict[str, tuple[int, int]] = {}
        for name in ("knotd", "nsd", "named"):
            peer = stack.enter_context(serving(name, home / name, masters))
            servers[name] = peer.port, peer.process.pid
        asked_names = {line.split()[0] for lines in files_of.values() for line in lines[:2000]} | {NAMING.apex}
        servers["kindred"] = stack.enter_context(forked(serve_ours(zone_set)))
        servers["dnspython"] = stack.enter_context(forked(serve_dnspython(domain, asked_names)))
        for _, pid in servers.values():
            pin(pid)
        for kind, lines in files_of.items():
            path = home / f"{kind.replace(' ', '-')}.txt"
            path.write_text("\n".join(lines) + "\n")
            for transport in TRANSPORTS[kind]:
                shown = [name for name in servers if transport == "udp" or name != "dnspython"]
                _rows(report, f"{kind}, {transport}", {name: servers[name] for name in shown}, path, transport)


def _rows(report: Report, what: str, servers: dict[str, tuple[int, int]], lines: Path, transport: str) -> None:
    spent: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, (port, pid) in servers.items():
            before = cpu_s(pid)
            answered, _ = asked(port, lines, transport)
            spent[name].append((cpu_s(pid) - before) / answered * 1e6)
    knot = statistics.median(spent["knotd"])
    for name, each in spent.items():
        value = statistics.median(each)
        ours = name == "kindred"
        report.add(
            Figure(
                4,
                "1",
                f"CPU per query, {what}: {name}",
                value,
                "us",
                None if name == "knotd" else "Knot",
                None if name == "knotd" else value / knot,
                f"<= {MOST}" if ours else None,
                value / knot <= MOST if ours else None,
            )
        )
