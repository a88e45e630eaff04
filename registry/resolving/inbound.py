"""Taking a zone from a server: AXFR (RFC 5936) and IXFR (RFC 1995) over TCP, signed where a key is given (RFC 8945)."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.name
import dns.tsig

from registry.dns.message import question, soa_numbers, uncompressed
from registry.dns.tsig import TsigKey, sign_question
from registry.dns.tsig import find as find_signature
from registry.dns.wire import (
    AXFR,
    HEADER,
    IN,
    IXFR,
    MAX_TTL,
    OPCODE_MASK,
    QR,
    RCODES,
    SOA,
    TSIG,
    name_at,
    skip_name,
)
from registry.errors import LookupFailed
from registry.resolving.zonecopy import Change, ZoneCopy
from registry.zones.delta import Record
from registry.zones.transfer import is_newer

UNSIGNED_RUN = 99  # messages between two signed ones, RFC 8945 section 5.3.1
SILENT_S = 30.0  # a server that sends no message for so long has broken off
MAX_OCTETS = 4 * 1024**3  # of one transfer

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")

_validate: Any = dns.tsig.validate  # dnspython does not say its types here


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a server sent: nothing newer (both None), the whole zone, or what changed."""

    whole: ZoneCopy | None = None
    changes: Sequence[Change] | None = None


