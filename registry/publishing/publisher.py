"""Publication: when what the networks hold becomes what the name server answers.

A changed domain's tree is changed in place (registry.geometry.living), its zone is a new version that shares with the
one before what did not change, and the set of zones is swapped in one assignment, so nobody sees half of anything. A
tree that is worn is made anew beside the old one, meanwhile changes go on; a generation is dropped only when no cache
can refer to it any more.

A zone's serial says: all that was acknowledged before that second is in it. So it never runs ahead of the clock:
two publications are at least in two different seconds (but for a wall clock that was set back).
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from registry.clock import Clock
from registry.errors import KindredError, Unavailable
from registry.geometry.cell import CellRecord, Naming
from registry.publishing.edition import Edition, Held, Press, generations
from registry.publishing.enrolment import Enrolment
from registry.publishing.history import History
from registry.publishing.holding import Holding
from registry.publishing.journal import Journal
from registry.versioned import Versioned
from registry.zones.cut import Cut
from registry.zones.zone import Ttls, Zone, ZoneSet, origin_zone

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherTimes:
    """coalesce_s: how long a change waits for others. bump_s: the oldest that a serial gets without any change.

    stale_s: how long beyond their time to live records may be used. keep_s: how long a version may be relied on after
    the next one, at least. margin_s: how much longer than for readers with a right clock what is replaced in a cell
    stays there. retry_s: after a failure.
    """

    coalesce_s: float = 0.25
    bump_s: float = 10.0
    stale_s: float = 30.0
    keep_s: float = 0.0
    margin_s: float = 30.0
    retry_s: float = 1.0


@dataclass(frozen=True, slots=True)
class DomainState:
    """What is published of one domain. serial: of its zone. serials: of each network's coverage in it."""

    generation: int
    serial: int
    cells: int
    serials: Mapping[str, int]


@dataclass(slots=True, eq=False)
class _Shelf:
    """One domain: what is published, since when something else is wanted, what went wrong. Times are monotonic."""

    press: Press
    edition: Edition | None = None
    changed_at: float | None = None
    not_before: float = 0.0
    failure: str | None = None
    growing: asyncio.Task[None] | None = None
    bare: bool = False  # nothing new can be published of it before that is done
    held: Versioned[str, Held] = field(default_factory=lambda: Versioned({}))
    holdings: Versioned[str, Holding] = field(default_factory=lambda: Versioned({}))  # of all domains, when so
    seen_at: float = float("inf")  # by the wall clock
    lapse_at: float = float("inf")  # the first of them, by the wall clock
    lapse_monotonic: float = float("inf")


