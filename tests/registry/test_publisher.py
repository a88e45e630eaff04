"""What is published, when, and for how long; seen through DNS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from sample_members import DIMENSION, KEYS, ORIGIN, Registry, members, open_registry, region, renewal, schema, signed

from registry.clock import ManualClock, SystemClock
from registry.errors import LookupFailed, RegionError, StorageFull, Unavailable
from registry.geometry.cell import Address, CellRecord, Naming
from registry.geometry.living import LEAVING, LivingTree
from registry.geometry.region import Region
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage
from registry.publishing.edition import Held, Press
from registry.publishing.enrolment import DomainEntry
from registry.publishing.history import Step
from registry.publishing.holding import Holding
from registry.publishing.member import Member
from registry.publishing.publisher import PublisherTimes
from registry.resolving.authorities import Authorities
from registry.resolving.lookup import Lookups, NetworkInfo
from registry.serving.nameserver import NameServer
from registry.zones.texts import ApexText
from registry.zones.zone import NET, Ttls

CRASH = Naming("crash.vehicles", ORIGIN)
KEEP_S = 10 + 60 + 30


@dataclass(frozen=True)
class View:
    """A domain as DNS shows it."""

    apex: ApexText
    serial: int
    leaves: list[CellRecord]
    inner: list[CellRecord]
    networks: dict[str, NetworkInfo]

    def regions(self, network: str) -> set[str]:
        """In force; what is leaving is there too."""
        return {leaf.region.id for leaf in self.leaves if leaf.network == network} - {LEAVING}

    def leaving(self, network: str) -> int:
        return sum(leaf.network == network and leaf.region.id == LEAVING for leaf in self.leaves)


class Eye:
    """Looks at a publisher through its own name server, each time over a new connection."""

    def __init__(self, server: NameServer) -> None:
        self._server = server

    async def look(self, naming: Naming = CRASH) -> View:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", self._server.port)], SystemClock()))
        try:
            apex = await lookups.apex(naming, 5.0)
            text = apex.value
            waiting: list[Address] = [()] if text.generation else []
            leaves: list[CellRecord] = []
            inner: list[CellRecord] = []
            while waiting:
                address = waiting.pop()
                cell = await lookups.cell(naming, text.generation, address, text.actions, text.dimension, 5.0)
                for record in cell.value:
                    (leaves if record.child is None else inner).append(record)
                    if record.child is not None:
                        waiting.append(record.child)
            names = ["north", "south"] if naming == CRASH else ["west"]
            networks = {name: (await lookups.network(naming, name, 5.0)).value for name in names}
            return View(text, apex.serial, leaves, inner, networks)
        finally:
            await lookups.close()

    async def has_generation(self, number: int, naming: Naming = CRASH) -> bool:
        lookups = Lookups(Authorities(ORIGIN, [("127.0.0.1", self._server.port)], SystemClock()))
        try:
            await lookups.cell(naming, number, (), ("no", "yes"), DIMENSION, 5.0)
        except LookupFailed:
            return False
        finally:
            await lookups.close()
        return True


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry[ManualClock]]:
    opened = open_registry(tmp_path, ManualClock())
    yield opened
    opened.journal.close()


@pytest.fixture
async def watch() -> AsyncIterator[Callable[[Registry[ManualClock]], Any]]:
    servers: list[NameServer] = []

    async def start(registry: Registry[ManualClock]) -> Eye:
        server = NameServer(registry.publisher.zones, "127.0.0.1", 0)
        await server.start()
        servers.append(server)
        return Eye(server)

    yield start
    for server in servers:
        await server.close()


async def settle(registry: Registry[ManualClock], seconds: float = 2.0) -> None:
    """Time passes in steps, and what becomes due is done."""
    for _ in range(round(seconds * 2)):
        registry.clock.advance(0.5)
        await registry.publisher.tick()


async def test_the_first_publication_says_who_is_enrolled_and_that_nobody_covers(
    registry: Registry[ManualClock], watch: Any
) -> None:
    eye = await watch(registry)
    assert registry.publisher.zones().by_apex == {}
    assert set(registry.publisher.troubles()) == {"crash.vehicles", "drives"}
    await registry.publisher.tick()
    assert registry.publisher.troubles() == {}
    view = await eye.look()
    assert view.apex.generation == 0
    assert view.apex.actions == ("no", "yes")
    assert view.serial == int(registry.clock.now())
    north = view.networks["north"]
    assert north.endpoints == ("http://127.0.0.1:9/north",)
    assert north.text.lapsed
    assert north.text.serial == 0


async def test_a_coverage_is_published_and_then_acknowledged(registry: Registry[ManualClock], watch: Any) -> None:
    eye = await watch(registry)
    await registry.publisher.tick()
    registry.enrolment.cover("north", signed("north", 3, registry.clock.now(), amount=40))
    acknowledged = asyncio.ensure_future(registry.publisher.published("north", 3))
    await registry.publisher.tick()
    registry.clock.advance(0.1)
    await registry.publisher.tick()
    await asyncio.sleep(0)
    assert not acknowledged.done()
    assert (await eye.look()).apex.generation == 0
    await settle(registry)
    serial = await acknowledged
    view = await eye.look()
    assert view.regions("north") == {f"r{i}" for i in range(40)}
    assert {leaf.region.counts["yes"] for leaf in view.leaves} == {3}
    assert view.serial >= serial
    assert view.networks["north"].text.serial == 3
    assert not view.networks["north"].text.lapsed
    assert registry.publisher.state("crash.vehicles").serials == {"north": 3}
    assert await registry.publisher.published("north", 2) == view.serial, "an older one is contained"


async def test_changes_are_gathered(registry: Registry[ManualClock], watch: Any) -> None:
    eye = await watch(registry)
    await registry.publisher.tick()
    await settle(registry)
    published: list[list[str]] = []
    registry.publisher.on_published.append(lambda apexes: published.append(list(apexes)))
    for serial in range(1, 6):
        for network in ("north", "south"):
            registry.enrolment.cover(network, signed(network, serial, registry.clock.now()))
        await registry.publisher.tick()
        registry.clock.advance(0.01)
    await settle(registry)
    assert published == [[ORIGIN, CRASH.apex, f"drives.{ORIGIN}"]]
    view = await eye.look()
    assert view.networks["north"].text.serial == view.networks["south"].text.serial == 5
    assert view.apex.generation == 1
    assert registry.publisher.state("drives").generation == 0


async def test_a_lapsed_lease_is_flagged_and_nothing_goes(registry: Registry[ManualClock], watch: Any) -> None:
    eye = await watch(registry)
    now = registry.clock.now()
    registry.enrolment.cover("north", signed("north", 1, now, amount=40))
    registry.enrolment.cover("south", signed("south", 1, now, lease_s=1000.0))
    await registry.publisher.tick()
    fresh = await eye.look()
    assert not any(record.lapsed for record in [*fresh.leaves, *fresh.inner])
    registry.clock.advance(120)
    await registry.publisher.tick()
    await settle(registry)
    flagged = await eye.look()
    assert flagged.apex.generation == fresh.apex.generation
    assert flagged.regions("north") == fresh.regions("north")
    assert {leaf.network for leaf in flagged.leaves if leaf.lapsed} == {"north"}
    assert sum(leaf.lapsed for leaf in flagged.leaves) == 40
    assert any(record.lapsed for record in flagged.inner)
    assert flagged.networks["north"].text.lapsed
    assert not flagged.networks["south"].text.lapsed
    registry.enrolment.renew("north", renewal("north", 1, registry.clock.now()))
    await settle(registry)
    renewed = await eye.look()
    assert renewed.regions("north") == fresh.regions("north")
    assert not any(record.lapsed for record in [*renewed.leaves, *renewed.inner])
    assert not renewed.networks["north"].text.lapsed


async def test_the_loop_wakes_for_a_lapse(registry: Registry[ManualClock]) -> None:
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now(), lease_s=3.0))
    await registry.publisher.tick()
    registry.clock.advance(1.0)
    assert await registry.publisher.tick() == pytest.approx(2.0)


async def test_a_change_is_made_in_place_and_what_it_replaces_stays_for_a_while(
    registry: Registry[ManualClock], watch: Any
) -> None:
    eye = await watch(registry)
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now(), amount=40, lease_s=1000.0))
    registry.enrolment.cover("south", signed("south", 1, registry.clock.now(), amount=40, lease_s=1000.0))
    await registry.publisher.tick()
    first = await eye.look()
    moved = tuple(region(f"r{i}", i + 100.0 * (i == 7)) for i in range(40))
    registry.enrolment.cover("north", signed("north", 2, registry.clock.now(), regions=moved, lease_s=1000.0))
    await settle(registry)
    view = await eye.look()
    assert view.apex.generation == first.apex.generation
    assert view.regions("north") == {f"r{i}" for i in range(40)}
    assert [leaf.region.centre[0] for leaf in view.leaves if leaf.region.id == "r7" and leaf.network == "north"] == [
        107
    ]
    [left] = [leaf.region for leaf in view.leaves if leaf.region.id == LEAVING]
    assert left.centre[0] == 7.0
    assert left.counts == {"no": 1, "yes": 1}, "enough to be asked for, not twice what there is"
    await settle(registry, KEEP_S + 10)
    assert (await eye.look()).leaving("north") == 1
    await settle(registry, 40)
    assert (await eye.look()).leaving("north") == 0


async def grown(registry: Registry[ManualClock]) -> None:
    """Trees that are being made anew are ready."""
    await asyncio.gather(*(shelf.growing for shelf in registry.publisher._shelves.values() if shelf.growing))


async def test_a_worn_tree_is_made_anew_and_the_old_one_served_until_no_cache_can_know_it(
    registry: Registry[ManualClock], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = await watch(registry)
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now(), lease_s=1000.0))
    await registry.publisher.tick()
    old = (await eye.look()).apex.generation
    monkeypatch.setattr(LivingTree, "worn", True)
    registry.enrolment.cover("north", signed("north", 2, registry.clock.now(), amount=7, lease_s=1000.0))
    await settle(registry)
    monkeypatch.setattr(LivingTree, "worn", False)
    assert (await eye.look()).apex.generation == old, "what has changed does not wait for it"
    registry.enrolment.cover("south", signed("south", 1, registry.clock.now(), amount=3, lease_s=1000.0))
    await grown(registry)
    await settle(registry)
    view = await eye.look()
    assert view.apex.generation == old + 1
    assert view.regions("north") == {f"r{i}" for i in range(7)}
    assert view.regions("south") == {f"r{i}" for i in range(3)}, "nor is it missing in the new one"
    assert view.leaving("north") == 0
    await settle(registry, KEEP_S - 12)
    assert await eye.has_generation(old)
    await settle(registry, 25)
    assert not await eye.has_generation(old)
    assert await eye.has_generation(old + 1)


async def test_a_domain_s_first_tree_keeps_no_other_domain_waiting(
    registry: Registry[ManualClock], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree over many regions takes long: other domains go on, and this one is not said to be empty."""
    monkeypatch.setattr("registry.publishing.edition.AT_ONCE", 10)
    eye = await watch(registry)
    whole, go_on = Press.grow, Event()

    def grow(press: Press, *rest: Any) -> Any:
        if press.domain.name == "drives":
            assert go_on.wait(60)
        return whole(press, *rest)

    monkeypatch.setattr(Press, "grow", grow)
    drives = Naming("drives", ORIGIN)
    registry.enrolment.cover("west", signed("west", 1, registry.clock.now(), amount=20, lease_s=1000.0))
    await registry.publisher.tick()
    for serial in (1, 2):
        registry.enrolment.cover("north", signed("north", serial, registry.clock.now(), lease_s=1000.0))
        await settle(registry)
        assert await registry.publisher.published("north", serial)
    assert registry.publisher.troubles() == {"drives": "not published yet"}
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        await eye.look(drives)
    registry.enrolment.cover("west", signed("west", 2, registry.clock.now(), amount=15, lease_s=1000.0))
    await settle(registry)
    acknowledged = asyncio.ensure_future(registry.publisher.published("west", 2))
    go_on.set()
    await grown(registry)
    await settle(registry)
    assert await acknowledged
    assert (await eye.look(drives)).regions("west") == {f"r{i}" for i in range(15)}, "what came meanwhile, too"
    assert registry.publisher.troubles() == {}


