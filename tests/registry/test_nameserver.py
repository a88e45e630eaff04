"""The live name server, asked by dig, kdig, dnspython and by clients that do not behave."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from sample_zones import NAMING, ORIGIN, SERIAL, zone_set

from registry.errors import ConfigError
from registry.serving import nameserver
from registry.serving.nameserver import NameServer
from registry.zones.zone import ZoneSet
from tests.ports import free_port
from tests.programs import program

ROOT = NAMING.cell(17, ())
WIDE = NAMING.cell(17, (1,))
QUERY = dns.message.make_query(ROOT, "SVCB", id=4711).to_wire()


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    zones = zone_set()
    started = NameServer(lambda: zones)
    await started.start()
    yield started
    await started.close()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


async def read_message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


async def run(tool: str, server: NameServer, *arguments: str) -> str:
    """Output of dig or kdig, white space evened out; a missing tool fails in CI and skips elsewhere."""
    process = await asyncio.create_subprocess_exec(
        program(tool), "@127.0.0.1", "-p", str(server.port), *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return "\n".join(" ".join(line.split()) for line in output.decode().splitlines())


@pytest.mark.parametrize("tool", ["dig", "kdig"])
class TestTools:
    async def test_svcb_is_shown(self, server: NameServer, tool: str) -> None:
        output = await run(tool, server, "+norec", ROOT, "SVCB")
        assert "status: NOERROR" in output
        assert "aa" in output.split("lags:")[1].split(";")[0]
        for child in range(3):
            assert f"SVCB 1 {child}.g17.{NAMING.apex} " in output
        for key in range(65280, 65287):
            assert output.count(f" key{key}=") == 3

    async def test_truncated_over_udp_then_asked_over_tcp(self, server: NameServer, tool: str) -> None:
        cut = await run(tool, server, "+norec", "+ignore", WIDE, "SVCB")
        assert "tc" in cut.split("lags:")[1].split(";")[0]
        assert "ANSWER: 0" in cut
        whole = await run(tool, server, "+norec", WIDE, "SVCB")
        assert whole.count("SVCB 1 psu-") == 16
        assert "TCP" in whole

    async def test_nxdomain_and_nodata_with_soa(self, server: NameServer, tool: str) -> None:
        missing = await run(tool, server, "+norec", NAMING.cell(17, (7,)), "SVCB")
        empty = await run(tool, server, "+norec", ROOT, "TXT")
        assert "status: NXDOMAIN" in missing
        assert "status: NOERROR" in empty
        for output in (missing, empty):
            assert "ANSWER: 0" in output
            soa = f"{NAMING.apex} 10 IN SOA ns.{ORIGIN} hostmaster.{ORIGIN} {SERIAL} 30 10 86400 10"
            assert soa in output.splitlines()

    async def test_badvers(self, server: NameServer, tool: str) -> None:
        arguments = ["+edns=1", "+noednsneg"] if tool == "dig" else ["+edns=1"]
        assert "BADVERS" in await run(tool, server, "+norec", *arguments, ROOT, "SVCB")

    async def test_any_and_foreign_zones(self, server: NameServer, tool: str) -> None:
        assert 'HINFO "RFC8482" ""' in await run(tool, server, "+norec", "+notcp", WIDE, "ANY")
        assert "status: REFUSED" in await run(tool, server, "+norec", "example.com.", "A")

    async def test_texts_and_endpoints_read_well(self, server: NameServer, tool: str) -> None:
        apex = await run(tool, server, "+short", NAMING.apex, "TXT")
        assert apex.startswith('"v=kindred1" "gen=17" "space=0001')
        assert '"action=belt" "action=none"' in apex
        uris = await run(tool, server, "+short", NAMING.network("psu-00"), "URI")
        assert uris.splitlines()[0] == '1 1 "http://127.0.0.1:8101/psu-00"'
        assert '"serial=12"' in await run(tool, server, "+short", NAMING.network("psu-00"), "TXT")

    async def test_cookies_and_opcodes(self, server: NameServer, tool: str) -> None:
        assert "status: NOERROR" in await run(tool, server, "+norec", "+cookie", ROOT, "SVCB")
        if tool == "dig":
            assert "status: NOTIMP" in await run(tool, server, "+opcode=15", ROOT, "SVCB")


async def test_udp_and_tcp_share_a_port(server: NameServer) -> None:
    query = dns.message.make_query(ROOT, "SVCB")
    over_udp = await dns.asyncquery.udp(query, "127.0.0.1", port=server.port, timeout=5)
    over_tcp = await dns.asyncquery.tcp(query, "127.0.0.1", port=server.port, timeout=5)
    assert over_udp.flags & 0x0200
    assert len(over_tcp.answer[0]) == 3


async def test_pipelined_questions_are_answered_in_order(server: NameServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"".join(framed(i.to_bytes(2, "big") + QUERY[2:]) for i in range(500)))
    answers = [await read_message(reader) for _ in range(500)]
    assert [int.from_bytes(answer[:2], "big") for answer in answers] == list(range(500))
    assert len({answer[2:] for answer in answers}) == 1
    writer.close()


async def test_questions_in_pieces(server: NameServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for octet in framed(QUERY):
        writer.write(bytes([octet]))
        await writer.drain()
    assert (await read_message(reader))[:2] == QUERY[:2]
    writer.close()


async def test_a_peer_that_does_not_read_costs_little_and_hinders_nobody(server: NameServer) -> None:
    greedy_reader, greedy = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    wide = dns.message.make_query(WIDE, "SVCB").to_wire()
    greedy.write(framed(wide) * 20_000)
    for _ in range(500):
        answer = await dns.asyncquery.tcp(
            dns.message.make_query(ROOT, "SVCB"), "127.0.0.1", port=server.port, timeout=5
        )
        assert answer.rcode() == dns.rcode.NOERROR
        if any(each._paused for each in server._connections):
            break
    [connection] = [each for each in server._connections if each._paused]
    assert connection._transport is not None
    assert not connection._transport.is_reading()
    assert connection._transport.get_write_buffer_size() < 1_000_000
    for _ in range(100):  # and goes on where it stood once the peer reads
        assert len(await read_message(greedy_reader)) > 3000
    greedy.close()


@pytest.mark.parametrize("sent", [framed(b""), framed(b"abc"), framed(QUERY[:2] + b"\x84" + QUERY[3:])])
async def test_what_is_no_question_ends_the_connection(server: NameServer, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_message(reader)
    writer.close()


async def test_a_malformed_question_gets_formerr_and_the_connection_lives_on(server: NameServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(framed(QUERY + b"x") + framed(QUERY[:12] + b"\0" * 4000) + framed(QUERY))
    assert (await read_message(reader))[3] & 0xF == dns.rcode.FORMERR
    assert (await read_message(reader))[3] & 0xF == dns.rcode.FORMERR
    assert (await read_message(reader))[3] & 0xF == dns.rcode.NOERROR
    writer.close()


async def test_idle_connections_are_closed_however_slowly_they_send() -> None:
    zones = zone_set()
    server = NameServer(lambda: zones, idle_s=0.05)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(framed(QUERY)[:9])
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_message(reader)
    writer.close()
    await server.close()


async def test_connections_are_capped_and_the_idlest_makes_room(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nameserver, "MAX_CONNECTIONS", 3)
    first, second, third = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    for reader, writer in (first, second, third, first):  # second has asked nothing for longest
        writer.write(framed(QUERY))
        await read_message(reader)
    fourth = await asyncio.open_connection("127.0.0.1", server.port)
    for reader, writer in (fourth, first, third):
        writer.write(framed(QUERY))
        assert (await read_message(reader))[:2] == QUERY[:2]
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_message(second[0])
    assert len(server._connections) == 3
    for _, writer in (first, second, third, fourth):
        writer.close()


async def test_whatever_goes_wrong_is_servfail(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> ZoneSet:
        raise RuntimeError("no zones today")

    server = NameServer(broken)
    await server.start()
    for ask in (dns.asyncquery.udp, dns.asyncquery.tcp):
        answer = await ask(
            dns.message.make_query(ROOT, "SVCB"), "127.0.0.1", port=server.port, timeout=5, ignore_trailing=True
        )
        assert answer.rcode() == dns.rcode.SERVFAIL
    await server.close()
    assert "no zones today" in caplog.text
    assert "g17" not in caplog.text


async def test_a_flood_of_mutated_datagrams_leaves_good_questions_answered(server: NameServer) -> None:
    chance = random.Random(5)  # noqa: S311
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", server.port))
    for _ in range(30):
        for _ in range(40):
            mutated = bytearray(QUERY)
            for _ in range(chance.randint(1, 6)):
                mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            sender.send(bytes(mutated[: chance.randint(0, len(mutated))]))
        answer = await dns.asyncquery.udp(
            dns.message.make_query(NAMING.apex, "SOA"), "127.0.0.1", port=server.port, timeout=5
        )
        assert answer.rcode() == dns.rcode.NOERROR
    sender.close()


async def test_a_port_in_use_is_named(server: NameServer) -> None:
    with pytest.raises(ConfigError, match=f"127.0.0.1 port {server.port}.*in use"):
        await NameServer(ZoneSet, port=server.port).start()


async def test_udp_alone_in_use_is_named_and_nothing_stays_bound() -> None:
    port = free_port()
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("127.0.0.1", port))
    with pytest.raises(ConfigError, match="in use"):
        await NameServer(ZoneSet, port=port).start()
    holder.close()
    server = NameServer(ZoneSet, port=port)
    await server.start()
    assert server.port == port
    await server.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_cannot_be_had_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        await NameServer(ZoneSet, host=host).start()


async def test_ipv6() -> None:
    zones = zone_set()
    server = NameServer(lambda: zones, host="::1")
    try:
        await server.start()
    except ConfigError:
        pytest.skip("this machine has no IPv6 loopback")
    for ask in (dns.asyncquery.udp, dns.asyncquery.tcp):
        answer = await ask(dns.message.make_query(NAMING.apex, "SOA"), "::1", port=server.port, timeout=5)
        assert answer.answer
    await server.close()


async def test_close_ends_connections_and_frees_the_port(server: NameServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(framed(QUERY))
    await read_message(reader)
    port = server.port
    await server.close()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_message(reader)
    writer.close()
    again = NameServer(ZoneSet, port=port)
    await again.start()
    await again.close()


async def test_zones_are_those_of_the_moment() -> None:
    current = [zone_set(SERIAL)]
    server = NameServer(lambda: current[0])
    await server.start()
    for serial in (SERIAL, SERIAL + 1):
        current[0] = zone_set(serial)
        answer = await dns.asyncquery.udp(
            dns.message.make_query(NAMING.apex, "SOA"), "127.0.0.1", port=server.port, timeout=5
        )
        assert answer.answer[0][0].serial == serial
    await server.close()
