"""Keeps a network's second-moment table: made anew, and signed, as its coverage and its packets change."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import numpy as np

from regional.momenttable import MomentTable, Nodes, nodes_of
from regional.network import Network
from regional.packets.batch import Batch
from registry.clock import Clock
from registry.keys import SigningKey
from registry.likeness.schema import Schema

LOOK_S: Final = 1.0  # how often to see whether anything has changed
SHARE: Final = 0.05  # of the time, at most, is spent on tables: each takes a pass over every packet

log = logging.getLogger(__name__)


class Tabulator:
    """The background work of one network; `run` it in a task that its owner cancels."""

    def __init__(self, network: Network, key: SigningKey, clock: Clock) -> None:
        self._network = network
        self._key = key
        self._clock = clock
        self._made_at: tuple[int, int] | None = None

    async def run(self) -> None:
        """Make the table whenever what it is made of has changed, for ever; the larger it is, the less often."""
        while True:
            await self._network.covered.wait()
            begun = self._clock.monotonic()
            try:
                await self.step()
            except Exception as error:  # whatever it is: the next round may do better
                log.warning("%s: no table of moments: %s", self._network.name, error)
            took = self._clock.monotonic() - begun
            await asyncio.sleep(max(LOOK_S, took / SHARE))

    async def step(self) -> None:
        """Make the table, unless the one at hand is of the same packets. Raises Unavailable, PacketError."""
        network = self._network
        mark = network.serial, network.stored
        if mark == self._made_at or network.schema.release != "packets":
            return
        raw = await network.packets()
        document = await asyncio.to_thread(self._made, raw, network.serial)
        network.tabulated(document)
        self._made_at = mark

    def _made(self, raw: list[bytes], serial: int) -> dict[str, object]:
        network, schema = self._network, self._network.schema
        home = network.domain, network.name
        batch = Batch.of(raw, (network.domain, schema.space[:8], network.home), schema.dimension)
        table = MomentTable.of(schema, _nodes(batch, schema), network.min_cohort, serial)
        return table.document(home, schema.space.hex(), self._clock.now(), self._key)


def _nodes(batch: Batch, schema: Schema) -> Nodes:
    """Raises PacketError."""
    batch.read(range(len(batch)))
    details = [batch.details(row) for row in range(len(batch))]
    weight = np.array([each.weight for each in details], dtype=np.float64)
    points = batch.fingerprints.astype(np.float64).reshape(len(batch), schema.dimension)
    return nodes_of(points, batch.nodes, batch.actions, weight, [each.outcomes for each in details])