async def test_a_first_tree_that_does_not_grow_is_named_and_tried_again(
    registry: Registry[ManualClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.publishing.edition.AT_ONCE", 10)
    await registry.publisher.tick()
    first = registry.publisher.state("drives").serial
    whole = Press.grow
    registry.enrolment.cover("west", signed("west", 1, registry.clock.now(), amount=20, lease_s=1000.0))
    refused = asyncio.ensure_future(registry.publisher.published("west", 1))
    for wrong, told in ((RegionError("too deep"), "too deep"), (ZeroDivisionError(), "unforeseen ZeroDivisionError")):
        monkeypatch.setattr(Press, "grow", Mock(side_effect=wrong))
        for _ in range(6):
            await settle(registry, 0.5)
            await grown(registry)
        assert registry.publisher.troubles() == {"drives": told}
    with pytest.raises(Unavailable, match="kept, but not published yet: too deep"):
        await refused
    assert registry.publisher.state("drives").serial == first, "its age shows"
    monkeypatch.setattr(Press, "grow", whole)
    for _ in range(6):
        await settle(registry, 0.5)
        await grown(registry)
    assert registry.publisher.troubles() == {}
    assert registry.publisher.state("drives").serials == {"west": 1}


async def test_age_shows_and_renewals_too(registry: Registry[ManualClock], watch: Any) -> None:
    eye = await watch(registry)
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now()))
    await registry.publisher.tick()
    first = await eye.look()
    registry.clock.advance(9)
    await registry.publisher.tick()
    assert (await eye.look()).serial == first.serial
    issued = registry.clock.now()
    registry.enrolment.renew("north", renewal("north", 1, issued, lease_s=600.0))
    registry.clock.advance(1)
    await registry.publisher.tick()
    view = await eye.look()
    assert view.serial == int(registry.clock.now()) == first.serial + 10
    assert view.apex.generation == first.apex.generation
    assert view.networks["north"].text.issued == issued
    assert view.networks["north"].text.lease_s == 600.0


