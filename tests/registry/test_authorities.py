"""The walk over authoritative servers: cuts crossed, servers that fail, delegations that lie."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zone_server import Edit, ZoneServer, zone_of

from registry.clock import ManualClock, SystemClock
from registry.dns.message import Referral, question
from registry.dns.wire import DS, TXT, name_to_wire
from registry.errors import LookupFailed
from registry.resolving.authorities import MAX_CHANNELS, Authorities
from registry.resolving.delegation import accept, is_under, shown
from tests.ports import free_port

ORIGIN = "kindred.internal."
APEX = "crash.vehicles.kindred.internal."
ROOT, OTHER, THIRD, DEAD = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9"
CUT = f"""\
ns IN A {ROOT}
vehicles 30 IN NS ns.vehicles
ns.vehicles 30 IN A {OTHER}
medicine 30 IN TXT here
"""
VEHICLES = f"""\
ns IN A {OTHER}
crash 30 IN NS ns.crash
ns.crash 30 IN A {THIRD}
"""
CRASH = f"""\
ns IN A {THIRD}
@ 10 IN TXT "the text"
"""
ASKED = question(APEX, TXT)
TIMEOUT_S = 5.0


class Field:
    """Servers on one port, and a walk that knows the first."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.port = free_port(ROOT, OTHER, THIRD)

    async def serve(
        self, host: str, apex: str, text: str, serial: int = 1_800_000_000, edit: Edit | None = None
    ) -> ZoneServer:
        server = ZoneServer(zone_of(apex, text, serial), host, self.port, edit)
        return await self._stack.enter_async_context(server)

    def walk(self, *hosts: str, clock: ManualClock | SystemClock | None = None) -> Authorities:
        servers = [(host, self.port) for host in hosts or (ROOT,)]
        walk = Authorities(ORIGIN, servers, clock or SystemClock())
        self._stack.push_async_callback(walk.close)
        return walk


@pytest.fixture
async def field() -> object:
    async with AsyncExitStack() as stack:
        yield Field(stack)


async def three(field: Field) -> tuple[ZoneServer, ZoneServer, ZoneServer]:
    """The root registry, and two below it that others run."""
    return (
        await field.serve(ROOT, ORIGIN, CUT),
        await field.serve(OTHER, f"vehicles.{ORIGIN}", VEHICLES, 1_800_000_005),
        await field.serve(THIRD, APEX, CRASH, 1_800_000_003),
    )


async def refusal(walk: Authorities, asked: bytes = ASKED, timeout_s: float = TIMEOUT_S) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        await walk.find(APEX, asked, timeout_s)
    return caught.value


async def test_two_cuts_are_crossed_once_and_the_serial_is_that_of_the_zone(field: Field) -> None:
    root, middle, last = await three(field)
    walk = field.walk()
    found = await asyncio.gather(*(walk.find(APEX, ASKED, TIMEOUT_S) for _ in range(20)))
    assert {each.rdatas for each in found} == {(b"\x08the text",)}
    assert {each.serial for each in found} == {1_800_000_003}
    once = [(APEX, "SOA"), (APEX, "TXT")]  # what the last one is asked is asked on the way there, too
    assert root.asked == middle.asked == last.asked[:2] == once
    assert last.asked.count((APEX, "SOA")) == 1


async def test_an_apex_that_tells_how_new_it_is_comes_with_the_way_to_it_once(field: Field) -> None:
    """One wait less for whoever looks for the zone; whoever asks again asks again."""
    served = await field.serve(ROOT, ORIGIN, "@ 10 IN TXT serial=1800000000\n")
    apex, asked = name_to_wire(ORIGIN), question(ORIGIN, TXT)
    walk = field.walk()
    for times in (1, 2, 3):
        await walk.find(ORIGIN, asked, TIMEOUT_S)
        assert served.asked.count((ORIGIN, "TXT")) == times
    clock = ManualClock()
    late = field.walk(clock=clock)
    await late._zone(apex, False, 0)
    clock.advance(1.001)
    await late.find(ORIGIN, asked, TIMEOUT_S)
    assert served.asked.count((ORIGIN, "TXT")) == 5, "it had been asked for too long ago"


