"""Lookups against the live name server, and against servers that do not behave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_zones import ACTIONS, NAMING, NESTED, ORIGIN, SERIAL, D, entry, leaf, publication, tree, zone_set

from registry.clock import ManualClock, SystemClock
from registry.dns.message import query, question, records, uri
from registry.dns.rrset import txt_rdata
from registry.dns.wire import SOA, SVCB, TXT
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.resolving.authorities import Authorities
from registry.resolving.lookup import Lookups
from registry.resolving.source import Found
from registry.serving.nameserver import NameServer
from registry.serving.responder import respond
from registry.zones.zone import Ttls, ZoneSet, domain_zone

TIMEOUT_S = 5.0
ZONES = zone_set()


class Registry:
    """A live name server whose zones can be changed, and lookups with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.zones = ZONES
        self.asked = 0
        self.clock = ManualClock()
        self.server = NameServer(self._zones)

    def _zones(self) -> ZoneSet:
        self.asked += 1
        return self.zones

    def lookups(self) -> Lookups:
        return Lookups(Authorities(ORIGIN, [("127.0.0.1", self.server.port)], self.clock))


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    live = Registry()
    await live.server.start()
    yield live
    await live.server.close()


@pytest.fixture
async def lookups(registry: Registry) -> AsyncIterator[Lookups]:
    asking = registry.lookups()
    yield asking
    await asking.close()


async def test_the_apex(lookups: Lookups) -> None:
    looked = await lookups.apex(NAMING, TIMEOUT_S)
    assert looked.value == replace(publication().text, serial=SERIAL)
    assert (looked.ttl_s, looked.serial) == (10, SERIAL)


async def test_a_signers_own_serial_makes_nothing_younger(registry: Registry, lookups: Lookups) -> None:
    zone = domain_zone(publication(), SERIAL, Ttls())
    later = zone.with_serial(SERIAL + 500)
    node = tuple(each for each in later.branches[b""][b""] if each.rtype != TXT)
    told = tuple(each for each in zone.branches[b""][b""] if each.rtype == TXT)
    registry.zones = ZoneSet([replace(later, branches={**later.branches, b"": {b"": (*node, *told)}})])
    assert (await lookups.apex(NAMING, TIMEOUT_S)).serial == SERIAL
    assert (await lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S)).serial == SERIAL


async def test_a_cell(lookups: Lookups) -> None:
    looked = await lookups.cell(NAMING, 17, (1,), ACTIONS, D, TIMEOUT_S)
    published = tree()[1,]
    assert (looked.ttl_s, looked.serial, len(looked.value)) == (60, SERIAL, 16)
    for record, original in zip(looked.value, published, strict=True):
        assert (record.region.id, record.network) == (original.region.id, original.network)
        assert dict(record.region.counts) == dict(original.region.counts)
    root = await lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S)
    assert [record.child for record in root.value] == [(0,), (1,), (2,)]


async def test_a_network(lookups: Lookups) -> None:
    looked = await lookups.network(NAMING, "psu-00", TIMEOUT_S)
    assert looked.value.endpoints == entry().endpoints
    assert looked.value.text.strings() == entry().strings()
    assert (looked.ttl_s, looked.serial) == (30, SERIAL)
    assert (await lookups.network(NAMING, "psu-01", TIMEOUT_S)).value.endpoints == ()


@pytest.mark.parametrize(
    ("naming", "generation", "address", "where"),
    [
        (NAMING, 16, (), {"rcode": "NXDOMAIN", "ttl_s": 10}),
        (NAMING, 17, (7,), {"rcode": "NXDOMAIN", "ttl_s": 10}),
        (NESTED, 1, (), {"rcode": "NXDOMAIN", "ttl_s": 10}),
        (Naming("boats.vehicles", ORIGIN), 1, (), {"rcode": "NXDOMAIN", "ttl_s": 10}),
        (Naming("crash.vehicles", "elsewhere."), 17, (), {"rcode": "REFUSED"}),
    ],
)
async def test_what_is_not_there(
    lookups: Lookups, naming: Naming, generation: int, address: tuple[int, ...], where: dict[str, object]
) -> None:
    with pytest.raises(LookupFailed) as caught:
        await lookups.cell(naming, generation, address, ACTIONS, D, TIMEOUT_S)
    assert caught.value.where == where
    await lookups.apex(NAMING, TIMEOUT_S)  # the next question is none the worse