async def test_serials_never_run_ahead_of_the_clock(registry: Registry[ManualClock]) -> None:
    await registry.publisher.tick()
    for serial in range(1, 30):
        registry.enrolment.cover("north", signed("north", serial, registry.clock.now()))
        for _ in range(3):
            registry.clock.advance(0.1)
            await registry.publisher.tick()
            assert registry.publisher.state("crash.vehicles").serial <= registry.clock.now()


async def test_what_is_kept_is_bounded_under_steady_change(registry: Registry[ManualClock], watch: Any) -> None:
    eye = await watch(registry)
    for serial in range(1, 200):
        place = tuple(region(f"r{i}", i + 0.1 * serial) for i in range(3))
        registry.enrolment.cover("north", signed("north", serial, registry.clock.now(), regions=place))
        registry.clock.advance(1.0)
        await registry.publisher.tick()
    view = await eye.look()
    assert view.apex.generation == 1
    assert view.regions("north") == {"r0", "r1", "r2"}
    assert 1 <= view.leaving("north") <= 3


async def test_after_a_restart_serials_and_generations_go_on(tmp_path: Path, watch: Any) -> None:
    clock = ManualClock()
    before = open_registry(tmp_path, clock)
    before.enrolment.cover("north", signed("north", 1, clock.now(), amount=20))
    await before.publisher.tick()
    was = await (await watch(before)).look()
    before.journal.close()
    clock.jump(-3600)
    after = open_registry(tmp_path, clock)
    await after.publisher.tick()
    view = await (await watch(after)).look()
    assert view.serial > was.serial
    assert view.apex.generation == was.apex.generation
    assert view.regions("north") == was.regions("north")
    assert await after.publisher.published("north", 1) == view.serial
    after.journal.close()


