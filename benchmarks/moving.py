"""A network of 100,000 packets moves between engines under load; and how many of its shares have to be asked."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Figure, Report
from regional.clustering import regions_of
from regional.engine import Engine, NearestQuery
from regional.engines.address import EngineAddress
from regional.engines.backing import seq_of
from regional.engines.embedded.engine import EmbeddedEngine
from regional.engines.embedded.writer import Writer
from regional.engines.mirror import Home
from regional.engines.opening import engine_at
from regional.packets.packet import Packet
from regional.shares.moving import MovableEngine
from regional.shares.ownership import cut
from registry.errors import Unavailable
from registry.geometry.region import Bounds, squared_distances
from tests.engines.servers import NatsServers, RedisServer, Servers

SEED = 20261122
PACKETS = 100_000
D = 24
K = 50
BATCH = 500
CLUSTERS = 64
QUESTIONS = 300
SHARES = (2, 4, 8)
HOME = Home("moving", b"12345678", "net")


def run(report: Report) -> None:
    """Figure 5 of the engines."""
    _shares(report)
    asyncio.run(_moves(report))


class Places:
    """Directories and servers."""

    def __init__(self, home: Path, writer: Writer) -> None:
        self._home = home
        self._writer = writer

    def engine(self, place: Mapping[str, Any]) -> Engine:
        """What keeps packets at {at: ADDRESS}."""
        if place["at"] == "embedded":
            return EmbeddedEngine(HOME.network, D, self._home / "embedded", self._writer)
        return engine_at(EngineAddress.parse(place["at"], HOME.network), HOME, D)

    def name(self, place: Mapping[str, Any]) -> str:
        """The address."""
        return str(place["at"])


class Load:
    """Questions and deposits without end. longest: of each, in seconds, since it was asked last."""

    def __init__(self, engine: MovableEngine, points: np.ndarray) -> None:
        self._engine = engine
        self._points = points
        self._chance = np.random.default_rng(SEED)
        self.acknowledged = dict.fromkeys(range(len(points)), 1)
        self._ended = False
        self.asked: list[float] = []
        self.deposited: list[float] = []

    async def ask(self) -> None:
        """One question after the other."""
        while not self._ended:
            point = self._points[self._chance.integers(len(self._points))]
            begun = time.perf_counter()
            result = await self._engine.nearest(NearestQuery(point, K, "all"))
            self.asked.append(time.perf_counter() - begun)
            assert len(result.packets) == K
            await asyncio.sleep(0.005)

    async def deposit(self) -> None:
        """A packet's next version, or a new one, at a time."""
        while not self._ended:
            new = self._chance.random() < 0.5
            number = len(self.acknowledged) if new else int(self._chance.integers(len(self._points)))
            seq = self.acknowledged.get(number, 0) + 1
            made = packet(number, seq, self._points[number % len(self._points)])
            begun = time.perf_counter()
            await self._engine.put([(made, made.to_cbor())])
            self.deposited.append(time.perf_counter() - begun)
            self.acknowledged[number] = seq
            await asyncio.sleep(0.01)

    def end(self) -> None:
        """What is under way is finished."""
        self._ended = True

    def longest(self) -> tuple[float, float]:
        """Of questions and of deposits, in milliseconds; counted anew from now on."""
        asked, deposited = self.asked, self.deposited
        self.asked, self.deposited = [], []
        return max(asked, default=0.0) * 1000, max(deposited, default=0.0) * 1000


def packet(number: int, seq: int, point: np.ndarray) -> Packet:
    """Packet `number` in the version `seq`."""
    outcomes = {"cost": 12.5, "died": 0.0}
    node = number.to_bytes(8, "big")
    return Packet(*HOME, node, seq, 0.0, 0.0, point, "a", outcomes)


def population(n: int) -> np.ndarray:
    """Points (n, d) float32 in clusters, as situations lie."""
    chance = np.random.default_rng(SEED)
    centres = chance.normal(scale=3.0, size=(CLUSTERS, D))
    return (centres[chance.integers(CLUSTERS, size=n)] + chance.normal(size=(n, D))).astype(np.float32)


