"""What a question's answer must be: brute force over the rows of all networks pooled, in the one total order.

Where aggregates are released, over all atoms that the networks show instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import numpy.typing as npt
import orjson

from gateway.configuration.config import FederationConfig
from regional.cohort import Figures
from regional.files.loading import load
from regional.files.table import read_rows
from regional.packets.packet import Packet, identity_digest, node_text
from regional.releasing.atom import step_of
from regional.releasing.page import Home, read_page
from registry.geometry.region import squared_distances
from registry.likeness.fingerprint import encode, from_wire
from registry.likeness.schema import Schema

Place = tuple[str, str]  # network and node, as an answer names them


class Shown(NamedTuple):
    """An atom as a network shows it."""

    network: str
    node: bytes
    fingerprint: npt.NDArray[np.float64]
    action: str
    size: int
    outcomes: Mapping[str, Figures]


class Truth:
    """The current packets, or atoms, of one domain, of every network."""

    def __init__(self, config: FederationConfig, domain: str) -> None:
        self.domain = domain
        self.schema: Schema = config.schemas()[domain]
        self.packets: dict[tuple[str, bytes], Any] = {}
        self._config = config
        if self.schema.release == "aggregates":
            return
        for network in config.networks.values():
            if network.domain == domain and network.data is not None:
                rows = read_rows(network.data, self.schema)
                for packet in load(rows, self.schema, domain, network.name, network.where).packets:
                    self.take(packet)

    async def look(self, session: aiohttp.ClientSession) -> Truth:
        """Take what the networks show, where they show atoms."""
        if self.schema.release == "packets":
            return self
        for network in self._config.networks.values():
            if network.domain != self.domain:
                continue
            home = Home(self.domain, network.name, self.schema.space, self.schema.dimension, step_of(self.schema))
            async with session.get(f"{network.endpoint}/v1/atoms") as response:
                index = orjson.loads(await response.read())
            for entry in index["pages"]:
                async with session.get(f"{network.endpoint}/v1/atoms/{entry['digest']}") as response:
                    page = read_page(await response.read(), home, index["min_cohort"])
                columns = zip(page.nodes, page.centres, page.actions, page.sizes.tolist(), page.figures, strict=True)
                for node, *rest in columns:
                    self.packets[network.name, node] = Shown(network.name, node, *rest)
        return self

    def take(self, packet: Packet) -> None:
        """A deposit: only what is newer counts."""
        held = self.packets.get((packet.network, packet.node))
        if held is None or packet.seq > held.seq:
            self.packets[packet.network, packet.node] = packet

    def query(self, question: dict[str, Any]) -> npt.NDArray[np.float64]:
        if "situation" in question:
            return encode(self.schema, question["situation"]).astype(np.float64)
        return from_wire(question["fingerprint"], self.schema.dimension).astype(np.float64)

    def nearest(self, question: dict[str, Any], without: Collection[str] = ()) -> list[tuple[Place, float]]:
        """The K nearest of every arm, arms in the schema's order, nearest first, with their distances."""
        k, per = question.get("k", 50), question.get("per", "action")
        held = [packet for packet in self.packets.values() if packet.network not in without]
        chosen: Sequence[str] = question.get("actions") or self.schema.actions
        if not held:
            return []
        distances = squared_distances(
            np.array([packet.fingerprint for packet in held], dtype=np.float64), self.query(question)
        )
        ordered = sorted(
            (
                (distance, identity_digest(packet.network, packet.node), packet)
                for distance, packet in zip(distances.tolist(), held, strict=True)
                if packet.action in chosen or ("actions" not in question and per == "all")
            ),
            key=lambda each: each[:2],
        )
        arms = [[each for each in ordered if each[2].action == arm] for arm in chosen] if per == "action" else [ordered]
        return [
            ((packet.network, node_text(packet.node)), distance**0.5)
            for arm in arms
            for distance, _, packet in _until(arm, k)
        ]

    def places(self, question: dict[str, Any], without: Collection[str] = ()) -> list[Place]:
        return [place for place, _ in self.nearest(question, without)]


def _until(ordered: Sequence[Any], k: int) -> Sequence[Any]:
    """The first of them that have k nodes together."""
    reached = 0
    for place, (_, _, packet) in enumerate(ordered):
        reached += getattr(packet, "size", 1)
        if reached >= k:
            return ordered[: place + 1]
    return ordered


def places(answer: dict[str, Any]) -> list[Place]:
    """The neighbours of an answer."""
    return [(each["network"], each["node"]) for each in answer["neighbours"]]


def check_bounded(truth: Truth, question: dict[str, Any], answer: dict[str, Any], missing: set[str]) -> None:
    """An incomplete answer: it says who is missing, what the others hold is there, and no more is promised than holds.

    Every true neighbour that is absent is of a network which is missing, no nearer than that was said to be, and no
    nearer than complete_within.
    """
    certificate = answer["certificate"]
    assert not certificate["neighbours_complete"]
    assert {each["network"] for each in certificate["missing"]} == missing
    got = places(answer)
    assert got == truth.places(question, without=missing)
    lost: dict[str, int] = {}
    for place, distance in truth.nearest(question):
        if place in got:
            continue
        said = next(each for each in certificate["missing"] if each["network"] == place[0])
        lost[place[0]] = lost.get(place[0], 0) + 1
        assert certificate["complete_within"] <= distance
        assert said["lower_bound"] <= distance
        assert lost[place[0]] <= said["at_most"]
