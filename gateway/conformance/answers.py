"""The rules about how any question is answered, whatever the zone holds."""

from __future__ import annotations

import secrets

import dns.edns
import dns.flags
import dns.message
import dns.opcode

from gateway.conformance.asker import PAYLOAD, Asker, code, records_of, soa_in
from gateway.conformance.rules import Findings
from registry.dns.wire import MIN_UDP
from registry.geometry.cell import Naming

_PIPELINED = 20
_ANOTHER_ZONE = "kindred-conformance.invalid."  # RFC 6761 section 6.4: nobody's
_UNKNOWN_OPTION = 65_001  # for local use, RFC 6891 section 9


class Answers:
    """Each method looks at one thing, and raises LookupFailed where no answer comes."""

    def __init__(self, asker: Asker, findings: Findings, naming: Naming) -> None:
        self._asker = asker
        self._findings = findings
        self._naming = naming

    async def negative(self) -> None:
        """A name that nobody can have published, and a type that the apex does not have."""
        for rule, name, rtype, right in (
            ("nxdomain", f"x{secrets.token_hex(8)}.{self._naming.apex}", "SVCB", "NXDOMAIN"),
            ("nodata", self._naming.apex, "AAAA", "NOERROR"),
        ):
            answer = await self._asker.ask(name, rtype)
            soa = soa_in(answer.authority)
            right_code = code(answer) == right and not answer.answer and soa is not None
            told = f"{name} {rtype}: {code(answer)}, {len(answer.answer)} records, {'an' if soa else 'no'} SOA"
            self._findings.check(rule, right_code, told)
            self._authoritative(answer, name)
            if soa is not None:
                lesser = soa.ttl <= soa[0].minimum
                self._findings.check("negative-ttl", lesser, f"{name}: {soa.ttl} s, minimum {soa[0].minimum} s")

    async def case(self) -> None:
        """The apex in other letters."""
        name = "".join(c.upper() if i % 2 else c for i, c in enumerate(self._naming.apex))
        query = self._asker.query(name, "TXT")
        [answer] = await self._asker.over_tcp(query)
        lower = await self._asker.ask(self._naming.apex, "TXT")
        same = records_of(answer, "TXT") == records_of(lower, "TXT")
        self._findings.check("case", same, f"{name} TXT has other records than {self._naming.apex}")
        _, wire = await self._asker.over_udp(query)
        asked = query.to_wire()[12:]
        self._findings.check("case", wire[12 : 12 + len(asked)] == asked, f"the question {name} TXT is not repeated")

    async def sizes(self, names: list[tuple[str, str]]) -> None:
        """UDP against TCP: whole or TC, and never more than may be."""
        for name, rtype in names:
            [whole] = await self._asker.over_tcp(self._asker.query(name, rtype))
            for payload, limit in ((None, MIN_UDP), (MIN_UDP, MIN_UDP), (PAYLOAD, PAYLOAD), (4096, PAYLOAD)):
                edns = {} if payload is None else {"use_edns": 0, "payload": payload}
                answer, wire = await self._asker.over_udp(self._asker.query(name, rtype, **edns))
                told = f"{name} {rtype}, {'no EDNS' if payload is None else f'EDNS {payload}'}"
                self._findings.check("udp-size", len(wire) <= limit, f"{told}: {len(wire)} octets; {limit} may be")
                cut = bool(answer.flags & dns.flags.TC)
                same = sorted(records_of(answer, rtype)) == sorted(records_of(whole, rtype))
                self._findings.check("truncation", cut or same, f"{told}: records are missing, and TC is not set")

    async def edns(self) -> None:
        """OPT for OPT; options and versions that nobody knows."""
        apex = self._naming.apex
        option = dns.edns.GenericOption(dns.edns.OptionType.make(_UNKNOWN_OPTION), b"kindred")
        for asked, edns in ((False, {}), (True, {"use_edns": 0}), (True, {"use_edns": 0, "options": [option]})):
            answer, _ = await self._asker.over_udp(self._asker.query(apex, "SOA", **edns))
            told = f"{apex} SOA {'with' if asked else 'without'} OPT: {code(answer)}, EDNS {answer.edns}"
            right = code(answer) == "NOERROR" and (answer.edns == 0) == asked
            self._findings.check("edns", right, told)
        query = self._asker.query(apex, "SOA", use_edns=0)
        query.use_edns(1)
        answer, _ = await self._asker.over_udp(query)
        self._findings.check("badvers", code(answer) == "BADVERS", f"EDNS version 1: {code(answer)}")

    async def refusals(self) -> None:
        """Another zone, another opcode."""
        answer = await self._asker.ask(_ANOTHER_ZONE, "A")
        self._findings.check("refused", code(answer) == "REFUSED", f"{_ANOTHER_ZONE} A: {code(answer)}")
        query = bytearray(self._asker.query(self._naming.apex, "SOA").to_wire())
        query[2] = 15 << 3
        answer, _ = await self._asker.over_udp(bytes(query))
        self._findings.check("opcode", code(answer) == "NOTIMP", f"opcode 15: {code(answer)}")

    async def any(self) -> None:
        """All types of the apex at once."""
        answer, _ = await self._asker.over_udp(self._asker.query(self._naming.apex, "ANY", use_edns=0))
        sets = {rrset.rdtype for rrset in answer.answer}
        small = len(sets) <= 1 or bool(answer.flags & dns.flags.TC)
        self._findings.check("any", small, f"{self._naming.apex} ANY: {len(sets)} sets of records")

    async def pipelining(self) -> None:
        """Many questions, sent at once."""
        queries = [self._asker.query(self._naming.apex, "SOA") for _ in range(_PIPELINED)]
        answers = await self._asker.over_tcp(*queries)
        right = [code(answer) == "NOERROR" and bool(answer.answer) for answer in answers]
        self._findings.check("pipelining", all(right), f"{right.count(False)} of {len(right)} have no answer")

    def _authoritative(self, answer: dns.message.Message, name: str) -> None:
        self._findings.check("authoritative", bool(answer.flags & dns.flags.AA), f"{name}: without AA")
