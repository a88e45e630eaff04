"""Gathers the second moments of a domain's networks: in the background, for all questions, and none waits.

A table depends on no question, so asking for it tells nobody anything of who asks. Which networks there are is found by
walking the whole tree, now and then; each table is fetched, verified by the network's own key, and kept for a while. Of
networks of persons the pages of atoms, which are at hand whole, are added up here.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gateway.fetching.cache import Kept
from gateway.fetching.pages import Pages
from gateway.fetching.resolver import Resolver
from gateway.fetching.roll import roll
from gateway.statistics.standpoint import NO_TABLES
from gateway.statistics.whole import Whole
from regional.client import NetworkClient
from regional.momenttable import MomentTable
from registry.clock import Clock
from registry.errors import KindredError, LookupFailed
from registry.geometry.cell import Naming
from registry.keys import public_from_text, verify_document
from registry.likeness.schema import Schema
from registry.resolving.lookup import Looked

REFRESH_S: Final = 20.0
AGAIN_S: Final = 2.0  # where a table was missing, or older than its network's coverage
TABLE_TTL_S: Final = 15.0  # below the refresh, so that each brings new ones
NAMES_S: Final = 300.0  # the walk over the whole tree is not repeated before
MAX_NETWORKS: Final = 512  # of one domain whose tables are gathered
AT_ONCE: Final = 16
TIMEOUT_S: Final = 5.0

TOO_MANY = f"the domain has more than {MAX_NETWORKS} networks; their tables of moments are not gathered"


class Gathering:
    """The whole of one domain, as of the last round."""

    def __init__(
        self, naming: Naming, schema: Schema, resolver: Resolver, client: NetworkClient, pages: Pages, clock: Clock
    ) -> None:
        self._naming = naming
        self._schema = schema
        self._resolver = resolver
        self._client = client
        self._pages = pages
        self._clock = clock
        self._names: list[str] | None = []
        self._names_until = 0.0
        self._due = 0.0
        self._round: asyncio.Task[None] | None = None
        self._behind: set[str] = set()  # networks whose table is older than their coverage
        self.whole: Whole | None = None
        self.reason = NO_TABLES

    def begin(self) -> None:
        """Start a round where one is due and none is under way."""
        if self._round is None and self._clock.monotonic() >= self._due:
            self._round = asyncio.create_task(self._gather())

    async def settle(self, patience_s: float) -> None:
        """Wait for the first round, no longer than that; whoever comes later has what is at hand.

        For the tables of networks that are known by now, not for the walk over a large tree to find these.
        """
        if self.whole is None and self._round is not None and self._names and patience_s > 0.0:
            await asyncio.wait([self._round], timeout=patience_s)

    async def close(self) -> None:
        """End the round under way."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def _gather(self) -> None:
        whole = False
        try:
            whole = await self._tables()
        except KindredError as error:
            self.reason = f"the networks could not be found: {error.detail}"
        finally:
            self._due = self._clock.monotonic() + (REFRESH_S if whole else AGAIN_S)
            self._round = None

    async def _tables(self) -> bool:
        """One round; whether it brought all that there is to bring."""
        if self._clock.monotonic() >= self._names_until:
            self._names = await roll(self._resolver, self._naming, self._clock, TIMEOUT_S, MAX_NETWORKS)
            self._names_until = self._clock.monotonic() + NAMES_S
        names = self._names
        if names is None:
            self.whole, self.reason = None, TOO_MANY
            return True
        gate = asyncio.Semaphore(AT_ONCE)
        found = dict(zip(names, await asyncio.gather(*(self._one(name, gate) for name in names)), strict=True))
        tables = {name: table for name, table in found.items() if isinstance(table, MomentTable)}
        missing = {name: reason for name, reason in found.items() if isinstance(reason, str)}
        if tables:
            axes = self._schema.adjusted
            self.whole = await asyncio.to_thread(Whole.of, tables, axes, missing)
        else:
            self.whole = None
            self.reason = f"{NO_TABLES}: {next(iter(missing.values()))}" if missing else NO_TABLES
        if missing:
            self._names_until = 0.0  # one that is gone, perhaps
        return not missing and not self._behind.intersection(tables)

    async def _one(self, name: str, gate: asyncio.Semaphore) -> MomentTable | str:
        """A network's table, or why there is none."""

        async def look_up() -> Looked[object]:
            try:
                table = await self._fetch(name)
                return Looked(table, AGAIN_S / 2 if name in self._behind else TABLE_TTL_S, 0)
            except LookupFailed:
                raise
            except KindredError as error:
                raise LookupFailed(error.detail) from None

        async with gate:
            try:
                kept = await self._resolver.cache.get(("moments", self._naming.apex, name), look_up, TIMEOUT_S)
            except LookupFailed as error:
                return error.detail
        return cast(Kept[MomentTable], kept).value

    async def _fetch(self, name: str) -> MomentTable:
        """Raises KindredError: unreachable, not signed by the network, or no table of this domain."""
        naming, own = self._naming.owner(name)
        info = (await self._resolver.network(naming, own, TIMEOUT_S)).value
        if self._schema.release == "aggregates":
            edition = await self._pages.edition(naming.network(own), info, naming.domain, self._schema, TIMEOUT_S)
            return await asyncio.to_thread(MomentTable.of_atoms, self._schema, edition.atoms, edition.index.serial)
        failure: KindredError = LookupFailed(f"{name} has no endpoint")
        for endpoint in info.endpoints:
            try:
                document = await self._client.moments(endpoint, TIMEOUT_S)
                break
            except KindredError as error:
                failure = error
        else:
            raise failure
        home = self._naming.domain, own
        key = public_from_text(info.text.key)

        def read() -> MomentTable:
            verify_document(document, key)
            return MomentTable.from_document(document, home, self._schema)

        table = await asyncio.to_thread(read)
        (self._behind.add if table.serial < info.text.serial else self._behind.discard)(name)
        return table
