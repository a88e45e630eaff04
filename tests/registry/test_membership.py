"""A registry as a member of another: whatever fails in between, what it acknowledges is within what the parent has
published, from then on for as long as it is covered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_members import DIMENSION, KEYS, ORIGIN, SCHEMA, coverage, members, region

from registry.clock import ManualClock
from registry.dns.wire import SVCB, name_to_wire
from registry.errors import Conflict, Unavailable
from registry.geometry.cell import CellRecord, Naming
from registry.geometry.living import LEAVING
from registry.geometry.region import Bounds, Region
from registry.geometry.statement import holds
from registry.http.client import Known, Published
from registry.keys import SigningKey
from registry.publishing.enrolment import DomainEntry, Enrolment
from registry.publishing.grant import Ball, Grant
from registry.publishing.journal import Journal
from registry.publishing.lease import Lease
from registry.publishing.member import Member
from registry.publishing.membership import Membership
from registry.publishing.publisher import Publisher
from registry.zones.record import decode_cell

DOMAIN = "crash.vehicles"
HERE = Naming(DOMAIN, "asia.kindred.internal.")
ABOVE = Naming(DOMAIN, ORIGIN)
KEY = SigningKey(b"\x07" * 32)
ACTIONS = ("no", "yes")


class Parent:
    """A real registry's decisions and zones, reached without HTTP. `trouble` is what happens to the next requests:
    "down" (they do not arrive), "lost" (they do, their answers do not), "" (nothing)."""

    def __init__(self, directory: Path, clock: ManualClock, within: Ball | None = None) -> None:
        self.clock = clock
        self.trouble = ""
        self.sent = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._journal = Journal(directory)
        member = Member("asia", DOMAIN, KEY.public, (), "registry", Grant(HERE.apex, within))
        self.enrolment = Enrolment([DomainEntry(DOMAIN, SCHEMA)], [member], self._journal, clock, ORIGIN)
        self.publisher = Publisher(self.enrolment, self._journal, clock)

    async def put_coverage(self, network: str, document: Mapping[str, Any]) -> Published:
        self.sent += 1
        await self.gate.wait()
        if self.trouble == "down":
            raise Unavailable("no answer within 40 s")
        serial = self.enrolment.cover(network, document)
        await publish(self.publisher, self.clock)
        if self.trouble == "lost":
            raise Unavailable("no answer within 40 s")
        return Published(serial, self.publisher.state(DOMAIN).serial)

    async def put_lease(self, network: str, document: Mapping[str, Any]) -> object:
        if self.trouble:
            raise Unavailable("no answer within 10 s")
        return self.enrolment.renew(network, document)

    async def network(self, name: str) -> Known:
        if self.trouble:
            raise Unavailable("no answer within 10 s")
        return Known(self.enrolment.serial(name), 0)

    def record(self) -> CellRecord | None:
        """What it has published of its member, and is in force; what that replaced may stand beside it for a while."""
        return next((record for record in root(self.publisher, ABOVE) if record.region.id != LEAVING), None)

    def close(self) -> None:
        self._journal.close()


class Child:
    """The registry below, with the networks north and south."""

    def __init__(self, directory: Path, parent: Parent) -> None:
        self.clock = parent.clock
        self._journal = Journal(directory)
        domains = [DomainEntry(DOMAIN, SCHEMA, parent=ABOVE.apex), DomainEntry("drives", SCHEMA)]
        self.enrolment = Enrolment(domains, members(), self._journal, self.clock, HERE.origin)
        self.publisher = Publisher(self.enrolment, self._journal, self.clock)
        lease = Lease(parent, DOMAIN, "asia", KEY, self.clock, 120.0, chance=lambda: 1.0)
        self.membership = Membership("asia", HERE, self.enrolment, self.publisher, lease, self.clock)
        self._serials = {"north": 0, "south": 0}

    async def cover(self, name: str, *regions: Region) -> None:
        """A coverage is taken and published here."""
        self._serials[name] = self.enrolment.serial(name) + 1
        stated = coverage(name, self._serials[name], self.clock.now(), regions=tuple(regions))
        self.enrolment.cover(name, stated.document(KEYS[name]))
        await publish(self.publisher, self.clock)

    def close(self) -> None:
        self._journal.close()


async def publish(publisher: Publisher, clock: ManualClock) -> None:
    """Until nothing is left to do but to grow older."""
    for _ in range(4):
        clock.advance(0.5)
        await publisher.tick()


def root(publisher: Publisher, naming: Naming) -> tuple[CellRecord, ...]:
    generation = publisher.state(DOMAIN).generation
    if not generation:
        return ()
    labels = name_to_wire(f"g{generation}")[:-1]
    node = publisher.zones().by_apex[name_to_wire(naming.apex)].find(labels, labels)
    rdatas = [rdata for each in node or () if each.rtype == SVCB for _, rdata in each.rdatas()]
    return decode_cell(rdatas, naming, generation, ACTIONS, DIMENSION)


@asynccontextmanager
async def pair(tmp_path: Path, within: Ball | None = None) -> AsyncIterator[tuple[Parent, Child]]:
    parent = Parent(tmp_path / "parent", ManualClock(), within)
    child = Child(tmp_path / "child", parent)
    try:
        yield parent, child
    finally:
        child.close()
        parent.close()


async def settled(child: Child) -> int:
    """Steps until what is served is covered; the parent's serial. As the service waits, with the work done between."""
    waiting = asyncio.ensure_future(child.membership.covered())
    try:
        for _ in range(20):
            await asyncio.sleep(0)
            if waiting.done():
                break
            child.clock.advance(await child.membership.step() + 0.01)
        return await asyncio.wait_for(waiting, 1.0)
    finally:
        waiting.cancel()


