"""Zones: what stands in them, what is shared between publications, what is refused."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdatatype
import pytest
from sample_zones import DOMAINS, NAMING, NESTED, ORIGIN, SERIAL, D, entry, leaf, publication, tree

from registry.dns.wire import NS, SOA, SVCB, TXT, URI, name_to_wire
from registry.errors import ConfigError, RegionError
from registry.zones.zone import Ttls, Zone, domain_zone, last_label, origin_zone

TTLS = Ttls()


def found(zone: Zone, name: str) -> tuple[int, ...] | None:
    """The types at a name, or None where the zone has no such name."""
    labels = name_to_wire(name).removesuffix(name_to_wire(zone.apex))
    node = zone.find(labels, last_label(labels))
    return None if node is None else tuple(each.rtype for each in node)


def as_text(zone: Zone) -> str:
    """The zone as a master file (RFC 1035 section 5)."""
    lines = []
    for owner, each in zone.rrsets():
        name, _ = dns.name.from_wire(owner, 0)
        for ttl, rdata in each.rdatas():
            value = dns.rdata.from_wire("IN", each.rtype, rdata, 0, len(rdata))
            lines.append(f"{name} {ttl} IN {dns.rdatatype.to_text(each.rtype)} {value.to_text()}")
    return "\n".join(lines) + "\n"


def test_a_domain_has_its_apex_its_cells_and_its_networks() -> None:
    zone = domain_zone(publication(), SERIAL, TTLS)
    assert found(zone, NAMING.apex) == (SOA, NS, TXT)
    assert found(zone, NAMING.cell(17, ())) == (SVCB,)
    assert found(zone, NAMING.cell(17, (2,))) == (SVCB,)
    assert found(zone, NAMING.cell(17, (3,))) is None
    assert found(zone, NAMING.cell(16, ())) is None
    assert found(zone, f"net.{NAMING.apex}") == ()
    assert found(zone, NAMING.network("psu-00")) == (TXT, URI)
    assert found(zone, NAMING.network("psu-01")) == (TXT,)


def test_missing_ancestors_are_empty_non_terminals() -> None:
    zone = domain_zone(publication(generations={17: {(3, 1): (leaf(1),), (): ()}}), SERIAL, TTLS)
    assert found(zone, NAMING.cell(17, (3, 1))) == (SVCB,)
    assert found(zone, NAMING.cell(17, (3,))) == ()
    assert found(zone, NAMING.cell(17, ())) == ()


def test_the_origin_delegates_only_what_lies_nearest() -> None:
    origin = origin_zone(ORIGIN, DOMAINS, SERIAL, TTLS)
    assert found(origin, NAMING.apex) == (NS,)
    assert found(origin, NESTED.apex) is None
    assert found(origin, f"vehicles.{ORIGIN}") == ()
    assert found(domain_zone(publication(), SERIAL, TTLS, DOMAINS), NESTED.apex) == (NS,)


def test_unchanged_generations_are_taken_over() -> None:
    first_tree, second_tree = tree(), tree(2)
    first = domain_zone(publication(generations={17: first_tree}), SERIAL, TTLS)
    both = publication(generations={17: first_tree, 18: second_tree}, current=18)
    second = domain_zone(both, SERIAL + 1, TTLS, previous=first)
    assert second.branches[b"\x03g17"] is first.branches[b"\x03g17"]
    assert found(second, NAMING.cell(18, (1,))) == (SVCB,)
    for changed in (
        domain_zone(publication(generations={17: tree()}), SERIAL, TTLS, previous=first),
        domain_zone(publication(generations={17: first_tree}), SERIAL, Ttls(cell=61), previous=first),
        domain_zone(publication(generations={17: first_tree}, actions=("none", "belt")), SERIAL, TTLS, previous=first),
    ):
        assert changed.branches[b"\x03g17"] is not first.branches[b"\x03g17"]


def test_another_serial_changes_where_the_apex_says_it_and_nothing_else() -> None:
    before = domain_zone(publication(), SERIAL, TTLS)
    after = before.with_serial(SERIAL + 30)
    assert after.serial == SERIAL + 30
    changed = set(as_text(before).splitlines()) ^ set(as_text(after).splitlines())
    assert len(changed) == 4
    assert sum(" SOA " in line for line in changed) == 2
    assert sum(f'"serial={SERIAL}"' in line or f'"serial={SERIAL + 30}"' in line for line in changed) == 2
    assert str(SERIAL + 30) in as_text(after).splitlines()[0]
    assert after.branches[b"\x03g17"] is before.branches[b"\x03g17"]
    assert after.negative != before.negative
    assert as_text(after) == as_text(domain_zone(publication(), SERIAL + 30, TTLS))


def test_cells_that_no_server_would_carry_are_refused() -> None:
    with pytest.raises(RegionError, match="65 records"):
        domain_zone(publication(generations={17: {(): tuple(leaf(i) for i in range(65))}}), SERIAL, TTLS)
    wide = leaf(0)
    fat = tuple(leaf(i, network=f"{'x' * 60}{i}") for i in range(60))
    with pytest.raises(RegionError, match=r"octets; at most 64 in 16384"):
        domain_zone(publication(generations={17: {(): fat}}), SERIAL, TTLS)
    with pytest.raises(RegionError, match="equal"):
        domain_zone(publication(generations={17: {(): (wide, wide)}}), SERIAL, TTLS)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(RegionError, match="generation 18"):
        domain_zone(publication(current=18), SERIAL, TTLS)
    with pytest.raises(ConfigError, match="dot"):
        domain_zone(publication(networks={"a.b": entry()}), SERIAL, TTLS)
    with pytest.raises(ConfigError, match="octets"):
        domain_zone(publication(networks={"a" * 64: entry()}), SERIAL, TTLS)
    for taken in ("net", "g3", "x.g3"):
        with pytest.raises(ConfigError, match="rename"):
            domain_zone(publication(), SERIAL, TTLS, (NAMING.domain, f"{taken}.{NAMING.domain}"))
    with pytest.raises(ConfigError, match="rename"):
        origin_zone(ORIGIN, ["ns"], SERIAL, TTLS)


@pytest.mark.parametrize("name", ["a..b.", "é.b.", "a" * 64 + ".b.", ".".join(["abcdefg"] * 40)])
def test_names_that_dns_cannot_carry_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="DNS name"):
        name_to_wire(name)


def test_every_record_is_what_dnspython_reads() -> None:
    text = as_text(domain_zone(publication(), SERIAL, TTLS, DOMAINS))
    assert text.count(" SVCB 1 ") == 3 + 2 + 16 + 16
    assert f'"d={D}"' in text
    assert 'URI 1 1 "http://127.0.0.1:8101/psu-00"' in text
    assert text.startswith(
        f"{NAMING.apex} 10 IN SOA ns.{ORIGIN} hostmaster.{ORIGIN} {SERIAL} 30 10 86400 10\n{NAMING.apex} 30 IN NS"
    )
