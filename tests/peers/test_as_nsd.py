"""Our name server answers as NSD does, from the same zones: header, codes, counts and records of the same questions.

NSD is the measure. Where we mean to differ, DIFFERENCES says in what and why; where NSD is alone with an answer, Knot
and BIND are shown to give ours. docs/protocol.md, "Answers", tells them to those who write a second registry.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.message
import dns.rdatatype
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.clock import SystemClock
from registry.dns.wire import HEADER, MAX_UDP, skip_name
from registry.serving.limiter import Limiter
from registry.serving.nameserver import NameServer
from registry.zones.zone import ZoneSet
from tests.peers.authoritative import serving, write_zones
from tests.peers.cases import (
    AA,
    ANY,
    AXFR,
    BARE_OPT,
    IXFR,
    NAMES,
    OPT,
    PLAIN,
    RD,
    TC,
    TYPES,
    Case,
    edns,
    every_name_and_type,
    headers,
    malformed,
    question,
    zones,
)
from tests.registry.sample_zones import NAMING, ORIGIN

ERRORS_AGAIN = 40  # times; NSD says FORMERR and NOTIMP a hundred times a second at most, then nothing
EXAMPLES = 400
GENERATED = "generated"

ZONES = ZoneSet(zones())


@dataclass(frozen=True, repr=False)
class Shown:
    """An answer as far as it is compared. opt: payload size, version and flags, options."""

    flags: int
    counts: tuple[int, ...]
    question: bytes
    records: tuple[frozenset[tuple[str, int, int, bytes]], ...]
    opt: tuple[object, ...] | None

    @property
    def rcode(self) -> int:
        return self.flags & 0xF

    def __repr__(self) -> str:
        names = [sorted({(name, rtype, ttl) for name, rtype, ttl, _ in each}) for each in self.records]
        return f"{self.flags:04x} {self.counts} {self.question.hex()} {names} {self.opt}"


def shown(answer: bytes | None) -> Shown | None:
    """None for silence. Every answer must be well-formed to its last octet."""
    if answer is None:
        return None
    _, flags, *counts = struct.unpack_from("!6H", answer)
    end = HEADER
    for _ in range(counts[0]):
        end = skip_name(answer, end) + 4
    message = dns.message.from_wire(answer)
    sections = [
        frozenset(
            (str(rrset.name).lower(), int(rrset.rdtype), rrset.ttl, rdata.to_digestable())
            for rrset in section
            for rdata in rrset
        )
        for section in (message.answer, message.authority, message.additional)
    ]
    # NSD explains itself by extended errors (RFC 8914); we do not.
    options = [option for option in message.options if option.otype != dns.edns.OptionType.EDE]
    opt = None if message.edns < 0 else (int(message.payload), message.edns, int(message.ednsflags), options)
    return Shown(flags, tuple(counts), answer[HEADER:end], tuple(sections), opt)


class Line:
    """A way to ask one server. A question that may get no answer is followed by one that gets one, in order."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.connect(("127.0.0.1", port))
        self._udp.settimeout(5)
        self._tcp: socket.socket | None = None

    def ask(self, case: Case) -> bytes | None:
        return self._ask_tcp(case.query) if case.over_tcp else self._ask_udp(case.query)

    def _ask_udp(self, query: bytes) -> bytes | None:
        self._udp.send(query)
        self._udp.send(b"\x56\x78" + PLAIN[2:])
        found = None
        while (answer := self._udp.recv(65535))[:2] != b"\x56\x78":
            found = answer
        return found

    def _ask_tcp(self, query: bytes) -> bytes | None:
        if self._tcp is None:
            self._tcp = socket.create_connection(("127.0.0.1", self._port), 5)
        self._tcp.sendall(len(query).to_bytes(2, "big") + query)
        length = self._tcp.recv(2, socket.MSG_WAITALL)
        if len(length) < 2:
            self._tcp.close()
            self._tcp = None
            return None
        return self._tcp.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)

    def close(self) -> None:
        self._udp.close()
        if self._tcp is not None:
            self._tcp.close()


@dataclass(frozen=True)
class Difference:
    """Where we mean to answer otherwise than NSD. witnesses: who gives the code and counts that we give."""

    what: str
    why: str
    applies: Callable[[bytes], bool]
    witnesses: tuple[str, ...] = ()


