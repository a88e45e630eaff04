"""Many packets of one network at once, as columns: what a nearest reply brings.

A question looks at far more packets than it keeps, so only the columns that decide (fingerprint, node, action) are
made for all of them; a Packet is made for those that are kept. All are checked at once, in the order of columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from regional.packet import MAX_NODE, MAX_TEXT, Packet
from regional.packetcbor import Fingerprint
from registry.errors import PacketError

_F4: Final = np.dtype("<f4")
_Members = Mapping[int, Any]  # a decoded packet by its keys (PROTOCOL, "Packet")


class Batch:
    """n packets of one network. fingerprints: (n, d) float32; nodes, actions ("" for none): n each."""

    __slots__ = ("_home", "_members", "actions", "fingerprints", "nodes")

    def __init__(
        self,
        home: tuple[str, bytes, str],
        fingerprints: Fingerprint,
        nodes: Sequence[bytes],
        actions: Sequence[str],
        members: Sequence[_Members],
    ) -> None:
        self._home = home
        self._members = members
        self.fingerprints = fingerprints
        self.nodes = nodes
        self.actions = actions

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Packet]:
        return map(self.packet, range(len(self)))

    @classmethod
    def of(cls, members: Sequence[_Members], home: tuple[str, bytes, str], d: int) -> Batch:
        """Check decoded packets, all of the home (domain, first 8 bytes of the space, network) and dimension d.

        Raises PacketError for the first kind of fault found.
        """
        try:
            if any((m[1], m[2], m[3]) != home for m in members):
                raise PacketError("a packet is of another domain, space or network")
            fingerprints = [m[8] for m in members]
            nodes = [m[4] for m in members]
            actions = [m[9] for m in members]
            if any(type(each) is not bytes or len(each) != 4 * d for each in fingerprints):
                raise PacketError(f"a packet has a fingerprint that is not {d} float32")
            if any(type(node) is not bytes or not 0 < len(node) <= MAX_NODE for node in nodes):
                raise PacketError(f"a packet has a node that is not 1 to {MAX_NODE} bytes")
            if not all(each is None or _is_text(each) for each in actions):
                raise PacketError("a packet has an action that is not a short text")
            if not all(map(_sound, members)):
                raise PacketError("a packet has a seq, time, weight or outcome of the wrong type, or is withdrawn")
        except (LookupError, TypeError, AttributeError):
            raise PacketError("a packet lacks a member, or is no map") from None
        block = np.frombuffer(b"".join(fingerprints), dtype=_F4).reshape(len(members), d)
        if not np.isfinite(block).all():
            raise PacketError("a packet has a fingerprint that is not finite")
        return cls(home, block, nodes, [action or "" for action in actions], members)

    @classmethod
    def of_packets(cls, packets: Sequence[Packet]) -> Batch:
        """The same from packets at hand, all of one network."""
        members = [{5: p.seq, 6: p.t0, 7: p.time, 10: p.outcomes, 11: p.weight} for p in packets]
        home = (packets[0].domain, packets[0].space8, packets[0].network) if packets else ("", b"", "")
        block = np.array([packet.fingerprint for packet in packets], dtype=np.float32)
        return cls(home, block, [p.node for p in packets], [p.action or "" for p in packets], members)

    def packet(self, row: int) -> Packet:
        """One of them, whole."""
        members = self._members[row]
        domain, space8, network = self._home
        outcomes = {name: tuple(v) if type(v) is list else v for name, v in members[10].items()}
        return Packet(
            domain=domain,
            space8=space8,
            network=network,
            node=self.nodes[row],
            seq=members[5],
            t0=members[6],
            time=members[7],
            fingerprint=self.fingerprints[row],
            action=self.actions[row] or None,
            outcomes=outcomes,
            weight=members.get(11, 1.0),
            signer=members.get(12),
            sig=members.get(13),
        )


def _sound(m: _Members) -> bool:
    """Whether the members that are not columns have the types of a packet that is not withdrawn."""
    t0, time, weight = m[6], m[7], m.get(11, 1.0)
    if not (
        m[0] == 1
        and type(m[5]) is int
        and 0 <= m[5] < 1 << 64
        and type(t0) is float
        and type(time) is float
        and type(weight) is float
    ):
        return False
    if not (math.isfinite(t0) and math.isfinite(time) and 0.0 <= weight < math.inf and 14 not in m):
        return False
    for name, value in m[10].items():
        if not _is_text(name) or not (value is None or _is_number(value) or _is_duration(value)):
            return False
    return True


def _is_number(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_duration(value: object) -> bool:
    return type(value) is list and len(value) == 2 and _is_number(value[0]) and type(value[1]) is bool


def _is_text(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_TEXT
