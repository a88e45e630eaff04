"""A member's side of its lease: coverages under serials that grow, renewals between them, pauses where that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from registry.clock import Clock
from registry.errors import Conflict, UnknownName
from registry.http.client import Known, Published
from registry.keys import SigningKey
from registry.publishing.coverage import Coverage, Renewal

LEASE_S: Final = 120.0
RENEWALS: Final = 3  # in the time of one lease, so that two may fail
RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 30.0


class Registry(Protocol):
    """What a member needs of a registry; `registry.http.client.RegistryClient` has it."""

    async def put_coverage(self, network: str, document: Mapping[str, Any]) -> Published:
        """Returns when the coverage is published. Raises Conflict where its serial is not above the known one."""

    async def put_lease(self, network: str, document: Mapping[str, Any]) -> object:
        """Raises Conflict where the registry holds another coverage than the one that is renewed."""

    async def network(self, name: str) -> Known:
        """What the registry knows of this member."""


class Lease:
    """Of the member `name` of `domain`. lease_s: how long a coverage holds; renewed after `renew_s`."""

    def __init__(
        self,
        registry: Registry,
        domain: str,
        name: str,
        key: SigningKey,
        clock: Clock,
        lease_s: float = LEASE_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._domain = domain
        self._name = name
        self._key = key
        self._clock = clock
        self._chance = chance
        self._issued = 0.0
        self._failures = 0
        self.lease_s = lease_s
        self.renew_s = lease_s / RENEWALS

    async def cover(
        self, last: int, make: Callable[[int, float], Coverage], ask: bool
    ) -> tuple[Coverage, Mapping[str, Any], Published]:
        """Send the coverage that `make` makes for a serial and a time; returns when it is published.

        The serial exceeds `last`, and what the registry knows: that is asked for first (`ask`), or after a conflict.
        Raises what the registry refuses it with, Unavailable.
        """
        known = (await self._registry.network(self._name)).serial if ask else 0
        serial = max(last, known) + 1
        while True:
            coverage = make(serial, self._issue())
            document = await asyncio.to_thread(coverage.document, self._key)
            try:
                return coverage, document, await self._registry.put_coverage(self._name, document)
            except Conflict:
                known = (await self._registry.network(self._name)).serial
                if known < serial:  # it is not the serial that conflicts
                    raise
                serial = known + 1

    async def renew(self, serial: int) -> bool:
        """Prolong the lease of the coverage `serial`; False where the registry holds another, or none."""
        renewal = Renewal(self._domain, self._name, serial, self._issue(), self.lease_s)
        try:
            await self._registry.put_lease(self._name, renewal.document(self._key))
        except (Conflict, UnknownName):
            return False
        return True

    def succeeded(self) -> None:
        """The next pause is a short one again."""
        self._failures = 0

    def pause(self) -> float:
        """Seconds to wait after a failure; doubled each time, with jitter."""
        pause: float = min(MAX_RETRY_S, RETRY_S * 2**self._failures) * (0.5 + 0.5 * self._chance())
        self._failures = min(self._failures + 1, 16)
        return pause

    def _issue(self) -> float:
        """Now, or just after the last time if the clock went back: the registry takes only what is newer."""
        self._issued = max(self._clock.now(), self._issued + 0.001)
        return self._issued
