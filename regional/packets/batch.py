"""Many packets of one network at once, as columns: what a nearest reply brings.

A question looks at far more packets than it keeps. What decides (fingerprint, node, action) stands at places that the
deterministic encoding fixes (regional/packets/packetcbor.py), so it is read for all packets together, in few numpy
calls; the rest (regional/packets/details.py) is read of those that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.packets.details import Details, details_of
from regional.packets.packet import MAX_NODE, MAX_TEXT, Packet
from regional.packets.packetcbor import FLOAT32, MAX_BYTES, Fingerprint, bytes_head, home_of, text_of
from registry.errors import PacketError

_Offsets = npt.NDArray[np.intp]


def _lengths(*items: tuple[int, int]) -> _Offsets:
    """Octets of the item that begins with each octet; 0 where none of these begins so."""
    table = np.zeros(256, dtype=np.intp)
    for head, length in items:
        table[head] = length
    return table


# Heads of CBOR items, RFC 8949 section 3.1.
_LONG_BYTES, _LONG_TEXT = 0x58, 0x78  # their length is in the next octet
_MAP: Final = _lengths(*((0xA0 | n, 1) for n in range(16)))
_BYTES: Final = _lengths(*((0x40 | n, 1 + n) for n in range(1, 24)))
_UNSIGNED: Final = _lengths(*((n, 1) for n in range(24)), (0x18, 2), (0x19, 3), (0x1A, 5), (0x1B, 9))
_FLOAT: Final = _lengths((0xF9, 3), (0xFA, 5), (0xFB, 9))
_TEXT: Final = _lengths((0xF6, 1), *((0x60 | n, 1 + n) for n in range(1, 24)))  # text, or null
_KEYS: Final = np.array([[5], [6], [7], [8], [9]], dtype=np.uint8)  # seq, t0, time, fingerprint, action


class Batch:
    """n packets of one network. fingerprints: (n, d) float32; nodes, actions ("" for none): n each."""

    __slots__ = ("_details", "_home", "_raw", "actions", "fingerprints", "nodes")

    def __init__(
        self,
        home: tuple[str, bytes, str],
        raw: Sequence[bytes],
        fingerprints: Fingerprint,
        nodes: Sequence[bytes],
        actions: Sequence[str],
    ) -> None:
        self._home = home
        self._raw = raw
        self._details: dict[int, Details] = {}
        self.fingerprints = fingerprints
        self.nodes = nodes
        self.actions = actions

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(n,): nodes in each; a packet is an atom of one."""
        return np.ones(len(self), dtype=np.int64)

    def __iter__(self) -> Iterator[Packet]:
        return map(self.packet, range(len(self)))

    @classmethod
    def of(cls, raw: Sequence[bytes], home: tuple[str, bytes, str], d: int) -> Batch:
        """Read the columns of encoded packets, all of one home (domain, first 8 octets of the space, network).

        Raises PacketError for what is no packet of that home and dimension d as far as the columns go.
        """
        if not raw:
            return cls(home, raw, np.zeros((0, d), dtype=np.float32), [], [])
        if set(map(type, raw)) != {bytes} or max(map(len, raw)) > MAX_BYTES:
            raise PacketError(f"a packet is no string of at most {MAX_BYTES} octets")
        beginning = home_of(*home)
        if not all(map(bytes.startswith, raw, repeat(beginning), repeat(1))):
            raise PacketError("a packet is of another domain, space or network, or is no packet")
        return cls(home, raw, *_columns(raw, 1 + len(beginning), d))

    @classmethod
    def of_packets(cls, packets: Sequence[Packet]) -> Batch:
        """The same from packets at hand, all of one home."""
        if not packets:
            return cls(("", b"", ""), [], np.zeros((0, 0), dtype=np.float32), [], [])
        raw = [packet.to_cbor() for packet in packets]
        first = packets[0]
        return cls.of(raw, (first.domain, first.space8, first.network), len(first.fingerprint))

    def read(self, rows: Sequence[int]) -> None:
        """Decode these of them, those that are not yet. Raises PacketError where one is no packet."""
        new = [row for row in rows if row not in self._details]
        found = details_of([self._raw[row] for row in new], [self.nodes[row] for row in new])
        for row, details in zip(new, found, strict=True):
            if details is None:
                packet = Packet.read_cbor(self._raw[row])  # names what is wrong with it
                raise PacketError("a packet is withdrawn" if packet.tombstone else "a packet has members out of place")
            self._details[row] = details

    def details(self, row: int) -> Details:
        """What one of them has beside its columns. Raises PacketError."""
        if row not in self._details:
            self.read([row])
        return self._details[row]

    def packet(self, row: int) -> Packet:
        """One of them, whole. Raises PacketError where it is none."""
        seq, t0, time, outcomes, weight, signer, sig = self.details(row)
        domain, space8, network = self._home
        node, action = self.nodes[row], self.actions[row] or None
        return Packet(
            domain, space8, network, node, seq, t0, time, self.fingerprints[row], action, outcomes, weight, signer, sig
        )


