"""Fingerprints: the documented formula for every kind and mix, the same bits, and every bad input by name."""

import base64
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_schemas import FIELD, SITUATION, feature, field, square, value

from registry.errors import FingerprintError, SituationError
from registry.likeness.fingerprint import check_space, encode, from_wire, to_base64
from registry.likeness.schema import Schema

SCHEMA = field()
SPACE = "0e8fb5e755fb2254d9f74023b936fa7f76c79847b1fc9a0941db09c20a08d3d1"
BITS = "f30435c0000080bf000000000000803f00000000000000000000000000000000000000000000803f7ed2ffbd4f57f7bf"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_distance_is_the_documented_dissimilarity(data: st.DataObject) -> None:
    specs = {f"f{n}": spec for n, spec in enumerate(data.draw(st.lists(feature(), min_size=1, max_size=5)))}
    schema = Schema.from_document({**FIELD, "features": specs}, "drawn")
    one, other = ({name: data.draw(value(spec)) for name, spec in specs.items()} for _ in range(2))
    a, b = encode(schema, one).astype(np.float64), encode(schema, other).astype(np.float64)
    assert a.shape == (schema.dimension,)
    wanted = sum(square(spec, one[name], other[name]) for name, spec in specs.items())
    # float32 holds a coordinate x to x * 2^-24, so a distance to a few times the longest coordinate of that.
    slack = 4 * 2.0**-24 * max(1.0, float(np.abs([a, b]).max())) * math.sqrt(len(a))
    assert math.sqrt(((a - b) ** 2).sum()) == pytest.approx(math.sqrt(wanted), rel=1e-6, abs=slack)


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ({"kind": "flag"}, [True, False]),
        ({"kind": "category", "values": ["a", "b", "c"], "similarity": {"a": {"b": 0.5}}}, ["a", "b", "c"]),
        ({"kind": "cycle", "unit": "h", "period": 24, "scale": 6}, [0, 3.5, 12, 23]),
    ],
)
def test_a_missing_value_without_as_is_as_far_from_every_known_one(spec: dict[str, Any], known: list[Any]) -> None:
    rule = {"label": "x", "weight": 2, "missing": {"apart": 0.9}}
    schema = Schema.from_document({**FIELD, "features": {"x": {**spec, **rule}}}, "one")
    unknown = encode(schema, {}).astype(np.float64)
    for each in known:
        assert np.linalg.norm(encode(schema, {"x": each}) - unknown) == pytest.approx(math.sqrt(2) * 0.9, rel=1e-6)
    assert (encode(schema, {"x": None}) == unknown).all()


def test_the_same_bits_everywhere() -> None:
    """Whoever computes other bits here does not speak of the same space."""
    assert encode(SCHEMA, SITUATION).tobytes().hex() == BITS
    assert SCHEMA.space.hex() == SPACE


def test_a_number_is_a_number_whatever_was_seen_before() -> None:
    """1, 1.0 and True are equal keys of a dict; only the first two are numbers, and only the last is a flag."""
    assert (encode(SCHEMA, {**SITUATION, "clay": 1}) == encode(SCHEMA, {**SITUATION, "clay": 1.0})).all()
    with pytest.raises(SituationError, match="clay: True is not a number"):
        encode(SCHEMA, {**SITUATION, "clay": True})
    encode(SCHEMA, {**SITUATION, "irrigated": True})
    with pytest.raises(SituationError, match="irrigated: 1 is not true or false"):
        encode(SCHEMA, {**SITUATION, "irrigated": 1})


@pytest.mark.parametrize(
    ("change", "feature", "says"),
    [
        ({"clya": 3}, "clya", "no such feature; did you mean 'clay'?"),
        ({"rain": 300}, "rain", "known only after the action"),
        ({"clay": "30"}, "clay", "'30' is not a number; what would be right: a number in % from 0 to 100"),
        ({"clay": [30]}, "clay", "not a number"),
        ({"clay": {}}, "clay", "not a number"),
        ({"clay": True}, "clay", "not a number"),
        ({"clay": None}, "clay", "is missing; it must be given"),
        ({"clay": math.nan}, "clay", "not a finite number"),
        ({"clay": math.inf}, "clay", "not a finite number"),
        ({"clay": -math.inf}, "clay", "not a finite number"),
        ({"clay": 101}, "clay", "101 is out of range"),
        ({"clay": -0.001}, "clay", "out of range"),
        ({"clay": 10**400}, "clay", "out of range"),
        ({"area": 0}, "area", "a number in ha from 0.1 to 1000, or null where it is not known"),
        ({"sown": 366}, "sown", "out of range"),
        ({"slope": "stepp"}, "slope", "did you mean 'steep'?"),
        ({"slope": 1}, "slope", "not a text"),
        ({"crop": "rice"}, "crop", "'rice' is not known; what would be right: one of 'wheat', 'barley'"),
        ({"crop": None}, "crop", "is missing"),
        ({"irrigated": "yes"}, "irrigated", "not true or false"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], feature: str, says: str) -> None:
    for _ in range(2):  # the second time from whatever was remembered
        with pytest.raises(SituationError) as caught:
            encode(SCHEMA, {**SITUATION, **change})
        assert caught.value.where["feature"] == feature
        assert says in caught.value.detail
        assert caught.value.detail.startswith((f"{feature}: ", f"{feature!r}: "))


def test_all_that_does_not_fit_is_named_at_once() -> None:
    with pytest.raises(SituationError) as caught:
        encode(SCHEMA, {"clay": "x", "rain": 1, "colour": "red"})
    paths = [problem["path"] for problem in caught.value.where["problems"]]
    assert paths == ["rain", "colour", "clay", "slope", "crop", "sown"]


def test_a_fingerprint_survives_the_wire() -> None:
    fingerprint = encode(SCHEMA, SITUATION)
    d = SCHEMA.dimension
    assert (from_wire(to_base64(fingerprint), d) == fingerprint).all()
    assert (from_wire(fingerprint.tolist(), d) == fingerprint).all()
    assert from_wire([0] * d, d).dtype == np.float32


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ("AAA", "not base64"),
        ("AAAA AAAA", "not base64"),
        ("Ä", "not base64"),
        (base64.b64encode(bytes(8)).decode(), "8 bytes long, this domain's are 12"),
        (base64.b64encode(np.array([1, np.nan, 0], "<f4").tobytes()).decode(), "fingerprint[1]: nan is not finite"),
        ([1.0, 2.0], "2 numbers, this domain's have 3"),
        ([1.0, 2.0, True], "fingerprint[2]: True"),
        ([1.0, "2", 3.0], "fingerprint[1]: '2'"),
        ([1.0, 2.0, math.inf], "fingerprint[2]"),
        ([1.0, 2.0, 1e39], "fingerprint[2]"),
        ([1.0, 10**400, 1.0], "fingerprint[1]"),
        (None, "base64 or a list"),
        ({"0": 1}, "base64 or a list"),
    ],
)
def test_a_fingerprint_that_is_none_is_refused(wire: object, says: str) -> None:
    with pytest.raises(FingerprintError) as caught:
        from_wire(wire, 3)
    assert says in caught.value.detail


def test_another_space_is_refused() -> None:
    check_space(SCHEMA, SCHEMA.space.hex())
    for other in ("00" * 32, None, SCHEMA.space, SCHEMA.space.hex()[:16]):
        with pytest.raises(FingerprintError, match=SCHEMA.space.hex()):
            check_space(SCHEMA, other)
