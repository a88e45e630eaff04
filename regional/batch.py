"""Many packets of one network at once, as columns: what a nearest reply brings.

A question looks at far more packets than it keeps. What decides (fingerprint, node, action) stands at places that the
deterministic encoding fixes (regional/packetcbor.py), so it is read for all packets together, in numpy; only a packet
that is kept is decoded whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cbor2
import numpy as np
import numpy.typing as npt

from regional.packet import MAX_NODE, MAX_TEXT, Packet
from regional.packetcbor import FLOAT32, MAX_BYTES, Fingerprint, Outcome, bytes_head, home_of, text_of
from registry.errors import PacketError

_Offsets = npt.NDArray[np.intp]


def _lengths(*items: tuple[int, int]) -> _Offsets:
    """Octets of the item that begins with each octet; 0 where none of these begins so."""
    table = np.zeros(256, dtype=np.intp)
    for head, length in items:
        table[head] = length
    return table


# Heads of CBOR items, RFC 8949 section 3.1.
_MAP: Final = 0xA0
_BYTES: Final = 0x40
_LONG_BYTES, _LONG_TEXT = 0x58, 0x78  # their length is in the next octet
_UNSIGNED: Final = _lengths(*((n, 1) for n in range(24)), (0x18, 2), (0x19, 3), (0x1A, 5), (0x1B, 9))
_FLOAT: Final = _lengths((0xF9, 3), (0xFA, 5), (0xFB, 9))
_TEXT: Final = _lengths((0xF6, 1), *((0x60 | n, 1 + n) for n in range(1, 24)))  # text, or null
_KEYS: Final = np.array([5, 6, 7, 8, 9], dtype=np.uint8)  # seq, t0, time, fingerprint, action


class Batch:
    """n packets of one network. fingerprints: (n, d) float32; nodes, actions ("" for none): n each."""

    __slots__ = ("_home", "_packets", "_raw", "actions", "fingerprints", "nodes")

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
        beginning = home_of(*home)
        if not all(each.startswith(beginning, 1) for each in raw):
            raise PacketError("a packet is of another domain, space or network, or is no packet")
        if not raw:
            return cls(home, raw, np.zeros((0, d), dtype=np.float32), [], [])
        places = _Places.of(raw, 1 + len(beginning), d)
        block = places.octets[places.fingerprint[:, None] + np.arange(4 * d)].view(FLOAT32)
        if not np.isfinite(block).all():
            raise PacketError("a packet has a fingerprint that is not finite")
        actions = [_action(item) for item in places.slices(places.action, places.end)]
        return cls(home, raw, block, places.slices(places.node, places.seq), actions)

    @classmethod
    def of_packets(cls, packets: Sequence[Packet]) -> Batch:
        """The same from packets at hand, all of one home."""
        if not packets:
            return cls(("", b"", ""), [], np.zeros((0, 0), dtype=np.float32), [], [])
        raw = [packet.to_cbor() for packet in packets]
        first = packets[0]
        return cls.of(raw, (first.domain, first.space8, first.network), len(first.fingerprint))

    def packet(self, row: int) -> Packet:
        """One of them, whole. Raises PacketError where it is none."""
        if row not in self._packets:
            self._packets[row] = self._decoded(row)
        return self._packets[row]

    def _decoded(self, row: int) -> Packet:
        raw = self._raw[row]
        rest = _rest(raw)
        if rest is None:
            packet = Packet.read_cbor(raw)  # names what is wrong with it
            raise PacketError("a packet is withdrawn" if packet.tombstone else "a packet has members out of place")
        seq, t0, time, outcomes, weight, signer, sig = rest
        domain, space8, network = self._home
        node, action = self.nodes[row], self.actions[row] or None
        return Packet(
            domain, space8, network, node, seq, t0, time, self.fingerprints[row], action, outcomes, weight, signer, sig
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where things stand in the joined octets of n packets, (n,) each: the node's own octets, the key of seq behind
    them, the fingerprint's octets, the action's item and its end."""

    data: bytes
    octets: npt.NDArray[np.uint8]
    node: _Offsets
    seq: _Offsets
    fingerprint: _Offsets
    action: _Offsets
    end: _Offsets

    @classmethod
    def of(cls, raw: Sequence[bytes], node: int, d: int) -> _Places:
        """node: where each packet's node item begins. Raises PacketError where something else stands in a place.

        Every item is at least one octet long, so a packet that holds the last place holds those before it.
        """
        lengths = np.fromiter(map(len, raw), dtype=np.intp, count=len(raw))
        ends = np.cumsum(lengths)
        # Reading on past the last packet must not fall off before the end of each is compared.
        data = b"".join(raw) + bytes(2 * MAX_BYTES)
        octets = np.frombuffer(data, dtype=np.uint8)
        begin = ends - lengths
        at = begin + node
        long_node = octets[at] == _LONG_BYTES
        own = at + 1 + long_node
        length = np.where(long_node, octets[at + 1], octets[at] - _BYTES).astype(np.intp)
        seq = own + length
        step_seq = _UNSIGNED[octets[seq + 1]]
        t0 = seq + 1 + step_seq
        step_t0 = _FLOAT[octets[t0 + 1]]
        time = t0 + 1 + step_t0
        step_time = _FLOAT[octets[time + 1]]
        head = bytes_head(4 * d)
        fingerprint_key = time + 1 + step_time
        fingerprint = fingerprint_key + 1 + len(head)
        action_key = fingerprint + 4 * d
        action = action_key + 1
        step_action = _TEXT[octets[action]]
        step_action = np.where(octets[action] == _LONG_TEXT, 2 + octets[action + 1].astype(np.intp), step_action)
        end = action + step_action
        keys = octets[np.stack([seq, t0, time, fingerprint_key, action_key])]
        heads = octets[fingerprint_key[:, None] + 1 + np.arange(len(head))]
        sound = (
            ((octets[begin] & 0xF0) == _MAP).all()
            and (long_node | (octets[at] > _BYTES) & (octets[at] < _LONG_BYTES)).all()
            and ((length > 0) & (length <= MAX_NODE)).all()
            and (keys == _KEYS[:, None]).all()
            and np.stack([step_seq, step_t0, step_time, step_action]).all()
            and (heads == np.frombuffer(head, dtype=np.uint8)).all()
            and (end <= ends).all()
        )
        if not sound:
            raise PacketError(f"a packet does not begin as one with a node, seq, times, {d} float32 and an action does")
        return cls(data, octets, own, seq, fingerprint, action, end)

    def slices(self, begin: _Offsets, end: _Offsets) -> list[bytes]:
        """The octets between places, n of them."""
        data = self.data
        return [data[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]


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


_Rest = tuple[int, float, float, dict[str, Outcome], float, bytes | None, bytes | None]


def _rest(raw: bytes) -> _Rest | None:
    """seq, t0, time, outcomes, weight, signer, sig of a packet whose columns are sound; None where one of them is not.

    The same rules as Packet.read_cbor has, without its names for what breaks them.
    """
    try:
        m = cbor2.loads(raw, max_depth=4, allow_indefinite=False, allow_duplicate_keys=False)
        outcomes = {_name(name): _outcome(value) for name, value in m[10].items()}
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, KeyError, AttributeError):
        return None
    weight, signer, sig = m.get(11, 1.0), m.get(12), m.get(13)
    unsigned = signer is None and sig is None
    sound = (
        len(m) == 11 + (11 in m) + 2 * (not unsigned)
        and _is_float(m[6])
        and _is_float(m[7])
        and _is_float(weight)
        and weight >= 0.0
        and (unsigned or (_is_octets(signer, 32) and _is_octets(sig, 64)))
    )
    return (m[5], m[6], m[7], outcomes, weight, signer, sig) if sound else None


def _name(name: object) -> str:
    """An outcome's name. Raises ValueError, also for text that is no Unicode."""
    if type(name) is str and 0 < len(name.encode()) <= MAX_TEXT:
        return name
    raise ValueError


def _outcome(value: object) -> Outcome:
    """Raises ValueError."""
    if value is None or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is list and len(value) == 2 and _is_float(value[0]) and type(value[1]) is bool:
        return value[0], value[1]
    raise ValueError


def _is_float(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_octets(value: object, length: int) -> bool:
    return type(value) is bytes and len(value) == length
