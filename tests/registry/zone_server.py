"""A small authoritative server over a dnspython zone, whose answers a test may bend: UDP and TCP on any address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

Edit = Callable[[dns.message.Message], object]


def zone_of(apex: str, text: str, serial: int = 1_800_000_000) -> dns.zone.Zone:
    """A zone from the lines of a zone file, with an SOA of its own; names are relative to the apex."""
    soa = f"@ 10 IN SOA ns hostmaster {serial} 30 10 86400 10\n@ 30 IN NS ns\n"
    return dns.zone.from_text(soa + text, origin=apex, relativize=False, check_origin=False)


def answer_from(zone: dns.zone.Zone, query: dns.message.Message) -> dns.message.Message:
    """What an authority for the zone answers: an answer, a referral, or no."""
    response = dns.message.make_response(query)
    [asked] = query.question
    assert zone.origin is not None
    if not asked.name.is_subdomain(zone.origin):
        response.set_rcode(dns.rcode.REFUSED)
        return response
    dnssec = bool(query.ednsflags & dns.flags.DO)
    cut = _cut_above(zone, asked.name, asked.rdtype == dns.rdatatype.DS)
    if cut is not None:
        _add(response.authority, zone, cut, dns.rdatatype.NS, signed=False)
        for each in response.authority[0]:
            for rtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                _add(response.additional, zone, each.target, rtype, signed=False)
        return response
    response.flags |= dns.flags.AA
    if _add(response.answer, zone, asked.name, asked.rdtype, signed=dnssec):
        return response
    below = any(name.is_subdomain(asked.name) for name in zone.nodes)
    response.set_rcode(dns.rcode.NOERROR if below else dns.rcode.NXDOMAIN)
    _add(response.authority, zone, zone.origin, dns.rdatatype.SOA, signed=dnssec)
    return response


def _cut_above(zone: dns.zone.Zone, name: dns.name.Name, above: bool) -> dns.name.Name | None:
    assert zone.origin is not None
    for depth in range(len(zone.origin) + 1, len(name) + (0 if above else 1)):
        cut = name.split(depth)[1]
        if zone.get_rdataset(cut, dns.rdatatype.NS) is not None:
            return cut
    return None


def _add(
    section: list[dns.rrset.RRset],
    zone: dns.zone.Zone,
    name: dns.name.Name,
    rtype: dns.rdatatype.RdataType,
    signed: bool,
) -> bool:
    found = zone.get_rrset(name, rtype)
    if found is None:
        return False
    section.append(found)
    signatures = zone.get_rrset(name, dns.rdatatype.RRSIG, rtype) if signed else None
    if signatures is not None:
        section.append(signatures)
    return True


class ZoneServer:
    """Serves one zone on host and port; `edit` may change each response, `silent` gives none.

    asked: the names and types that came, in order.
    """

    def __init__(self, zone: dns.zone.Zone, host: str, port: int, edit: Edit | None = None) -> None:
        self.zone = zone
        self.host = host
        self.port = port
        self.edit = edit
        self.silent = False
        self.asked: list[tuple[str, str]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> ZoneServer:
        self._tcp = await asyncio.start_server(self._serve, self.host, self.port)
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self.host, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._tcp.wait_closed()

    def respond(self, message: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(message)
        [asked] = query.question
        self.asked.append((asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype)))
        response = answer_from(self.zone, query)
        if self.edit is not None:
            self.edit(response)
        return None if self.silent else response

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                response = self.respond(message)
                if response is not None:
                    wire = response.to_wire(max_size=65535)
                    writer.write(len(wire).to_bytes(2, "big") + wire)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ZoneServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._server.respond(data)
        if response is None:
            return
        wire = response.to_wire(max_size=65535)
        if len(wire) > 1232:
            short = dns.message.make_response(dns.message.from_wire(data))
            short.flags |= dns.flags.TC
            wire = short.to_wire()
        self._transport.sendto(wire, addr)  # type: ignore[attr-defined]
