"""One question under way: the plan says what is next, the journey does it and brings back what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gateway.account import listed, warned
from gateway.answer import Answer, WalkReport
from gateway.asking import Asking
from gateway.certificate import Certificate, Relied, certify
from gateway.disposition import Disposition, Outcome
from gateway.fetching.arrivals import Arrivals
from gateway.fetching.cache import Kept
from gateway.fetching.deadline import Deadline
from gateway.fetching.fanout import Answered, Fanout
from gateway.fetching.opinions import Heard, opinions
from gateway.fetching.resolver import Resolver, Tree
from gateway.fetching.trees import Trees
from gateway.planning.cell import Cell
from gateway.planning.expectation import Array
from gateway.planning.merge import Merge
from gateway.planning.neighbours import Neighbours
from gateway.planning.outlook import Standing
from gateway.planning.path import Path
from gateway.planning.plan import Ask, Forecast, Plan
from gateway.planning.resolution import Walk
from gateway.question import mode_document
from gateway.statistics.balance import balance
from gateway.statistics.parentage import Parentage
from gateway.statistics.standpoint import Standpoint
from gateway.statistics.synthesis import cautions, synthesise
from regional.releasing.atom import step_of
from registry.clock import Clock
from registry.errors import LookupFailed
from registry.geometry.cell import Naming

LEAST_HEARD = 5  # networks: fewer have no median that withstands two liars, and no prediction
CELLS_AT_ONCE = 8  # opened in one go to find them

Opened = tuple[Path, Kept[Cell] | LookupFailed]


class Journey:
    """Runs one plan against the resolver and the fan-out, under one deadline."""

    def __init__(
        self,
        asking: Asking,
        tree: Tree,
        resolver: Resolver,
        fanout: Fanout,
        deadline: Deadline,
        clock: Clock,
        strict: bool = True,
    ) -> None:
        """strict: networks are told how new what is known of them is, so that they may say that it is too old."""
        self._asking = asking
        self.tree = tree
        self._fanout = fanout
        self._deadline = deadline
        self._clock = clock
        self._walk = Walk(asking.query, asking.arms, asking.actions, tree.naming)
        self._trees = Trees(resolver, tree, clock)
        self._merge = Merge(asking.query, asking.question.k, asking.arms, asking.actions)
        self._plan = Plan(self._walk, self._merge, asking.question.k, asking.arms, asking.question.mode)
        self._lookups = 0
        self._strict = strict
        self._gone: set[Naming] = set()
        self._stale = False
        self._answered: dict[str, Answered] = {}
        self._truncated: dict[str, dict[str, float]] = {}
        self._within: dict[str, Mapping[str, float]] = {}
        self._under_way: Arrivals[Opened | Answered] = Arrivals()
        self._prepared: dict[str, asyncio.Task[None]] = {}
        self._opinions: Mapping[str, Neighbours] | None = None
        self._everything: dict[Path, Kept[Cell] | LookupFailed] = {}

    async def run(self) -> None:
        """Until nothing is left to do, or the deadline has passed."""
        try:
            if self._asking.schema.release == "aggregates":
                await self._have_everything()
            while self.tree.apex.generation and self._deadline.remaining():
                self._take_steps()
                if not self._under_way:
                    break
                for result in await self._under_way.wait(self._deadline.until_soft() or self._deadline.remaining()):
                    if isinstance(result, Answered):
                        self._take_answer(result)
                    else:
                        self._take_cells([result])
        finally:
            await self._under_way.cancel()
            for each in self._prepared.values():
                each.cancel()
            await asyncio.gather(*self._prepared.values(), return_exceptions=True)

    async def _have_everything(self) -> None:
        """Open every cell of the tree and gather what all networks have, so that what is looked up and fetched is the
        same whatever is asked; from then on the question is answered from what is at hand."""
        whole = Walk(np.zeros_like(self._asking.query), ("",), naming=self.tree.naming)
        while self.tree.apex.generation and (paths := whole.wanted(np.array([np.inf]))):
            missing = [path for path in paths if self._at_hand(path) is None]
            looked = dict(await asyncio.gather(*(self._look_up(path) for path in missing)))
            for path in paths:
                found = looked.get(path) or self._at_hand(path)
                if found is None or isinstance(found, LookupFailed):
                    whole.could_not_open(path, "" if found is None else found.detail)
                else:
                    whole.opened([(path, found.value)])
                if found is not None:
                    self._everything[path] = found
        await self._fanout.gather(whole.networks)

    async def corroborate(self) -> None:
        """Hear from each network that has answered what it says by itself; and, if few have, from the nearest others.

        A network that claims to hold all that is near is otherwise the only one asked, and nobody contradicts it.
        """
        heard = [
            Heard(answered, whole=self._asking.per == "action" and not self._within[name])
            for name, answered in self._answered.items()
            if answered.reply is not None
        ]
        others = await self._nearest_others(LEAST_HEARD - len(heard))
        self._opinions = await opinions(self._asking, self._fanout, heard, others, self._walk.networks)

    async def _nearest_others(self, wanted: int) -> list[str]:
        """The networks nearest by what is covered, of those that were not asked; cells are opened to find so many."""
        everywhere = np.full(len(self._asking.arms), np.inf)
        while True:
            standing = self._plan.standing()
            nearest = np.argsort(standing.lower.min(axis=1, initial=np.inf), kind="stable")
            left = [name for row in nearest if (name := standing.names[row]) not in self._plan.asked]
            cells = self._walk.wanted(everywhere)[:CELLS_AT_ONCE]
            if len(left) >= wanted or not cells or not self._deadline.remaining():
                return left[: max(0, wanted)]
            at_hand = [(path, looked) for path in cells if (looked := self._at_hand(path)) is not None]
            self._take_cells(at_hand or await asyncio.gather(*(self._look_up(path) for path in cells)))

    async def walk(self) -> list[dict[str, object]]:
        """Only the walk, out to where the K-th neighbour is expected; one entry per cell."""
        steps: list[dict[str, object]] = []
        if self._asking.schema.release == "aggregates":
            await self._have_everything()
        while self.tree.apex.generation and (wanted := self._plan.next(soft=False).open):
            found = await asyncio.gather(*(self._look_up(path) for path in wanted))
            self._take_cells(found)
            for path, looked in found:
                steps.append(
                    {
                        "name": self._trees.name(path),
                        "records": None if isinstance(looked, LookupFailed) else len(looked.value.records),
                        "reason": looked.detail if isinstance(looked, LookupFailed) else None,
                    }
                )
        return steps

    @property
    def trees(self) -> Trees:
        """The registries that the walk has come to."""
        return self._trees

    @property
    def forecast(self) -> Forecast:
        """What asking would cost, once the walk is done."""
        return self._plan.forecast()

    @property
    def gone(self) -> frozenset[Naming]:
        """The registries whose generation, the one walked, turned out not to exist any more."""
        return frozenset(self._gone)

    @property
    def moved(self) -> Mapping[Naming, int]:
        """Registries of which older records than these serials were relied on, though a network has moved since."""
        found: dict[Naming, int] = {}
        for name, answered in self._answered.items():
            if answered.moved:
                naming = self._asking.naming.owner(name)[0]
                found[naming] = max(found.get(naming, 0), answered.moved)
        return found

    @property
    def standing(self) -> Standing:
        """What is known of each network met so far."""
        return self._plan.standing()

    @property
    def promise(self) -> Array:
        """(n, a): how many neighbours are still expected of each of them."""
        return self._plan.promise()

    @property
    def lapsed(self) -> frozenset[str]:
        """Networks met whose lease is over."""
        return frozenset(self._walk.lapsed)

    @property
    def found(self) -> int:
        """Candidates at hand, as many as may be neighbours."""
        return self._merge.count()

    def answer(self, standpoint: Standpoint) -> Answer:
        """What the journey brought, certified and synthesised. Takes a while for thousands of neighbours."""
        asking = self._asking
        self._drop_the_faulty()
        neighbours = self._merge.nearest()
        columns = neighbours.columns(asking.schema.dimension, asking.question.k, asking.per, self._merge.kths())
        actions = asking.actions or asking.schema.actions
        standing = self._plan.standing()
        outcomes = {name: answered.outcome for name, answered in self._answered.items()}
        for name in self._plan.asked - outcomes.keys():
            disposition = Disposition.LAPSED if name in self._walk.lapsed else Disposition.TIMED_OUT
            reason = f"no answer within {self._deadline.seconds * 1000:.0f} ms"
            outcomes[name] = Outcome(disposition, reason, round(self._deadline.seconds * 1000, 3))
        lookups = self._lookups + self._trees.entered
        certificate = certify(
            walk=self._walk,
            standing=standing,
            outcomes=outcomes,
            truncated=self._truncated,
            radius=self._merge.radius(),
            arms=asking.arms,
            k=asking.question.k,
            nobody_covers=not self.tree.apex.generation,
            as_of=self._trees.ages.as_of,
            stale=self._stale or self._trees.stale,
            apart=self._trees.ages.apart,
            coverage=self._relied(),
        )
        return Answer(
            domain=asking.question.domain,
            space=asking.schema.space.hex(),
            schema=asking.schema.digest.hex(),
            study=asking.schema.study,
            notice=asking.schema.notice,
            k=asking.question.k,
            per=asking.question.per,
            mode=mode_document(asking.question.mode),
            expected_recall=1.0 if certificate.neighbours_complete else self._plan.expected_recall(),
            neighbours=neighbours,
            show_neighbours=asking.question.neighbours,
            tied_at_k=self._merge.tied_at_k(),
            certificate=certificate,
            networks=listed(standing, outcomes, neighbours, self._merge.radius(), self.promise, asking.question.mode),
            walk=WalkReport(self.tree.apex.generation, self._walk.cells_opened, lookups, len(self._walk.networks)),
            synthesis=synthesise(
                columns,
                outcomes={name: asking.schema.outcomes[name] for name in asking.outcomes},
                actions=actions,
                study=asking.schema.study,
                bandwidth_floor=asking.schema.bandwidth_floor,
                opinions=self._opinions,
                standpoint=standpoint,
                parentage=self._parentage(),
            ),
            balance=balance(columns, actions, asking.schema.features, asking.schema.bandwidth_floor),
            warnings=[*self._warnings(certificate), *cautions(columns, actions, asking.schema.study)],
        )

    def _warnings(self, certificate: Certificate) -> list[dict[str, str]]:
        return warned(
            certificate,
            self._asking.question.mode,
            covered=bool(self.tree.apex.generation),
            lapsed=bool(self._walk.lapsed & self._plan.asked),
            outside=bool(self._walk.outside),
            tied=bool(self._merge.tied_at_k()),
        )

    def _parentage(self) -> Parentage | None:
        """Who tells of survival, where aggregates are released."""
        asking = self._asking
        if asking.schema.release == "packets":
            return None
        step = step_of(asking.schema)
        return Parentage(self._fanout.parents, asking.query, step, asking.question.k, asking.per)

    def _take_steps(self) -> None:
        """Start what the plan wants; cells that are in the cache are opened on the spot."""
        while certain := [(cell, looked) for cell in self._plan.certain() if (looked := self._at_hand(cell))]:
            self._take_cells(certain)
        while True:
            steps = self._plan.next(self._deadline.soft)
            for ask in steps.ask:
                self._under_way.start(self._ask(ask))
            at_hand: list[Opened] = []
            for path in steps.open:
                looked = self._at_hand(path)
                if looked is None:
                    self._under_way.start(self._look_up(path))
                else:
                    at_hand.append((path, looked))
            if not at_hand:
                for network in steps.soon():
                    if network not in self._prepared:
                        preparing = self._fanout.prepare(network, self._asking.request(network, {}))
                        self._prepared[network] = asyncio.create_task(preparing)
                return
            self._take_cells(at_hand)

    def _at_hand(self, path: Path) -> Kept[Cell] | LookupFailed | None:
        if path in self._everything:
            return self._everything[path]
        try:
            return self._trees.cached(path)
        except LookupFailed as error:
            return error

    async def _look_up(self, path: Path) -> Opened:
        self._lookups += 1
        try:
            return path, await self._trees.cell(path, self._deadline.remaining())
        except LookupFailed as error:
            return path, error

    async def _ask(self, ask: Ask) -> Answered:
        lapsed = ask.network in self._walk.lapsed
        self._within[ask.network] = ask.within
        request = self._asking.request(ask.network, ask.within)
        if self._strict:
            apex = self._asking.naming.owner(ask.network)[0].apex
            request = replace(request, epoch=self._trees.ages.oldest(apex))
        return await self._fanout.ask(ask.network, request, lapsed)

    def _take_cells(self, found: Sequence[Opened]) -> None:
        opened = []
        for path, looked in found:
            self._plan.cell_done(path)
            if isinstance(looked, LookupFailed):
                self._walk.could_not_open(path, looked.detail)
                naming = self._trees.naming(path)
                if naming is not None and looked.where.get("rcode") == "NXDOMAIN":
                    self._gone.add(naming)
            else:
                self._trees.read(path, looked)
                self._stale = self._stale or looked.stale
                opened.append((path, looked.value))
        self._walk.opened(opened)

    def _take_answer(self, answered: Answered) -> None:
        self._answered[answered.network] = answered
        if answered.reply is not None:
            older = self._merge.add(answered.network, answered.reply.packets, answered.reply.tied, answered.home)
            if answered.reply.truncated:
                self._truncated[answered.network] = self._merge.reached(answered.network)
            if older:  # a node changed meanwhile: in its place the network may hold another, and radii rested on it
                for name in older:
                    self._truncated[name] = self._merge.reached(name)
                self._keep_to_within()
        whole = answered.reply is not None and not answered.reply.truncated
        self._plan.network_done(answered.network, answered=whole)

    def _drop_the_faulty(self) -> None:
        """Networks whose neighbours turn out to be no packets count as failed.

        The others were asked within a radius that rested on them, so each is complete only that far.
        """
        while (fault := self._merge.faulty()) is not None:
            network, why = fault
            answered = self._answered[network]
            failed = Outcome(Disposition.FAILED, f"a packet does not decode: {why}", answered.outcome.ms)
            self._answered[network] = replace(answered, outcome=failed, reply=None)
            self._merge.drop(network)
            self._plan.network_done(network, answered=False)
            self._keep_to_within()

    def _keep_to_within(self) -> None:
        """Each network is complete only as far as it was asked: that rested on what does not count any more."""
        for name, within in self._within.items():
            reached = self._truncated.get(name, {})
            self._truncated[name] = {arm: min(r, reached.get(arm, np.inf)) for arm, r in within.items()} | {
                arm: r for arm, r in reached.items() if arm not in within
            }

    def _relied(self) -> list[Relied]:
        return [
            Relied(each.network, each.serial, round(max(0.0, self._clock.now() - each.issued), 3))
            for each in sorted(self._answered.values(), key=lambda each: each.network)
            if each.serial
        ]
