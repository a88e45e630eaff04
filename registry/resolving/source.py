"""Where a gateway's DNS records come from: one question in, one RRset out, whoever carries it.

Three carriers are interchangeable: authoritative servers (`authorities`), any recursive resolver (`recursive`), a
transferred copy of the zones (`copies`); `validator` wraps any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from registry.resolving.dating import Dating


@dataclass(frozen=True, slots=True)
class Found:
    """An RRset as carried. ttl_s: how long it may be kept, seconds. signatures: RDATA of the RRSIGs that cover it.

    dating: what says so, where whoever answered has the zone itself.
    serial: it is at least as new as the zone was under this serial (seconds since the epoch); 0: not known.
    newest: and no newer than under this one; 0: that is not known, it may be as new as the time of reading.
    stale: beyond its time, for the carrier cannot reach whoever has newer.
    """

    rdatas: tuple[bytes, ...]
    ttl_s: float
    serial: int
    signatures: tuple[bytes, ...] = ()
    stale: bool = False
    newest: int = 0
    dating: Dating | None = None


class Source(Protocol):
    """Every failure is a LookupFailed whose `where` has the `rcode`: the server's own, or NODATA, TIMEOUT, UNREACHABLE,
    GARBAGE (what was said is unusable), REFERRAL (a delegation leads nowhere), LAME (no authority where one is due),
    EXPIRED (a copy too old to be used), BOGUS (does not validate). After NXDOMAIN and NODATA, `ttl_s` says for how long
    that holds.
    """

    async def find(self, zone: str, asked: bytes, timeout_s: float) -> Found:
        """The RRset for the question section `asked`, which lies in the zone at `zone` (for DS: in that or above)."""

    async def close(self) -> None:
        """End what is under way."""

    def servers(self, zone: str) -> tuple[str, ...]:
        """Who answers for the zone at `zone`, host and port, where it has been asked for."""
