"""Transferred copies: whole and by difference, current, behind, stale, expired; and transfers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_zones import ACTIONS, NAMING, NESTED, ORIGIN, SERIAL, D, leaf, publication, tree, zone_set

from registry.clock import ManualClock
from registry.dns.message import question, question_of, soa_numbers
from registry.dns.rrset import soa_rdata
from registry.dns.tsig import TsigKey
from registry.dns.wire import DS, NS, RRSIG, SOA, SVCB, TXT, name_to_wire
from registry.errors import LookupFailed
from registry.resolving.authorities import Authorities
from registry.resolving.copies import Copies
from registry.resolving.inbound import transfer
from registry.resolving.lookup import Lookups
from registry.resolving.zonecopy import ZoneCopy
from registry.serving.nameserver import NameServer
from registry.serving.primary import Primary
from registry.zones.delta import Delta, Record, between
from registry.zones.transfer import whole
from registry.zones.zone import Ttls, Zone, ZoneSet, domain_zone

KEY = TsigKey("transfer.", b"s" * 32)
OTHER = TsigKey("transfer.", b"t" * 32)
ZONES = [ORIGIN, NAMING.apex, NESTED.apex]
ASKED = question(NAMING.apex, TXT)
TIMEOUT_S = 5.0


class Registry:
    """A primary whose zones can be changed; what changed is kept."""

    def __init__(self) -> None:
        self.zones = zone_set()
        self.deltas: list[Delta] = []
        self.clock = ManualClock(float(SERIAL))
        self.primary = Primary(lambda: self.zones, self.clock, [KEY], self.since)
        self.server = NameServer(lambda: self.zones, primary=self.primary)

    def since(self, apex: str, serial: int) -> list[Delta] | None:
        found = [delta for delta in self.deltas if delta.apex == apex and delta.before >= serial]
        return found if found and found[0].before == serial else None

    def publish(self, serial: int, **changes: object) -> None:
        """The domain anew, under a new serial."""
        before = self.zones.by_apex[name_to_wire(NAMING.apex)]
        after = domain_zone(publication(**changes), serial, Ttls(), ("crash.vehicles", "frontal.crash.vehicles"))
        self.deltas.append(between(before, after))
        others = [zone for zone in self.zones.by_apex.values() if zone.apex != NAMING.apex]
        self.zones = ZoneSet([*others, after])

    def copies(self, key: TsigKey | None = KEY) -> Copies:
        return Copies("127.0.0.1", self.server.port, ZONES, self.clock, key)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    live = Registry()
    await live.server.start()
    yield live
    await live.server.close()


@pytest.fixture
async def copies(registry: Registry) -> Copies:
    held = registry.copies()
    for zone in ZONES:
        await held.refresh(zone)
    return held


async def test_the_copy_says_what_the_server_says(registry: Registry, copies: Copies) -> None:
    walk = Lookups(Authorities(ORIGIN, [("127.0.0.1", registry.server.port)], registry.clock))
    copied = Lookups(copies)
    for address in tree():
        asked = (NAMING, 17, address, ACTIONS, D, TIMEOUT_S)
        one, other = await walk.cell(*asked), await copied.cell(*asked)
        assert (one.ttl_s, one.serial) == (other.ttl_s, other.serial)
        assert [r.region.id for r in one.value] == [r.region.id for r in other.value]
    apex = await copied.apex(NAMING, TIMEOUT_S)
    assert apex.newest == apex.serial, "a copy is of one serial; a server may have caught up since it told its own"
    assert await walk.apex(NAMING, TIMEOUT_S) == replace(apex, newest=0)
    for name in ("psu-00", "psu-01"):
        network = await copied.network(NAMING, name, TIMEOUT_S)
        assert await walk.network(NAMING, name, TIMEOUT_S) == replace(network, newest=0)
    wrong = [(NAMING, 16, ()), (NAMING, 17, (7,)), (NESTED, 1, ())]
    for naming, generation, address in wrong:
        places = []
        for lookups in (walk, copied):
            with pytest.raises(LookupFailed) as caught:
                await lookups.cell(naming, generation, address, ACTIONS, D, TIMEOUT_S)
            places.append(caught.value.where)
        assert places[0] == places[1]
    await walk.close()


async def test_what_changed_comes_by_difference(registry: Registry, copies: Copies) -> None:
    cells = {**tree(), (2,): (leaf(999),)}
    registry.publish(SERIAL + 7, generations={17: cells})
    await copies.refresh(NAMING.apex)
    found = await Lookups(copies).cell(NAMING, 17, (2,), ACTIONS, D, TIMEOUT_S)
    assert ([r.region.id for r in found.value], found.serial) == (["r999"], SERIAL + 7)
    held = copies._held[name_to_wire(NAMING.apex)].copy
    assert held is not None
    fresh = registry.copies()
    await fresh.refresh(NAMING.apex)
    again = fresh._held[name_to_wire(NAMING.apex)].copy
    assert again is not None
    assert rrsets(held) == rrsets(again)


async def test_where_differences_are_forgotten_or_do_not_fit_the_whole_comes(
    registry: Registry, copies: Copies
) -> None:
    registry.publish(SERIAL + 7, current=17)
    registry.deltas.clear()
    await copies.refresh(NAMING.apex)
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).serial == SERIAL + 7
    registry.publish(SERIAL + 9, generations={17: {(): (leaf(1),)}})
    held = copies._held[name_to_wire(NAMING.apex)].copy
    assert held is not None
    del held._held[question(NAMING.cell(17, (1,)), SVCB)]  # as memory that failed would
    with pytest.raises(LookupFailed, match="removes what is not there"):
        await copies.refresh(NAMING.apex)
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).serial == SERIAL + 7
    await copies.refresh(NAMING.apex)
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).serial == SERIAL + 9


async def test_the_primary_is_gone(registry: Registry, copies: Copies) -> None:
    """Its serial tells the age; after a refresh and a retry it is stale; past expire it is not used."""
    await registry.server.close()
    fresh_s, expire_s = 30 + 10, 86_400

    async def later(seconds: float) -> None:
        registry.clock.advance(seconds)
        with pytest.raises(LookupFailed) as caught:
            await copies.refresh(NAMING.apex)
        assert caught.value.where["rcode"] == "UNREACHABLE"

    await later(fresh_s)
    found = await copies.find(NAMING.apex, ASKED, TIMEOUT_S)
    assert (found.serial, found.stale, found.ttl_s) == (SERIAL, False, 10)
    await later(1)
    found = await copies.find(NAMING.apex, ASKED, TIMEOUT_S)
    assert (found.serial, found.stale, found.ttl_s) == (SERIAL, True, 0)
    await later(expire_s - fresh_s - 1 - 0.5)
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).stale
    await later(0.5)
    with pytest.raises(LookupFailed) as caught:
        await copies.find(NAMING.apex, ASKED, TIMEOUT_S)
    assert caught.value.where == {"rcode": "EXPIRED"}


async def test_and_when_it_is_back_the_copy_is_good_again(registry: Registry, copies: Copies) -> None:
    registry.clock.advance(90_000)
    registry.publish(SERIAL + 90_000)
    await copies.refresh(NAMING.apex)
    found = await copies.find(NAMING.apex, ASKED, TIMEOUT_S)
    assert (found.serial, found.stale) == (SERIAL + 90_000, False)


async def test_a_secondary_with_an_older_zone_does_not_set_the_copy_back(registry: Registry, copies: Copies) -> None:
    registry.publish(SERIAL + 7)
    await copies.refresh(NAMING.apex)
    registry.zones = zone_set()
    await copies.refresh(NAMING.apex)
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).serial == SERIAL + 7


@pytest.mark.parametrize(("key", "why"), [(None, "REFUSED"), (OTHER, "does not hold|BADSIG|NOTAUTH|not signed")])
async def test_a_wrong_key_gets_nothing(registry: Registry, key: TsigKey | None, why: str) -> None:
    copies = registry.copies(key)
    with pytest.raises(LookupFailed, match=why):
        await copies.refresh(NAMING.apex)
    with pytest.raises(LookupFailed, match=why):
        await copies.find(NAMING.apex, ASKED, TIMEOUT_S)


async def test_what_is_delegated_is_not_in_the_zone(copies: Copies) -> None:
    with pytest.raises(LookupFailed, match="delegated") as caught:
        await copies.find(ORIGIN, ASKED, TIMEOUT_S)
    assert caught.value.where == {"rcode": "REFERRAL"}
    with pytest.raises(LookupFailed, match="no copy is kept"):
        await copies.find("elsewhere.", ASKED, TIMEOUT_S)
    with pytest.raises(LookupFailed) as caught:  # the DS is the zone above's, which has none
        await copies.find(NESTED.apex, question(NESTED.apex, DS), TIMEOUT_S)
    assert caught.value.where == {"rcode": "NODATA", "ttl_s": 10}


async def test_copies_are_taken_by_themselves_and_waited_for(registry: Registry) -> None:
    copies = registry.copies()
    copies.start()
    assert (await copies.find(NAMING.apex, ASKED, TIMEOUT_S)).serial == SERIAL
    await copies.close()
    slow = registry.copies()
    with pytest.raises(LookupFailed, match="not transferred yet"):
        await slow.find(NAMING.apex, ASKED, 0.01)


async def served(*messages: dns.message.Message | bytes) -> LookupFailed:
    """What a transfer says that gets these messages, and then nothing more, from a server without a key."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        for message in messages:
            wire = message if isinstance(message, bytes) else message.to_wire(max_size=65535)
            wire = query[:2] + wire[2:]
            writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    soa = soa_rdata("ns.a.", "b.a.", (5, 1, 1, 1, 1))
    try:
        with pytest.raises(LookupFailed) as caught:
            await transfer("127.0.0.1", server.sockets[0].getsockname()[1], "a.", soa, None, lambda: 0.0)
    finally:
        server.close()
        await server.wait_closed()
    return caught.value


