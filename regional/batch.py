"""Many packets of one network at once, as columns: what a nearest reply brings.

A question looks at far more packets than it keeps. What decides (fingerprint, node, action) stands at places that the
deterministic encoding fixes (regional/packetcbor.py), so it is read for all packets together, in numpy; only a packet
that is kept is decoded whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from regional.packet import MAX_NODE, MAX_TEXT, Packet
from regional.packetcbor import FLOAT32, MAX_BYTES, Fingerprint, bytes_head, home_of, text_of
from registry.errors import PacketError

_Places = npt.NDArray[np.intp]
_Octets = npt.NDArray[np.uint8]


def _lengths(*items: tuple[int, int]) -> _Places:
    """Octets of the item that begins with each octet; 0 where none of these begins so."""
    table = np.zeros(256, dtype=np.intp)
    for head, length in items:
        table[head] = length
    return table


_UNSIGNED: Final = _lengths(*((n, 1) for n in range(24)), (0x18, 2), (0x19, 3), (0x1A, 5), (0x1B, 9))
_FLOAT: Final = _lengths((0xF9, 3), (0xFA, 5), (0xFB, 9))
# Longer ones have their length in the next octet.
_NODE: Final = _lengths(*((0x40 | n, 1 + n) for n in range(1, 24)))
_ACTION: Final = _lengths((0xF6, 1), *((0x60 | n, 1 + n) for n in range(1, 24)))


class Batch:
    """n packets of one network. fingerprints: (n, d) float32; nodes, actions ("" for none): n each."""

    __slots__ = ("_packets", "_raw", "actions", "fingerprints", "nodes")

    def __init__(
        self, raw: Sequence[bytes], fingerprints: Fingerprint, nodes: Sequence[bytes], actions: Sequence[str]
    ) -> None:
        self._raw = raw
        self._packets: dict[int, Packet] = {}
        self.fingerprints = fingerprints
        self.nodes = nodes
        self.actions = actions

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[Packet]:
        return map(self.packet, range(len(self)))

    @classmethod
    def of(cls, raw: Sequence[bytes], home: tuple[str, bytes, str], d: int) -> Batch:
        """Read the columns of encoded packets, all of one home (domain, first 8 octets of the space, network).

        Raises PacketError for what is no packet of that home and dimension d as far as the columns go.
        """
        if any(type(each) is not bytes or len(each) > MAX_BYTES for each in raw):
            raise PacketError(f"a packet is no string of at most {MAX_BYTES} octets")
        if not raw:
            return cls(raw, np.zeros((0, d), dtype=np.float32), [], [])
        reader = _Reader(raw)
        reader.expect_map()
        reader.expect(home_of(*home), "a packet is of another domain, space or network, or is no packet")
        nodes = reader.nodes()
        reader.expect(b"\x05", "a packet has no seq")
        reader.skip(_UNSIGNED, "a packet has a seq that is no number")
        for key in (b"\x06", b"\x07"):
            reader.expect(key, "a packet has no time")
            reader.skip(_FLOAT, "a packet has a time that is no float")
        reader.expect(b"\x08" + bytes_head(4 * d), f"a packet has a fingerprint that is not {d} float32")
        fingerprints = reader.take(4 * d).view(FLOAT32)
        reader.expect(b"\x09", "a packet has no action")
        actions = reader.actions()
        reader.end()
        if not np.isfinite(fingerprints).all():
            raise PacketError("a packet has a fingerprint that is not finite")
        return cls(raw, fingerprints, nodes, actions)

    @classmethod
    def of_packets(cls, packets: Sequence[Packet]) -> Batch:
        """The same from packets at hand, all of one home."""
        if not packets:
            return cls([], np.zeros((0, 0), dtype=np.float32), [], [])
        raw = [packet.to_cbor() for packet in packets]
        first = packets[0]
        return cls.of(raw, (first.domain, first.space8, first.network), len(first.fingerprint))

    def packet(self, row: int) -> Packet:
        """One of them, whole. Raises PacketError where it is none."""
        if row not in self._packets:
            packet = Packet.read_cbor(self._raw[row])
            if packet.tombstone:
                raise PacketError("a packet is withdrawn")
            self._packets[row] = packet
        return self._packets[row]


class _Reader:
    """Reads the same item of every packet at once. at: (n,) where each packet's next item begins."""

    def __init__(self, raw: Sequence[bytes]) -> None:
        lengths = np.fromiter(map(len, raw), dtype=np.intp, count=len(raw))
        self._ends: _Places = np.cumsum(lengths)
        self._at: _Places = self._ends - lengths
        # Reading on past the last packet must not fall off: `end` finds out.
        self._data = b"".join(raw) + bytes(MAX_BYTES)
        self._octets: _Octets = np.frombuffer(self._data, dtype=np.uint8)

    def expect_map(self) -> None:
        if ((self._octets[self._at] & 0xF0) != 0xA0).any():
            raise PacketError("a packet is no map")
        self._at = self._at + 1

    def expect(self, wanted: bytes, wrong: str) -> None:
        """Every packet goes on with these octets."""
        if (self.take(len(wanted)) != np.frombuffer(wanted, dtype=np.uint8)).any():
            raise PacketError(wrong)

    def take(self, length: int) -> _Octets:
        """The next `length` octets of each, (n, length)."""
        taken: _Octets = self._octets[self._within(self._at)[:, None] + np.arange(length)]
        self._at = self._at + length
        return taken

    def skip(self, lengths: _Places, wrong: str) -> None:
        step = lengths[self._octets[self._within(self._at)]]
        if not step.all():
            raise PacketError(wrong)
        self._at = self._at + step

    def nodes(self) -> list[bytes]:
        """The strings of octets that come next; 1 to MAX_NODE octets each."""
        begin, head = self._next()
        long = head == 0x58
        step = np.where(long, 2 + self._octets[begin + 1].astype(np.intp), _NODE[head])
        skipped = np.where(long, 2, 1)
        if not step.all() or (step - skipped > MAX_NODE).any():
            raise PacketError(f"a packet has a node that is not 1 to {MAX_NODE} octets")
        self._at = begin + step
        return self._slices(begin + skipped)

    def actions(self) -> list[str]:
        """The texts that come next, "" for null."""
        begin, head = self._next()
        length = _ACTION[head]
        self._at = begin + np.where(head == 0x78, 2 + self._octets[begin + 1].astype(np.intp), length)
        if not (self._at > begin).all():
            raise PacketError("a packet has an action that is no text")
        return [_action(item) for item in self._slices(begin)]

    def end(self) -> None:
        """What was read lies within each packet."""
        if (self._at > self._ends).any():
            raise PacketError("a packet ends too early")

    def _within(self, at: _Places) -> _Places:
        if (at >= self._ends).any():
            raise PacketError("a packet ends too early")
        return at

    def _next(self) -> tuple[_Places, _Octets]:
        begin = self._within(self._at)
        return begin, self._octets[begin]

    def _slices(self, begin: _Places) -> list[bytes]:
        data = self._data
        return [data[a:b] for a, b in zip(begin.tolist(), self._at.tolist(), strict=True)]


@lru_cache(maxsize=4096)
def _action(item: bytes) -> str:
    """The action that is encoded so."""
    if item == b"\xf6":
        return ""
    try:
        action = item[2 if item[0] == 0x78 else 1 :].decode()
    except UnicodeDecodeError:
        action = ""
    if not 0 < len(item) <= MAX_TEXT + 2 or not action or text_of(action) != item:
        raise PacketError("a packet has an action that is no short text")
    return action
