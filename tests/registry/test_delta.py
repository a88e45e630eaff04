"""What two versions of a zone differ by."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sample_zones import DOMAINS, NAMING, SERIAL, entry, publication, tree

from registry.dns.rrset import rrset
from registry.dns.wire import SOA, TXT, name_to_wire
from registry.zones.delta import Record, between
from registry.zones.names import Names
from registry.zones.zone import Ttls, Zone, domain_zone

TTLS = Ttls()


def records(zone: Zone) -> set[Record]:
    return {
        (owner, each.rtype, ttl, rdata)
        for owner, each in zone.rrsets()
        if each.rtype != SOA
        for ttl, rdata in each.rdatas()
    }


def test_a_delta_leads_from_one_version_to_the_other() -> None:
    first = domain_zone(publication(), SERIAL, TTLS, DOMAINS)
    for changed in (
        publication(generations={17: tree(2)}),
        publication(generations={18: tree(4)}, current=18),
        publication(networks={"psu-00": entry(serial=13), "psu-04": entry()}),
    ):
        second = domain_zone(changed, SERIAL + 7, TTLS, DOMAINS, previous=first)
        delta = between(first, second)
        assert (delta.before, delta.after) == (SERIAL, SERIAL + 7)
        assert (delta.before_soa, delta.after_soa) == (first.soa, second.soa)
        assert len(set(delta.removed)) == len(delta.removed)
        assert len(set(delta.added)) == len(delta.added)
        assert not set(delta.removed) & set(delta.added)
        assert records(first) >= set(delta.removed)
        assert (records(first) - set(delta.removed)) | set(delta.added) == records(second)


def test_another_serial_alone_changes_the_text_that_says_it() -> None:
    zone = domain_zone(publication(), SERIAL, TTLS)
    [(_, rtype, _, text)] = between(zone, zone.with_serial(SERIAL + 1)).removed
    assert rtype == TXT
    assert f"serial={SERIAL}".encode() in text
    other = domain_zone(publication(), SERIAL + 1, TTLS)
    delta = between(zone.with_serial(SERIAL + 1), other)
    assert (delta.removed, delta.added) == ((), ())


def test_another_ttl_is_another_record() -> None:
    zone = domain_zone(publication(networks={"psu-00": entry(endpoints=())}), SERIAL, TTLS)
    longer = domain_zone(publication(networks={"psu-00": entry(endpoints=())}), SERIAL + 1, Ttls(endpoint=31))
    delta = between(zone, longer)
    owner = name_to_wire(NAMING.network("psu-00"))
    added = [record[:3] for record in delta.added if record[1] == TXT and record[0] != name_to_wire(NAMING.apex)]
    assert added == [(owner, TXT, 31)]


TEXTS = st.lists(st.integers(0, 12), unique=True).map(lambda numbers: [bytes([1, number]) for number in numbers])


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_of_one_set_only_what_differs_is_told_in_whatever_order_it_stands(
    before: list[bytes], after: list[bytes]
) -> None:
    frame = domain_zone(publication(), SERIAL, TTLS)
    label = b"\x01x"
    old, new = (
        frame.with_branches(SERIAL, {label: Names({label: (rrset(TXT, 9, texts),) if texts else ()})})
        for texts in (before, after)
    )
    delta = between(old, new)
    assert sorted(rdata for *_, rdata in delta.removed) == sorted(set(before) - set(after))
    assert sorted(rdata for *_, rdata in delta.added) == sorted(set(after) - set(before))
