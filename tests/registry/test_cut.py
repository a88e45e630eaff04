"""What is delegated to other registries: referrals with glue, DS from the zone above, a registry of one zone only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from registry.clock import ManualClock
from registry.errors import ConfigError
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.journal import Journal
from registry.publishing.publisher import Publisher
from registry.serving.responder import respond
from registry.zones.cut import Cut, ds_rdata
from registry.zones.zone import Ttls, ZoneSet, origin_zone
from tests.registry.sample_members import SCHEMA
from tests.registry.sample_zones import DOMAINS, ORIGIN, SERIAL

DS = f"12345 13 2 {'ab' * 32}"
MEDICINE = Cut(
    "medicine.kindred.internal.",
    {
        "ns.medicine.kindred.internal.": ("127.0.0.2", "::2"),
        "ns2.kindred.internal.": ("127.0.0.4",),
        "ns.example.net.": (),
    },
    (ds_rdata(DS),),
)
ZONES = ZoneSet([origin_zone(ORIGIN, DOMAINS, SERIAL, Ttls(), delegations=[MEDICINE])])


def ask(zones: ZoneSet, name: str, rtype: str) -> dns.message.Message:
    answer = respond(zones, dns.message.make_query(name, rtype).to_wire(), 65535, True)
    assert answer is not None
    return dns.message.from_wire(answer)


@pytest.mark.parametrize("name", ["medicine", "icu.medicine", "g1.icu.medicine", "ns.medicine"])
def test_what_lies_below_is_referred_with_glue(name: str) -> None:
    message = ask(ZONES, f"{name}.{ORIGIN}", "A")
    assert not message.answer
    [servers] = [each for each in message.authority if each.rdtype == dns.rdatatype.NS]
    assert str(servers.name) == MEDICINE.name
    assert {str(each.target) for each in servers} == set(MEDICINE.servers)
    glue = {(str(rrset.name), str(address)) for rrset in message.additional for address in rrset}
    assert glue == {(host, address) for host, addresses in MEDICINE.servers.items() for address in addresses}


def test_the_ds_is_with_the_zone_above() -> None:
    [ds] = ask(ZONES, MEDICINE.name, "DS").answer
    assert [str(each) for each in ds] == [DS]


def test_a_server_beside_the_cut_is_the_zones_own() -> None:
    [address] = ask(ZONES, f"ns2.{ORIGIN}", "A").answer
    assert [str(each) for each in address] == ["127.0.0.4"]


@pytest.mark.parametrize("text", ["", "1 13 2", "70000 13 2 " + "ab" * 32, "1 300 2 " + "ab" * 32, "1 13 2 abc"])
def test_what_is_no_ds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no DS record"):
        ds_rdata(text)


async def test_a_registry_of_one_zone(tmp_path: Path) -> None:
    """It serves medicine.kindred.internal. and below; its name server is named there, and the origin is not its."""
    clock = ManualClock(1_800_000_000.0)
    journal = Journal(tmp_path)
    enrolment = Enrolment(
        [DomainEntry("icu.medicine", replace(SCHEMA, release="aggregates", min_cohort=11))], [], journal, clock, ORIGIN
    )
    publisher = Publisher(enrolment, journal, clock, addresses=("127.0.0.2",), zone="medicine")
    await publisher.tick()
    zones = publisher.zones()
    assert ask(zones, ORIGIN, "SOA").rcode() == dns.rcode.REFUSED
    for apex in ("medicine", "icu.medicine"):
        [servers] = ask(zones, f"{apex}.{ORIGIN}", "NS").answer
        assert [str(each.target) for each in servers] == [f"ns.medicine.{ORIGIN}"]
    [address] = ask(zones, f"ns.medicine.{ORIGIN}", "A").answer
    assert [str(each) for each in address] == ["127.0.0.2"]
    assert ask(zones, f"icu.medicine.{ORIGIN}", "TXT").answer
    journal.close()