async def _moves(report: Report) -> None:
    points = population(PACKETS)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        servers: list[Servers] = [NatsServers(home, 1), RedisServer(home)]
        for each in servers:
            each.start()
        writer = Writer()
        try:
            engine = MovableEngine({"at": "embedded"}, Places(home, writer))
            await engine.open()
            for first in range(0, PACKETS, BATCH):
                rows = range(first, min(first + BATCH, PACKETS))
                made = [packet(number, 1, points[number]) for number in rows]
                await engine.put([(each, each.to_cbor()) for each in made])
            for to in (servers[0].url("net"), servers[1].url("net"), "embedded"):
                await _move(report, engine, to, Load(engine, points))
            await engine.close()
        finally:
            writer.close()
            for each in servers:
                each.stop()


async def _move(report: Report, engine: MovableEngine, to: str, load: Load) -> None:
    way = f"{engine.place['at'].partition(':')[0]} to {to.partition(':')[0]}"
    load.acknowledged = await _held(engine)
    tasks = [asyncio.create_task(load.ask()), asyncio.create_task(load.deposit())]
    await asyncio.sleep(3)
    before = load.longest()
    begun = time.perf_counter()
    await engine.move({"at": to})
    while engine.place["at"] != to:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - begun
    during = load.longest()
    while engine.busy:
        await asyncio.sleep(0.05)
    clearing = load.longest()
    load.end()
    await asyncio.gather(*tasks)
    report.add(Figure(5, "5", f"{way}: packets moved, under load", engine.count / took, "packets/s"))
    for what, index in (("question", 0), ("deposit", 1)):
        longest = max(during[index], clearing[index])
        ratio = longest / before[index] if before[index] else None
        name = f"{way}: longest wait of a {what} during the move"
        report.add(Figure(5, "5", name, longest, "ms", against="the longest in 3 s before", ratio=ratio))
    held = await _held(engine)
    lost = sum(held.get(number, 0) < seq for number, seq in load.acknowledged.items())
    twice = engine.count - len(load.acknowledged)  # of a node that is counted twice, or that nobody deposited
    report.add(Figure(5, "5", f"{way}: acknowledged packets lost", lost, "packets", bar="= 0", holds=lost == 0))
    name = f"{way}: packets counted twice"
    report.add(Figure(5, "5", name, twice, "packets", bar="= 0", holds=twice == 0))


async def _held(engine: MovableEngine) -> dict[int, int]:
    """Every packet that is kept: number and seq; read again where a server loses patience with a busy machine."""
    while True:
        with suppress(Unavailable):
            return await _read(engine)


async def _read(engine: MovableEngine) -> dict[int, int]:
    held: dict[int, int] = {}
    async with aclosing(engine.watch()) as watch:
        async for told in watch:
            for each in told.changes:
                if each.packet is not None:
                    held[int.from_bytes(each.node, "big")] = seq_of(each.packet)
            if told.complete:
                return held
    return held


def _shares(report: Report) -> None:
    """How many shares hold one of the K nearest, and how many have to be asked for a proof.

    By how a network is parted: by cuts along axes, or by a hash of the node.
    """
    points = population(PACKETS // 5)
    chance = np.random.default_rng(SEED)
    asked = points[chance.integers(len(points), size=QUESTIONS)] + chance.normal(scale=0.1, size=(QUESTIONS, D))
    for n in SHARES:
        ways = {"cuts": cut(points, n).of(points), "hash": chance.integers(n, size=len(points))}
        for way, own in ways.items():
            parts = [points[own == each] for each in range(n)]
            bounds = [Bounds.of(regions_of(part, ["a"] * len(part), 1)[0]) for part in parts]
            proof = holding = 0
            for question in asked:
                distances = squared_distances(points.astype(np.float64), question)
                nearest = np.argpartition(distances, K)[:K]
                r = np.sqrt(distances[nearest].max())
                holding += len(set(own[nearest].tolist()))
                proof += sum(bool((each.lower(question) <= r).any()) for each in bounds)
            name = f"{n} shares by {way}: asked for a proof (hold a neighbour: {holding / QUESTIONS:.2f})"
            report.add(Figure(5, "5", name, proof / QUESTIONS, "shares", against="all", ratio=proof / QUESTIONS / n))
