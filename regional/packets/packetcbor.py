"""The bytes of a packet: one deterministic CBOR encoding each (RFC 8949 section 4.2).

A map with the integer keys 0 to 14 of PROTOCOL in ascending order, heads in their shortest form, no indefinite
lengths, every number that is not `v` or `seq` a float in the shortest of the three widths that keeps its value.
Members that have their default (`weight` 1, no `signer`, no `tombstone`) are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import cbor2
import numpy as np
import numpy.typing as npt

from registry.errors import PacketError

Fingerprint = npt.NDArray[np.float32]
Outcome = float | tuple[float, bool] | None

FLOAT32: Final = np.dtype("<f4")
VERSION: Final = 1
MAX_BYTES: Final = 996  # with signature
NAMES: Final = (
    "v", "domain", "space", "network", "node", "seq", "t0", "time",
    "fingerprint", "action", "outcomes", "weight", "signer", "sig", "tombstone",
)  # fmt: skip

_HALF = struct.Struct(">e")
_SINGLE = struct.Struct(">f")
_DOUBLE = struct.Struct(">d")
_SINGLE_MAX = float(np.finfo(np.float32).max)


def _float(value: float) -> bytes:
    if -65504.0 <= value <= 65504.0:
        packed = _HALF.pack(value)
        if _HALF.unpack(packed)[0] == value:
            return b"\xf9" + packed
    if -_SINGLE_MAX <= value <= _SINGLE_MAX:
        packed = _SINGLE.pack(value)
        if _SINGLE.unpack(packed)[0] == value:
            return b"\xfa" + packed
    return b"\xfb" + _DOUBLE.pack(value)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    for extra, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * width:
            return bytes((major << 5 | extra,)) + number.to_bytes(width, "big")
    raise PacketError(f"packet: {number} does not fit 64 bits")


_BYTES_HEADS = tuple(_head(2, n) for n in range(MAX_BYTES + 1))
_TRUE, _FALSE, _NULL = b"\xf5", b"\xf4", b"\xf6"


def bytes_head(length: int) -> bytes:
    """The head of a string of so many octets."""
    return _BYTES_HEADS[length]


@lru_cache(maxsize=4096)
def text_of(value: str) -> bytes:
    """The item of a text."""
    raw = value.encode()
    return _head(3, len(raw)) + raw


def _bytes(value: bytes) -> bytes:
    return (_BYTES_HEADS[len(value)] if len(value) <= MAX_BYTES else _head(2, len(value))) + value


def _outcome(value: Outcome) -> bytes:
    if value is None:
        return _NULL
    if isinstance(value, float):
        return _float(value)
    duration, event = value
    return b"\x82" + _float(duration) + (_TRUE if event else _FALSE)


@lru_cache(maxsize=4096)
def home_of(domain: str, space8: bytes, network: str) -> bytes:
    """The beginning that all packets of one home share, behind the map's head: v to network, and the key of node."""
    return b"".join((b"\x00\x01\x01", text_of(domain), b"\x02", _bytes(space8), b"\x03", text_of(network), b"\x04"))


def encode(
    domain: str,
    space8: bytes,
    network: str,
    node: bytes,
    seq: int,
    t0: float,
    time: float,
    fingerprint: Fingerprint,
    action: str | None,
    outcomes: Mapping[str, Outcome],
    weight: float,
    signer: bytes | None,
    sig: bytes | None,
    tombstone: bool,
) -> bytes:
    """The bytes of a packet of these members, which must have been checked."""
    axes = fingerprint.astype(FLOAT32, copy=False).tobytes()
    parts = [
        b"", home_of(domain, space8, network), _bytes(node), b"\x05", _head(0, seq),
        b"\x06", _float(t0), b"\x07", _float(time), b"\x08", _bytes(axes),
        b"\x09", _NULL if action is None else text_of(action), b"\x0a", _head(5, len(outcomes)),
    ]  # fmt: skip
    parts += sorted(text_of(name) + _outcome(value) for name, value in outcomes.items())
    count = 11
    if weight != 1.0:
        count += 1
        parts += (b"\x0b", _float(weight))
    if signer is not None and sig is not None:
        count += 2
        parts += (b"\x0c", _bytes(signer), b"\x0d", _bytes(sig))
    if tombstone:
        count += 1
        parts += (b"\x0e", _TRUE)
    parts[0] = bytes((0xA0 | count,))
    return b"".join(parts)


