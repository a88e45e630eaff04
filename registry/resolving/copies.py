"""Transferred copies of the zones as the carrier: nothing about a question leaves this process.

Each zone is taken whole once, and then by what changed as often as its SOA says (refresh, retry). Where the primary is
gone, a copy is stale once a refresh and a retry are overdue, and not used any more past the SOA's expire (RFC 1035
section 3.3.13); its serial tells its age all the while.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.clock import Clock
from registry.dns.message import question_of, type_of
from registry.dns.tsig import TsigKey
from registry.dns.wire import DS, SOA, TXT, name_to_wire
from registry.errors import LookupFailed
from registry.resolving.dating import Dating, dating
from registry.resolving.delegation import is_under, shown
from registry.resolving.inbound import transfer
from registry.resolving.source import Found
from registry.resolving.zonecopy import ZoneCopy

TRANSFER_S = 600.0  # the longest that one may take
MIN_WAIT_S = 1.0  # between two looks at the primary, whatever the SOA says

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Held:
    """A zone, when the primary last said that it is the newest (monotonic seconds), what went wrong since.

    misfits: a difference did not fit, so that the whole zone is due.
    """

    apex: str
    copy: ZoneCopy | None = None
    confirmed: float = 0.0
    misfits: bool = False
    failure: LookupFailed | None = None
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    first: asyncio.Event = field(default_factory=asyncio.Event)


class Copies:
    """Copies of `zones` (apexes) from the server at host and port, by `key` where one is given."""

    def __init__(self, host: str, port: int, zones: Sequence[str], clock: Clock, key: TsigKey | None = None) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._key = key
        self._held = {name_to_wire(zone): _Held(zone) for zone in zones}
        self._keepers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Take the zones, and keep them current until `close`."""
        self._keepers = [asyncio.create_task(self._keep(held)) for held in self._held.values()]

    def servers(self, zone: str) -> tuple[str, ...]:  # noqa: ARG002 - one for all
        """See `registry.resolving.source.Source`."""
        return (f"{self._host}:{self._port}",)

    async def close(self) -> None:
        """End the transfers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:
        """See `registry.resolving.source.Source`. Waits for the first transfer only."""
        held = self._of(name_to_wire(zone), asked)
        try:
            async with asyncio.timeout(timeout_s):
                await held.first.wait()
        except TimeoutError:
            raise LookupFailed(f"the zone {held.apex} is not transferred yet", rcode="TIMEOUT") from None
        copy = held.copy
        if copy is None:
            raise held.failure or LookupFailed(f"there is no copy of {held.apex}", rcode="UNREACHABLE")
        age_s = self._clock.monotonic() - held.confirmed
        if age_s >= copy.expire_s:
            raise LookupFailed(
                f"the copy of {held.apex} has expired: its primary has not been reached for {age_s:.0f} s",
                rcode="EXPIRED",
            )
        found = copy.find(asked)
        is_stale = age_s > copy.refresh_s + copy.retry_s
        dated = _dated(copy)
        ttl_s = 0 if is_stale else found.ttl
        return Found(found.rdatas, ttl_s, dated.serial, found.signatures, is_stale, dated.serial, dated)

    async def refresh(self, zone: str) -> None:
        """Ask the primary for what is newer. Raises LookupFailed, also in `find` where there is no copy yet."""
        held = self._held[name_to_wire(zone)]
        async with held.refreshing:
            asked_at = self._clock.monotonic()
            try:
                await self._renew(held)
            except LookupFailed as error:
                held.failure = error
                raise
            else:
                held.confirmed, held.failure = asked_at, None
            finally:
                held.first.set()

    async def _renew(self, held: _Held) -> None:
        copy = held.copy
        soa = None if copy is None or held.misfits else copy.soa
        try:
            async with asyncio.timeout(TRANSFER_S):
                got = await transfer(self._host, self._port, held.apex, soa, self._key, self._clock.now)
        except TimeoutError:
            raise LookupFailed(f"the transfer of {held.apex} takes over {TRANSFER_S:.0f} s", rcode="TIMEOUT") from None
        if got.whole is not None:
            held.copy, held.misfits = got.whole, False
        elif got.changes is not None and copy is not None:
            try:
                copy.apply(got.changes)
            except LookupFailed:
                held.misfits = True
                raise

    async def _keep(self, held: _Held) -> None:
        while True:
            try:
                await self.refresh(held.apex)
            except LookupFailed as error:
                _log.warning("%s", error.detail)
            copy = held.copy
            timer_s = MIN_WAIT_S if copy is None else copy.refresh_s if held.failure is None else copy.retry_s
            await asyncio.sleep(max(timer_s, MIN_WAIT_S))

    def _of(self, zone: bytes, asked: bytes) -> _Held:
        """The zone that has the answer: for DS the one above the name."""
        if type_of(asked) == DS:
            above = asked[1 + asked[0] : -4]
            apexes = [apex for apex in self._held if is_under(above, apex)]
            zone = max(apexes, key=len, default=zone)
        held = self._held.get(zone)
        if held is None:
            raise LookupFailed("no copy is kept of the zone asked for", rcode="REFUSED")
        return held


def _dated(copy: ZoneCopy) -> Dating:
    """How new the copy is. Raises LookupFailed (GARBAGE)."""
    try:
        text = copy.find(question_of(copy.apex, TXT))
    except LookupFailed:
        text = None
    try:
        return dating(copy.apex, copy.find(question_of(copy.apex, SOA)), text)
    except (ValueError, struct.error) as error:
        raise LookupFailed(f"the copy of {shown(copy.apex)} has no usable serial: {error}", rcode="GARBAGE") from None
