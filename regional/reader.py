"""Who asks a network: the scheme of its endpoint says what it speaks.

Over HTTP a network answers questions itself. Where it has no service of its own (a broker, a bucket of keys, a DHT), a
reader in the asker's process reads what is kept there and answers in its place. A reader never writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from regional.client import Failed, NearestReply, NearestRequest
from regional.packets.batch import Batch
from registry.errors import KindredError, PacketError
from registry.publishing.endpoint import scheme_of


class Reader(Protocol):
    """Asks networks at endpoints of one scheme, or of some. Raises Refused, TimedOut or Failed; nothing else."""

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:
        """Have at hand what questions like this one, which is about to come, need.

        What takes longer than `timeout_s` goes on beside; who waits no longer loses nothing.
        """

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        """The nearest packets of the network that the request names, as it keeps them at `endpoint`."""

    async def close(self) -> None:
        """Let go."""


class Readers:
    """A reader of every scheme: each is opened when an endpoint first asks for it, and kept.

    openers: by scheme; those of several schemes that share an opener share its reader. An opener raises ConfigError.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Reader]]) -> None:
        self._openers = openers
        self._opened: dict[Callable[[], Reader], Reader] = {}

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:
        """As `Reader.prepare`."""
        await self._at(endpoint).prepare(endpoint, request, timeout_s)

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        """As `Reader.nearest`."""
        return await self._at(endpoint).nearest(endpoint, request, timeout_s)

    async def close(self) -> None:
        """Close those that are open."""
        opened, self._opened = list(self._opened.values()), {}
        for reader in opened:
            await reader.close()

    def _at(self, endpoint: str) -> Reader:
        opener = self._openers.get(scheme_of(endpoint))
        if opener is None:
            known = ", ".join(f"{scheme}:" for scheme in self._openers)
            raise Failed(f"nobody here can read {endpoint!r:.100}; there are {known}")
        if opener not in self._opened:
            try:
                self._opened[opener] = opener()
            except KindredError as error:
                raise Failed(error.detail) from None
        return self._opened[opener]


def reply_of(
    request: NearestRequest, packets: Sequence[bytes], tied: Mapping[str, int], truncated: bool = False
) -> NearestReply:
    """What a reader has found, as a network's reply; of no serial, since nobody is there who publishes a coverage.

    packets: as kept, in the order of neighbours. Raises Failed where one is none of the network that was asked.
    """
    home = request.domain, request.space[:8], request.network
    try:
        return NearestReply(0, Batch.of(packets, home, len(request.fingerprint)), tied, truncated)
    except PacketError as error:
        raise Failed(error.detail) from None
