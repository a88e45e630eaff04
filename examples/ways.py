"""One answer, N ways: the same packets and questions through every topology and engine.

A way is a domain of one federation, all of one schema: what differs is which networks hold the packets, on what, and
who is asked for them. The test tests/acceptance/test_one_answer.py and the demonstration share it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from gateway.answer import Answer
from gateway.configuration.config import FederationConfig
from gateway.federation import Federation
from gateway.question import Question
from regional.client import NetworkClient
from regional.connections import Connections
from regional.files.loading import load
from regional.files.table import read_rows
from regional.packets.packet import Packet, identity_digest
from registry.errors import KindredError
from registry.geometry.region import squared_distances
from registry.likeness.fingerprint import to_base64
from registry.likeness.schema import Schema

ROOT = Path(__file__).parent.parent
SCHEMA = Schema.from_yaml(ROOT / "examples/domains/crash.yaml")
DATA = ROOT / "examples/data/nass_cds_crash.csv.gz"
REGIONS = [*range(2, 7), 8, 9, *range(11, 14), *range(41, 44), 45, *range(47, 51), *range(72, 77), 78, 79, 81, 82]
SEED = 20261122
SHARDS = 10
TIMEOUT_S = 30.0
BATCH = 4_000  # packets in one deposit
AT_ONCE = 4  # questions under way, where nothing else is said

# Members of an answer that tell who said what, or rest on what each network says of all its nodes: a table of moments,
# which leaves out what would tell of few, so that it depends on who keeps them.
OF_NETWORKS = frozenset(
    {"networks", "heterogeneity", "whole", "adjusted", "adjustment", "ratios", "distinct", "verdict", "note"}
)

# Every engine, and who is asked: the network, or the engine itself. Each is a way of its own where the last says so,
# and a part of the mixed federation.
SERVED = (
    ("nats", "network", True), ("mqtt", "network", True), ("etcd", "network", True), ("redis", "network", True),
    ("milvus", "network", True), ("nats", "engine", True), ("mqtt", "engine", True), ("dht", "engine", True),
    ("redis", "engine", False),
)  # fmt: skip


class Part(NamedTuple):
    """One network of a way. engine: `embedded`, or where its server is."""

    engine: str = "embedded"
    serve: str = "network"


@dataclass(frozen=True, eq=False)
class Way:
    """name: first label of its domain. of: (n,) which part has each packet."""

    name: str
    parts: Sequence[Part]
    of: np.ndarray

    @property
    def domain(self) -> str:
        return f"{self.name}.crash"

    def network(self, part: int) -> str:
        return f"{self.name}-{part:02d}"


@dataclass(frozen=True, eq=False)
class Pool:
    """All packets together. points: (n, d) float64. region: (n,) by sampling area."""

    packets: Sequence[Packet]
    points: np.ndarray
    region: np.ndarray

    @classmethod
    def read(cls, most: int) -> Pool:
        """`most` of the crashes, drawn with a fixed seed."""
        rows = list(read_rows(DATA, SCHEMA))
        parts = [load(rows, SCHEMA, "x", "x", {"site_psu": psu}).packets for psu in REGIONS]
        region = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        packets = [packet for part in parts for packet in part]
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(packets))[:most])
        packets = [packets[row] for row in chosen]
        return cls(packets, np.array([each.fingerprint for each in packets], dtype=np.float64), region[chosen])


def name_of(scheme: str, serve: str) -> str:
    """The way on which one network keeps all packets with this engine."""
    return scheme if serve == "network" else f"{scheme}-read"


def ways(pool: Pool, urls: Mapping[str, str]) -> list[Way]:
    """Those that can be gone with these servers: by scheme, the beginning of their address."""
    n = len(pool.packets)
    shards = KMeans(SHARDS, n_init=1, random_state=SEED).fit_predict(pool.points)
    nobody = np.zeros(n, dtype=np.intp)
    found = [
        Way("one", [Part()], nobody),
        Way("shards", [Part()] * SHARDS, shards),
        Way("regions", [Part()] * len(REGIONS), pool.region),
    ]
    parts = [(Part(urls[scheme], serve), scheme, alone) for scheme, serve, alone in SERVED if scheme in urls]
    found += [Way(name_of(scheme, part.serve), [part], nobody) for part, scheme, alone in parts if alone]
    if parts:
        mixed = [Part(), *(part for part, _, _ in parts), Part()]
        found.append(Way("mixed", mixed, np.random.default_rng(SEED).integers(0, len(mixed), n)))
    return found


def federation_yaml(chosen: Sequence[Way], ports: Mapping[str, int]) -> str:
    """The federation that has them all. ports: dns, http, gateway, networks."""
    lines = [
        "version: 1",
        f'registry: {{dns: "127.0.0.1:{ports["dns"]}", http: "127.0.0.1:{ports["http"]}"}}',
        "domains:",
        *(f"  {way.domain}: {{schema: {ROOT}/examples/domains/crash.yaml}}" for way in chosen),
        "networks:",
    ]
    for way in chosen:
        for number, part in enumerate(way.parts):
            name = way.network(number)
            engine = part.engine if part.engine == "embedded" else f"{part.engine}/{name}"
            where = f'process: ways, listen: "127.0.0.1:{ports["networks"]}"'
            lines.append(f'  {name}: {{domain: {way.domain}, engine: "{engine}", serve: {part.serve}, {where}}}')
    return "\n".join([*lines, f'gateway: {{listen: "127.0.0.1:{ports["gateway"]}", deadline: {TIMEOUT_S:.0f}s}}', ""])


async def deposit(config: FederationConfig, pool: Pool, chosen: Sequence[Way]) -> None:
    """Give every network its packets, and wait until all are covered."""
    async with Connections() as connections:
        client = NetworkClient(connections)

        async def fill(way: Way, part: int) -> None:
            name = way.network(part)
            rows = np.flatnonzero(way.of == part)
            packets = [replace(pool.packets[row], domain=way.domain, network=name) for row in rows]
            endpoint = config.networks[name].endpoint
            for start in range(0, len(packets), BATCH):
                some = packets[start : start + BATCH]
                report = await client.deposit(endpoint, some, TIMEOUT_S)
                if report.accepted != len(some):
                    raise KindredError(f"{name}: {report.accepted} of {len(some)} packets were taken")
            while (state := await client.coverage(endpoint, TIMEOUT_S)).pending:
                await asyncio.sleep(0.05)
            if state.uncovered or state.packets != len(packets):
                raise KindredError(f"{name}: {state.uncovered} of {state.packets} packets are not covered")

        for way in chosen:
            await asyncio.gather(*(fill(way, part) for part in range(len(way.parts))))


class Asked(NamedTuple):
    """A question's fingerprint (d,), and of each arm the rows up to the K-th distance, ties too, with their squares.

    decided: every K-th place is decided by distance alone, whatever the networks are called.
    """

    fingerprint: np.ndarray
    per: str
    k: int
    arms: Sequence[tuple[np.ndarray, np.ndarray]]
    decided: bool


def questions(pool: Pool, n: int, k: int) -> list[Asked]:
    """Somebody like the members: most between two of them, some one of them; every third over all actions.

    Two of three are such that each K-th place is decided by distance alone: there all ways have the same neighbours.
    """
    random = np.random.default_rng(SEED)
    actions = np.array([packet.action for packet in pool.packets])
    rows_of = {"action": [np.flatnonzero(actions == action) for action in SCHEMA.actions]}
    rows_of["all"] = [np.arange(len(actions))]
    made: list[Asked] = []
    while len(made) < n:
        pair = random.choice(len(pool.points), 2, replace=False)
        member = len(made) % 5 == 0
        place = (pool.points[pair[0]] if member else pool.points[pair].mean(axis=0)).astype(np.float32)
        per = "all" if len(made) // 2 % 3 == 0 else "action"
        distances2 = squared_distances(pool.points, place.astype(np.float64))
        arms = []
        for rows in rows_of[per]:
            near = rows[distances2[rows] <= np.partition(distances2[rows], k - 1)[k - 1]]
            arms.append((near, distances2[near]))
        decided = all(len(near) == k for near, _ in arms)
        if decided or len(made) % 3 == 0:
            made.append(Asked(place, per, k, arms, decided))
    return made


def expected(pool: Pool, way: Way, asked: Asked) -> list[tuple[str, bytes, float]]:
    """What brute force over all packets together answers: network, node and squared distance, in the total order."""
    found = []
    for rows, distances2 in asked.arms:
        order = sorted(
            (float(distance2), identity_digest(way.network(way.of[row]), pool.packets[row].node), row)
            for row, distance2 in zip(rows.tolist(), distances2.tolist(), strict=True)
        )
        found += [(way.network(way.of[row]), pool.packets[row].node, d2) for d2, _, row in order[: asked.k]]
    return found


def same(answer: Answer, right: Sequence[tuple[str, bytes, float]]) -> bool:
    """Whether the answer has exactly these neighbours, and says that they are all."""
    found = [(each.network, each.packet.node, each.distance2) for each in answer.neighbours]
    return answer.certificate.neighbours_complete and found == list(right)


def pooled(value: Any) -> Any:
    """What a part of an answer says of the neighbours alone, without OF_NETWORKS."""
    if isinstance(value, dict):
        return {name: pooled(each) for name, each in value.items() if name not in OF_NETWORKS}
    return [pooled(each) for each in value] if isinstance(value, list) else value


def estimates(answer: Answer) -> dict[str, Any]:
    """What the answer says of the neighbours' outcomes."""
    return {"synthesis": pooled(answer.synthesis), "balance": pooled(answer.balance), "found": answer.found}


