"""Mutated DNS over UDP and TCP, a good question every hundred: each of those is answered, and memory does not grow.

100,000 packets in a usual run, `make soak` sends 1,000,000 (KINDRED_SOAK says how many). The seed is printed where a
test fails, and can be given (KINDRED_SEED).
"""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path

import dns.edns
import dns.message
import dns.tsig
import pytest

from registry.dns.wire import HEADER, MAX_UDP
from registry.serving.responder import respond
from tests.registry.sample_zones import NAMING, NESTED, ORIGIN, zone_set

PACKETS = int(os.environ.get("KINDRED_SOAK", "100000"))
SEED = int(os.environ.get("KINDRED_SEED", "0")) or random.SystemRandom().getrandbits(32)
MOST_GROWTH = 20 * 2**20  # octets of memory
BATCH = 99  # bad ones for a good one
PATIENCE_S = 30.0
ROOT = Path(__file__).parent.parent.parent

ZONES = zone_set()
NAMES = (
    ORIGIN,
    NAMING.apex,
    NESTED.apex,
    NAMING.cell(17, ()),
    NAMING.cell(17, (1,)),
    NAMING.cell(17, (9,)),
    NAMING.network("psu-00"),
    f"net.{NAMING.apex}",
    "example.com.",
)


def corpus() -> list[bytes]:
    """Well-formed messages to start from."""
    cookie = [dns.edns.GenericOption(10, b"12345678")]
    types = ("SVCB", "TXT", "SOA", "NS", "ANY", "DS", "AXFR", "IXFR")
    edns: tuple[dict[str, object], ...] = ({}, {"use_edns": 0, "payload": 4096}, {"use_edns": 0, "options": cookie})
    asked = [
        dns.message.make_query(name, rtype, **options)  # type: ignore[arg-type]
        for name, rtype, options in product(NAMES, types, edns)
    ]
    for query in asked[::5]:
        query.use_tsig(dns.tsig.Key("k1.", b"0123456789abcdef0123456789abcdef"))
    return [query.to_wire() for query in asked]


def mutated(chance: random.Random, good: list[bytes]) -> bytes:
    """One of many ways to spoil a question."""
    octets = bytearray(chance.choice(good))
    for _ in range(chance.randrange(4)):
        way = chance.randrange(7)
        place = chance.randrange(len(octets)) if octets else 0
        if way == 0 and octets:
            octets[place] = chance.randrange(256)
        elif way == 1 and octets:
            octets[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            del octets[place:]
        elif way == 3:
            octets[place:place] = chance.randbytes(chance.randrange(20))
        elif way == 4:
            octets[4:12] = struct.pack("!4H", *chance.choices((0, 1, 2, 255, 65535), k=4))
        elif way == 5:
            octets += chance.choice(good)[12:]
        else:
            octets[12:] = chance.randbytes(chance.choice((0, 1, 30, 500, 1300)))
    return bytes(octets)


@pytest.fixture
def server() -> Iterator[tuple[int, int]]:
    """Port and process id of a name server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.server"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
        assert process.poll() is None, "the name server has ended"
    finally:
        process.communicate()


def memory(pid: int) -> int:
    """Octets of resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def good_question(chance: random.Random) -> tuple[bytes, bytes, bytes]:
    """It, and its answers over UDP and TCP."""
    query = dns.message.make_query(chance.choice(NAMES), chance.choice(("SVCB", "TXT", "SOA")), use_edns=0).to_wire()
    over_udp, over_tcp = respond(ZONES, query, MAX_UDP, False), respond(ZONES, query, 65535, True)
    assert over_udp is not None
    assert over_tcp is not None
    return query, over_udp, over_tcp


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def read(connection: socket.socket) -> bytes:
    length = connection.recv(2, socket.MSG_WAITALL)
    return connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)


def connected(port: int, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", port))
    return connection


def test_mutated_datagrams(server: tuple[int, int]) -> None:
    port, pid = server
    sys.stdout.write(f"KINDRED_SEED={SEED}\n")
    chance = random.Random(SEED)  # noqa: S311
    good = corpus()
    with socket.socket(type=socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE_S)
        asker.connect(("127.0.0.1", port))
        before = 0
        for batch in range(PACKETS // 2 // (BATCH + 1)):
            for _ in range(BATCH):
                asker.send(mutated(chance, good))
            query, answer, _ = good_question(chance)
            asker.send(query)
            while asker.recv(65535) != answer:  # those to bad ones come first
                pass
            if batch == 20:  # warm
                before = memory(pid)
        assert memory(pid) - before < MOST_GROWTH


def test_mutated_streams(server: tuple[int, int]) -> None:
    """Batches of messages, of which any may end its connection; lengths that lie; ends in the middle."""
    port, pid = server
    sys.stdout.write(f"KINDRED_SEED={SEED}\n")
    chance = random.Random(SEED + 1)  # noqa: S311
    good = corpus()
    with connected(port) as steady:
        before = 0
        for batch in range(PACKETS // 2 // (BATCH + 1)):
            hostile = connected(port)
            messages = [mutated(chance, good) for _ in range(BATCH)]
            if chance.random() < 0.7:  # what is no question ends a connection, and these shall all be read
                messages = [each for each in messages if len(each) >= HEADER and not each[2] & 0x80]
            stream = b"".join(map(framed, messages))
            if chance.random() < 0.3:
                place = chance.randrange(len(stream))
                stream = stream[:place] + chance.randbytes(chance.randrange(9)) + stream[place + 1 :]
            with suppress(ConnectionError):
                hostile.sendall(stream)
            query, _, answer = good_question(chance)
            steady.sendall(framed(query))
            assert read(steady) == answer
            if chance.random() < 0.5:
                hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
            hostile.close()
            if batch == 20:
                before = memory(pid)
        assert memory(pid) - before < MOST_GROWTH


def test_hundreds_of_connections_that_ask_nothing_or_read_nothing(server: tuple[int, int]) -> None:
    """400 that stop half-way through a message and 60 that ask for much and read none of it: others are answered."""
    port, pid = server
    chance = random.Random(SEED + 2)  # noqa: S311
    wide = framed(dns.message.make_query(NAMING.cell(17, (1,)), "SVCB").to_wire())
    before = memory(pid)
    with ExitStack() as stack:
        steady = stack.enter_context(connected(port))
        for number in range(460):
            hostile = stack.enter_context(connected(port, 4096))
            with suppress(ConnectionError):
                if number % 8 == 0:
                    hostile.setblocking(False)
                    with suppress(BlockingIOError):
                        hostile.send(wide * 500)
                else:
                    hostile.sendall(chance.choice((b"", b"\0", b"\xff\xff", b"\xff\xff" + bytes(100), wide[:30])))
            if number % 20 == 0:
                query, over_udp, over_tcp = good_question(chance)
                steady.sendall(framed(query))
                assert read(steady) == over_tcp
                with connected(port) as fresh:
                    fresh.sendall(framed(query))
                    assert read(fresh) == over_tcp
                with socket.socket(type=socket.SOCK_DGRAM) as asker:
                    asker.settimeout(PATIENCE_S)
                    asker.connect(("127.0.0.1", port))
                    asker.send(query)
                    assert asker.recv(65535) == over_udp
        assert memory(pid) - before < MOST_GROWTH
