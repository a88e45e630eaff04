"""SVCB RDATA of cell records: there and back, against dnspython, and against everything that is not one."""

from __future__ import annotations

import struct
from pathlib import Path

import dns.rdata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import KindredError, LookupFailed, RegionError
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.region import Region
from registry.zones.record import decode, decode_cell, encode, encode_cell

NAMING = Naming("crash.vehicles", "kindred.internal.")
ACTIONS = ("belt", "none", "bag")


def region(d: int = 3, seed: int = 0, **changes: object) -> Region:
    random = np.random.default_rng(seed)
    points = random.normal(size=(20, d))
    centre = points.mean(axis=0)
    fields: dict[str, object] = {
        "id": "r1",
        "counts": {"belt": 15, "bag": 300},
        "centre": centre,
        "radius": float(np.sqrt(((points - centre) ** 2).sum(axis=1)).max()) * 1.0000001,
        "lo": points.min(axis=0),
        "hi": points.max(axis=0),
        "var": points.var(axis=0),
        "spread": 2.5,
    }
    return Region(**{**fields, **changes})  # type: ignore[arg-type]


def there_and_back(record: CellRecord, d: int = 3) -> CellRecord:
    return decode(encode(record, NAMING, 17, ACTIONS), NAMING, 17, ACTIONS, d)


@pytest.mark.parametrize("d", [1, 2, 24, 128])
@pytest.mark.parametrize("lapsed", [False, True])
def test_round_trip(d: int, lapsed: bool) -> None:
    for given_record in (
        CellRecord(region(d), network="psu-02", lapsed=lapsed),
        CellRecord(region(d, counts={"": 2**40, "none": 1}), child=(3, 0, 7), lapsed=lapsed),
    ):
        record = there_and_back(given_record, d)
        assert (record.child, record.network, record.lapsed) == (given_record.child, given_record.network, lapsed)
        assert record.region.id == "r1"
        assert dict(record.region.counts) == dict(given_record.region.counts)
        record.region.check(d)
        assert (record.region.lo <= given_record.region.lo).all()
        assert (record.region.hi >= given_record.region.hi).all()
        moved = np.linalg.norm(record.region.centre - given_record.region.centre)
        assert record.region.radius >= given_record.region.radius + moved * (1 - 1e-9)
        assert record.region.spread == 2.5
        np.testing.assert_allclose(record.region.var, given_record.region.var, atol=given_record.region.var.max() / 509)


def test_a_cell_mixes_half_and_single_centres() -> None:
    exact = np.float32([0.1, 0.2, 0.3]).astype(np.float64)
    point = region(centre=exact, radius=0.0, lo=exact, hi=exact)
    records = [CellRecord(each, network=f"n{i}") for i, each in enumerate([region(), point, region(seed=1), point])]
    rdatas = encode_cell(records, NAMING, 17, ACTIONS)
    assert len(rdatas[1]) == len(rdatas[0]) + 2 * 3
    decoded = decode_cell(rdatas, NAMING, 17, ACTIONS, 3)
    assert decoded[1].region.radius == 0
    assert (decoded[3].region.centre == exact).all()
    for record, rdata in zip(decoded, rdatas, strict=True):
        assert (record.region.centre == decode(rdata, NAMING, 17, ACTIONS, 3).region.centre).all()


def test_dnspython_reads_the_same() -> None:
    rdata = encode(CellRecord(region(), child=(3, 0)), NAMING, 17, ACTIONS)
    parsed = dns.rdata.from_wire("IN", "SVCB", rdata, 0, len(rdata))
    assert str(parsed.target) == "0.3.g17.crash.vehicles.kindred.internal."
    assert parsed.priority == 1
    assert [int(key) for key in parsed.params] == list(range(65280, 65287))
    assert parsed.to_wire() == rdata


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"wings": 3}}, "wings"),
        ({"counts": {"belt": 2**53}}, "at most"),
        ({"counts": {}}, "count"),
        ({"id": "x" * 65}, "octets"),
        ({"id": ""}, "octets"),
        ({"radius": float("nan")}, "radius"),
        ({"radius": 1e39}, "float32"),
        ({"centre": np.array([1.0, np.inf, 0.0])}, "finite"),
        ({"lo": np.array([9.0, 9.0, 9.0])}, "lo"),
    ],
)
def test_encode_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RegionError, match=message):
        encode(CellRecord(region(**changes), network="n"), NAMING, 17, ACTIONS)


