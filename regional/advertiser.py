"""Keeps a network covered: advertises its regions to the registry, anew when they change, and renews the lease."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from regional.network import Network
from registry.client import Known
from registry.clock import Clock
from registry.coverage import Coverage, Renewal
from registry.errors import Conflict, UnknownName
from registry.keys import SigningKey

LEASE_S: Final = 120.0
RENEWALS: Final = 3  # in the time of one lease, so that two may fail
QUIET_S: Final = 0.5  # deposits come in bursts: wait for the end of one
PATIENCE_S: Final = 5.0  # but no longer than this
RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 30.0

log = logging.getLogger(__name__)


class Registry(Protocol):
    """What an advertiser needs of a registry; `registry.client.RegistryClient` has it."""

    async def put_coverage(self, network: str, document: Mapping[str, Any]) -> object:
        """Returns when the coverage is published. Raises Conflict where its serial is not above the known one."""

    async def put_lease(self, network: str, document: Mapping[str, Any]) -> object:
        """Raises Conflict where the registry holds another coverage than the one that is renewed."""

    async def network(self, name: str) -> Known:
        """What the registry knows of this network."""


class Advertiser:
    """The background work of one network; `run` it in a task that its owner cancels."""

    def __init__(
        self,
        network: Network,
        registry: Registry,
        key: SigningKey,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        quiet_s: float = QUIET_S,
        patience_s: float = PATIENCE_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._network = network
        self._registry = registry
        self._key = key
        self._clock = clock
        self._lease_s = lease_s
        self._renew_s = lease_s / RENEWALS
        self._quiet_s = quiet_s
        self._patience_s = patience_s
        self._chance = chance
        self._publish_at: float | None = clock.monotonic()  # at the start, whatever is held
        self._publish_by: float | None = None
        self._renew_at = float("inf")
        self._issued = 0.0
        self._failures = 0

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            wait = await self.step()
            try:
                async with asyncio.timeout(wait):
                    await self._network.stirred.wait()
            except TimeoutError:
                continue

    async def step(self) -> float:
        """Do what is due now; the seconds until something will be, if the network does not stir before."""
        now = self._clock.monotonic()
        if self._network.stirred.is_set():
            self._network.stirred.clear()
            if self._network.pending and (self._publish_at is None or self._publish_by is not None):
                self._publish_by = self._publish_by or now + self._patience_s
                self._publish_at = min(now + self._quiet_s, self._publish_by)
        if self._publish_at is not None and now >= self._publish_at:
            await self._attempt(self._publish)
        elif now >= self._renew_at:
            await self._attempt(self._renew)
        due = self._renew_at if self._publish_at is None else min(self._publish_at, self._renew_at)
        return max(0.0, due - self._clock.monotonic())

    async def _attempt(self, work: Callable[[], Any]) -> None:
        """Do the work; where it fails, again later, after a pause that doubles, with jitter."""
        try:
            await work()
            self._failures = 0
        except Exception as error:  # whatever it is: a network must not stay uncovered for it
            pause = min(MAX_RETRY_S, RETRY_S * 2**self._failures) * (0.5 + 0.5 * self._chance())
            self._failures = min(self._failures + 1, 16)
            log.warning("%s: %s failed, again in %.1f s: %s", self._network.name, work.__name__[1:], pause, error)
            again = self._clock.monotonic() + pause
            if self._publish_at is not None:
                self._publish_at, self._publish_by = again, None  # from now on the pause decides
            else:
                self._renew_at = again

    async def _publish(self) -> None:
        network = self._network
        try:
            survey = await network.survey()
            known = (await self._registry.network(network.name)).serial if network.published is None else 0
            serial = max(network.last_serial, known) + 1
            while True:
                coverage = Coverage(
                    domain=network.domain,
                    network=network.name,
                    space=network.schema.space.hex(),
                    schema=network.schema.digest.hex(),
                    serial=serial,
                    issued=self._issue(),
                    lease_s=self._lease_s,
                    packets=survey.packets,
                    uncovered=len(survey.uncovered),
                    regions=survey.regions,
                )
                document = await asyncio.to_thread(coverage.document, self._key)
                try:
                    await self._registry.put_coverage(network.name, document)
                    break
                except Conflict:
                    known = (await self._registry.network(network.name)).serial
                    if known < serial:  # it is not the serial that conflicts
                        raise
                    serial = known + 1
            await network.adopt(survey, coverage, document)
        except BaseException:
            network.abandon()
            raise
        self._publish_at = self._publish_by = None
        self._renew_at = self._clock.monotonic() + self._renew_s
        log.info("%s: serial %d, %d regions over %d packets", network.name, serial, len(survey.regions), survey.packets)

    async def _renew(self) -> None:
        network = self._network
        renewal = Renewal(network.domain, network.name, network.serial, self._issue(), self._lease_s)
        try:
            await self._registry.put_lease(network.name, renewal.document(self._key))
        except (Conflict, UnknownName):
            self._publish_at = self._clock.monotonic()  # the registry holds another coverage, or none
            return
        self._renew_at = self._clock.monotonic() + self._renew_s

    def _issue(self) -> float:
        """Now, or just after the last time if the clock went back: the registry takes only what is newer."""
        self._issued = max(self._clock.now(), self._issued + 0.001)
        return self._issued
