"""The pages of networks of persons, fetched whole and kept by content, so that no question shows in what is fetched.

All pages of a network are taken by the digests of one signed index: never of two epochs. When an index is asked for
depends on the clock and on what the registry says, never on a question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regional.client import Failed, NetworkClient, TimedOut
from regional.releasing.atom import step_of
from regional.releasing.atombatch import AtomBatch
from regional.releasing.epoch import MAX_INDEX, EpochIndex
from regional.releasing.lifetable import LifeTables, Parent, read_parents
from regional.releasing.page import MAX_PAGE, Home, Page, digest_of, read_page
from regional.releasing.publication import PAGE_TYPE, TABLE_TYPE
from registry.clock import Clock
from registry.errors import ConfigError, KindredError, SignatureError
from registry.jsontext import loads
from registry.keys import public_from_text, verify_document
from registry.likeness.schema import Schema
from registry.resolving.lookup import NetworkInfo

MAX_KEPT: Final = 256 * 1024**2  # octets of pages, of all networks together
INDEX_S: Final = 30.0  # after so long an index is asked for again, whatever the registry says
AT_ONCE: Final = 8  # pages fetched of one network
FETCH_S: Final = 10.0  # for one page; who waits for it may give up sooner


@dataclass(frozen=True, slots=True, eq=False)
class Edition:
    """All atoms of one network in one epoch, and the parents that tell of survival.

    tables: what goes with the epoch, by name.
    """

    index: EpochIndex
    atoms: AtomBatch
    tables: Mapping[str, bytes]
    parents: Sequence[Parent] = ()


@dataclass(slots=True, eq=False)
class _Kept:
    """What is known of one network. checked: when its index was last asked for."""

    edition: Edition
    pages: Mapping[str, Page]
    tables: Mapping[str, bytes]  # by digest
    checked: float


class Pages:
    """Editions of networks; of at most `limit` octets of pages, the least recently used network goes first."""

    def __init__(self, client: NetworkClient, clock: Clock, limit: int = MAX_KEPT) -> None:
        self._client = client
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._flights: dict[str, asyncio.Task[Edition]] = {}
        self.fetched = 0  # octets, of everything

    async def edition(self, owner: str, info: NetworkInfo, domain: str, schema: Schema, timeout_s: float) -> Edition:
        """The newest epoch of a network. owner: its DNS name; info: what DNS says of it.

        Raises TimedOut, Refused or Failed; what takes longer than `timeout_s` goes on for the next who asks.
        """
        kept = self._kept.get(owner)
        fresh = kept is not None and self._clock.monotonic() - kept.checked < INDEX_S
        if kept is not None and fresh and kept.edition.index.serial >= info.text.serial:
            self._kept.move_to_end(owner)
            return kept.edition
        if owner not in self._flights:
            flight = asyncio.create_task(self._first(owner, info, domain, schema))
            self._flights[owner] = flight
            flight.add_done_callback(lambda _: self._flights.pop(owner, None))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._flights[owner])
        except TimeoutError:
            raise TimedOut(f"its pages were not there within {timeout_s * 1000:.0f} ms") from None

    async def close(self) -> None:
        """End what is under way, and let go."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._client.close()

    async def _first(self, owner: str, info: NetworkInfo, domain: str, schema: Schema) -> Edition:
        """From the first endpoint that has it."""
        failure: KindredError = Failed("it has no endpoint")
        for endpoint in info.endpoints:
            try:
                return await self._take(owner, endpoint, info, domain, schema)
            except (Failed, TimedOut) as error:
                failure = error
            except KindredError as error:
                failure = Failed(error.detail)
        raise failure

    async def _take(self, owner: str, endpoint: str, info: NetworkInfo, domain: str, schema: Schema) -> Edition:
        index = _index(await self._fetch(endpoint, "", "application/json", MAX_INDEX), info)
        name = owner.partition(".")[0]
        home = Home(domain, name, schema.space, schema.dimension, step_of(schema))
        for member, is_, right in (
            ("domain", index.domain, domain),
            ("network", index.network, name),
            ("space", index.space, schema.space.hex()),
            ("step", index.step, home.step),
        ):
            if is_ != right:
                raise Failed(f"the index is of another {member}: {is_!r:.80}")
        kept = self._kept.get(owner)
        newest = 0 if kept is None else kept.edition.index.epoch
        if index.serial < info.text.serial or index.epoch < newest:
            raise Failed(
                f"its index is of serial {index.serial} and epoch {index.epoch}: older than its coverage, of serial "
                f"{info.text.serial}, or than epoch {newest}, which was seen before"
            )
        if index.octets > self._limit:
            raise Failed(f"its pages have {index.octets} octets, more than the {self._limit} that are kept here")
        pages = {} if kept is None else dict(kept.pages)
        limiter = asyncio.Semaphore(AT_ONCE)

        async def page(digest: str, octets: int) -> Page:
            if digest in pages:
                return pages[digest]
            async with limiter:
                data = await self._fetch(endpoint, f"/{digest}", PAGE_TYPE, min(octets, MAX_PAGE))
            if digest_of(data) != digest:
                raise Failed(f"a page is not what its digest {digest[:12]}... says")
            found = read_page(data, home, index.min_cohort)
            if strays := set(found.actions) - {"", *schema.actions}:
                raise Failed(f"an atom has the action {min(strays)!r:.60}, which the schema does not know")
            return found

        async def table(digest: str, octets: int) -> bytes:
            if kept is not None and digest in kept.tables:
                return kept.tables[digest]
            async with limiter:
                data = await self._fetch(endpoint, f"/{digest}", TABLE_TYPE, min(octets, MAX_PAGE))
            if digest_of(data) != digest:
                raise Failed(f"a table is not what its digest {digest[:12]}... says")
            return data

        found = await asyncio.gather(*(page(entry.digest, entry.octets) for entry in index.pages))
        tables = [await table(entry.digest, entry.octets) for entry in index.tables.values()]
        named = dict(zip(index.tables, tables, strict=True))
        parents = read_parents(named[LifeTables.name], schema) if LifeTables.name in named else []
        edition = Edition(index, AtomBatch.of(found, schema.dimension), named, parents)
        by_digest = {entry.digest: each for entry, each in zip(index.pages, found, strict=True)}
        of_tables = {entry.digest: each for entry, each in zip(index.tables.values(), tables, strict=True)}
        self._keep(owner, _Kept(edition, by_digest, of_tables, self._clock.monotonic()))
        return edition

    def _keep(self, owner: str, kept: _Kept) -> None:
        self._kept[owner] = kept
        self._kept.move_to_end(owner)
        octets = sum(each.edition.index.octets for each in self._kept.values())
        while octets > self._limit:
            _, dropped = self._kept.popitem(last=False)
            octets -= dropped.edition.index.octets

    async def _fetch(self, endpoint: str, path: str, accept: str, most: int) -> bytes:
        data = await self._client.fetch(endpoint, f"/v1/atoms{path}", accept, most, FETCH_S)
        self.fetched += len(data)
        return data


def _index(body: bytes, info: NetworkInfo) -> EpochIndex:
    """Raises Failed unless it is an index that the network signed."""
    try:
        document = loads(body)
        index = EpochIndex.from_document(document)
        verify_document(document, public_from_text(info.text.key))
    except (SignatureError, ConfigError) as error:
        raise Failed(f"the index of its pages is not its own: {error.detail}") from None
    except KindredError as error:
        raise Failed(error.detail) from None
    return index
