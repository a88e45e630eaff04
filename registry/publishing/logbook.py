"""The frames of the history's file: versions of zones whole, and the steps between them; checked, so that a file that
is cut or spoilt anywhere is good up to there.

A frame is the length of its body (4 octets), the CRC-32 of its body (4 octets) and the body: a letter and what it
tells. Numbers are big-endian. S: a snapshot of a zone begins; N: some of its names; E: it is whole. D: a step. X: what
was told of a zone before counts no more. P: all of the zones' versions up to a serial have been told.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from itertools import groupby

from registry.dns.rrset import RRset, rrset
from registry.dns.wire import name_to_wire
from registry.errors import Corrupt
from registry.zones.delta import Delta, Record
from registry.zones.names import Branch, Names, Node
from registry.zones.zone import Ttls, Zone, last_label

_HEAD = struct.Struct("!II")
_SERIAL = struct.Struct("!I")
_STEP = struct.Struct("!II")
_SIZE = struct.Struct("!H")
_RECORD = struct.Struct("!HIH")
_RRSET = struct.Struct("!HHI")
_TTLS = struct.Struct("!7I")
_CHUNK = 256 * 1024  # octets of names in a frame, about


def frame(body: bytes) -> bytes:
    """A body with its length and its check."""
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def frames(data: bytes | memoryview, position: int) -> Iterator[tuple[bytes, int]]:
    """Bodies, and where each ends, from `position` to the end or to where the data are spoilt."""
    while position + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, position)
        body = bytes(data[position + _HEAD.size : position + _HEAD.size + length])
        if length == 0 or len(body) != length or zlib.crc32(body) != check:
            return
        position += _HEAD.size + length
        yield body, position


def snapshot_frames(zone: Zone) -> Iterator[bytes]:
    """A zone whole, in frames."""
    yield frame(b"S" + _short(zone.apex.encode()) + _SERIAL.pack(zone.serial) + _short(zone.soa) + _ttls(zone.ttls))
    amount = 0
    part = bytearray(b"N")
    for names in zone.branches.values():
        for labels, node in names.items():
            amount += bool(node)
            for each in node:
                part += _short(labels) + _RRSET.pack(each.rtype, each.n, len(each.wire)) + each.wire
            if len(part) > _CHUNK:
                yield frame(bytes(part))
                part = bytearray(b"N")
    yield frame(bytes(part))
    yield frame(b"E" + _SERIAL.pack(amount))


def step_frame(delta: Delta) -> bytes:
    """One step of a zone."""
    parts = [
        b"D" + _short(delta.apex.encode()) + _STEP.pack(delta.before, delta.after),
        _short(delta.before_soa) + _short(delta.after_soa),
    ]
    for records in (delta.removed, delta.added):
        parts.append(_SERIAL.pack(len(records)))
        parts += [_short(owner) + _RECORD.pack(rtype, ttl, len(rdata)) + rdata for owner, rtype, ttl, rdata in records]
    return frame(b"".join(parts))


def lost_frame(apex: str) -> bytes:
    """What was told of the zone counts no more."""
    return frame(b"X" + _short(apex.encode()))


def mark_frame(serial: int) -> bytes:
    """All up to `serial` has been told."""
    return frame(b"P" + _SERIAL.pack(serial))


@dataclass(slots=True)
class Told:
    """What a file tells up to a mark: the last version of each zone, and the steps, those of one zone in order."""

    zones: dict[str, Kept]
    steps: list[Delta]
    serial: int
    end: int  # of the file, up to there


@dataclass(slots=True)
class Kept:
    """A zone as it is read: by labels before the apex."""

    serial: int
    soa: bytes
    ttls: Ttls
    names: dict[bytes, Node] = field(default_factory=dict)

    def zone(self, apex: str) -> Zone:
        """The zone, without what the configuration says of delegations."""
        branches: dict[bytes, dict[bytes, Node]] = {}
        for labels, node in self.names.items():
            branches.setdefault(last_label(labels), {})[labels] = node
        shared: Mapping[bytes, Branch] = {label: Names(names) for label, names in branches.items()}
        return Zone(apex, self.serial, self.soa, self.ttls, shared, {}).with_serial(self.serial)  # in the SOA too

    def take(self, delta: Delta, apex: bytes) -> None:
        """Take the step. Raises Corrupt where it is not one from here."""
        if delta.before != self.serial:
            raise Corrupt(f"{delta.apex}: a step from {delta.before} after version {self.serial}")
        by_set = sorted(
            [*((r, -1) for r in delta.removed), *((r, 1) for r in delta.added)], key=lambda each: each[0][:2]
        )
        for (owner, rtype), changes in groupby(by_set, key=lambda each: each[0][:2]):
            labels = owner.removesuffix(apex)
            node = self.names.get(labels, ())
            held = {pair: None for each in node if each.rtype == rtype for pair in each.rdatas()}
            for (_, _, ttl, rdata), sign in changes:
                if (sign < 0) != ((ttl, rdata) in held):
                    raise Corrupt(f"{delta.apex}: a step that does not fit version {self.serial}")
                if sign < 0:
                    del held[ttl, rdata]
                else:
                    held[ttl, rdata] = None
            others = tuple(each for each in node if each.rtype != rtype)
            self.names[labels] = (*others, *_rendered(rtype, held))
            if not self.names[labels]:
                del self.names[labels]
        self.serial, self.soa = delta.after, delta.after_soa


def read(data: bytes | memoryview, start: int) -> Told:
    """All that `data` tell from `start` up to the last mark that is good."""
    told = _Reader()
    marked, good = 0, start
    try:
        for body, end in frames(data, start):
            told.take(body)
            if body[:1] == b"P":
                told.settle()
                marked, good = _SERIAL.unpack_from(body, 1)[0], end
    except (struct.error, IndexError, ValueError, Corrupt):
        return Told({}, [], 0, start)  # the checks are good and the sense is not: nothing of it can be relied on
    return Told(told.zones, told.steps, marked, good)


class _Reader:
    """Takes frames in; what comes after the last mark stays apart."""

    def __init__(self) -> None:
        self.zones: dict[str, Kept] = {}
        self.steps: list[Delta] = []
        self._waiting: list[tuple[str, Kept | Delta | None]] = []
        self._apex = ""
        self._kept: Kept | None = None

    def take(self, body: bytes) -> None:
        kind = body[:1]
        if kind == b"S":
            apex, position = _read_short(body, 1)
            [serial] = _SERIAL.unpack_from(body, position)
            soa, position = _read_short(body, position + _SERIAL.size)
            self._apex, self._kept = apex.decode(), Kept(serial, soa, _read_ttls(body, position))
        elif kind == b"N" and self._kept is not None:
            for labels, each in _read_names(body):
                self._kept.names[labels] = (*self._kept.names.get(labels, ()), each)
        elif kind == b"E" and self._kept is not None:
            if _SERIAL.unpack_from(body, 1)[0] != len(self._kept.names):
                raise Corrupt(f"{self._apex}: a snapshot that is not whole")
            self._waiting.append((self._apex, self._kept))
            self._kept = None
        elif kind == b"D":
            delta = _read_step(body)
            self._waiting.append((delta.apex, delta))
        elif kind == b"X":
            self._waiting.append((_read_short(body, 1)[0].decode(), None))

    def settle(self) -> None:
        """What was taken in since the last mark counts."""
        for apex, each in self._waiting:
            if each is None:
                self.zones.pop(apex, None)
            elif isinstance(each, Kept):
                self.zones[apex] = each
            else:
                self.steps.append(each)
                if apex in self.zones:
                    self.zones[apex].take(each, name_to_wire(apex))
        self._waiting.clear()


def _rendered(rtype: int, held: Iterable[tuple[int, bytes]]) -> tuple[RRset, ...]:
    by_ttl: dict[int, list[bytes]] = {}
    for ttl, rdata in held:
        by_ttl.setdefault(ttl, []).append(rdata)
    return tuple(rrset(rtype, ttl, rdatas) for ttl, rdatas in by_ttl.items())


def _short(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def _read_short(body: bytes, position: int) -> tuple[bytes, int]:
    [length] = _SIZE.unpack_from(body, position)
    end = position + _SIZE.size + length
    if end > len(body):
        raise Corrupt("a frame of the history that ends within a text")
    return body[position + _SIZE.size : end], end


def _ttls(ttls: Ttls) -> bytes:
    return _TTLS.pack(*astuple(ttls))


def _read_ttls(body: bytes, position: int) -> Ttls:
    values = _TTLS.unpack_from(body, position)
    return Ttls(**dict(zip(Ttls.__dataclass_fields__, values, strict=True)))


def _read_names(body: bytes) -> Iterator[tuple[bytes, RRset]]:
    position = 1
    while position < len(body):
        labels, position = _read_short(body, position)
        rtype, n, length = _RRSET.unpack_from(body, position)
        position += _RRSET.size
        yield labels, RRset(rtype, n, body[position : position + length])
        position += length


def _read_step(body: bytes) -> Delta:
    apex, position = _read_short(body, 1)
    before, after = _STEP.unpack_from(body, position)
    before_soa, position = _read_short(body, position + _STEP.size)
    after_soa, position = _read_short(body, position)
    parts = []
    for _ in range(2):
        [amount] = _SERIAL.unpack_from(body, position)
        position += _SERIAL.size
        records: list[Record] = []
        for _ in range(amount):
            owner, position = _read_short(body, position)
            rtype, ttl, length = _RECORD.unpack_from(body, position)
            position += _RECORD.size + length
            records.append((owner, rtype, ttl, body[position - length : position]))
        parts.append(tuple(records))
    return Delta(apex.decode(), before, after, before_soa, after_soa, parts[0], parts[1])