async def transfer(
    host: str, port: int, apex: str, soa: bytes | None, key: TsigKey | None, now: Callable[[], float]
) -> Transferred:
    """Take the zone at `apex`, or what changed since the one whose SOA RDATA is `soa`.

    Raises LookupFailed: with the server's rcode, UNREACHABLE, or GARBAGE for what is no transfer, is not signed by
    `key`, or ends before its end.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise LookupFailed(f"the zone {apex} from {host} port {port}: {why}", rcode="UNREACHABLE") from None
    try:
        asked = question(apex, AXFR if soa is None else IXFR)
        held = b"" if soa is None else asked[:-4] + _RECORD.pack(SOA, IN, 0, len(soa)) + soa
        message = _HEADER.pack(secrets.randbelow(2**16), 0, 1, 0, int(bool(held)), 0) + asked + held
        mac = b""
        if key is not None:
            message, mac = sign_question(message, key, now)
        writer.write(len(message).to_bytes(2, "big") + message)
        reply = _Reply(message[:2], asked, None if key is None else _Chain(key, mac, now))
        return await _take(reply.records(reader), apex, None if soa is None else soa_numbers(soa)[0])
    except LookupFailed as error:
        raise LookupFailed(f"the zone {apex} from {host} port {port}: {error.detail}", **error.where) from None
    except (OSError, asyncio.IncompleteReadError):
        raise LookupFailed(f"the zone {apex} from {host} port {port}: it broke off", rcode="UNREACHABLE") from None
    except (ValueError, IndexError, struct.error) as error:
        raise LookupFailed(f"the zone {apex} from {host} port {port}: {error}", rcode="GARBAGE") from None
    finally:
        writer.transport.abort()


async def _take(records: AsyncIterator[Record], apex: str, serial: int | None) -> Transferred:
    """Sort the records into one of the forms that RFC 1995 section 4 and RFC 5936 section 2.2 know."""
    name = question(apex, SOA)[:-4]
    first = await anext(records)
    if first[:2] != (name, SOA):
        raise ValueError("it does not begin with the SOA")
    newest = soa_numbers(first[3])[0]
    if serial is not None and not is_newer(newest, serial):
        return Transferred()
    second = await anext(records)
    if second[1] == SOA and soa_numbers(second[3])[0] != newest:
        return Transferred(changes=await _changes(records, first, second, name))
    whole = ZoneCopy(apex, first)
    record = second
    while record[1] != SOA:
        if not record[0].endswith(name):
            raise ValueError("it has a record that is not of the zone")
        whole.add(record)
        record = await anext(records)
    if record[3] != first[3]:
        raise ValueError("it ends with another SOA than it began with")
    return Transferred(whole=whole)


async def _changes(records: AsyncIterator[Record], newest: Record, from_soa: Record, name: bytes) -> list[Change]:
    changes: list[Change] = []
    before = from_soa
    while True:
        removed: list[Record] = []
        added: list[Record] = []
        record = await anext(records)
        while record[1] != SOA:
            removed.append(record)
            record = await anext(records)
        after = record
        record = await anext(records)
        while record[1] != SOA:
            added.append(record)
            record = await anext(records)
        if any(not each[0].endswith(name) for part in (removed, added) for each in part):
            raise ValueError("it has a record that is not of the zone")
        changes.append((soa_numbers(before[3])[0], removed, after[3], added))
        if after[3] == newest[3]:
            return changes
        before = record


class _Reply:
    """The messages that answer one question, as records. chain: checks their signatures."""

    def __init__(self, ident: bytes, asked: bytes, chain: _Chain | None) -> None:
        self._ident = ident
        self._asked = asked
        self._chain = chain
        self._names: dict[bytes, bytes] = {}

    async def records(self, reader: asyncio.StreamReader) -> AsyncIterator[Record]:
        """Without an end of their own: whoever takes them knows when it has all.

        What a signature does not yet cover is held back until one does.
        """
        octets = 0
        held: list[Record] = []
        while True:
            async with asyncio.timeout(SILENT_S):
                message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            octets += len(message)
            if octets > MAX_OCTETS:
                raise ValueError(f"it is larger than {MAX_OCTETS} octets")
            is_covered = self._chain is None or self._chain.check(message)
            held += self._read(message)
            if is_covered:
                for record in held:
                    yield record
                held = []

    def _read(self, message: bytes) -> list[Record]:
        _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if message[:2] != self._ident or not flags & QR or flags & OPCODE_MASK or questions > 1:
            raise ValueError("it answers another question")
        if flags & 0xF:
            name = RCODES.get(flags & 0xF, f"RCODE{flags & 0xF}")
            raise LookupFailed(f"the server answered {name}", rcode=name)
        position = HEADER
        if questions:
            position += len(self._asked)
            if message[HEADER:position].lower() != self._asked:
                raise ValueError("it answers another question")
        found = []
        for _ in range(answers):
            owner = name_at(message, position)
            position = skip_name(message, position)
            rtype, rclass, ttl, length = _RECORD.unpack_from(message, position)
            position += _RECORD.size
            end = position + length
            if end > len(message) or rclass != IN or rtype == TSIG:
                raise ValueError("it has a record cut short, or of another class")
            rdata = uncompressed(message, rtype, position, end)
            found.append((self._names.setdefault(owner, owner), rtype, ttl if ttl <= MAX_TTL else 0, rdata))
            position = end
        return found


class _Chain:
    """The signatures of the messages of one answer: each covers all messages since the one before."""

    def __init__(self, key: TsigKey, mac: bytes, now: Callable[[], float]) -> None:
        self._key = key
        self._mac = mac
        self._now = now
        self._context: Any = None
        self._unsigned = 0

    def check(self, message: bytes) -> bool:
        """Whether a signature covers the message by now. Raises LookupFailed where one does not hold, or none comes."""
        found = find_signature(message)
        if found is None:
            self._unsigned += 1
            if self._context is None or self._unsigned > UNSIGNED_RUN:
                name = RCODES.get(message[3] & 0xF, "it")
                raise LookupFailed(f"{name}: not signed by the key {self._key.name}", rcode="GARBAGE")
            self._context.update(message)
            return False
        owner, _ = dns.name.from_wire(found.owner, 0)
        try:
            self._context = _validate(
                message,
                self._key.key,
                owner,
                found.rdata(),
                int(self._now()),
                self._mac,
                found.start,
                self._context,
                True,
            )
        except (dns.exception.DNSException, ValueError) as error:
            why = str(error) or type(error).__name__
            raise LookupFailed(
                f"the signature by the key {self._key.name} does not hold: {why}", rcode="GARBAGE"
            ) from None
        self._unsigned = 0
        return True
