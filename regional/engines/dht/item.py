"""What a network writes into a DHT (BEP 44), byte for byte: packets, pages of its directory, and their heads.

A packet is a mutable item under the network's key, a head too; a page is an immutable item, named by its SHA-1. So the
network's signature over a head is one over all that it leads to. docs/protocol.md, "In a DHT", says the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import cbor2
import numpy as np
import numpy.typing as npt

from regional.engines.backing import NEVER
from regional.engines.mirror import Home
from registry.errors import Corrupt, TooLarge

VERSION: Final = 1
MAX_VALUE: Final = 996  # bytes; BEP 44 allows 1000 bencoded, and `996:` stands before them
HASH: Final = 20  # bytes of SHA-1, the name of an immutable item
MAX_LEVEL: Final = 12  # of a page; a tree of more would be of more packets than there can be
MAX_ACTIONS: Final = 32  # bits of a mask
MAX_NAMES: Final = 400  # bytes of the actions' names in a head
ALL: Final = (1 << MAX_ACTIONS) - 1  # the mask of what may hold any action
_STEPS: Final = 255

Point = npt.NDArray[np.float64]


class Key(NamedTuple):
    """An entry of a leaf: which packet is there, and of which seq it is at least."""

    node: bytes
    seq: int


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A page, and what lies under it: n packets whose actions are in `mask`, in the box from lo to hi, (d,) each.

    level: 0 for a leaf, a page of keys; else it is a page of pages of the level below.
    """

    level: int
    name: bytes
    n: int
    mask: int
    lo: Point
    hi: Point


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A bucket's directory as of one moment. serial grows with each; time: when it was signed, by the owner's clock.

    home: whose packets they are. buckets: how many the partition has, of which version. n: packets in this one.
    actions: the names of the mask's bits, None where they are too many. top: None where nothing is in it.
    """

    home: Home
    bucket: int
    buckets: int
    version: int
    d: int
    serial: int
    time: float
    n: int
    actions: tuple[str, ...] | None
    top: Ref | None = field(repr=False)

    def to_value(self) -> bytes:
        """The value of its item."""
        top = [] if self.top is None else [self.top.level, *_codes([self.top])]
        actions = None if self.actions is None else list(self.actions)
        place = [VERSION, *self.home, self.bucket, self.buckets, self.version, self.d]
        return checked(_dumps([*place, self.serial, self.time, self.n, actions, top]))

    @classmethod
    def from_value(cls, value: bytes) -> Head:
        """Raises Corrupt."""
        try:
            version, *rest = _loads(value)
            _require(version == VERSION, f"it is of version {version!r:.20}, this software reads {VERSION}")
            domain, space8, network, bucket, buckets, parted, d, serial, time, n, actions, top = rest
            _require(type(domain) is str and type(space8) is bytes and type(network) is str, "its home")
            numbers = bucket, buckets, parted, d, serial, n
            _require(all(type(each) is int and each >= 0 for each in numbers), "a number")
            _require(type(time) is float and math.isfinite(time), "its time")
            _require(1 <= d <= 128 and bucket < buckets, "d or its bucket")
            _require(actions is None or all(type(each) is str for each in actions), "its actions")
            refs = _refs(_level(top[0]), top[1:], d) if top else []
            _require(sum(each.n for each in refs) == n and len(refs) <= 1, "its count")
        except (ValueError, TypeError) as error:
            raise Corrupt(f"the head of a bucket is not readable: {error}"[:200]) from None
        names = None if actions is None else tuple(actions)
        home = Home(domain, space8, network)
        return cls(home, bucket, buckets, parted, d, serial, time, n, names, refs[0] if refs else None)


def head_salt(name: str, bucket: int) -> bytes:
    """Of the item that holds a bucket's head."""
    return _salt(b"head", name, bucket.to_bytes(4, "big"))


def packet_salt(name: str, node: bytes) -> bytes:
    """Of the item that holds a node's packet."""
    return _salt(b"packet", name, node)


def name_of(value: bytes) -> bytes:
    """The name of an immutable item: the SHA-1 of its value as bencoded."""
    return hashlib.sha1(b"%d:%b" % (len(value), value), usedforsecurity=False).digest()


def checked(value: bytes) -> bytes:
    """The value, if a DHT keeps it. Raises TooLarge: DHT nodes drop what is larger, and say nothing."""
    if len(value) > MAX_VALUE:
        raise TooLarge(f"a value of {len(value)} bytes; a DHT keeps at most {MAX_VALUE}", limit=MAX_VALUE)
    return value


