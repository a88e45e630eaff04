"""How much the name server says over UDP to those whose addresses may be forged (RFC 5358; THREATS, reflection).

Whoever sends a question in another's name has the answer sent there. So no answer is over AMPLIFICATION times the
octets of its question, and each prefix of addresses gets so many answers a second; beyond that every SLIP-th
question gets an answer cut short, so that who really asks comes back over TCP, which cannot be forged, and the
others get none. Loopback is exempt: nothing from outside comes from there.
"""

from __future__ import annotations

from collections.abc import Callable

from registry.serving.responder import truncated

RATE = 200.0  # answers a second for each prefix
BURST_S = 2.0  # seconds' worth of answers that a prefix which was silent may have at once
SLIP = 2
AMPLIFICATION = 3
MAX_PREFIXES = 16_384  # remembered; the one unheard of for longest goes first
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in IPv6, RFC 4291 section 2.5.5.2
_LOOPBACK_6 = bytes(15) + b"\x01"

Monotonic = Callable[[], float]


class Limiter:
    """One name server's limits.

    rate: answers a second for each prefix (IPv4 /24, IPv6 /56). monotonic: the clock. exempt_loopback: False in
    tests and measurements.
    """

    def __init__(self, monotonic: Monotonic, rate: float = RATE, *, exempt_loopback: bool = True) -> None:
        self._monotonic = monotonic
        self._rate = rate
        self._most = max(1.0, rate * BURST_S)
        self._exempt_loopback = exempt_loopback
        self._prefixes: dict[bytes, _Allowance] = {}

    def __len__(self) -> int:
        """How many prefixes are remembered."""
        return len(self._prefixes)

    def limit(self, query: bytes, answer: bytes, sender: bytes) -> bytes | None:
        """What may be sent of `answer`: all of it, it cut short, or None. sender: an address of 4 or 16 octets."""
        if len(sender) == 16 and sender[:12] == _MAPPED:
            sender = sender[12:]
        if self._exempt_loopback and (sender[0] == 127 if len(sender) == 4 else sender == _LOOPBACK_6):
            return answer
        allowance = self._allowance(sender[:3] if len(sender) == 4 else sender[:7])
        if allowance.left < 1.0:
            allowance.refused += 1
            return truncated(answer) if allowance.refused % SLIP == 0 else None
        allowance.left -= 1.0
        return answer if len(answer) <= AMPLIFICATION * len(query) else truncated(answer)

    def _allowance(self, prefix: bytes) -> _Allowance:
        now = self._monotonic()
        allowance = self._prefixes.pop(prefix, None)
        if allowance is None:
            if len(self._prefixes) >= MAX_PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            allowance = _Allowance(self._most, now)
        else:
            allowance.left = min(self._most, allowance.left + (now - allowance.at) * self._rate)
            allowance.at = now
        self._prefixes[prefix] = allowance
        return allowance


class _Allowance:
    """left: answers that may be sent now, as of `at`. refused: questions beyond that, ever."""

    __slots__ = ("at", "left", "refused")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.refused = 0
