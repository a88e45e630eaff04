"""The gateway's own walk: authoritative servers asked over TCP, delegations followed, the next server when one fails.

Every answer comes with the serial of its zone, as the apex told it on that connection before the question was sent.
Serials are publication times, so each value is at least as new as its serial says, whichever server gave it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from registry.clock import Clock
from registry.dns.channel import Channel
from registry.dns.message import Records, query, question_of, records, referral, start_of_authority, type_of
from registry.dns.wire import AAAA, DS, SOA, TXT, A, name_to_wire
from registry.errors import LookupFailed
from registry.resolving.dating import dating
from registry.resolving.delegation import MAX_HOSTS, Delegation, accept, is_under, refused, shown
from registry.resolving.source import Found

MAX_REFERRALS = 16  # from the origin to one zone
MAX_DETOURS = 4  # lookups of a server's address within lookups of a server's address
PATIENCE_S = 0.3  # a server that takes longer than this gets company: the next is asked as well
MAX_CHANNELS = 64  # servers to which connections are kept beyond those of the zones in use
LEAST_TTL_S = 1  # a delegation is used for so long at least, else one that must not be kept could never be used

_Got = TypeVar("_Got")


@dataclass(frozen=True, slots=True)
class _Zone:
    """A zone's apex and the servers to ask, until when (monotonic seconds)."""

    apex: bytes
    servers: tuple[Channel, ...]
    until: float