async def test_a_delegation_is_asked_for_anew_when_its_time_is_over(field: Field) -> None:
    root, _, _ = await three(field)
    clock = ManualClock()
    walk = field.walk(clock=clock)
    for seconds in (29.0, 1.0):
        await walk.find(APEX, ASKED, TIMEOUT_S)
        clock.advance(seconds)
        assert root.asked.count((APEX, "SOA")) == 1
    await walk.find(APEX, ASKED, TIMEOUT_S)
    assert root.asked.count((APEX, "SOA")) == 2


async def test_the_ds_of_a_zone_is_asked_of_the_zone_above(field: Field) -> None:
    digest = "00" * 32
    await field.serve(ROOT, ORIGIN, CUT)
    await field.serve(OTHER, f"vehicles.{ORIGIN}", VEHICLES + f"crash 30 IN DS 1 13 2 {digest}\n", 1_800_000_005)
    found = await field.walk().find(APEX, question(APEX, DS), TIMEOUT_S)
    assert (found.rdatas, found.serial) == ((b"\0\1\x0d\2" + bytes(32),), 1_800_000_005)


async def test_hosts_of_another_zone_of_the_origin_are_looked_up(field: Field) -> None:
    def no_glue(response: dns.message.Message) -> None:
        if response.question[0].name.to_text() == APEX:
            response.additional.clear()

    rice = "rice.agriculture 30 IN NS ns.rice.agriculture\nns.rice.agriculture IN A 127.0.0.2\n"
    await field.serve(ROOT, ORIGIN, rice + "crash.vehicles 30 IN NS ns.rice.agriculture\n", edit=no_glue)
    await field.serve(OTHER, f"rice.agriculture.{ORIGIN}", f"ns 30 IN A {THIRD}\n")
    await field.serve(THIRD, APEX, CRASH)
    assert (await field.walk().find(APEX, ASKED, TIMEOUT_S)).rdatas == (b"\x08the text",)


async def test_hosts_that_wait_for_each_other_are_a_circle(field: Field) -> None:
    text = f"ns IN A {ROOT}\nvehicles IN NS ns.medicine\nmedicine IN NS ns.vehicles\n"
    root = await field.serve(ROOT, ORIGIN, text)
    error = await refusal(field.walk())
    assert error.where["rcode"] == "REFERRAL"
    assert "circle" in error.detail
    assert len(root.asked) < 20


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("kindred.internal. IN NS ns.kindred.internal.", "refers to itself"),
        ("internal. IN NS ns.kindred.internal.", "upwards or aside"),
        (". IN NS ns.kindred.internal.", "upwards or aside"),
        ("medicine.kindred.internal. IN NS ns.kindred.internal.", "nothing to do with"),
        ("vehicles.elsewhere. IN NS ns.kindred.internal.", "upwards or aside"),
        ("vehicles.kindred.internal. IN NS ns.elsewhere.", "without an address that can be believed"),
        ("vehicles.kindred.internal. IN NS ns.vehicles.kindred.internal.", "without an address that can be believed"),
    ],
)
async def test_delegations_that_lead_nowhere_are_refused_by_name(field: Field, lines: str, why: str) -> None:
    def lie(response: dns.message.Message) -> None:
        owner, _, _, target = lines.split()
        response.flags &= ~0x0400
        response.answer.clear()
        response.authority = [dns.rrset.from_text(owner, 30, "IN", "NS", target)]
        response.additional = [dns.rrset.from_text("ns.elsewhere.", 30, "IN", "A", OTHER)]

    await field.serve(ROOT, ORIGIN, CUT, edit=lie)
    stranger = await field.serve(OTHER, f"vehicles.{ORIGIN}", VEHICLES)
    error = await refusal(field.walk())
    assert error.where["rcode"] == "REFERRAL"
    assert why in error.detail
    assert not stranger.asked


