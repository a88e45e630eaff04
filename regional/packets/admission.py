"""Which packets a network takes: those of its own space that speak its schema's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regional.packets.deposit import Rejection
from regional.packets.packet import Packet
from regional.packets.packetcbor import Outcome
from registry.errors import PacketError
from registry.likeness.schema import Schema

Fitting = list[tuple[Packet, bytes]]


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule of the network `name` in `domain`."""

    name: str
    domain: str
    schema: Schema

    def sort(self, packets: Sequence[tuple[int, Packet]]) -> tuple[Fitting, list[Rejection]]:
        """Packets, each with its line in the batch: those that fit with their encoding, and why the others do not."""
        fitting: Fitting = []
        refused: list[Rejection] = []
        for line, packet in packets:
            try:
                self.check(packet)
                fitting.append((packet, packet.to_cbor()))
            except PacketError as error:
                refused.append(Rejection(line, str(error.where.get("path", "")), error.detail))
        return fitting, refused

    def check(self, packet: Packet) -> None:
        """Raise PacketError unless the packet is of the network's space and speaks its schema's words."""
        for path, found, right in (
            ("domain", packet.domain, self.domain),
            ("network", packet.network, self.name),
            ("space", packet.space8.hex(), self.schema.space[:8].hex()),
        ):
            if found != right:
                raise PacketError(f"packet: {path} is {found!r:.80}, this network's is {right!r}", path=path)
        if packet.tombstone:
            return
        d = self.schema.dimension
        if packet.fingerprint.shape != (d,):
            raise PacketError(f"packet: the fingerprint has d={packet.fingerprint.size}, not {d}", path="fingerprint")
        if packet.action is not None and packet.action not in self.schema.actions:
            known = ", ".join(self.schema.actions) or "none"
            raise PacketError(f"packet: {packet.action!r:.60} is no action; there are: {known}", path="action")
        for name, value in packet.outcomes.items():
            self._check_outcome(name, value)

    def _check_outcome(self, name: str, value: Outcome) -> None:
        outcome = self.schema.outcomes.get(name)
        path = f"outcomes.{name:.60}"
        if outcome is None:
            raise PacketError(f"packet: there is no outcome {name!r:.60}", path=path)
        if value is None:
            return
        if outcome.kind == "duration":
            good, right = isinstance(value, tuple) and value[0] >= 0, "[duration >= 0, event]"
        elif outcome.kind == "binary":
            good, right = value in (0.0, 1.0), "0 or 1"
        elif outcome.kind == "ordinal":
            top = len(outcome.levels) - 1
            good, right = isinstance(value, float) and value in range(top + 1), f"the place of a level, 0 to {top}"
        else:
            low, high = outcome.range or (-math.inf, math.inf)
            good, right = isinstance(value, float) and low <= value <= high, f"a number from {low} to {high}"
        if not good:
            raise PacketError(f"packet: {path} is {value!r}; it must be {right}, or null for unknown", path=path)
