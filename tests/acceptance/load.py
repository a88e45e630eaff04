"""A network under load: deposits without end, questions without end, each answer held to what its certificate says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.federation import Federation
from regional.client import NetworkClient
from regional.connections import Connections
from regional.packets.packet import Packet, identity_digest, node_from_text
from registry.geometry.region import squared_distances
from tests.acceptance.federated import Federated, until
from tests.acceptance.truth import Place, Truth, places

K = 15
_Key = tuple[str, bytes]


class Load:
    """Deposits with one network of the domain that `truth` knows, and asks the whole federation."""

    def __init__(self, kindred: Federated, truth: Truth, network: str, seed: int = 7) -> None:
        self.truth = truth
        self.asked = self.complete = self.deposited = 0
        self.missing: list[dict[str, Any]] = []
        self._kindred = kindred
        self._network = network
        self._chance = np.random.default_rng(seed)
        self._sure = dict.fromkeys(truth.packets, 0.0)  # acknowledged as covered, since when
        self._versions: dict[_Key, list[Packet]] = {key: [packet] for key, packet in truth.packets.items()}
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = False

    async def __aenter__(self) -> Load:
        self._stop = False
        self._tasks = [asyncio.create_task(self._deposit()), asyncio.create_task(self._ask())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    def died(self) -> None:
        """Raise what ended the load, if anything did."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def settled(self, federation: Federation | None = None) -> None:
        """Deposits have stopped and are covered: every packet is found, once, and answers equal brute force."""
        endpoint = self._kindred.config.networks[self._network].endpoint
        async with Connections() as connections:
            client = NetworkClient(connections)

            async def covered() -> bool:
                return not (await client.coverage(endpoint, 5)).pending

            await until(covered)
        federation = federation or self._kindred.federation
        for question in (self._question() | {"k": 10_000, "per": "all"}, self._question(), self._question()):
            expected = self.truth.places(question)

            async def right(question: dict[str, Any] = question, expected: list[Place] = expected) -> bool:
                """As soon as the registry's times to live, of one second, are over."""
                answer = (await federation.ask(**question, deadline_ms=10_000)).document()
                got = places(answer)
                assert len(set(got)) == len(got)
                return bool(answer["certificate"]["neighbours_complete"]) and got == expected

            await until(right)

    async def _deposit(self) -> None:
        """New nodes, nodes in a new situation, newer outcomes; one acknowledged after the other."""
        endpoint = self._kindred.config.networks[self._network].endpoint
        async with Connections() as connections:
            client = NetworkClient(connections)
            while not self._stop:
                mine = [each for each in self.truth.packets.values() if each.network == self._network]
                one, other = (mine[int(row)] for row in self._chance.integers(len(mine), size=2))
                kind = int(self._chance.integers(3))
                if kind == 0:
                    made = replace(one, node=b"new-%d" % self.deposited, seq=1)
                elif kind == 1:
                    made = replace(one, seq=one.seq + 1, fingerprint=other.fingerprint, action=other.action)
                else:
                    made = replace(one, seq=one.seq + 1)
                key = made.network, made.node
                self._versions.setdefault(key, []).append(made)
                self._sure.pop(key, None)
                report = await client.deposit(endpoint, [made], 15)
                assert (report.accepted, report.rejected) == (1, ())
                self.truth.take(made)
                if report.covered:
                    self._sure[key] = time.time()
                self.deposited += 1

    async def _ask(self) -> None:
        while not self._stop:
            before = dict(self._sure)
            question = self._question()
            answer = await self._kindred.ask(**question)
            self.asked += 1
            self.complete += answer["certificate"]["neighbours_complete"]
            self.missing += answer["certificate"]["missing"]
            as_of = answer["certificate"]["as_of"] or 0
            unchanged = [key for key, at in before.items() if at <= as_of and self._sure.get(key) == at]
            self._check(question, answer, {key: self.truth.packets[key] for key in unchanged})

    def _question(self) -> dict[str, Any]:
        held = list(self.truth.packets.values())
        point = held[int(self._chance.integers(len(held)))].fingerprint + self._chance.normal(scale=0.05)
        listed = [float(each) for each in np.asarray(point, dtype=np.float32)]
        return {
            "domain": self.truth.domain,
            "fingerprint": listed,
            "space": self.truth.schema.space.hex(),
            "k": K,
            "per": "action",
        }

    def _check(self, question: dict[str, Any], answer: dict[str, Any], unchanged: dict[_Key, Packet]) -> None:
        """What the certificate says: of what was covered and did not change, nothing nearer is missing."""
        query = self.truth.query(question)
        got: dict[str, list[tuple[float, bytes]]] = {}
        nodes = set()
        for each in answer["neighbours"]:
            key = each["network"], node_from_text(each["node"])
            assert key in self._versions
            assert key not in nodes, "a node came twice"
            nodes.add(key)
            rank = (each["distance"], identity_digest(*key))
            got.setdefault(each["action"], []).append(rank)
        if not answer["certificate"]["neighbours_complete"]:
            return
        listed = list(unchanged.items())
        points = np.array([packet.fingerprint for _, packet in listed], dtype=np.float64)
        for (key, packet), distance2 in zip(listed, squared_distances(points, query).tolist(), strict=True):
            ranks = got.get(packet.action or "", [])
            last = max(ranks) if len(ranks) >= K else (np.inf, b"")
            if key not in nodes:
                assert (distance2**0.5, identity_digest(*key)) > last, f"{key} is missing"