async def test_growth_is_acknowledged_only_after_the_parent_has_published_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (parent, child):
        await child.cover("north", region("r1", 1.0))
        assert await settled(child) == parent.publisher.state(DOMAIN).serial
        await child.cover("north", region("r1", 1.0), region("r2", 7.0))
        parent.gate.clear()
        waiting = asyncio.ensure_future(child.membership.covered())
        step = asyncio.ensure_future(child.membership.step())
        child.clock.advance(1.0)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert parent.sent == 2
        assert not waiting.done()
        before = parent.record()
        assert before is not None
        assert not holds(before.region, ACTIONS, Bounds.of([region("r2", 7.0)]))
        parent.gate.set()
        await step
        assert await waiting == parent.publisher.state(DOMAIN).serial
        after = parent.record()
        assert after is not None
        assert holds(after.region, ACTIONS, Bounds.of([region("r1", 1.0), region("r2", 7.0)]))
        assert after.apex == HERE.apex


async def test_what_the_last_summary_contains_is_not_sent_again(tmp_path: Path) -> None:
    async with pair(tmp_path) as (parent, child):
        await child.cover("north", region("r1", 0.0), region("r2", 8.0))
        await settled(child)
        for place in (1.0, 7.9, 3.0):
            await child.cover("south", region("r1", place, count=1))
            await settled(child)
        assert parent.sent == 1
        await child.cover("south", region("r1", 9.0, count=1))
        await settled(child)
        assert parent.sent == 2


async def test_a_parent_that_is_away_is_named_and_comes_back(tmp_path: Path) -> None:
    async with pair(tmp_path) as (parent, child):
        parent.trouble = "down"
        await child.cover("north", region("r1", 1.0))
        with pytest.raises(Unavailable, match="not by the parent yet: no answer within"):
            await settled(child)
        assert child.membership.trouble is not None
        parent.trouble = ""
        child.clock.advance(60.0)
        await settled(child)
        assert child.membership.trouble is None


async def test_the_lease_is_renewed_and_an_outage_looks_like_one(tmp_path: Path) -> None:
    async with pair(tmp_path) as (parent, child):
        await child.cover("north", region("r1", 1.0))
        await settled(child)
        for _ in range(8):  # four leases
            child.clock.advance(60.0)
            await child.membership.step()
        await publish(parent.publisher, parent.clock)
        record = parent.record()
        assert record is not None
        assert not record.lapsed
        assert parent.sent == 1
        child.clock.advance(121.0)
        await publish(parent.publisher, parent.clock)
        record = parent.record()
        assert record is not None
        assert record.lapsed
        assert holds(record.region, ACTIONS, Bounds.of([region("r1", 1.0)]))


