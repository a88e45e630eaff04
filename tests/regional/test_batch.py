"""A batch takes what a packet may be, and nothing else."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.batch import Batch
from regional.packet import Packet
from registry.errors import PacketError

HOME = ("toys", b"12345678", "one")


def members(**changes: Any) -> dict[int, Any]:
    packet = Packet(
        domain="toys",
        space8=b"12345678",
        network="one",
        node=b"n1",
        seq=7,
        t0=1.5,
        time=2.5,
        fingerprint=np.array([1.0, -2.0], dtype=np.float32),
        action="a",
        outcomes={"cost": 3.0, "life": (10.0, True), "broke": None},
        weight=2.0,
    )
    names = {"v": 0, "domain": 1, "space": 2, "network": 3, "node": 4, "seq": 5, "t0": 6, "time": 7}
    names |= {"fingerprint": 8, "action": 9, "outcomes": 10, "weight": 11, "tombstone": 14}
    return {**cbor2.loads(packet.to_cbor()), **{names[name]: value for name, value in changes.items()}}


def test_what_went_in_comes_out() -> None:
    batch = Batch.of([members(), members(node=b"n2", action=None)], HOME, 2)
    first, second = batch
    assert first.to_cbor() == cbor2.dumps(members(), canonical=True)
    assert (second.node, second.action) == (b"n2", None)
    assert batch.actions == ["a", ""]
    np.testing.assert_array_equal(batch.fingerprints, [[1.0, -2.0], [1.0, -2.0]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"domain": "games"}, "another domain"),
        ({"space": b"87654321"}, "another domain"),
        ({"network": "two"}, "another domain"),
        ({"fingerprint": b"1234"}, "2 float32"),
        ({"fingerprint": "12345678"}, "2 float32"),
        ({"fingerprint": np.array([1.0, np.nan], dtype="<f4").tobytes()}, "not finite"),
        ({"node": b""}, "node"),
        ({"node": b"x" * 33}, "node"),
        ({"action": ""}, "action"),
        ({"action": 3}, "action"),
        ({"seq": 1.0}, "seq"),
        ({"t0": float("inf")}, "time"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"outcomes": {"cost": "3"}}, "outcome"),
        ({"outcomes": {"cost": float("nan")}}, "outcome"),
        ({"outcomes": {"life": [1.0]}}, "outcome"),
        ({"outcomes": {"life": [1.0, 1]}}, "outcome"),
        ({"outcomes": [1]}, "no map"),
        ({"tombstone": True}, "withdrawn"),
        ({"v": 2}, "seq"),
    ],
)
def test_a_fault_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(PacketError, match=says):
        Batch.of([members(), members(**change)], HOME, 2)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=9)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves, inner, max_size=3))


@given(st.integers(0, 14), values)
def test_what_is_taken_is_a_packet(key: int, value: object) -> None:
    changed = {**members(), key: value}
    try:
        batch = Batch.of([changed], HOME, 2)
    except PacketError:
        return
    for packet in batch:
        if packet.signer is None and packet.sig is None:
            packet.to_cbor()


@pytest.mark.parametrize("key", range(11))
def test_a_missing_member_is_refused(key: int) -> None:
    changed = members()
    del changed[key]
    with pytest.raises(PacketError):
        Batch.of([changed], HOME, 2)
