"""A network: the packets of its own nodes, and what of them its published coverage covers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from regional.covering import Covering
from regional.engine import Engine, NearestQuery, NearestResult, PutResult
from regional.packets.admission import Admission, Fitting
from regional.packets.deposit import DepositReport, Rejection
from regional.packets.packet import NO_FINGERPRINT, Packet, check_fingerprint
from regional.packets.packetcbor import FLOAT32, findable
from regional.releasing.withdrawals import Withdrawals
from regional.survey import Survey, only, survey_of
from registry.clock import Clock
from registry.errors import Conflict, Moved, NotGranted, QuestionError, StorageFull, TooLarge, UnknownName
from registry.jsontext import canonical, loads
from registry.keys import SigningKey
from registry.likeness.schema import Schema
from registry.publishing.coverage import Coverage

MAX_DRIFT: Final = 0.1  # share of the packets that may change before the counts are advertised anew
_THREAD_ABOVE: Final = 256  # packets; more at a time would hold up the event loop

Points = npt.NDArray[np.float32]
T = TypeVar("T")


class Door(Protocol):
    """Where the packets of a network with shares go, and where they are found by their nodes."""

    async def store(self, fitting: Fitting, whole: bool) -> tuple[int, int]:
        """How many are accepted, how many of those covered. whole: all or none."""

    async def held(self, node: bytes) -> bytes | None:
        """The current packet of a node."""

    def shares(self) -> Sequence[Network]:
        """All of them, the network itself first."""


class Network:
    """One member of one domain. `engine` is its own; its packets are of `schema`'s space, and of the network `home`:
    itself, unless it is a share of another.

    answers: whether questions are answered here, and not read where the engine keeps the packets. withdrawals: the log
    of who has left, kept where no backup reaches. door: where deposits go, once it has shares.
    handed_over: the serial of the registry's zone since which others cover what it covered before; 0: it has handed
    over nothing. zone_serial: of the registry's zone with the published coverage.
    """

    def __init__(
        self,
        name: str,
        domain: str,
        schema: Schema,
        engine: Engine,
        min_cohort: int,
        clock: Clock,
        *,
        withdrawals: Withdrawals | None = None,
        answers: bool = True,
        home: str | None = None,
    ) -> None:
        self.name = name
        self.home = home or name
        self.door: Door | None = None
        self.handed_over = 0
        self.zone_serial = 0
        self.domain = domain
        self.schema = schema
        self.stirred = asyncio.Event()  # set when a new coverage is wanted
        self.covered = asyncio.Event()  # set once a coverage is published
        self.min_cohort = min_cohort
        self.moments: Mapping[str, Any] | None = None  # the signed second-moment table
        self.stored = 0  # packets taken in this process's life
        self._engine = engine
        self._clock = clock
        self.answers = answers
        self._withdrawals = withdrawals
        self._published: Coverage | None = None
        self._document: Mapping[str, Any] | None = None
        self._last: Coverage | None = None
        self._covering = Covering(())
        self._uncovered: set[bytes] = set()
        self._changes = 0  # packets taken since the survey of what is published began
        self._strays = 0  # and how many of those are not covered
        self._during: list[Packet] | None = None  # those themselves, while a survey is under way
        self._noting = asyncio.Lock()  # packets are noted in the order in which they were stored
        self._taking: set[asyncio.Task[tuple[int, int]]] = set()
        self._admission = Admission(self.home, domain, schema)
        self._own: Callable[[Points], npt.NDArray[np.bool_]] | None = None
        self._wishes = self._fulfilled = 0
        self._adopted = asyncio.Event()  # set, and replaced, with each coverage

    async def open(self) -> None:
        """Load what is held. Raises Conflict where it is of another space, and what the engine raises."""
        await self._engine.open()
        space = await self._engine.note("space")
        if space is None:
            await self._engine.keep_note("space", self.schema.space)
        elif space != self.schema.space:
            await self._engine.close()
            raise Conflict(
                f"{self.name} holds packets of space {space.hex()}, the schema of {self.domain} has "
                f"{self.schema.space.hex()}; deposit them anew, encoded by this schema, into an empty store"
            )
        await self._withdraw_again(self._withdrawals)
        last = await self._engine.note("coverage")
        if last is not None:
            self._last = Coverage.from_document(loads(last), self.schema.dimension)
        self.stirred.set()

    async def close(self) -> None:
        """Finish what was begun, and let go."""
        await asyncio.gather(*self._taking, return_exceptions=True)
        await self._engine.close()
        if self._withdrawals is not None:
            self._withdrawals.close()

    @property
    def serial(self) -> int:
        """Of the published coverage, 0 before the first."""
        return 0 if self._published is None else self._published.serial

    @property
    def last_serial(self) -> int:
        """The highest serial ever published, also before a restart."""
        return max(self.serial, 0 if self._last is None else self._last.serial)

    @property
    def published(self) -> Coverage | None:
        """The coverage that the registry has published in this process's life."""
        return self._published

    @property
    def document(self) -> Mapping[str, Any] | None:
        """The signed document of `published`."""
        return self._document

    @property
    def count(self) -> int:
        """Packets held."""
        return self._engine.count

    @property
    def uncovered(self) -> int:
        """Packets held that the published coverage does not cover."""
        return self.count if self._published is None else len(self._uncovered)

    def told(self) -> dict[str, int]:
        """How many packets it holds, and how many of them are uncovered, as far as anybody may know."""
        return {"packets": self.count, "uncovered": self.uncovered}

    @property
    def pending(self) -> bool:
        """Whether a new coverage is wanted."""
        if self._published is None or self._fulfilled < self._wishes:
            return True
        return self._strays > 0 or self._changes > MAX_DRIFT * self._published.packets

    async def deposit(
        self, packets: Sequence[tuple[int, Packet]], rejected: Sequence[Rejection] = (), atomic: bool = False
    ) -> DepositReport:
        """Store packets, each with its line in the batch; what is accepted is durable when this returns.

        rejected: lines that did not even decode; they are handed on. atomic: none is stored where one is
        rejected. Raises StorageFull or Unavailable, with nothing stored.
        """
        fitting, misfits = await _aside(len(packets), self._admission.sort, packets)
        refused = tuple(sorted([*rejected, *misfits], key=lambda each: each.line))
        if not fitting or (atomic and refused):
            return DepositReport(0, 0, refused, 0, self.serial)
        most = self._engine.limits.atomic
        if atomic and len(fitting) > most:
            raise TooLarge(f"{len(fitting)} packets are not stored all or none here; {most} at most are", limit=most)
        taken, covered = await self._take(fitting, atomic)
        return DepositReport(taken, len(fitting) - taken, refused, covered, self.serial)

    async def get(self, node: bytes) -> Packet:
        """The current packet of a node. Raises UnknownName where there is none, or it was withdrawn."""
        self._check_release()
        data = await self._find(node)
        packet = None if data is None else Packet.from_cbor(data)
        if packet is None or packet.tombstone:
            raise UnknownName(f"{self.name} holds no packet of this node")
        return packet

    async def withdraw(self, node: bytes) -> int:
        """Replace the node's packet by a tombstone that holds nothing but its seq, which is returned.

        Raises UnknownName where there is nothing to withdraw.
        """
        while True:
            data = await self._find(node)
            held = None if data is None else Packet.from_cbor(data)
            if held is None or held.tombstone:
                raise UnknownName(f"{self.name} holds no packet of this node")
            gone = self._tombstone(held, held.seq + 1)
            if self._withdrawals is not None:
                self._withdrawals.add(node, gone.seq, gone.time)
            taken, _ = await self._take([(gone, gone.to_cbor())])
            if taken:
                return gone.seq

    def receipt(self, node: bytes) -> str | None:
        """What says that the node was withdrawn; None where no log is kept of it."""
        return None if self._withdrawals is None else self._withdrawals.receipt(node)

    async def nearest(self, query: NearestQuery, epoch: int = 0) -> NearestResult:
        """The nearest packets. Raises NotGranted, QuestionError, or Moved where who asks knows what was before.

        epoch: a serial of the registry's zone; what was relied on to ask here is at least as new. 0: not known.
        """
        self._check_release()
        if not self.answers:
            raise NotGranted(f"{self.name} is not asked here, but where its engine keeps its packets")
        most = self._engine.limits.k
        if not 1 <= query.k <= most:
            raise QuestionError(f"k is {query.k}; this network takes 1 to {most}", path="k")
        bounds = query.within.values() if isinstance(query.within, Mapping) else [query.within]
        if not all(bound is None or (bound >= 0 and math.isfinite(bound)) for bound in bounds):
            raise QuestionError("within must be a finite distance of at least 0", path="within")
        named = {*(query.actions or ()), *(query.within if isinstance(query.within, Mapping) else ())}
        for action in named - {"", *self.schema.actions}:
            raise QuestionError(f"{action!r:.60} is no action of {self.domain}", path="actions")
        if len(query.fingerprint) != self.schema.dimension:
            raise QuestionError(f"the fingerprint has d={len(query.fingerprint)}, not {self.schema.dimension}")
        check_fingerprint(query.fingerprint)
        found = await self._engine.nearest(query)
        if 0 < epoch < self.handed_over:  # only now: something may have been handed over meanwhile
            raise Moved(
                f"{self.name} has handed over what it covered before serial {self.handed_over}; ask the registry anew",
                epoch=self.handed_over,
            )
        return found

    async def packets(self) -> list[bytes]:
        """Every packet held that is its own, encoded, those of withdrawn nodes left out. Raises Unavailable."""
        held: dict[bytes, bytes] = {}
        async with aclosing(self._engine.watch()) as watch:
            async for told in watch:
                for change in told.changes:
                    if change.packet is not None and findable(change.packet)[2]:
                        held[change.node] = change.packet
                    else:
                        held.pop(change.node, None)
                if told.complete:
                    break
        own = self._own
        if own is None or not held:
            return list(held.values())
        points = np.stack([np.frombuffer(findable(data)[2], dtype=FLOAT32) for data in held.values()])
        return [data for data, mine in zip(held.values(), own(points).tolist(), strict=True) if mine]

    def tabulated(self, document: Mapping[str, Any]) -> None:
        """This is the second-moment table from now on, signed."""
        self.moments = document

    async def survey(self) -> Survey:
        """Regions over what is held now; in a thread. What is deposited until `adopt` or `abandon` is remembered."""
        self._during = []
        wish = self._wishes
        census = await self._engine.census()
        if self._own is not None:
            census = only(census, self._own(census.fingerprints))
        last = self._last if self._published is None else None
        return replace(await asyncio.to_thread(survey_of, census, self.min_cohort, last), wish=wish)

    def keep_to(self, own: Callable[[Points], npt.NDArray[np.bool_]]) -> None:
        """From the next coverage on, only what is its own is to be covered, of points (n, d)."""
        self._own = own

    async def renewed(self) -> None:
        """Wait until a coverage is published that was made of what is held now."""
        self._wishes += 1
        wish = self._wishes
        self.stirred.set()
        while self._fulfilled < wish:
            await self._adopted.wait()

    def announce(self, survey: Survey, serial: int, issued: float, key: SigningKey) -> None:
        """The coverage made from this survey is, or is about to be, of this serial."""

    def abandon(self) -> None:
        """The survey will not be published."""
        self._during = None

    async def adopt(
        self, survey: Survey, coverage: Coverage, document: Mapping[str, Any], zone_serial: int = 0
    ) -> None:
        """The registry has published this coverage, made from this survey, in its zone of this serial."""
        async with self._noting:
            covering = Covering(coverage.regions)
            during = self._during or []
            inside = await self._inside(covering, during)
            self._during = None
            self._published, self._document, self._last = coverage, document, coverage
            self._covering = covering
            self._uncovered = set(survey.uncovered)
            self._changes = self._strays = 0
            self.zone_serial = zone_serial
            self._fulfilled = survey.wish
            self._note(during, inside)
            self.covered.set()
        adopted, self._adopted = self._adopted, asyncio.Event()
        adopted.set()
        with suppress(StorageFull):  # a start then takes the serial from the registry, and builds regions anew
            await self._engine.keep_note("coverage", canonical(dict(document)))

    def _tombstone(self, packet: Packet, seq: int) -> Packet:
        """What stands in the place of a packet that was withdrawn."""
        return replace(
            packet,
            seq=seq,
            time=self._clock.now(),
            fingerprint=NO_FINGERPRINT,
            action=None,
            outcomes={},
            weight=1.0,
            signer=None,
            sig=None,
            tombstone=True,
        )

    async def withdraw_with(self, home: Network) -> None:
        """Take out whom the home of this share has withdrawn, should a backup have brought them back."""
        await self._withdraw_again(home._withdrawals)

    async def _withdraw_again(self, withdrawals: Withdrawals | None) -> None:
        """Take out whom a backup has brought back."""
        if withdrawals is None or not len(withdrawals):
            return
        for node in (await self._engine.census()).nodes:
            seq = withdrawals.seq(node)
            data = await self._engine.get(node) if seq is not None else None
            if seq is not None and data is not None and (held := Packet.from_cbor(data)).seq <= seq:
                gone = self._tombstone(held, max(seq, held.seq + 1))
                await self._engine.put([(gone, gone.to_cbor())])

    async def keep(self, fitting: Fitting) -> tuple[list[PutResult], list[bool]]:
        """Store and note; what became of each, and which are covered by the published coverage."""
        results = await self._engine.put(fitting)
        taken = [packet for (packet, _), result in zip(fitting, results, strict=True) if result == "accepted"]
        async with self._noting:
            inside = await self._inside(self._covering, taken)
            if self._during is not None:
                self._during.extend(taken)
            self._note(taken, inside)
        each = iter(inside)
        return results, [result == "accepted" and next(each) for result in results]

    async def forget(self, nodes: Sequence[tuple[bytes, int]]) -> list[bool]:
        """Forget packets that are kept elsewhere now, each unless it is of a higher seq than named."""
        gone = await self._engine.remove(nodes)
        self._uncovered.difference_update(node for (node, _), was in zip(nodes, gone, strict=True) if was)
        return gone

    async def covers(self, packets: Sequence[Packet]) -> list[bool]:
        """Which of these the published coverage covers."""
        return await self._inside(self._covering, packets)

    async def _take(self, fitting: Fitting, whole: bool = False) -> tuple[int, int]:
        """Store and note; how many are accepted, how many of those covered.

        Once begun it comes to its end, though nobody waits any more: what is stored and not noted would stay
        uncovered.
        """
        task = asyncio.create_task(self._store(fitting, whole))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return await asyncio.shield(task)

    async def _store(self, fitting: Fitting, whole: bool) -> tuple[int, int]:
        if self.door is not None:
            return await self.door.store(fitting, whole)
        results, covered = await self.keep(fitting)
        return results.count("accepted"), sum(covered)

    async def _find(self, node: bytes) -> bytes | None:
        """The current packet of a node, wherever it is."""
        return await (self._engine.get(node) if self.door is None else self.door.held(node))

    async def _inside(self, covering: Covering, packets: Sequence[Packet]) -> list[bool]:
        """Which packets are covered; a tombstone never is."""

        def find() -> list[bool]:
            inside = np.zeros(len(packets), dtype=np.bool_)
            rows = [row for row, packet in enumerate(packets) if not packet.tombstone]
            if rows:
                points = np.stack([packets[row].fingerprint for row in rows])
                inside[rows] = covering.covers(points, [packets[row].action or "" for row in rows])
            return inside.tolist()

        return await _aside(len(packets), find)

    def _note(self, packets: Sequence[Packet], inside: Sequence[bool]) -> None:
        """Keep the account of what is covered."""
        if self._own is not None:
            points = [packet.fingerprint for packet in packets if not packet.tombstone]
            own = iter(self._own(np.stack(points)).tolist() if points else ())
            mine = [packet.tombstone or next(own) for packet in packets]
            self._uncovered.difference_update(p.node for p, each in zip(packets, mine, strict=True) if not each)
            inside = [covered for covered, each in zip(inside, mine, strict=True) if each]
            packets = [packet for packet, each in zip(packets, mine, strict=True) if each]
        for packet, covered in zip(packets, inside, strict=True):
            (self._uncovered.discard if covered or packet.tombstone else self._uncovered.add)(packet.node)
        self._changes += len(packets)
        self.stored += len(packets)
        self._strays += sum(not (covered or packet.tombstone) for packet, covered in zip(packets, inside, strict=True))
        if self.pending:
            self.stirred.set()

    def _check_release(self) -> None:
        if self.schema.release != "packets":
            raise NotGranted(f"{self.domain} releases aggregates; no question reaches the packets")


async def _aside(amount: int, work: Callable[..., T], *inputs: object) -> T:
    """What `work` makes of the inputs; in a thread where there is so much that others would wait for it."""
    return work(*inputs) if amount <= _THREAD_ABOVE else await asyncio.to_thread(work, *inputs)
