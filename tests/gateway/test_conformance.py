"""`kindred conformance`: our own registry conforms; each rule, broken by a server that lies, is found by its name."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import numpy as np
import orjson
import pytest

from gateway.cli.main import main
from gateway.conformance.examination import Examination
from gateway.conformance.rules import RULES, Findings
from registry.clock import ManualClock, SystemClock
from registry.dns.wire import MAX_UDP
from registry.errors import LookupFailed
from registry.geometry.cell import Address, CellRecord
from registry.geometry.living import LEAVING, LivingTree, Room
from registry.geometry.tree import build_tree
from registry.serving.nameserver import NameServer
from registry.serving.responder import respond
from registry.zones.zone import Ttls, ZoneSet, domain_zone, origin_zone
from tests.registry.sample_zones import NAMING, ORIGIN, SERIAL, leaf, publication

DOMAINS = (NAMING.domain,)
LEAVES = [leaf(i, network=f"psu-{i % 3:02}", lapsed=i % 20 == 0) for i in range(60)]
CELLS = build_tree(LEAVES, 6, 4)
DEEP = max(CELLS, key=len)  # a leaf cell
GENERATION = 17

Cells = dict[Address, tuple[CellRecord, ...]]
Lie = Callable[[dns.message.Message, dns.message.Message, bool], dns.message.Message | bytes | None]


def zones(cells: Cells = CELLS, serial: int = SERIAL, **changes: object) -> ZoneSet:
    published = publication(generations={GENERATION: cells}, current=GENERATION, **changes)
    return ZoneSet(
        [origin_zone(ORIGIN, DOMAINS, serial, Ttls()), domain_zone(published, serial, Ttls(), DOMAINS)],
    )


class LyingWire:
    """Our answers, changed by a lie on their way; None: no answer comes."""

    def __init__(self, served: ZoneSet, lie: Lie | None = None) -> None:
        self.served = served
        self._lie = lie

    async def udp(self, query: bytes) -> bytes:
        return self._answer(query, over_tcp=False)

    async def tcp(self, queries: Sequence[bytes]) -> list[bytes]:
        return [self._answer(query, over_tcp=True) for query in queries]

    def _answer(self, query: bytes, *, over_tcp: bool) -> bytes:
        answer = respond(self.served, query, 65535 if over_tcp else MAX_UDP, over_tcp)
        assert answer is not None
        if self._lie is None:
            return answer
        asked = dns.message.Message() if query[2] & 0x78 else dns.message.from_wire(query)
        told = self._lie(asked, dns.message.from_wire(answer), over_tcp)
        if told is None:
            raise LookupFailed("no answer", rcode="TIMEOUT")
        return told if isinstance(told, bytes) else told.to_wire(max_size=65535)


async def examined(wire: LyingWire, now: float = SERIAL + 5.0, **options: object) -> Findings:
    return await Examination(wire, NAMING, ManualClock(now), **options).run()  # type: ignore[arg-type]


async def test_our_own_registry_conforms() -> None:
    findings = await examined(LyingWire(zones()))
    assert not findings.violated, findings.document()
    assert all(each.times for each in findings.by_rule.values()), findings.document()


async def test_a_tree_in_the_midst_of_changes_conforms() -> None:
    """What leaves one cell for one network is one record, whose ball may reach beyond what points to the cell."""
    tree = LivingTree(CELLS, Room(capacity=6, records=12), 100.0)
    random = np.random.default_rng(4)
    for network in ("psu-00", "psu-01", "psu-02"):
        moved = []
        for record in (each for each in LEAVES if each.network == network):
            by = random.normal(scale=0.5, size=len(record.region.centre))
            region = record.region
            region = replace(region, centre=region.centre + by, lo=region.lo + by, hi=region.hi + by)
            moved.append(replace(record, region=region))
        tree.cover(network, moved)
    assert any(each.region.id == LEAVING for cell in tree.cells.values() for each in cell)
    findings = await examined(LyingWire(zones(tree.cells)))
    assert not findings.violated, findings.document()


async def test_a_domain_without_a_tree_conforms() -> None:
    empty = publication(generations={}, current=0, networks={})
    served = ZoneSet(
        [origin_zone(ORIGIN, DOMAINS, SERIAL, Ttls()), domain_zone(empty, SERIAL, Ttls(), DOMAINS)],
    )
    findings = await examined(LyingWire(served))
    assert not findings.violated
    assert not findings.by_rule["cell-resolves"].times


def changed(address: Address, change: Callable[[CellRecord], CellRecord]) -> Cells:
    """The tree with the record that points to the cell at `address` changed."""
    above = tuple(change(record) if record.child == address else record for record in CELLS[address[:-1]])
    assert above != CELLS[address[:-1]]
    return {**CELLS, address[:-1]: above}


def smaller(record: CellRecord) -> CellRecord:
    return replace(record, region=replace(record.region, radius=record.region.radius * 0.5))


def narrower(record: CellRecord) -> CellRecord:
    middle = (record.region.lo + record.region.hi) / 2
    return replace(record, region=replace(record.region, hi=np.maximum(middle, record.region.lo)))


def fewer(record: CellRecord) -> CellRecord:
    return replace(record, region=replace(record.region, counts={"belt": 1, "none": 1}))


def unlapsed() -> Cells:
    """No record that points to a cell is lapsed."""
    return {
        address: tuple(replace(each, lapsed=False) if each.child is not None else each for each in cell)
        for address, cell in CELLS.items()
    }


# Trees that no registry may publish, by the rule that each breaks.
TREES: dict[str, list[Cells]] = {
    "cell-contains": [changed(DEEP, smaller), changed(DEEP[:1], smaller), changed(DEEP, narrower)],
    "cell-counts": [changed(DEEP, fewer), changed(DEEP[:1], fewer)],
    "cell-lapsed": [unlapsed()],
    "cell-resolves": [{address: cell for address, cell in CELLS.items() if address != DEEP}],
    "cell-child": [
        {**CELLS, DEEP[:-1]: (*CELLS[DEEP[:-1]], CELLS[DEEP[:-1]][0])},
        changed(DEEP, lambda record: replace(record, child=(3, 3, 3, 3, 3))),
    ],
}


@pytest.mark.parametrize(("rule", "cells"), [(rule, cells) for rule, trees in TREES.items() for cells in trees])
async def test_a_tree_that_lies_is_caught(rule: str, cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = [replace(each, region=replace(each.region, id=f"{i}")) for i, each in enumerate(cells[DEEP[:-1]])]
    if rule == "cell-child":  # two records of one cell may not be equal
        cells = {**cells, DEEP[:-1]: tuple(repeated)}
    findings = await examined(LyingWire(zones(cells)))
    assert rule in findings.violated, findings.document()


async def test_a_tree_that_changes_meanwhile_is_looked_at_again() -> None:
    wire = LyingWire(zones(changed(DEEP, smaller)))
    examination = Examination(wire, NAMING, ManualClock(SERIAL + 1.0))
    forget = examination.findings.forget

    def changes(prefix: str) -> bool:
        wire.served = zones()
        return forget(prefix)

    examination.findings.forget = changes  # type: ignore[method-assign]
    assert not (await examination.run()).violated


async def test_a_region_on_its_way_to_another_cell_counts_once() -> None:
    leaves = [address for address, cell in CELLS.items() if cell[0].network is not None]
    one, other = leaves[0], next(address for address in leaves if address[:1] == leaves[0][:1] and address != leaves[0])
    moving = CELLS[one][0]
    wide = changed(
        other,
        lambda record: replace(
            record,
            region=replace(
                moving.region,
                radius=1e3,
                lo=moving.region.lo - 1e3,
                hi=moving.region.hi + 1e3,
                counts={"belt": 10**6, "none": 10**6},
            ),
            lapsed=True,
        ),
    )
    findings = await examined(LyingWire(zones({**wide, other: (*CELLS[other], moving)})))
    assert not findings.violated, findings.document()


def on(name: str, rtype: str, change: Callable[[dns.message.Message], object]) -> Lie:
    """Change the answers to one question."""

    def lie(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
        if asked.question and (str(asked.question[0].name).lower(), asked.question[0].rdtype) == (
            name,
            dns.rdatatype.from_text(rtype),
        ):
            change(answer)
        return answer

    return lie


def with_rdata(change: Callable[[bytes], bytes]) -> Callable[[dns.message.Message], None]:
    """Change the RDATA of the first record of the answer."""

    def apply(answer: dns.message.Message) -> None:
        if answer.answer:
            old = answer.answer[0]
            octets = [rdata.to_wire() or b"" for rdata in old]
            octets[0] = change(octets[0])
            rdatas = [dns.rdata.GenericRdata(old.rdclass, old.rdtype, each) for each in octets]
            answer.answer[0] = dns.rrset.RRset(old.name, old.rdclass, old.rdtype)
            answer.answer[0].ttl = old.ttl
            for each in rdatas:
                answer.answer[0].items[each] = None

    return apply


def drop_answer(answer: dns.message.Message) -> None:
    answer.answer.clear()


def without_aa(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    answer.flags &= ~dns.flags.AA
    return answer


def with_ttl(ttl: int) -> Callable[[dns.message.Message], None]:
    def apply(answer: dns.message.Message) -> None:
        for rrset in answer.answer + answer.authority:
            rrset.ttl = ttl

    return apply


def with_code(only: Callable[[dns.message.Message], bool], rcode: int) -> Lie:
    def lie(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
        if asked.question and only(asked):
            answer.set_rcode(dns.rcode.Rcode(rcode))
        return answer

    return lie


def silent(over: bool) -> Lie:
    return lambda _asked, answer, over_tcp: None if over_tcp == over else answer


def missing(name: str) -> bool:
    return name.startswith("x") and name.endswith(f".{NAMING.apex}")


def name_of(message: dns.message.Message) -> str:
    return str(message.question[0].name) if message.question else ""


def long_over_udp(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    """Whole answers over UDP, however long."""
    if over_tcp or not answer.flags & dns.flags.TC:
        return answer
    whole = respond(zones(), asked.to_wire(), 65535, True)
    assert whole is not None
    return dns.message.from_wire(whole)


def half_without_tc(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    if not over_tcp:
        answer.flags &= ~dns.flags.TC
    return answer


def lower_question(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> bytes:
    wire = answer.to_wire(max_size=65535)
    end = 12 + len(asked.question[0].name.to_wire() or b"") if asked.question else 12
    return wire[:12] + wire[12:end].lower() + wire[end:]


def cased_names_unknown(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    if name_of(asked) != name_of(asked).lower():
        drop_answer(answer)
    return answer


def always_opt(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    answer.use_edns(0)
    return answer


def wildcard(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    if missing(name_of(asked)):
        answer.set_rcode(dns.rcode.NOERROR)
    return answer


def everything(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message:
    """All that the apex has, for ANY."""
    if asked.question and asked.question[0].rdtype == dns.rdatatype.ANY:
        answer.answer.append(dns.rrset.from_text(NAMING.apex, 30, "IN", "NS", f"ns.{ORIGIN}"))
    return answer


def deep(record: bytes) -> bytes:
    """The first child's target seventeen labels below the root of the tree."""
    return record[:2] + b"\x010" * 16 + record[2:]