async def test_a_margin_that_is_not_granted_is_left_out(tmp_path: Path) -> None:
    reach = float(np.sqrt(DIMENSION)) * 1.5
    async with pair(tmp_path, Ball(np.zeros(DIMENSION), reach * 1.001)) as (parent, child):
        await child.cover("north", region("r1", 1.0), region("r2", -1.0))
        await settled(child)
        assert parent.sent == 2
        await child.cover("north", region("r1", 1.2), region("r2", -1.0))
        with pytest.raises(Unavailable, match="beyond the bound granted"):
            await settled(child)


async def test_a_restarted_registry_asks_before_it_acknowledges(tmp_path: Path) -> None:
    async with pair(tmp_path) as (parent, child):
        await child.cover("north", region("r1", 1.0))
        await settled(child)
        child.close()
        again = Child(tmp_path / "child", parent)
        await publish(again.publisher, again.clock)
        waiting = asyncio.ensure_future(again.membership.covered())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
        await settled(again)
        assert parent.enrolment.serial("asia") == 2
        again.close()


async def test_nobody_covers_is_not_told_as_a_summary(tmp_path: Path) -> None:
    """A registry that has lost what it knew must not empty what its parent holds."""
    async with pair(tmp_path) as (parent, child):
        await publish(child.publisher, child.clock)
        assert await child.membership.step() > 0
        assert parent.sent == 0
        await child.cover("north", region("r1", 1.0))
        await settled(child)
        child.close()
        lost = Child(tmp_path / "lost", parent)
        await publish(lost.publisher, lost.clock)
        for _ in range(6):
            lost.clock.advance(60.0)
            assert await lost.membership.step() > 0
        await publish(parent.publisher, parent.clock)
        record = parent.record()
        assert record is not None
        assert record.lapsed
        assert parent.sent == 1
        lost.close()


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_fails_what_is_acknowledged_is_within_what_the_parent_has_published(
    tmp_path: Path, seed: int
) -> None:
    """Coverages that grow, shrink and wander, requests and answers lost, restarts: after every event, all regions that
    are acknowledged and still held lie within the record that the parent has published."""
    random = np.random.default_rng(seed)
    async with pair(tmp_path) as (parent, first):
        child = first
        acknowledged: dict[str, tuple[int, list[Region]]] = {}
        waiting: list[tuple[str, int, list[Region], asyncio.Future[int]]] = []

        def check() -> None:
            for name, serial, regions, ack in list(waiting):
                if ack.done() and ack.exception() is None:
                    if child.enrolment.serial(name) == serial:
                        acknowledged[name] = (serial, regions)
                    waiting.remove((name, serial, regions, ack))
            for name, (serial, regions) in acknowledged.items():
                if child.enrolment.serial(name) != serial:
                    continue  # replaced by a coverage that is not acknowledged yet
                record = parent.record()
                assert record is not None
                assert holds(record.region, ACTIONS, Bounds.of(regions))

        async def advance() -> None:
            child.clock.advance(float(random.uniform(0.1, 5.0)))
            with suppress(Conflict):
                await child.membership.step()
            for _ in range(3):
                await asyncio.sleep(0)
            check()

        for _ in range(40):
            event = random.integers(0, 8)
            if event < 4:
                name = str(random.choice(["north", "south"]))
                wide = float(random.choice([0.5, 2.0, 9.0]))
                regions = [region(f"r{i}", float(random.normal() * wide)) for i in range(random.integers(1, 4))]
                kept = acknowledged.get(name)
                if kept is not None and random.integers(0, 2):
                    regions = [*regions, *(Region(f"k{i}", *list(_fields(each))) for i, each in enumerate(kept[1][:1]))]
                await child.cover(name, *regions)
                serial = child.enrolment.serial(name)
                waiting.append((name, serial, regions, asyncio.ensure_future(child.membership.covered())))
            elif event < 7:
                parent.trouble = str(random.choice(["", "", "down", "lost"]))
            else:
                for *_, ack in waiting:
                    ack.cancel()
                waiting.clear()
                child.close()
                child = Child(tmp_path / "child", parent)
                await publish(child.publisher, child.clock)
            await advance()
        parent.trouble = ""
        child.clock.advance(60.0)
        await settled(child)
        check()
        assert acknowledged
        for *_, ack in waiting:
            ack.cancel()


def _fields(each: Region) -> tuple[Any, ...]:
    return each.counts, each.centre, each.radius, each.lo, each.hi, each.var, each.spread