async def test_an_empty_cell_is_nodata(registry: Registry, lookups: Lookups) -> None:
    registry.zones = ZoneSet([domain_zone(publication(generations={17: {(): ()}}), SERIAL, Ttls(soa_minimum=7))])
    with pytest.raises(LookupFailed) as caught:
        await lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S)
    assert caught.value.where == {"rcode": "NODATA", "ttl_s": 7}


async def test_questions_share_a_connection_and_a_serial(registry: Registry, lookups: Lookups) -> None:
    await asyncio.gather(*(lookups.cell(NAMING, 17, (i % 3,), ACTIONS, D, TIMEOUT_S) for i in range(60)))
    assert registry.asked == 62
    assert len(registry.server._connections) == 1


async def test_a_serial_is_asked_anew_once_it_is_old(registry: Registry, lookups: Lookups) -> None:
    async def serial() -> int:
        return (await lookups.cell(NAMING, 17, (1,), ACTIONS, D, TIMEOUT_S)).serial

    assert await serial() == SERIAL
    registry.zones = zone_set(SERIAL + 7)
    registry.clock.advance(5.0)
    assert await serial() == SERIAL
    registry.clock.advance(0.001)
    assert await serial() == SERIAL + 7


async def test_an_apex_tells_by_itself_how_new_it_is(registry: Registry, lookups: Lookups) -> None:
    """It waits for no other answer, and what comes after it need not ask again."""
    assert (await lookups.apex(NAMING, TIMEOUT_S)).serial == SERIAL
    assert registry.asked == 2
    registry.zones = zone_set(SERIAL + 7)
    assert (await lookups.apex(NAMING, TIMEOUT_S)).serial == SERIAL + 7
    assert (await lookups.cell(NAMING, 17, (1,), ACTIONS, D, TIMEOUT_S)).serial == SERIAL + 7
    assert registry.asked == 4


async def test_a_new_connection_knows_no_serial(registry: Registry, lookups: Lookups) -> None:
    await lookups.apex(NAMING, TIMEOUT_S)
    registry.zones = zone_set(SERIAL + 7)
    port = registry.server.port
    await registry.server.close()
    registry.server = NameServer(registry._zones, port=port)
    await registry.server.start()
    assert (await lookups.apex(NAMING, TIMEOUT_S)).serial == SERIAL + 7


async def test_nobody_there(registry: Registry, lookups: Lookups) -> None:
    await registry.server.close()
    with pytest.raises(LookupFailed) as caught:
        await lookups.apex(NAMING, TIMEOUT_S)
    assert caught.value.where == {"rcode": "UNREACHABLE"}


async def test_closed_lookups_stay_closed(lookups: Lookups) -> None:
    await lookups.apex(NAMING, TIMEOUT_S)
    await lookups.close()
    with pytest.raises(LookupFailed, match="closed"):
        await lookups.apex(NAMING, TIMEOUT_S)


async def test_a_child_that_is_no_child_is_refused(registry: Registry, lookups: Lookups) -> None:
    for stray in ((1, 0), (0, 0, 0), (1,)):
        cells = {(): (leaf(0, child=(0,)),), (0,): (leaf(1, child=stray),)}
        registry.zones = ZoneSet([domain_zone(publication(generations={17: cells}), SERIAL, Ttls())])
        with pytest.raises(LookupFailed, match="no child") as caught:
            await lookups.cell(NAMING, 17, (0,), ACTIONS, D, TIMEOUT_S)
        assert caught.value.where["rcode"] == "GARBAGE"


async def test_a_cell_of_another_dimension_is_garbage(lookups: Lookups) -> None:
    with pytest.raises(LookupFailed, match="d=23") as caught:
        await lookups.cell(NAMING, 17, (), ACTIONS, 23, TIMEOUT_S)
    assert caught.value.where["rcode"] == "GARBAGE"


Behaviour = Callable[[bytes], bytes | None]


def silent(message: bytes) -> None:
    """No answer at all."""