def nameless(record: bytes) -> bytes:
    """TXT without its first string."""
    return record[1 + record[0] :]


def opcode(asked: dns.message.Message, answer: dns.message.Message, over_tcp: bool) -> dns.message.Message | bytes:
    if asked.question or answer.rcode() != dns.rcode.NOTIMP:
        return answer
    return struct.pack("!6H", answer.id, 0x8000 | 15 << 11 | dns.rcode.REFUSED, 0, 0, 0, 0)


ROOT = NAMING.cell(GENERATION, ())
NETWORK = NAMING.network("psu-00")
APEX = NAMING.apex

LIES: list[tuple[str, Lie]] = [
    ("reachable", silent(over=True)),
    ("reachable", silent(over=False)),
    ("authoritative", without_aa),
    ("apex-soa", on(APEX, "SOA", drop_answer)),
    ("apex-ns", on(APEX, "NS", drop_answer)),
    ("apex-text", on(APEX, "TXT", drop_answer)),
    ("apex-text", on(APEX, "TXT", with_rdata(nameless))),
    ("ttl", on(APEX, "SOA", with_ttl(0))),
    ("ttl", on(ROOT, "SVCB", with_ttl(0))),
    ("negative-ttl", on(APEX, "AAAA", with_ttl(3600))),
    ("cell-resolves", on(ROOT, "SVCB", drop_answer)),
    ("cell-record", on(ROOT, "SVCB", with_rdata(lambda rdata: rdata[:-5]))),
    ("cell-record", on(ROOT, "SVCB", with_rdata(lambda rdata: b"\0\2" + rdata[2:]))),
    ("cell-record", on(ROOT, "SVCB", with_rdata(lambda rdata: rdata[:-1] + b"\x02"))),
    ("cell-record", on(ROOT, "SVCB", with_rdata(lambda rdata: rdata.replace(b"\x03g17", b"\x03g18")))),
    ("cell-record", on(ROOT, "SVCB", with_rdata(deep))),
    (
        "cell-size",
        on(ROOT, "SVCB", with_rdata(lambda rdata: rdata + struct.pack("!HH", 65400, 20_000) + bytes(20_000))),
    ),
    ("network-text", on(NETWORK, "TXT", drop_answer)),
    ("network-text", on(NETWORK, "TXT", with_rdata(nameless))),
    ("network-uri", on(NETWORK, "URI", with_rdata(lambda rdata: rdata[:4] + b"nowhere"))),
    ("nxdomain", wildcard),
    ("nxdomain", with_code(lambda asked: missing(name_of(asked)), dns.rcode.REFUSED)),
    ("nodata", with_code(lambda asked: asked.question[0].rdtype == dns.rdatatype.AAAA, dns.rcode.NXDOMAIN)),
    ("case", lower_question),
    ("case", cased_names_unknown),
    ("udp-size", long_over_udp),
    ("truncation", half_without_tc),
    ("edns", always_opt),
    ("edns", with_code(lambda asked: bool(asked.options), dns.rcode.FORMERR)),
    ("badvers", with_code(lambda asked: asked.edns == 1, dns.rcode.NOERROR)),
    ("opcode", opcode),
    ("refused", with_code(lambda asked: "invalid" in name_of(asked), dns.rcode.NXDOMAIN)),
    ("any", everything),
    ("pipelining", on(APEX, "SOA", drop_answer)),
]


