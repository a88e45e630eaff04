"""Shares of a network: who may cover as one, what DNS tells of it, and what outlives a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sample_members import KEYS, coverage, members, open_registry

from registry.clock import ManualClock
from registry.dns.message import txt_strings
from registry.dns.wire import TXT, name_to_wire
from registry.errors import SignatureError, UnknownName
from registry.publishing.member import Members, home_of, share_name
from registry.zones.texts import NetworkText
from registry.zones.zone import NET, Zone


def test_a_share_follows_from_its_network() -> None:
    admitted = Members((each.name, each) for each in members())
    share = admitted["north-s2"]
    assert (share.home, share.domain, share.key) == ("north", "crash.vehicles", KEYS["north"].public)
    assert share.endpoints == ("http://127.0.0.1:9/north-s2",)
    assert admitted["north"].home is None
    for name in ("nobody-s2", "north-s1", "north-s02", "north-s65", "north-s2-s2", "north-t2"):
        with pytest.raises(KeyError):
            admitted[name]


def test_names_of_shares() -> None:
    assert [share_name("a", number) for number in (1, 2, 64)] == ["a", "a-s2", "a-s64"]
    assert [home_of(name) for name in ("a", "a-s2", "a-s64", "a-b-s3")] == [None, "a", "a", "a-b"]
    with pytest.raises(ValueError, match="64"):
        share_name("a", 65)


def told(zone: Zone, name: str) -> NetworkText:
    label = name_to_wire(f"{name}.net.crash.vehicles.kindred.internal.").removesuffix(name_to_wire(zone.apex))
    for each in zone.branches[NET][label]:
        if each.rtype == TXT:
            [(_, rdata)] = each.rdatas()
            return NetworkText.from_strings(txt_strings(rdata))
    raise AssertionError(name)


async def test_only_the_network_itself_signs_for_its_shares(tmp_path: Path) -> None:
    clock = ManualClock(now=1_800_000_000.0)
    registry = open_registry(tmp_path, clock)
    stated = replace(coverage("north", 1, clock.now()), network="north-s2")
    mine = stated.document(KEYS["north"])
    with pytest.raises(SignatureError):
        registry.enrolment.cover("north-s2", stated.document(KEYS["south"]))
    with pytest.raises(UnknownName):
        registry.enrolment.cover("nobody-s2", mine)
    registry.enrolment.cover("north-s2", mine)
    await registry.publisher.tick()
    zone = registry.publisher.zones().by_apex[name_to_wire("crash.vehicles.kindred.internal.")]
    assert told(zone, "north-s2").home == "north"
    assert told(zone, "north").home is None
    registry.journal.close()
    again = open_registry(tmp_path, clock)
    assert again.enrolment.holding("north-s2") is not None
    assert [each.name for each in again.enrolment.everyone()] == ["north", "south", "west", "north-s2"]
    clock.advance(2.0)
    await again.publisher.tick()
    zone = again.publisher.zones().by_apex[name_to_wire("crash.vehicles.kindred.internal.")]
    assert told(zone, "north-s2").home == "north"
    again.journal.close()
