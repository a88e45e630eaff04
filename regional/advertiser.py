"""Keeps a network covered: advertises its regions to the registry, anew when they change, and renews the lease."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final

from regional.network import Network
from registry.clock import Clock
from registry.keys import SigningKey
from registry.publishing.coverage import Coverage
from registry.publishing.lease import LEASE_S, Lease, Registry

QUIET_S: Final = 0.5  # deposits come in bursts: wait for the end of one
PATIENCE_S: Final = 5.0  # but no longer than this

log = logging.getLogger(__name__)


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
        self._lease = Lease(registry, network.domain, network.name, key, clock, lease_s, chance)
        self._key = key
        self._clock = clock
        self._quiet_s = quiet_s
        self._patience_s = patience_s
        self._publish_at: float | None = clock.monotonic()  # at the start, whatever is held
        self._publish_by: float | None = None
        self._renew_at = float("inf")

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
            self._lease.succeeded()
        except Exception as error:  # whatever it is: a network must not stay uncovered for it
            pause = self._lease.pause()
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
            network.announce(
                survey, network.last_serial, self._clock.now(), self._key
            )  # whoever left is shown no longer

            def make(serial: int, issued: float) -> Coverage:
                # Before the coverage is published, so that nobody who knows it finds an index of before.
                network.announce(survey, serial, issued, self._key)
                return Coverage(
                    domain=network.domain,
                    network=network.name,
                    space=network.schema.space.hex(),
                    schema=network.schema.digest.hex(),
                    serial=serial,
                    issued=issued,
                    lease_s=self._lease.lease_s,
                    packets=survey.packets,
                    uncovered=survey.told,
                    regions=survey.regions,
                )

            first = network.published is None
            coverage, document, published = await self._lease.cover(network.last_serial, make, ask=first)
            await network.adopt(survey, coverage, document, published.published)
        except BaseException:
            network.abandon()
            raise
        self._publish_at = self._publish_by = None
        self._renew_at = self._clock.monotonic() + self._lease.renew_s
        regions = len(survey.regions)
        log.info("%s: serial %d, %d regions over %d packets", network.name, coverage.serial, regions, survey.packets)

    async def _renew(self) -> None:
        if await self._lease.renew(self._network.serial):
            self._renew_at = self._clock.monotonic() + self._lease.renew_s
        else:
            self._publish_at = self._clock.monotonic()  # the registry holds another coverage, or none
