"""A network that splits itself into shares while it serves, each a member of its own that covers fewer regions.

| step, as noted beside the network's packets | who keeps what | who covers it |
|---|---|---|
| copying | the network all; what belongs to a share is on its way there | the network all |
| both | the network all, the shares their own; a deposit is acknowledged when it is in both places | both |
| leaving | the same | each its own; for those who know what was before, the network still answers for all |
| parted | each its own | each its own; who knows what was before is told `moved` |

Between `leaving` and `parted` lies the time for which anybody may rely on an older version of the registry's zone. A
process that ends at any point goes on from the step noted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any, Final

from regional.engines.backing import end
from regional.network import Network
from regional.shares.ground import Ground
from regional.shares.handover import Handover
from regional.shares.moving import MovableEngine
from regional.shares.ownership import HOME, Cut, cut, packets_of, points_of
from regional.shares.share import Share
from regional.shares.sharing import Shares
from regional.shares.trying import Trying
from regional.shares.whereabouts import Place
from registry.errors import Conflict, Corrupt, NotGranted, QuestionError
from registry.jsontext import canonical, loads
from registry.publishing.member import MAX_SHARES, share_name

NOTE: Final = "shares"
LOOK_S: Final = 0.25  # how often it looks whether a time is over
LAST_PAUSE_S: Final = 5.0

log = logging.getLogger(__name__)


class Household:
    """A network with its shares, in one process. served: what the process answers for, by name."""

    def __init__(
        self, home: Network, engine: MovableEngine, ground: Ground, served: MutableMapping[str, Network]
    ) -> None:
        self._ground = ground
        self._served = served
        self._parts: list[tuple[Network, MovableEngine]] = [(home, engine)]
        self._door: Shares | None = None
        self._handovers: list[Handover] = []
        self._advertising: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._note: dict[str, Any] = {}
        self._trying = Trying(f"the split of {home.name}", LAST_PAUSE_S)

    @property
    def names(self) -> list[str]:
        """Of the network and its shares."""
        return [network.name for network, _ in self._parts]

    @property
    def busy(self) -> bool:
        """Whether a split is under way, or what it left is still being taken away."""
        return self._task is not None and not self._task.done()

    def state(self) -> dict[str, Any]:
        """{network, step, epoch, shares: [{name, packets, ...}], trouble}; step is null where it has no shares."""
        return {
            "network": self._home.name,
            "step": self._note.get("step"),
            "epoch": self._note.get("epoch", 0),
            "copied": sum(each.copied for each in self._handovers),
            "shares": [{"name": network.name, **engine.state()} for network, engine in self._parts],
            "trouble": self._trying.trouble or next((each.trouble for each in self._handovers if each.trouble), None),
        }

    async def open(self) -> None:
        """Open the network and its shares, and go on with what was under way."""
        await self._home.open()
        note = await self._engine.note(NOTE)
        if note is not None:
            self._note = _readable(loads(note))
            await self._open_shares()
            if self._note["step"] == "parted":
                await self._part()
            else:
                self._begin()

    async def close(self) -> None:
        """Let go of all."""
        for task in [*self._advertising, *([] if self._task is None else [self._task])]:
            await end(task)
        for handover in self._handovers:
            await handover.close()
        for network, _ in self._parts:
            await network.close()

    def start(self) -> None:
        """Keep covered what is to be covered."""
        for number, (network, _) in enumerate(self._parts):
            if number == HOME or self._note["step"] != "copying":
                self._advertise(network)
            if number == HOME or self._note["epoch"]:
                self._tabulate(network)

    async def move(self, name: str, to: Place) -> dict[str, Any]:
        """Begin to move the packets of the network, or of one of its shares. Raises as MovableEngine.move."""
        if self.busy:
            raise Conflict(f"{self._home.name} is being split; move it, or a share, when that is done")
        self._check_asked()
        network, engine = next(each for each in self._parts if each[0].name == name)
        await engine.move(to)
        return {"network": network.name, **engine.state()}

    async def split(self, into: int) -> dict[str, Any]:
        """Begin to split; returns when it is under way, or is already. Raises Conflict, QuestionError."""
        if not 2 <= into <= MAX_SHARES:
            raise QuestionError(f"a network is split into 2 to {MAX_SHARES} shares, not {into}", path="into")
        if self._note:
            if len(self._parts) != into:
                raise Conflict(f"{self._home.name} is split into {len(self._parts)} already")
            return self.state()
        self._check_asked()
        if self._home.schema.release != "packets":
            raise NotGranted(f"{self._home.domain} releases aggregates; the atoms of a network are made in one place")
        if self._engine.busy:
            raise Conflict(f"{self._home.name} is being moved; split it when that is done")
        census = await self._engine.census()
        found = await asyncio.to_thread(cut, census.fingerprints, into)
        names = [share_name(self._home.name, number) for number in range(2, into + 1)]
        if taken := [name for name in names if name in self._served]:
            raise Conflict(f"there is another network called {taken[0]!r}, which would be the share's name")
        places = [dict(self._ground.beside(self._engine.place, name)) for name in names]
        note = {"v": 1, "step": "copying", "cut": found.document(), "places": places, "epoch": 0, "until": 0.0}
        self._note = note
        try:
            await self._open_shares()
            for network, engine in self._parts[1:]:
                if engine.count:
                    raise Conflict(f"{engine.state()['at']}, where {network.name} is to be, keeps packets already")
            await self._keep()
        except BaseException:
            self._note = {}
            for network, _ in self._parts[1:]:
                await network.close()
            self._parts = self._parts[:1]
            raise
        self._begin()
        return self.state()

    def _check_asked(self) -> None:
        """Raise Conflict where gateways read the engine themselves: nobody could tell them that it is another one."""
        if not self._home.answers:
            raise Conflict(f"gateways read the engine of {self._home.name} themselves; let it answer (serve: network)")

    @property
    def _home(self) -> Network:
        return self._parts[HOME][0]

    @property
    def _engine(self) -> MovableEngine:
        return self._parts[HOME][1]

    @property
    def _cut(self) -> Cut:
        return Cut.from_document(self._note["cut"])

    async def _open_shares(self) -> None:
        for number, place in enumerate(self._note["places"], 1):
            network, engine = self._ground.share(share_name(self._home.name, number + 1), place)
            await network.open()
            await network.withdraw_with(self._home)
            engine.on_moved = partial(self._moved, number)
            self._parts.append((network, engine))

    async def _moved(self, number: int, to: Place) -> None:
        self._note["places"][number - 1] = dict(to)
        await self._keep()

    async def _keep(self, **changes: Any) -> None:
        note = {**self._note, **changes}
        await self._engine.keep_note(NOTE, canonical(note))
        self._note = note

    def _begin(self) -> None:
        found = self._cut
        for number, (network, engine) in enumerate(self._parts[1:], 1):
            handover = Handover(self._engine, Share(network, engine), partial(packets_of, found, number))
            strict = self._note["step"] != "copying"
            self._engine.follow(handover, strict)
            handover.start()
            self._handovers.append(handover)
        if self._note["step"] != "copying":
            self._double()
        if self._note["step"] == "leaving":
            self._home.keep_to(points_of(found, HOME))
        self._task = asyncio.create_task(self._go_on())

    def _double(self) -> None:
        for network, _ in self._parts[1:]:
            self._served[network.name] = network
        self._door = Shares(self._parts, self._cut)
        self._home.door = self._door

    async def _go_on(self) -> None:
        """From the step that is noted to the last; again after a pause where one fails."""
        steps: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "copying": self._copied,
            "both": self._covered,
            "leaving": self._left,
        }
        while (step := steps.get(self._note["step"])) is not None:
            await self._trying.do(step)

    async def _copied(self) -> None:
        for handover in self._handovers:
            await handover.complete.wait()
        for handover in self._handovers:
            await handover.close_behind()
        async with self._engine.still():
            for handover in self._handovers:
                await handover.arrived()
                self._engine.follow(handover, strict=True)
            self._double()
        await self._keep(step="both")
        for network, _ in self._parts[1:]:
            self._advertise(network)

    async def _covered(self) -> None:
        """The shares cover what they keep; only then the network lets go of it."""
        for handover in self._handovers:
            await handover.complete.wait()
        await asyncio.gather(*(network.renewed() for network, _ in self._parts[1:]))
        await self._keep(step="leaving")

    async def _left(self) -> None:
        """The network covers its own share; wait as long as anybody may know otherwise; then each keeps its own."""
        self._home.keep_to(points_of(self._cut, HOME))
        if not self._note["epoch"]:
            await self._home.renewed()
            await self._keep(epoch=self._home.zone_serial, until=self._ground.clock.now() + self._ground.overlap_s)
            for network, _ in self._parts[1:]:  # not before: what two tables tell of counts twice
                self._tabulate(network)
            log.info("%s: the shares cover what is theirs, as of %d", self._home.name, self._note["epoch"])
        while self._ground.clock.now() < self._note["until"]:  # noqa: ASYNC110 - a clock tells nobody
            await asyncio.sleep(LOOK_S)
        await self._part()

    async def _part(self) -> None:
        """Each keeps its own; what the network still has of others is taken away in the background."""
        if self._door is None:
            self._double()
        door = self._door
        if door is None:
            return
        self._home.keep_to(points_of(self._cut, HOME))
        await door.learn()
        async with door.still(), self._engine.still() as engine:
            note = {**self._note, "step": "parted"}
            await engine.keep_note(NOTE, canonical(note))  # before a deposit goes to one place only
            self._note = note
            self._home.handed_over = note["epoch"]
            door.parted = True
            for handover in self._handovers:
                self._engine.leave(handover)
        for handover in self._handovers:
            await handover.close()
        self._handovers = []
        if self._task is None:
            self._task = asyncio.create_task(self._trying.do(door.tidy))
        else:
            await self._trying.do(door.tidy)

    def _advertise(self, network: Network) -> None:
        self._advertising.append(asyncio.create_task(self._ground.advertise(network)))

    def _tabulate(self, network: Network) -> None:
        self._advertising.append(asyncio.create_task(self._ground.tabulate(network)))


def _readable(note: Any) -> dict[str, Any]:
    if not isinstance(note, dict) or note.get("step") not in ("copying", "both", "leaving", "parted"):
        raise Corrupt("the note of the shares is not readable; restore it from a backup")
    return note
