"""A real federation for a benchmark, and the truth to hold its answers against: all packets pooled, brute force."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks.federations import free_port
from benchmarks.report import ROOT
from gateway.cli.deposit import deposit_all
from gateway.cli.up import Processes
from gateway.configuration.config import FederationConfig
from gateway.planning.candidates import Candidate
from gateway.question import Question
from regional.files.loading import load
from regional.files.table import Row, read_rows
from regional.packets.packet import Packet, identity_digest
from registry.geometry.region import Vector, squared_distances
from registry.likeness.fingerprint import to_base64
from registry.likeness.schema import Schema

MEMBERS = 0.1  # share of the questions that are a member's own fingerprint, where ties are
PATIENT_MS = 30_000

Neighbour = tuple[str, bytes, float]  # network, node, squared distance
Fingerprint = npt.NDArray[np.float32]


def configuration(name: str, change: Callable[[dict[str, Any]], None] = lambda _document: None) -> Path:
    """federation.yaml with free ports and an empty data directory, under build/bench/NAME; `change` edits it first."""
    home = ROOT / "build" / "bench" / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    document = yaml.safe_load((ROOT / "federation.yaml").read_text())
    change(document)
    document["data_dir"] = "."
    for domain in document["domains"].values():
        domain["schema"] = str(ROOT / domain["schema"])
    shared: dict[str, str] = {}
    for place in (document["registry"], document["gateway"], *document["networks"].values()):
        for key in place.keys() & {"dns", "http", "listen"}:
            place[key] = shared.setdefault(place[key], f"127.0.0.1:{free_port()}")
        if "data" in place:
            place["data"] = str(ROOT / place["data"])
    path = home / "federation.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@asynccontextmanager
async def federation_of(path: Path) -> AsyncIterator[tuple[FederationConfig, Processes]]:
    """Every role in a process of its own, the data of all networks deposited and published."""
    config = FederationConfig.from_yaml(path)
    async with Processes(config, path) as processes:
        await deposit(config)
        yield config, processes


async def deposit(config: FederationConfig) -> None:
    """The data of all networks."""
    chosen = [(network, network.data) for network in config.networks.values() if network.data is not None]
    await deposit_all(config, chosen, quiet=True)


@cache
def _rows(path: Path, schema: Schema) -> list[Row]:
    return list(read_rows(path, schema))


def packets_of(config: FederationConfig, domain: str) -> list[Packet]:
    """The current packet of every node of a domain, from the files that were deposited."""
    schema = config.schemas()[domain]
    current: dict[tuple[str, bytes], Packet] = {}
    for network in config.networks.values():
        if network.domain == domain and network.data is not None:
            for packet in load(_rows(network.data, schema), schema, domain, network.name, network.where).packets:
                held = current.get((network.name, packet.node))
                if held is None or packet.seq > held.seq:
                    current[network.name, packet.node] = packet
    return list(current.values())


class Pool:
    """All packets of a domain in one place. points: (n, d) float64, axis by axis in memory."""

    def __init__(self, schema: Schema, packets: Sequence[Packet]) -> None:
        self.schema = schema
        self.nodes = [packet.node for packet in packets]
        self.networks = np.array([packet.network for packet in packets])
        self.actions = np.array([packet.action or "" for packet in packets])
        self.points: Vector = np.asfortranarray([packet.fingerprint for packet in packets], dtype=np.float64)
        self._rows = {arm: np.flatnonzero(self.actions == arm) for arm in schema.actions}
        self._rows[""] = np.arange(len(packets))

    def distances2(self, query: Fingerprint) -> Vector:
        """(n,): in float64, with the summation order of the federation's own."""
        return squared_distances(self.points, query.astype(np.float64))

    def nearest(self, distances2: Vector, k: int, rows: npt.NDArray[np.intp]) -> list[Neighbour]:
        """The first k of `rows` in the total order (squared distance, SHA-256 of network and node)."""
        if len(rows) > k:
            rows = rows[distances2[rows] <= np.partition(distances2[rows], k - 1)[k - 1]]
        found = [(float(distances2[row]), self._digest(int(row)), int(row)) for row in rows]
        return [(str(self.networks[row]), self.nodes[row], d2) for d2, _, row in sorted(found)[:k]]

    def truth(self, distances2: Vector, k: int, per: str, without: str | None = None) -> list[list[Neighbour]]:
        """The neighbours by brute force, a list per arm; `without` one network's packets."""
        found = []
        for arm in self.arms(per):
            rows = self._rows[arm]
            found.append(self.nearest(distances2, k, rows if without is None else rows[self.networks[rows] != without]))
        return found

    def arms(self, per: str) -> tuple[str, ...]:
        """Actions that have neighbours of their own; one arm "" for all."""
        return self.schema.actions if per == "action" and self.schema.actions else ("",)

    def queries(self, n: int, random: np.random.Generator, members: float = MEMBERS) -> list[Fingerprint]:
        """Somebody like the members: halfway between two; and some members themselves, where ties are."""
        chosen = []
        for _ in range(n):
            pair = random.choice(len(self.nodes), 2, replace=False)
            if random.random() < members:
                pair = pair[:1]
            chosen.append(self.points[pair].mean(axis=0).astype(np.float32))
        return chosen

    def _digest(self, row: int) -> bytes:
        return identity_digest(str(self.networks[row]), self.nodes[row])


def question(
    domain: str, schema: Schema, query: Fingerprint, k: int, per: str, deadline_ms: int = PATIENT_MS
) -> Question:
    """An exact question by fingerprint."""
    members: Mapping[str, object] = {
        "domain": domain,
        "fingerprint": to_base64(query),
        "space": schema.space.hex(),
        "k": k,
        "per": per,
        "deadline_ms": deadline_ms,
    }
    return Question.from_document(members)


def found(neighbours: Sequence[Candidate]) -> list[Neighbour]:
    """An answer's neighbours in its order."""
    return [(each.network, each.packet.node, each.distance2) for each in neighbours]


def flat(arms: Sequence[Sequence[Neighbour]]) -> list[Neighbour]:
    """The neighbours of all arms, one arm after the other."""
    return [each for arm in arms for each in arm]
