"""NOTIFY (RFC 1996): secondaries are told of a new serial at once, and again until they say that they heard.

A secondary that hears none of it still finds out when it refreshes; until then the age of its serial shows.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from registry.clock import Clock
from registry.dns.rrset import fixed
from registry.dns.tsig import TsigKey, open_answer, sign_question
from registry.dns.wire import (
    AA,
    HEADER,
    IN,
    NOTAUTH,
    NOTIFY,
    OPCODE_MASK,
    QR,
    QUESTION_POINTER,
    RCODES,
    SOA,
    name_to_wire,
)
from registry.errors import SignatureError
from registry.zones.zone import Zone

MAX_OPEN = 64  # sockets at a time
MISSES = 2  # one datagram may be lost

_HEADER = struct.Struct("!HHHHHH")
_TYPE_CLASS = struct.Struct("!HH")

_ANSWERED = "it answered"
_RCODES = {**RCODES, NOTAUTH: "NOTAUTH"}  # NOTAUTH: the secondary has no such zone

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secondary:
    """A server that is told. key: signs what it is told, and what it answers."""

    name: str
    host: str
    port: int
    key: TsigKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyTimes:
    """first_s: how long the first answer is waited for; each next wait is twice as long. tries: then it is left."""

    first_s: float = 0.5
    tries: int = 6


class Notifier:
    """Tells every secondary of every new serial; the newest of a zone takes the place of what is still on its way.

    zone: by its apex, as it is published. troubles: by secondary and apex, what the last answer, or its lack, was,
    where it was not good `MISSES` times in a row, whatever was published meanwhile.
    """

    def __init__(
        self,
        secondaries: Iterable[Secondary],
        zone: Callable[[str], Zone | None],
        clock: Clock,
        times: NotifyTimes | None = None,
        optional: Collection[str] = (),
    ) -> None:
        """optional: zones that a secondary need not have, as the catalog: that it refuses them is no trouble."""
        self.troubles: dict[tuple[str, str], str] = {}
        self._missed: dict[tuple[str, str], int] = {}
        self._secondaries = tuple(secondaries)
        self._zone = zone
        self._clock = clock
        self._times = times or NotifyTimes()
        self._optional = frozenset(optional)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._open = asyncio.Semaphore(MAX_OPEN)

    def tell(self, apexes: Sequence[str]) -> None:
        """These zones have new serials. Returns at once."""
        for secondary in self._secondaries:
            for apex in apexes:
                key = secondary.name, apex
                if (before := self._tasks.get(key)) is not None:
                    before.cancel()
                self._tasks[key] = asyncio.create_task(self._insist(secondary, apex))

    def unheard(self) -> dict[str, str]:
        """`troubles` for people to read: which zone at which secondary, and why."""
        return {f"{apex} at {name}": trouble for (name, apex), trouble in self.troubles.items()}

    async def close(self) -> None:
        """Tell no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _insist(self, secondary: Secondary, apex: str) -> None:
        wait_s = self._times.first_s
        for _ in range(self._times.tries):
            zone = self._zone(apex)
            if zone is None:
                return
            async with self._open:
                trouble = await self._told(secondary, zone, wait_s)
            if apex not in self._optional or not trouble.startswith(_ANSWERED):
                self._note((secondary.name, apex), trouble)
            if not trouble:
                return
            wait_s *= 2

    def _note(self, key: tuple[str, str], trouble: str) -> None:
        """What came of one attempt; into the log where that is new."""
        missed = self._missed[key] = self._missed.get(key, 0) + 1 if trouble else 0
        known = self.troubles.get(key, "")
        if trouble == known or 0 < missed < MISSES:
            return
        name, apex = key
        if trouble:
            self.troubles[key] = trouble
            _log.warning("NOTIFY of %s to %s: %s", apex, name, trouble)
        else:
            del self.troubles[key]
            _log.info("NOTIFY of %s to %s: heard again", apex, name)

    async def _told(self, secondary: Secondary, zone: Zone, wait_s: float) -> str:
        """What is wrong with the answer, "" where nothing is. Takes wait_s where there is no good one."""
        ident = secrets.randbelow(65536)
        message, mac = sign_question(_message(ident, zone), secondary.key, self._clock.now)
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        trouble = "no answer"
        try:
            async with asyncio.timeout(wait_s):
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Answers(answers), remote_addr=(secondary.host, secondary.port)
                )
                try:
                    transport.sendto(message)
                    while trouble:
                        trouble = self._heard(await answers.get(), ident, secondary.key, mac)
                finally:
                    transport.close()
        except OSError as error:  # among them the timeout, where nothing better is known
            return trouble if isinstance(error, TimeoutError) else error.strerror or str(error)
        return ""

    def _heard(self, answer: bytes, ident: int, key: TsigKey, mac: bytes) -> str:
        if not answer:
            return "nobody listens there"
        if len(answer) < HEADER:
            return "an answer cut short"
        flags = int.from_bytes(answer[2:4], "big")
        if int.from_bytes(answer[:2], "big") != ident or not flags & QR or flags & OPCODE_MASK != NOTIFY:
            return "an answer to something else"
        rcode = flags & 0xF
        said = f"{_ANSWERED} {_RCODES.get(rcode, f'RCODE{rcode}')}" if rcode else ""
        try:
            open_answer(answer, key, mac, self._clock.now)
        except SignatureError as error:
            return f"{said}: {error.detail}" if said else error.detail
        return said


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, answers: asyncio.Queue[bytes]) -> None:
        self._answers = answers

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        self._answers.put_nowait(data)

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - the protocol's signature
        self._answers.put_nowait(b"")


def _message(ident: int, zone: Zone) -> bytes:
    """RFC 1996 section 3.7: the zone's name, and its new SOA as a hint."""
    asked = name_to_wire(zone.apex) + _TYPE_CLASS.pack(SOA, IN)
    head = _HEADER.pack(ident, NOTIFY | AA, 1, 1, 0, 0)
    return head + asked + QUESTION_POINTER + fixed(SOA, zone.ttls.apex, zone.soa)
