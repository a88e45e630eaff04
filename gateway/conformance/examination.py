"""A whole examination of one domain: its apex, how the server answers, its tree, whether its serial grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import dns.flags
import dns.message

from gateway.conformance.answers import Answers
from gateway.conformance.asker import Asker, code, records_of
from gateway.conformance.rules import Findings
from gateway.conformance.tree import Tree
from gateway.conformance.wire import Wire
from registry.clock import Clock
from registry.dns.message import soa_numbers, txt_strings
from registry.dns.wire import MAX_TTL
from registry.errors import LookupFailed
from registry.geometry.cell import Naming
from registry.zones.texts import ApexText

MAX_AGE_S = 60.0  # serials are bumped every 30 s at least, and a secondary may follow a little later
AHEAD_S = 5.0  # by which clocks may differ
MOST_CELLS = 200
MOST_NETWORKS = 50
_POLL_S = 1.0

Sleep = Callable[[float], Awaitable[None]]
_Found = TypeVar("_Found")


class Examination:
    """Of one domain at one server. What is wrong is in `findings`; nothing is raised for it."""

    def __init__(
        self,
        wire: Wire,
        naming: Naming,
        clock: Clock,
        *,
        max_age_s: float = MAX_AGE_S,
        wait_s: float = 0.0,
        most_cells: int = MOST_CELLS,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """wait_s: how long to wait for the serial to grow; 0: only whether it goes back is looked at."""
        self.findings = Findings()
        self.tree: Tree | None = None
        self._asker = Asker(wire)
        self._naming = naming
        self._clock = clock
        self._max_age_s = max_age_s
        self._wait_s = wait_s
        self._most_cells = most_cells
        self._sleep = sleep

    async def run(self) -> Findings:
        """Look at every rule that can be looked at."""
        first = await self._noted(self._serial())
        text = await self._noted(self._apex())
        answers = Answers(self._asker, self.findings, self._naming)
        apex = self._naming.apex
        sized = [(apex, "TXT"), (apex, "SOA")]
        if text is not None and text.generation:
            sized.append((self._naming.cell(text.generation, ()), "SVCB"))
        for part in (
            answers.negative(),
            answers.case(),
            answers.sizes(sized),
            answers.edns(),
            answers.refusals(),
            answers.any(),
            answers.pipelining(),
        ):
            await self._noted(part)
        if text is not None and text.generation:
            await self._noted(self._walk(text))
        if first is not None:
            await self._noted(self._growth(first))
        return self.findings

    async def _noted(self, part: Awaitable[_Found]) -> _Found | None:
        """What the part found; None where the server did not answer it."""
        try:
            found = await part
        except LookupFailed as error:
            self.findings.check("reachable", False, error.detail)
            return None
        self.findings.check("reachable", True, "")
        return found

    async def _serial(self) -> int | None:
        """The serial of the SOA; how old it is is noted. Raises LookupFailed."""
        answer = await self._asker.ask(self._naming.apex, "SOA")
        rdatas = records_of(answer, "SOA")
        told = f"{self._naming.apex} SOA: {code(answer)}, {len(rdatas)} records"
        if not self.findings.check("apex-soa", len(rdatas) == 1, told):
            return None
        self._check_set(answer, f"{self._naming.apex} SOA")
        return soa_numbers(rdatas[0])[0]

    async def _apex(self) -> ApexText | None:
        """What the apex says, where it can be read. Raises LookupFailed."""
        apex = self._naming.apex
        texts, servers, soa = await self._asker.over_tcp(
            self._asker.query(apex, "TXT"), self._asker.query(apex, "NS"), self._asker.query(apex, "SOA")
        )
        self.findings.check("apex-ns", bool(records_of(servers, "NS")), f"{apex} has no NS records: {code(servers)}")
        rdatas = records_of(texts, "TXT")
        try:
            if len(rdatas) != 1:
                raise LookupFailed(f"{len(rdatas)} TXT records: {code(texts)}")
            text = ApexText.from_strings(txt_strings(rdatas[0]))
        except (LookupFailed, ValueError) as error:
            self.findings.check("apex-text", False, f"{apex}: {error}")
            return None
        self.findings.check("apex-text", True, "")
        self._check_set(texts, f"{apex} TXT")
        # A server that signs has serials of its own; what the registry published then stands in the TXT.
        published = text.serial
        if published is None and len(records_of(soa, "SOA")) == 1:
            published = soa_numbers(records_of(soa, "SOA")[0])[0]
        if published is not None:
            age = self._clock.now() - published
            fresh = -AHEAD_S <= age <= self._max_age_s
            self.findings.check("serial-fresh", fresh, f"the serial {published} is {age:.0f} s old")
        return text

    async def _walk(self, text: ApexText) -> None:
        """The tree; a second time where it looks wrong, for it may have changed meanwhile. Raises LookupFailed."""
        self.tree = tree = Tree(self._asker, self.findings, self._naming, text)
        await tree.walk(self._most_cells)
        if self.findings.forget("cell-"):
            self.tree = tree = Tree(self._asker, self.findings, self._naming, await self._apex() or text)
            await tree.walk(self._most_cells)
        await tree.check_networks(MOST_NETWORKS)

    async def _growth(self, first: int) -> None:
        """Whether the serial goes back, and whether it grows within the time given. Raises LookupFailed."""
        latest = first
        for waited in range(1 + int(self._wait_s / _POLL_S)):
            if waited:
                await self._sleep(_POLL_S)
            serial = await self._serial()
            if serial is None:
                return
            back = (serial - latest) & 0xFFFFFFFF >= 1 << 31  # RFC 1982
            if not self.findings.check("serial-grows", not back, f"the serial went back, from {latest} to {serial}"):
                return
            latest = serial
            if latest != first:
                return
        if self._wait_s:
            self.findings.check("serial-grows", False, f"the serial {first} has not grown in {self._wait_s:.0f} s")

    def _check_set(self, answer: dns.message.Message, what: str) -> None:
        self.findings.check("authoritative", bool(answer.flags & dns.flags.AA), f"{what}: without AA")
        ttls = {rrset.ttl for rrset in answer.answer}
        self.findings.check(
            "ttl", len(ttls) == 1 and 1 <= min(ttls) <= MAX_TTL, f"{what}: times to live {sorted(ttls)}"
        )