def message(*records: str, name: str = "a.", rcode: int = 0) -> dns.message.Message:
    response = dns.message.make_response(dns.message.make_query(name, "IXFR"))
    response.set_rcode(rcode)  # type: ignore[arg-type]
    for record in records:
        owner, rtype, text = record.split(None, 2)
        response.answer.append(dns.rrset.from_text(owner, 30, "IN", rtype, text))
    return response


def soa(serial: int) -> str:
    return f"a. SOA ns.a. b.a. {serial} 1 1 1 1"


@pytest.mark.parametrize(
    ("answers", "rcode"),
    [
        ([message(rcode=5)], "REFUSED"),
        ([message(soa(9), 'a. TXT "x"')], "UNREACHABLE"),  # it breaks off
        ([message('a. TXT "x"')], "GARBAGE"),
        ([message(soa(9), 'x. TXT "x"', soa(9))], "GARBAGE"),
        ([message(soa(9), 'a. TXT "x"', soa(8))], "GARBAGE"),
        ([message(soa(9), name="b.")], "GARBAGE"),
        ([message(soa(9), soa(5), 'b. TXT "x"', soa(9), soa(9))], "GARBAGE"),
        ([message(soa(9)).to_wire()[:-4]], "GARBAGE"),
        ([b"\0" * 5], "GARBAGE"),
    ],
)
async def test_transfers_that_are_none(answers: list[dns.message.Message | bytes], rcode: str) -> None:
    # dnspython merges RRsets of one name: SOA records stay apart because each has an RRset of its own.
    assert (await served(*answers)).where == {"rcode": rcode}


