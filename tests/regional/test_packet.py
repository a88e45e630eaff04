"""The packet's two forms: what goes in comes out, and nothing else is let in."""

import base64
import hashlib
import json
import math
import struct
from dataclasses import replace

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.packets.packet import Packet, identity_digest, node_from_text, node_text
from registry import jsontext
from registry.errors import PacketError

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
axes = st.floats(-1e6, 1e6, width=32)
outcome_values = st.one_of(st.none(), finite, st.tuples(finite, st.booleans()))


@st.composite
def packets(draw):
    signed = draw(st.booleans())
    d = draw(st.integers(1, 40))
    return Packet(
        domain=draw(st.sampled_from(["crash.vehicles", "icu.medicine", "x"])),
        space8=draw(st.binary(min_size=8, max_size=8)),
        network=draw(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)),
        node=draw(st.binary(min_size=1, max_size=32)),
        seq=draw(st.integers(0, 2**64 - 1)),
        t0=draw(finite),
        time=draw(finite),
        fingerprint=np.array(draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=d, max_size=d)), dtype=np.float32),
        action=draw(st.none() | texts),
        outcomes=draw(st.dictionaries(texts, outcome_values, max_size=4)),
        weight=draw(st.sampled_from([0.0, 1.0]) | st.floats(1e-9, 1e9)),
        signer=draw(st.binary(min_size=32, max_size=32)) if signed else None,
        sig=draw(st.binary(min_size=64, max_size=64)) if signed else None,
    )


def sample(**changes) -> Packet:
    packet = Packet(
        domain="crash.vehicles",
        space8=b"12345678",
        network="psu-02",
        node=b"n1",
        seq=3,
        t0=1.7e9,
        time=1.8e9,
        fingerprint=np.arange(4, dtype=np.float32),
        action="belt",
        outcomes={"died": 0.0, "los": (3.5, True), "cost": None},
    )
    return replace(packet, **changes)


def same(a: Packet, b: Packet) -> bool:
    return a.to_cbor() == b.to_cbor() and a.fingerprint.tobytes() == b.fingerprint.tobytes()


@given(packets())
def test_cbor_round_trip_is_the_canonical_encoding(packet):
    data = packet.to_cbor()
    assert data == cbor2.dumps(cbor2.loads(data), canonical=True)
    assert same(Packet.from_cbor(data), packet)


@given(packets())
def test_json_round_trip(packet):
    text = json.dumps(packet.to_json())
    again = Packet.from_json(jsontext.loads(text), len(packet.fingerprint))
    assert same(again, packet)


@given(packets(), st.data())
def test_changed_bytes_never_decode_to_what_encodes_otherwise(packet, data):
    """Whatever a mutation decodes to, it is its own one encoding; everything else is a PacketError."""
    raw = bytearray(packet.to_cbor())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    try:
        decoded = Packet.from_cbor(bytes(raw))
    except PacketError:
        return
    assert decoded.to_cbor() == bytes(raw)


@given(st.binary(max_size=80))
def test_garbage_is_a_packet_error(data):
    with pytest.raises(PacketError):
        Packet.from_cbor(data)


def members(**changes):
    found = cbor2.loads(sample().to_cbor())
    for key, value in changes.items():
        found[int(key[1:])] = value
    return cbor2.dumps(dict(sorted(found.items())), canonical=True)


