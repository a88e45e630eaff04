"""Networks that have no service of their own: what a server keeps of each is mirrored here, and answered from.

The first question begins to read; until all is read, questions wait as long as they may. What was read is followed from
then on, so that an answer holds all that was acknowledged before it was asked for. What nobody asks for is let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from regional.client import Failed, NearestReply, NearestRequest, Refused, TimedOut
from regional.engine import NearestQuery
from regional.engines.address import EngineAddress
from regional.engines.backing import SILENCE_S, Readable, end
from regional.engines.following import FIRST_PAUSE_S, Following
from regional.engines.mirror import Home
from regional.engines.opening import DHT, READABLE, load, readable_at
from regional.partition import Partition
from regional.reader import Reader, reply_of
from registry.clock import Clock
from registry.errors import ConfigError, Conflict, KindredError, NotGranted, TooLarge, Unavailable

LAST_PAUSE_S: Final = 10.0  # before what could not be opened is tried again
LONG_PAUSE_S: Final = 60.0  # before what there was no room for is

log = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """networks: mirrored at a time. packets: of all of them together. idle_s: how long one is kept that nobody asks."""

    networks: int = 64
    packets: int = 1_000_000
    idle_s: float = 600.0


class Mirrored:
    """One network at one endpoint. space: 32 bytes. most: as Following takes it."""

    def __init__(
        self, address: EngineAddress, home: Home, space: bytes, d: int, most: Callable[[], int], clock: Clock
    ) -> None:
        self._address = address
        self._home = home
        self._space = space
        self._d = d
        self._clock = clock
        self._server: Readable = readable_at(address, SILENCE_S)
        self._following = Following(home, d, self._server, most)
        self._tried = asyncio.Event()  # once it is open, or could not be opened
        self._why: KindredError | None = None
        self._task = asyncio.create_task(self._open())
        self._inside = 0  # questions that use the server just now
        self._left = asyncio.Event()  # when there is none
        self._left.set()
        self._leaving: asyncio.Task[None] | None = None
        self.used = clock.monotonic()
        self.asking = 0

    @property
    def told(self) -> int:
        """Nodes held."""
        return self._following.told

    @property
    def foreign(self) -> int:
        """How many things on the server are no packets of this network, and are left out."""
        return self._following.foreign

    async def nearest(self, request: NearestRequest, timeout_s: float) -> NearestReply:
        """The nearest packets, of all that was acknowledged before. Raises Refused, TimedOut or Failed."""
        self.asking += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._tried.wait()
                if self._why is not None:
                    raise self._why.with_traceback(None)
                await self._following.reach(await self._mark())
                query = NearestQuery(request.fingerprint, request.k, request.per, request.actions, request.within)
                found = await self._following.nearest(query)
        except TimeoutError:
            so_far = "" if self._tried.is_set() else f"; it is being read, {self.told} packets so far"
            raise TimedOut(f"{self._address.where}: no answer within {timeout_s * 1000:.0f} ms{so_far}") from None
        except (NotGranted, Conflict) as error:
            raise Refused(error.detail) from None
        except KindredError as error:
            raise Failed(error.detail) from None
        finally:
            self.asking -= 1
            self.used = self._clock.monotonic()
        return reply_of(request, found.packets, found.tied, found.truncated)

    async def _mark(self) -> int:
        """How far the server is now."""
        if self._following.lost is not None:
            raise Unavailable(self._following.lost)
        self._inside += 1
        self._left.clear()
        try:
            return await self._server.mark()
        finally:
            self._inside -= 1
            if not self._inside:
                self._left.set()

    async def close(self) -> None:
        """Let go."""
        await end(self._task)
        await self._leave()

    async def _open(self) -> None:
        """Open, and stay so; where that fails, again later, after a pause that doubles."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._server.open()
                await self._settle()
                await self._following.open()
                self._why = None
                self._tried.set()
                pause = FIRST_PAUSE_S
                await self._following.ended()
            except Exception as error:  # whatever it is: questions must not wait for it in vain
                why = error if isinstance(error, KindredError) else Failed(f"{type(error).__name__}: {error}")
                log.warning("%s at %s: %s", self._home.network, self._address.where, why.detail)
                self._why = why
                self._tried.set()
                await self._leave()
            await asyncio.sleep(LONG_PAUSE_S if isinstance(self._why, TooLarge) else pause)
            pause = min(LAST_PAUSE_S, 2 * pause)

    async def _settle(self) -> None:
        """See that it is the network's that was asked for, of the same space, and how it is parted."""
        where = self._address.where
        owner, space, partition = [await self._server.note(name) for name in ("network", "space", "partition")]
        if owner is None or space is None or partition is None:
            raise Unavailable(f"{where}: no network keeps its packets there yet")
        if owner != self._home.network.encode():
            raise Conflict(f"{where} keeps the packets of {owner.decode(errors='replace')!r:.70}")
        if space != self._space:
            raise Conflict(f"{where} keeps packets of space {space.hex():.64}, the question is of {self._space.hex()}")
        self._server.settle(Partition.from_bytes(partition, self._d).version)

    async def _leave(self) -> None:
        """Close everything; who is cancelled meanwhile leaves nothing half closed."""
        if self._leaving is None or self._leaving.done():
            self._leaving = asyncio.create_task(self._close())
        await asyncio.shield(self._leaving)

    async def _close(self) -> None:
        await self._following.close()
        await self._left.wait()  # what a library is asked while it closes, it may leave open
        await self._server.close()