APEX = b"\1a\0"
NAMES = st.sampled_from([b"\1x\1a\0", b"\1y\1a\0", b"\1z\1x\1a\0"])
RECORDS = st.sets(st.tuples(NAMES, st.sampled_from([TXT, SVCB]), st.just(30), st.sampled_from([b"1", b"2", b"3"])))


def soa_record(serial: int) -> Record:
    return APEX, SOA, 30, soa_rdata("ns.a.", "b.a.", (serial, 1, 1, 1, 1))


def by_question(records: set[Record], serial: int) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {question_of(APEX, SOA): {soa_record(serial)[3]}}
    for owner, rtype, _, rdata in records:
        found.setdefault(question_of(owner, rtype), set()).add(rdata)
    return found


@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_differences_lead_to_the_same_copy_as_the_whole(versions: list[set[Record]]) -> None:
    copy = ZoneCopy("a.", soa_record(1))
    for record in versions[0]:
        copy.add(record)
    changes = [
        (serial, list(before - after), soa_record(serial + 1)[3], list(after - before))
        for serial, (before, after) in enumerate(pairwise(versions), 1)
    ]
    if changes:
        copy.apply(changes)
    expected = by_question(versions[-1], len(versions))
    assert {key: set(copy.find(key).rdatas) for key in copy._held} == expected
    assert (copy.serial, len(copy)) == (len(versions), len(expected))


def test_a_difference_from_another_serial_changes_nothing() -> None:
    copy = ZoneCopy("a.", soa_record(1))
    fits = (1, [], soa_record(2)[3], [(APEX, TXT, 30, b"x")])
    with pytest.raises(LookupFailed, match="does not fit"):
        copy.apply([fits, (3, [], soa_record(4)[3], [])])
    assert (copy.serial, len(copy)) == (1, 1)


def test_a_zone_is_held_at_about_its_size_on_the_wire() -> None:
    [zone] = [each for each in zone_set().by_apex.values() if each.apex == NAMING.apex]
    copy = copy_of(zone)
    wire = sum(len(owner) + 10 + len(rdata) for owner, _, _, rdata in whole(zone))
    assert copy.octets < wire
    assert soa_numbers(copy.soa)[0] == SERIAL


def rrsets(copy: ZoneCopy) -> dict[bytes, tuple[int, frozenset[bytes]]]:
    found = {key: copy.find(key) for key in copy._held}
    return {key: (records.ttl, frozenset(records.rdatas)) for key, records in found.items()}


def copy_of(zone: Zone) -> ZoneCopy:
    first, *others = whole(zone)
    copy = ZoneCopy(zone.apex, first)
    for record in others:
        copy.add(record)
    return copy


def test_denials_are_not_kept_and_signatures_are_found_by_what_they_cover() -> None:
    copy = ZoneCopy("a.", soa_record(1))
    covering = {rtype: rtype.to_bytes(2, "big") + b"rest" for rtype in (TXT, SVCB, 47)}
    for rtype, rdata in covering.items():
        copy.add((APEX, RRSIG, 30, rdata))
        copy.add((APEX, rtype, 30, b"x"))
    copy.add((APEX, NS, 30, b"\2ns\1a\0"))
    assert copy.find(question_of(APEX, TXT)).signatures == (covering[TXT],)
    assert question_of(APEX, 47) not in copy._held
    assert covering[47] not in copy.find(question_of(APEX, RRSIG)).rdatas
