"""One question after another to the registry that is examined, as messages; what is no message is a failure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from gateway.conformance.wire import Wire
from registry.errors import LookupFailed

PAYLOAD = 1232  # octets, RFC 9715


class Asker:
    """Questions of class IN to one server."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = count(1)

    def query(self, name: str, rtype: str, **edns: object) -> dns.message.QueryMessage:
        """A question without recursion, with an id of its own; EDNS as make_query has it."""
        ident = next(self._ids) & 0xFFFF
        return dns.message.make_query(name, rtype, id=ident, flags=0, **edns)  # type: ignore[arg-type]

    async def over_tcp(self, *queries: dns.message.Message) -> list[dns.message.Message]:
        """The answers. Raises LookupFailed."""
        wires = await self._wire.tcp([query.to_wire() for query in queries])
        return [_parsed(wire, query) for wire, query in zip(wires, queries, strict=True)]

    async def over_udp(self, query: dns.message.Message | bytes) -> tuple[dns.message.Message, bytes]:
        """The answer, and its octets. Raises LookupFailed."""
        wire = await self._wire.udp(query if isinstance(query, bytes) else query.to_wire())
        return _parsed(wire, query), wire

    async def ask(self, name: str, rtype: str) -> dns.message.Message:
        """The answer over TCP. Raises LookupFailed."""
        [answer] = await self.over_tcp(self.query(name, rtype))
        return answer


def _parsed(wire: bytes, query: dns.message.Message | bytes) -> dns.message.Message:
    try:
        answer = dns.message.from_wire(wire, one_rr_per_rrset=True)  # so that each record shows its own time to live
    except Exception as error:  # dnspython raises more than its own on hostile octets
        raise LookupFailed(f"the answer is no DNS message: {type(error).__name__}", rcode="GARBAGE") from None
    if not answer.flags & dns.flags.QR:
        raise LookupFailed("the answer is a question", rcode="GARBAGE")
    asked = None if isinstance(query, bytes) else query.question
    if asked and answer.question and answer.question != asked:
        raise LookupFailed(f"the answer is to {answer.question[0]}, the question was {asked[0]}", rcode="GARBAGE")
    return answer


def records_of(answer: dns.message.Message, rtype: str) -> list[bytes]:
    """RDATA in wire form of the records of that type in the answer section."""
    wanted = dns.rdatatype.from_text(rtype)
    return [rdata.to_wire() or b"" for rrset in answer.answer if rrset.rdtype == wanted for rdata in rrset]


def soa_in(section: Sequence[dns.rrset.RRset]) -> dns.rrset.RRset | None:
    """The SOA among these, if there is exactly one."""
    found = [rrset for rrset in section if rrset.rdtype == dns.rdatatype.SOA and len(rrset) == 1]
    return found[0] if len(found) == 1 else None


def code(answer: dns.message.Message) -> str:
    """NOERROR, NXDOMAIN, ..."""
    return dns.rcode.to_text(answer.rcode())
