"""The way of a question, whole: encode, resolve, plan, fan out, merge, certify, synthesise.

Also the library face: an edge node can ask without any server beside it.

    async with Federation.open("federation.yaml") as federation:
        answer = await federation.ask(domain="crash.vehicles", situation={"age": 40, ...})
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.answer import Answer
from gateway.asking import Asking, understand
from gateway.configuration.config import FederationConfig
from gateway.fetching.atoms import AtomFanout
from gateway.fetching.cache import Cache
from gateway.fetching.deadline import Deadline
from gateway.fetching.fanout import Fanout
from gateway.fetching.gathering import Gathering
from gateway.fetching.pages import Pages
from gateway.fetching.resolver import Resolver
from gateway.fetching.roll import roll
from gateway.journey import Journey
from gateway.question import Question
from gateway.statistics.standpoint import Standpoint
from regional.client import NetworkClient
from regional.connections import Connections
from regional.reader import Reader
from registry.clock import Clock, SystemClock
from registry.errors import LookupFailed, UnknownName
from registry.geometry.cell import Naming
from registry.likeness.fingerprint import check_space
from registry.likeness.schema import Schema
from registry.resolving.lookup import Lookups

THREAD_ABOVE = 2_000  # neighbours; making an answer of more would hold up the event loop


class Federation:
    """Everything that asking needs: schemas, the registry's name server, who asks the networks, the cache.

    reader: asks networks at any endpoint; served: fetches what only networks with a service of their own publish.
    """

    def __init__(
        self,
        schemas: Mapping[str, Schema],
        origin: str,
        lookups: Lookups,
        reader: Reader,
        served: NetworkClient,
        clock: Clock,
        cache: Cache,
        deadline_s: float,
    ) -> None:
        self.schemas = schemas
        self.clock = clock
        self.deadline_s = deadline_s
        self.resolver = Resolver(lookups, cache)
        self._origin = origin
        self._reader = reader
        self._served = served
        self._gatherings: dict[str, Gathering] = {}
        self.pages = Pages(served, clock)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: str | Path | FederationConfig, clock: Clock | None = None) -> AsyncIterator[Federation]:
        """The federation that a `federation.yaml` describes, for as long as the context lasts."""
        settings = config if isinstance(config, FederationConfig) else FederationConfig.from_yaml(Path(config))
        clock = clock or SystemClock()
        lookups = Lookups(settings.source(clock))
        served = NetworkClient(Connections())
        reader = settings.reader(served, clock)
        federation = cls(
            schemas=settings.schemas(),
            origin=settings.registry.origin,
            lookups=lookups,
            reader=reader,
            served=served,
            clock=clock,
            cache=Cache(clock, settings.gateway.cache, settings.gateway.resolver.stale),
            deadline_s=settings.gateway.deadline,
        )
        try:
            yield federation
        finally:
            await federation.close()
            await federation.resolver.cache.close()
            await lookups.close()
            await reader.close()
            await federation.pages.close()

    async def ask(self, question: Question | None = None, **members: object) -> Answer:
        """Answer one question: a Question, or its members (PROTOCOL, "Ask") as keyword arguments.

        Raises QuestionError, SituationError, FingerprintError, UnknownName (domain), Conflict (space),
        LookupFailed (the registry cannot be reached at all). A network that fails is no error: see certificate.
        """
        question = question or Question.from_document(members)
        asking = understand(question, self._schema(question.domain), self.naming(question.domain))
        deadline = self._deadline(question)
        gathering = self._gathering(asking)
        gathering.begin()
        journey = await self._journey(asking, deadline)
        await journey.run()
        if journey.gone and deadline.remaining():
            # The apex that was kept speaks of a generation that the registry has dropped since (it was restarted).
            for naming in journey.gone:
                self.resolver.forget_tree(naming)
            with suppress(LookupFailed):
                journey = await self._journey(asking, deadline)
                await journey.run()
        if journey.moved and deadline.remaining():
            # What was kept of a registry names networks for what they have handed over: all of it is asked for anew.
            for naming, epoch in journey.moved.items():
                self.resolver.expire(naming, epoch)
            with suppress(LookupFailed):
                journey = await self._journey(asking, deadline, strict=False)
                await journey.run()
        if question.corroborate and asking.schema.actions and deadline.remaining():
            await journey.corroborate()
        await gathering.settle(deadline.until_soft())
        standpoint = Standpoint(asking.query, gathering.whole, gathering.reason)
        if journey.found > THREAD_ABOVE:
            return await asyncio.to_thread(journey.answer, standpoint)
        return journey.answer(standpoint)

    async def close(self) -> None:
        """End what is under way in the background."""
        for gathering in self._gatherings.values():
            await gathering.close()

    async def resolve(self, question: Question) -> dict[str, object]:
        """Where the question would go: the walk alone, out to the distance at which K neighbours are expected.

        `forecast` says what asking would cost in the question's mode (gateway.planning.plan.Forecast).
        """
        asking = understand(question, self._schema(question.domain), self.naming(question.domain))
        journey = await self._journey(asking, self._deadline(question))
        cells = await journey.walk()
        standing = journey.standing
        expected = journey.promise.sum(axis=1).tolist()
        order = sorted(range(len(standing.names)), key=lambda row: -expected[row])
        return {
            "domain": question.domain,
            "apex": asking.naming.apex,
            "generation": journey.tree.apex.generation,
            "serial": journey.tree.serial,
            "registries": journey.trees.document(),
            "cells": cells,
            "forecast": journey.forecast.document(),
            "networks": [
                {
                    "name": standing.names[row],
                    "lower_bound": float(standing.lower[row].min()),
                    "expected": round(expected[row], 3),
                    "lapsed": standing.names[row] in journey.lapsed,
                }
                for row in order
            ],
        }

    async def networks(self, domain: str, timeout_s: float = 10.0) -> list[dict[str, object]]:
        """Every network of a domain, found by walking the whole tree."""
        naming = self.naming(domain)
        order = sorted(await roll(self.resolver, naming, self.clock, timeout_s) or ())
        infos = await asyncio.gather(*(self.resolver.network(*naming.owner(name), timeout_s) for name in order))
        return [
            {
                "name": name,
                "domain": domain,
                "endpoints": list(kept.value.endpoints),
                "engine": kept.value.text.engine,
                "serial": kept.value.text.serial,
                "age_s": max(0.0, round(self.clock.now() - kept.value.text.issued, 3)),
                "packets": kept.value.text.packets,
                "uncovered": kept.value.text.uncovered,
                "lapsed": kept.value.text.lapsed,
            }
            for name, kept in zip(order, infos, strict=True)
        ]

    def naming(self, domain: str) -> Naming:
        """The DNS names of a domain. Raises UnknownName."""
        if domain not in self.schemas:
            known = ", ".join(sorted(self.schemas))
            raise UnknownName(f"domain: {domain!r:.80} is not known here; known are {known}", path="domain")
        return Naming(domain, self._origin)

    def _gathering(self, asking: Asking) -> Gathering:
        domain = asking.question.domain
        if domain not in self._gatherings:
            self._gatherings[domain] = Gathering(
                asking.naming, asking.schema, self.resolver, self._served, self.pages, self.clock
            )
        return self._gatherings[domain]

    def _schema(self, domain: str) -> Schema:
        self.naming(domain)
        return self.schemas[domain]

    def _deadline(self, question: Question) -> Deadline:
        """The question's own, else the configured one."""
        own = question.deadline_ms
        return Deadline(self.clock, self.deadline_s if own is None else own / 1000)

    async def _journey(self, asking: Asking, deadline: Deadline, strict: bool = True) -> Journey:
        tree = await self.resolver.tree(asking.naming, deadline.remaining())
        check_space(asking.schema, tree.apex.space.hex())
        fanout = self._fanout(asking, deadline)
        return Journey(asking, tree, self.resolver, fanout, deadline, self.clock, strict)

    def _fanout(self, asking: Asking, deadline: Deadline) -> Fanout:
        """Who asks the networks: where aggregates are released nobody does, for their pages are at hand."""
        if asking.schema.release == "aggregates":
            return AtomFanout(self.resolver, self._reader, asking.naming, asking.schema, deadline, self.pages)
        return Fanout(self.resolver, self._reader, asking.naming, asking.schema, deadline)
