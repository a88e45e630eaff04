"""A cell's regions as DNS records: SVCB RDATA (RFC 9460) with geometry in private-use SvcParamKeys.

Priority 1; the target is a child cell or a network; seven parameters, all present, in this order, all numbers
little-endian but for what RFC 9460 fixes. docs/protocol.md, "Cell records", is the specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.dns.wire import MAX_NAME, labels_to_text, name_to_wire, skip_name
from registry.errors import LookupFailed, RegionError
from registry.geometry.cell import MAX_DEPTH, MAX_RECORDS, Address, CellRecord, Naming
from registry.geometry.region import Region
from registry.zones.quantise import TOP, Array, Codes, ball, box, lower, upper, variance, variances

PRIORITY = 1
REGION_ID, COUNTS, CENTRE, RADIUS, BOX, VARIANCE, FLAGS = range(65280, 65287)  # private use, RFC 9460 section 14.3.2
MAX_ID = 64  # octets
MAX_COUNT = 2**53 - 1
FLAG_LAPSED = 1

_PRIORITY = struct.pack("!H", PRIORITY)
_PARAMETER = struct.Struct("!HH")
_FOUR_FLOATS = struct.Struct("<4f")


def encode(record: CellRecord, naming: Naming, generation: int, actions: Sequence[str]) -> bytes:
    """The RDATA of one record; see `encode_cell`."""
    return encode_cell((record,), naming, generation, actions)[0]


def decode(rdata: bytes, naming: Naming, generation: int, actions: Sequence[str], d: int) -> CellRecord:
    """The record of one RDATA; see `decode_cell`."""
    return decode_cell((rdata,), naming, generation, actions, d)[0]


def encode_cell(
    records: Sequence[CellRecord], naming: Naming, generation: int, actions: Sequence[str]
) -> tuple[bytes, ...]:
    """The RDATA of each record of a cell, in order. `actions`: as in the apex's TXT.

    Raises RegionError for impossible geometry, an id over 64 octets, an action that is not listed.
    """
    if not records:
        return ()
    regions = [record.region for record in records]
    index = {"": 0, **{action: i for i, action in enumerate(actions, 1)}}
    tails = _tails(regions, [record.lapsed for record in records])
    return tuple(
        _PRIORITY
        + _target_of(record, naming, generation)
        + _parameter(REGION_ID, _id(record.region))
        + _parameter(COUNTS, _counts(record.region, index))
        + tail
        for record, tail in zip(records, tails, strict=True)
    )


def _tails(regions: Sequence[Region], lapsed: Sequence[bool]) -> Iterator[bytes]:
    """What follows the counts, of each record: all are laid out at once, as rows of octets of one length."""
    d = len(regions[0].centre)
    try:
        centre, radius, lo, hi, var = (
            np.array([getattr(region, name) for region in regions], dtype=np.float64)
            for name in ("centre", "radius", "lo", "hi", "var")
        )
    except ValueError:  # not all of one length
        centre = radius = lo = hi = var = np.zeros(0)
    spread = np.array([region.spread for region in regions])
    if not _possible(d, centre, radius, lo, hi, var, spread) or not all(
        region.counts and min(region.counts.values()) >= 1 for region in regions
    ):
        for region in regions:
            region.check(d)
    centre, is_half, radii = ball(centre, radius)
    scales, lo_codes, hi_codes = box(centre, lo, hi)
    var_scales, var_codes = variances(var)
    spreads = np.minimum(spread, np.finfo(np.float32).max)
    flags = np.where(lapsed, FLAG_LAPSED, 0).astype(np.uint8)
    rows: list[Iterator[bytes]] = []
    for chosen, kind in ((~is_half, "<f4"), (is_half, "<f2")):
        centres = _octets(centre[chosen].astype(kind))
        parts = (
            (CENTRE, (centres,)),
            (RADIUS, (_octets(radii[chosen].astype("<f4")),)),
            (BOX, (_octets(scales[chosen].astype("<f4")), lo_codes[chosen], hi_codes[chosen])),
            (
                VARIANCE,
                (_octets(var_scales[chosen].astype("<f4")), var_codes[chosen], _octets(spreads[chosen].astype("<f4"))),
            ),
            (FLAGS, (flags[chosen][:, None],)),
        )
        rows.append(_rows(parts, int(chosen.sum())))
    return (next(rows[half]) for half in is_half.tolist())


def _possible(d: int, centre: Array, radius: Array, lo: Array, hi: Array, var: Array, spread: Array) -> bool:
    """Whether every region is as `Region.check(d)` wants it, but for its counts."""
    if any(axis.shape != (len(spread), d) for axis in (centre, lo, hi, var)):
        return False
    estimates = np.isfinite(var).all() and (var >= 0).all() and np.isfinite(spread).all() and (spread >= 0).all()
    return bool(
        np.isfinite(centre).all()
        and (lo <= hi).all()
        and np.isfinite(radius).all()
        and (radius >= 0).all()
        and estimates
    )


def _octets(numbers: npt.NDArray[Any]) -> Codes:
    """(m, octets): the numbers (m,) or (m, d) as they lie in memory."""
    rows: Codes = np.ascontiguousarray(
        numbers.reshape(len(numbers), -1) if len(numbers) else numbers.reshape(0, 1)
    ).view(np.uint8)
    return rows


def _rows(parts: Sequence[tuple[int, Sequence[Codes]]], m: int) -> Iterator[bytes]:
    """m rows of parameters, each of a key and a value that consists of columns (m, octets)."""
    columns: list[Codes] = []
    for key, values in parts:
        head = np.frombuffer(_PARAMETER.pack(key, sum(value.shape[1] for value in values)), dtype=np.uint8)
        columns += [np.broadcast_to(head, (m, len(head))), *values]
    joined = np.concatenate(columns, axis=1)
    length, data = joined.shape[1], joined.tobytes()
    return (data[start : start + length] for start in range(0, m * length, length))


def _parameter(key: int, value: bytes) -> bytes:
    return _PARAMETER.pack(key, len(value)) + value


def _target_of(record: CellRecord, naming: Naming, generation: int) -> bytes:
    if [record.child, record.network, record.apex].count(None) != 2:
        raise RegionError(f"region {record.region.id}: a record points to a child, a network or an apex, one of them")
    if record.apex is not None:
        return name_to_wire(naming.beyond(record.apex).apex)
    if record.network is not None:
        return name_to_wire(naming.network(record.network))
    return cell_labels(record.child or ()) + name_to_wire(naming.cell(generation, ()))


def cell_labels(address: Address) -> bytes:
    """The labels of a cell's name before its generation's, in wire form; they are too many to be remembered whole."""
    return b"".join([_NUMBERS[n] if n < len(_NUMBERS) else _number(n) for n in reversed(address)])


def _number(n: int) -> bytes:
    text = str(n).encode()
    return bytes([len(text)]) + text


_NUMBERS = [_number(n) for n in range(1024)]


def _id(region: Region) -> bytes:
    encoded = region.id.encode("utf-8")
    if not 1 <= len(encoded) <= MAX_ID:
        raise RegionError(f"region {region.id!r:.80}: its id has {len(encoded)} octets; 1 to {MAX_ID} fit")
    return encoded


def _counts(region: Region, index: dict[str, int]) -> bytes:
    pairs = []
    for action, n in region.counts.items():
        if action not in index:
            raise RegionError(f"region {region.id}: it counts the action {action!r:.80}, which the schema lacks")
        if n > MAX_COUNT:
            raise RegionError(f"region {region.id}: a count of {n}; at most {MAX_COUNT} fit")
        pairs.append((index[action], n))
    encoded = bytearray()
    for pair in sorted(pairs):
        for value in pair:
            while value > 0x7F:
                encoded.append(value & 0x7F | 0x80)
                value >>= 7  # noqa: PLW2901 - LEB128
            encoded.append(value)
    return bytes(encoded)


def decode_cell(
    rdatas: Sequence[bytes], naming: Naming, generation: int, actions: Sequence[str], d: int
) -> tuple[CellRecord, ...]:
    """The records of a cell, in order; every region passes `Region.check(d)`.

    Raises LookupFailed for whatever `encode_cell` would not have written, and for cells of another generation;
    parameters with keys above 65286 are skipped, so that the format can grow.
    """
    if not rdatas:
        return ()
    if len(rdatas) > MAX_RECORDS:
        raise LookupFailed(f"a cell of {naming.apex} has {len(rdatas)} records; at most {MAX_RECORDS} may be")
    try:
        fields = [_Fields(rdata, naming, generation, actions, d) for rdata in rdatas]
    except (struct.error, IndexError, UnicodeDecodeError):
        raise LookupFailed(f"a cell record of {naming.apex} is cut short or no text where text belongs") from None
    centres = _centres(fields, d)
    numbers = np.array([field.numbers for field in fields], dtype=np.float64)
    if not ((numbers >= 0) & (numbers < np.inf)).all() or not np.isfinite(centres).all():
        raise LookupFailed(f"a cell record of {naming.apex} holds a number that is not finite, or negative")
    codes = np.frombuffer(b"".join([field.codes for field in fields]), dtype=np.uint8).reshape(-1, 3, d)
    lo_codes, hi_codes = codes[:, 0], codes[:, 1]
    if (lo_codes > hi_codes).any() or (lo_codes == TOP).any() or (hi_codes == 0).any():
        raise LookupFailed(f"a cell record of {naming.apex} has a box that holds nothing")
    scales = numbers[:, 1]
    lo, hi = lower(centres, scales, lo_codes), upper(centres, scales, hi_codes)
    var = variance(numbers[:, 2], codes[:, 2])
    return tuple(
        CellRecord(
            Region(field.id, field.counts, centre, field.numbers[0], low, high, spread_of, field.numbers[3]),
            field.child,
            field.network,
            field.apex,
            field.lapsed,
        )
        for field, centre, low, high, spread_of in zip(fields, centres, lo, hi, var, strict=True)
    )


def _centres(fields: Sequence[_Fields], d: int) -> Array:
    is_half = [len(field.centre) == 2 * d for field in fields]
    centres = np.empty((len(fields), d), dtype=np.float64)
    halves = b"".join(compress([field.centre for field in fields], is_half))
    singles = b"".join([field.centre for field in fields if len(field.centre) == 4 * d])
    if halves:
        centres[np.array(is_half)] = np.frombuffer(halves, dtype="<f2").reshape(-1, d)
    if singles:
        centres[~np.array(is_half)] = np.frombuffer(singles, dtype="<f4").reshape(-1, d)
    return centres


class _Fields:
    """One RDATA taken apart, its geometry still in octets.

    numbers: radius, box scale, variance scale, spread. codes: d lo, d hi, d variance codes.
    """

    __slots__ = ("apex", "centre", "child", "codes", "counts", "id", "lapsed", "network", "numbers")

    def __init__(self, rdata: bytes, naming: Naming, generation: int, actions: Sequence[str], d: int) -> None:
        if rdata[:2] != _PRIORITY:
            raise LookupFailed(f"a cell record of {naming.apex} is not of priority 1")
        apex = name_to_wire(naming.apex)
        start = rdata.find(apex, 2, 2 + MAX_NAME)
        if start < 0:  # a carrier may have changed the case
            start = rdata[: 2 + MAX_NAME].lower().find(apex, 2)
        self.child = self.network = self.apex = None
        if start > 2:
            self.child, self.network = _target(naming, generation, rdata[2:start])
            position = start + len(apex)
        else:
            position = _end_of_name(rdata)
            self.apex = _apex(naming, rdata[2:position])
        name, position = _value(rdata, position, REGION_ID)
        self.id = name.decode("utf-8")
        counts, position = _value(rdata, position, COUNTS)
        self.counts = _read_counts(counts, actions)
        self.centre, position = _value(rdata, position, CENTRE)
        radius, position = _value(rdata, position, RADIUS)
        faces, position = _value(rdata, position, BOX)
        var, position = _value(rdata, position, VARIANCE)
        flags, position = _value(rdata, position, FLAGS)
        if (
            not 1 <= len(name) <= MAX_ID
            or len(self.centre) not in (2 * d, 4 * d)
            or (len(radius), len(faces), len(var), len(flags)) != (4, 4 + 2 * d, 8 + d, 1)
            or flags[0] > FLAG_LAPSED
        ):
            raise LookupFailed(f"a cell record of {naming.apex} has a parameter of the wrong length for d={d}")
        _skip_unknown(rdata, position)
        self.numbers = _FOUR_FLOATS.unpack(radius + faces[:4] + var[:4] + var[-4:])
        self.codes = faces[4:] + var[4:-4]
        self.lapsed = flags[0] == FLAG_LAPSED


def _end_of_name(rdata: bytes) -> int:
    try:
        return skip_name(rdata, 2)
    except ValueError:
        raise LookupFailed("a cell record's target is no name") from None


def _value(rdata: bytes, position: int, key: int) -> tuple[bytes, int]:
    found, length = _PARAMETER.unpack_from(rdata, position)
    end = position + 4 + length
    if found != key or end > len(rdata):
        raise LookupFailed(f"a cell record has key {found} of {length} octets where key {key} belongs")
    return rdata[position + 4 : end], end


def _skip_unknown(rdata: bytes, position: int) -> None:
    last = FLAGS
    while position < len(rdata):
        key, length = _PARAMETER.unpack_from(rdata, position)
        position += 4 + length
        if key <= last or position > len(rdata):
            raise LookupFailed(f"a cell record has key {key} after {last}, or ends within it")
        last = key


@lru_cache(maxsize=16384)
def _target(naming: Naming, generation: int, labels: bytes) -> tuple[Address | None, str | None]:
    target = naming.target(f"{labels_to_text(labels)}.{naming.apex}")
    if isinstance(target, str):
        return None, target
    found, address = target
    if found != generation or not 1 <= len(address) <= MAX_DEPTH:
        raise LookupFailed(f"a cell of generation {generation} points to one of {found}, {len(address)} deep")
    if name_to_wire(naming.cell(found, address)) != labels.lower() + name_to_wire(naming.apex):
        raise LookupFailed("a cell's name has leading zeros")
    return address, None


@lru_cache(maxsize=1024)
def _apex(naming: Naming, name: bytes) -> str:
    return naming.beyond(f"{labels_to_text(name[:-1])}.").apex


def _read_varints(data: bytes) -> list[int]:
    values = []
    value = shift = 0
    for octet in data:
        value |= (octet & 0x7F) << shift
        if value > MAX_COUNT or (octet == 0 and shift):
            raise LookupFailed("a cell record has a count beyond 2^53-1, or in more octets than needed")
        if octet < 0x80:
            values.append(value)
            value = shift = 0
        else:
            shift += 7
    if shift or not values or len(values) % 2:
        raise LookupFailed("a cell record's counts are cut short")
    return values


def _read_counts(data: bytes, actions: Sequence[str]) -> dict[str, int]:
    values = _read_varints(data)
    counts: dict[str, int] = {}
    last = -1
    for i in range(0, len(values), 2):
        index, n = values[i], values[i + 1]
        if not last < index <= len(actions) or n < 1:
            raise LookupFailed(f"a cell record counts {n} of action {index}, of {len(actions)} in ascending order")
        counts[actions[index - 1] if index else ""] = n
        last = index
    return counts