@pytest.mark.parametrize(("rule", "lie"), LIES)
async def test_a_server_that_lies_is_caught(rule: str, lie: Lie) -> None:
    findings = await examined(LyingWire(zones(), lie))
    assert rule in findings.violated, findings.document()


@pytest.mark.parametrize("now", [SERIAL + 3600.0, SERIAL - 60.0])
async def test_a_serial_that_is_no_time_of_publication_is_caught(now: float) -> None:
    assert (await examined(LyingWire(zones()), now)).violated == ["serial-fresh"]


@pytest.mark.parametrize(("later", "violated"), [(0, ["serial-grows"]), (-7, ["serial-grows"]), (3, [])])
async def test_a_serial_that_stands_still_or_goes_back_is_caught(later: int, violated: list[str]) -> None:
    wire = LyingWire(zones())
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        wire.served = zones(serial=SERIAL + later)

    findings = await examined(wire, wait_s=30.0, sleep=sleep)
    assert findings.violated == violated
    assert len(slept) == (30 if later == 0 else 1)


def test_every_rule_has_a_liar() -> None:
    assert {rule for rule, _ in LIES} | set(TREES) | {"serial-fresh", "serial-grows"} == set(RULES) - {"cell-depth"}


async def test_a_walk_is_bounded() -> None:
    wire = LyingWire(zones())
    examination = Examination(wire, NAMING, ManualClock(SERIAL + 1.0), most_cells=3)
    assert not (await examination.run()).violated
    assert examination.tree is not None
    assert examination.tree.cells == 3


async def test_the_command_against_a_live_server() -> None:
    serial = int(SystemClock().now())
    served = zones(serial=serial)
    server = NameServer(lambda: served)
    await server.start()
    arguments = ["conformance", f"127.0.0.1:{server.port}", "--domain", NAMING.domain, "--origin", ORIGIN]
    try:
        assert (await _command(*arguments))[0] == 0
        code, out = await _command(*arguments, "--json")
        [told] = orjson.loads(out)["domains"]
        assert (code, told["conforms"], told["cells"]) == (0, True, len(CELLS))
        assert {each["verdict"] for each in told["rules"]} == {"holds"}
        served = zones(changed(DEEP, smaller), serial)
        code, out = await _command(*arguments)
        assert code == 1
        assert "cell-contains" in out
        assert "1 of 30 rules are violated" in out
    finally:
        await server.close()
    code, out = await _command(*arguments, "--json")
    assert code == 1
    assert "gives no answer" in out


async def _command(*arguments: str) -> tuple[int, str]:
    out = io.TextIOWrapper(io.BytesIO())
    with redirect_stdout(out):
        code = await asyncio.to_thread(main, list(arguments))
    out.flush()
    return code, out.buffer.getvalue().decode()  # type: ignore[attr-defined]