async def test_a_domain_that_fails_ages_alone_and_recovers(
    registry: Registry[ManualClock], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = await watch(registry)
    await registry.publisher.tick()
    first = await eye.look()
    whole = Press.build

    def build(press: Press, *rest: Any) -> Any:
        if press.domain.name == "crash.vehicles":
            raise RegionError("the cell is too large")
        return whole(press, *rest)

    monkeypatch.setattr(Press, "build", build)
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now()))
    registry.enrolment.cover("west", signed("west", 1, registry.clock.now()))
    refused = asyncio.ensure_future(registry.publisher.published("north", 1))
    await registry.publisher.tick()
    await settle(registry)
    with pytest.raises(Unavailable, match="kept, but not published yet: the cell is too large"):
        await refused
    assert await registry.publisher.published("west", 1)
    assert list(registry.publisher.troubles()) == ["crash.vehicles"]
    await settle(registry, 30)
    stuck = await eye.look()
    assert stuck.serial == first.serial, "its age shows"
    assert (await eye.look(Naming("drives", ORIGIN))).serial > first.serial
    monkeypatch.setattr(Press, "build", whole)
    await settle(registry)
    assert registry.publisher.troubles() == {}
    assert (await eye.look()).regions("north")


async def test_a_failed_domain_does_not_look_fresh_between_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_registry(tmp_path, ManualClock(), PublisherTimes(retry_s=20.0))
    await registry.publisher.tick()
    serial = registry.publisher.state("crash.vehicles").serial
    registry.enrolment.cover("north", signed("north", 1, registry.clock.now()))
    with monkeypatch.context() as patch:
        patch.setattr(Press, "build", lambda *_: 1 / 0)
        await settle(registry)
    registry.enrolment.cover("west", signed("west", 1, registry.clock.now()))
    await settle(registry, 5)
    assert registry.publisher.state("drives").serial > serial
    assert registry.publisher.state("crash.vehicles").serial == serial
    assert registry.publisher.troubles() == {"crash.vehicles": "unforeseen ZeroDivisionError"}
    await settle(registry, 20)
    assert registry.publisher.troubles() == {}
    registry.journal.close()


