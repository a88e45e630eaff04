"""Issue 4, figure 5: what the walk costs by each carrier, validated and not, cold and warm; and how soon a deposit is
found: its acknowledgement, its coverage, and the first answer of a gateway whose cache was warm."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.federations import running
from benchmarks.live import packets_of
from benchmarks.report import Figure, Report
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.question import Question
from regional.packets.packet import Packet, node_text
from registry.dns.message import question
from registry.dns.wire import TXT
from registry.likeness.fingerprint import to_base64
from tests.peers.carriers import carried, signed_by_knot, unbound
from tests.peers.peers import serving

DOMAIN = "crash.vehicles"
COLD_ROUNDS = 15
WARM_ROUNDS = 15
QUESTIONS = 20
DEPOSITS = 6
FOUND_WITHIN_S = 120.0
COVERED_S = 0.5 + 0.25 + 1.0  # quiet, coalesce, a serial a second: docs/operations.md, "How soon a deposit is found"
FOUND_S = 60.0  # the time to live of a cell

FEDERATION = """\
version: 1
data_dir: .
registry:
  dns: PORT2
  http: PORT3
  keys: {transfer: {secret: "file:keys/transfer.tsig"}}
  secondaries: {knot: {notify: PORT5, key: transfer}}
  ds: ds.txt
domains: {crash.vehicles: {schema: examples/domains/crash.yaml}}
networks:
  crash-{site}:
    {domain: crash.vehicles, process: all, listen: PORT1, data: examples/data/nass_cds_crash.csv.gz,
     each: {site: {column: site_psu, parts: 24}}}
gateway: {listen: PORT4}
"""


def run(report: Report) -> None:
    asyncio.run(measure(report))


async def measure(report: Report) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        async with running(home, FEDERATION) as (config, _), AsyncExitStack() as stack:
            knot, _ = await stack.enter_async_context(signed_by_knot(config, home))
            [peer] = await stack.enter_async_context(serving(unbound(home, knot.port)))
            dns = str(config.registry.dns)
            signed = {"anchor": "file:anchor"}
            walk = f"127.0.0.1:{knot.port}"
            recursive = f"127.0.0.1:{peer.port}"
            configs = {
                "own walk": carried(config, "walk", walk=walk),
                "own walk, validated": carried(config, "walk-signed", walk=walk, **signed),
                "through Unbound": carried(config, "recursive", recursive=recursive),
                "through Unbound, validated": carried(config, "recursive-signed", recursive=recursive, **signed),
                "copy": carried(config, "copy", copy=dns, key="transfer"),
            }
            asked = _questions(config)
            await _walks(report, configs, asked)
            await _deposits(report, configs["own walk"], config)


def _questions(config: FederationConfig) -> list[Question]:
    """Halfway between members drawn by lot."""
    points = np.array([packet.fingerprint for packet in packets_of(config, DOMAIN)])
    draw = np.random.default_rng(4)
    space = config.schemas()[DOMAIN].space.hex()
    queries = [points[draw.choice(len(points), 2, replace=False)].mean(axis=0) for _ in range(QUESTIONS)]
    return [_question(to_base64(query.astype(np.float32)), space) for query in queries]


def _question(fingerprint: str, space: str, **more: Any) -> Question:
    members = {"domain": DOMAIN, "fingerprint": fingerprint, "space": space, "deadline_ms": 30_000, "per": "all"}
    return Question.from_document({**members, **more})


async def _walks(report: Report, configs: dict[str, FederationConfig], asked: Sequence[Question]) -> None:
    cold: dict[str, list[tuple[float, float]]] = {name: [] for name in configs}
    warm: dict[str, list[tuple[float, float]]] = {name: [] for name in configs}
    for _ in range(COLD_ROUNDS):
        for name, config in configs.items():
            async with Federation.open(config) as federation:
                if name == "copy":  # which is taken before anybody asks
                    await _transferred(federation)
                cold[name].append(await _spent(federation, asked[:1]))
    async with AsyncExitStack() as stack:
        gateways = {name: await stack.enter_async_context(Federation.open(each)) for name, each in configs.items()}
        for federation in gateways.values():
            await _spent(federation, asked)
        for _ in range(WARM_ROUNDS):
            for name, federation in gateways.items():
                warm[name].append(await _spent(federation, asked))
    for temper, spent in (("cold", cold), ("warm", warm)):
        for name, rounds in spent.items():
            plain = name.removesuffix(", validated")
            for what, index in (("CPU", 0), ("p50", 1)):
                value = statistics.median(each[index] for each in rounds)
                ratio = statistics.median(a[index] / b[index] for a, b in zip(rounds, spent[plain], strict=True))
                bound = temper == "warm" and what == "CPU" and plain != name
                report.add(
                    Figure(
                        4,
                        "5",
                        f"{temper} walk, {name}: {what}",
                        value * 1000,
                        "ms",
                        None if plain == name else "unvalidated",
                        None if plain == name else ratio,
                        "<= 1.2" if bound else None,
                        ratio <= 1.2 if bound else None,
                    )
                )


async def _transferred(federation: Federation) -> None:
    """Until the domain's copy is here."""
    apex = federation.naming(DOMAIN).apex
    await federation.resolver._lookups._source.find(apex, question(apex, TXT), 30.0)


