"""The hidden primary: whole and incremental transfers, and every question that is signed.

A key of the federation's file is the right to transfer; without one, transfers are refused. All of this is off the
name server's hot path: `is_special` tells in a few comparisons which questions come here.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from registry.clock import Clock
from registry.dns.tsig import NAMES, Seal, TsigKey, by_owner, check
from registry.dns.wire import (
    AA,
    AXFR,
    FORMERR,
    HEADER,
    IN,
    IXFR,
    MAX_UDP,
    MIN_UDP,
    NOTAUTH,
    NOTIFY,
    OPCODE_MASK,
    OPT,
    QR,
    RD,
    REFUSED,
    SERVFAIL,
    SOA,
    skip_name,
)
from registry.serving.responder import respond
from registry.zones.delta import Delta
from registry.zones.transfer import chain, changes, is_newer, messages, whole
from registry.zones.zone import Zone, ZoneSet

MAX_TRANSFERS = 16  # at a time; each holds one message and, while it lasts, its version of the zone
MAX_MESSAGE = 65_535
_QUIET_S = 10.0  # between two lines of the log about the same refusal

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_MARKS = (b"\0\xfa\0\xff", b"\0\xfb\0\x01", b"\0\xfc\0\x01")  # TSIG, IXFR, AXFR with their classes
_OPT_RECORD = b"\0" + _RECORD.pack(OPT, MAX_UDP, 0, 0)

_log = logging.getLogger(__name__)

Since = Callable[[str, int], Sequence[Delta] | None]
Ordinary = Callable[[bytes, int], bytes | None]  # answers a question without a signature in at most so many octets


def is_special(query: bytes) -> bool:
    """Whether `query` may be for the primary; an ordinary one that looks so is answered all the same."""
    return (
        _MARKS[0] in query
        or _MARKS[1] in query
        or _MARKS[2] in query
        or (len(query) >= HEADER and query[2] & 0x78 == NOTIFY >> 8)
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question for a transfer. end: of its question section. serial: that IXFR starts from. payload: EDNS's."""

    ident: int
    flags: int
    name: bytes
    qtype: int
    end: int
    serial: int | None
    payload: int | None


class Transfer:
    """One transfer on its way to a secondary."""

    def __init__(self, primary: Primary, asked: _Asked, question: bytes, zone: Zone, seal: Seal) -> None:
        self._primary = primary
        self._asked = asked
        self._question = question
        self._zone = zone
        self._seal = seal

    async def messages(self) -> AsyncIterator[bytes]:
        """The signed messages, made as they are taken."""
        zone, asked = self._zone, self._asked
        kind, deltas = "AXFR", None
        if asked.serial is not None:
            if is_newer(zone.serial, asked.serial):
                kept = await asyncio.to_thread(self._primary.since, zone.apex, asked.serial)
                deltas = chain(zone, asked.serial, kept)
            else:
                deltas = ()
            kind = "IXFR" if deltas is not None else "AXFR (asked: IXFR)"
        records = whole(zone) if deltas is None else changes(zone, deltas)
        octets = 0
        edns = asked.payload is not None
        for message in messages(asked.ident, QR | AA, self._question, asked.name, records):
            signed = self._seal.sign(_with_opt(message) if edns else message)
            edns = False  # RFC 5936 section 2.2.5: in the first message, as the question had it
            octets += len(signed)
            yield signed
        _log.info(
            "%s of %s: serial %s to %d, %d octets, key %s",
            kind, zone.apex, asked.serial, zone.serial, octets, self._seal.key.name,
        )  # fmt: skip

    def close(self) -> None:
        """Let another transfer have its place."""
        self._primary.transfers.discard(self)