class ServerReader:
    """Reads servers of the schemes in `opening.READABLE`. account: adds user, password and ca to an address."""

    def __init__(self, bounds: Bounds, account: Callable[[EngineAddress], EngineAddress], clock: Clock) -> None:
        self._bounds = bounds
        self._account = account
        self._clock = clock
        self._mirrored: dict[tuple[str, Home, bytes, int], Mirrored] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def mirrored(self) -> list[Mirrored]:
        """Those that are held now."""
        return list(self._mirrored.values())

    async def prepare(self, endpoint: str, request: NearestRequest, timeout_s: float) -> None:  # noqa: ARG002
        """Begin to read."""
        self._at(endpoint, request)

    async def nearest(self, endpoint: str, request: NearestRequest, timeout_s: float) -> NearestReply:
        """The nearest packets of what is kept at `endpoint`. Raises Refused, TimedOut or Failed."""
        return await self._at(endpoint, request).nearest(request, timeout_s)

    async def close(self) -> None:
        """Let go of all."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            await end(sweeping)
        mirrored, self._mirrored = self.mirrored, {}
        await asyncio.gather(*(each.close() for each in mirrored), *self._leaving)

    def _at(self, endpoint: str, request: NearestRequest) -> Mirrored:
        home = Home(request.domain, request.space[:8], request.network)
        key = endpoint, home, request.space, len(request.fingerprint)
        found = self._mirrored.get(key)
        if found is None:
            try:
                address = EngineAddress.parse(endpoint, request.network)
                if address.scheme not in READABLE:
                    raise ConfigError(
                        f"{endpoint!r:.100}: {address.scheme}: cannot be read without a network before it"
                    )
                self._make_room()
                address = self._account(address)
                found = Mirrored(
                    address, home, request.space, len(request.fingerprint), self._room_of(key), self._clock
                )
            except KindredError as error:
                raise Failed(error.detail) from None
            self._mirrored[key] = found
            if self._sweeping is None:
                self._sweeping = asyncio.create_task(self._sweep())
        return found

    def _room_of(self, key: tuple[str, Home, bytes, int]) -> Callable[[], int]:
        """How many packets one of them may hold, as long as the others hold what they do."""
        return lambda: self._bounds.packets - sum(each.told for other, each in self._mirrored.items() if other != key)

    def _make_room(self) -> None:
        if len(self._mirrored) >= self._bounds.networks:
            idle = [(each.used, key) for key, each in self._mirrored.items() if not each.asking]
            if not idle:
                raise Unavailable(f"{len(self._mirrored)} networks are being read already; that is as many as may be")
            self._let_go(min(idle)[1])

    async def _sweep(self) -> None:
        """Let go of what nobody has asked for a while."""
        while True:
            await asyncio.sleep(self._bounds.idle_s / 4)
            now = self._clock.monotonic()
            for key, each in list(self._mirrored.items()):
                if not each.asking and now - each.used > self._bounds.idle_s:
                    self._let_go(key)

    def _let_go(self, key: tuple[str, Home, bytes, int]) -> None:
        leaving = asyncio.create_task(self._mirrored.pop(key).close())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


def dht_reader(bounds: Bounds, clock: Clock, listen: str) -> Reader:
    """Who reads networks in DHTs by nodes of its own at `listen`. Raises ConfigError."""
    reader: Reader = load(("regional.engines.dht.reader", "DhtReader"), "dht:", DHT)(bounds, clock, listen)
    return reader
