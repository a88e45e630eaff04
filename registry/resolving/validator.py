"""Answers validated against a configured anchor (RFC 4035 section 5), whoever carries them.

Under an anchor everything must be signed: there are no delegations that end the chain of trust, so that nothing has to
be proved absent. What does not exist is passed on as it is told, for absence never proves emptiness.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from registry.clock import Clock
from registry.dns.message import question_of, type_of
from registry.dns.wire import DNSKEY, DS
from registry.errors import LookupFailed
from registry.resolving.anchor import Anchors
from registry.resolving.dating import Dating
from registry.resolving.delegation import is_under, shown
from registry.resolving.signature import Key, Signature, admissible, bogus, keys_of, seconds_left, verify
from registry.resolving.source import Found, Source

KEYS_S = 3600.0  # keys are asked for anew after so long at most
MAX_KEPT = 1024  # zones whose keys are kept; signatures of serials remembered
CHAIN_TIMEOUT_S = 5.0  # a search for keys that many wait for goes on beyond the patience of the first of them


@dataclass(frozen=True, slots=True)
class _Keys:
    """The validated keys of a zone, until when (monotonic seconds)."""

    keys: tuple[Key, ...]
    until: float


class Validator:
    """Wraps a source, which must ask for signatures too."""

    def __init__(self, source: Source, anchors: Anchors, clock: Clock) -> None:
        self._source = source
        self._anchors = anchors
        self._clock = clock
        self._keys: dict[bytes, _Keys] = {}
        self._seeking: dict[bytes, asyncio.Task[_Keys]] = {}
        self._seen: OrderedDict[tuple[bytes, ...], Signature] = (
            OrderedDict()
        )  # of serials, by the octets of what says them

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:
        """See `registry.resolving.source.Source`; what does not validate is a LookupFailed with rcode BOGUS."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._validated(await self._source.find(zone, asked, timeout_s), asked)
        except TimeoutError:
            raise LookupFailed(f"no validated answer within {timeout_s:.3f} s", rcode="TIMEOUT") from None

    def servers(self, zone: str) -> tuple[str, ...]:
        """See `registry.resolving.source.Source`."""
        return self._source.servers(zone)

    async def close(self) -> None:
        """Close the source."""
        seeking = list(self._seeking.values())
        for task in seeking:
            task.cancel()
        await asyncio.gather(*seeking, return_exceptions=True)
        await self._source.close()

    async def _validated(self, found: Found, asked: bytes) -> Found:
        """The same, once its signature holds; kept no longer than the signature; of the age that the zone's apex,
        signed, says, else of that of the signature."""
        name, rtype = asked[:-4], type_of(asked)
        signature = await self._signature(name, rtype, found.rdatas, found.signatures)
        ttl_s = min(found.ttl_s, signature.ttl, seconds_left(signature, self._clock.now()))
        serial, newest = found.serial, found.newest
        if found.dating is None:
            serial, newest = signature.inception, int(self._clock.now())
        elif rtype not in (DNSKEY, DS):
            await self._check(found.dating)
        return replace(found, ttl_s=ttl_s, serial=serial, newest=newest)

    async def _check(self, dating: Dating) -> None:
        """The serial is the zone's own word too."""
        apex, records = dating.apex, dating.records
        key = (apex, *records.rdatas, *records.signatures)
        known = self._seen.get(key)
        if known is None or seconds_left(known, self._clock.now()) < 0:
            signature = await self._signature(apex, dating.rtype, records.rdatas, records.signatures)
            if signature.signer != apex:
                raise bogus(apex, f"its serial is signed by {shown(signature.signer)}")
            self._seen[key] = signature
            while len(self._seen) > MAX_KEPT:
                self._seen.popitem(last=False)

    async def _signature(
        self, name: bytes, rtype: int, rdatas: Sequence[bytes], signatures: Sequence[bytes]
    ) -> Signature:
        """The signature that proves the RRset. Raises LookupFailed (BOGUS)."""
        if not any(is_under(name, apex) for apex in self._anchors.apexes):
            raise bogus(name, "no anchor stands above it")
        usable: list[Signature] = []
        failure = bogus(name, "it is not signed, where a signature is due")
        for rdata in signatures:
            try:
                signature = Signature.from_rdata(rdata)
                admissible(signature, name, rtype, self._clock.now())
            except (ValueError, IndexError, struct.error):
                failure = bogus(name, "its signature is cut short")
            except LookupFailed as error:
                failure = error
            else:
                usable.append(signature)
        signers = {signature.signer for signature in usable}
        for signer in sorted(signers, key=len, reverse=True)[:1]:  # the nearest zone is whose name it is
            keys = await self._zone_keys(signer)
            by_signer = [signature for signature in usable if signature.signer == signer]
            return verify(by_signer, keys.keys, name, rtype, rdatas)
        raise failure

    async def _zone_keys(self, apex: bytes) -> _Keys:
        """The keys of the zone at `apex`, looked for once by many."""
        kept = self._keys.get(apex)
        if kept is not None and kept.until > self._clock.monotonic():
            return kept
        task = self._seeking.get(apex)
        if task is None:
            task = asyncio.create_task(self._seek(apex))
            self._seeking[apex] = task
            task.add_done_callback(lambda done: (self._seeking.pop(apex, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _seek(self, apex: bytes) -> _Keys:
        """Down the chain: a DS that the anchor or the zone above vouches for, the key that it speaks of, the keys
        that this one signed."""
        asked = question_of(apex, DNSKEY)
        found = await self._link(apex, asked)
        entries = await self._entries(apex, keys_of(found.rdatas))
        now = self._clock.now()
        usable: list[Signature] = []
        failure = bogus(apex, "its keys are not signed")
        for rdata in found.signatures:
            try:
                signature = Signature.from_rdata(rdata)
                admissible(signature, apex, DNSKEY, now)
            except (ValueError, IndexError, struct.error):
                continue
            except LookupFailed as error:
                failure = error
            else:
                usable += [signature] if signature.signer == apex else []
        if not usable:
            raise failure
        signature = verify(usable, entries, apex, DNSKEY, found.rdatas)
        kept_s = min(found.ttl_s, signature.ttl, seconds_left(signature, now), KEYS_S)
        keys = _Keys(keys_of(found.rdatas), self._clock.monotonic() + max(kept_s, 1.0))
        if len(self._keys) >= MAX_KEPT:
            self._keys.clear()
        self._keys[apex] = keys
        return keys

    async def _entries(self, apex: bytes, keys: Sequence[Key]) -> tuple[Key, ...]:
        """Those of a zone's keys that are trusted before they are signed by each other."""
        anchored = self._anchors.keys.get(apex, ())
        if apex in self._anchors.apexes:
            ds: Sequence[bytes] = self._anchors.ds.get(apex, ())
        elif not any(is_under(apex, above) for above in self._anchors.apexes):
            raise bogus(apex, "no anchor stands above it")
        else:
            asked = question_of(apex, DS)
            ds = (await self._validated(await self._link(apex, asked), asked)).rdatas
        entries = tuple(key for key in keys if key.rdata in anchored or any(key.has_digest(apex, each) for each in ds))
        if not entries:
            raise bogus(apex, "none of its keys is the one that the anchor or its DS record speaks of")
        return entries

    async def _link(self, apex: bytes, asked: bytes) -> Found:
        """The DS or DNSKEY records of a zone; that there are none breaks the chain."""
        try:
            return await self._source.find(shown(apex), asked, CHAIN_TIMEOUT_S)
        except LookupFailed as error:
            if "ttl_s" not in error.where:
                raise
            kind = "DS" if type_of(asked) == DS else "DNSKEY"
            raise bogus(apex, f"the chain of trust ends there, it has no {kind} record") from None
