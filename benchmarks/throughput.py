"""Questions a second through the HTTP endpoint, with everything on one machine: gateways, 8 networks, the askers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.federations import running
from benchmarks.report import ROOT, Figure, Report

SECONDS = 8.0
AT_ONCE = (1, 2, 4, 8, 16)
MOST_P99 = 5.0  # times p50
SAMPLER = Path(__file__).parent / "sampler"
STATISTICS = ROOT / "gateway" / "statistics"
PROFILED = 8  # askers at once while processes are sampled
LEAST_SHARE = 0.03  # of a process; what takes less is told together
SITES = ([2, 3, 4], [5, 6, 8], [9, 11, 12], [13, 41, 42], [43, 45, 47], [48, 49, 50], [72, 73, 74], [75, 76, 78])

# What the sampled files are about; a file or library that is in none stands for itself.
GROUPS: Mapping[str, frozenset[str]] = {
    "HTTP server (aiohttp)": frozenset(
        {"aiohttp", "registry/http/httpserver.py", "registry/http/body.py", "registry/http/problem.py"}
    ),
    "event loop and sockets": frozenset({"asyncio", "uvloop", "concurrent", "other"}),
    "requests to networks": frozenset(
        {"regional/connections.py", "regional/client.py", "gateway/fetching/fanout.py", "gateway/fetching/arrivals.py"}
    ),
    "packets read": frozenset(f"regional/packets/{room}.py" for room in ("batch", "details", "packet")),
    "walk and plan": frozenset({"gateway/planning/resolution.py", "gateway/planning/plan.py", "gateway/journey.py"}),
    "bounds and exact distances": frozenset({"registry/geometry/region.py"}),
    "outlook": frozenset({"gateway/planning/outlook.py", "gateway/planning/expectation.py"}),
    "merge and certificate": frozenset(
        {"gateway/planning/merge.py", "gateway/planning/candidates.py", "gateway/certificate.py"}
    ),
    "synthesis": frozenset(
        {"gateway/planning/neighbours.py", *(path.relative_to(ROOT).as_posix() for path in STATISTICS.glob("*.py"))}
    ),
    "scan": frozenset(f"regional/engines/{room}.py" for room in ("scan", "arm", "coarse", "blocks", "embedded")),
    "question read, reply written": frozenset(
        {"regional/service.py", "registry/jsontext.py", "registry/http/reply.py", "gateway/service.py",
         "gateway/answer.py", "gateway/question.py", "gateway/asking.py", "registry/likeness/fingerprint.py",
         "registry/likeness/embedding.py"}
    ),
}  # fmt: skip


def federation_yaml(workers: int) -> str:
    """Eight networks in two processes, and as many gateway processes as asked for."""
    networks = "\n".join(
        f"  area-{i}: {{domain: crash.vehicles, process: half-{i % 2}, listen: PORT{5 + i % 2}, "
        f"data: examples/data/nass_cds_crash.csv.gz, where: {{site_psu: {sites}}}}}"
        for i, sites in enumerate(SITES)
    )
    return f"""\
