"""A batch reads the columns of packets as decoding each would, and takes nothing that is no packet."""

from __future__ import annotations

import cbor2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regional.packets.batch import Batch
from regional.packets.packet import Packet
from registry.errors import PacketError

HOME = ("toys", b"12345678", "one")
D = 3


def packet(node: bytes = b"n1", action: str | None = "a", seq: int = 7, t0: float = 1.5, **more: object) -> Packet:
    point = np.array([1.0, -2.0, 0.5], dtype=np.float32)
    made = {"outcomes": {"cost": 3.0, "life": (10.0, True), "broke": None}, **more}
    return Packet("toys", b"12345678", "one", node, seq, t0, t0 + 1, point, action, **made)  # type: ignore[arg-type]


packets = st.builds(
    packet,
    node=st.binary(min_size=1, max_size=32),
    action=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=16),
    seq=st.integers(0, 2**64 - 1),
    t0=st.floats(allow_nan=False, allow_infinity=False, width=64),
    weight=st.floats(0, 1e6),
)


@given(st.lists(packets, max_size=6))
def test_columns_are_those_of_the_packets(made: list[Packet]) -> None:
    batch = Batch.of([each.to_cbor() for each in made], HOME, D)
    assert list(batch.nodes) == [each.node for each in made]
    assert list(batch.actions) == [each.action or "" for each in made]
    assert batch.fingerprints.shape == (len(made), D)
    for mine, row, whole in zip(made, batch.fingerprints, batch, strict=True):
        np.testing.assert_array_equal(row, mine.fingerprint)
        assert whole.to_cbor() == mine.to_cbor()


@given(st.binary(max_size=80))
def test_octets_that_are_no_packet_are_refused(octets: bytes) -> None:
    with pytest.raises(PacketError):
        Batch.of([packet().to_cbor(), octets], HOME, D)


@given(st.data())
def test_a_changed_packet_is_refused_or_reads_like_a_packet(data: st.DataObject) -> None:
    """Whatever octets change: what the batch takes and can decode has the columns that decoding gives."""
    octets = bytearray(packet(node=b"n" * data.draw(st.integers(1, 32))).to_cbor())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(octets[: data.draw(st.integers(1, len(octets)))])
    try:
        batch = Batch.of([cut, packet().to_cbor()], HOME, D)
        whole = batch.packet(0)
    except PacketError:
        return
    assert whole.node == batch.nodes[0]
    assert (whole.action or "") == batch.actions[0]
    np.testing.assert_array_equal(whole.fingerprint, batch.fingerprints[0])


@pytest.mark.parametrize(
    ("home", "d", "says"),
    [
        (("games", b"12345678", "one"), D, "another domain"),
        (("toys", b"87654321", "one"), D, "another domain"),
        (("toys", b"12345678", "two"), D, "another domain"),
        (HOME, D + 1, "4 float32"),
    ],
)
def test_another_home_is_named(home: tuple[str, bytes, str], d: int, says: str) -> None:
    with pytest.raises(PacketError, match=says):
        Batch.of([packet().to_cbor()], home, d)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([5], "octets"),
        ([b"\xa0" * 997], "octets"),
        ([b""], "another domain"),
        ([packet().to_cbor()[:45]], "does not begin"),
        ([cbor2.dumps([1, 2])], "another domain"),
    ],
)
def test_what_is_wrong_is_named(raw: list[bytes], says: str) -> None:
    with pytest.raises(PacketError, match=says):
        Batch.of(raw, HOME, D)


def test_coordinates_must_be_finite() -> None:
    octets = packet().to_cbor().replace(np.float32(1.0).tobytes(), np.float32(np.nan).tobytes())
    with pytest.raises(PacketError, match="not finite"):
        Batch.of([octets], HOME, D)


def test_what_is_kept_must_be_a_packet() -> None:
    octets = packet().to_cbor().replace(b"ebroke\xf6", b"ebroke\xf5")
    batch = Batch.of([octets, packet().to_cbor()], HOME, D)
    assert batch.packet(1).action == "a"
    with pytest.raises(PacketError, match="broke"):
        batch.packet(0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_many_at_once_read_as_each_alone(data: st.DataObject) -> None:
    """Octets of one packet changed, which may make it longer or shorter than it says: the others are not touched."""
    made = data.draw(st.lists(packets, min_size=2, max_size=4, unique_by=lambda each: each.node))
    raw = [bytearray(each.to_cbor()) for each in made]
    changed = raw[data.draw(st.integers(0, len(raw) - 1))]
    if data.draw(st.booleans()):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed.extend(data.draw(st.binary(max_size=3)))
    sent = [bytes(each) for each in raw]
    try:
        alone = Batch.of(sent, HOME, D)
    except PacketError:
        return
    together = Batch.of(sent, HOME, D)
    try:
        expected = [alone.details(row) for row in range(len(sent))]
    except PacketError:
        with pytest.raises(PacketError):
            together.read(range(len(sent)))
        return
    together.read(range(len(sent)))
    assert [together.details(row) for row in range(len(sent))] == expected


@pytest.mark.parametrize(
    "change",
    [
        {6: np.nan}, {7: np.inf}, {11: -1.0}, {11: 1}, {11: None}, {10: {"": 1.0}}, {10: {"x" * 65: 1.0}}, {10: []},
        {10: {3: 1.0}}, {10: {"a": np.inf}}, {10: {"a": [1.0, 1]}}, {10: {"a": True}}, {12: b"s" * 32},
        {12: b"s" * 31, 13: b"s" * 64}, {14: True}, {15: 1.0},
    ],
)  # fmt: skip
def test_one_that_breaks_a_rule_is_found_among_others(change: dict[int, object]) -> None:
    octets = cbor2.dumps({**cbor2.loads(packet(node=b"n2").to_cbor()), **change})
    batch = Batch.of([packet().to_cbor(), octets, packet(node=b"n3").to_cbor()], HOME, D)
    batch.read([0, 2])
    with pytest.raises(PacketError):
        batch.read([0, 1, 2])