def test_encode_wants_exactly_one_target() -> None:
    with pytest.raises(RegionError, match="one of them"):
        encode(CellRecord(region()), NAMING, 17, ACTIONS)
    with pytest.raises(RegionError, match="one of them"):
        encode(CellRecord(region(), child=(1,), network="n"), NAMING, 17, ACTIONS)


def parts(rdata: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Head (priority and target) and parameters of an RDATA."""
    position = 2
    while rdata[position]:
        position += 1 + rdata[position]
    head, position = rdata[: position + 1], position + 1
    parameters = {}
    while position < len(rdata):
        key, length = struct.unpack_from("!HH", rdata, position)
        parameters[key] = rdata[position + 4 : position + 4 + length]
        position += 4 + length
    return head, parameters


def joined(head: bytes, parameters: dict[int, bytes]) -> bytes:
    return head + b"".join(struct.pack("!HH", key, len(value)) + value for key, value in parameters.items())


def test_a_cell_of_more_records_than_may_be_is_refused() -> None:
    wire = [encode(CellRecord(region(id=f"r{i}"), network="n"), NAMING, 17, ACTIONS) for i in range(101)]
    assert len(decode_cell(wire[:64], NAMING, 17, ACTIONS, 3)) == 64
    with pytest.raises(LookupFailed, match="101 records; at most 64"):
        decode_cell(wire, NAMING, 17, ACTIONS, 3)


GOOD = encode(CellRecord(region(), network="psu-02"), NAMING, 17, ACTIONS)


def test_the_layout_is_as_written_down() -> None:
    head, parameters = parts(GOOD)
    assert head == b"\x00\x01\x06psu-02\x03net\x05crash\x08vehicles\x07kindred\x08internal\x00"
    assert parameters[65280] == b"r1"
    assert parameters[65281] == bytes([1, 15, 3, 300 & 0x7F | 0x80, 300 >> 7])
    assert parameters[65282] == region().centre.astype("<f2").tobytes()
    assert len(parameters[65284]) == 4 + 6
    assert len(parameters[65285]) == 4 + 3 + 4
    assert parameters[65285][-4:] == struct.pack("<f", 2.5)
    assert parameters[65286] == b"\0"
    assert decode(joined(head, parameters), NAMING, 17, ACTIONS, 3).network == "psu-02"


def test_the_example_of_the_specification() -> None:
    protocol = Path(__file__).parents[2] / "docs" / "protocol.md"
    lines = protocol.read_text().partition("*Example*")[2].partition("(The scale")[0].splitlines()
    rdata = bytes.fromhex("".join(line for line in lines if line.startswith("    ")))
    example = region(
        counts={"belt": 15, "bag": 300},
        centre=np.array([0.5, -2.0]),
        radius=1.5,
        lo=np.array([0.0, -3.0]),
        hi=np.array([1.0, np.inf]),
        var=np.array([0.25, 0.125]),
        spread=2.0,
    )
    assert encode(CellRecord(example, network="psu-02"), NAMING, 17, ACTIONS) == rdata
    decoded = decode(rdata, NAMING, 17, ACTIONS, 2).region
    assert (decoded.centre == example.centre).all()
    assert decoded.radius == 1.5
    assert decoded.var[1] == 0.25 * 128 / 255


NAN, INF = struct.pack("<f", float("nan")), struct.pack("<f", float("inf"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (65280, b""),
        (65280, b"x" * 65),
        (65280, b"\xff"),
        (65281, b""),
        (65281, b"\x01"),
        (65281, b"\x01\x00"),
        (65281, b"\x04\x01"),
        (65281, b"\x02\x01\x01\x01"),
        (65281, b"\x01\x01\x01\x01"),
        (65281, b"\x01\x80"),
        (65281, b"\x01\x81\x00"),
        (65281, b"\x01" + b"\xff" * 8 + b"\x01"),
        (65281, b"\x01" + b"\x80" * 4000 + b"\x01"),
        (65282, b"\0" * 5),
        (65282, b"\0" * 8),
        (65282, b"\x00\x7c" * 3),
        (65282, NAN * 3),
        (65283, NAN),
        (65283, INF),
        (65283, struct.pack("<f", -1.0)),
        (65283, b"\0" * 8),
        (65284, NAN + b"\x80" * 6),
        (65284, struct.pack("<f", -1.0) + b"\x80" * 6),
        (65284, b"\0" * 4 + b"\x80" * 5),
        (65284, b"\0" * 4 + b"\x81" * 3 + b"\x80" * 3),
        (65284, b"\0" * 4 + b"\xff" * 6),
        (65284, b"\0" * 10),
        (65285, b"\0" * 10),
        (65285, b"\0" * 7 + NAN),
        (65285, INF + b"\0" * 7),
        (65286, b"\x02"),
        (65286, b""),
    ],
)
def test_decode_refuses(key: int, value: bytes) -> None:
    head, parameters = parts(GOOD)
    with pytest.raises(LookupFailed):
        decode(joined(head, {**parameters, key: value}), NAMING, 17, ACTIONS, 3)


@pytest.mark.parametrize("key", range(65280, 65287))
def test_every_parameter_is_needed(key: int) -> None:
    head, parameters = parts(GOOD)
    del parameters[key]
    with pytest.raises(LookupFailed):
        decode(joined(head, parameters), NAMING, 17, ACTIONS, 3)


def test_newer_parameters_are_skipped_but_must_be_well_formed() -> None:
    assert decode(GOOD + b"\xff\x07\x00\x01x\xff\x09\x00\x00", NAMING, 17, ACTIONS, 3).network == "psu-02"
    for tail in (b"\xff\x07\x00\x02x", b"\xff\x07", b"\xff\x06\x00\x00", b"\xff\x09\x00\x00\xff\x08\x00\x00", b"x"):
        with pytest.raises(LookupFailed):
            decode(GOOD + tail, NAMING, 17, ACTIONS, 3)


@pytest.mark.parametrize(
    "target",
    [
        b"\x010\x03g18",  # another generation
        b"\x02g17",  # the root: a cycle
        b"\x0207\x03g17",
        b"\x011" * 17 + b"\x03g17",
        b"\x01a\x03g17",
        b"\x01a\x01b\x03net",
        b"\x04psu!\x03net",
        b"\xc0\x0c",
        b"\x09psu",
        b"",
    ],
)
def test_decode_refuses_targets(target: bytes) -> None:
    head, parameters = parts(GOOD)
    apex = head[head.index(b"\x05crash") :]
    with pytest.raises(LookupFailed):
        decode(joined(head[:2] + target + apex, parameters), NAMING, 17, ACTIONS, 3)


def test_decode_refuses_other_domains_and_priorities_but_not_other_case() -> None:
    with pytest.raises(LookupFailed):
        decode(GOOD, Naming("severity.vehicles", "kindred.internal."), 17, ACTIONS, 3)
    with pytest.raises(LookupFailed):
        decode(b"\0\0" + GOOD[2:], NAMING, 17, ACTIONS, 3)
    assert decode(GOOD.replace(b"crash", b"CRash"), NAMING, 17, ACTIONS, 3).network == "psu-02"


@settings(max_examples=300)
@given(st.data())
def test_mutated_octets_decode_soundly_or_fail_by_name(data: st.DataObject) -> None:
    octets = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    del octets[data.draw(st.integers(0, len(octets))) or len(octets) :]
    try:
        record = decode(bytes(octets), NAMING, 17, ACTIONS, 3)
    except KindredError as error:
        assert isinstance(error, LookupFailed)  # noqa: PT017
    else:
        record.region.check(3)


@given(st.binary(max_size=200))
def test_random_octets_fail_by_name(octets: bytes) -> None:
    with pytest.raises(LookupFailed):
        decode(octets, NAMING, 17, ACTIONS, 3)
