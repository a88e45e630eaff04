"""Zones with all that zones of ours can have, and the questions that are put to each server that serves them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import dns.edns
import dns.flags
import dns.message

from registry.dns.wire import HEADER
from registry.zones.cut import Cut, ds_rdata
from registry.zones.zone import Ttls, Zone, domain_zone, origin_zone
from tests.registry.sample_zones import NAMING, NESTED, ORIGIN, SERIAL, publication

AA, TC, RD = dns.flags.AA, dns.flags.TC, dns.flags.RD
OPT, ANY, IXFR, AXFR = 41, 255, 251, 252
ADDITIONAL = b"\1x\0" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)  # an A record
BARE_OPT = b"\0" + struct.pack("!HHIH", OPT, 1232, 0, 0)


DELEGATED = (
    Cut(
        f"medicine.{ORIGIN}",
        {f"ns.medicine.{ORIGIN}": ("127.0.0.7", "::7"), f"b.ns.medicine.{ORIGIN}": ("127.0.0.8",), "ns.example.": ()},
        (ds_rdata("4711 8 2 " + "ab" * 32),),
    ),
    Cut(f"apples.farms.{ORIGIN}", {f"ns.medicine.{ORIGIN}": (), f"ns.{ORIGIN}": ()}),
    Cut(f"elsewhere.{ORIGIN}", {"ns.example.": ()}),
)


def zones() -> list[Zone]:
    """The origin, which delegates to three others; a domain with a tree; not the domain below that one."""
    served = [NAMING.domain]
    return [
        origin_zone(ORIGIN, served, SERIAL, Ttls(), ("127.0.0.1", "::1"), DELEGATED),
        domain_zone(publication(), SERIAL, Ttls(), [NAMING.domain, NESTED.domain]),
    ]


ROOT, WIDE = NAMING.cell(17, ()), NAMING.cell(17, (1,))

NAMES = {
    "origin": ORIGIN,
    "name server": f"ns.{ORIGIN}",
    "below the name server": f"x.ns.{ORIGIN}",
    "apex": NAMING.apex,
    "root cell": ROOT,
    "wide cell": WIDE,
    "below a leaf cell": NAMING.cell(17, (1, 0)),
    "no cell": NAMING.cell(17, (9,)),
    "no generation": NAMING.cell(18, ()),
    "network": NAMING.network("psu-00"),
    "network without endpoint": NAMING.network("psu-01"),
    "no network": NAMING.network("nobody"),
    "below a network": f"x.{NAMING.network('psu-00')}",
    "empty non-terminal net": f"net.{NAMING.apex}",
    "empty non-terminal of a domain": f"vehicles.{ORIGIN}",
    "empty non-terminal above a cut": f"farms.{ORIGIN}",
    "below an empty non-terminal": f"x.farms.{ORIGIN}",
    "cut": f"medicine.{ORIGIN}",
    "cut with a server of another": f"apples.farms.{ORIGIN}",
    "cut without glue": f"elsewhere.{ORIGIN}",
    "cut in a domain": NESTED.apex,
    "below a cut": f"g1.heart.medicine.{ORIGIN}",
    "glue": f"ns.medicine.{ORIGIN}",
    "below glue": f"b.ns.medicine.{ORIGIN}",
    "below a cut in a domain": NESTED.cell(3, (1, 2)),
    "not there": f"x.{ORIGIN}",
    "not there, with octets": f"x\\000\\.\\255.{NAMING.apex}",
    "above the origin": "internal.",
    "another zone": "example.com.",
    "the DNS's root": ".",
    "longest": ".".join(["a" * 63] * 3 + ["a" * 40, ORIGIN]),
}
TYPES = ["SVCB", "TXT", "SOA", "NS", "URI", "A", "AAAA", "DS", "RRSIG", "NSEC", "CNAME", "MX", "HTTPS"]
TYPES += ["TYPE0", "TYPE65280", "TYPE65535", "TSIG", "OPT", "MAILA", "MAILB", "ANY", "AXFR", "IXFR"]


class Case(NamedTuple):
    what: str
    query: bytes
    over_tcp: bool = False


def question(name: str, rtype: str = "SVCB", rclass: str = "IN", flags: int = 0, **edns: object) -> bytes:
    return dns.message.make_query(name, rtype, rclass, id=0x1234, flags=flags, **edns).to_wire()  # type: ignore[arg-type]


PLAIN, EDNS = question(ROOT), question(ROOT, use_edns=0, payload=1232)


def counted(query: bytes, *counts: int) -> bytes:
    return query[:4] + struct.pack("!4H", *counts) + query[HEADER:]


def changed(query: bytes, *changes: tuple[int, int]) -> bytes:
    octets = bytearray(query)
    for place, octet in changes:
        octets[place] = octet
    return bytes(octets)


def every_name_and_type() -> Iterator[Case]:
    for what, name in NAMES.items():
        for rtype in TYPES:
            yield Case(f"{what} {rtype}", question(name, rtype))
            yield Case(f"{what} {rtype}, EDNS", question(name.upper(), rtype, flags=RD, use_edns=0, payload=1232))
            if rtype not in ("AXFR", "IXFR"):
                yield Case(f"{what} {rtype}", question(name, rtype), over_tcp=True)


def headers() -> Iterator[Case]:
    for opcode in set(range(16)) - {0, 4}:
        yield Case(f"opcode {opcode}", changed(PLAIN, (2, opcode << 3 | 1)))
        yield Case(f"opcode {opcode}, EDNS", changed(EDNS, (2, opcode << 3)))
        yield Case(f"opcode {opcode}, TC", changed(PLAIN, (2, opcode << 3 | 2)))
    for what in ("root cell", "not there", "cut", "another zone"):
        for flags in [1 << bit for bit in range(11)] + [0x0130, 0x07F0]:
            for edns in ({}, {"use_edns": 0}):
                yield Case(f"{what}, flags {flags:04x}", question(NAMES[what], "TXT", flags=flags, **edns))
    for rclass in ("CH", "HS", "NONE", "ANY", "CLASS0", "CLASS65535"):
        for edns in ({}, {"use_edns": 0}):
            yield Case(f"class {rclass}", question(ROOT, "TXT", rclass, **edns))
    for counts in ((0, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (1, 0, 0, 0x100)):
        yield Case(f"counts {counts} of a bare question", counted(PLAIN, *counts))
    yield Case("two questions", counted(PLAIN + PLAIN[HEADER:], 2, 0, 0, 0))
    yield Case("two questions, RD", changed(counted(PLAIN + PLAIN[HEADER:], 2, 0, 0, 0), (2, 1)))


def edns() -> Iterator[Case]:
    sizes = [0, 1, 511, 512, 513, 700, 735, 736, 737, 1231, 1232, 1233, 4096, 65535]
    for what in ("root cell", "wide cell", "apex", "not there", "cut", "another zone"):
        for size in sizes:
            query = question(NAMES[what], "SVCB", use_edns=0)
            yield Case(f"{what}, {size} octets", changed(query, (-8, size >> 8), (-7, size & 255)))
            yield Case(f"{what}, {size} octets", changed(query, (-8, size >> 8), (-7, size & 255)), over_tcp=True)
    for what, place, octet in (
        ("version 1", -5, 1),
        ("version 255", -5, 255),
        ("upper bits of a code", -6, 7),
        ("DO", -4, 0x80),
        ("DO and all other flags", -4, 0xFF),
        ("an unassigned flag", -4, 0x40),
        ("the last unassigned flag", -3, 1),
    ):
        for where in ("root cell", "not there", "another zone", "cut"):
            yield Case(f"{what}, {where}", changed(question(NAMES[where], use_edns=0), (place, octet)))
    yield Case("DO, version 1", changed(EDNS, (-5, 1), (-4, 0x80)))
    for code, data in (
        (65001, b"abc"),
        (65001, b""),
        (10, bytes(8)),
        (12, bytes(30)),
        (11, b""),
        (3, b""),
        (8, bytes(8)),
    ):
        option = dns.edns.GenericOption(code, data)
        yield Case(f"option {code} of {len(data)}", question(ROOT, use_edns=0, options=[option]))
        yield Case(f"option {code} of {len(data)} twice", question(ROOT, use_edns=0, options=[option, option]))
    yield Case("an option longer than its record", EDNS[:-2] + struct.pack("!HHH", 5, 3, 9) + b"a")
    yield Case("half an option", EDNS[:-2] + struct.pack("!HH", 2, 3))
    yield Case("OPT cut", EDNS[:-1])
    yield Case("OPT longer than the message", EDNS[:-2] + struct.pack("!H", 9))
    yield Case("two OPT", counted(EDNS + BARE_OPT, 1, 0, 0, 2))
    yield Case("OPT of another name", counted(PLAIN + b"\1x" + BARE_OPT, 1, 0, 0, 1))
    for section in ("answer", "authority"):
        yield Case(f"OPT as {section}", counted(PLAIN + BARE_OPT, 1, section == "answer", section == "authority", 0))
    yield Case("no question but OPT", counted(PLAIN[:HEADER] + BARE_OPT, 0, 0, 0, 1))


def malformed() -> Iterator[Case]:
    for end in range(len(PLAIN)):
        yield Case(f"cut after {end}", PLAIN[:end])
    yield Case("an answer", changed(PLAIN, (2, 0x80)))
    yield Case("a pointer for a name", PLAIN[:HEADER] + b"\xc0\x0c\0\1\0\1")
    yield Case("a label of another kind", PLAIN[:HEADER] + b"\x40a\0\0\1\0\1")
    yield Case("too long a name", PLAIN[:HEADER] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1")
    yield Case("octets after the question", PLAIN + b"\0")
    yield Case("octets after OPT", EDNS + b"\0\0\0")
    yield Case("a record beside", counted(PLAIN + ADDITIONAL, 1, 0, 0, 1))
    yield Case("a record before OPT", counted(PLAIN + ADDITIONAL + BARE_OPT, 1, 0, 0, 2))
    yield Case("a record after OPT", counted(EDNS + ADDITIONAL, 1, 0, 0, 2))
    yield Case("two records after OPT", counted(EDNS + ADDITIONAL * 2, 1, 0, 0, 3))
    yield Case("a record as answer", counted(PLAIN + ADDITIONAL, 1, 1, 0, 0))
    yield Case("a record as authority", counted(PLAIN + ADDITIONAL, 1, 0, 1, 0))
    yield Case("over 1232 octets", EDNS[:-2] + struct.pack("!HHH", 1304, 12, 1300) + bytes(1300))
