"""A registry as a member of another: what it may point to, within which bound, and how that is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_members import DIMENSION, KEYS, ORIGIN, SCHEMA, coverage, members, region, schema

from registry.clock import ManualClock
from registry.errors import ConfigError, DocumentError, LookupFailed, NotGranted, RegionError
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.region import Bounds
from registry.geometry.statement import holds, statement
from registry.publishing.coverage import Coverage
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.grant import Ball, Grant
from registry.publishing.journal import Journal
from registry.publishing.member import Member
from registry.publishing.publisher import Publisher
from registry.zones.record import decode, decode_cell, encode
from registry.zones.texts import ApexText

HERE = Naming("crash.vehicles", ORIGIN)
APEX = "crash.vehicles.asia.kindred.internal."
WITHIN = Ball(np.zeros(DIMENSION), 5.0)
ACTIONS = ("no", "yes")


def member(apex: str = APEX, within: Ball | None = WITHIN) -> Member:
    return Member("asia", HERE.domain, KEYS["stranger"].public, (), "registry", Grant(apex, within))


def enrolled(directory: Path, *more: Member, clock: ManualClock | None = None) -> tuple[Enrolment, Journal]:
    journal = Journal(directory)
    domains = [DomainEntry(name, SCHEMA) for name in ("crash.vehicles", "drives")]
    return Enrolment(domains, [*members(), *more], journal, clock or ManualClock(), ORIGIN), journal


@pytest.fixture
def enrolment(tmp_path: Path) -> Iterator[Enrolment]:
    opened, journal = enrolled(tmp_path, member())
    yield opened
    journal.close()


def summary(serial: int = 1, place: float = 1.0, **changes: Any) -> Coverage:
    fields: dict[str, Any] = {
        "network": "asia", "domain": HERE.domain, "apex": APEX, "regions": (region("all", place),), **changes,
    }  # fmt: skip
    return replace(coverage("north", serial, ManualClock().now()), **fields)


def send(enrolment: Enrolment, stated: Coverage, key: str = "stranger") -> int:
    return enrolment.cover(stated.network, stated.document(KEYS[key]))


def test_a_summary_is_held_and_a_document_without_apex_is_as_it_was(enrolment: Enrolment) -> None:
    assert send(enrolment, summary()) == 1
    held = enrolment.holding("asia")
    assert held is not None
    assert held.coverage.apex == APEX
    assert "apex" not in coverage("north", 1, 0.0).document(KEYS["north"])


@pytest.mark.parametrize("apex", ["crash.vehicles.africa.kindred.internal.", HERE.apex, None])
def test_a_target_that_is_not_granted_is_refused(enrolment: Enrolment, apex: str | None) -> None:
    with pytest.raises(NotGranted, match=f"asia may point to {APEX}"):
        send(enrolment, summary(apex=apex))
    assert enrolment.holding("asia") is None


def test_a_network_may_not_point_to_a_registry(enrolment: Enrolment) -> None:
    with pytest.raises(NotGranted, match="north may point to packets of its own"):
        send(enrolment, summary(network="north"), "north")


@pytest.mark.parametrize("apex", ["", "no final dot", "UPPER.case.", "a..b.", "a" * 260 + ".", 7])
def test_what_is_no_apex_is_refused(apex: object) -> None:
    document = {**summary().document(KEYS["stranger"]), "apex": apex}
    with pytest.raises(DocumentError, match="apex"):
        Coverage.from_document(document, DIMENSION)


def test_geometry_beyond_the_granted_bound_is_refused(enrolment: Enrolment) -> None:
    reach = 5.0 / np.sqrt(DIMENSION) - 0.5  # boxes reach 0.5 to each side
    assert send(enrolment, summary(1, reach * 0.999)) == 1
    with pytest.raises(NotGranted, match="beyond the bound granted to it, a ball of radius 5"):
        send(enrolment, summary(2, reach * 1.001))
    held = enrolment.holding("asia")
    assert held is not None
    assert held.coverage.serial == 1


def test_a_summary_is_of_one_region(enrolment: Enrolment) -> None:
    with pytest.raises(RegionError, match="one region, found 2"):
        send(enrolment, summary(regions=(region("a", 0.0), region("b", 0.5))))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([member(apex=HERE.apex)], "a referral to itself"),
        ([member(apex="drives.asia.kindred.internal.")], "is not crash.vehicles under another origin"),
        ([member(), replace(member(), name="second")], f"asia and second: both lead to {APEX}"),
    ],
)
def test_grants_that_cannot_be_are_refused_at_the_start(tmp_path: Path, more: list[Member], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        enrolled(tmp_path, *more)


async def test_it_is_published_as_a_record_to_its_apex(tmp_path: Path) -> None:
    clock = ManualClock()
    enrolment, journal = enrolled(tmp_path, member(), clock=clock)
    send(enrolment, summary(lease_s=30.0))
    publisher = Publisher(enrolment, journal, clock)
    await publisher.tick()
    assert records(publisher) == [(APEX, False)]
    clock.advance(31)  # an outage must not look like emptiness
    await publisher.tick()
    clock.advance(1)
    await publisher.tick()
    assert records(publisher) == [(APEX, True)]
    journal.close()


async def test_a_grant_that_was_changed_is_what_is_pointed_to(tmp_path: Path) -> None:
    """What was accepted under the old one stays, flagged, and leads nowhere that is not granted now."""
    enrolment, journal = enrolled(tmp_path, member())
    send(enrolment, summary())
    journal.close()
    other = "crash.vehicles.africa.kindred.internal."
    clock = ManualClock()
    enrolment, journal = enrolled(tmp_path, member(apex=other), clock=clock)
    publisher = Publisher(enrolment, journal, clock)
    await publisher.tick()
    assert records(publisher) == [(other, True)]
    journal.close()


def records(publisher: Publisher) -> list[tuple[str | None, bool]]:
    """Of the root cell: where each points, and whether it is lapsed."""
    generation = publisher.state(HERE.domain).generation
    zone = next(each for each in publisher.zones().by_apex.values() if each.apex == HERE.apex)
    root = HERE.cell(generation, ())
    found = [
        rdata
        for owner, rrset in zone.rrsets()
        if owner == b"".join(bytes([len(x)]) + x.encode() for x in root.split("."))
        for _, rdata in rrset.rdatas()
    ]
    cell = decode_cell(found, HERE, generation, ACTIONS, DIMENSION)
    return [(record.apex, record.lapsed) for record in cell]


def test_the_apex_names_the_parent() -> None:
    text = ApexText(
        generation=1, space=bytes(32), schema=bytes(32), dimension=2, actions=("a",), parent="crash.world.internal."
    )
    assert b"parent=crash.world.internal." in text.strings()
    assert ApexText.from_strings(text.strings()) == text


def test_a_record_to_an_apex_there_and_back() -> None:
    record = CellRecord(region("asia", 1.0), apex=APEX)
    rdata = encode(record, HERE, 17, ACTIONS)
    assert decode(rdata, HERE, 17, ACTIONS, DIMENSION).apex == APEX
    assert decode(rdata.replace(b"asia", b"aSiA", 1), HERE, 17, ACTIONS, DIMENSION).apex == APEX


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (b"\5crash\x08vehicles\7kindred\x08internal\0", "a referral to itself"),
        (b"\6drives\4asia\7kindred\x08internal\0", "under another origin"),
        (b"\5crash\x08vehicles\0", "under another origin"),
        (b"\5crash\x08vehicles\4as a\7kindred\0", "other octets"),
        (b"\5crash\xc0\x02", "cut or compressed|under another origin"),
        (b"\5crash\x08vehicles" + b"\x3f" + b"a" * 60, "other octets|cut short"),
        (b"\x50crash\0", "is no name"),
        (b"\0", "under another origin"),
    ],
)
def test_a_target_that_may_not_be_is_refused(target: bytes, says: str) -> None:
    rdata = encode(CellRecord(region("asia", 1.0), apex=APEX), HERE, 17, ACTIONS)
    name = b"\5crash\x08vehicles\4asia\7kindred\x08internal\0"
    assert rdata[2:].startswith(name)
    with pytest.raises(LookupFailed, match=says):
        decode(rdata[:2] + target + rdata[2 + len(name) :], HERE, 17, ACTIONS, DIMENSION)


def test_a_summary_contains_what_it_sums_up() -> None:
    random = np.random.default_rng(3)
    regions = [region(f"r{i}", float(random.normal()), count=3 + i) for i in range(9)]
    for margin in (0.0, 0.1):
        whole = statement("asia", regions, margin)
        whole.check(DIMENSION)
        assert holds(whole, ACTIONS, Bounds.of(regions))
        assert all(whole.counts[action] >= sum(each.counts[action] for each in regions) for action in ACTIONS)
        published = decode(encode(CellRecord(whole, apex=APEX), HERE, 1, ACTIONS), HERE, 1, ACTIONS, DIMENSION)
        assert holds(published.region, ACTIONS, Bounds.of(regions))
    assert not holds(statement("asia", regions[1:]), ACTIONS, Bounds.of([region("far", 9.0)]))
    assert schema().dimension == DIMENSION