def gone(seq: int) -> bytes:
    """What stands in the place of a packet that was removed, up to which seq."""
    return _dumps(seq)


def gone_up_to(value: bytes) -> int:
    """The inverse of `gone`; NEVER of what is none."""
    if len(value) > 9:
        return NEVER
    try:
        seq = cbor2.loads(value)
    except (cbor2.CBORError, ValueError):
        return NEVER
    return seq if type(seq) is int else NEVER


def leaf(keys: Sequence[Key]) -> bytes:
    """The value of a page of keys."""
    return _dumps([0, *(each for key in keys for each in key)])


def index(refs: Sequence[Ref]) -> bytes:
    """The value of a page of pages, of one level. Their boxes are coded in octets, rounded outward."""
    return _dumps([refs[0].level + 1, *_codes(refs)])


def read_page(value: bytes, ref: Ref) -> list[Key] | list[Ref]:
    """What a page holds: all that `ref` counts. Raises Corrupt."""
    try:
        level, *rest = _loads(value)
        _require(level == ref.level, f"its level is {level!r:.20}, not {ref.level}")
        if level == 0:
            keys = [Key(node, seq) for node, seq in zip(rest[::2], rest[1::2], strict=True)]
            _require(all(type(node) is bytes and type(seq) is int for node, seq in keys), "its keys")
            _require(len({node for node, _ in keys}) == len(keys) == ref.n, f"{len(keys)} keys, {ref.n} were counted")
            return keys
        refs = _refs(level - 1, rest, len(ref.lo))
        _require(sum(each.n for each in refs) == ref.n, "its pages do not count what was counted")
    except (ValueError, TypeError) as error:
        raise Corrupt(f"a page of the directory is not readable: {error}"[:200]) from None
    return refs


def _codes(refs: Sequence[Ref]) -> list[Any]:
    """The scale of the boxes, then five members for each page."""
    lo, hi = np.stack([each.lo for each in refs]), np.stack([each.hi for each in refs])
    low, high = _below(float(lo.min())), -_below(-float(hi.max()))
    below = np.floor((lo - low) / ((high - low) / _STEPS)).clip(0, _STEPS)
    above = np.ceil((hi - low) / ((high - low) / _STEPS)).clip(0, _STEPS)
    below -= _faces(low, high, below) > lo
    above += _faces(low, high, above) < hi
    found: list[Any] = [low, high]
    for each, under, over in zip(refs, below.astype(np.uint8), above.astype(np.uint8), strict=True):
        found += [each.name, each.n, each.mask, under.tobytes(), over.tobytes()]
    return found


def _below(value: float) -> float:
    """A float32 that is less, by more than any error of the arithmetic."""
    return float(np.nextafter(np.nextafter(np.float32(value), np.float32(-np.inf)), np.float32(-np.inf)))


def _faces(low: float, high: float, codes: Point) -> Point:
    return low + (high - low) / _STEPS * codes


def _level(found: object) -> int:
    _require(type(found) is int and 0 <= found <= MAX_LEVEL, "its level")
    return int(found)  # type: ignore[call-overload,no-any-return]


def _refs(level: int, found: list[Any], d: int) -> list[Ref]:
    low, high, *rest = found
    _require(type(low) is float and type(high) is float and math.isfinite(high - low) and low < high, "its scale")
    refs = []
    for name, n, mask, below, above in zip(*(rest[i::5] for i in range(5)), strict=True):
        _require(type(name) is bytes and len(name) == HASH, "a page's name")
        _require(type(n) is int and n > 0 and type(mask) is int and 0 <= mask <= ALL, "a page's count")
        _require(all(type(each) is bytes and len(each) == d for each in (below, above)), "a page's box")
        lo, hi = (_faces(low, high, np.frombuffer(each, np.uint8).astype(np.float64)) for each in (below, above))
        refs.append(Ref(level, name, n, mask, lo, hi))
    return refs


def _dumps(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def _loads(value: bytes) -> list[Any]:
    try:
        found = cbor2.loads(value, max_depth=4, allow_indefinite=False)
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"no CBOR: {error}") from None
    _require(type(found) is list and bool(found), "it is no array")
    return list(found)


def _require(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)


def _salt(kind: bytes, name: str, rest: bytes) -> bytes:
    text = name.encode()
    return hashlib.sha256(b"kindred %b %d:%b%b" % (kind, len(text), text, rest)).digest()[:HASH]
