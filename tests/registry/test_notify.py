"""NOTIFY as a secondary hears it: signed, again until it is answered, of the newest serial only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.tsig
import pytest
from sample_zones import NAMING, SERIAL, zone_set

from registry.clock import SystemClock
from registry.dns.tsig import TsigKey
from registry.dns.wire import name_to_wire
from registry.serving.notify import Notifier, NotifyTimes, Secondary
from registry.zones.zone import Zone

APEX = NAMING.apex
KEY = TsigKey("transfer.", b"s" * 32)
RING = {dns.name.from_text("transfer."): dns.tsig.Key("transfer.", b"s" * 32, "hmac-sha256")}
QUICK = NotifyTimes(first_s=0.02, tries=6)
Reply = Callable[[dns.message.Message], bytes | None]


def fine(heard: dns.message.Message) -> bytes:
    answer = dns.message.make_response(heard)
    answer.flags |= dns.flags.AA
    return answer.to_wire()


def refusing(heard: dns.message.Message) -> bytes:
    answer = dns.message.make_response(heard)
    answer.set_rcode(dns.rcode.NOTAUTH)
    return answer.to_wire()


def unsigned(heard: dns.message.Message) -> bytes:
    return bytes([*heard.id.to_bytes(2, "big"), 0xA4, 0, 0, 0, 0, 0, 0, 0, 0, 0])


class Ear(asyncio.DatagramProtocol):
    """A secondary that answers as it is told to."""

    def __init__(self, replies: list[Reply]) -> None:
        self.heard: list[dns.message.Message] = []
        self._replies = replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        message = dns.message.from_wire(data, keyring=RING)
        self.heard.append(message)
        reply = self._replies[min(len(self.heard), len(self._replies)) - 1](message)
        if reply is not None:
            self._transport.sendto(reply, addr)  # type: ignore[attr-defined]

    def serials(self) -> list[int]:
        return [message.answer[0][0].serial for message in self.heard]


@asynccontextmanager
async def ear(*replies: Reply) -> AsyncIterator[tuple[Ear, int]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Ear(list(replies)), local_addr=("127.0.0.1", 0)
    )
    yield protocol, transport.get_extra_info("sockname")[1]
    transport.close()


class Published:
    """The zone as it is now."""

    def __init__(self) -> None:
        self.zone = zone_set().by_apex[name_to_wire(APEX)]

    def __call__(self, apex: str) -> Zone | None:
        return self.zone if apex == APEX else None


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


@asynccontextmanager
async def notifier(port: int, published: Published) -> AsyncIterator[Notifier]:
    started = Notifier([Secondary("one", "127.0.0.1", port, KEY)], published, SystemClock(), QUICK)
    yield started
    await started.close()


async def test_a_secondary_hears_the_new_soa_signed() -> None:
    async with ear(fine) as (heard, port), notifier(port, Published()) as told:
        told.tell([APEX, "gone.example."])
        await until(lambda: bool(heard.heard))
        [message] = heard.heard
        assert message.opcode() == dns.opcode.NOTIFY
        assert message.flags & dns.flags.AA
        assert message.had_tsig
        assert (str(message.question[0].name), heard.serials()) == (APEX, [SERIAL])


async def test_what_is_lost_is_said_again_until_it_is_heard() -> None:
    async with ear(lambda _: None, unsigned, fine) as (heard, port), notifier(port, Published()) as told:
        told.tell([APEX])
        await until(lambda: len(heard.heard) == 3)
        await until(lambda: all(task.done() for task in told._tasks.values()))
        assert len(heard.heard) == 3
        assert told.troubles == {}


@pytest.mark.parametrize(
    ("reply", "why"), [(refusing, "NOTAUTH"), (unsigned, "not signed"), (lambda _: None, "no answer")]
)
async def test_who_does_not_take_it_is_named(reply: Reply, why: str, caplog: pytest.LogCaptureFixture) -> None:
    published = Published()
    async with ear(reply) as (heard, port), notifier(port, published) as told:
        told.tell([APEX])
        await until(lambda: len(heard.heard) == QUICK.tries)
        assert why in told.troubles["one", APEX]
        assert told.unheard() == {f"{APEX} at one": told.troubles["one", APEX]}
        assert f"NOTIFY of {APEX} to one: " in caplog.text
        heard._replies = [fine]
        told.tell([APEX])
        await until(lambda: not told.troubles)


async def test_nobody_there_is_no_reason_to_stop(unused_udp_port: int) -> None:
    async with notifier(unused_udp_port, Published()) as told:
        told.tell([APEX])
        await until(lambda: bool(told.troubles))
        assert told.troubles["one", APEX] == "nobody listens there"


async def test_a_newer_serial_takes_the_place_of_the_one_on_its_way() -> None:
    published = Published()
    async with ear(lambda _: None) as (heard, port), notifier(port, published) as told:
        told.tell([APEX])
        await until(lambda: bool(heard.heard))
        published.zone = published.zone.with_serial(SERIAL + 1)
        before = told._tasks["one", APEX]
        told.tell([APEX])
        count = len(heard.heard)
        await until(lambda: len(heard.heard) >= count + 2)
        assert before.cancelled()
        assert set(heard.serials()[count:]) == {SERIAL + 1}
        assert len(told._tasks) == 1


async def test_who_hears_nothing_is_named_however_much_is_published() -> None:
    """Each publication takes the place of what is on its way: that must not put off the finding for ever."""
    async with ear(lambda _: None) as (heard, port), notifier(port, Published()) as told:
        for count in (2, 4):  # each time it has waited once in vain
            told.tell([APEX])
            await until(lambda count=count: len(heard.heard) >= count)  # type: ignore[misc]
        assert told.troubles == {("one", APEX): "no answer"}


async def test_one_that_is_lost_is_no_trouble() -> None:
    async with ear(lambda _: None, fine) as (heard, port), notifier(port, Published()) as told:
        told.tell([APEX])
        await until(lambda: len(heard.heard) == 2)
        assert told.troubles == {}


async def test_a_catalog_may_be_refused_and_not_be_unheard() -> None:
    for reply, troubles in ((refusing, set()), (lambda _: None, {("one", APEX)})):
        async with ear(reply) as (heard, port):
            told = Notifier(
                [Secondary("one", "127.0.0.1", port, KEY)], Published(), SystemClock(), QUICK, optional=[APEX]
            )
            told.tell([APEX])
            await until(lambda heard=heard: len(heard.heard) == QUICK.tries)  # type: ignore[misc]
            assert told.troubles.keys() == troubles
            await told.close()