def _columns(raw: Sequence[bytes], node: int, d: int) -> tuple[Fingerprint, list[bytes], list[str]]:
    """Fingerprints, nodes and actions of packets whose node's item begins at `node`.

    Raises PacketError where something else stands in a place. Every item is at least one octet long, so a packet
    that holds the last place holds those before it.
    """
    n = len(raw)
    ends = np.fromiter(map(len, raw), np.intp, n)
    begin = np.zeros(n, dtype=np.intp)
    np.cumsum(ends, out=ends)
    begin[1:] = ends[:-1]
    # Reading on past the last packet must not fall off before the end of each is compared.
    data = b"".join(raw) + bytes(2 * MAX_BYTES)
    octets = np.frombuffer(data, dtype=np.uint8)
    places, steps = np.empty((5, n), dtype=np.intp), np.empty((6, n), dtype=np.intp)
    _MAP.take(octets.take(begin), out=steps[5])
    own = begin + (node + 1)
    head = octets.take(own - 1)
    _BYTES.take(head, out=steps[0])
    at = np.add(own - 1, steps[0], out=places[0])
    if not steps[0].all():  # or a node of 24 octets and more
        long_node = head == _LONG_BYTES
        length = octets.take(own)
        own += long_node
        at += (2 + length.astype(np.intp)) * long_node
        steps[0] += long_node & (length <= MAX_NODE)
    for column, table in enumerate((_UNSIGNED, _FLOAT, _FLOAT), 1):
        item = at + 1
        step = table.take(octets.take(item), out=steps[column])
        at = np.add(item, step, out=places[column])
    key = bytes_head(4 * d)
    item = places[3] + 1
    width = len(key) + 4 * d
    block = octets.take(item[:, None] + np.arange(width))
    action = np.add(item, width, out=places[4]) + 1
    head = octets.take(action)
    step = _TEXT.take(head, out=steps[4])
    if not step.all():  # or an action of 24 octets and more
        step += (2 + octets.take(action + 1).astype(np.intp)) * (head == _LONG_TEXT)
    end = action + step
    sound = (
        steps.all()
        and (octets.take(places) == _KEYS).all()
        and (block[:, : len(key)] == np.frombuffer(key, dtype=np.uint8)).all()
        and (end <= ends).all()
    )
    if not sound:
        raise PacketError(f"a packet does not begin as one with a node, seq, times, {d} float32 and an action does")
    fingerprints = np.ascontiguousarray(block[:, len(key) :]).view(FLOAT32)
    if not np.isfinite(fingerprints).all():
        raise PacketError("a packet has a fingerprint that is not finite")
    nodes = [data[a:b] for a, b in zip(own.tolist(), places[0].tolist(), strict=True)]
    items = [data[a:b] for a, b in zip(action.tolist(), end.tolist(), strict=True)]
    known = {item: _action(item) for item in set(items)}
    return fingerprints, nodes, [known[item] for item in items]


@lru_cache(maxsize=4096)
def _action(item: bytes) -> str:
    """The action that is encoded so."""
    if item == b"\xf6":
        return ""
    try:
        action = item[2 if item[0] == _LONG_TEXT else 1 :].decode()
    except UnicodeDecodeError:
        action = ""
    if not 0 < len(item) <= MAX_TEXT + 2 or not action or text_of(action) != item:
        raise PacketError("a packet has an action that is no short text")
    return action