GOOD = sample().to_cbor()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (GOOD + b"\x00", "deterministic"),
        (GOOD[:-1], "premature"),
        (b"\xbf" + GOOD[1:] + b"\xff", "indefinite"),
        (bytes([GOOD[0] + 1]) + GOOD[1:] + b"\x00\x01", "Duplicate"),
        (bytes([GOOD[0]]) + GOOD[3 : 3 + 16] + GOOD[1:3] + GOOD[19:], "out of order"),
        (b"\xa0", "v is None"),
        (b"\x80", "map is wanted"),
        (bytes([GOOD[0] + 1]) + GOOD[1:] + b"\x0f\x00", "unknown key 15"),
        (members(k0=2), "version 1"),
        (members(k6=1700000000), "t0"),
        (members(k6=math.nan), "t0"),
        (members(k7=math.inf), "time"),
        (members(k5=-1), "seq"),
        (members(k5=2**64), "seq"),
        (members(k5=True), "seq"),
        (members(k4=b""), "node"),
        (members(k4=b"x" * 33), "node"),
        (members(k1="Crash"), "domain"),
        (members(k3="a.b"), "network"),
        (members(k3=["a"]), "network or space"),
        (members(k2=b"1234567"), "space"),
        (members(k8=b""), "fingerprint"),
        (members(k8=b"12345"), "fingerprint"),
        (members(k8=struct.pack("<2f", 1.0, math.nan)), "fingerprint"),
        (members(k8=struct.pack("<2f", 1.0, 3e38)), "fingerprint"),
        (members(k8=bytes(4 * 129)), "fingerprint"),
        (members(k9=""), "action"),
        (members(k9="x" * 65), "action"),
        (members(k10=[]), "outcomes"),
        (members(k10={"": 1.5}), "outcomes"),
        (members(k10={"died": 1}), "outcomes.died"),
        (members(k10={"died": math.nan}), "outcomes.died"),
        (members(k10={"los": [1.5, 1]}), "outcomes.los"),
        (members(k11=1.0), "deterministic"),
        (members(k11=-1.0), "weight"),
        (members(k12=bytes(32)), "sig"),
        (members(k14=True), "tombstone"),
        (members(k14=False), "deterministic"),
        (members(k10={f"outcome-{i}-" + "x" * 40: 1.5 for i in range(20)}), "996"),
    ],
)
def test_each_breach_is_named(data, named):
    with pytest.raises(PacketError) as caught:
        Packet.from_cbor(data)
    assert named in caught.value.detail


def test_a_missing_member_is_named():
    found = cbor2.loads(GOOD)
    for key in range(1, 11):
        rest = {k: v for k, v in found.items() if k != key}
        with pytest.raises(PacketError, match=rf"\(key {key}\) is missing"):
            Packet.from_cbor(cbor2.dumps(rest, canonical=True))


def test_the_largest_packet_fits_with_its_signature():
    packet = sample(
        fingerprint=np.full(128, 1.5, dtype=np.float32), signer=bytes(32), sig=bytes(64), node=bytes(32), weight=0.1
    )
    assert len(packet.to_cbor()) <= 996


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("fingerprint", [1.0, 2.0], "of 4 axes"),
        ("fingerprint", [1.0, 2.0, 3.0, "4"], "fingerprint"),
        ("fingerprint", [1.0, 2.0, 3.0, 1e300], "fingerprint"),
        ("fingerprint", "AAA", "base64"),
        ("fingerprint", base64.b64encode(b"12345").decode(), "float32"),
        ("seq", 1.5, "seq"),
        ("seq", "-1", "seq"),
        ("seq", True, "seq"),
        ("node", "a", "node"),
        ("node", "YQ==", "node"),
        ("node", "é", "node"),
        ("space", "12", "space"),
        ("space", "zz" * 8, "space"),
        ("v", 2, "v is 2"),
        ("v", True, "v is True"),
        ("t0", "now", "t0"),
        ("action", 3, "action"),
        ("action", "\ud800", "action"),
        ("outcomes", {"los": [1, 2, 3]}, "outcomes.los"),
        ("outcomes", [], "outcomes"),
        ("sig", "AAAA", "signer"),
        ("tombstone", True, "fingerprint"),
        ("tombstone", 1, "tombstone"),
        ("nope", 1, "nope"),
    ],
)
def test_json_breaches_are_named(name, value, named):
    document = sample().to_json()
    document[name] = value
    with pytest.raises(PacketError) as caught:
        Packet.from_json(document, 4)
    assert named in caught.value.detail


def test_json_takes_lists_whole_numbers_and_large_seq():
    document = sample(seq=2**63).to_json()
    assert document["seq"] == str(2**63)
    document |= {
        "fingerprint": [0, 1, 2, 3],
        "t0": 1700000000,
        "outcomes": {"died": 0, "los": [3.5, True], "cost": None},
    }
    assert same(Packet.from_json(document, 4), sample(seq=2**63))


def test_a_tombstone_carries_nothing():
    bare = sample(tombstone=True, fingerprint=np.zeros(0, dtype=np.float32), action=None, outcomes={})
    assert Packet.from_cbor(bare.to_cbor()).tombstone
    assert Packet.from_json(bare.to_json(), 4).tombstone
    with pytest.raises(PacketError, match="tombstone"):
        sample(tombstone=True).to_cbor()


def test_identity_digest_keeps_network_and_node_apart():
    assert identity_digest("ab", b"c") != identity_digest("a", b"bc")
    assert identity_digest("psu-02", b"n1").hex() == (hashlib.sha256(b"\x06psu-02n1").hexdigest())


@given(st.binary(min_size=1, max_size=32))
def test_node_text_round_trip(node):
    assert node_from_text(node_text(node)) == node