async def test_a_referral_to_itself_one_zone_further_down_is_refused(field: Field) -> None:
    def lie(response: dns.message.Message) -> None:
        response.flags &= ~0x0400
        response.answer.clear()
        zone = "vehicles.kindred.internal."
        response.authority = [dns.rrset.from_text(zone, 30, "IN", "NS", f"ns.{zone}")]

    await field.serve(ROOT, ORIGIN, CUT)
    middle = await field.serve(OTHER, f"vehicles.{ORIGIN}", VEHICLES, edit=lie)
    error = await refusal(field.walk())
    assert "the zone vehicles.kindred.internal. refers to itself" in error.detail
    assert middle.asked == [(APEX, "SOA"), (APEX, "TXT")]


async def test_an_answer_to_another_question_is_no_answer(field: Field) -> None:
    def other(response: dns.message.Message) -> None:
        response.question = [dns.rrset.from_text("rice.agriculture.kindred.internal.", 0, "IN", "TXT")]

    await field.serve(ROOT, ORIGIN, CUT, edit=other)
    assert (await refusal(field.walk())).where["rcode"] == "GARBAGE"


async def test_who_is_no_authority_is_not_believed(field: Field) -> None:
    def modest(response: dns.message.Message) -> None:
        response.flags &= ~0x0400

    await field.serve(ROOT, ORIGIN, "ns IN A 127.0.0.1\ncrash.vehicles IN TXT x\n", edit=modest)
    assert (await refusal(field.walk())).where["rcode"] == "LAME"


async def test_a_zone_that_moved_is_found_again(field: Field) -> None:
    text = "crash.vehicles 30 IN NS ns.crash.vehicles\nns.crash.vehicles IN A "
    root = await field.serve(ROOT, ORIGIN, text + OTHER)
    before = await field.serve(OTHER, APEX, CRASH)
    await field.serve(THIRD, APEX, CRASH.replace("the text", "moved"))
    clock = ManualClock()
    walk = field.walk(clock=clock)
    await walk.find(APEX, ASKED, TIMEOUT_S)
    before.zone = zone_of("elsewhere.", "")
    root.zone = zone_of(ORIGIN, text + THIRD)
    clock.advance(6.0)
    assert (await walk.find(APEX, ASKED, TIMEOUT_S)).rdatas == (b"\x05moved",)


async def test_the_next_server_answers_where_the_first_is_gone_silent_or_refuses(field: Field) -> None:
    await field.serve(OTHER, ORIGIN, "crash.vehicles IN TXT x\n")
    for first in (DEAD, THIRD):
        walk = field.walk(first, OTHER)
        with pytest.raises(LookupFailed, match="NODATA"):
            await walk.find(APEX, ASKED, TIMEOUT_S)
    good = await field.serve(ROOT, ORIGIN, "@ IN TXT good\n")
    asked = question(ORIGIN, TXT)
    bad = await field.serve(THIRD, "elsewhere.", "")
    walk = field.walk(THIRD, ROOT)
    assert (await walk.find(ORIGIN, asked, TIMEOUT_S)).rdatas == (b"\4good",)
    bad.silent = True
    walk = field.walk(THIRD, ROOT)
    assert (await walk.find(ORIGIN, asked, TIMEOUT_S)).rdatas == (b"\4good",)
    assert good.asked


async def test_no_of_an_authority_is_final(field: Field) -> None:
    await field.serve(ROOT, APEX, "@ IN SVCB 1 a\n")
    second = await field.serve(OTHER, APEX, CRASH)
    assert (await refusal(field.walk(ROOT, OTHER))).where == {"rcode": "NODATA", "ttl_s": 10}
    assert not second.asked


async def test_an_soa_of_another_zone_is_no_answer(field: Field) -> None:
    """Asked for the DS of a zone, whose enclosing zone is to be found by its SOA."""

    def lie(response: dns.message.Message) -> None:
        for each in response.authority:
            each.name = dns.name.from_text("internal.")

    await field.serve(ROOT, ORIGIN, "x.vehicles IN TXT x\n", edit=lie)
    assert "answers with an SOA of internal." in (await refusal(field.walk(), question(APEX, DS))).detail


