"""A recursive resolver as the carrier: over UDP, over TCP what does not fit, and never what was forged."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import pytest
from zone_server import ZoneServer, answer_from, zone_of

from registry.clock import SystemClock
from registry.dns.message import question
from registry.dns.wire import SVCB, TXT, URI
from registry.errors import LookupFailed
from registry.resolving.recursive import Recursive
from tests.ports import free_port

APEX = "crash.vehicles.kindred.internal."
ASKED = question(APEX, TXT)
LARGE = "\n".join(f'g1 60 IN SVCB 1 {i}.net.{APEX} key65280="{"x" * 60}"' for i in range(40))
ZONE = zone_of(APEX, f'@ 10 IN TXT "true"\n{LARGE}\n')
TIMEOUT_S = 5.0


@pytest.fixture
async def server() -> AsyncIterator[ZoneServer]:
    async with ZoneServer(ZONE, "127.0.0.1", free_port("127.0.0.1")) as serving:
        yield serving


@pytest.fixture
async def source(server: ZoneServer) -> AsyncIterator[Recursive]:
    asking = Recursive("127.0.0.1", server.port, SystemClock())
    yield asking
    await asking.close()


async def test_what_fits_comes_over_udp_and_what_does_not_over_tcp(server: ZoneServer, source: Recursive) -> None:
    assert (await source.find(APEX, ASKED, TIMEOUT_S)).rdatas == (b"\x04true",)
    assert not server._writers
    for _ in range(3):
        assert len((await source.find(APEX, question(f"g1.{APEX}", SVCB), TIMEOUT_S)).rdatas) == 40
    assert len(server._writers) == 1
    assert len(server.asked) == 1 + 1 + 3  # the first large one twice, those after it over TCP at once


async def test_nothing_is_known_of_the_age(source: Recursive) -> None:
    assert (await source.find(APEX, ASKED, TIMEOUT_S)).serial == 0


async def test_no_is_passed_on_with_its_time(source: Recursive) -> None:
    for name, rtype, rcode in ((f"x.{APEX}", TXT, "NXDOMAIN"), (APEX, URI, "NODATA")):
        with pytest.raises(LookupFailed) as caught:
            await source.find(APEX, question(name, rtype), TIMEOUT_S)
        assert caught.value.where == {"rcode": rcode, "ttl_s": 10}


async def test_nobody_there() -> None:
    source = Recursive("127.0.0.1", free_port("127.0.0.1"), SystemClock())
    with pytest.raises(LookupFailed) as caught:
        await source.find(APEX, ASKED, TIMEOUT_S)
    assert caught.value.where == {"rcode": "UNREACHABLE"}


async def test_a_lost_question_is_sent_again(server: ZoneServer, source: Recursive) -> None:
    server.silent = True
    asking = asyncio.ensure_future(source.find(APEX, ASKED, TIMEOUT_S))
    while not server.asked:
        await asyncio.wait([asking], timeout=0.001)
    server.silent = False
    assert (await asking).rdatas == (b"\x04true",)
    assert len(server.asked) == 2


class Poisoner(asyncio.DatagramProtocol):
    """Sends forged answers to each question, and then, unless it is told otherwise, the true one."""

    def __init__(self, forge: Callable[[bytes], list[bytes]], truth: bool = True) -> None:
        self._forge = forge
        self._truth = truth
        self.ids: list[int] = []
        self.ports: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.ids.append(int.from_bytes(data[:2], "big"))
        self.ports.append(addr[1])
        for forged in self._forge(data):
            self.transport.sendto(forged, addr)  # type: ignore[attr-defined]
        if self._truth:
            self.transport.sendto(answer_from(ZONE, dns.message.from_wire(data)).to_wire(), addr)  # type: ignore[attr-defined]


FORGED = dns.message.make_response(dns.message.make_query(APEX, "TXT"))
FORGED.answer.append(dns.rrset.from_text(APEX, 10, "IN", "TXT", "forged"))
FORGED.flags |= dns.flags.AA
POISON = FORGED.to_wire()


def other_ids(data: bytes) -> list[bytes]:
    """40 answers under ids that are not the question's."""
    ids = [secrets.randbelow(2**16) for _ in range(40)]
    return [ident.to_bytes(2, "big") + POISON[2:] for ident in ids if ident.to_bytes(2, "big") != data[:2]]


def other_questions(data: bytes) -> list[bytes]:
    """The right id under another question, of another type, without a question, cut, and a question sent back."""
    name = POISON.replace(b"\x05crash", b"\x05rices")
    rtype = POISON.replace(b"\0\x10\0\1", b"\0\x11\0\1", 1)
    bent = (name[2:], rtype[2:], POISON[2:20], b"", b"\x84\0" + bytes(8))
    return [*(data[:2] + each for each in bent), data]


@pytest.mark.parametrize("forge", [other_ids, other_questions])
async def test_forged_answers_are_passed_over(forge: Callable[[bytes], list[bytes]]) -> None:
    loop = asyncio.get_running_loop()
    transport, poisoner = await loop.create_datagram_endpoint(lambda: Poisoner(forge), ("127.0.0.1", 0))
    source = Recursive("127.0.0.1", transport.get_extra_info("sockname")[1], SystemClock())
    for _ in range(50):
        assert (await source.find(APEX, ASKED, TIMEOUT_S)).rdatas == (b"\x04true",)
    assert len(set(poisoner.ids)) > 45
    assert len(set(poisoner.ports)) > 25
    transport.close()
    await source.close()


async def test_1e5_forged_answers_from_elsewhere_and_none_is_accepted() -> None:
    """One who does not see the questions: it floods ports and ids, from another port than the one asked."""
    loop = asyncio.get_running_loop()
    transport, poisoner = await loop.create_datagram_endpoint(
        lambda: Poisoner(lambda _: [], truth=False), ("127.0.0.1", 0)
    )
    source = Recursive("127.0.0.1", transport.get_extra_info("sockname")[1], SystemClock())
    asking = asyncio.ensure_future(source.find(APEX, ASKED, 60.0))
    while not poisoner.ports:
        await asyncio.wait([asking], timeout=0.001)
    flood, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    for number in range(100_000):
        # It is even told the port and the id; but not the port from which the answer has to come.
        flood.sendto(poisoner.ids[-1].to_bytes(2, "big") + POISON[2:], ("127.0.0.1", poisoner.ports[-1]))
        if number % 500 == 0:
            await asyncio.sleep(0)
    assert not asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    flood.close()
    transport.close()
    await source.close()