def _type_and_class(query: bytes) -> tuple[int, int]:
    """Of a question that can be read; (-1, -1) of another."""
    try:
        end = skip_name(query, HEADER)
        rtype, rclass = struct.unpack_from("!HH", query, end)
    except (IndexError, ValueError, struct.error):
        return -1, -1
    return rtype, rclass


def _records(query: bytes) -> tuple[list[int], int]:
    """Types of the records after the question, and how many octets are left over after them."""
    try:
        types = []
        end = skip_name(query, HEADER) + 4
        for _ in range(sum(struct.unpack_from("!3H", query, 6))):
            end = skip_name(query, end)
            rtype, _, _, length = struct.unpack_from("!HHIH", query, end)
            types.append(rtype)
            end += 10 + length
    except (IndexError, ValueError, struct.error):
        return [], 0
    return types, len(query) - end


def _version(query: bytes) -> int:
    """Of EDNS; 0 where there is none."""
    at = query.rfind(BARE_OPT[:3], HEADER)
    return query[at + 6] if 0 < at < len(query) - 6 else 0


DIFFERENCES = (
    Difference(
        "no question",
        "FORMERR; NSD takes it for a question about cookies (RFC 7873 section 5.4), of which we have none.",
        lambda query: query[4:6] == b"\0\0",
        ("knotd", "named"),
    ),
    Difference(
        "over 1232 octets",
        "FORMERR: no question of use is so long, and what costs nothing to refuse is refused before it is read.",
        lambda query: len(query) > MAX_UDP,
    ),
    Difference(
        "transfers",
        "Without a key they are refused, whatever name is asked for and over whatever carries the question; NSD says "
        "NOTIMP or NOTAUTH.",
        lambda query: _type_and_class(query)[0] in (AXFR, IXFR),
    ),
    Difference(
        "ANY",
        "A small HINFO (RFC 8482 section 4.2) instead of an RRset of the name: nothing to reflect or to rely on.",
        lambda query: _type_and_class(query)[0] == ANY,
    ),
    Difference(
        "class ANY",
        "Refused as any class but IN: there is one class only, and no answer could say of which it is.",
        lambda query: _type_and_class(query)[1] == 255,
    ),
    Difference(
        "other classes",
        "Refused with the question repeated, as other refusals; NSD leaves it out.",
        lambda query: _type_and_class(query)[1] not in (-1, 1, 3, 255) and query[2] & 0x78 == 0,
        ("knotd",),
    ),
    Difference(
        "a code in the question",
        "Passed over, as RFC 1035 gives it no meaning there; NSD says FORMERR.",
        lambda query: query[3] & 0xF != 0,
        ("knotd", "named"),
    ),
    Difference(
        "several questions",
        "FORMERR repeats RD, as other answers do; NSD repeats it in all but this one.",
        lambda query: query[4:6] not in (b"\0\0", b"\0\1") and query[2] & 0x01 != 0,
    ),
    Difference(
        "flags beside another opcode or version",
        "NOTIMP and BADVERS repeat RD only, as other answers do; NSD repeats AA, TC and CD too.",
        lambda query: (query[2] & 0x06 or query[3] & 0x10) != 0 and (query[2] & 0x78 != 0 or _version(query) != 0),
    ),
    Difference(
        "octets after the message",
        "FORMERR: nobody sends them who means well. NSD passes over them.",
        lambda query: _records(query)[1] > 0,
        ("knotd",),
    ),
    Difference(
        "one record beside question and OPT",
        "Passed over, as RFC 1035 does not forbid it; NSD says FORMERR to all but TSIG.",
        lambda query: query[6:10] == bytes(4) and query[11] < 3 and bool(set(_records(query)[0]) - {OPT, 250}),
        ("knotd",),
    ),
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Line]]:
    """Ways to ask us and the others, all of which serve the same zones."""
    home = tmp_path_factory.mktemp("peers")
    files = write_zones(home / "zones", zones())
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(serving(name, home / name, files)).port for name in ("nsd", "knotd", "named")
        }
        found["ours"] = stack.enter_context(in_a_thread(ZONES))
        asked = {name: Line(port) for name, port in found.items()}
        yield asked
        for line in asked.values():
            line.close()


@contextmanager
def in_a_thread(served: ZoneSet) -> Iterator[int]:
    """Our name server on a loop of its own; its port."""
    started: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended = threading.Event()

    async def serve() -> None:
        server = NameServer(lambda: served, limiter=Limiter(SystemClock().monotonic))
        await server.start()
        started.put(server.port)
        await asyncio.to_thread(ended.wait)
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield started.get(timeout=10)
    finally:
        ended.set()
        thread.join()