async def test_all_servers_failing_are_all_named(field: Field) -> None:
    error = await refusal(field.walk(ROOT, OTHER))
    assert error.where["rcode"] == "UNREACHABLE"
    assert ROOT in error.detail
    assert OTHER in error.detail


async def test_a_server_that_fails_again_and_again_is_tried_a_few_times_a_second(field: Field) -> None:
    clock = ManualClock()
    walk = field.walk(clock=clock)
    for _ in range(1000):
        error = await refusal(walk)
    assert "failed 3 times" in error.detail
    await three(field)
    assert "failed 3 times" in (await refusal(walk)).detail
    clock.advance(0.05)
    assert (await walk.find(APEX, ASKED, TIMEOUT_S)).rdatas == (b"\x08the text",)


async def test_one_secondary_lags_and_the_serial_tells(field: Field) -> None:
    await field.serve(ROOT, APEX, CRASH, 1_800_000_000)
    await field.serve(OTHER, APEX, CRASH, 1_800_000_100)
    port = field.port
    lagging = Authorities(APEX, [(ROOT, port), (OTHER, port)], SystemClock())
    fresh = Authorities(APEX, [(OTHER, port), (ROOT, port)], SystemClock())
    assert (await lagging.find(APEX, ASKED, TIMEOUT_S)).serial == 1_800_000_000
    assert (await fresh.find(APEX, ASKED, TIMEOUT_S)).serial == 1_800_000_100
    await lagging.close()
    await fresh.close()


async def test_the_registrys_own_serial_counts_where_the_apex_tells_it(field: Field) -> None:
    """A server that signs counts serials of its own."""
    await field.serve(ROOT, APEX, '@ 10 IN TXT "v=kindred1" "serial=1799999990"\n', 1_800_000_500)
    assert (await field.walk().find(APEX, ASKED, TIMEOUT_S)).serial == 1_799_999_990


@pytest.mark.parametrize("serial", ["", "-1", "x", "12345678901"])
async def test_a_serial_that_is_none_is_refused(field: Field, serial: str) -> None:
    await field.serve(ROOT, APEX, f'@ 10 IN TXT "v=kindred1" "serial={serial}"\n')
    assert (await refusal(field.walk())).where["rcode"] == "GARBAGE"


async def test_connections_do_not_pile_up(field: Field) -> None:
    walk = field.walk()
    for number in range(3 * MAX_CHANNELS):
        walk._channel("127.0.0.1", 1 + number)
    assert len(walk._channels) <= MAX_CHANNELS + 1


NAMES = st.lists(st.sampled_from(["a", "b", "kindred", "internal", "ns"]), max_size=5).map(".".join)


@given(NAMES, NAMES, NAMES, st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3))
def test_what_is_accepted_leads_down_and_rests_on_glue_of_the_zone_alone(
    cut: str, at: str, target: str, hosts: list[str], glued: list[str]
) -> None:
    wire = {name: name_to_wire(name or ".") for name in (cut, at, target, *hosts, *glued)}
    glue = {wire[name]: ("192.0.2.1",) for name in glued}
    try:
        taken = accept(Referral(wire[cut], tuple(map(wire.get, hosts)), glue, 30), wire[at], wire[target], b"\0")  # type: ignore[arg-type]
    except LookupFailed as error:
        assert error.where["rcode"] == "REFERRAL"  # noqa: PT017
        return
    assert dns.name.from_text(cut).is_subdomain(dns.name.from_text(at))
    assert cut != at
    assert is_under(wire[target], wire[cut])
    assert taken.addresses.keys() <= glue.keys() & set(map(wire.get, hosts))
    assert all(is_under(host, wire[at]) for host in taken.addresses)
    assert taken.addresses or taken.wanting


def test_any_name_can_be_shown() -> None:
    assert shown(b"\x03a-b\x03\xff.\n\0") == "a-b.\\255\\046\\010."
    assert shown(b"\0") == "."