class Authorities:
    """Answers out of the zones themselves, from `origin` downwards.

    servers: (host, port) of those that serve the origin, in the order in which they are preferred. Whoever they refer
    to is asked at the port of the first. dnssec: ask for signatures too.
    """

    def __init__(self, origin: str, servers: Sequence[tuple[str, int]], clock: Clock, *, dnssec: bool = False) -> None:
        self._origin = name_to_wire(origin)
        self._port = servers[0][1]
        self._clock = clock
        self._form = partial(query, dnssec=dnssec)
        self._channels: dict[tuple[str, int], Channel] = {}
        self._top = _Zone(self._origin, tuple(self._channel(*server) for server in servers), float("inf"))
        self._zones: dict[tuple[bytes, bool], _Zone] = {}
        self._seeking: dict[tuple[bytes, bool], asyncio.Task[_Zone]] = {}

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:
        """See `registry.resolving.source.Source`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._find(name_to_wire(zone), asked)
        except TimeoutError:
            raise LookupFailed(
                f"{self._top.servers[0]} and those it refers to did not answer within {timeout_s:.3f} s",
                rcode="TIMEOUT",
            ) from None

    def servers(self, zone: str) -> tuple[str, ...]:
        """See `registry.resolving.source.Source`."""
        found = self._zones.get((name_to_wire(zone), False))
        return () if found is None else tuple(f"{server.host}:{server.port}" for server in found.servers)

    async def close(self) -> None:
        """Close all connections; questions under way fail."""
        seeking = list(self._seeking.values())
        for task in seeking:
            task.cancel()
        await asyncio.gather(*seeking, return_exceptions=True)
        for channel in self._channels.values():
            channel.close()

    async def _find(self, target: bytes, asked: bytes, detours: int = 0) -> Found:
        above = type_of(asked) == DS
        if above:  # a delegated name's DS is with the zone above (RFC 4035 section 3.1.4.1)
            target = asked[1 + asked[0] : -4]
        for fresh in (False, True):
            zone = await self._zone(target, above, detours)
            try:
                return await self._of(zone, partial(self._ask, zone, asked))
            except LookupFailed as error:
                if fresh or zone is self._top or error.where.get("rcode") not in ("REFERRAL", "LAME", "REFUSED"):
                    raise
                self._zones.pop((target, above), None)  # they serve it no more: look once who does
        raise AssertionError("unreachable")

    async def _ask(self, zone: _Zone, asked: bytes, server: Channel) -> Found:
        soa, text = question_of(zone.apex, SOA), question_of(zone.apex, TXT)
        itself = asked == text  # what says how new it is need not wait for others that say it
        authority, said, *answers = await server.ask(
            *([] if itself else [asked]), dated=(soa, text), anew=text if itself else None
        )
        try:
            dated = dating(zone.apex, records(authority, soa, authoritative=True), _if_any(said, text))
        except (ValueError, struct.error) as error:
            raise LookupFailed(
                f"{server} has no usable serial of {shown(zone.apex)}: {error}", rcode="GARBAGE"
            ) from None
        if itself:
            answers = [said] if dated.rtype == TXT else await server.ask(asked)
        found = records(answers[0], asked, authoritative=True)
        return Found(found.rdatas, found.ttl, dated.serial, found.signatures, dating=dated)

    async def _zone(self, target: bytes, enclosing: bool, detours: int) -> _Zone:
        """The zone at `target`; enclosing: else the nearest above it. Looked for once by many."""
        key = (target, enclosing)
        zone = self._zones.get(key)
        if zone is not None and zone.until > self._clock.monotonic():
            return zone
        if detours:  # one that waited for another's search could wait for itself
            return await self._seek(key, detours)
        task = self._seeking.get(key)
        if task is None:
            task = asyncio.create_task(self._seek(key, detours))
            self._seeking[key] = task
            task.add_done_callback(lambda done: (self._seeking.pop(key, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _seek(self, key: tuple[bytes, bool], detours: int) -> _Zone:
        target, enclosing = key
        zone = self._top
        if not is_under(target, self._origin):
            raise LookupFailed(f"{shown(target)} does not lie under {shown(self._origin)}", rcode="REFUSED")
        for _ in range(MAX_REFERRALS):
            step = await self._of(zone, partial(self._where, zone, target, enclosing))
            if isinstance(step, bytes):
                found = _Zone(step, zone.servers, zone.until)
                self._zones[key] = found
                return found
            servers = await self._servers(step, detours)
            until = self._clock.monotonic() + max(step.ttl, LEAST_TTL_S)
            zone = _Zone(step.apex, servers, min(until, zone.until))
        raise refused(zone.apex, f"lies behind more than {MAX_REFERRALS} referrals")

    async def _where(self, zone: _Zone, target: bytes, enclosing: bool, server: Channel) -> bytes | Delegation:
        """The apex of the zone at `target` where the server has it, else to whom it refers."""
        soa = question_of(target, SOA)
        [message] = await server.ask(dated=(soa,), ahead=None if enclosing else question_of(target, TXT))
        referred = referral(message, soa)
        if referred is not None:
            return accept(referred, zone.apex, target, self._origin)
        try:
            records(message, soa, authoritative=True)
        except LookupFailed as error:
            if not enclosing or "ttl_s" not in error.where:
                raise
        apex, _ = start_of_authority(message, soa)
        if not is_under(target, apex) or not is_under(apex, zone.apex):
            raise refused(zone.apex, f"answers with an SOA of {shown(apex)} for {shown(target)}")
        return apex

    async def _servers(self, delegation: Delegation, detours: int) -> tuple[Channel, ...]:
        """Channels to a delegated zone's servers, at most MAX_HOSTS. Hosts without addresses are looked up."""
        found = [address for addresses in delegation.addresses.values() for address in addresses]
        failure = None
        for host in delegation.wanting if not found else ():
            try:
                found += await self._addresses(host, detours + 1)
            except LookupFailed as error:
                failure = error
            else:
                break
        if not found:
            why = "" if failure is None else f": {failure.detail}"
            raise refused(delegation.apex, f"has no server whose address could be found{why}")
        return tuple(self._channel(address, self._port) for address in found[:MAX_HOSTS])

    async def _addresses(self, host: bytes, detours: int) -> list[str]:
        if detours > MAX_DETOURS:
            raise LookupFailed(
                f"the address of {shown(host)} leads in a circle, or through more than {MAX_DETOURS} others",
                rcode="REFERRAL",
            )
        above = host[1 + host[0] :]
        failure: LookupFailed | None = None
        for rtype, length in ((A, 4), (AAAA, 16)):
            try:
                zone = await self._zone(above, True, detours)
                asked = question_of(host, rtype)
                found = await self._of(zone, partial(self._ask, zone, asked))
                return [str(ipaddress.ip_address(each)) for each in found.rdatas if len(each) == length]
            except LookupFailed as error:
                failure = failure or error
        raise failure or LookupFailed(f"{shown(host)} has no address", rcode="NODATA")

    async def _of(self, zone: _Zone, ask: Callable[[Channel], Awaitable[_Got]]) -> _Got:
        """The first usable reply of the zone's servers: a slow one gets company, a failed one a successor."""
        servers = sorted(zone.servers, key=lambda server: server.rests) if len(zone.servers) > 1 else zone.servers
        if len(servers) == 1:
            return await ask(servers[0])
        return await _first([partial(ask, server) for server in servers])

    def _channel(self, host: str, port: int) -> Channel:
        channel = self._channels.get((host, port))
        if channel is None:
            if len(self._channels) >= MAX_CHANNELS:
                self._let_go()
            channel = Channel(host, port, self._clock, self._form)
            self._channels[host, port] = channel
        return channel

    def _let_go(self) -> None:
        """Close the connections to servers that no zone in use has."""
        now = self._clock.monotonic()
        self._zones = {key: zone for key, zone in self._zones.items() if zone.until > now}
        used = {server for zone in (self._top, *self._zones.values()) for server in zone.servers}
        for address, channel in list(self._channels.items()):
            if channel not in used:
                channel.close()
                del self._channels[address]


def _if_any(message: bytes, asked: bytes) -> Records | None:
    """The RRset, None where the name has none of the type."""
    try:
        return records(message, asked, authoritative=True)
    except LookupFailed as error:
        if error.where["rcode"] != "NODATA":
            raise
        return None


async def _first(asks: Sequence[Callable[[], Awaitable[_Got]]]) -> _Got:
    """The first that succeeds; each begins when those before it have failed or taken PATIENCE_S."""
    waiting: set[asyncio.Future[_Got]] = set()
    failures: list[LookupFailed] = []
    try:
        for number, ask in enumerate(asks, 1):
            waiting.add(asyncio.ensure_future(ask()))
            while waiting:
                patience_s = None if number == len(asks) else PATIENCE_S
                done, waiting = await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    try:
                        return one.result()
                    except LookupFailed as error:
                        if "ttl_s" in error.where:  # an authority has said no
                            raise
                        failures.append(error)
                if number < len(asks):
                    break
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    raise LookupFailed("; ".join(error.detail for error in failures), **failures[0].where)