def name_of(key: object) -> str:
    """How a message names the key `key` of the map."""
    return NAMES[key] if type(key) is int and 0 <= key < len(NAMES) else f"key {key!r:.40}"


def members(data: bytes) -> dict[int, Any]:
    """The members by key, of version 1 and with no unknown key; their types are the caller's to check."""
    try:
        found = cbor2.loads(data, max_depth=4, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
        raise PacketError(f"packet: not deterministic CBOR: {error}; see RFC 8949 section 4.2") from None
    if type(found) is not dict:
        raise PacketError(f"packet: a CBOR map is wanted, found {type(found).__name__}")
    for key in found:
        if type(key) is not int or not 0 <= key < len(NAMES):
            raise PacketError(f"packet: unknown {name_of(key)}; version 1 has the keys 0 to {len(NAMES) - 1}")
    if found.get(0) != VERSION:
        raise PacketError(f"packet: v is {found.get(0)!r:.40}; this software reads version {VERSION}", path="v")
    return found


def findable(data: bytes) -> tuple[bytes, str, bytes]:
    """Node, action ("" for none) and fingerprint (`FLOAT32` bytes, none of a tombstone's) of a packet.

    For what was checked before it was stored: the other members are not looked at. Raises PacketError.
    """
    try:
        found = cbor2.loads(data)
        node, axes, action = found[4], found[8], found[9]
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, TypeError, LookupError):
        raise PacketError("packet: not a CBOR map with node, fingerprint and action") from None
    if type(node) is not bytes or type(axes) is not bytes or len(axes) % FLOAT32.itemsize:
        raise PacketError("packet: node and fingerprint must be bytes")
    if action is not None and type(action) is not str:
        raise PacketError("packet: action must be text, or null", path="action")
    return node, action or "", axes


def difference(members: dict[int, Any], data: bytes, again: bytes) -> str:
    """Why `data`, which decodes to `members`, is not the one encoding `again`."""
    if list(members) != sorted(members):
        return "packet: keys out of order; deterministic CBOR sorts them (RFC 8949 section 4.2.1)"
    at = next((i for i, (a, b) in enumerate(zip(data, again, strict=False)) if a != b), min(len(data), len(again)))
    return (
        f"packet: byte {at} is not the deterministic encoding (RFC 8949 section 4.2): numbers as the shortest "
        "float, shortest heads, sorted keys, defaults left out, nothing behind the map"
    )


def split_sequence(data: bytes) -> list[bytes]:
    """The items of a CBOR sequence (RFC 8742), each as its bytes, undecoded.

    Raises PacketError naming the byte at which no well-formed item of definite length stands.
    """
    items = []
    start = 0
    while start < len(data):
        end = _item_end(data, start)
        items.append(data[start:end])
        start = end
    return items


def _item_end(data: bytes, start: int) -> int:
    at, open_items = start, 1
    while open_items:
        if at >= len(data):
            raise PacketError(f"packets: the item from byte {start} on is cut short; send it whole", byte=start)
        major, extra = data[at] >> 5, data[at] & 31
        at += 1
        number = extra
        if extra >= 24:
            if extra > 27:
                raise PacketError(f"packets: byte {at - 1} is no head of definite length", byte=at - 1)
            width = 1 << extra - 24
            number = int.from_bytes(data[at : at + width], "big")
            at += width
        open_items -= 1
        if major in (2, 3):
            at += number
        elif major in (4, 5):
            open_items += number * (major - 3)
        elif major == 6:
            open_items += 1
    if at > len(data):
        raise PacketError(f"packets: the item from byte {start} on is cut short; send it whole", byte=start)
    return at