class Primary:
    """Answers special questions. since: the deltas of a zone from a serial on, None where they are not kept."""

    def __init__(
        self,
        zones: Callable[[], ZoneSet],
        clock: Clock,
        keys: Iterable[TsigKey] = (),
        since: Since = lambda apex, serial: None,  # noqa: ARG005 - a history that keeps nothing
        catalog: ZoneSet | None = None,
        max_transfers: int = MAX_TRANSFERS,
    ) -> None:
        """catalog: the zone that only holders of a key may ask for."""
        self.since = since
        self.transfers: set[Transfer] = set()
        self._zones = zones
        self._clock = clock
        self._keys = by_owner(keys)
        self._catalog = catalog or ZoneSet()
        self._max_transfers = max_transfers
        self._told: dict[str, float] = {}

    def answer(self, query: bytes, over_tcp: bool, ordinary: Ordinary) -> bytes | Transfer | None:
        """The answer, or the transfer that is to be sent over TCP; None where none is owed."""
        if len(query) < HEADER or query[2] & QR >> 8:
            return None
        checked = check(self._keys, query, self._clock.now)
        if checked.failure is not None:
            self._tell(f"a question is refused: {NAMES.get(checked.error, 'FORMERR')}")
            return checked.failure
        message, seal = checked.message, checked.seal
        if int.from_bytes(query[2:4], "big") & OPCODE_MASK == NOTIFY:
            refused = _status(message, REFUSED)  # nothing is transferred to here
            return refused if seal is None else seal.sign(refused)
        asked = _asked(message)
        if seal is not None:
            return self._signed(message, asked, seal, over_tcp, ordinary)
        if asked is not None and asked.qtype in (AXFR, IXFR):
            self._tell("a transfer is refused: the question is not signed")
        return ordinary(message, MAX_MESSAGE if over_tcp else MAX_UDP)

    def _signed(
        self, message: bytes, asked: _Asked | None, seal: Seal, over_tcp: bool, ordinary: Ordinary
    ) -> bytes | Transfer | None:
        if asked is None:
            return seal.sign(_status(message, FORMERR))
        if asked.qtype in (AXFR, IXFR):
            return self._transfer(message, asked, seal, over_tcp)
        limit = MAX_MESSAGE if over_tcp else min(MAX_UDP, max(asked.payload or 0, MIN_UDP))
        if any(asked.name.endswith(apex) for apex in self._catalog.by_apex):
            ordinary = partial(_from, self._catalog, over_tcp)
        answer = ordinary(message, limit - seal.key.room)
        return None if answer is None else seal.sign(answer)

    def _transfer(self, message: bytes, asked: _Asked, seal: Seal, over_tcp: bool) -> bytes | Transfer:
        zone = self._zones().by_apex.get(asked.name) or self._catalog.by_apex.get(asked.name)
        if zone is None:
            return seal.sign(_status(message, NOTAUTH))
        if asked.qtype == IXFR and asked.serial is None:
            return seal.sign(_status(message, FORMERR))
        question = message[HEADER : asked.end]
        if not over_tcp:
            if asked.qtype == AXFR:
                return seal.sign(_status(message, FORMERR))  # RFC 5936 section 4.2: over TCP only
            # RFC 1995 section 2: the SOA alone sends the asker to TCP where there is something newer.
            [alone] = messages(asked.ident, QR | AA, question, asked.name, changes(zone, ()))
            return seal.sign(alone if asked.payload is None else _with_opt(alone))
        if len(self.transfers) >= self._max_transfers:
            self._tell(f"a transfer has to wait: {self._max_transfers} are on their way")
            return seal.sign(_status(message, SERVFAIL))
        transfer = Transfer(self, asked, question, zone, seal)
        self.transfers.add(transfer)
        return transfer

    def _tell(self, what: str) -> None:
        """Into the log, but not for every packet of somebody who does not stop."""
        now = self._clock.monotonic()
        if now - self._told.get(what, -_QUIET_S) >= _QUIET_S:
            self._told[what] = now
            _log.warning("%s", what)


def _from(zones: ZoneSet, over_tcp: bool, message: bytes, size: int) -> bytes | None:
    return respond(zones, message, size, over_tcp)


def _asked(message: bytes) -> _Asked | None:
    """What a message asks, if it asks one question of class IN; an IXFR's serial from its authority section."""
    try:
        ident, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(message)
        end = skip_name(message, HEADER) + _TYPE_CLASS.size
        qtype, qclass = _TYPE_CLASS.unpack_from(message, end - _TYPE_CLASS.size)
        if flags & OPCODE_MASK or questions != 1 or answers or authorities + additionals > 4 or qclass != IN:
            return None
        serial = payload = None
        position = end
        for number in range(authorities + additionals):
            position = skip_name(message, position)
            rtype, rclass, _, length = _RECORD.unpack_from(message, position)
            position += _RECORD.size + length
            if rtype == SOA and number < authorities:
                serial = int.from_bytes(message[position - 20 : position - 16], "big")
            elif rtype == OPT:
                payload = rclass
        name = message[HEADER : end - _TYPE_CLASS.size].lower()
    except (IndexError, ValueError, struct.error):
        return None
    return _Asked(ident, flags, name, qtype, end, serial, payload) if position == len(message) else None


def _status(message: bytes, rcode: int) -> bytes:
    """An answer of nothing but the question, where there is one to show, and `rcode`."""
    ident, flags, questions, *_ = _HEADER.unpack_from(message)
    flags_out = QR | flags & (OPCODE_MASK | RD) | rcode
    try:
        end = skip_name(message, HEADER) + _TYPE_CLASS.size
    except (IndexError, ValueError):
        questions = 0
    if questions != 1 or end > len(message):
        return _HEADER.pack(ident, flags_out, 0, 0, 0, 0)
    return _HEADER.pack(ident, flags_out, 1, 0, 0, 0) + message[HEADER:end]


def _with_opt(message: bytes) -> bytes:
    additionals = int.from_bytes(message[10:12], "big") + 1
    return message[:10] + additionals.to_bytes(2, "big") + message[12:] + _OPT_RECORD