class Gone(NamedTuple):
    """One way gone: how many answers were other than brute force, median ms, and what each said of the outcomes."""

    way: Way
    differences: int
    ms: float
    estimates: Sequence[dict[str, Any]]


async def go(federation: Federation, pool: Pool, way: Way, asked: Sequence[Asked], at_once: int = AT_ONCE) -> Gone:
    """Ask all questions of a way; what is read for the first time is read before."""

    def question(each: Asked) -> Question:
        members = {
            "fingerprint": to_base64(each.fingerprint),
            "space": SCHEMA.space.hex(),
            "k": each.k,
            "per": each.per,
        }
        return Question.from_document({"domain": way.domain, **members})

    await federation.ask(question(asked[0]))
    slots = asyncio.Semaphore(at_once)

    async def one(each: Asked) -> tuple[float, Answer]:
        async with slots:
            began = time.monotonic()
            answer = await federation.ask(question(each))
            return (time.monotonic() - began) * 1000, answer

    answered = await asyncio.gather(*(one(each) for each in asked))
    wrong = sum(not same(a, expected(pool, way, each)) for (_, a), each in zip(answered, asked, strict=True))
    return Gone(way, wrong, statistics.median(ms for ms, _ in answered), [estimates(a) for _, a in answered])


def apart(gone: Sequence[Gone], asked: Sequence[Asked]) -> dict[str, int]:
    """By way, of how many questions whose neighbours are the same everywhere it says something else than the first."""
    rows = [row for row, each in enumerate(asked) if each.decided]
    return {each.way.name: sum(each.estimates[row] != gone[0].estimates[row] for row in rows) for each in gone}