version: 1
data_dir: .
registry: {{dns: PORT1, http: PORT2}}
domains: {{crash.vehicles: {{schema: examples/domains/crash.yaml}}}}
networks:
{networks}
gateway: {{listen: PORT3, workers: {workers}}}
"""


async def _measure(report: Report, workers: int, loop: str, levels: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with running(Path(home), federation_yaml(workers)) as (config, _):
            url = f"http://{config.gateway.listen}/v1/ask"
            best = (0.0, 0, 0.0, 0.0)
            for at_once in levels:
                walls = await _load(url, at_once)
                p50, p99 = walls[len(walls) // 2], walls[-1 - len(walls) // 100]
                rate = len(walls) / SECONDS
                if p99 <= MOST_P99 * p50 and rate > best[0]:
                    best = (rate, at_once, p50, p99)
            rate, at_once, p50, p99 = best
            name = f"8 networks, {workers} gateway process(es), {loop}, {at_once} askers at once"
            report.add(Figure(3, "6", f"{name}: questions a second at p99 <= 5 p50", rate, "1/s"))
            report.add(Figure(3, "6", f"{name}: p50", p50 * 1000, "ms"))
            report.add(
                Figure(3, "6", f"{name}: p99", p99 * 1000, "ms", "p50", p99 / p50 if p50 else None, "<= 5", True)
            )


async def _profile(report: Report) -> None:
    """What the processor's time goes to, in the gateway and in the networks, by sampling."""
    with tempfile.TemporaryDirectory() as home, _environment(KINDRED_SAMPLES=home, PYTHONPATH=str(SAMPLER)):
        async with running(Path(home), federation_yaml(1)) as (config, processes):
            url = f"http://{config.gateway.listen}/v1/ask"
            sampled = {name: pid for name, pid in processes.pids.items() if name != "registry"}
            await _load(url, PROFILED)
            for pid in sampled.values():
                os.kill(pid, signal.SIGUSR2)
            asked = len(await _load(url, PROFILED))
            for pid in sampled.values():
                os.kill(pid, signal.SIGUSR2)
            files = {name: Path(home) / f"{pid}.json" for name, pid in sampled.items()}
            while not all(path.exists() and path.stat().st_size for path in files.values()):
                await asyncio.sleep(0.05)
            counts: dict[str, Counter[str]] = {"gateway": Counter(), "networks": Counter()}
            for name, path in files.items():
                counts["gateway" if name == "gateway" else "networks"].update(json.loads(path.read_text()))
    every = sum(each.total() for each in counts.values())
    for role, found in counts.items():
        name = f"profile, {asked:,} questions: {role}"
        report.add(Figure(3, "6", f"{name}: share of all processor time", 100 * found.total() / every, "%"))
        grouped: Counter[str] = Counter()
        for place, n in found.items():
            grouped[next((group for group, places in GROUPS.items() if place in places), place)] += n
        rest = {group: n for group, n in grouped.items() if n < LEAST_SHARE * found.total()}
        for group, n in grouped.most_common():
            if group not in rest:
                report.add(Figure(3, "6", f"{name}: {group}", 100 * n / found.total(), "%"))
        report.add(Figure(3, "6", f"{name}: everything else", 100 * sum(rest.values()) / found.total(), "%"))


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """These variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _load(url: str, at_once: int) -> list[float]:
    """Seconds of each answer, sorted, of so many askers who each wait for their answer before they ask again."""
    situation = json.loads((Path(__file__).parent.parent / "examples/situations/crash.json").read_text())
    walls: list[float] = []
    connector = aiohttp.TCPConnector(limit=0, force_close=False)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def asker(number: int, until: float) -> None:
            turn = 0
            while (began := time.perf_counter()) < until:
                turn += 1
                asked = {**situation, "age": 20 + (7 * number + 3 * turn) % 60}
                body = {"domain": "crash.vehicles", "situation": asked, "per": "all", "neighbours": False}
                async with session.post(url, json=body) as response:
                    await response.read()
                    assert response.status == 200
                walls.append(time.perf_counter() - began)

        await asyncio.gather(*(asker(i, time.perf_counter() + 1.0) for i in range(at_once)))  # warms up
        walls.clear()
        await asyncio.gather(*(asker(i, time.perf_counter() + SECONDS) for i in range(at_once)))
    return sorted(walls)


def run(report: Report) -> None:
    """Figure 6, with one gateway process and with two, with uvloop and without; and what the time goes to."""
    for workers in (1, 2):
        asyncio.run(_measure(report, workers, "uvloop", AT_ONCE))
        with _environment(PYTHONPATH=str(SAMPLER / "plain")):
            asyncio.run(_measure(report, workers, "asyncio's loop", (PROFILED,)))
    asyncio.run(_profile(report))