def hang_up(message: bytes) -> bytes:
    """The connection ends."""
    return b""


def honest(message: bytes) -> bytes:
    answer = respond(ZONES, message, 65535, True)
    assert answer is not None
    return answer


class FakeServer:
    """A TCP name server that answers each question as `behave` says; None is silence."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> FakeServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                answer = self.behave(message)
                if answer == b"":
                    break
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


def not_soa(behave: Behaviour) -> Behaviour:
    """Honest about what says how new the zone is, `behave` otherwise."""
    apex = (question(NAMING.apex, SOA), question(NAMING.apex, TXT))
    return lambda message: honest(message) if message[12:] in apex else behave(message)


def changed(edit: Callable[[bytearray], object]) -> Behaviour:
    """The honest answer, edited in place."""

    def behave(message: bytes) -> bytes:
        answer = bytearray(honest(message))
        edit(answer)
        return bytes(answer)

    return behave


def put(position: int, value: int) -> Callable[[bytearray], object]:
    return lambda answer: answer.__setitem__(position, value)


async def failure_of(behave: Behaviour, timeout_s: float = TIMEOUT_S) -> LookupFailed:
    async with FakeServer(behave) as server:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", server.port)], SystemClock()))
        with pytest.raises(LookupFailed) as caught:
            await lookups.cell(NAMING, 17, (), ACTIONS, D, timeout_s)
        await lookups.close()
        return caught.value


@pytest.mark.parametrize(
    ("edit", "rcode"),
    [
        (put(2, 0x04), "GARBAGE"),  # not an answer
        (put(2, 0x94), "GARBAGE"),  # of another opcode
        (put(2, 0x86), "GARBAGE"),  # truncated
        (put(3, 2), "SERVFAIL"),
        (put(3, 5), "REFUSED"),
        (put(3, 9), "RCODE9"),
        (put(3, 3), "GARBAGE"),  # no such name, yet records
        (put(5, 0), "GARBAGE"),  # no question
        (put(7, 4), "GARBAGE"),  # a record too many is promised
        (put(14, ord("8")), "GARBAGE"),  # another question
        (lambda answer: answer.__delitem__(slice(len(answer) - 1, None)), "GARBAGE"),
        (lambda answer: answer.__delitem__(slice(12, None)), "GARBAGE"),
        (lambda answer: answer.__delitem__(slice(4, None)), "GARBAGE"),
    ],
)
async def test_bad_answers(edit: Callable[[bytearray], object], rcode: str) -> None:
    error = await failure_of(not_soa(changed(edit)))
    assert error.where["rcode"] == rcode


@pytest.mark.parametrize(
    ("extra", "usable"),
    [
        ("{name} 60 IN RRSIG SVCB 13 4 60 20300101000000 20200101000000 1 a. AAAA", True),
        ("{name} 60 IN CNAME elsewhere.example.", False),
        ("elsewhere.example. 60 IN SVCB 1 {target}", False),
    ],
)
def test_records_beside_the_ones_asked_for(extra: str, usable: bool) -> None:
    name = NAMING.cell(17, (0,))
    asked = question(name, SVCB)
    message = dns.message.from_wire(honest(query(7, asked)))
    words = extra.format(name=name, target=f"{NAMING.network('psu-00')}").split(None, 4)
    message.answer.append(dns.rrset.from_text(words[0], int(words[1]), "IN", words[3], words[4]))
    if usable:
        assert len(records(message.to_wire(), asked).rdatas) == 2
    else:
        with pytest.raises(LookupFailed):
            records(message.to_wire(), asked)


def test_the_least_ttl_counts_and_absurd_ones_are_zero() -> None:
    asked = question(NAMING.cell(17, (0,)), SVCB)
    answer = bytearray(honest(query(7, asked)))
    ttl_at = 12 + len(asked) + 6
    answer[ttl_at : ttl_at + 4] = (59).to_bytes(4, "big")
    assert records(bytes(answer), asked).ttl == 59
    answer[ttl_at] = 0x80
    assert records(bytes(answer), asked).ttl == 0


@given(st.data())
def test_mutated_answers_fail_by_name(data: st.DataObject) -> None:
    asked = data.draw(st.sampled_from([question(NAMING.apex, TXT), question(NAMING.cell(17, (9,)), SVCB)]))
    answer = bytearray(honest(query(7, asked)))
    for _ in range(data.draw(st.integers(0, 4))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    del answer[data.draw(st.integers(0, len(answer))) or len(answer) :]
    try:
        found = records(bytes(answer), asked)
    except LookupFailed as error:
        assert "rcode" in error.where  # noqa: PT017
    else:
        assert found.rdatas


async def test_garbage_instead_of_dns() -> None:
    error = await failure_of(lambda message: message[:2] + b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert error.where["rcode"] == "GARBAGE"


async def test_silence_is_a_timeout() -> None:
    error = await failure_of(silent, timeout_s=0.05)
    assert error.where == {"rcode": "TIMEOUT"}
    error = await failure_of(not_soa(silent), timeout_s=0.05)
    assert error.where == {"rcode": "TIMEOUT"}


async def test_an_answer_under_another_id_is_passed_over() -> None:
    error = await failure_of(not_soa(lambda message: b"\0\0" + honest(message)[2:]), timeout_s=0.05)
    assert error.where == {"rcode": "TIMEOUT"}


async def test_a_connection_that_closes_is_tried_once_more_and_no_more() -> None:
    async with FakeServer(not_soa(hang_up)) as server:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", server.port)], SystemClock()))
        with pytest.raises(LookupFailed) as caught:
            await lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S)
        assert caught.value.where == {"rcode": "UNREACHABLE"}
        assert server.connections == 2
        server.behave = honest
        assert (await lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S)).value
        await lookups.close()


async def test_a_dead_connection_is_given_up_and_a_slow_question_is_not() -> None:
    clock = ManualClock()
    async with FakeServer(honest) as server:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", server.port)], clock))
        await lookups.apex(NAMING, TIMEOUT_S)
        server.behave = silent
        for _ in range(2):
            with pytest.raises(LookupFailed):
                await lookups.apex(NAMING, 0.02)
            assert server.connections == 1
        clock.advance(1.0)
        with pytest.raises(LookupFailed):
            await lookups.apex(NAMING, 0.02)
        server.behave = honest
        assert (await lookups.apex(NAMING, TIMEOUT_S)).serial == SERIAL
        assert server.connections == 2
        await lookups.close()


async def test_answers_out_of_order_are_matched() -> None:
    held: list[bytes] = []

    def behave(message: bytes) -> bytes | None:
        held.append(honest(message))
        return None

    async with FakeServer(not_soa(behave)) as server:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", server.port)], SystemClock()))
        one = asyncio.ensure_future(lookups.cell(NAMING, 17, (0,), ACTIONS, D, TIMEOUT_S))
        other = asyncio.ensure_future(lookups.cell(NAMING, 17, (), ACTIONS, D, TIMEOUT_S))
        while len(held) < 2:
            await asyncio.wait([one, other], timeout=0.001)
        for answer in reversed(held):
            server._writers[0].write(len(answer).to_bytes(2, "big") + answer)
        assert len((await one).value) == 2
        assert len((await other).value) == 3
        await lookups.close()


@pytest.mark.parametrize("rdata", [b"", b"\0\1\0", b"\0\1\0\1", b"\0\1\0\1http://a b", b"\0\1\0\1\xff", b"\0\1\0\1a\n"])
def test_broken_uri_records(rdata: bytes) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - struct.error is none of ours
        uri(rdata)
    assert type(caught.value).__name__ in ("error", "ValueError", "UnicodeDecodeError")


class Carrier:
    """What a recursive resolver brings of a signer whose registry is long gone: signed just now."""

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:  # noqa: ARG002
        text = replace(publication().text, serial=SERIAL)
        return Found((txt_rdata(text.strings()),), 10.0, SERIAL + 7200, newest=SERIAL + 12_600)

    async def close(self) -> None:
        """Nothing is open."""


async def test_an_apex_is_no_newer_than_it_says_whenever_it_was_signed() -> None:
    looked = await Lookups(Carrier()).apex(NAMING, TIMEOUT_S)
    assert (looked.serial, looked.newest) == (SERIAL, SERIAL + 12_600)