class Publisher:
    """Owns the zones. `tick` does what is due; `run` calls it for as long as the registry lives."""

    def __init__(
        self,
        enrolment: Enrolment,
        journal: Journal,
        clock: Clock,
        ttls: Ttls | None = None,
        times: PublisherTimes | None = None,
        addresses: Sequence[str] = ("127.0.0.1",),
        zone: str = "",
        delegations: Sequence[Cut] = (),
        dress: Callable[[Zone], Zone] = lambda zone: zone,
        history: History | None = None,
    ) -> None:
        """addresses: of the name server, for the topmost zone's glue.

        zone: what of the origin this registry serves, where that is not all: every domain lies below it.
        delegations: names below the topmost zone that other registries serve. dress: what is done to each zone last.
        on_published: called after each publication with the apexes whose serial changed.
        history: beside the journal where left out.
        """
        self._enrolment = enrolment
        self._journal = journal
        self._clock = clock
        self._ttls = ttls or Ttls()
        self._times = times or PublisherTimes()
        self._addresses = tuple(addresses)
        self._top = f"{zone}.{enrolment.origin}" if zone else enrolment.origin
        self._below = [domain.removesuffix(f".{zone}") if zone else domain for domain in enrolment.domains]
        self._delegations = tuple(delegations)
        self._dress = dress
        self._keep_s = max(self._ttls.apex + self._ttls.cell + self._times.stale_s, self._times.keep_s)
        domains = tuple(enrolment.domains)
        self._shelves = {
            name: _Shelf(
                Press(
                    entry,
                    enrolment.members.values(),
                    Naming(name, enrolment.origin),
                    self._ttls,
                    domains,
                    self._keep_s,
                    self._times.margin_s,
                    self._top,
                )
            )
            for name, entry in enrolment.domains.items()
        }
        self._serial = journal.last_serial()
        self._bump_at = clock.monotonic()
        self._zones = ZoneSet()
        self.history = history or History(journal.directory / "history")
        self.on_published: list[Callable[[Sequence[str]], None]] = []
        self._rewriting: asyncio.Task[None] | None = None
        self._known: dict[str, Zone] = {}  # what was published last, before a restart too
        self._take_up()
        self._turned = asyncio.Event()  # set, and replaced, at each publication and each failure
        self._woken = asyncio.Event()

    def _take_up(self) -> None:
        """Go on from what was published last, where that is known for certain.

        A version that was served and is not known could have held cells that new ones must not be taken for; so
        all generations are new ones then, also where the journal is not the one that they were counted in.
        """
        if self.history.serial > self._serial:
            log.error(
                "what was published last, as %d, is not in the journal, whose last serial is %d: networks that it does "
                "not know have to send their coverages again", self.history.serial, self._serial,
            )  # fmt: skip
        if self.history.serial != self._serial or not self._serial:
            for name in self._shelves:
                zone = self.history.zones.get(Naming(name, self._enrolment.origin).apex)
                if zone is not None and (known := generations(zone)):
                    self._journal.skip_generations(name, max(known))
            self._serial = max(self._serial, self.history.serial)
            self.history.restart()
            return
        self._known = dict(self.history.zones)
        now = self._clock.monotonic()
        for name, shelf in self._shelves.items():
            zone = self.history.zones.get(Naming(name, self._enrolment.origin).apex)
            if zone is None:
                continue
            try:
                shelf.edition = shelf.press.take_up(zone, self._held(name), now)
            except KindredError as error:
                log.warning("%s: what was published is not gone on from: %s", name, error)

    def zones(self) -> ZoneSet:
        """What the name server answers from; empty before the first publication."""
        return self._zones

    def state(self, domain: str) -> DomainState:
        """Raises UnknownName."""
        edition = self._shelves[self._enrolment.domain(domain).name].edition
        if edition is None:
            return DomainState(0, 0, 0, {})
        return DomainState(
            generation=edition.current,
            serial=edition.zone.serial,
            cells=edition.cells,
            serials={name: held.holding.coverage.serial for name, held in edition.networks.items()},
        )

    def troubles(self) -> dict[str, str]:
        """Domains that are not published as they should be, and why; empty when all is well."""
        return {
            name: shelf.failure or "not published yet"
            for name, shelf in self._shelves.items()
            if shelf.failure is not None or shelf.edition is None or shelf.edition.recovered
        }

    def wake(self) -> None:
        """Say that something has changed, so that `run` looks at once."""
        self._woken.set()

    async def published(self, network: str, serial: int) -> int:
        """Wait until the coverage `serial` of `network`, or a later one, is published; returns the zone's serial.

        Raises UnknownName; Unavailable where publication fails.
        """
        shelf = self._shelves[self._enrolment.member(network).domain]
        while True:
            edition = shelf.edition
            held = None if edition is None else edition.networks.get(network)
            if edition is not None and held is not None and held.holding.coverage.serial >= serial:
                return edition.zone.serial
            await self._turned.wait()
            if shelf.failure is not None:
                raise Unavailable(f"serial {serial} of {network} is kept, but not published yet: {shelf.failure}")

    async def run(self) -> None:
        """Publish what becomes due, until cancelled; a publication under way is ended first.

        One whose serial is taken and whose history is not written would cost a new generation at the next start.
        """
        while True:
            self._woken.clear()
            publishing = asyncio.create_task(self.tick())
            try:
                wait_s = await asyncio.shield(publishing)
            except asyncio.CancelledError:
                await asyncio.wait([publishing])
                raise
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def tick(self) -> float:
        """Do what is due; returns in how many seconds something may be, if nothing changes until then."""
        now = self._clock.monotonic()
        held = {name: self._held(name) for name in self._shelves}
        waits = {name: self._wait(shelf, held[name], now) for name, shelf in self._shelves.items()}
        wait_s = max(min([self._bump_at - now, *waits.values()]), self._second_left())
        if wait_s > 0:
            return min(wait_s, self._next_lapse(now))
        await self._publish([name for name, wait in waits.items() if wait <= 0], now)
        return 0.0

    def _held(self, domain: str) -> Versioned[str, Held]:
        """What each network of the domain holds now: the same objects as before for those that are as before."""
        shelf, holdings = self._shelves[domain], self._enrolment.held
        now, monotonic = self._clock.now(), self._clock.monotonic()
        timely = shelf.seen_at <= now < shelf.lapse_at and monotonic < shelf.lapse_monotonic
        if timely and holdings is shelf.holdings:
            return shelf.held
        if timely and len(holdings) >= len(shelf.holdings):  # nobody is ever taken out while the registry runs
            differing = shelf.holdings.differing(holdings)
            changed = {name: holdings[name] for name in differing if self._enrolment.member(name).domain == domain}
        else:
            changed = self._enrolment.holdings(domain)
            shelf.held = Versioned({name: held for name, held in shelf.held.items() if name in changed})
            shelf.lapse_at = shelf.lapse_monotonic = float("inf")
        come: dict[str, Held] = {}
        for name, holding in changed.items():
            lapsed = holding.lapsed_at(now, monotonic)
            old = shelf.held.get(name)
            if old is None or old.holding is not holding or old.lapsed != lapsed:
                come[name] = Held(holding, lapsed)
            if not lapsed:
                shelf.lapse_at = min(shelf.lapse_at, holding.until)
                shelf.lapse_monotonic = min(shelf.lapse_monotonic, holding.until_monotonic)
        shelf.holdings, shelf.seen_at = holdings, now
        if come:
            shelf.held = shelf.held.changed(come)
        return shelf.held

    def _wait(self, shelf: _Shelf, held: Mapping[str, Held], now: float) -> float:
        """Seconds until the domain is to be published; endless where nothing has changed, or its tree has to grow."""
        if shelf.bare:
            return float("inf")
        if shelf.edition is not None and shelf.edition.shows(held):
            shelf.changed_at = None
            if shelf.failure is None:
                return 0.0 if shelf.press.grown else float("inf")
            return shelf.not_before - now
        if shelf.changed_at is None:
            shelf.changed_at = now
        if shelf.edition is None:
            return shelf.not_before - now
        return max(shelf.changed_at + self._times.coalesce_s, shelf.not_before) - now

    def _second_left(self) -> float:
        """Seconds until the clock has passed the last serial; 0 where it has, or was set back."""
        ahead = self._serial + 1 - self._clock.now()
        return ahead if 0 < ahead <= 1 else 0.0

    def _next_lapse(self, now: float) -> float:
        """Seconds until the first lease that still runs is over."""
        wall = self._clock.now()
        return min(
            (min(shelf.lapse_at - wall, shelf.lapse_monotonic - now) for shelf in self._shelves.values()),
            default=float("inf"),
        )

    async def _publish(self, due: Sequence[str], now: float) -> None:
        """A new edition of every domain, then swap all zones at once.

        The serial is taken first, and what is held is read after it, so that the serial claims nothing too new. It
        is written to the disk while the editions are made; nothing of it is shown or told before it is there. A
        domain that fails keeps its edition and its serial, so that its age shows.
        """
        serial = max(int(self._clock.now()), self._serial + 1)
        keeping = asyncio.create_task(asyncio.to_thread(self._journal.next_serial, serial))
        editions: dict[str, Edition] = {}
        failures: dict[str, str] = {}
        for name, shelf in self._shelves.items():
            if shelf.bare or (shelf.failure is not None and name not in due):
                continue
            held = self._held(name)
            if shelf.press.bare(shelf.edition, held):
                shelf.bare = True
                shelf.growing = asyncio.create_task(self._grow(name, shelf, held))
                continue
            try:
                editions[name] = await asyncio.to_thread(self._next, shelf, held, serial, now)
            except KindredError as error:
                log.error("%s: not published: %s", name, error)
                failures[name] = error.detail
            except Exception as error:  # whatever it is, the other domains go on
                log.exception("%s: not published", name)
                failures[name] = f"unforeseen {type(error).__name__}"
        zones = [origin_zone(self._top, self._below, serial, self._ttls, self._addresses, self._delegations)]
        for name, shelf in self._shelves.items():
            edition = editions.get(name, shelf.edition)
            if edition is not None:
                zones.append(edition.zone)
        zones = [self._dress(zone) for zone in zones]
        steps = [(self._known.get(zone.apex), zone) for zone in zones]
        steps = [(old, zone) for old, zone in steps if old is not zone]
        try:
            self._serial = await keeping
            await asyncio.to_thread(self.history.append, steps)  # nobody sees what is not on the disk
        except KindredError as error:
            log.error("nothing can be published: %s", error)
            self._turn({}, dict.fromkeys(self._shelves, error.detail), now)
            return
        self._known = {zone.apex: zone for zone in zones}
        apexes = (Naming(name, self._enrolment.origin).apex for name in self._shelves)
        self._zones = ZoneSet(zones, (apex for apex in apexes if apex not in self._known))
        self._turn(editions, failures, now)
        for tell in self.on_published:
            tell([zone.apex for _, zone in steps])
        await self._mend()
        if self.history.grown and (self._rewriting is None or self._rewriting.done()):
            self._rewriting = asyncio.create_task(self._rewrite())

    async def _rewrite(self) -> None:
        try:
            await asyncio.to_thread(self.history.rewrite)
        except KindredError as error:
            log.error("the history of the zones grows on: %s", error)

    async def _mend(self) -> None:
        """Have new trees made where the old ones are worn, one at a time."""
        for name, shelf in self._shelves.items():
            idle = shelf.growing is None or shelf.growing.done()
            if shelf.edition is not None and not shelf.edition.expiry and shelf.press.worn and idle:
                leaves = await asyncio.to_thread(shelf.press.leaves)
                shelf.growing = asyncio.create_task(self._grow(name, shelf, shelf.edition.networks, leaves))

    async def _grow(
        self, name: str, shelf: _Shelf, held: Mapping[str, Held], leaves: Sequence[CellRecord] | None = None
    ) -> None:
        """A tree of what is `held`, beside the one there is, if there is one."""
        failure = ""
        try:
            number = await asyncio.to_thread(self._journal.next_generation, name)
            shelf.press.plant(await asyncio.to_thread(shelf.press.grow, number, held, leaves))
        except KindredError as error:
            log.error("%s: no new tree: %s", name, error)
            failure = error.detail
        except Exception as error:  # whatever it is, the other domains go on
            log.exception("%s: no new tree", name)
            failure = f"unforeseen {type(error).__name__}"
        if shelf.bare:
            shelf.bare = False
            if failure:
                self._turn({}, {name: failure}, self._clock.monotonic())
        self.wake()

    def _next(self, shelf: _Shelf, held: Mapping[str, Held], serial: int, now: float) -> Edition:
        press = shelf.press
        return press.next(shelf.edition, lambda: self._journal.next_generation(press.domain.name), held, serial, now)

    def _turn(self, editions: Mapping[str, Edition], failures: Mapping[str, str], now: float) -> None:
        """Take over the new editions, and tell those who wait."""
        for name, shelf in self._shelves.items():
            if name in editions:
                anew = shelf.edition is None or editions[name].current != shelf.edition.current
                shelf.edition, shelf.failure, shelf.changed_at = editions[name], None, None
                if anew:  # what lasts is kept out of the garbage collector's rounds, which would stop all for long
                    gc.freeze()
                shelf.press.published(self._clock.monotonic())
            elif name in failures:
                shelf.failure, shelf.not_before = failures[name], now + self._times.retry_s
        self._bump_at = now + (self._times.retry_s if failures else self._times.bump_s)
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
