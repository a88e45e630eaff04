"""What is said over UDP to those whose addresses may be forged."""

from __future__ import annotations

import asyncio
import random
import socket

import dns.message
from sample_zones import DOMAINS, NAMING, NESTED, ORIGIN, zone_set

from registry.clock import ManualClock
from registry.dns.wire import MAX_UDP
from registry.serving.limiter import AMPLIFICATION, MAX_PREFIXES, Limiter
from registry.serving.nameserver import NameServer
from registry.serving.responder import respond

ZONES = zone_set()
QUERY = dns.message.make_query(NAMING.apex, "SOA", use_edns=0).to_wire()
ANSWER = respond(ZONES, QUERY, MAX_UDP, False) or b""
RATE = 20.0


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def said(limiter: Limiter, sender: str, n: int) -> tuple[int, int, int]:
    """Of n questions from there: answered whole, cut short, not at all."""
    answers = [limiter.limit(QUERY, ANSWER, address(sender)) for _ in range(n)]
    whole = sum(answer == ANSWER for answer in answers)
    return whole, sum(answer is not None for answer in answers) - whole, answers.count(None)


def test_a_prefix_gets_its_rate_and_half_of_the_rest_is_sent_to_tcp() -> None:
    clock = ManualClock()
    limiter = Limiter(clock.monotonic, RATE)
    assert said(limiter, "192.0.2.1", 1000) == (40, 480, 480)
    clock.advance(1.0)
    assert said(limiter, "192.0.2.77", 100) == (20, 40, 40)  # of the same /24
    assert said(limiter, "192.0.3.1", 30) == (30, 0, 0)
    clock.advance(3600.0)
    assert said(limiter, "192.0.2.1", 41)[0] == 40


def test_prefixes_of_ipv6_are_56_bits_and_mapped_addresses_are_ipv4() -> None:
    limiter = Limiter(ManualClock().monotonic, RATE)
    assert said(limiter, "2001:db8:0:1::1", 40)[0] == 40
    assert said(limiter, "2001:db8:0:fe::2", 1)[0] == 0
    assert said(limiter, "2001:db8:0:100::2", 1)[0] == 1
    assert said(limiter, "::ffff:192.0.2.1", 40)[0] == 40
    assert said(limiter, "192.0.2.2", 1)[0] == 0
    assert said(limiter, "::ffff:198.51.100.1", 1)[0] == 1


def test_loopback_is_exempt() -> None:
    limiter = Limiter(ManualClock().monotonic, RATE)
    for sender in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert said(limiter, sender, 500) == (500, 0, 0)
    assert said(Limiter(ManualClock().monotonic, RATE, exempt_loopback=False), "127.0.0.1", 500)[0] == 40


def test_memory_is_bounded_and_the_busy_are_not_forgotten() -> None:
    limiter = Limiter(ManualClock().monotonic, RATE)
    chance = random.Random(1)  # noqa: S311
    assert said(limiter, "192.0.2.1", 60)[0] == 40
    for _ in range(3 * MAX_PREFIXES):
        limiter.limit(QUERY, ANSWER, chance.randbytes(4))
        assert limiter.limit(QUERY, ANSWER, address("192.0.2.1")) != ANSWER
    assert len(limiter) <= MAX_PREFIXES


def test_no_answer_is_over_three_times_its_question() -> None:
    """Every name and type that is published, and what is not, with and without EDNS; octets of UDP payload."""
    limiter = Limiter(ManualClock().monotonic, 1e9)
    names = [f"x.{ORIGIN}", f"x.{NAMING.apex}", f"net.{NAMING.apex}", NESTED.cell(1, ()), "a."]
    types = ["SVCB", "TXT", "SOA", "NS", "URI", "A", "AAAA", "ANY", "DS"]
    for zone in ZONES.by_apex.values():
        names += [dns.name.from_wire(owner, 0)[0].to_text() for owner, _ in zone.rrsets()]
    largest = 0.0
    for zones in (ZONES, zone_set(domains=DOMAINS[:1])):
        for name in set(names):
            for rtype in types:
                for edns in ({}, {"use_edns": 0, "payload": 4096}):
                    query = dns.message.make_query(name, rtype, **edns).to_wire()  # type: ignore[arg-type]
                    answer = respond(zones, query, MAX_UDP, False)
                    assert answer is not None
                    sent = limiter.limit(query, answer, address("192.0.2.1"))
                    assert sent is not None
                    assert sent == answer or sent[2] & 2  # whole, or TC
                    largest = max(largest, len(sent) / len(query))
    assert 2 < largest <= AMPLIFICATION


async def test_a_flood_in_anothers_name_is_capped_and_others_are_answered() -> None:
    """The victim is 127.0.7.0/24, from which somebody who is not there seems to ask."""
    clock = ManualClock()
    limiter = Limiter(clock.monotonic, RATE, exempt_loopback=False)
    server = NameServer(lambda: ZONES, limiter=limiter)
    await server.start()
    try:
        victims = [_asker(f"127.0.7.{i}", server.port) for i in range(1, 9)]
        bystander = _asker("127.0.8.1", server.port)
        asked = told = whole = 0
        for _ in range(50):
            for victim in victims:
                victim.send(QUERY)
                asked += len(QUERY)
            bystander.send(QUERY)
            got = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(bystander, 2000), 5)
            assert got == ANSWER
            clock.advance(0.05)
            for victim in victims:
                while (octets := _received(victim)) is not None:
                    told += len(octets)
                    whole += octets == ANSWER
        seconds = 50 * 0.05
        assert RATE <= whole <= RATE * (2 + seconds)
        assert told <= asked
        # Whoever really asks from there is answered over TCP.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.7.1", 0))
        writer.write(len(QUERY).to_bytes(2, "big") + QUERY)
        assert (await reader.readexactly(2 + len(ANSWER)))[2:] == ANSWER
        writer.close()
        for each in (*victims, bystander):
            each.close()
    finally:
        await server.close()


def _asker(host: str, port: int) -> socket.socket:
    asker = socket.socket(type=socket.SOCK_DGRAM)
    asker.bind((host, 0))
    asker.connect(("127.0.0.1", port))
    asker.setblocking(False)
    return asker


def _received(asker: socket.socket) -> bytes | None:
    try:
        return asker.recv(2000)
    except BlockingIOError:
        return None
