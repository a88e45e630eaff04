"""A registry as a member of another: of what it serves of a domain, it leases a summary there.

What a network hands in here is acknowledged only when the parent has published a summary that contains it, so whoever
walks down from the parent finds all that is called covered. A summary is larger than need be, and is sent anew when
what is served reaches beyond it, or has become much smaller. As long as the outcome of sending one is not known, the
parent may hold that one or the one before: then only what both contain counts (docs/decisions/014-subtrees.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from registry.clock import Clock
from registry.dns.wire import SVCB, name_to_wire
from registry.errors import InputError, KindredError, NotGranted, SignatureError, Unavailable, UnknownName
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.region import Bounds, Region, merge_counts
from registry.geometry.statement import holds, statement
from registry.geometry.summary import KEEP, MARGIN, still_right
from registry.publishing.coverage import Coverage
from registry.publishing.enrolment import Enrolment
from registry.publishing.lease import Lease
from registry.publishing.publisher import Publisher
from registry.zones.record import decode_cell

LOOK_S = 60.0  # it looks at least so often whether something is due
SPACING_S = 0.25  # between two summaries: the parent publishes each
MOST_HELD = 16  # summaries whose outcome is open; beyond, nothing counts until one is confirmed

log = logging.getLogger(__name__)


class Membership:
    """Of one domain, which is published here at `naming`, as the parent's member `name`."""

    def __init__(
        self, name: str, naming: Naming, enrolment: Enrolment, publisher: Publisher, lease: Lease, clock: Clock
    ) -> None:
        self.domain = naming.domain
        self.trouble: str | None = "the parent has published no summary yet"
        self._name = name
        self._naming = naming
        self._enrolment = enrolment
        self._publisher = publisher
        self._lease = lease
        self._clock = clock
        self._held: tuple[Region, ...] = ()  # the summaries of which the parent holds one
        self._known = False  # whether it is certain that it holds one of them
        self._serial = 0  # of the last summary that it accepted
        self._published = 0  # the parent's zone, when that was in it
        self._renew_at = float("inf")
        self._not_before = 0.0
        self._stirred = asyncio.Event()
        self._turned = asyncio.Event()  # set, and replaced, after each attempt
        publisher.on_published.append(self._look)

    async def covered(self) -> int:
        """Wait until the parent has published a summary of all that is served here now; returns its zone's serial.

        Raises Unavailable where the parent does not take it.
        """
        root = self._root()
        while not self._contains(root):
            self._stirred.set()
            await self._turned.wait()
            if self.trouble is not None:
                raise Unavailable(f"kept and published here, but not by the parent yet: {self.trouble}")
        return self._published

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            wait_s = await self.step()
            try:
                async with asyncio.timeout(wait_s):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def step(self) -> float:
        """Do what is due now; the seconds until something will be, if nothing is published before."""
        self._stirred.clear()
        root = self._root()
        now = self._clock.monotonic()
        if not root:  # what it knew may be lost: the parent keeps what it holds, flagged once the lease is over
            return LOOK_S
        wanted = self._wanted(root)
        if now >= self._not_before and (wanted or now >= self._renew_at):
            await self._attempt(root, wanted)
        due = max(self._not_before, 0.0 if self._wanted(root) else self._renew_at)
        return min(max(0.0, due - self._clock.monotonic()), LOOK_S)

    async def _attempt(self, root: Sequence[CellRecord], wanted: bool) -> None:
        """Send a summary, or renew the lease; where that fails, again after a pause."""
        try:
            if wanted or not await self._lease.renew(self._serial):
                await self._send(root)
            self._renew_at = self._clock.monotonic() + self._lease.renew_s
            self._not_before = self._clock.monotonic() + SPACING_S
            self._lease.succeeded()
            self.trouble = None
        except Exception as error:  # whatever it is: the parent must not be left with a lease that runs out for it
            pause = self._lease.pause()
            log.warning("%s as %s: again in %.1f s: %s", self.domain, self._name, pause, error)
            self.trouble = error.detail if isinstance(error, KindredError) else f"unforeseen {type(error).__name__}"
            self._not_before = self._clock.monotonic() + pause
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    async def _send(self, root: Sequence[CellRecord]) -> None:
        """Hand in a summary of `root`; one without a margin where the margin is not granted."""
        for margin in (MARGIN, 0.0):
            region = statement(self._name, [record.region for record in root], margin)
            before, known = self._held, self._known
            self._held, self._known = (*before, region)[-MOST_HELD:], known and len(before) < MOST_HELD
            try:
                coverage, _, published = await self._lease.cover(
                    self._serial, partial(self._summary, region), ask=not known
                )
            except (InputError, NotGranted, SignatureError, UnknownName) as refusal:
                self._held = before  # it has certainly not taken it
                if isinstance(refusal, NotGranted) and margin:
                    continue
                raise
            self._held, self._known = (region,), True
            self._serial, self._published = coverage.serial, published.published
            log.info("%s as %s: summary %d published", self.domain, self._name, coverage.serial)
            return

    def _summary(self, region: Region, serial: int, issued: float) -> Coverage:
        schema = self._enrolment.domain(self.domain).schema
        holdings = [held.coverage for held in self._enrolment.holdings(self.domain).values()]
        return Coverage(
            domain=self.domain,
            network=self._name,
            space=schema.space.hex(),
            schema=schema.digest.hex(),
            serial=serial,
            issued=issued,
            lease_s=self._lease.lease_s,
            packets=sum(coverage.packets for coverage in holdings),
            uncovered=sum(coverage.uncovered for coverage in holdings),
            regions=(region,),
            apex=self._naming.apex,
        )

    def _wanted(self, root: Sequence[CellRecord]) -> bool:
        """Whether the parent is to be told anew: it may hold too little, or holds far too much."""
        if not self._contains(root):
            return True
        held = self._held[-1]
        fresh = statement(self._name, [record.region for record in root])
        true = merge_counts(record.region.counts for record in root)
        return len(self._held) > 1 or not still_right(held.counts, true) or fresh.radius < KEEP * held.radius

    def _contains(self, root: Sequence[CellRecord]) -> bool:
        """Whether all of `root` is in whatever summary the parent may hold. Nothing is in none."""
        if not root:
            return True
        actions = sorted({action for record in root for action in record.region.counts})
        bounds = Bounds.of([record.region for record in root])
        return self._known and all(holds(region, actions, bounds) for region in self._held)

    def _root(self) -> tuple[CellRecord, ...]:
        """The root cell of the current generation as walkers read it; () where nobody covers anything."""
        generation = self._publisher.state(self.domain).generation
        zone = self._publisher.zones().by_apex.get(name_to_wire(self._naming.apex))
        if not generation or zone is None:
            return ()
        labels = name_to_wire(f"g{generation}")[:-1]
        schema = self._enrolment.domain(self.domain).schema
        rdatas = [rdata for each in zone.find(labels, labels) or () if each.rtype == SVCB for _, rdata in each.rdatas()]
        return decode_cell(rdatas, self._naming, generation, schema.actions, schema.dimension)

    def _look(self, apexes: Sequence[str]) -> None:
        if self._naming.apex in apexes:
            self._stirred.set()
