"""Answers from octets, read back by dnspython; then whatever octets come."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_zones import DOMAINS, NAMING, NESTED, ORIGIN, SERIAL, publication, zone_set

from registry.dns.wire import MAX_UDP, name_to_wire
from registry.serving import responder
from registry.serving.responder import respond, truncated
from registry.zones.zone import Ttls, ZoneSet, domain_zone, origin_zone

ZONES = zone_set()
ROOT = NAMING.cell(17, ())
WIDE = NAMING.cell(17, (1,))


def ask(name: str, rtype: str, over_tcp: bool = True, zones: ZoneSet = ZONES, **edns: object) -> dns.message.Message:
    query = dns.message.make_query(name, rtype, **edns)  # type: ignore[arg-type]
    answer = respond(zones, query.to_wire(), 65535 if over_tcp else MAX_UDP, over_tcp)
    assert answer is not None
    message = dns.message.from_wire(answer)
    assert message.id == query.id
    assert message.flags & dns.flags.QR
    assert not message.flags & dns.flags.RA
    return message


def soa_of(message: dns.message.Message) -> tuple[str, int, int]:
    """Owner, TTL and serial of the one SOA in the authority section."""
    [rrset] = message.authority
    assert rrset.rdtype == dns.rdatatype.SOA
    return str(rrset.name), rrset.ttl, rrset[0].serial


@pytest.mark.parametrize(
    ("name", "rtype", "count", "ttl"),
    [
        (ROOT, "SVCB", 3, 60),
        (WIDE, "SVCB", 16, 60),
        (NAMING.apex, "SOA", 1, 10),
        (NAMING.apex, "NS", 1, 30),
        (NAMING.apex, "TXT", 1, 10),
        (NAMING.network("psu-00"), "URI", 2, 30),
        (NAMING.network("psu-00"), "TXT", 1, 30),
        (f"ns.{ORIGIN}", "A", 1, 30),
        (f"ns.{ORIGIN}", "AAAA", 1, 30),
        (ORIGIN, "SOA", 1, 10),
        (NESTED.apex, "TXT", 1, 10),
    ],
)
def test_positive_answers(name: str, rtype: str, count: int, ttl: int) -> None:
    message = ask(name, rtype)
    assert message.rcode() == dns.rcode.NOERROR
    assert message.flags & dns.flags.AA
    [rrset] = message.answer
    assert (str(rrset.name), len(rrset), rrset.ttl) == (name, count, ttl)
    assert not message.authority


def test_the_case_of_the_question_is_kept() -> None:
    message = ask(ROOT.upper(), "SVCB")
    assert str(message.question[0].name) == ROOT.upper()
    assert str(message.answer[0].name) == ROOT.upper()
    assert len(message.answer[0]) == 3


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        (NAMING.cell(17, (9,)), NAMING.apex),
        (NAMING.cell(18, ()), NAMING.apex),
        (f"x.{NAMING.cell(17, (1,))}", NAMING.apex),
        (NAMING.network("nobody"), NAMING.apex),
        (f"x.{ORIGIN}", ORIGIN),
        (NESTED.cell(1, ()), NESTED.apex),
    ],
)
def test_nxdomain(name: str, apex: str) -> None:
    message = ask(name, "SVCB")
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert message.flags & dns.flags.AA
    assert not message.answer
    assert soa_of(message) == (apex, 10, SERIAL)


@pytest.mark.parametrize(
    ("name", "rtype", "apex"),
    [
        (ROOT, "TXT", NAMING.apex),
        (f"net.{NAMING.apex}", "SVCB", NAMING.apex),
        (f"vehicles.{ORIGIN}", "A", ORIGIN),
        (NAMING.network("psu-01"), "URI", NAMING.apex),
        (f"net.{NAMING.apex}", "ANY", NAMING.apex),
        (NAMING.apex, "DS", ORIGIN),
        (NESTED.apex, "DS", NAMING.apex),
        (ORIGIN, "DS", ORIGIN),
        (ROOT, "DS", NAMING.apex),
    ],
)
def test_nodata(name: str, rtype: str, apex: str) -> None:
    message = ask(name, rtype)
    assert message.rcode() == dns.rcode.NOERROR
    assert message.flags & dns.flags.AA
    assert not message.answer
    assert soa_of(message) == (apex, 10, SERIAL)


@pytest.mark.parametrize(("apex", "minimum"), [(5, 60), (60, 5)])
def test_negative_answers_live_for_the_lesser_of_ttl_and_minimum(apex: int, minimum: int) -> None:
    message = ask(f"x.{ORIGIN}", "A", zones=zone_set(ttls=Ttls(apex=apex, soa_minimum=minimum)))
    assert soa_of(message)[1] == 5


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        ("example.com.", "A"),
        (".", "NS"),
        ("internal.", "SOA"),
        ("com.", "DS"),
        (NAMING.apex, "AXFR"),
        (ORIGIN, "IXFR"),
    ],
)
def test_refused(name: str, rtype: str) -> None:
    message = ask(name, rtype)
    assert message.rcode() == dns.rcode.REFUSED
    assert not message.flags & dns.flags.AA
    assert not message.answer + message.authority


def test_other_classes_are_refused() -> None:
    query = dns.message.make_query("version.bind.", "TXT", "CH")
    assert dns.message.from_wire(respond(ZONES, query.to_wire(), MAX_UDP, False)).rcode() == dns.rcode.REFUSED  # type: ignore[arg-type]


def test_any_gets_a_small_answer() -> None:
    message = ask(WIDE, "ANY", over_tcp=False)
    assert [rrset.to_text() for rrset in message.answer] == [f'{WIDE} 3600 IN HINFO "RFC8482" ""']


def test_a_domain_that_is_not_here_is_referred_to() -> None:
    zones = ZoneSet([origin_zone(ORIGIN, DOMAINS, SERIAL, Ttls(), ["127.0.0.1", "::1"])])
    for name in (NAMING.apex, ROOT, NESTED.apex):
        message = ask(name, "TXT", zones=zones)
        assert message.rcode() == dns.rcode.NOERROR
        assert not message.flags & dns.flags.AA
        assert [rrset.to_text() for rrset in message.authority] == [f"{NAMING.apex} 30 IN NS ns.{ORIGIN}"]
        assert {rrset.to_text() for rrset in message.additional} == {
            f"ns.{ORIGIN} 30 IN A 127.0.0.1",
            f"ns.{ORIGIN} 30 IN AAAA ::1",
        }
    assert soa_of(ask(NAMING.apex, "DS", zones=zones))[0] == ORIGIN
    assert ask(ROOT, "DS", zones=zones).authority[0].rdtype == dns.rdatatype.NS


def test_a_referral_without_glue() -> None:
    zones = ZoneSet([domain_zone(publication(), SERIAL, Ttls(), DOMAINS)])
    message = ask(f"g1.{NESTED.apex}", "SVCB", zones=zones)
    assert str(message.authority[0].name) == NESTED.apex
    assert not message.additional


class TestSizes:
    def test_what_does_not_fit_is_truncated(self) -> None:
        for edns, limit in (({}, 512), ({"payload": 4096}, 1232), ({"payload": 100}, 512), ({"payload": 700}, 700)):
            message = ask(WIDE, "SVCB", over_tcp=False, **edns)
            assert message.flags & dns.flags.TC
            assert not message.answer + message.authority
            assert str(message.question[0].name) == WIDE
            assert message.edns == (0 if edns else -1)
            small = ask(ROOT, "SVCB", over_tcp=False, **edns)
            assert bool(small.flags & dns.flags.TC) == (limit < 740)

    def test_a_payload_below_512_is_taken_for_512(self) -> None:
        assert ask(NAMING.apex, "TXT", over_tcp=False, payload=100).answer

    def test_tcp_carries_it_whole(self) -> None:
        message = ask(WIDE, "SVCB")
        assert not message.flags & dns.flags.TC
        assert len(message.to_wire()) > MAX_UDP

    def test_an_answer_of_exactly_the_limit_fits(self) -> None:
        query = dns.message.make_query(ROOT, "SVCB").to_wire()
        whole = respond(ZONES, query, 65535, True)
        assert whole is not None
        assert respond(ZONES, query, len(whole), True) == whole
        cut = respond(ZONES, query, len(whole) - 1, True)
        assert cut is not None
        assert cut == query[:2] + b"\x87\x00" + query[4:]


class TestEdns:
    def test_opt_is_answered_with_our_size_and_the_do_flag(self) -> None:
        message = ask(ROOT, "SVCB", use_edns=0, payload=4000, want_dnssec=True)
        assert (message.edns, message.payload) == (0, MAX_UDP)
        assert message.ednsflags == dns.flags.DO
        assert not message.options
        assert ask(ROOT, "SVCB").edns == -1
        assert ask(ROOT, "SVCB", use_edns=0).ednsflags == 0

    def test_unknown_options_are_ignored(self) -> None:
        options = [dns.edns.GenericOption(65001, b"kindred"), dns.edns.GenericOption(10, b"12345678")]
        assert len(ask(ROOT, "SVCB", use_edns=0, options=options).answer) == 1

    def test_other_versions_get_badvers(self) -> None:
        query = dns.message.make_query(ROOT, "SVCB", use_edns=0)
        query.use_edns(1)
        message = dns.message.from_wire(respond(ZONES, query.to_wire(), MAX_UDP, False))  # type: ignore[arg-type]
        assert message.rcode() == dns.rcode.BADVERS
        assert message.edns == 0
        assert not message.answer

    def test_a_foreign_name_is_refused_with_opt(self) -> None:
        message = ask("example.com.", "A", use_edns=0)
        assert message.rcode() == dns.rcode.REFUSED
        assert message.edns == 0


GOOD = dns.message.make_query(ROOT, "SVCB", use_edns=0).to_wire()
PLAIN = dns.message.make_query(ROOT, "SVCB").to_wire()
OPT = GOOD[-11:]


def with_counts(query: bytes, *counts: int) -> bytes:
    return query[:4] + struct.pack("!4H", *counts) + query[12:]


@pytest.mark.parametrize(
    "query",
    [
        with_counts(PLAIN, 0, 0, 0, 0),
        with_counts(PLAIN, 2, 0, 0, 0),
        with_counts(PLAIN, 1, 1, 0, 0),
        with_counts(PLAIN, 1, 0, 1, 0),
        with_counts(PLAIN, 1, 0, 0, 1),
        with_counts(GOOD + OPT, 1, 0, 0, 2),
        with_counts(GOOD + OPT + OPT, 1, 0, 0, 3),
        PLAIN + b"\0",
        GOOD + b"\0",
        GOOD[:-1],
        PLAIN[:-1],
        PLAIN[:12],
        PLAIN[:20],
        PLAIN[:12] + b"\xc0\x0c\0\1\0\1",
        PLAIN[:12] + b"\x40a\0\0\1\0\1",
        PLAIN[:12] + b"\x3f" + b"a" * 63 + b"\0\0\1",
        PLAIN[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        with_counts(PLAIN, 1, 0, 0, 1) + b"\1x" + OPT,
        GOOD[:-2] + struct.pack("!H", 1200) + b"\0" * 1200,
        GOOD[:-2] + b"\0\5\0\3\0\x09a",
        GOOD[:-2] + b"\0\3\0\3\0",
    ],
)
def test_formerr(query: bytes) -> None:
    answer = respond(ZONES, query, MAX_UDP, False)
    assert answer == query[:2] + b"\x81\x01" + bytes(8)


def test_a_name_of_255_octets_is_no_error() -> None:
    query = PLAIN[:12] + (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0\0\1\0\1"
    answer = respond(ZONES, query, MAX_UDP, False)
    assert answer is not None
    assert answer[3] & 0xF == dns.rcode.REFUSED


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    query = PLAIN[:2] + bytes([opcode << 3 | 1]) + PLAIN[3:]
    answer = respond(ZONES, query, MAX_UDP, False)
    assert answer == PLAIN[:2] + bytes([0x80 | opcode << 3 | 1, 4]) + bytes(8)


@pytest.mark.parametrize("query", [b"", PLAIN[:11], PLAIN[:2] + b"\x80" + PLAIN[3:]])
def test_what_is_owed_no_answer(query: bytes) -> None:
    assert respond(ZONES, query, MAX_UDP, False) is None


def test_other_additional_records_are_passed_over() -> None:
    record = b"\3key\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"abc"
    message = dns.message.from_wire(respond(ZONES, with_counts(GOOD + record, 1, 0, 0, 2), 65535, True))  # type: ignore[arg-type]
    assert message.edns == 0
    assert len(message.answer) == 1


NAMES = [
    ROOT,
    WIDE,
    NAMING.apex,
    NESTED.apex,
    NAMING.network("psu-00"),
    f"net.{NAMING.apex}",
    f"x.{ORIGIN}",
    "a.b.",
    ".",
]


@settings(max_examples=500)
@given(st.data())
def test_mutated_questions_are_answered_soundly(data: st.DataObject) -> None:
    rtype = data.draw(st.sampled_from(["SVCB", "TXT", "SOA", "ANY", "DS", "URI", "TYPE65280"]))
    edns: dict[str, object] = {"use_edns": 0, "payload": 1232} if data.draw(st.booleans()) else {}
    query = bytearray(dns.message.make_query(data.draw(st.sampled_from(NAMES)), rtype, **edns).to_wire())  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(0, 5))):
        query[data.draw(st.integers(0, len(query) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        query += data.draw(st.binary(max_size=40))
    if data.draw(st.booleans()):
        del query[data.draw(st.integers(0, len(query))) :]
    over_tcp = data.draw(st.booleans())
    answer = respond(ZONES, bytes(query), 65535 if over_tcp else MAX_UDP, over_tcp)
    assert answer == responder.worked_out(ZONES, bytes(query), 65535 if over_tcp else MAX_UDP, over_tcp)
    if len(query) < 12 or query[2] & 0x80:
        assert answer is None
        return
    assert answer is not None
    assert answer[:2] == query[:2]
    assert answer[2] & 0x80
    assert over_tcp or len(answer) <= MAX_UDP
    message = dns.message.from_wire(answer)  # what we send is always well-formed
    if message.question:
        end = 12 + len(message.question[0].name.to_wire()) + 4
        assert answer[12:end] == bytes(query[12:end])
    else:
        assert len(answer) == 12
        assert message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rtype", ["SVCB", "TXT", "DS", "ANY"])
@pytest.mark.parametrize(
    "edns", [{}, {"use_edns": 0, "payload": 700}, {"use_edns": 0, "payload": 1232, "want_dnssec": 1}]
)
@pytest.mark.parametrize("over_tcp", [True, False])
def test_the_short_way_and_the_long_one_answer_alike(
    name: str, rtype: str, edns: dict[str, int], over_tcp: bool
) -> None:
    for flags in (0, dns.flags.RD, dns.flags.AD | dns.flags.CD, dns.flags.AA):
        query = dns.message.make_query(name.upper(), rtype, flags=flags, **edns).to_wire()  # type: ignore[arg-type]
        expected = responder.worked_out(ZONES, query, MAX_UDP, over_tcp)
        assert responder.usual(ZONES, query, MAX_UDP, over_tcp) in (None, expected)
        assert respond(ZONES, query, MAX_UDP, over_tcp) == expected


def test_a_name_that_only_ends_like_an_apex_is_no_name_below_it() -> None:
    """The octets of the apex stand within a label."""
    apex = name_to_wire(NAMING.apex)
    inside = bytes([len(b"\3g17") + len(apex) - 1]) + b"\3g17" + apex[:-1]
    for label in (inside, b"\x0bvehic\5" + apex[:6]):
        query = PLAIN[:12] + label + b"\0" + struct.pack("!HH", 64, 1)
        answer = respond(ZONES, query, MAX_UDP, False)
        assert answer is not None
        assert answer[3] & 0xF in (dns.rcode.REFUSED, dns.rcode.FORMERR)


def test_truncated_keeps_question_and_opt() -> None:
    for edns in ({}, {"use_edns": 0}):
        whole = dns.message.make_query(ROOT, "SVCB", **edns).to_wire()  # type: ignore[arg-type]
        answer = respond(ZONES, whole, 65535, True)
        assert answer is not None
        cut = dns.message.from_wire(truncated(answer))
        assert cut.flags & dns.flags.TC
        assert (str(cut.question[0].name), cut.edns, len(cut.answer)) == (ROOT, 0 if edns else -1, 0)
    refused = respond(ZONES, dns.message.make_query("example.com.", "A", use_edns=0).to_wire(), MAX_UDP, False)
    assert refused is not None
    assert truncated(refused) == refused


@given(st.binary(max_size=1300))
def test_random_octets_never_raise(octets: bytes) -> None:
    answer = respond(ZONES, octets, MAX_UDP, False)
    assert answer is None or len(answer) <= max(len(octets), 512)
