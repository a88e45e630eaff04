"""Datagrams in batches and one by one: each answer to its asker, nothing else to anybody."""

from __future__ import annotations

import socket

import pytest

from registry.dns.datagrams import BATCH, Answer, Datagrams, _Batches, _OneByOne, datagrams

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def bound(family: int) -> socket.socket:
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp.bind((HOSTS[family], 0))
    except OSError:
        udp.close()
        pytest.skip("this machine has no IPv6 loopback")
    udp.setblocking(False)
    return udp


def received(asker: socket.socket) -> list[bytes]:
    """All that has come; loopback delivers within the call that sends."""
    found = []
    while True:
        try:
            found.append(asker.recv(2000))
        except BlockingIOError:
            return found


def echoing(query: bytes, sender: bytes) -> bytes | None:
    """Nothing for what starts with x; else who asked, and what."""
    return None if query.startswith(b"x") else sender + query


def test_batches_are_what_this_system_has() -> None:
    with bound(socket.AF_INET) as udp:
        assert isinstance(datagrams(udp, echoing), _Batches)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("way", [_Batches, _OneByOne])
class TestBoth:
    def test_each_asker_gets_its_own_answers(self, way: type[_Batches | _OneByOne], family: int) -> None:
        with bound(family) as udp, bound(family) as one, bound(family) as other:
            served: Datagrams = way(udp, echoing)
            address = socket.inet_pton(family, HOSTS[family])
            for i in range(3 * BATCH // 2):
                for asker in (one, other):
                    name = b"x" if i % 5 == 0 else b"%d-%d" % (i, asker.getsockname()[1])
                    asker.sendto(name, udp.getsockname())
            for _ in range(4):  # the last one finds nothing
                served.serve()
            for asker in (one, other):
                wanted = [b"%d-%d" % (i, asker.getsockname()[1]) for i in range(3 * BATCH // 2) if i % 5]
                assert received(asker) == [address + each for each in wanted]

    def test_empty_and_long_datagrams(self, way: type[_Batches | _OneByOne], family: int) -> None:
        lengths = []

        def measuring(query: bytes, sender: bytes) -> bytes | None:
            lengths.append(len(query))
            return bytes(1232)

        with bound(family) as udp, bound(family) as asker:
            for length in (0, 1, 1232, 1233, 5000):
                asker.sendto(bytes(length), udp.getsockname())
            way(udp, measuring).serve()
            assert lengths[:4] == [0, 1, 1232, 1233]
            assert lengths[4] > 1232
            assert received(asker) == [bytes(1232)] * 5

    def test_an_asker_that_is_gone_costs_the_others_nothing(self, way: type[_Batches | _OneByOne], family: int) -> None:
        with bound(family) as udp, bound(family) as asker:
            answer: Answer = echoing
            served: Datagrams = way(udp, answer)
            for _ in range(3):
                gone = bound(family)
                gone.sendto(b"gone", udp.getsockname())
                gone.close()
                asker.sendto(b"here", udp.getsockname())
                served.serve()
                served.serve()
            assert [each[-4:] for each in received(asker)] == [b"here"] * 3
