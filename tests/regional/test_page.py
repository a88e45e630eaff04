"""A page says what its atoms are, octet for octet; what is no page, or another's, is refused by name."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional.cohort import Cohort
from regional.packets.packet import identity_digest
from regional.releasing.atom import Atom, place_of, step_of
from regional.releasing.epoch import EpochIndex, PageEntry, TableEntry
from regional.releasing.page import Home, digest_of, page_bytes, read_page
from registry.errors import DocumentError, SignatureError
from registry.keys import SigningKey, verify_document
from tests.regional.persons import SCHEMA

D = 3
HOME = Home("ward", "one", bytes(32), D, 2.0**-4)
KEY = SigningKey(bytes(32))


def atoms(seed: int = 1, n: int = 5, least: int = 4, far: int = 100) -> list[Atom]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(1, n + 1):
        size = int(rng.integers(least, 2 * least))
        values = [(float(rng.random() < 0.5), float(rng.uniform(0.5, 2))) for _ in range(size)]
        figures = {} if number == 2 else {"died": Cohort.of(values).figures()}
        if number % 2:
            figures["cost"] = Cohort.of((float(rng.normal()), 1.0) for _ in range(least)).figures()
        place = rng.integers(-far, far, D)
        made.append(Atom(number * 7, "ab"[number % 2], size, math.fsum(w for _, w in values), place, figures))
    return made


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([100, 100_000, 10**11]))
def test_what_is_read_is_what_was_written(seed: int, n: int, far: int) -> None:
    made = atoms(seed, n, far=far)
    data = page_bytes(list(reversed(made)), HOME)
    assert data == page_bytes(made, HOME)
    page = read_page(data, HOME, least=4)
    assert page.nodes == tuple(atom.id for atom in made)
    assert page.actions == tuple(atom.action for atom in made)
    assert page.sizes.tolist() == [atom.size for atom in made]
    assert page.weights.tolist() == [atom.weight for atom in made]
    assert [dict(each) for each in page.figures] == [dict(atom.figures) for atom in made]
    assert (page.centres == np.array([atom.place for atom in made]) * HOME.step).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_the_region_of_a_page_holds_its_centres(seed: int, n: int) -> None:
    made = atoms(seed, n)
    page = read_page(page_bytes(made, HOME), HOME, 4)
    region = page.region("f" * 64)
    region.check(D)
    assert dict(region.counts) == {
        action: sum(atom.size for atom in made if atom.action == action) for action in sorted({a.action for a in made})
    }
    for action in region.counts:
        assert region.contains(page.centres.astype(np.float32), action).all()


def broken() -> list[tuple[str, dict[str, Any]]]:
    nan, many = np.array([math.nan], "<f8").tobytes(), (2**32 - 1).to_bytes(4, "little")
    return [
        ("v=1", {"v": 2}),
        ("members", {"more": 1}),
        ("domain", {"domain": "wards"}),
        ("network", {"network": "two"}),
        ("space", {"space": bytes([1]) * 32}),
        ("step", {"step": 0.5}),
        ("number", {"number": b"\0" * 16}),
        ("number", {"number": b""}),
        ("size", {"size": b"\3\0\0\0"}),
        ("size", {"size": b"\3\0\0"}),
        ("action", {"action": b"\1"}),
        ("actions", {"actions": [1]}),
        ("weight", {"weight": nan}),
        ("weight", {"weight": np.array([-1.0]).tobytes()}),
        ("place", {"place": bytes(2)}),
        ("place", {"place": "abc"}),
        ("outcomes", {"outcomes": []}),
        ("outcomes.cost", {"outcomes": {"cost": {}}}),
        ("outcomes.cost", {"mean": nan}),
        ("outcomes.cost", {"variance": nan}),
        ("outcomes.cost", {"variance": np.array([-1.0]).tobytes()}),
        ("outcomes.cost", {"weight": np.array([-1.0]).tobytes()}),
        ("outcomes.cost", {"n": b"\3\0\0\0"}),  # too few
        ("outcomes.cost", {"n": many}),  # more than there are; what elsewhere would be -1
        ("outcomes.cost", {"events": many}),
    ]


@pytest.mark.parametrize(("path", "change"), broken())
def test_what_is_no_page_is_refused_by_name(path: str, change: dict[str, Any]) -> None:
    found = cbor2.loads(page_bytes(atoms(n=1), HOME))
    for name, value in change.items():
        if name in ("mean", "variance", "n", "events") or (name == "weight" and path.startswith("outcomes")):
            found["outcomes"]["cost"][name] = value
        else:
            found[name] = value
    with pytest.raises(DocumentError, match=path.split(".", maxsplit=1)[0]):
        read_page(cbor2.dumps(found, canonical=True), HOME, 4)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b"\x80", b"\xa1\x00\x00", bytes(5 * 1024 * 1024)])
def test_octets_that_are_no_page(data: bytes) -> None:
    with pytest.raises(DocumentError):
        read_page(data, HOME, 4)


def test_too_few_persons_are_refused() -> None:
    data = page_bytes(atoms(), HOME)
    with pytest.raises(DocumentError, match="12 at least"):
        read_page(data, HOME, least=12)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_of_an_octet_is_another_page(data: st.DataObject) -> None:
    page = bytearray(page_bytes(atoms(), HOME))
    digest = digest_of(bytes(page))
    place = data.draw(st.integers(0, len(page) - 1))
    page[place] ^= data.draw(st.integers(1, 255))
    assert digest_of(bytes(page)) != digest
    with suppress(DocumentError):  # whatever it is now, reading it does no harm
        read_page(bytes(page), HOME, 4)


def index() -> EpochIndex:
    pages = (PageEntry("a" * 64, 100, 2, {"a": 11, "": 12}), PageEntry("b" * 64, 50, 1, {"b": 13}))
    tables = {"moments": TableEntry("c" * 64, 7)}
    return EpochIndex("ward", "one", "d" * 64, "e" * 64, 3, 9, 17.5, 11, 0.25, pages, tables)


def test_an_index_is_signed_and_read_again() -> None:
    document = index().document(KEY)
    verify_document(document, KEY.public)
    again = EpochIndex.from_document(document)
    assert again.document(KEY) == document
    assert (again.octets, again.persons) == (150, 36)
    with pytest.raises(SignatureError):
        verify_document({**document, "epoch": 4}, KEY.public)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("v", {"v": 2}),
        ("epoch", {"epoch": -1}),
        ("epoch", {"epoch": 1.5}),
        ("serial", {"serial": True}),
        ("step", {"step": 0.0}),
        ("step", {"step": math.inf}),
        ("pages.0.digest", {"pages": [{"digest": "A" * 64, "octets": 1, "atoms": 1, "counts": {}}]}),
        ("pages.0.counts.a", {"pages": [{"digest": "a" * 64, "octets": 1, "atoms": 1, "counts": {"a": -11}}]}),
        ("pages", {"pages": [{"digest": "a" * 64, "octets": 1, "atoms": 1, "counts": {"a": 11}}] * 2}),
        ("tables", {"tables": {"../x": {"digest": "a" * 64, "octets": 1}}}),
        ("more", {"more": 1}),
    ],
)
def test_what_is_no_index_is_refused_by_name(path: str, change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=path):
        EpochIndex.from_document({**index().document(KEY), **change})


@pytest.mark.parametrize("d", [1, 2, 56, 128])
@pytest.mark.parametrize("floor", [0.01, 0.5, 1.0, 3.7])
def test_rounding_moves_a_centre_by_an_eighth_of_the_bandwidth_floor_at_most(d: int, floor: float) -> None:
    class Space:
        dimension, bandwidth_floor = d, floor

    step = step_of(Space)  # type: ignore[arg-type]
    assert step * np.sqrt(d) / 2 <= floor / 8 < step * np.sqrt(d)
    assert math.frexp(step)[0] == 0.5
    points = np.random.default_rng(d).normal(size=(11, d)).astype(np.float32)
    moved = place_of(list(points), step) * step - points.mean(axis=0, dtype=np.float64)
    assert np.linalg.norm(moved) <= floor / 8


def test_an_atom_has_its_place_in_the_order_of_neighbours() -> None:
    one, two = atoms(n=2)
    assert one.id != two.id
    assert len(identity_digest("one", one.id)) == 32
    assert step_of(SCHEMA) <= SCHEMA.bandwidth_floor