def difference(case: Case, lines: dict[str, Line]) -> str | None:
    """None where both answer alike, else the difference that explains it. Fails where none does."""
    ours, theirs = shown(lines["ours"].ask(case)), shown(lines["nsd"].ask(case))
    for _ in range(ERRORS_AGAIN):
        if theirs is not None or ours is None or ours.rcode not in (1, 4):
            break
        threading.Event().wait(0.05)
        theirs = shown(lines["nsd"].ask(case))
    if ours == theirs:
        return None
    meant = next((each for each in DIFFERENCES if each.applies(case.query)), None)
    told = f"{case.what}, {'TCP' if case.over_tcp else 'UDP'}, {case.query.hex()}: ours {ours}, NSD's {theirs}"
    assert meant is not None, told
    for witness in meant.witnesses if case.what != GENERATED else ():
        other = shown(lines[witness].ask(case))
        assert ours is not None
        assert other is not None, f"{told}; {witness} is silent"
        assert other.rcode == ours.rcode, f"{told}; {witness} says {other}"
        if ours.rcode == 0 and not ours.flags & TC:  # Knot and BIND have their own ways to fill and to cut an answer
            assert other.counts[:3] == ours.counts[:3], f"{told}; {witness} says {other}"
    return meant.what


def test_we_answer_as_nsd_does(lines: dict[str, Line]) -> None:
    """Every case, over UDP or TCP; and every difference that is listed is met, so that the list stays true."""
    met = set()
    asked = 0
    for cases in (every_name_and_type(), headers(), edns(), malformed()):
        for case in cases:
            met.add(difference(case, lines))
            asked += 1
    assert asked > 2400
    assert met == {None, *(each.what for each in DIFFERENCES)}


@pytest.mark.parametrize("what", ["cut", "cut without glue", "below a cut", "glue", "cut in a domain"])
def test_knot_and_bind_refer_as_we_do(lines: dict[str, Line], what: str) -> None:
    for rtype in ("TXT", "NS", "DS", "A"):
        case = Case(what, question(NAMES[what], rtype, use_edns=0))
        ours = shown(lines["ours"].ask(case))
        for witness in ("knotd", "named"):
            theirs = shown(lines[witness].ask(case))
            assert ours is not None
            assert theirs is not None
            assert (theirs.flags, theirs.counts, theirs.records) == (ours.flags, ours.counts, ours.records)


LABELS = st.sampled_from(["0", "1", "2", "9", "g17", "g18", "net", "psu-00", "ns", "x", "medicine", "farms", "apples"])
TAILS = st.sampled_from([*NAMES.values(), NAMING.apex, ORIGIN])


@st.composite
def questions(draw: st.DrawFn) -> bytes:
    """Names of labels that occur and others, in any case; any type; any EDNS; sometimes a few octets changed."""
    name = ".".join([*draw(st.lists(LABELS, max_size=3)), draw(TAILS)]).replace("..", ".")
    rtype = draw(st.sampled_from([*TYPES[:18], "TYPE257"]))
    options: dict[str, object] = {}
    if draw(st.booleans()):
        data = draw(st.binary(max_size=40))
        extra = [dns.edns.GenericOption(65001, data)] if data else []
        options = {"use_edns": 0, "payload": draw(st.integers(0, 4096)), "want_dnssec": draw(st.booleans())}
        options["options"] = extra
    try:
        query = bytearray(question(name, rtype, flags=draw(st.sampled_from([0, RD, AA, 0x30])), **options))
    except dns.exception.DNSException:  # too long a name
        return PLAIN
    for place in range(
        HEADER, skip_name(bytes(query), HEADER)
    ):  # letters only: the lengths of labels are below all of them
        if chr(query[place]).isalpha() and draw(st.booleans()):
            query[place] ^= 0x20
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        query[draw(st.integers(2, len(query) - 1))] = draw(st.integers(0, 255))
    return bytes(query)


@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=questions(), over_tcp=st.booleans())
def test_we_answer_as_nsd_does_whatever_is_asked(lines: dict[str, Line], query: bytes, over_tcp: bool) -> None:
    if query[2] & 0x78 in (0x20, 0x28) or (over_tcp and query[2] & 0x80):
        return  # NOTIFY and UPDATE are for secondaries; over TCP, an answer for a question ends the connection
    difference(Case(GENERATED, query, over_tcp), lines)