async def _spent(federation: Federation, asked: Sequence[Question]) -> tuple[float, float]:
    """(CPU, median wall) in seconds per walk."""
    walls = []
    cpu = time.process_time()
    for each in asked:
        began = time.perf_counter()
        await federation.resolve(each)
        walls.append(time.perf_counter() - began)
    return (time.process_time() - cpu) / len(asked), statistics.median(walls)


async def _deposits(report: Report, config: FederationConfig, source: FederationConfig) -> None:
    """Strangers, far from everybody: each is found only once its network has covered it anew."""
    packets = packets_of(source, DOMAIN)
    async with Federation.open(config) as federation, aiohttp.ClientSession() as session:
        chosen = list({packet.network: packet for packet in packets}.values())[:DEPOSITS]
        tasks = [_one(federation, session, source, packet, number) for number, packet in enumerate(chosen)]
        times = await asyncio.gather(*tasks)
    for what, index, bound in (
        ("acknowledgement to coverage", 0, COVERED_S),
        ("coverage to the first answer that has it, own walk, cache warm", 1, FOUND_S),
    ):
        values = sorted(each[index] for each in times)
        report.add(Figure(4, "fresh", f"{what}: p50 of {DEPOSITS} deposits", statistics.median(values), "s"))
        longest, against = values[-1], f"bound without work, {bound:g} s"
        report.add(Figure(4, "fresh", f"{what}: longest", longest, "s", against, longest / bound))


async def _one(
    federation: Federation, session: aiohttp.ClientSession, config: FederationConfig, like: Packet, number: int
) -> tuple[float, float]:
    """Seconds from acknowledgement to coverage, and from there until an answer of K=1 is this packet."""
    await asyncio.sleep(2.0 * number)
    fingerprint = np.asarray(like.fingerprint, dtype=np.float32) + np.float32(40 + 10 * number)
    node = f"stranger-{number}".encode()
    packet = replace(like, node=node, seq=1, fingerprint=fingerprint)
    endpoint = config.networks[like.network].endpoint
    headers = {"Content-Type": "application/cbor-seq"}
    asked = _question(to_base64(fingerprint), federation.schemas[DOMAIN].space.hex(), k=1)
    await federation.ask(asked)
    async with session.post(f"{endpoint}/v1/packets", data=packet.to_cbor(), headers=headers) as response:
        report = await response.json(content_type=None)
        assert report["accepted"] == 1, report
    acknowledged = time.perf_counter()
    covered: float | None = None
    async with asyncio.timeout(FOUND_WITHIN_S):
        while True:
            if covered is None:
                async with session.get(f"{endpoint}/v1/coverage") as response:
                    said = await response.json(content_type=None)
                if not said["uncovered"] and not said["pending"]:
                    covered = time.perf_counter()
            answer = (await federation.ask(asked)).document()
            neighbours: Any = answer["neighbours"]
            if covered is not None and neighbours and neighbours[0]["node"] == node_text(node):
                return covered - acknowledged, time.perf_counter() - covered
            await asyncio.sleep(0.05)
