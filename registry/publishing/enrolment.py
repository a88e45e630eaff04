"""Who may say what about which domain: the registry's decision on every coverage and renewal it is sent.

A coverage counts only if the key enrolled for the network signed it, for the domain granted to it, in the space of
that domain, with a serial that grows. What was accepted is in the journal before anybody is told so. A lease that
is over takes nothing away: the holding stays, flagged, until the operator removes the network. So it is where the
domain's rules have changed since: what was accepted stays, flagged, until a coverage by the new rules replaces it.
Only what is of another space or domain is withheld: its geometry would mean something else there, and until the network
encodes its packets anew it has none in this space that a question could miss.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from registry.clock import Clock
from registry.errors import (
    ConfigError,
    Conflict,
    Corrupt,
    DocumentError,
    KindredError,
    NotGranted,
    RegionError,
    UnknownName,
)
from registry.geometry.cell import CellRecord, Naming
from registry.keys import verify_document
from registry.likeness.disclosure import check_disclosure
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage, Renewal
from registry.publishing.endpoint import check_endpoints
from registry.publishing.grant import check_grant, check_target
from registry.publishing.holding import Holding
from registry.publishing.journal import Entry, Journal
from registry.publishing.member import Member, Members
from registry.versioned import Versioned
from registry.zones.record import encode_cell

MAX_AHEAD_S = 60.0  # clocks differ; a document signed further in the future is refused
MIN_LEASE_S = 1.0
# Fingerprints are of the order of 1. Beyond this, a parent cell's statistics would no longer fit a float32.
MAX_COORDINATE = 1e8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DomainEntry:
    """A domain that the registry serves. min_cohort: packets per region at least; None = as the schema says.

    parent: the apex of the registry in whose tree this one is a part, if it is.
    """

    name: str
    schema: Schema
    schema_url: str | None = None
    min_cohort: int | None = None
    parent: str | None = None

    @property
    def least(self) -> int:
        """Packets that a region must count, at least."""
        return self.schema.min_cohort if self.min_cohort is None else self.min_cohort


class Enrolment:
    """The members, and what each holds. Safe to call from several threads; `cover` and `renew` write to the disk."""

    def __init__(
        self, domains: Iterable[DomainEntry], members: Iterable[Member], journal: Journal, clock: Clock, origin: str
    ) -> None:
        """Take up what the journal holds. Raises ConfigError for members at odds, Corrupt."""
        self.domains = {domain.name: domain for domain in domains}
        for domain in self.domains.values():
            check_disclosure(domain.name, domain.schema.release, domain.least)
        self.members = Members()
        self._journal = journal
        self._clock = clock
        self.origin = origin
        self._lock = Lock()
        self._entries = journal.entries()
        self._withheld: dict[str, str] = {}
        holdings: dict[str, Holding] = {}
        for member in members:
            if member.name in self.members:
                raise ConfigError(f"two networks are enrolled as {member.name!r}; one of them needs another name")
            if member.domain not in self.domains:
                raise ConfigError(f"network {member.name}: its domain {member.domain!r} is not served here")
            release = self.domains[member.domain].schema.release
            check_endpoints(member.name, member.domain, release, member.endpoints)
            others = {other.name: other.grant for other in self.members.values()}
            check_grant(member.name, member.grant, Naming(member.domain, origin), others)
            self.members[member.name] = member
        for name, entry in self._entries.items():
            with suppress(UnknownName):
                taken_up = self._taken_up(self.member(name), entry)
                if taken_up is not None:
                    holdings[name] = taken_up
        self._holdings = Versioned(holdings)  # replaced, never changed: readers do not wait for a writer's disk

    def member(self, name: str) -> Member:
        """A member, or a share of one. Raises UnknownName."""
        try:
            return self.members[name]
        except KeyError:
            what = f"no network {name!r:.80} is enrolled; the operator of the registry admits it"
            raise UnknownName(what, name=name) from None

    def everyone(self) -> list[Member]:
        """The members, and the shares of them that hold something."""
        return [*self.members.values(), *(self.members[name] for name in self._holdings if name not in self.members)]

    def domain(self, name: str) -> DomainEntry:
        """Raises UnknownName."""
        if name not in self.domains:
            raise UnknownName(f"no domain {name!r:.80} is served here; there are: {', '.join(self.domains)}", name=name)
        return self.domains[name]

    def holding(self, name: str) -> Holding | None:
        """What the network holds; None before its first coverage."""
        return self._holdings.get(name)

    @property
    def held(self) -> Versioned[str, Holding]:
        """What each network of any domain holds: the same mapping as long as nothing of it has changed."""
        return self._holdings

    def holdings(self, domain: str) -> dict[str, Holding]:
        """What each network of the domain holds, in order of names."""
        holdings = self._holdings
        return {name: holdings[name] for name in sorted(holdings) if self.members[name].domain == domain}

    def withheld(self, name: str) -> str | None:
        """Why the coverage in the journal is not published; None where it is, or there is none."""
        return self._withheld.get(name)

    def serial(self, name: str) -> int:
        """The serial that the network's next coverage must exceed; 0 before the first."""
        entry = self._entries.get(name)
        return 0 if entry is None else int(entry.coverage["serial"])

    def cover(self, name: str, document: object) -> int:
        """Accept the coverage `document` of the network `name`; returns its serial.

        The same document once more changes nothing and is answered alike. Raises UnknownName, SignatureError,
        DocumentError, RegionError, NotGranted, Conflict (`where` has serial: what must be exceeded), StorageFull.
        """
        member = self.member(name)
        signed = _signed(document, member)
        coverage = Coverage.from_document(signed, self.domains[member.domain].schema.dimension)
        self._check_grant(member, coverage)
        check_target(member.name, member.grant, coverage)
        self._check_space(member, coverage)
        self._check_cohorts(member, coverage)
        self._check_geometry(member, coverage)
        with self._lock:
            held = self._holdings.get(name)
            last = self.serial(name)
            if held is not None and coverage.serial == last and signed["sig"] == held.sig and held.vouched:
                return coverage.serial
            if coverage.serial <= last:
                raise Conflict(
                    f"coverage of {name}: serial {coverage.serial} does not exceed {last}, which is held", serial=last
                )
            received = self._check_time(name, coverage, held)
            entry = Entry(coverage=signed, received=received)
            self._journal.put(name, entry)
            self._entries[name] = entry
            held = self._leased(coverage, signed["sig"], coverage.issued, coverage.lease_s, received)
            self._holdings = self._holdings.changed({name: held})
            self._withheld.pop(name, None)
        return coverage.serial

    def renew(self, name: str, document: object) -> Holding:
        """Accept the renewal `document` of the lease of `name`; returns the holding.

        Raises as `cover` does; Conflict also where the renewal is of another coverage than is held.
        """
        member = self.member(name)
        signed = _signed(document, member)
        renewal = Renewal.from_document(signed)
        self._check_grant(member, renewal)
        with self._lock:
            held = self._holdings.get(name)
            last = self.serial(name)
            if held is None or not held.vouched or renewal.serial != last:
                raise Conflict(
                    f"renewal of {name}: it renews serial {renewal.serial}, held is {last}; send the coverage anew",
                    serial=last,
                )
            if signed["sig"] == held.renewal_sig:
                return held
            received = self._check_time(name, renewal, held)
            entry = replace(self._entries[name], renewal=signed, renewal_received=received)
            self._journal.put(name, entry)
            self._entries[name] = entry
            leased = self._leased(held.coverage, held.sig, renewal.issued, renewal.lease_s, received)
            renewed = replace(leased, renewal_sig=signed["sig"])
            self._holdings = self._holdings.changed({name: renewed})
            return renewed

    def _check_grant(self, member: Member, stated: Coverage | Renewal) -> None:
        if stated.network != member.name:
            raise NotGranted(f"the document is of network {stated.network!r}, sent for {member.name!r}")
        if stated.domain != member.domain:
            raise NotGranted(f"network {member.name} speaks for {member.domain!r}, not for {stated.domain!r}")

    def _check_space(self, member: Member, coverage: Coverage) -> None:
        space = self.domains[member.domain].schema.space.hex()
        if coverage.space != space:
            raise Conflict(
                f"coverage of {member.name}: its space is {coverage.space}, that of {member.domain} is {space}; "
                "encode by the domain's schema",
                space=space,
            )

    def _check_cohorts(self, member: Member, coverage: Coverage) -> None:
        domain = self.domains[member.domain]
        for region in coverage.regions:
            if region.size < domain.least:
                raise RegionError(
                    f"region {region.id}: it counts {region.size} packets; in {domain.name} at least {domain.least}"
                )

    def _check_geometry(self, member: Member, coverage: Coverage) -> None:
        """Raise RegionError for what cannot be published at all."""
        domain = self.domains[member.domain]
        for region in coverage.regions:
            box = np.concatenate([region.lo, region.hi])
            extent = np.concatenate([region.centre, [region.radius], box[np.isfinite(box)]])
            far = np.abs(extent).max() > MAX_COORDINATE or region.var.max() > MAX_COORDINATE**2
            if far or region.spread > MAX_COORDINATE**4:
                raise RegionError(f"region {region.id}: coordinates beyond {MAX_COORDINATE:g} cannot be served")
            reach = region.radius * (1 + 1e-9)
            if (region.lo > region.centre + reach).any() or (region.hi < region.centre - reach).any():
                raise RegionError(f"region {region.id}: its box lies outside its ball, so nothing can be in both")
        records = [CellRecord(region, network=member.name) for region in coverage.regions]
        encode_cell(records, Naming(domain.name, self.origin), 1, domain.schema.actions)

    def _check_time(self, name: str, stated: Coverage | Renewal, held: Holding | None) -> float:
        """The time of reception, where the times stated are credible at it."""
        now = self._clock.now()
        if stated.issued > now + MAX_AHEAD_S:
            raise Conflict(f"{name}: issued {stated.issued - now:.0f} s in the future; set the clock", now=now)
        if stated.lease_s < MIN_LEASE_S:
            raise DocumentError(f"{name}: a lease of {stated.lease_s} s; at least {MIN_LEASE_S} s", path="lease_s")
        if stated.issued + stated.lease_s <= now:
            age = now - stated.issued
            raise Conflict(f"{name}: issued {age:.0f} s ago, the lease of {stated.lease_s} s is over", now=now)
        if held is not None and held.vouched and stated.issued < held.issued:
            raise Conflict(
                f"{name}: issued at {stated.issued}, before {held.issued}, which is held", issued=held.issued
            )
        return now

    def _leased(self, coverage: Coverage, sig: str, issued: float, lease_s: float, received: float) -> Holding:
        until = min(issued, received) + lease_s
        left = until - self._clock.now()
        return Holding(coverage, sig, issued, lease_s, until, self._clock.monotonic() + left)

    def _taken_up(self, member: Member, entry: Entry) -> Holding | None:
        """What the journal has of `member`, flagged where it would not be accepted today; None where it is unfit."""
        document, domain = entry.coverage, self.domains[member.domain]
        if document["domain"] != domain.name or document["space"] != domain.schema.space.hex():
            self._withhold(member, "it is of another domain or space")
            return None
        try:
            coverage = Coverage.from_document(document, domain.schema.dimension)
        except KindredError as error:
            raise Corrupt(f"network {member.name}: its coverage in the journal does not decode: {error}") from None
        served = coverage.with_actions(domain.schema.actions)
        try:
            self._check_geometry(member, served)
        except RegionError as error:
            self._withhold(member, f"it cannot be published: {error}")
            return None
        held = self._leased(served, document["sig"], coverage.issued, coverage.lease_s, entry.received)
        if entry.renewal is not None:
            renewal = Renewal.from_document(entry.renewal)
            held = self._leased(served, held.sig, renewal.issued, renewal.lease_s, entry.renewal_received)
            held = replace(held, renewal_sig=entry.renewal["sig"])
        try:
            verify_document(document, member.key)
            check_target(member.name, member.grant, coverage)
            self._check_cohorts(member, coverage)
            if served is not coverage:
                raise RegionError(f"it counts actions that {domain.name} has no more")
        except KindredError as error:
            log.warning("network %s: its coverage is flagged lapsed until a new one comes: %s", member.name, error)
            held = replace(held, vouched=False)
        return held

    def _withhold(self, member: Member, reason: str) -> None:
        log.warning("network %s: its coverage is not published until a new one comes: %s", member.name, reason)
        self._withheld[member.name] = reason


def _signed(document: object, member: Member) -> Mapping[str, Any]:
    """`document`, where it is an object that the member's key signed."""
    if not isinstance(document, Mapping):
        raise DocumentError(f"a signed object is wanted, found {type(document).__name__}")
    verify_document(document, member.key)
    return document