async def test_a_full_disk_stops_publication_and_not_service(
    registry: Registry[ManualClock], watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = await watch(registry)
    await registry.publisher.tick()
    first = await eye.look()

    def full(now: int) -> int:
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(registry.journal, "next_serial", full)
        await settle(registry, 20)
        assert (await eye.look()).serial == first.serial
        assert registry.publisher.troubles() == {"crash.vehicles": "no room", "drives": "no room"}
    await settle(registry)
    assert (await eye.look()).serial > first.serial
    assert registry.publisher.troubles() == {}


async def test_nothing_is_told_before_its_serial_is_on_the_disk(
    registry: Registry[ManualClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publisher.tick()
    before = registry.publisher.zones()
    done: list[str] = []
    appending = Event()
    keep, append = registry.journal.next_serial, registry.publisher.history.append

    def slowly(now: int) -> int:
        appending.wait(0.2)  # as long as it takes to see that nobody does
        assert registry.publisher.zones() is before
        done.append("serial")
        return keep(now)

    def appended(steps: Sequence[Step]) -> None:
        appending.set()
        done.append("history")
        append(steps)

    monkeypatch.setattr(registry.journal, "next_serial", slowly)
    monkeypatch.setattr(registry.publisher.history, "append", appended)
    registry.clock.advance(60)
    await registry.publisher.tick()
    assert done == ["serial", "history"]
    assert registry.publisher.zones() is not before


def test_cells_of_the_largest_dimension_fit() -> None:
    features = {
        f"f{i}": {"kind": "number", "label": "x", "unit": "m", "scale": 1.0, "range": [-99.0, 99.0]} for i in range(128)
    }
    actions = [f"action-{i:02}-of-many" for i in range(40)]
    document = {**schema(actions=actions).document, "features": features}
    big = Schema.from_document(document, "big.yaml")
    assert big.dimension == 128
    rng = np.random.default_rng(1)
    regions = []
    for i in range(400):
        centre = rng.standard_normal(128) * 1000
        counts = dict.fromkeys(actions, 2**39)
        var = np.ones(128)
        regions.append(Region(f"a-long-region-id-{i:040}", counts, centre, 1e-3, centre - 1e-3, centre + 1e-3, var))
    member = Member("n" * 60, "domain", KEYS["north"].public, (), "embedded")
    coverage = Coverage("domain", member.name, big.space.hex(), "", 1, 0.0, 9.0, 400, 0, tuple(regions))
    press = Press(DomainEntry("domain", big), [member], Naming("domain", ORIGIN), Ttls(), ["domain"], 100.0)
    held = {member.name: Held(Holding(coverage, "", 0.0, 9.0, 9.0, 9.0), lapsed=False)}
    edition = press.build(None, 123_456_789, held, 1, 0.0)
    assert len(press.leaves()) == 400
    assert edition.cells > 400 / 16
    again = Held(replace(held[member.name].holding, coverage=replace(coverage, regions=tuple(regions[::-2]))), False)
    edition = press.next(edition, lambda: 1 / 0, {member.name: again}, 2, 1.0)  # type: ignore[arg-type,return-value]
    assert len(press.leaves()) == 200


def test_only_a_domain_s_own_members_are_told_of() -> None:
    entry = DomainEntry("drives", schema())
    press = Press(entry, members(), Naming("drives", ORIGIN), Ttls(), ["drives"], 100.0)
    edition = press.build(None, 1, {}, 1, 0.0)
    assert len(edition.zone.branches[NET]) == 2, "one, and the name above it"
    assert edition.current == 0
