"""What a server keeps of one network, mirrored in memory from a watch: all there is, then each change as it comes.

While the server cannot be heard, nothing is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from regional.engine import Census, NearestQuery, NearestResult, Told
from regional.engines.backing import Watched, end
from regional.engines.mirror import NONE_OWN, Home, Mirror
from regional.packets.packet import Packet
from registry.errors import KindredError, TooLarge, Unavailable

FIRST_PAUSE_S: Final = 0.1  # before a lost watch is begun again; doubled each time it fails
LAST_PAUSE_S: Final = 2.0
_STEP: Final = 256  # packets read at a time; more would hold up the event loop

log = logging.getLogger(__name__)


class Following:
    """The packets of `home`, of dimension `d`. most: how many nodes may be mirrored by now; None: all there are.

    own: packets with their bytes, by node, that are on their way to the server.
    """

    def __init__(
        self,
        home: Home,
        d: int,
        server: Watched,
        most: Callable[[], int] | None = None,
        own: Mapping[bytes, tuple[Packet, bytes]] = NONE_OWN,
    ) -> None:
        self._home = home
        self._d = d
        self._own = own
        self._server = server
        self._most = most
        self._mirror = Mirror(home, d, own)  # what is told now
        self._known = self._mirror  # what is complete
        self._position: int | None = None
        self._lost: str | None = "it is not open"  # why it cannot answer
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Packets held, those of withdrawn nodes not counted."""
        return len(self._known.index)

    @property
    def told(self) -> int:
        """Nodes told so far, also before all are."""
        return len(self._mirror)

    @property
    def foreign(self) -> int:
        """How many things on the server are no packets of this network, and are left out."""
        return self._known.foreign

    @property
    def lost(self) -> str | None:
        """Why it cannot answer now; None where it can."""
        return self._lost

    async def open(self) -> None:
        """Mirror all that is kept. Raises what the first watch fails with, TooLarge."""
        self._known = self._mirror = Mirror(self._home, self._d, self._own)
        self._position = None
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow(complete))
        await complete

    async def ended(self) -> None:
        """Wait until it hears no more, which is when more is kept than may be mirrored. Raises TooLarge."""
        if self._task is not None:
            await asyncio.wait({self._task})
        raise TooLarge(f"{self._lost}")

    async def close(self) -> None:
        """Let go of all that is mirrored."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
        self._lose(self._lost or "it is not open")
        for mirror in {self._known, self._mirror}:
            await asyncio.to_thread(mirror.index.close)

    def take(self, packets: Sequence[tuple[int, Packet, bytes]]) -> None:
        """Take packets that are known to be kept before the server tells of them."""
        self._mirror.take(packets)

    def bucket(self, node: bytes) -> int | None:
        """Where a node is held."""
        return self._mirror.bucket(node)

    def read(self, data: bytes) -> Packet | None:
        """A packet of this home, or None for anything else."""
        return self._mirror.read(data)

    async def nearest(self, query: NearestQuery) -> NearestResult:
        """The nearest packets, exactly. Raises Unavailable while the server cannot be heard."""
        return await self._current().index.nearest(query)

    async def census(self) -> Census:
        """A copy of everything that can be found."""
        return await self._current().index.census()

    async def reach(self, position: int) -> None:
        """Wait until all up to a position of the server's has been heard. Raises Unavailable."""
        while True:
            self._current()
            if self._position is not None and self._position >= position:
                return
            self._moved.clear()
            await self._moved.wait()

    async def _follow(self, complete: asyncio.Future[None]) -> None:
        """Hear of every change, for ever; `complete` is done when all has been heard for the first time."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                async with aclosing(self._server.watch(self._position)) as watch:
                    async for told in watch:
                        await self._hear(told)
                        if told.complete and not complete.done():
                            complete.set_result(None)
                        pause = FIRST_PAUSE_S
                raise Unavailable("the watch has ended")
            except Exception as error:  # whatever it is: a network must not stay silent for it
                detail = error.detail if isinstance(error, KindredError) else f"{type(error).__name__}: {error}"
                self._lose(f"{self._server.where} cannot be heard: {detail}")
                if not complete.done():
                    complete.set_exception(error if isinstance(error, KindredError) else Unavailable(detail))
                    return
                if isinstance(error, TooLarge):
                    return
                log.warning("%s: %s; again in %.1f s", self._home.network, self._lost, pause)
            await asyncio.sleep(pause)
            pause = min(LAST_PAUSE_S, 2 * pause)

    async def _hear(self, told: Told) -> None:
        if told.afresh:
            self._lose(f"{self._server.where} is being read")
            self._mirror = Mirror(self._home, self._d, self._own)
        for start in range(0, len(told.changes), _STEP):
            self._mirror.hear(told.changes[start : start + _STEP])
            if self._most is not None and len(self._mirror) > self._most():
                for mirror in {self._known, self._mirror}:
                    mirror.index.close()
                self._known = self._mirror = Mirror(self._home, self._d, self._own)
                raise TooLarge("more packets are kept there than there is room for here")
            await asyncio.sleep(0)  # others' turn, however much there is to hear
        self._position = told.position
        if told.complete:
            if self._known is not self._mirror:
                self._known.index.close()
                self._known = self._mirror
            self._lost = None
        self._moved.set()

    def _lose(self, why: str) -> None:
        self._lost = why
        self._moved.set()

    def _current(self) -> Mirror:
        if self._lost is not None:
            raise Unavailable(f"{self._home.network}: {self._lost}")
        return self._known
