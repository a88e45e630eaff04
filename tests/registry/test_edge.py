"""What zones say of the servers at the edge: names, addresses, DS records; and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_zones import DOMAINS, NAMING, NESTED, ORIGIN, SERIAL, publication

from registry.dns.wire import name_to_wire
from registry.errors import ConfigError
from registry.serving.responder import respond
from registry.zones.cut import Cut
from registry.zones.edge import DsFile, Edge, parse_ds
from registry.zones.zone import Ttls, Zone, ZoneSet, domain_zone, origin_zone
from tests.registry.test_zone import as_text

DIGEST = "ab" * 32
LINES = f"""
{NAMING.apex} DS 39430 13 2 {DIGEST}
{NAMING.apex}\t300 IN DS 39430 13 2 {DIGEST} ; twice
{NESTED.apex} DS 1 8 2 {DIGEST}
"""


def zones() -> tuple[Zone, Zone]:
    ttls = Ttls()
    return origin_zone(ORIGIN, DOMAINS, SERIAL, ttls), domain_zone(publication(), SERIAL, ttls, DOMAINS)


def dressed(edge: Edge) -> tuple[str, str]:
    origin, domain = zones()
    return as_text(edge.dress(origin)), as_text(edge.dress(domain))


def test_ds_records_stand_at_the_cuts_of_the_zone_above() -> None:
    records = parse_ds(LINES, "ds.txt")
    origin, domain = dressed(Edge(ORIGIN, {}, lambda: records))
    assert f"{NAMING.apex} 30 IN DS 39430 13 2 {DIGEST}\n" in origin
    assert origin.count(" DS ") == 1
    assert f"{NESTED.apex} 30 IN DS 1 8 2 {DIGEST}\n" in domain
    assert domain.count(" DS ") == 1
    assert f"{NESTED.apex} 30 IN NS ns.{ORIGIN}\n" in domain


def test_the_registry_answers_for_them() -> None:
    records = parse_ds(LINES, "ds.txt")
    edge = Edge(ORIGIN, {}, lambda: records)
    served = ZoneSet(edge.dress(zone) for zone in zones())
    query = b"\0\1\0\0\0\1\0\0\0\0\0\0" + name_to_wire(NAMING.apex) + b"\0\x2b\0\1"
    answer = respond(served, query, 1232, False)
    assert answer is not None
    assert answer[6:8] == b"\0\1"
    assert bytes.fromhex(DIGEST) in answer


def test_public_servers_take_the_registrys_place() -> None:
    edge = Edge(ORIGIN, {"ns1": ["192.0.2.1"], "ns2": ["192.0.2.2", "2001:db8::2"]})
    origin, domain = dressed(edge)
    for text in (origin, domain):
        assert f" ns.{ORIGIN}" not in text
        assert f" IN SOA ns1.{ORIGIN} hostmaster.{ORIGIN} {SERIAL} 30 10 86400 10\n" in text
    for name in (ORIGIN, NAMING.apex):
        for server in ("ns1", "ns2"):
            assert f"{name} 30 IN NS {server}.{ORIGIN}\n" in origin
    assert f"ns2.{ORIGIN} 30 IN AAAA 2001:db8::2\n" in origin
    assert f"\nns.{ORIGIN} " not in origin
    assert " A " not in domain
    referral = respond(
        ZoneSet([edge.dress(zones()[0])]),
        b"\0\1\0\0\0\1\0\0\0\0\0\0" + name_to_wire(f"x.{NAMING.apex}") + b"\0\1\0\1",
        1232,
        False,
    )
    assert referral is not None
    assert referral[6:12] == b"\0\0\0\2\0\3"  # two name servers, and their three addresses


def test_another_serial_keeps_the_dress() -> None:
    edge = Edge(ORIGIN, {"ns1": ["192.0.2.1"]}, lambda: parse_ds(LINES, "ds.txt"))
    for zone in zones():
        assert as_text(edge.dress(zone).with_serial(SERIAL + 7)) == as_text(edge.dress(zone.with_serial(SERIAL + 7)))


def test_dressed_twice_is_dressed_once() -> None:
    edge = Edge(ORIGIN, {"ns1": ["192.0.2.1"]}, lambda: parse_ds(LINES, "ds.txt"))
    for zone in zones():
        assert as_text(edge.dress(edge.dress(zone))) == as_text(edge.dress(zone))


def test_delegations_to_others_stay() -> None:
    cut = Cut("medicine." + ORIGIN, {f"ns.medicine.{ORIGIN}": ("192.0.2.9",)}, (b"\0\1\x0d\2" + bytes(32),))
    zone = origin_zone(ORIGIN, DOMAINS, SERIAL, Ttls(), delegations=[cut])
    records = parse_ds(LINES, "ds.txt")
    text = as_text(Edge(ORIGIN, {"ns1": ["192.0.2.1"]}, lambda: records).dress(zone))
    lines = [line for line in text.splitlines() if f"medicine.{ORIGIN}" in line]
    assert len(lines) == 3
    assert lines == [line for line in as_text(zone).splitlines() if f"medicine.{ORIGIN}" in line]


@pytest.mark.parametrize(
    "line", ["a. DS 1 2 3", "a. DS", "a. A 192.0.2.1", "a. DS 1 13 2 zz", f"{'x' * 64}. DS 1 13 2 {DIGEST}"]
)
def test_what_is_no_ds_record_is_named_with_its_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"ds\.txt:3: |octets"):
        parse_ds(f"\n; a remark\n{line}\n", "ds.txt")


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ds.txt"
    file = DsFile(path)
    assert file.records() == {}
    path.write_text(f"{NAMING.apex} DS 1 13 2 {DIGEST}\n")
    assert set(file.records()) == {name_to_wire(NAMING.apex)}
    path.write_text(LINES)
    assert set(file.records()) == {name_to_wire(NAMING.apex), name_to_wire(NESTED.apex)}
    path.write_text("nonsense\n")
    assert len(file.records()) == 2
    assert "ds.txt:1: 'nonsense'" in caplog.text
    path.unlink()
    assert len(file.records()) == 2
    path.write_text("nonsense again\n")
    with pytest.raises(ConfigError, match="nonsense again"):
        DsFile(path)
